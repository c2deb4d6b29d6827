package routes

import (
	"net/http"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"
)

// oneProof holds a credential to exactly one kind of proof.
func (p *parser) oneProof(m *mapping, where place) {
	found := m.present("client_secret", "client_certificate", "federated_token", "managed_identity", "client_key")
	remedy := "add one of client_secret, client_certificate, federated_token, managed_identity"
	if m.has("token_endpoint") || m.has("issuer") {
		remedy = "add client_secret or client_key"
	}
	switch len(found) {
	case 1:
	case 0:
		p.refuse(where, finding{"has nothing to prove itself with", remedy})
	default:
		p.refuse(where, finding{"has more than one proof: " + strings.Join(found, ", "), "keep one; another credential named under fallback may hold the other"})
	}
}

// certificate reads client_certificate; nil if the file has none.
func (p *parser) certificate(m *mapping) *Certificate {
	x, ok := m.items["client_certificate"]
	if !ok {
		return nil
	}
	cert := p.open(x, "client_certificate")
	c := &Certificate{File: cert.path("file"), KeyFile: cert.path("key_file"), Password: cert.secret("password"), SendChain: cert.flag("send_chain", false)}
	if !cert.has("file") {
		p.refuse(x.at, finding{"file is missing", "name the PEM or PKCS#12 file of the certificate"})
	}
	return c
}

// clientKey reads client_key; nil if the file has none.
func (p *parser) clientKey(m *mapping) *ClientKey {
	x, ok := m.items["client_key"]
	if !ok {
		return nil
	}
	key := p.open(x, "client_key")
	k := &ClientKey{File: key.path("file"), KID: key.text("kid", "")}
	if !key.has("file") {
		p.refuse(x.at, finding{"file is missing", "name the PEM file of the private key"})
	}
	if key.has("alg") {
		k.Alg = key.choice("alg", "", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
	}
	return k
}

var (
	resourceSyntax = regexp.MustCompile(`^/subscriptions/[0-9a-f-]{36}/resourcegroups/[^/\s]+/providers/microsoft\.managedidentity/userassignedidentities/[^/\s]+$`)
	// accountSyntax is an e-mail address as Google Cloud's service accounts have.
	accountSyntax = regexp.MustCompile(`^[A-Za-z0-9._-]+@[A-Za-z0-9.-]+$`)
)

// managedIdentity reads which of the host's identities is meant.
func (p *parser) managedIdentity(e entry) *ManagedIdentity {
	if e.value.Kind != yaml.MappingNode {
		p.breaks(e.at, finding{"want braces", "write {} for the identity of the machine itself, or one of {client_id: …}, {object_id: …}, {resource_id: …}"})
		return &ManagedIdentity{}
	}
	m := p.open(e, "managed_identity")
	id := &ManagedIdentity{ClientID: m.text("client_id", ""), ObjectID: m.text("object_id", ""), ResourceID: m.text("resource_id", "")}
	if found := m.present("client_id", "object_id", "resource_id"); len(found) > 1 {
		p.refuse(e.at, finding{"names the identity in more than one way: " + strings.Join(found, ", "), "keep one"})
	}
	for _, guid := range []struct{ key, value, portal string }{{"client_id", id.ClientID, "Client ID"}, {"object_id", id.ObjectID, "Object (principal) ID"}} {
		if m.has(guid.key) && !guidSyntax.MatchString(strings.ToLower(guid.value)) {
			p.refuse(m.items[guid.key].at, finding{"this is no GUID", "copy the " + guid.portal + " of the identity's overview page"})
		}
	}
	if x, ok := m.items["resource_id"]; ok && !resourceSyntax.MatchString(strings.ToLower(id.ResourceID)) {
		p.refuse(x.at, finding{"this is no resource ID of a user-assigned identity", "write /subscriptions/…/resourceGroups/…/providers/Microsoft.ManagedIdentity/userAssignedIdentities/NAME"})
	}
	return id
}

// exchangeAudience is the audience that Entra wants in the tokens of others:
// each cloud its own, and the token proxy of AKS one of its own.
func exchangeAudience(cloud string, binding bool) string {
	switch {
	case binding:
		return "api://AKSIdentityBinding"
	case loginHost(cloud) == loginHost("usgov"):
		return "api://AzureADTokenExchangeUSGov"
	case loginHost(cloud) == loginHost("china"):
		return "api://AzureADTokenExchangeChina"
	}
	return "api://AzureADTokenExchange"
}

// federatedToken reads federated_token of a credential in cloud; nil if the
// file has none.
func (p *parser) federatedToken(m *mapping, cloud string) *FederatedToken {
	x, ok := m.items["federated_token"]
	if !ok {
		return nil
	}
	f := p.open(x, "federated_token")
	t := &FederatedToken{File: f.path("file"), IdentityBinding: f.flag("identity_binding", false)}
	t.Audience = f.text("audience", exchangeAudience(cloud, t.IdentityBinding))
	switch found := f.present("file", "managed_identity", "url", "gcp", "exec"); len(found) {
	case 1:
	case 0:
		p.refuse(x.at, finding{"names no source of the token", "write file, or one of managed_identity, url, gcp, exec"})
	default:
		p.refuse(x.at, finding{"names more than one source: " + strings.Join(found, ", "), "keep one"})
	}
	switch {
	case f.has("audience") && t.Audience == "":
		p.refuse(f.items["audience"].at, finding{"audience is empty", "leave it out for " + exchangeAudience(cloud, t.IdentityBinding)})
	case f.has("audience") && (f.has("file") || f.has("exec")):
		p.warn(f.items["audience"].at, finding{"nobody is asked for this audience: the token is made elsewhere", "set it where the token is made"})
	}
	if t.IdentityBinding && !f.has("file") {
		p.refuse(f.items["identity_binding"].at, finding{"identity bindings of AKS take the token of a file", "name the projected token under file"})
	}
	if e, ok := f.items["managed_identity"]; ok {
		t.ManagedIdentity = p.managedIdentity(e)
		if e.value.Kind == yaml.MappingNode && len(e.value.Content) == 0 {
			p.refuse(e.at, finding{"Entra takes user-assigned identities alone as federated credentials, and {} is the system-assigned one", "write one of {client_id: …}, {object_id: …}, {resource_id: …}"})
		}
	}
	if e, ok := f.items["url"]; ok {
		t.URL = p.tokenURL(e)
	}
	if e, ok := f.items["gcp"]; ok {
		t.GCP = p.gcp(e)
	}
	if e, ok := f.items["exec"]; ok {
		t.Exec = p.command(e, e.at)
	}
	return t
}

// tokenURL reads a source that is asked by GET. Its URL is never repeated.
func (p *parser) tokenURL(x entry) *TokenURL {
	m := p.open(x, "url")
	t := &TokenURL{
		Header: http.CanonicalHeaderKey(m.text("header", "Authorization")), Format: m.text("format", "Bearer {secret}"),
		Secret: m.secret("secret"), Member: m.text("member", "value"),
	}
	e, ok := m.items["address"]
	if !ok {
		p.refuse(x.at, finding{"address is missing", "write the https URL that gives the token"})
	} else {
		t.Address = p.tokenAddress(e)
	}
	if h, ok := m.items["header"]; ok && (!fieldName.MatchString(t.Header) || t.Header != "Authorization" && reserved(t.Header)) {
		p.refuse(h.at, finding{"this field cannot carry the secret", "write the field that the token's source reads it from, such as Authorization"})
	}
	if h, ok := m.items["format"]; ok && strings.Count(t.Format, "{secret}") != 1 {
		p.refuse(h.at, finding{"want {secret} once", `write "Bearer {secret}"`})
	}
	if h, ok := m.items["member"]; ok && t.Member == "" {
		p.refuse(h.at, finding{"member is empty", "name the member of the JSON answer that holds the token, or leave it out for value"})
	}
	if !m.has("secret") {
		for _, key := range m.present("header", "format") {
			p.refuse(m.items[key].at, finding{key + " is for a secret, and there is none", "add secret: {env: NAME}, or leave " + key + " out"})
		}
	}
	return t
}

// tokenAddress reads the URL of a source; "" beside a mistake.
func (p *parser) tokenAddress(e entry) string {
	u, a, err := parseOrigin(p.scalar(e))
	switch {
	case err != nil:
		p.refuse(e.at, finding{"the URL " + err.Error(), "write an https URL"})
	case metadata(a.Host):
		p.refuse(e.at, finding{"a metadata server is not asked by url", "write managed_identity on Azure, gcp on Google Cloud"})
	case u.Scheme == "http" && !a.Loopback():
		p.refuse(e.at, finding{"secret and token would travel in clear text", "write https; http is for loopback addresses alone"})
	case u.Query().Has("audience"):
		p.refuse(e.at, finding{"the URL holds an audience, which the gateway adds itself", "take it out of the URL; another than Entra's stands under federated_token.audience"})
	default:
		u.Host = originHost(u.Scheme, a)
		return u.String()
	}
	return ""
}

// gcp reads which service account of a machine in Google Cloud is meant.
func (p *parser) gcp(e entry) *GCPIdentity {
	m := p.open(e, "gcp")
	account := m.text("service_account", "default")
	if x, ok := m.items["service_account"]; ok && account != "default" && !accountSyntax.MatchString(account) {
		p.refuse(x.at, finding{"this is no service account", "write default, or its e-mail address"})
	}
	return &GCPIdentity{ServiceAccount: account}
}

// present lists which of keys the mapping has, in their order.
func (m *mapping) present(keys ...string) []string {
	return slices.DeleteFunc(keys, func(k string) bool { return !m.has(k) })
}
