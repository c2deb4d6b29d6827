package routes

import (
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/net/publicsuffix"
)

// hosts reads the hosts of a route; a is its preset's row, or nil.
func (p *parser) hosts(m *mapping, r *Route, a *api, where place) []HostPattern {
	cloud := r.Credential.Cloud
	if _, ok := m.items["hosts"]; !ok {
		if a != nil {
			return p.presetHosts(a, cloud, where)
		}
		if _, ok := m.items["preset"]; !ok {
			p.refuse(where, finding{"hosts is missing", "name the hosts that get this token, such as hosts: [api.contoso.com]"})
		}
		return nil
	}
	list := m.list("hosts")
	if len(list) == 0 {
		p.refuse(m.items["hosts"].at, finding{"names no host", "name the hosts that get this token"})
	}
	var out []HostPattern
	for _, e := range list {
		if h, ok := p.host(e); ok && (a == nil || p.presetHost(a, cloud, h, e)) {
			out = append(out, h)
		}
	}
	return out
}

func (p *parser) host(e entry) (HostPattern, bool) {
	raw := p.scalar(e)
	name, wildcard := strings.CutPrefix(raw, "*.")
	a, err := ParseAuthority(name, 443)
	switch {
	case err != nil || strings.Contains(name, "*"):
		p.refuse(e.at, finding{e.shown() + " is no host", "write a name such as api.contoso.com, with a port if it is not 443, or *.suffix"})
		return HostPattern{}, false
	case wildcard && isAddress(a.Host):
		p.refuse(e.at, finding{e.shown() + " is no host: addresses have no suffixes", "write each address by itself"})
		return HostPattern{}, false
	case metadata(a.Host):
		p.refuse(e.at, finding{e.shown() + " is an address that no call may reach", "name the API's own host"})
		return HostPattern{}, false
	case a.Port == 80:
		p.refuse(e.at, finding{"a token travels over TLS alone, and port 80 is plain http", "leave the port out"})
		return HostPattern{}, false
	}
	h := HostPattern{Host: a.Host, Wildcard: wildcard, Port: a.Port}
	if wildcard {
		if why := ownable(a.Host); why != "" {
			p.refuse(e.at, finding{e.shown() + " " + why, "name the hosts exactly"})
			return HostPattern{}, false
		}
	}
	return h, true
}

// customerRun are suffixes below which anybody may run a server of their own:
// a token sent to a wildcard there is a token given away.
const customerRun = " azurewebsites.net azure-api.net azurefd.net cloudapp.azure.com cloudapp.net azurecontainerapps.io azurestaticapps.net" +
	" trafficmanager.net azureedge.net azurecontainer.io azmk8s.io ngrok.app ngrok.io ngrok-free.app web.core.windows.net appspot.com" +
	" run.app herokuapp.com vercel.app netlify.app workers.dev pages.dev github.io amazonaws.com cloudfront.net onrender.com fly.dev azurehdinsight.net "

// providerRun are further suffixes that many customers of one provider share,
// beside those of the presets: the token would reach the provider, for
// whichever customer's resource is named.
const providerRun = " core.windows.net windows.net azure.com azure.net dynamics.com sharepoint.com services.ai.azure.com" +
	" usgovcloudapi.net azure.us windows.us microsoftdynamics.us sharepoint.us chinacloudapi.cn azure.cn sharepoint.cn dynamics.cn "

// shared lists every suffix below which many have hosts.
func shared() []string {
	list := strings.Fields(customerRun + providerRun)
	for i := range apis() {
		for _, cloud := range allClouds() {
			for _, pattern := range apis()[i].patterns(cloud) {
				if suffix, ok := strings.CutPrefix(pattern, "*."); ok && !strings.Contains(suffix, "[") {
					list = append(list, suffix)
				}
			}
		}
	}
	return list
}

// ownable says why a wildcard over suffix would send tokens to strangers, or "".
func ownable(suffix string) string {
	if !strings.Contains(suffix, ".") {
		return "covers a whole top-level domain"
	}
	list := shared()
	for rest := suffix; rest != ""; {
		if strings.Contains(customerRun, " "+rest+" ") {
			return "covers servers that anybody can run, who would get the token"
		}
		if slices.Contains(list, rest) {
			return "covers resources of other customers of the provider"
		}
		_, rest, _ = strings.Cut(rest, ".")
	}
	for _, below := range list {
		if strings.HasSuffix(below, "."+suffix) {
			return "covers " + below + ", which many share"
		}
	}
	if ps, _ := publicsuffix.PublicSuffix(suffix); ps == suffix {
		return "covers a public suffix, below which anybody can have a name"
	}
	return ""
}

func isAddress(host string) bool {
	_, err := netip.ParseAddr(host)
	return err == nil
}
