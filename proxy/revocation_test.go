package proxy_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/seed-13b04e61/gateway/audit"
	"github.com/seed-13b04e61/gateway/authority"
	"github.com/seed-13b04e61/gateway/routes"
	"github.com/seed-13b04e61/gateway/sandbox"
)

// newWorldRig is a gateway between this test, a small Entra and a small Graph.
func newWorldRig(t *testing.T, w *sandbox.World) *rig {
	t.Helper()
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte(w.Secret()), 0o600); err != nil {
		t.Fatal(err)
	}
	d := authority.NewDirectory(authority.Options{Version: "test"})
	o := rigging{keys: d, acquirer: d, alter: func(table *routes.Table) { d.Replace(table.Credentials) }}
	o.creds = fmt.Sprintf("credentials:\n  default: {authority_host: %q, tenant_id: %s, client_id: %s, client_secret: {file: %q}}\n",
		w.Entra.URL(), sandbox.TenantID, sandbox.ClientID, secret)
	text := fmt.Sprintf("routes: [{name: graph, hosts: [graph.microsoft.com], scope: https://graph.microsoft.com/.default, upstream: %q}]\n", w.Graph.URL())
	return o.newRig(t, text, nil)
}

func newWorld(t *testing.T) *sandbox.World {
	t.Helper()
	w, err := sandbox.Start(sandbox.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Close)
	return w
}

func TestRevocationIsAnsweredInEveryShapeOfItsChallenge(t *testing.T) {
	w := newWorld(t)
	for _, tt := range []struct {
		style  sandbox.ChallengeStyle
		status int
		retry  audit.Retry
	}{
		{sandbox.Quoted, 200, audit.Recovered},
		{sandbox.Bare, 200, audit.Recovered},
		{sandbox.Several, 200, audit.Recovered},
		{sandbox.TwoLines, 200, audit.Recovered},
		{sandbox.URLSafe, 200, audit.Recovered},
		{sandbox.Escaped, 200, audit.Recovered},
		{sandbox.LowerCase, 200, audit.Recovered},
		// What cannot be read is a plain 401: one renewal, which does not help.
		{sandbox.Garbage, 401, audit.RefusedAgain},
		{sandbox.Oversized, 401, audit.RefusedAgain},
	} {
		t.Run(string(tt.style), func(t *testing.T) {
			w.Graph.RequireNothing()
			g := newWorldRig(t, w)
			if resp, body := g.get(t, "/graph/v1.0/users"); resp.StatusCode != 200 {
				t.Fatalf("before the revocation: %d %s", resp.StatusCode, body)
			}
			before := w.Entra.Requests()
			if err := w.Graph.RequireClaims(sandbox.Challenge{Style: tt.style}); err != nil {
				t.Fatal(err)
			}
			resp, body := g.get(t, "/graph/v1.0/users")
			if e := g.events.the(2); resp.StatusCode != tt.status || e.Retry != tt.retry || resp.Header.Get("Gateway-Error") != "" {
				t.Errorf("%d with retry %q, want %d with %q: %.200s", resp.StatusCode, e.Retry, tt.status, tt.retry, body)
			}
			if n := w.Entra.Requests() - before; n != 1 {
				t.Errorf("%d token requests, want 1", n)
			}
		})
	}
}

func TestSecondClaimsChallengePassesToTheCaller(t *testing.T) {
	w := newWorld(t)
	g := newWorldRig(t, w)
	if err := w.Graph.RequireClaims(sandbox.Challenge{Always: true}); err != nil {
		t.Fatal(err)
	}
	for i, want := range []audit.Retry{audit.RefusedAgain, audit.HeldBack, audit.HeldBack} {
		resp, body := g.get(t, "/graph/v1.0/users")
		challenge := resp.Header.Get("WWW-Authenticate")
		if resp.StatusCode != 401 || !strings.Contains(challenge, "insufficient_claims") || !strings.Contains(challenge, "claims=") || !strings.Contains(body, "Continuous access evaluation") {
			t.Errorf("call %d: %d %q %.100s, want Graph's own challenge", i, resp.StatusCode, challenge, body)
		}
		if e := g.events.the(i + 1); e.Retry != want {
			t.Errorf("call %d: retry %q, want %q", i, e.Retry, want)
		}
	}
	if n := w.Entra.Requests(); n != 2 {
		t.Errorf("%d token requests, want 2: one to begin, one for the challenge", n)
	}
	// A later challenge that can be met is met by the same gateway: it is not stuck.
	w.Graph.RequireNothing()
	if resp, _ := g.get(t, "/graph/v1.0/users"); resp.StatusCode != 200 {
		t.Errorf("after the challenge was lifted: %d, want 200", resp.StatusCode)
	}
}

func TestStormOfChallengesCostsOneRenewal(t *testing.T) {
	const calls = 60
	for name, upset := range map[string]func(*sandbox.World) error{
		"claims challenge": func(w *sandbox.World) error { return w.Graph.RequireClaims(sandbox.Challenge{Style: sandbox.Several}) },
		"plain 401":        func(w *sandbox.World) error { w.Graph.RevokeTokens(); return nil },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			g := newWorldRig(t, w)
			g.get(t, "/graph/v1.0/users")
			if err := upset(w); err != nil {
				t.Fatal(err)
			}
			client := g.client(t, false)
			var wg sync.WaitGroup
			for i := range calls {
				wg.Go(func() {
					resp, err := client.Get(g.front.URL + "/graph/v1.0/users")
					if err != nil {
						t.Error(err)
						return
					}
					resp.Body.Close()
					if resp.StatusCode != http.StatusOK {
						t.Errorf("call %d: %d, want 200", i, resp.StatusCode)
					}
				})
			}
			wg.Wait()
			if n := w.Entra.Requests(); n != 2 {
				t.Errorf("%d token requests, want 2", n)
			}
		})
	}
}

func TestMissingPermissionIsNamedInTheAccessLine(t *testing.T) {
	w := newWorld(t)
	g := newWorldRig(t, w)
	resp, body := g.get(t, "/graph/v1.0/reports/getOffice365ActiveUserDetail")
	e := g.events.the(1)
	if resp.StatusCode != 403 || !strings.Contains(body, "Authorization_RequestDenied") || w.Entra.Requests() != 1 {
		t.Errorf("%d %.100s after %d token requests, want Graph's own 403 after 1", resp.StatusCode, body, w.Entra.Requests())
	}
	for _, want := range []string{"User.Read.All", "Group.Read.All", sandbox.TenantID + "/adminconsent?client_id=" + sandbox.ClientID} {
		if !strings.Contains(e.Remark+e.Remedy, want) {
			t.Errorf("remark %q, remedy %q; want %s in them", e.Remark, e.Remedy, want)
		}
	}
}
