package routes

import (
	"regexp"
	"slices"
	"strings"
)

var credentialName = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)

var tenantSyntax = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$`)

var guidSyntax = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

// nowhere stands for a URL beside whose absence a mistake was noted.
const nowhere = "https://invalid.invalid"

// Where the two identifiers of an application stand side by side.
const (
	directoryID   = "use the Directory (tenant) ID of the app registration's overview page"
	applicationID = "use the Application (client) ID of the app registration's overview page"
)

func (p *parser) credentials(m *mapping, t *Table) {
	e, ok := m.items["credentials"]
	if !ok {
		t.Credentials = []*Credential{p.fromEnvironment(m.at)}
		return
	}
	order, items := p.pairs(e.value, e.at)
	if len(order) == 0 && len(items) == 0 {
		p.refuse(e.at, finding{"names no credential", "add one, or remove the section to use the environment's"})
	}
	var list []opened
	for _, name := range order {
		c := p.credential(name, items[name])
		list = append(list, c)
		t.Credentials, p.declared[c.Credential] = append(t.Credentials, c.Credential), items[name].at
	}
	p.fallbacks(list)
	p.twoNames(list)
}

func (p *parser) credential(name string, e entry) opened {
	if !credentialName.MatchString(name) {
		p.refuse(e.at, finding{"this is no name for a credential", "use up to 64 letters, digits, dots, hyphens and underscores"})
		if strings.ContainsFunc(name, control) {
			name = quote(name) // a terminal may obey what it holds
		}
	}
	m := p.open(e, "credential")
	c := &Credential{Name: name, Line: e.at.line, Fallback: m.text("fallback", ""), CAE: m.flag("cae", false)}
	p.oneProof(m, e.at)
	if x, ok := m.items["managed_identity"]; ok {
		c.ManagedIdentity = p.managedIdentity(x)
		p.hostsOwn(c, m)
		return opened{c, m}
	}
	c.ClientID, c.CAFile, c.TokenParams = m.text("client_id", ""), m.path("ca_file"), m.params("token_params")
	if c.ClientID == "" {
		p.refuse(m.where("client_id"), finding{"client_id is missing", "write the application's (client) ID"})
	}
	if m.has("token_endpoint") || m.has("issuer") {
		p.otherServer(c, m)
	} else {
		p.entra(c, m, e.at)
	}
	c.ClientSecret, c.ClientCertificate, c.ClientKey = m.secret("client_secret"), p.certificate(m), p.clientKey(m)
	c.FederatedToken = p.federatedToken(m, c.Cloud)
	c.AssertionClaims = p.assertionClaims(m)
	return opened{c, m}
}

// hostsOwn is for a managed identity: who it is and where its tokens come from
// is the machine's to say.
func (p *parser) hostsOwn(c *Credential, m *mapping) {
	c.Cloud = m.choice("cloud", "public", "public", "usgov", "usgov-dod", "china")
	c.AuthorityHost = loginHost(c.Cloud)
	for _, k := range m.present("tenant_id", "client_id", "authority_host", "ca_file", "token_endpoint", "issuer", "token_endpoint_auth_method", "token_params") {
		f := finding{k + " is not for a managed identity: the machine knows where its tokens come from", "leave it out"}
		switch k {
		case "client_id":
			f = finding{"client_id does not stand here: it picks one of the machine's identities", "write managed_identity: {client_id: …}; for an application that the identity proves, federated_token: {managed_identity: {client_id: …}}"}
		case "tenant_id":
			f = finding{"tenant_id is not for a managed identity: it has the tenant of its subscription", "leave it out"}
		case "authority_host":
			f.remedy = "leave it out; cloud alone picks the hosts of presets"
		}
		p.refuse(m.items[k].at, f)
	}
	if c.CAE {
		p.refuse(m.items["cae"].at, finding{"tokens of a managed identity cannot be revoked", "leave cae out"})
	}
	p.assertionClaims(m)
}

// noTenant tells whether Entra takes the word for several tenants, or for none.
func noTenant(id string) bool {
	return slices.Contains([]string{"common", "organizations", "consumers"}, id)
}

func (p *parser) entra(c *Credential, m *mapping, where place) {
	c.TenantID = strings.ToLower(m.text("tenant_id", ""))
	e, ok := m.items["tenant_id"]
	if ok {
		where = e.at
	}
	switch {
	case c.TenantID == "":
		p.refuse(where, finding{"tenant_id is missing", "write the tenant's GUID or domain; for another OAuth2 server, write token_endpoint or issuer"})
	case noTenant(c.TenantID):
		p.refuse(where, finding{e.shown() + " is not a tenant: client credentials need one directory", directoryID})
	case !tenantSyntax.MatchString(c.TenantID) || len(c.TenantID) > maxHost:
		p.refuse(where, finding{e.shown() + " is no tenant", "write the tenant's GUID or domain"})
	case !strings.Contains(c.TenantID, ".") && !guidSyntax.MatchString(c.TenantID):
		p.warn(where, finding{e.shown() + " is neither a GUID nor a domain", directoryID})
	}
	p.cloud(c, m)
	p.compareClouds(c, where)
	p.entraMethod(c, m)
	if x, ok := m.items["token_params"]; ok {
		p.refuse(x.at, finding{"Entra takes no further parameters", "put the audience into scope, as <audience>/.default"})
	}
	if x, ok := m.items["client_key"]; ok {
		p.refuse(x.at, finding{"client_key is for other servers than Entra, which knows certificates alone", "write client_certificate: {file: …, key_file: …}"})
	}
	x, ok := m.items["client_id"]
	switch {
	case !ok || c.ClientID == "":
	case strings.EqualFold(c.ClientID, c.TenantID):
		p.warn(x.at, finding{"client_id is the same as tenant_id", applicationID})
	case !guidSyntax.MatchString(strings.ToLower(c.ClientID)):
		p.warn(x.at, finding{x.shown() + " is no GUID", applicationID})
	}
}

// entraMethod reads how Entra gets the secret. It knows what to do with other
// proofs by itself.
func (p *parser) entraMethod(c *Credential, m *mapping) {
	const key = "token_endpoint_auth_method"
	c.AuthMethod = m.choice(key, "client_secret_post", "client_secret_post", "client_secret_basic", "private_key_jwt")
	e, ok := m.items[key]
	signed := c.AuthMethod == "private_key_jwt"
	proofs := m.present("client_certificate", "federated_token")
	switch {
	case !ok || p.broken[e.at]:
	case signed && m.has("client_secret"):
		p.refuse(e.at, finding{"private_key_jwt signs, and the proof is client_secret", "write client_secret_post or client_secret_basic, or client_certificate in the secret's place"})
	case !signed && len(proofs) > 0 && !m.has("client_secret") && e.value.Value == c.AuthMethod:
		p.refuse(e.at, finding{c.AuthMethod + " sends a secret, and the proof is " + proofs[0], "leave the key out"})
	}
}

// otherServer is for an OAuth2 server that is not Entra.
func (p *parser) otherServer(c *Credential, m *mapping) {
	key := "issuer"
	if m.has("token_endpoint") {
		key = "token_endpoint"
	}
	if m.has("issuer") && m.has("token_endpoint") {
		p.refuse(m.items["issuer"].at, finding{"issuer and token_endpoint both name the server", "keep one: the issuer's metadata names its token endpoint"})
	}
	for _, k := range m.present("tenant_id", "cloud", "authority_host", "client_certificate", "federated_token") {
		remedy := "keep one of the two"
		if k == "client_certificate" {
			remedy = "write client_key: {file: …} with the certificate's private key"
		}
		p.refuse(m.items[k].at, finding{k + " is Entra's, and " + key + " names another server", remedy})
	}
	if c.CAE {
		p.refuse(m.items["cae"].at, finding{"cae is Entra's, and " + key + " names another server", "leave it out"})
	}
	if e, ok := m.items["issuer"]; ok {
		c.Issuer = p.serverURL(e, "issuer")
	}
	if e, ok := m.items["token_endpoint"]; ok {
		c.TokenEndpoint, c.Issuer = p.serverURL(e, "token_endpoint"), ""
	}
	p.otherMethod(c, m)
	reservedParams := []string{"grant_type", "client_id", "client_secret", "scope", "client_assertion", "client_assertion_type", "claims"}
	for _, param := range c.TokenParams {
		if slices.Contains(reservedParams, param.Name) {
			p.refuse(m.items["token_params"].at, finding{param.Name + " is not for token_params", "the gateway sets it itself"})
		}
	}
}

// serverURL reads token_endpoint or issuer; [nowhere] beside a mistake. An
// issuer stays as it is written, since it is compared (RFC 8414 §3.3).
func (p *parser) serverURL(e entry, key string) string {
	raw := p.scalar(e)
	u, a, err := parseOrigin(raw)
	switch {
	case err != nil:
		p.refuse(e.at, finding{key + " " + err.Error(), "write an https URL"})
	case u.Scheme == "http" && !a.Loopback():
		p.refuse(e.at, finding{"the secret would travel in clear text", "write https; http is for loopback addresses alone"})
	case metadata(a.Host):
		p.refuse(e.at, finding{key + " names an address that no call may reach", "name the server's own host"})
	case key == "issuer" && (u.RawQuery != "" || u.ForceQuery):
		p.refuse(e.at, finding{"an issuer has no query (RFC 8414 §2)", "write the member issuer of the server's metadata"})
	case key == "issuer" && strings.Contains(u.Path, "/.well-known/"):
		p.refuse(e.at, finding{"this is the address of the metadata, and not the issuer", "write the member issuer that the metadata holds"})
	default:
		if slices.Contains(knownLogins(), a.Host) {
			p.warn(e.at, finding{"this is a login host of Entra", "write tenant_id, and cloud if it is not public: presets and the names of refusals need that"})
		}
		if key == "issuer" {
			return raw
		}
		u.Host = originHost(u.Scheme, a)
		return u.String()
	}
	return nowhere
}

// otherMethod reads how the client authenticates (RFC 7591 §2). Without a word
// of the file the issuer's metadata decides about a secret.
func (p *parser) otherMethod(c *Credential, m *mapping) {
	const key = "token_endpoint_auth_method"
	def := "client_secret_basic"
	switch {
	case m.has("client_key"):
		def = "private_key_jwt"
	case c.Issuer != "":
		def = ""
	}
	c.AuthMethod = def
	e, ok := m.items[key]
	if !ok {
		return
	}
	c.AuthMethod = m.choice(key, def, "client_secret_post", "client_secret_basic", "private_key_jwt")
	switch signed := c.AuthMethod == "private_key_jwt"; {
	case c.AuthMethod == "" || p.broken[e.at]:
	case signed && !m.has("client_key"):
		p.refuse(e.at, finding{"private_key_jwt needs a key to sign with", "add client_key: {file: …} in the place of any other proof"})
	case !signed && m.has("client_key") && !m.has("client_secret"):
		p.refuse(e.at, finding{c.AuthMethod + " sends a secret, and the proof is client_key", "write private_key_jwt, or leave the key out"})
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
