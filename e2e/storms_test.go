package e2e

import (
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/seed-13b04e61/gateway/sandbox"
)

func TestStormOfCallsWithARefusedCredentialCostsFewTokenRequests(t *testing.T) {
	t.Parallel()
	for _, kind := range []sandbox.Fault{sandbox.WrongSecret, sandbox.HTMLAnswer, sandbox.Loop} {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, sandbox.Options{})
			w.Entra.Fail(kind)
			g := start(t, graphSetup(w, ""))
			for range 3 {
				for i, a := range together(t, g, crowd, func(int) request { return request{url: g.url("/graph/v1.0/users")} }) {
					if a.header.Get("Gateway-Error") == "" || a.took > 10*time.Second {
						t.Fatalf("call %d: status %d after %s: %.300s", i, a.status, a.took, a.body)
					}
				}
			}
			if n := w.Entra.Requests(); n > 5 {
				t.Errorf("%d token requests for %d calls", n, 3*crowd)
			}
			if n := w.Graph.Counts().Calls; n != 0 {
				t.Errorf("%d calls reached Graph", n)
			}
		})
	}
}

func TestStormThroughAChainOfRefusedCredentialsCostsFewTokenRequests(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sandbox.Options{})
	s := withFallback(w, "not-a-secret-of-this-app")
	s.Files["client-secret"] = "nor-is-this-one-of-its"
	g := start(t, s)
	for range 3 {
		for _, a := range together(t, g, crowd, func(int) request { return request{url: g.url("/graph/v1.0/users")} }) {
			p := refused(t, a, http.StatusBadGateway, "token_refused")
			if p.AADSTS != 7000215 {
				t.Fatalf("problem %+v, want AADSTS7000215", p)
			}
		}
	}
	if n := w.Entra.Requests(); n > 8 {
		t.Errorf("%d token requests for %d calls by 2 credentials", n, 3*crowd)
	}
}

func TestRefusedCredentialOfManyScopesIsShownOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sandbox.Options{})
	s := graphSetup(w, "")
	s.Files["client-secret"] = "not-a-secret-of-this-app"
	const scopes = 40
	for i := range scopes {
		s.Config += fmt.Sprintf("  - {name: r%d, hosts: [r%d.example.com], scope: \"api://r%d/.default\", upstream: %q}\n", i, i, i, w.Graph.URL())
	}
	g := start(t, s)
	eventually(t, "the refusal shows", func() bool { return g.metric(t, "gateway_credential_ready", `credential="default"`) == 0 })
	for _, a := range together(t, g, crowd, func(i int) request { return request{url: g.url(fmt.Sprintf("/r%d/v1.0/users", i%scopes))} }) {
		refused(t, a, http.StatusBadGateway, "token_refused")
	}
	if n := w.Entra.Requests(); n > 2 {
		t.Errorf("%d token requests by a secret that is wrong for every scope", n)
	}
}

func TestFallbackServesACrowdThatNoticesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sandbox.Options{})
	w.Entra.SetLifetime(3 * time.Second)
	s := withFallback(w, w.Secret())
	s.Files["client-secret"] = "not-a-secret-of-this-app"
	g := start(t, s)
	for end := time.Now().Add(7 * time.Second); time.Now().Before(end); {
		for _, a := range together(t, g, crowd, func(int) request { return request{url: g.url("/graph/v1.0/users")} }) {
			if a.status != http.StatusOK {
				t.Fatalf("status %d: %.300s", a.status, a.body)
			}
		}
	}
	// Three or four tokens, and one request to find the first credential refused.
	if n := w.Entra.Requests(); n < 3 || n > 8 {
		t.Errorf("%d token requests in 7 s with tokens of 3 s", n)
	}
}

// silence is an address that takes connections and never answers.
func silence(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { _ = c.Close() })
		}
	}()
	return l.Addr().String()
}

func TestWhatHangsAtTheStartHoldsUpNothingElse(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sandbox.Options{})
	at := silence(t)
	for name, tt := range map[string]struct {
		credential string
		env, args  []string
	}{
		"identity endpoint of a machine": {"managed_identity: {}", []string{"AZURE_POD_IDENTITY_AUTHORITY_HOST=http://" + at}, nil},
		"identity endpoint of an app":    {"managed_identity: {}", []string{"IDENTITY_ENDPOINT=http://" + at + "/token", "IDENTITY_HEADER=x"}, nil},
		"issuer's metadata":              {"issuer: http://" + at + ", client_id: x, client_secret: {file: client-secret}", nil, nil},
		"token endpoint":                 {"token_endpoint: http://" + at + "/token, client_id: x, client_secret: {file: client-secret}", nil, nil},
		"GitHub":                         {fmt.Sprintf("tenant_id: %s, client_id: %s, authority_host: %q, federated_token: {url: {address: \"http://%s/x\"}}", sandbox.TenantID, sandbox.ClientID, w.Entra.URL(), at), nil, nil},
		"command for a token":            {fmt.Sprintf("tenant_id: %s, client_id: %s, authority_host: %q, federated_token: {exec: [/bin/sleep, 30]}", sandbox.TenantID, sandbox.ClientID, w.Entra.URL()), nil, []string{"--allow-exec"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := graphSetup(w, "  - {name: other, hosts: [other.example.com], scope: \"https://graph.microsoft.com/.default\", credential: hangs}\n")
			s.Config = strings.Replace(s.Config, "routes:\n", "  hangs: {"+tt.credential+"}\nroutes:\n", 1)
			s.Env, s.Args = tt.env, tt.args
			began := time.Now()
			g := start(t, s)
			if took := time.Since(began); took > 5*time.Second {
				t.Errorf("the doors opened after %s", took)
			}
			a := must(t, g.client, request{url: g.url("/graph/v1.0/users")})
			if a.status != http.StatusOK || a.took > 2*time.Second {
				t.Errorf("another route's call: status %d after %s: %.300s", a.status, a.took, a.body)
			}
		})
	}
}

func TestTenOfFiftyCredentialsThatAreBrokenAtTheStartCostTheOthersNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sandbox.Options{})
	s := graphSetup(w, "")
	var credentials, routes strings.Builder
	broken := []string{"client_secret: {file: none}", "client_secret: {env: OF_NOBODY}", "client_certificate: {file: none.pem}",
		"client_certificate: {file: client-secret}", "federated_token: {file: none}", "client_secret: {file: wrong}",
		"client_secret: {exec: [/bin/false]}", "client_secret: {exec: [/bin/sleep, 60]}", "client_secret: {exec: [/bin/sleep, 61]}", "federated_token: {file: stale}"}
	for i := range 50 {
		proof := "client_secret: {file: client-secret}"
		if i%5 == 0 {
			proof = broken[i/5]
		}
		fmt.Fprintf(&credentials, "  c%d: {tenant_id: %s, client_id: %s, authority_host: %q, %s}\n", i, sandbox.TenantDomain, sandbox.ClientID, w.Entra.URL(), proof)
		fmt.Fprintf(&routes, "  - {name: r%d, hosts: [r%d.example.com], credential: c%d, scope: %s, upstream: %q}\n", i, i, i, graphScope, w.Graph.URL())
	}
	s.Config = strings.Replace(s.Config, "routes:\n", credentials.String()+"routes:\n", 1) + routes.String()
	s.Files["wrong"] = "not-a-secret-of-this-app"
	stale, err := w.FederatedToken("job", sandbox.TokenExchangeAudience, -time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	s.Files["stale"] = stale
	s.Args = []string{"--allow-exec"}
	began := time.Now()
	g := start(t, s)
	if took := time.Since(began); took > 16*time.Second {
		t.Errorf("the doors opened after %s: commands waited for each other", took)
	}
	for i := range 50 {
		a := must(t, g.client, request{url: g.url(fmt.Sprintf("/r%d/v1.0/users", i))})
		if i%5 != 0 && a.status != http.StatusOK {
			t.Errorf("r%d: status %d: %.300s", i, a.status, a.body)
		}
		if i%5 == 0 {
			p := refused(t, a, http.StatusBadGateway, "token_refused")
			if p.Remedy == "" || !strings.Contains(p.Detail, fmt.Sprintf("%q", fmt.Sprintf("c%d", i))) {
				t.Errorf("r%d: problem %+v names no credential or no remedy", i, p)
			}
		}
	}
	ready := must(t, g.client, request{url: "http://" + g.admin + "/readyz"})
	for i := 0; i < 50; i += 5 {
		if !strings.Contains(ready.body, fmt.Sprintf("c%d", i)) {
			t.Errorf("/readyz does not name c%d: %s", i, ready.body)
		}
	}
	// What appears is used without a restart.
	write(t, filepath.Join(g.dir, "none"), w.Secret())
	eventually(t, "r0 works", func() bool {
		return must(t, g.client, request{url: g.url("/r0/v1.0/users")}).status == http.StatusOK
	})
}
