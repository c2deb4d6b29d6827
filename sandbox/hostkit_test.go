package sandbox_test

import (
	"crypto/sha1" //nolint:gosec // Service Fabric's thumbprint
	"crypto/tls"
	"encoding/hex"
	"errors"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"

	"github.com/seed-13b04e61/gateway/sandbox"
)

// environ is what a process on the host finds in its environment.
func environ(h *sandbox.Host) map[string]string { return variables(h.Environ()) }

// identities registers a system-assigned identity that may read users and two
// user-assigned ones.
func identities(t testing.TB, w *sandbox.World) (system, one, two sandbox.ManagedIdentity) {
	t.Helper()
	add := func(m sandbox.ManagedIdentity) sandbox.ManagedIdentity {
		made, err := w.Entra.AddManagedIdentity(m)
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Entra.Grant(made.ClientID, sandbox.GraphResource, "User.Read.All"); err != nil {
			t.Fatal(err)
		}
		return made
	}
	return add(sandbox.ManagedIdentity{Name: "vm", SystemAssigned: true}), add(sandbox.ManagedIdentity{}), add(sandbox.ManagedIdentity{})
}

func host(t testing.TB, opts sandbox.HostOptions) *sandbox.Host {
	t.Helper()
	h, err := sandbox.StartHost(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Close)
	return h
}

// identityRequest is the right request of that kind for resource, written from
// the platforms' documentation; more are further parameters.
func identityRequest(t testing.TB, h *sandbox.Host, kind sandbox.HostKind, resource string, more ...string) *http.Request {
	t.Helper()
	env, q := environ(h), url.Values{"resource": {resource}}
	for i := 0; i < len(more); i += 2 {
		q.Set(more[i], more[i+1])
	}
	get := func(endpoint, version, header, value string) *http.Request {
		q.Set("api-version", version)
		r := request(t, "GET", endpoint+"?"+q.Encode(), "")
		r.Header.Set(header, value)
		return r
	}
	switch kind {
	case sandbox.AppService, sandbox.ContainerApps:
		return get(env["IDENTITY_ENDPOINT"], "2019-08-01", "X-IDENTITY-HEADER", env["IDENTITY_HEADER"])
	case sandbox.ServiceFabric:
		return get(env["IDENTITY_ENDPOINT"], "2019-07-01-preview", "Secret", env["IDENTITY_HEADER"])
	case sandbox.AzureML:
		return get(env["MSI_ENDPOINT"], "2017-09-01", "secret", env["MSI_SECRET"])
	case sandbox.Arc:
		return get(env["IDENTITY_ENDPOINT"], "2020-06-01", "Metadata", "true")
	case sandbox.CloudShell:
		r := request(t, "POST", env["MSI_ENDPOINT"], q.Encode())
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Metadata", "true")
		return r
	default:
		return get(env["AZURE_POD_IDENTITY_AUTHORITY_HOST"]+"/metadata/identity/oauth2/token", "2018-02-01", "Metadata", "true")
	}
}

// doPinned sends a request, over TLS only to the certificate that the
// environment names.
func doPinned(t testing.TB, h *sandbox.Host, r *http.Request) answer {
	t.Helper()
	c, thumb := plain(), environ(h)["IDENTITY_SERVER_THUMBPRINT"]
	c.Transport = &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{
		InsecureSkipVerify: true, //nolint:gosec // pinned below
		VerifyConnection: func(s tls.ConnectionState) error {
			sum := sha1.Sum(s.PeerCertificates[0].Raw) //nolint:gosec // see the import
			if !strings.EqualFold(hex.EncodeToString(sum[:]), thumb) {
				return errors.New("another certificate")
			}
			return nil
		},
	}}
	resp, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	return read(t, resp)
}

// withKey answers Arc's challenge: it reads the key file and asks again.
func withKey(t testing.TB, first answer, again *http.Request) *http.Request {
	t.Helper()
	path, ok := strings.CutPrefix(first.header.Get("WWW-Authenticate"), "Basic realm=")
	if first.status != http.StatusUnauthorized || !ok {
		t.Fatalf("first answer = %d %q, want a challenge", first.status, first.header.Get("WWW-Authenticate"))
	}
	key, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	again.Header.Set("Authorization", "Basic "+string(key))
	return again
}

// platforms are all kinds.
func platforms() []sandbox.HostKind {
	return []sandbox.HostKind{
		sandbox.IMDS, sandbox.AppService, sandbox.ContainerApps, sandbox.ServiceFabric, sandbox.AzureML, sandbox.CloudShell, sandbox.Arc,
	}
}

// identityToken goes the whole way of that platform.
func identityToken(t testing.TB, h *sandbox.Host, kind sandbox.HostKind, resource string, more ...string) answer {
	t.Helper()
	a := doPinned(t, h, identityRequest(t, h, kind, resource, more...))
	if kind == sandbox.Arc && a.status == http.StatusUnauthorized {
		a = do(t, withKey(t, a, identityRequest(t, h, kind, resource, more...)))
	}
	return a
}
