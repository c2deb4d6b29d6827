package routes

import (
	"regexp"
	"slices"
	"strings"

	"github.com/seed-13b04e61/gateway/secrets"
)

// loginHosts are where each cloud's tokens come from.
func loginHost(cloud string) string {
	switch cloud {
	case "usgov", "usgov-dod":
		return "https://login.microsoftonline.us"
	case "china":
		return "https://login.partner.microsoftonline.cn"
	}
	return "https://login.microsoftonline.com"
}

// cloudOf is the inverse, for AZURE_AUTHORITY_HOST.
func cloudOf(host string) string {
	switch host {
	case "https://login.microsoftonline.us", "https://login.usgovcloudapi.net":
		return "usgov"
	case "https://login.partner.microsoftonline.cn", "https://login.chinacloudapi.cn":
		return "china"
	}
	return "public"
}

var tenantSyntax = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9.-]*$`)

func (p *parser) credentials(m *mapping, t *Table) {
	e, ok := m.items["credentials"]
	if !ok {
		t.Credentials = []*Credential{p.fromEnvironment()}
		return
	}
	order, items := p.pairs(e.value, e.at)
	if len(order) == 0 && len(items) == 0 {
		p.refuse(e.at, finding{"names no credential", "add one, or remove the section to use the environment's"})
	}
	for _, name := range order {
		t.Credentials = append(t.Credentials, p.credential(name, items[name]))
	}
}

func (p *parser) credential(name string, e entry) *Credential {
	m := p.open(e, "credential")
	c := &Credential{
		Name: name, Line: e.at.line, ClientID: m.text("client_id", ""),
		ClientSecret: m.secret("client_secret"), CAFile: m.path("ca_file"), TokenParams: m.params("token_params"),
	}
	if c.ClientID == "" {
		p.refuse(e.at, finding{"client_id is missing", "write the application's (client) ID"})
	}
	m.only("cae", "false")
	if x, ok := m.items["assertion_claims"]; ok && len(x.value.Content) > 0 {
		p.refuse(x.at, finding{"not yet supported by this release", "leave the key out"})
	}
	if x, ok := m.items["client_certificate"]; ok {
		cert := p.open(x, "client_certificate")
		cert.only("send_chain", "false")
		c.ClientCertificate = &Certificate{File: cert.path("file"), KeyFile: cert.path("key_file")}
		if c.ClientCertificate.File == "" {
			p.refuse(x.at, finding{"file is missing", "name the PEM file of the certificate"})
		}
	}
	if x, ok := m.items["federated_token"]; ok {
		if c.FederatedTokenFile = p.open(x, "federated_token").path("file"); c.FederatedTokenFile == "" {
			p.refuse(x.at, finding{"file is missing", "name the file that holds the token"})
		}
	}
	p.oneProof(m, e.at)
	if _, ok := m.items["token_endpoint"]; ok {
		p.otherServer(c, m)
	} else {
		p.entra(c, m, e.at)
	}
	return c
}

func (p *parser) oneProof(m *mapping, where place) {
	var found []string
	for _, k := range []string{"client_secret", "client_certificate", "federated_token"} {
		if _, ok := m.items[k]; ok {
			found = append(found, k)
		}
	}
	switch len(found) {
	case 1:
	case 0:
		p.refuse(where, finding{"has nothing to prove itself with", "add one of client_secret, client_certificate, federated_token"})
	default:
		p.refuse(where, finding{"has more than one proof: " + strings.Join(found, ", "), "keep one"})
	}
}

func (p *parser) entra(c *Credential, m *mapping, where place) {
	c.TenantID = strings.ToLower(m.text("tenant_id", ""))
	if e, ok := m.items["tenant_id"]; ok {
		where = e.at
	}
	switch {
	case c.TenantID == "":
		p.refuse(where, finding{"tenant_id is missing", "write the tenant's GUID or domain; for another OAuth2 server, write token_endpoint"})
	case slices.Contains([]string{"common", "organizations", "consumers"}, c.TenantID):
		p.refuse(where, finding{quote(c.TenantID) + " is not a tenant: client credentials need one directory", "use the Directory (tenant) ID of the app registration's overview page"})
	case !tenantSyntax.MatchString(c.TenantID):
		p.refuse(where, finding{quote(c.TenantID) + " is no tenant", "write the tenant's GUID or domain"})
	}
	c.Cloud = m.choice("cloud", "public", "public", "usgov", "usgov-dod", "china")
	c.AuthorityHost = loginHost(c.Cloud)
	if e, ok := m.items["authority_host"]; ok {
		c.AuthorityHost = p.origin(e)
	}
	c.AuthMethod = m.choice("token_endpoint_auth_method", "client_secret_post", "client_secret_post", "client_secret_basic")
	if e, ok := m.items["token_params"]; ok {
		p.refuse(e.at, finding{"Entra takes no further parameters", "put the audience into scope, as <audience>/.default"})
	}
}

// otherServer is for an OAuth2 server that is not Entra.
func (p *parser) otherServer(c *Credential, m *mapping) {
	for _, k := range []string{"tenant_id", "cloud", "authority_host", "client_certificate", "federated_token"} {
		if e, ok := m.items[k]; ok {
			p.refuse(e.at, finding{k + " is Entra's, and token_endpoint names another server", "keep one of the two"})
		}
	}
	e := m.items["token_endpoint"]
	raw := p.scalar(e)
	u, a, err := parseOrigin(raw)
	switch {
	case err != nil:
		p.refuse(e.at, finding{"token_endpoint " + err.Error(), "write an https URL"})
	case u.Scheme == "http" && !a.Loopback():
		p.refuse(e.at, finding{"the secret would travel in clear text", "write https; http is for loopback addresses alone"})
	default:
		u.Host = originHost(u.Scheme, a)
		c.TokenEndpoint = u.String()
	}
	if c.TokenEndpoint == "" {
		c.TokenEndpoint = "https://invalid.invalid" // a mistake was noted; it is no Entra
	}
	c.AuthMethod = m.choice("token_endpoint_auth_method", "client_secret_basic", "client_secret_post", "client_secret_basic")
	for _, param := range c.TokenParams {
		if slices.Contains([]string{"grant_type", "client_id", "client_secret", "scope", "client_assertion", "client_assertion_type"}, param.Name) {
			p.refuse(m.items["token_params"].at, finding{param.Name + " is not for token_params", "the gateway sets it itself"})
		}
	}
}

// origin reads a URL of scheme and host alone.
func (p *parser) origin(e entry) string {
	u, a, err := parseOrigin(p.scalar(e))
	switch {
	case err != nil:
		p.refuse(e.at, finding{"the URL " + err.Error(), "write https://host"})
	case strings.Trim(u.Path, "/") != "" || u.RawQuery != "":
		p.refuse(e.at, finding{"the URL holds more than a host", "write https://host"})
	case u.Scheme == "http" && !a.Loopback():
		p.refuse(e.at, finding{"secrets and tokens would travel in clear text", "write https; http is for loopback addresses alone"})
	default:
		return u.Scheme + "://" + originHost(u.Scheme, a)
	}
	return "https://invalid.invalid"
}

// fromEnvironment is the credential of Azure's own SDKs: EnvironmentCredential's
// order, then workload identity.
func (p *parser) fromEnvironment() *Credential {
	get := func(name string) string { v, _ := p.env(name); return v }
	c := &Credential{
		Name: "environment", TenantID: strings.ToLower(get("AZURE_TENANT_ID")), ClientID: get("AZURE_CLIENT_ID"),
		AuthorityHost: strings.TrimRight(get("AZURE_AUTHORITY_HOST"), "/"), AuthMethod: "client_secret_post",
	}
	c.Cloud = cloudOf(c.AuthorityHost)
	if c.AuthorityHost == "" {
		c.AuthorityHost = loginHost("public")
	}
	var missing []string
	u, a, err := parseOrigin(c.AuthorityHost)
	if err != nil || u.Scheme == "http" && !a.Loopback() || strings.Trim(u.Path, "/") != "" {
		missing = append(missing, "AZURE_AUTHORITY_HOST is no https URL of a host")
	}
	switch {
	case c.TenantID == "":
		missing = append(missing, "AZURE_TENANT_ID is not set")
	case !tenantSyntax.MatchString(c.TenantID), slices.Contains([]string{"common", "organizations", "consumers"}, c.TenantID):
		missing = append(missing, "AZURE_TENANT_ID names no single tenant")
	}
	if c.ClientID == "" {
		missing = append(missing, "AZURE_CLIENT_ID is not set")
	}
	switch {
	case get("AZURE_CLIENT_SECRET") != "":
		c.ClientSecret, c.Origin = secrets.Ref{Env: "AZURE_CLIENT_SECRET"}, "client secret from AZURE_CLIENT_SECRET"
	case get("AZURE_CLIENT_CERTIFICATE_PATH") != "":
		c.ClientCertificate = &Certificate{File: get("AZURE_CLIENT_CERTIFICATE_PATH")}
		c.Origin = "certificate from AZURE_CLIENT_CERTIFICATE_PATH"
		if get("AZURE_CLIENT_CERTIFICATE_PASSWORD") != "" {
			missing = append(missing, "a certificate with a password is not yet supported; convert it to PEM and unset AZURE_CLIENT_CERTIFICATE_PASSWORD")
		}
	case get("AZURE_FEDERATED_TOKEN_FILE") != "":
		c.FederatedTokenFile, c.Origin = get("AZURE_FEDERATED_TOKEN_FILE"), "federated token from AZURE_FEDERATED_TOKEN_FILE"
	default:
		missing = append(missing, "none of AZURE_CLIENT_SECRET, AZURE_CLIENT_CERTIFICATE_PATH, AZURE_FEDERATED_TOKEN_FILE is set")
	}
	c.Missing = strings.Join(missing, "; ")
	return c
}
