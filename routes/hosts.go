package routes

import (
	"fmt"
	"net/netip"
	"strings"

	"golang.org/x/net/publicsuffix"
)

// preset is what a well-known API fills in.
type preset struct{ host, scope string }

// presets are the APIs whose one host everybody shares, by cloud.
func presets(name, cloud string) (preset, bool) {
	table := map[string]map[string]preset{
		"graph": {
			"public":    {"graph.microsoft.com", "https://graph.microsoft.com/.default"},
			"usgov":     {"graph.microsoft.us", "https://graph.microsoft.us/.default"},
			"usgov-dod": {"dod-graph.microsoft.us", "https://dod-graph.microsoft.us/.default"},
			"china":     {"microsoftgraph.chinacloudapi.cn", "https://microsoftgraph.chinacloudapi.cn/.default"},
		},
		"arm": {
			"public":    {"management.azure.com", "https://management.azure.com/.default"},
			"usgov":     {"management.usgovcloudapi.net", "https://management.usgovcloudapi.net/.default"},
			"usgov-dod": {"management.usgovcloudapi.net", "https://management.usgovcloudapi.net/.default"},
			"china":     {"management.chinacloudapi.cn", "https://management.chinacloudapi.cn/.default"},
		},
	}
	if cloud == "" {
		cloud = "public"
	}
	p, ok := table[name][cloud]
	return p, ok
}

// promised are the presets of the contract that this release does not have.
const promised = " keyvault managedhsm synapse-sql postgres mysql redis storage servicebus eventhubs eventgrid cosmos loganalytics" +
	" appinsights monitor-ingest powerbi fabric onelake dataverse businesscentral finops sharepoint exchange o365mgmt defender databricks" +
	" azuredevops cognitive openai foundry azureml search appconfig acr kusto synapse batch communication purview digitaltwins iothub dps" +
	" signalr webpubsub maps attestation powerplatform powerapps flow fhir bot aks-aad "

func (p *parser) preset(r *Route, m *mapping) preset {
	e, ok := m.items["preset"]
	if !ok {
		return preset{}
	}
	x, known := presets(r.Preset, r.Credential.Cloud)
	switch {
	case known && !r.Credential.Entra() && r.Credential.Name != "":
		p.refuse(e.at, finding{"a preset needs a credential of Entra", "name one under credential"})
	case known:
	case r.Preset == "sql":
		p.refuse(e.at, finding{"Azure SQL is not reached by HTTP", "it belongs under sql:, which this release does not support yet"})
	case strings.Contains(promised, " "+r.Preset+" "):
		p.refuse(e.at, finding{"preset " + e.shown() + " is not yet supported by this release", "write name, hosts and scope instead"})
	default:
		remedy := "known are graph, arm"
		for _, name := range []string{"graph", "arm"} {
			if distance(name, r.Preset) <= 2 {
				remedy = fmt.Sprintf("did you mean %q?", name)
			}
		}
		p.refuse(e.at, finding{"there is no preset " + e.shown(), remedy})
	}
	return x
}

func (p *parser) hosts(m *mapping, x preset, where place) []HostPattern {
	if _, ok := m.items["hosts"]; !ok {
		if x.host == "" {
			if _, ok := m.items["preset"]; !ok {
				p.refuse(where, finding{"hosts is missing", "name the hosts that get this token, such as hosts: [api.contoso.com]"})
			}
			return nil
		}
		return []HostPattern{{Host: x.host, Port: 443}}
	}
	list := m.list("hosts")
	if len(list) == 0 {
		p.refuse(m.items["hosts"].at, finding{"names no host", "name the hosts that get this token"})
	}
	var out []HostPattern
	for _, e := range list {
		if h, ok := p.host(e); ok {
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

// providerRun are suffixes that many customers of one provider share: the
// token would reach the provider, for whichever customer's resource is named.
const providerRun = " vault.azure.net managedhsm.azure.net blob.core.windows.net queue.core.windows.net table.core.windows.net file.core.windows.net" +
	" dfs.core.windows.net core.windows.net servicebus.windows.net documents.azure.com database.windows.net openai.azure.com cognitiveservices.azure.com" +
	" services.ai.azure.com search.windows.net azconfig.io azurecr.io kusto.windows.net dev.azuresynapse.net sql.azuresynapse.net azuredatabricks.net" +
	" sharepoint.com dynamics.com eventgrid.azure.net azure-devices.net service.signalr.net webpubsub.azure.com fhir.azurehealthcareapis.com" +
	" attest.azure.net redis.cache.windows.net batch.azure.com communication.azure.com digitaltwins.azure.net visualstudio.com windows.net azure.com azure.net "

// ownable says why a wildcard over suffix would send tokens to strangers, or "".
func ownable(suffix string) string {
	if !strings.Contains(suffix, ".") {
		return "covers a whole top-level domain"
	}
	for rest := suffix; rest != ""; {
		if strings.Contains(customerRun, " "+rest+" ") {
			return "covers servers that anybody can run, who would get the token"
		}
		if strings.Contains(providerRun, " "+rest+" ") {
			return "covers resources of other customers of the provider"
		}
		_, rest, _ = strings.Cut(rest, ".")
	}
	for _, list := range strings.Fields(customerRun + providerRun) {
		if strings.HasSuffix(list, "."+suffix) {
			return "covers " + list + ", which many share"
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
