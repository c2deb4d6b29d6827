package routes

import (
	"fmt"
	"strings"
)

// loginHost is where a cloud's tokens come from.
func loginHost(cloud string) string {
	switch cloud {
	case "usgov", "usgov-dod":
		return "https://login.microsoftonline.us"
	case "china":
		return "https://login.partner.microsoftonline.cn"
	}
	return "https://login.microsoftonline.com"
}

// cloudOf is the inverse, the older names of the login hosts included; "" for
// a URL of none.
func cloudOf(authority string) string {
	switch authority {
	case "https://login.microsoftonline.com", "https://login.windows.net", "https://login.microsoft.com", "https://sts.windows.net":
		return "public"
	case "https://login.microsoftonline.us", "https://login.usgovcloudapi.net", "https://login-us.microsoftonline.com":
		return "usgov"
	case "https://login.partner.microsoftonline.cn", "https://login.chinacloudapi.cn":
		return "china"
	}
	return ""
}

// knownLogins are the login hosts of every cloud of Microsoft, those included
// for which there are no presets: Bleu, Delos, GovSG, USNat and USSec.
func knownLogins() []string {
	return []string{
		"login.microsoftonline.com", "login.windows.net", "login.microsoft.com", "sts.windows.net",
		"login.microsoftonline.us", "login.usgovcloudapi.net", "login-us.microsoftonline.com",
		"login.partner.microsoftonline.cn", "login.chinacloudapi.cn",
		"login.sovcloud-identity.fr", "login.sovcloud-identity.de", "login.sovcloud-identity.sg",
		"login.microsoftonline.eaglex.ic.gov", "login.microsoftonline.microsoft.scloud",
	}
}

// nearMiss is how many letters a host may differ from a known one to be taken
// for a slip of the finger.
const nearMiss = 2

// judgeLogin says what is wrong with a login host: refused if the credential
// must not be sent there, otherwise a warning; a zero finding if it is known,
// or one that only its operator can know.
func judgeLogin(a Authority) (f finding, refused bool) {
	for _, suffix := range []string{".ciamlogin.com", ".b2clogin.com"} {
		if strings.HasSuffix(a.Host, suffix) {
			return finding{}, false
		}
	}
	best, near := nearMiss+1, ""
	for _, host := range knownLogins() {
		if d := distance(a.Host, host); d < best {
			best, near = d, host
		}
	}
	switch {
	case metadata(a.Host):
		return finding{"the URL names an address that no call may reach", "name the login host"}, true
	case a.Host == "login.microsoftonline.de":
		return finding{"this cloud, Microsoft Cloud Deutschland, was closed in October 2021", "write the cloud that the tenant moved to; public is the default"}, true
	case a.Loopback() || best == 0 && a.Port == 443:
		return finding{}, false
	case best > 0 && near != "":
		return finding{"this is not the login host " + near + ", only nearly: the credential would go to a stranger", "write https://" + near}, true
	case strings.HasSuffix(a.Host, ".login.microsoft.com"):
		return finding{"regional login hosts serve Microsoft's own applications alone (AADSTS100007)", "leave authority_host out"}, false
	}
	return finding{
		"this is no login host that is known: the credential is sent there",
		"check that it is typed right; for a cloud of Microsoft, write cloud instead",
	}, false
}

// cloud reads cloud and authority_host. A host of a known cloud says which
// cloud it is; any other is that of the cloud named, public if none is.
func (p *parser) cloud(c *Credential, m *mapping) {
	c.Cloud = m.choice("cloud", "public", "public", "usgov", "usgov-dod", "china")
	c.AuthorityHost = loginHost(c.Cloud)
	e, ok := m.items["authority_host"]
	if !ok {
		return
	}
	if c.AuthorityHost = p.authorityHost(e); c.AuthorityHost == nowhere {
		return
	}
	known := cloudOf(c.AuthorityHost)
	switch {
	case known == "" || loginHost(known) == loginHost(c.Cloud):
	case m.has("cloud"):
		p.refuse(e.at, finding{"this is the login host of the cloud " + known + ", and cloud says " + c.Cloud, "keep one of the two"})
	default:
		c.Cloud = known
	}
}

// authorityHost reads the login host; [nowhere] beside a mistake.
func (p *parser) authorityHost(e entry) string {
	if u, _, err := parseOrigin(p.scalar(e)); err == nil && strings.Trim(u.Path, "/") != "" {
		remedy := "write https://host, and the tenant under tenant_id"
		if strings.EqualFold(strings.Trim(u.Path, "/"), "adfs") {
			remedy = "AD FS is another OAuth2 server: write token_endpoint: https://host/adfs/oauth2/token instead of authority_host and tenant_id"
		}
		p.refuse(e.at, finding{"the URL holds more than a host", remedy})
		return nowhere
	}
	host := p.origin(e)
	_, a, err := parseOrigin(host)
	if err != nil || host == nowhere {
		return nowhere
	}
	f, refused := judgeLogin(a)
	switch {
	case refused:
		p.refuse(e.at, f)
		return nowhere
	case f != finding{}:
		p.warn(e.at, f)
	}
	return host
}

// tenantCloud is the cloud that a tenant's initial domain tells, "" if the
// domain is one of its own or the tenant is a GUID.
func tenantCloud(tenant string) string {
	for _, known := range []struct{ suffix, cloud string }{
		{".onmicrosoft.com", "public"}, {".onmicrosoft.us", "usgov"}, {".partner.onmschina.cn", "china"},
	} {
		if strings.HasSuffix(tenant, known.suffix) {
			return known.cloud
		}
	}
	return ""
}

// strayed says that a tenant's domain is another cloud's than its credential,
// and which cloud that is; "" if they agree, or if it cannot be told.
func (c *Credential) strayed() (message, of string) {
	of = tenantCloud(c.TenantID)
	if of == "" || cloudOf(c.AuthorityHost) == "" || loginHost(of) == loginHost(c.Cloud) {
		return "", ""
	}
	return fmt.Sprintf("this is the domain of a tenant in the cloud %s, and the credential is for %s", of, c.Cloud), of
}

// compareClouds warns of a tenant whose domain is another cloud's.
func (p *parser) compareClouds(c *Credential, where place) {
	message, of := c.strayed()
	if message == "" {
		return
	}
	remedy := "write cloud: " + of
	if of == "public" {
		remedy = "leave cloud and authority_host out"
	}
	p.warn(where, finding{message, remedy + ", or name the tenant of " + c.Cloud})
}
