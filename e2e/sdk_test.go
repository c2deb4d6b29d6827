package e2e

import (
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/seed-13b04e61/gateway/sandbox"
)

const graphScope = "https://graph.microsoft.com/.default"

// registered is an Entra over TLS whose app may prove itself in three ways.
type registered struct {
	world     *sandbox.World
	caFile    string
	cert      appCertificate
	federated string // file of a token
}

func newRegistered(t testing.TB) registered {
	t.Helper()
	w := newWorld(t, sandbox.Options{TLS: true})
	r := registered{world: w, cert: newAppCertificate(t)}
	dir := t.TempDir()
	r.caFile, r.federated = filepath.Join(dir, "ca.pem"), filepath.Join(dir, "federated-token")
	write(t, r.caFile, string(w.CAPEM()))
	if err := w.Entra.AddCertificate(sandbox.ClientID, r.cert.cert); err != nil {
		t.Fatal(err)
	}
	const subject = "system:serviceaccount:apps:gateway"
	if err := w.Entra.AddFederated(sandbox.ClientID, sandbox.Federated{Issuer: w.Issuer.URL(), Subject: subject}); err != nil {
		t.Fatal(err)
	}
	token, err := w.FederatedToken(subject, sandbox.TokenExchangeAudience, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	write(t, r.federated, token)
	return r
}

// opens checks that Graph takes the token.
func (r registered) opens(t testing.TB, token string) {
	t.Helper()
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(r.world.CAPEM())
	c := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}}
	defer c.CloseIdleConnections()
	a := must(t, c, request{url: r.world.Graph.URL() + "/v1.0/users", header: http.Header{"Authorization": {"Bearer " + token}}})
	if a.status != http.StatusOK {
		t.Errorf("Graph answers %d to the token: %.300s", a.status, a.body)
	}
}

func TestMicrosoftsNodeLibrariesBelieveTheSandbox(t *testing.T) {
	t.Parallel()
	r := newRegistered(t)
	for _, library := range []string{"identity", "msal"} {
		for _, kind := range []string{"secret", "certificate", "federated"} {
			t.Run(library+" "+kind, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
				defer cancel()
				cmd := exec.CommandContext(ctx, "node", "clients/sdk.mjs", library, kind)
				cmd.Env = append(bareEnvironment(), "NODE_EXTRA_CA_CERTS="+r.caFile, "ENTRA_URL="+r.world.Entra.URL(),
					"TENANT="+sandbox.TenantID, "CLIENT="+sandbox.ClientID, "SECRET="+r.world.Secret(),
					"CERTIFICATE="+r.cert.both, "KEY="+r.cert.keyFile, "THUMBPRINT="+r.cert.sha256Thumbprint,
					"FEDERATED_FILE="+r.federated)
				var stderr strings.Builder
				cmd.Stderr = &stderr
				out, err := cmd.Output()
				var got struct{ Token string }
				if err != nil || json.Unmarshal(out, &got) != nil || got.Token == "" {
					t.Fatalf("%v: %.2000s", err, &stderr)
				}
				r.opens(t, got.Token)
			})
		}
	}
}

func TestMicrosoftsGoLibraryBelievesTheSandbox(t *testing.T) {
	t.Parallel()
	r := newRegistered(t)
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(r.world.CAPEM())
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}}
	t.Cleanup(client.CloseIdleConnections)
	options := azcore.ClientOptions{
		Cloud: cloud.Configuration{ActiveDirectoryAuthorityHost: r.world.Entra.URL()}, Transport: client,
		Retry: policy.RetryOptions{MaxRetries: -1},
	}
	secret, err1 := azidentity.NewClientSecretCredential(sandbox.TenantID, sandbox.ClientID, r.world.Secret(),
		&azidentity.ClientSecretCredentialOptions{ClientOptions: options, DisableInstanceDiscovery: true})
	certificate, err2 := azidentity.NewClientCertificateCredential(sandbox.TenantID, sandbox.ClientID,
		[]*x509.Certificate{r.cert.cert}, crypto.PrivateKey(r.cert.key),
		&azidentity.ClientCertificateCredentialOptions{ClientOptions: options, DisableInstanceDiscovery: true})
	federated, err3 := azidentity.NewWorkloadIdentityCredential(&azidentity.WorkloadIdentityCredentialOptions{
		ClientOptions: options, DisableInstanceDiscovery: true,
		TenantID: sandbox.TenantID, ClientID: sandbox.ClientID, TokenFilePath: r.federated})
	for _, err := range []error{err1, err2, err3} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for name, credential := range map[string]azcore.TokenCredential{"secret": secret, "certificate": certificate, "federated": federated} {
		t.Run(name, func(t *testing.T) {
			token, err := credential.GetToken(t.Context(), policy.TokenRequestOptions{Scopes: []string{graphScope}})
			if err != nil {
				t.Fatal(err)
			}
			r.opens(t, token.Token)
		})
	}
}

// The gateway's own three ways, over TLS with a private CA for each side.
func TestGatewayProvesItselfInThreeWays(t *testing.T) {
	t.Parallel()
	r := newRegistered(t)
	for name, proof := range map[string]string{
		"secret":      "client_secret: {file: client-secret}",
		"certificate": "client_certificate: {file: " + r.cert.both + "}",
		"federated":   "federated_token: {file: " + r.federated + "}",
	} {
		t.Run(name, func(t *testing.T) {
			s := graphSetup(r.world, "    tls: {ca_file: "+r.caFile+"}\n")
			s.Config = strings.Replace(s.Config, "client_secret: {file: client-secret}", proof+"\n    ca_file: "+r.caFile, 1)
			g := start(t, s)
			a := must(t, g.client, request{url: g.url("/graph/v1.0/users")})
			if a.status != http.StatusOK {
				t.Errorf("status %d: %.500s", a.status, a.body)
			}
		})
	}
	noneBare(t, r.world)
}
