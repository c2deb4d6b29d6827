package routes

import (
	"cmp"
	"slices"
	"strings"

	"github.com/seed-13b04e61/gateway/secrets"
)

// fromEnvironment is the credential of Azure's own SDKs: EnvironmentCredential's
// order, then workload identity. What looks wrong is remarked at where, the
// mapping without credentials.
func (p *parser) fromEnvironment(where place) *Credential {
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
	} else if f, refused := judgeLogin(a); refused {
		missing = append(missing, "AZURE_AUTHORITY_HOST: "+f.message)
	} else if f != (finding{}) {
		p.warn(where, finding{"AZURE_AUTHORITY_HOST: " + f.message, "check that it is typed right, or unset it"})
	}
	switch {
	case c.TenantID == "":
		missing = append(missing, "AZURE_TENANT_ID is not set")
	case !tenantSyntax.MatchString(c.TenantID), noTenant(c.TenantID):
		missing = append(missing, "AZURE_TENANT_ID names no single tenant")
	}
	if message, of := c.strayed(); message != "" {
		p.warn(where, finding{"AZURE_TENANT_ID: " + message, "set AZURE_AUTHORITY_HOST=" + loginHost(of) + ", or name the tenant of " + c.Cloud})
	}
	switch {
	case c.ClientID == "":
		missing = append(missing, "AZURE_CLIENT_ID is not set")
	case strings.EqualFold(c.ClientID, c.TenantID):
		p.warn(where, finding{"AZURE_CLIENT_ID is the same as AZURE_TENANT_ID", applicationID})
	case !guidSyntax.MatchString(strings.ToLower(c.ClientID)):
		p.warn(where, finding{"AZURE_CLIENT_ID is no GUID", applicationID})
	}
	if !environmentProof(c, get) {
		missing = append(missing, "none of "+strings.Join(environmentProofs(), ", ")+" is set")
	}
	c.Missing = strings.Join(missing, "; ")
	return c
}

// environmentProofs are the variables of a proof, in the order in which they
// win: EnvironmentCredential's, then the federated token.
func environmentProofs() []string {
	return []string{"AZURE_CLIENT_SECRET", "AZURE_CLIENT_CERTIFICATE_PATH", "AZURE_FEDERATED_TOKEN_FILE"}
}

// environmentProof picks the proof, says in Origin which won and which others
// were passed over, and tells whether there was one.
func environmentProof(c *Credential, get func(string) string) bool {
	set := slices.DeleteFunc(environmentProofs(), func(name string) bool { return get(name) == "" })
	if len(set) == 0 {
		return false
	}
	switch value := get(set[0]); set[0] {
	case "AZURE_CLIENT_SECRET":
		c.ClientSecret, c.Origin = secrets.Ref{Env: set[0]}, "client secret"
	case "AZURE_CLIENT_CERTIFICATE_PATH":
		c.ClientCertificate, c.Origin = &Certificate{File: value}, "certificate"
		if password := "AZURE_CLIENT_CERTIFICATE_PASSWORD"; get(password) != "" {
			c.ClientCertificate.Password = secrets.Ref{Env: password}
		}
		send := strings.ToLower(get("AZURE_CLIENT_SEND_CERTIFICATE_CHAIN"))
		c.ClientCertificate.SendChain = send == "1" || send == "true"
	case "AZURE_FEDERATED_TOKEN_FILE":
		binding := get("AZURE_KUBERNETES_TOKEN_PROXY") != ""
		c.FederatedToken, c.Origin = &FederatedToken{File: value, IdentityBinding: binding, Audience: exchangeAudience(c.Cloud, binding)}, "federated token"
	}
	c.Origin += " from " + set[0]
	if c.FederatedToken != nil && c.FederatedToken.IdentityBinding {
		c.Origin += " by the token proxy of AZURE_KUBERNETES_TOKEN_PROXY"
	}
	if len(set) > 1 {
		c.Origin += "; not used: " + strings.Join(set[1:], ", ")
	}
	return true
}
