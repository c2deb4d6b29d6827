package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/seed-13b04e61/gateway/sandbox"
)

// asked collects the claims of token requests.
type asked struct {
	mu     sync.Mutex
	claims []string
}

func (a *asked) note(r sandbox.TokenRequest) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.claims = append(a.claims, r.Form.Get("claims"))
}

func (a *asked) all() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.claims)
}

func TestClaimsChallengeIsAnsweredWithTheBodySentAgain(t *testing.T) {
	t.Parallel()
	for _, cae := range []bool{false, true} {
		for _, style := range []sandbox.ChallengeStyle{sandbox.Quoted, sandbox.Bare, sandbox.Several, sandbox.TwoLines, sandbox.URLSafe, sandbox.Escaped} {
			t.Run(fmt.Sprintf("cae=%v %s", cae, style), func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, sandbox.Options{})
				var requests asked
				w.Entra.Observe(requests.note)
				s := graphSetup(w, "log: {debug_headers: true}\n")
				s.Config = strings.Replace(s.Config, "client_secret:", fmt.Sprintf("cae: %v\n    client_secret:", cae), 1)
				g := start(t, s)
				g.ready(t)
				if err := w.Graph.RequireClaims(sandbox.Challenge{Style: style}); err != nil {
					t.Fatal(err)
				}
				body := noise(700_000)
				a := must(t, g.client, request{method: http.MethodPatch, url: g.url("/graph/v1.0/$echo/body"), body: body})
				intact(t, echoed(t, a), body)
				if a.header.Get("Gateway-Retry") != "1" {
					t.Error("it was no second try")
				}
				// The answer to a challenge is the token of everybody from now on.
				if a := must(t, g.client, request{url: g.url("/graph/v1.0/users")}); a.status != http.StatusOK || a.header.Get("Gateway-Retry") != "" {
					t.Errorf("the next call: status %d, Gateway-Retry %q", a.status, a.header.Get("Gateway-Retry"))
				}
				all := requests.all()
				if len(all) != 2 {
					t.Fatalf("%d token requests with claims %q, want 2", len(all), all)
				}
				if got := strings.Contains(all[0], "cp1"); got != cae {
					t.Errorf("first claims = %q, want cp1 declared: %v", all[0], cae)
				}
				var second struct {
					Access map[string]json.RawMessage `json:"access_token"`
				}
				if err := json.Unmarshal([]byte(all[1]), &second); err != nil || second.Access["nbf"] == nil || (second.Access["xms_cc"] != nil) != cae {
					t.Errorf("claims = %s, want nbf of the challenge, and cp1: %v", all[1], cae)
				}
			})
		}
	}
}

// A challenge that no token meets goes to the caller, once, and costs one.
func TestChallengeThatNoTokenMeetsIsHandedOn(t *testing.T) {
	t.Parallel()
	w, g := startGraph(t, "")
	if err := w.Graph.RequireClaims(sandbox.Challenge{Always: true}); err != nil {
		t.Fatal(err)
	}
	for _, a := range together(t, g, crowd, func(int) request { return request{url: g.url("/graph/v1.0/users")} }) {
		if a.status != http.StatusUnauthorized || a.header.Get("Gateway-Error") != "" {
			t.Fatalf("status %d: %.300s; want Graph's own 401", a.status, a.body)
		}
	}
	if n := w.Entra.Requests(); n > 3 {
		t.Errorf("%d token requests for %d challenged calls", n, crowd)
	}
}
