package e2e

import (
	"fmt"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"github.com/seed-13b04e61/gateway/sandbox"
)

func tokenTroubles() []trouble {
	day := 24 * time.Hour
	return []trouble{
		{name: "scope", fires: []string{"GatewayTokenRefused default"}, begin: scopeScene},
		{name: "secret", fires: []string{"GatewayCredentialNotReady default"}, begin: secretScene},
		{name: "fallback", fires: []string{"GatewayFallbackInUse default"}, begin: fallbackScene},
		{name: "throttled", fires: []string{"GatewayTokenEndpointThrottles default"}, begin: func(t *testing.T) place {
			return endpointScene(t, sandbox.Failure{Kind: sandbox.Throttle, RetryAfter: time.Second})
		}},
		{name: "outage", fires: []string{"GatewayTokenEndpointDown default"}, begin: func(t *testing.T) place {
			return endpointScene(t, sandbox.Failure{Kind: sandbox.Outage})
		}},
		{name: "no-answer", fires: []string{"GatewayTokenEndpointDown default"}, begin: func(t *testing.T) place {
			return endpointScene(t, sandbox.Failure{Kind: sandbox.Refuse})
		}},
		{name: "stale", fires: []string{"GatewayTokenNotRefreshed default"}, also: []string{"GatewayTokenEndpointDown default"}, begin: staleScene},
		{name: "month", fires: []string{"GatewayCredentialEndsThisMonth default"}, begin: func(t *testing.T) place { return certificateScene(t, 13*day) }},
		{name: "week", fires: []string{"GatewayCredentialEndsThisWeek default"}, begin: func(t *testing.T) place { return certificateScene(t, 5*day) }},
		{name: "ended", fires: []string{"GatewayCredentialEnded default"}, begin: func(t *testing.T) place { return certificateScene(t, 20*time.Second) }},
	}
}

// moreRoutes are routes to hosts of other scopes than Graph's, so that the
// endpoint is asked for more than one token.
func moreRoutes(t *testing.T) string {
	text, up := "", serveHTTP(t, func(http.ResponseWriter, *http.Request) {})
	for i, scope := range []string{"https://vault.azure.net/.default", "https://storage.azure.com/.default", "https://management.azure.com/.default"} {
		text += fmt.Sprintf("  - {name: more%d, hosts: [more%d.example.com], scope: %s, upstream: %q}\n", i, i, scope, up.URL)
	}
	return text
}

// scopeScene has a route ask for what its tenant does not have.
func scopeScene(t *testing.T) place {
	w := newWorld(t, sandbox.Options{})
	s := graphSetup(w, "")
	g := start(t, s)
	g.ready(t)
	var tr *traffic
	return place{g: g,
		wreck: func(inner *testing.T) {
			write(inner, g.config, s.Config+fmt.Sprintf("  - {name: wrong, hosts: [wrong.example.com], scope: https://wrong.example.com/.default, upstream: %q}\n", w.Graph.URL()))
			tr = keep(t, time.Second, g.asks("/wrong/"))
		},
		mend: func(t *testing.T) {
			tr.halt()
			write(t, g.config, s.Config)
		}}
}

// secretScene has somebody write a secret that is none of the application's.
func secretScene(t *testing.T) place {
	w := newWorld(t, sandbox.Options{})
	g := gatewayOf(t, w, "", "")
	keep(t, time.Second, g.asks("/graph/v1.0/users"))
	return place{g: g,
		wreck: func(t *testing.T) { replaceFile(t, filepath.Join(g.dir, "client-secret"), "not-a-secret-of-this-app") },
		mend:  func(t *testing.T) { replaceFile(t, filepath.Join(g.dir, "client-secret"), w.Secret()) }}
}

func fallbackScene(t *testing.T) place {
	w := newWorld(t, sandbox.Options{})
	older, err := w.Entra.AddSecret(sandbox.ClientID, sandbox.Secret{})
	if err != nil {
		t.Fatal(err)
	}
	g := start(t, withFallback(w, older.Value))
	g.ready(t)
	keep(t, time.Second, g.asks("/graph/v1.0/users"))
	return place{g: g,
		wreck: func(t *testing.T) { replaceFile(t, filepath.Join(g.dir, "client-secret"), "not-a-secret-of-this-app") },
		mend:  func(t *testing.T) { replaceFile(t, filepath.Join(g.dir, "client-secret"), w.Secret()) }}
}

// endpointScene has the token endpoint fail while tokens are needed.
func endpointScene(t *testing.T, f sandbox.Failure) place {
	w := newWorld(t, sandbox.Options{})
	g := gatewayOf(t, w, moreRoutes(t), "")
	return place{g: g,
		wreck: func(inner *testing.T) {
			w.Entra.FailWith(f)
			g.purge(inner)
			for _, route := range []string{"graph", "more0", "more1", "more2"} {
				keep(t, 2*time.Second, g.asks("/"+route+"/v1.0/users"))
			}
		},
		mend: func(*testing.T) { w.Entra.Recover() }}
}

// staleScene has tokens of short life, which cannot be refreshed.
func staleScene(t *testing.T) place {
	w := newWorld(t, sandbox.Options{})
	w.Entra.SetLifetime(time.Minute)
	w.Entra.SetRefreshIn(5 * time.Second)
	g := gatewayOf(t, w, "", "")
	keep(t, time.Second, g.asks("/graph/v1.0/users"))
	return place{g: g,
		wreck: func(*testing.T) { w.Entra.Fail(sandbox.Outage) },
		mend: func(*testing.T) {
			w.Entra.SetLifetime(0)
			w.Entra.SetRefreshIn(0)
			w.Entra.Recover()
		}}
}

// certificateScene has a credential whose certificate has that long to go.
func certificateScene(t *testing.T, left time.Duration) place {
	w := newWorld(t, sandbox.Options{})
	current, text := endingCertificate(t, time.Now().Add(left))
	next, renewed := endingCertificate(t, time.Now().Add(365*24*time.Hour))
	for _, err := range []error{w.Entra.AddCertificate(sandbox.ClientID, current), w.Entra.AddCertificate(sandbox.ClientID, next)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	s := proven(w, "client_certificate: {file: app.pem}")
	s.Files["app.pem"] = text
	g := start(t, s)
	g.ready(t)
	return place{g: g,
		wreck: func(*testing.T) {}, // time does it
		mend:  func(t *testing.T) { replaceFile(t, filepath.Join(g.dir, "app.pem"), renewed) }}
}
