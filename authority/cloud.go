package authority

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/seed-13b04e61/gateway/routes"
)

// cloud is one of Microsoft's clouds, each of which has tenants, applications
// and login hosts of its own (entra.md §2.1).
type cloud struct {
	name  string // as in routes.yaml; "" where authority_host alone can name it
	title string
	login string
	hosts []string // by whose ends its own names are known; what all clouds share is not among them
}

// clouds are those that a refusal or a discovery document may point to.
var clouds = [...]cloud{
	{"public", "the public cloud", "login.microsoftonline.com", []string{
		"microsoftonline.com", "login.windows.net", "login.microsoft.com", "sts.windows.net",
		"onmicrosoft.com", "graph.microsoft.com", "management.azure.com", "vault.azure.net", "database.windows.net", "office365.com"}},
	{"usgov", "the US Government cloud", "login.microsoftonline.us", []string{
		"microsoftonline.us", "usgovcloudapi.net", "login-us.microsoftonline.com", "onmicrosoft.us",
		"microsoft.us", "azure.us", "office365.us", "powerbigov.us"}},
	{"china", "the cloud of 21Vianet in China", "login.partner.microsoftonline.cn", []string{
		"microsoftonline.cn", "chinacloudapi.cn", "azure.cn", "onmschina.cn"}},
	{"", "the Bleu cloud in France", "login.sovcloud-identity.fr", []string{"sovcloud-identity.fr"}},
	{"", "the Delos cloud in Germany", "login.sovcloud-identity.de", []string{"sovcloud-identity.de"}},
	{"", "the cloud of GovSG", "login.sovcloud-identity.sg", []string{"sovcloud-identity.sg"}},
}

// hostLike is a host in prose or in a URL.
var hostLike = regexp.MustCompile(`[a-z0-9-]+(?:\.[a-z0-9-]+)+`)

// cloudOf returns the cloud that host belongs to, or nil. Of several ends the
// longest counts: login-us.microsoftonline.com is not public.
func cloudOf(host string) *cloud {
	var best *cloud
	length := 0
	for i := range clouds {
		for _, end := range clouds[i].hosts {
			if len(end) > length && (host == end || strings.HasSuffix(host, "."+end)) {
				best, length = &clouds[i], len(end)
			}
		}
	}
	return best
}

// cloudNamed returns the cloud of that name in routes.yaml, or nil. That of
// the Department of Defense has its own services and no login host of its own.
func cloudNamed(name string) *cloud {
	if name == "usgov-dod" {
		name = "usgov"
	}
	for i := range clouds {
		if clouds[i].name == name && name != "" {
			return &clouds[i]
		}
	}
	return nil
}

// cloudOfCredential is where c asks: its authority_host tells, if that is known.
func cloudOfCredential(c *routes.Credential) *cloud {
	if at := cloudOf(strings.ToLower(nameOf(c.AuthorityHost))); at != nil {
		return at
	}
	return cloudNamed(c.Cloud)
}

// present says what c's configuration has for a cloud.
func present(c *routes.Credential) string {
	name := c.Cloud
	if name == "" {
		name = "public"
	}
	if own := cloudNamed(name); own == nil || c.AuthorityHost != "" && c.AuthorityHost != "https://"+own.login {
		return "this credential has authority_host: " + c.AuthorityHost
	}
	return "this credential has cloud: " + name
}

// change says how c gets to the cloud to.
func (to *cloud) change(c *routes.Credential) string {
	set := "set cloud: " + to.name
	switch to.name {
	case "":
		set = "set authority_host: https://" + to.login
	case "usgov":
		set += " (usgov-dod for the Department of Defense)"
	}
	return set + "; " + present(c)
}

// foreign returns the cloud other than c's that text names a host of, or nil.
func foreign(c *routes.Credential, text string) *cloud {
	own := cloudOfCredential(c)
	for _, host := range hostLike.FindAllString(strings.ToLower(text), 64) {
		if at := cloudOf(host); at != nil && at != own {
			return at
		}
	}
	return nil
}

// placeCloud tells a refusal that comes of the wrong cloud, from its number
// and from the hosts that its description names, and reports whether it could
// say which cloud is the right one.
func (id *identity) placeCloud(e *Error, description string) bool {
	c := &id.credential
	if !e.Entra {
		return false
	}
	there := foreign(c, description)
	switch e.AADSTS {
	case 900439: // the number itself says so
		if there = cloudNamed("usgov"); there == cloudOfCredential(c) {
			there = nil
		}
	case 90038, 900382, 900432, 90002, 700016, 50049:
	case noSuchResource, 50001: // here a host is the resource's
		if there == nil {
			return false
		}
		e.Hint = "the scope is of " + there.title + ", which this tenant is not in"
		e.Remedy = fmt.Sprintf("write the scope's audience as the credential's cloud has it, or %s", there.change(c))
		return true
	default:
		return false
	}
	if there == nil {
		e.Remedy += "; " + present(c)
		return false
	}
	e.Hint = "the tenant or application belongs to " + there.title
	e.Remedy = there.change(c)
	return true
}
