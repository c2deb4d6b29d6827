package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/seed-13b04e61/gateway/routes"
)

// The variables and files that init names for what it does not copy.
const (
	secretVariable   = "AZURE_CLIENT_SECRET"
	passwordVariable = "AZURE_CLIENT_CERTIFICATE_PASSWORD"
	workloadToken    = "/var/run/secrets/azure/tokens/azure-identity-token"
	certificateFile  = "app.pfx"
)

// fromAppSettings describes what the file at path configures for
// Microsoft.Identity.Web: its identity and its downstream APIs.
func fromAppSettings(path string, env routes.Env) (*draft, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("--from: %w; name an appsettings.json, or env", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxSettings+1))
	if err != nil {
		return nil, err
	}
	if len(text) > maxSettings {
		return nil, fmt.Errorf("%s is larger than %d bytes", path, maxSettings)
	}
	d, err := translate(filepath.Base(path), text, env)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return d, nil
}

// translate makes a draft of the text of an appsettings.json.
func translate(name string, text []byte, env routes.Env) (*draft, error) {
	all, err := readSettings(text)
	if err != nil {
		return nil, err
	}
	var app settings
	for _, section := range []string{"AzureAd", "MicrosoftEntra", "EntraId"} {
		if app = all.section(section); len(app) > 0 {
			break
		}
	}
	if len(app) == 0 {
		return nil, errors.New("it has no section AzureAd; see the documentation of Microsoft.Identity.Web, or write routes.yaml by hand")
	}
	d := &draft{origin: name}
	who, err := whoIs(app, env)
	if err != nil {
		return nil, err
	}
	d.credentials = chain(app, who)
	cloud, err := d.cloud(env)
	if err != nil {
		return nil, err
	}
	d.routes = downstream(all, cloud)
	d.connections(all, cloud)
	return d, nil
}

// whoIs reads tenant, client and login host.
func whoIs(app settings, env routes.Env) ([]pair, error) {
	instance, tenant := app.get("Instance"), app.get("TenantId")
	if authority := strings.TrimSuffix(strings.TrimSuffix(app.get("Authority"), "/"), "/v2.0"); authority != "" {
		i := strings.LastIndex(authority, "/")
		if i > len("https://") {
			if tenant == "" {
				tenant = authority[i+1:]
			}
			if instance == "" {
				instance = authority[:i]
			}
		}
	}
	tenant, err := known("TenantId", tenant, "AZURE_TENANT_ID", env)
	if err != nil {
		return nil, err
	}
	client, err := known("ClientId", app.get("ClientId"), "AZURE_CLIENT_ID", env)
	if err != nil {
		return nil, err
	}
	pairs := identityPairs(tenant, client)
	pairs = append(pairs, cloudPairs(strings.TrimRight(instance, "/"))...)
	if slices.ContainsFunc(app.values("ClientCapabilities"), func(c string) bool { return strings.EqualFold(c, "cp1") }) {
		pairs = append(pairs, pair{key: "cae", value: "true"})
	}
	return pairs, nil
}

// known is value, or that of the variable when value is empty, a placeholder of
// a template, or no single tenant.
func known(key, value, variable string, env routes.Env) (string, error) {
	several := slices.Contains([]string{"common", "organizations", "consumers"}, strings.ToLower(value))
	if value != "" && !several && !strings.ContainsAny(value, "[]<>{} ") {
		return value, nil
	}
	if v, ok := env(variable); ok && v != "" {
		return v, nil
	}
	what := "is missing"
	if several {
		what = fmt.Sprintf("%q names no single tenant, and client credentials need one", strings.ToLower(value))
	} else if value != "" {
		what = "is still a template's placeholder"
	}
	return "", fmt.Errorf("AzureAd.%s %s; write it there, or set %s and run gateway init again", key, what, variable)
}

// chain makes a credential of each proof, each the fallback of the one before,
// as Microsoft.Identity.Web tries them.
func chain(app settings, who []pair) []item {
	var proofs []item
	for _, list := range []string{"ClientCredentials", "ClientCertificates"} {
		section := app.section(list)
		for _, i := range section.keys() {
			proofs = append(proofs, proof(section.section(i)))
		}
	}
	if app.get("ClientSecret") != "" {
		proofs = append(proofs, literalSecret())
	}
	if len(proofs) == 0 {
		it := literalSecret()
		it.comments = []string{"The settings name no credential; a secret is taken from the environment. gateway's docs/credentials.md shows the others."}
		proofs = []item{it}
	}
	keepApart(proofs)
	chainSent := strings.EqualFold(app.get("SendX5C"), "true")
	for i := range proofs {
		proofs[i].name = "default"
		if i > 0 {
			proofs[i].name = fmt.Sprintf("default-%d", i+1)
		}
		pairs := slices.Concat(who, proofs[i].pairs)
		if chainSent && proofs[i].value("client_certificate") != "" {
			last := &pairs[len(pairs)-1]
			last.value = strings.TrimSuffix(last.value, "}") + ", send_chain: true}"
		}
		if i+1 < len(proofs) {
			pairs = append(pairs, pair{key: "fallback", value: fmt.Sprintf("default-%d", i+2), comment: "when this one is refused"})
		}
		proofs[i].pairs = pairs
	}
	return proofs
}

// keepApart gives a proof whose file or variable init chose, as it did for one
// before, a name of its own.
func keepApart(proofs []item) {
	seen := map[string]bool{}
	for i, p := range proofs {
		value := p.pairs[0].value
		if value != "{env: "+secretVariable+"}" && !strings.HasPrefix(value, "{file: "+certificateFile) {
			continue
		}
		if !seen[p.pairs[0].key] {
			seen[p.pairs[0].key] = true
			continue
		}
		own := strings.NewReplacer(
			certificateFile, fmt.Sprintf("app-%d.pfx", i+1),
			secretVariable, fmt.Sprintf("%s_%d", secretVariable, i+1))
		p.pairs[0].value = own.Replace(value)
		for j, text := range p.comments {
			p.comments[j] = own.Replace(text)
		}
	}
}

func literalSecret() item {
	return item{
		comments: []string{"The secret was not copied. Set " + secretVariable + ", or write {file: PATH}; take it out of the settings file, and make a new one if that was shared."},
		pairs:    []pair{{key: "client_secret", value: "{env: " + secretVariable + "}"}},
	}
}

// proof translates one CredentialDescription of Microsoft.Identity.Web.
func proof(c settings) item {
	certificate := func(file string, comments ...string) item {
		parts := "file: " + scalar(file)
		if c.get("CertificatePassword") != "" {
			parts += ", password: {env: " + passwordVariable + "}"
			comments = append(comments, "The password was not copied; set "+passwordVariable+".")
		}
		return item{comments: comments, pairs: []pair{{key: "client_certificate", value: "{" + parts + "}"}}}
	}
	switch kind := c.get("SourceType"); strings.ToLower(kind) {
	case "clientsecret":
		return literalSecret()
	case "path", "2":
		return certificate(c.get("CertificateDiskPath"))
	case "base64encoded", "3":
		return certificate(certificateFile, "The settings hold the certificate with its key as Base64. It was not copied: decode it into "+certificateFile+" (base64 -d), mode 0600, and take it out of the settings file.")
	case "keyvault", "1":
		return certificate(certificateFile, fmt.Sprintf("The settings name %s in %s. The gateway does not read Key Vault: az keyvault secret download --id %s/secrets/%s --encoding base64 --file %s",
			c.get("KeyVaultCertificateName"), c.get("KeyVaultUrl"), strings.TrimRight(c.get("KeyVaultUrl"), "/"), c.get("KeyVaultCertificateName"), certificateFile))
	case "signedassertionfilepath":
		file := c.get("SignedAssertionFileDiskPath")
		if file == "" {
			file = workloadToken
		}
		return item{pairs: []pair{{key: "federated_token", value: "{file: " + scalar(file) + "}"}}}
	case "signedassertionfrommanagedidentity":
		return item{
			comments: []string{"A managed identity proves the app registration."},
			pairs:    []pair{{key: "federated_token", value: "{managed_identity: {client_id: " + scalar(c.get("ManagedIdentityClientId")) + "}}"}},
		}
	case "storewiththumbprint", "storewithdistinguishedname", "4", "5", "6":
		return certificate(certificateFile, "The settings name a certificate of the Windows store: export it with its key as "+certificateFile+".")
	default:
		return certificate(certificateFile, "The settings have a credential of the kind "+kind+", which the gateway does not know; put a certificate with its key into "+certificateFile+", or see docs/credentials.md.")
	}
}
