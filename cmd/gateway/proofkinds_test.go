package main

import (
	"strings"
	"testing"
)

// TestEachKindOfCredentialOfIdentityWebIsTranslated has the settings of every
// SourceType, and what routes.yaml says in its place.
func TestEachKindOfCredentialOfIdentityWebIsTranslated(t *testing.T) {
	for _, test := range []struct {
		name, credentials string
		want              []string
	}{
		{"a secret", `"ClientCredentials": [{"SourceType": "ClientSecret", "ClientSecret": "hunter2hunter2"}]`,
			[]string{"client_secret: {env: AZURE_CLIENT_SECRET}", "The secret was not copied"}},
		{"an older secret", `"ClientSecret": "hunter2hunter2"`, []string{"client_secret: {env: AZURE_CLIENT_SECRET}"}},
		{"nothing", `"Domain": "contoso.com"`, []string{"The settings name no credential", "client_secret: {env: AZURE_CLIENT_SECRET}"}},
		{"a path", `"ClientCredentials": [{"SourceType": "Path", "CertificateDiskPath": "/etc/app certs/app.pfx", "CertificatePassword": "hunter2hunter2"}], "SendX5C": true`,
			[]string{`client_certificate: {file: "/etc/app certs/app.pfx", password: {env: AZURE_CLIENT_CERTIFICATE_PASSWORD}, send_chain: true}`}},
		{"an older certificate", `"ClientCertificates": [{"SourceType": "Path", "CertificateDiskPath": "app.pem"}]`, []string{"client_certificate: {file: app.pem}"}},
		{"Base64", `"ClientCredentials": [{"SourceType": "Base64Encoded", "Base64EncodedValue": "MIIKhunter2"}]`, []string{"client_certificate: {file: app.pfx}", "base64 -d"}},
		{"Key Vault", `"ClientCredentials": [{"SourceType": "KeyVault", "KeyVaultUrl": "https://my.vault.azure.net/", "KeyVaultCertificateName": "app"}]`,
			[]string{"client_certificate: {file: app.pfx}", "az keyvault secret download"}},
		{"the Windows store", `"ClientCredentials": [{"SourceType": "StoreWithThumbprint", "CertificateThumbprint": "AB"}]`, []string{"export it with its key"}},
		{"a file of another issuer", `"ClientCredentials": [{"SourceType": "SignedAssertionFilePath"}]`, []string{"federated_token: {file: /var/run/secrets/azure/tokens/azure-identity-token}"}},
		{"a managed identity", `"ClientCredentials": [{"SourceType": "SignedAssertionFromManagedIdentity", "ManagedIdentityClientId": "55556666-ffff-7777-aaaa-8888bbbb9999"}]`,
			[]string{"federated_token: {managed_identity: {client_id: 55556666-ffff-7777-aaaa-8888bbbb9999}}"}},
		{"something new", `"ClientCredentials": [{"SourceType": "Telepathy"}]`, []string{"of the kind Telepathy", "client_certificate: {file: app.pfx}"}},
		{"several", `"ClientCapabilities": ["cp1"], "ClientCredentials": [{"SourceType": "SignedAssertionFilePath"}, {"SourceType": "Path", "CertificateDiskPath": "app.pem"}, {"SourceType": "ClientSecret"}]`,
			[]string{"  default:", "fallback: default-2", "  default-2:", "fallback: default-3", "  default-3:", "cae: true"}},
		{"several of a kind", `"ClientCredentials": [{"SourceType": "ClientSecret"}, {"SourceType": "Base64Encoded"}, {"SourceType": "StoreWithThumbprint"}, {"SourceType": "ClientSecret"}]`,
			[]string{"client_secret: {env: AZURE_CLIENT_SECRET}", "client_certificate: {file: app.pfx}", "client_certificate: {file: app-3.pfx}", "as app-3.pfx.", "client_secret: {env: AZURE_CLIENT_SECRET_4}", "Set AZURE_CLIENT_SECRET_4"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			text := `{"AzureAd": {"Authority": "https://login.microsoftonline.us/contoso.onmicrosoft.us/v2.0", "ClientId": "00001111-aaaa-2222-bbbb-3333cccc4444", ` + test.credentials + `},
				"DownstreamApi": {"BaseUrl": "https://graph.microsoft.us/v1.0", "Scopes": "user.read"}}`
			d, err := translate("appsettings.json", []byte(text), noVariables)
			if err != nil {
				t.Fatal(err)
			}
			out, err := d.complete("routes.yaml", schemaURL, noVariables)
			if err != nil {
				t.Fatal(err)
			}
			for _, want := range append(test.want, "tenant_id: contoso.onmicrosoft.us", "cloud: usgov", "- preset: graph") {
				if !strings.Contains(strings.ReplaceAll(out, "\n  # ", " "), want) {
					t.Errorf("it lacks %q:\n%s", want, out)
				}
			}
			if strings.Contains(out, "hunter2") {
				t.Errorf("a secret was copied:\n%s", out)
			}
		})
	}
}

func TestHostsAreFoundInThePresetsOfTheirCloud(t *testing.T) {
	for _, test := range []struct {
		host, cloud, want string
		named             bool
	}{
		{"graph.microsoft.com", "public", "graph", false},
		{"graph.microsoft.com", "usgov", "", false},
		{"my.vault.azure.net", "public", "keyvault", true},
		{"vault.azure.net", "public", "", false},
		{"org.crm4.dynamics.com", "public", "dataverse", true},
		{"org.crm.dynamics.com", "public", "dataverse", true},
		{"orgxcrm4.dynamics.com", "public", "", false},
		{"srv.database.windows.net", "public", "", false},
		{"api.contoso.com", "public", "", false},
	} {
		if got, named := presetOf(test.host, test.cloud); got != test.want || named != test.named {
			t.Errorf("presetOf(%s, %s) = %q, %v, want %q, %v", test.host, test.cloud, got, named, test.want, test.named)
		}
	}
}

func TestTheIdentityOfTheEnvironmentIsWrittenDown(t *testing.T) {
	for name, test := range map[string]struct {
		env  map[string]string
		want []string
	}{
		"certificate": {map[string]string{"AZURE_TENANT_ID": "contoso.com", "AZURE_CLIENT_ID": "00001111-aaaa-2222-bbbb-3333cccc4444", "AZURE_CLIENT_CERTIFICATE_PATH": "/app.pfx", "AZURE_CLIENT_CERTIFICATE_PASSWORD": "hunter2hunter2", "AZURE_CLIENT_SEND_CERTIFICATE_CHAIN": "true"},
			[]string{"client_certificate: {file: /app.pfx, password: {env: AZURE_CLIENT_CERTIFICATE_PASSWORD}, send_chain: true}"}},
		"workload identity": {map[string]string{"AZURE_TENANT_ID": "contoso.com", "AZURE_CLIENT_ID": "00001111-aaaa-2222-bbbb-3333cccc4444", "AZURE_FEDERATED_TOKEN_FILE": "/token", "AZURE_AUTHORITY_HOST": "https://login.partner.microsoftonline.cn/"},
			[]string{"federated_token: {file: /token}", "cloud: china"}},
		"managed identity":              {map[string]string{"IDENTITY_ENDPOINT": "http://127.0.0.1:41/msi", "IDENTITY_HEADER": "x"}, []string{"managed_identity: {}"}},
		"a managed identity of several": {map[string]string{"MSI_ENDPOINT": "http://127.0.0.1:41/msi", "AZURE_CLIENT_ID": "00001111-aaaa-2222-bbbb-3333cccc4444"}, []string{"managed_identity: {client_id: 00001111-aaaa-2222-bbbb-3333cccc4444}"}},
		"nothing":                       {nil, []string{"AZURE_TENANT_ID is not set"}},
	} {
		t.Run(name, func(t *testing.T) {
			env := func(name string) (string, bool) { v, ok := test.env[name]; return v, ok }
			out, err := fromEnvironment(env).complete("routes.yaml", schemaURL, env)
			if err != nil {
				t.Fatal(err)
			}
			for _, want := range test.want {
				if !strings.Contains(out, want) {
					t.Errorf("it lacks %q:\n%s", want, out)
				}
			}
			if strings.Contains(out, "hunter2") {
				t.Errorf("a secret was copied:\n%s", out)
			}
		})
	}
}
