package routes

import (
	"cmp"
	"regexp"
	"slices"
	"strings"

	"github.com/seed-13b04e61/gateway/secrets"
	"go.yaml.in/yaml/v4"
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

// cloudOf is the inverse, the older names of the login hosts included
// ; "" for a host of none.
func cloudOf(host string) string {
	switch host {
	case "https://login.microsoftonline.com", "https://login.windows.net", "https://login.microsoft.com", "https://sts.windows.net":
		return "public"
	case "https://login.microsoftonline.us", "https://login.usgovcloudapi.net":
		return "usgov"
	case "https://login.partner.microsoftonline.cn", "https://login.chinacloudapi.cn":
		return "china"
	}
	return ""
}

var credentialName = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)

var tenantSyntax = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$`)

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
		c := p.credential(name, items[name])
		t.Credentials, p.declared[c] = append(t.Credentials, c), items[name].at
	}
}

func (p *parser) credential(name string, e entry) *Credential {
	m := p.open(e, "credential")
	c := &Credential{
		Name: name, Line: e.at.line, ClientID: m.text("client_id", ""),
		ClientSecret: m.secret("client_secret"), CAFile: m.path("ca_file"), TokenParams: m.params("token_params"),
	}
	if !credentialName.MatchString(name) {
		p.refuse(e.at, finding{"this is no name for a credential", "use up to 64 letters, digits, dots, hyphens and underscores"})
	}
	if c.ClientID == "" && !m.later["managed_identity"] {
		p.refuse(m.where("client_id"), finding{"client_id is missing", "write the application's (client) ID"})
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
		token := p.open(x, "federated_token")
		c.FederatedToken = &FederatedToken{File: token.path("file")}
		if c.FederatedToken.File == "" && len(token.later) == 0 {
			p.refuse(x.at, finding{"file is missing", "name the file that holds the token"})
		}
	}
	p.oneProof(m, e.at)
	switch {
	case m.has("token_endpoint"):
		p.otherServer(c, m)
	case m.has("issuer"):
		c.TokenEndpoint = nowhere
	default:
		p.entra(c, m, e.at)
	}
	return c
}

// nowhere stands for a URL beside whose absence a mistake was noted.
const nowhere = "https://invalid.invalid"

func (p *parser) oneProof(m *mapping, where place) {
	var found []string
	for _, k := range []string{"client_secret", "client_certificate", "federated_token", "managed_identity", "client_key"} {
		if m.has(k) {
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
	case c.TenantID == "" && m.later["managed_identity"]:
	case c.TenantID == "":
		p.refuse(where, finding{"tenant_id is missing", "write the tenant's GUID or domain; for another OAuth2 server, write token_endpoint"})
	case slices.Contains([]string{"common", "organizations", "consumers"}, c.TenantID):
		p.refuse(where, finding{m.items["tenant_id"].shown() + " is not a tenant: client credentials need one directory", "use the Directory (tenant) ID of the app registration's overview page"})
	case !tenantSyntax.MatchString(c.TenantID) || len(c.TenantID) > maxHost:
		p.refuse(where, finding{m.items["tenant_id"].shown() + " is no tenant", "write the tenant's GUID or domain"})
	case !strings.Contains(c.TenantID, ".") && !guidSyntax.MatchString(c.TenantID):
		p.warn(where, finding{m.items["tenant_id"].shown() + " is neither a GUID nor a domain", "use the Directory (tenant) ID of the app registration's overview page"})
	}
	p.cloud(c, m)
	c.AuthMethod = m.authMethod("client_secret_post")
	if e, ok := m.items["token_params"]; ok {
		p.refuse(e.at, finding{"Entra takes no further parameters", "put the audience into scope, as <audience>/.default"})
	}
}

var guidSyntax = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

// cloud reads cloud and authority_host. A host of a known cloud says which
// cloud it is; any other is that of the cloud named, public if none is.
func (p *parser) cloud(c *Credential, m *mapping) {
	c.Cloud = m.choice("cloud", "public", "public", "usgov", "usgov-dod", "china")
	c.AuthorityHost = loginHost(c.Cloud)
	e, ok := m.items["authority_host"]
	if !ok {
		return
	}
	c.AuthorityHost = p.origin(e)
	if _, a, err := parseOrigin(c.AuthorityHost); err == nil && metadata(a.Host) {
		p.refuse(e.at, finding{"the URL names an address that no call may reach", "name the login host"})
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

func (m *mapping) authMethod(def string) string {
	e, ok := m.items["token_endpoint_auth_method"]
	if ok && e.value.Value == "private_key_jwt" {
		m.p.refuse(e.at, finding{e.shown() + " is not yet supported by this release", "write " + def + ", or leave the key out"})
		return def
	}
	return m.choice("token_endpoint_auth_method", def, "client_secret_post", "client_secret_basic")
}

// otherServer is for an OAuth2 server that is not Entra.
func (p *parser) otherServer(c *Credential, m *mapping) {
	for _, k := range []string{"tenant_id", "cloud", "authority_host", "client_certificate", "federated_token"} {
		if e, ok := m.items[k]; ok {
			p.refuse(e.at, finding{k + " is Entra's, and token_endpoint names another server", "keep one of the two"})
		}
	}
	e := m.items["token_endpoint"]
	u, a, err := parseOrigin(p.scalar(e))
	switch {
	case err != nil:
		p.refuse(e.at, finding{"token_endpoint " + err.Error(), "write an https URL"})
	case u.Scheme == "http" && !a.Loopback():
		p.refuse(e.at, finding{"the secret would travel in clear text", "write https; http is for loopback addresses alone"})
	case metadata(a.Host):
		p.refuse(e.at, finding{"token_endpoint names an address that no call may reach", "name the server's own host"})
	default:
		u.Host = originHost(u.Scheme, a)
		c.TokenEndpoint = u.String()
	}
	if c.TokenEndpoint == "" {
		c.TokenEndpoint = nowhere
	}
	c.AuthMethod = m.authMethod("client_secret_basic")
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
	return nowhere
}

// fromEnvironment is the credential of Azure's own SDKs: EnvironmentCredential's
// order, then workload identity.
func (p *parser) fromEnvironment() *Credential {
	get := func(name string) string { v, _ := p.env.lookup(name); return v }
	c := &Credential{
		Name: "environment", TenantID: strings.ToLower(get("AZURE_TENANT_ID")), ClientID: get("AZURE_CLIENT_ID"),
		AuthorityHost: strings.TrimRight(get("AZURE_AUTHORITY_HOST"), "/"), AuthMethod: "client_secret_post",
	}
	c.Cloud = cmp.Or(cloudOf(c.AuthorityHost), "public")
	if c.AuthorityHost == "" {
		c.AuthorityHost = loginHost("public")
	}
	var missing []string
	u, a, err := parseOrigin(c.AuthorityHost)
	if err != nil || u.Scheme == "http" && !a.Loopback() || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || metadata(a.Host) {
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
	missing = append(missing, environmentProof(c, get)...)
	c.Missing = strings.Join(missing, "; ")
	return c
}

// environmentProof picks the proof by EnvironmentCredential's order, then the
// federated token, and says what stands in its way.
func environmentProof(c *Credential, get func(string) string) (missing []string) {
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
		c.FederatedToken, c.Origin = &FederatedToken{File: get("AZURE_FEDERATED_TOKEN_FILE")}, "federated token from AZURE_FEDERATED_TOKEN_FILE"
	default:
		missing = append(missing, "none of AZURE_CLIENT_SECRET, AZURE_CLIENT_CERTIFICATE_PATH, AZURE_FEDERATED_TOKEN_FILE is set")
	}
	return missing
}

// secret returns a reference; a literal is refused and never repeated.
func (m *mapping) secret(key string) secrets.Ref {
	e, ok := m.items[key]
	if !ok {
		return secrets.Ref{}
	}
	if e.value.Kind != yaml.MappingNode {
		m.p.refuse(e.at, finding{"want a reference, and never the secret itself", secretRemedy + "; change the secret if this file was shared"})
		return secrets.Ref{}
	}
	order, items := m.p.pairs(e.value, e.at)
	if len(order) != 1 {
		m.p.refuse(e.at, finding{"want exactly one of env and file", secretRemedy})
		return secrets.Ref{}
	}
	return m.p.reference(order[0], items[order[0]], e.at)
}

const secretRemedy = "write {file: /run/secrets/name} or {env: NAME}"

// reference reads what stands in a secret's braces. Neither key nor value is
// ever repeated: either may be the secret, written in the wrong place.
func (p *parser) reference(kind string, e entry, where place) secrets.Ref {
	refuse := func(message string) secrets.Ref {
		p.refuse(where, finding{message, secretRemedy})
		return secrets.Ref{}
	}
	v := e.value.Value
	switch {
	case kind == "exec":
		return refuse("exec is not yet supported by this release")
	case kind != "env" && kind != "file":
		return refuse("want env or file in the braces")
	case e.value.Kind != yaml.ScalarNode || e.value.Tag == "!!null" || v == "":
		return refuse(kind + " wants a name")
	case strings.Contains(v, "${") || strings.ContainsFunc(v, control):
		return refuse("variables and control characters have no place in a secret's reference")
	case kind == "file":
		return secrets.Ref{File: p.resolvePath(v)}
	case !variableName.MatchString(v):
		return refuse("env wants the name of a variable: letters, digits and _")
	}
	return secrets.Ref{Env: v}
}

var variableName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
