package sandbox_test

import (
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/seed-13b04e61/gateway/sandbox"
)

// troubled starts a World with that trouble.
func troubled(t *testing.T, name string) *sandbox.World {
	t.Helper()
	w := world(t, sandbox.Options{})
	if err := w.Trouble(name); err != nil {
		t.Fatal(err)
	}
	return w
}

func TestTroublesOfTheTokenEndpointLastUntilRecover(t *testing.T) {
	for name, want := range map[string]struct{ status, code int }{
		"expired-secret": {401, 7000222}, "wrong-secret": {401, 7000215}, "throttle": {429, 0}, "outage": {503, 0},
	} {
		w := troubled(t, name)
		for range 2 {
			if a := post(t, w, sandbox.TenantID, secretForm(w)); a.status != want.status || a.code() != want.code {
				t.Errorf("under %s: %d %s, want %d and AADSTS%d", name, a.status, a.raw, want.status, want.code)
			}
		}
		w.Recover()
		token(t, w, "")
	}
}

func TestRevokedWithoutATokenRefusesTheFirst(t *testing.T) {
	w := troubled(t, "revoked")
	for i, want := range []int{401, 200} {
		if a := ask(t, w, "GET /v1.0/users", token(t, w, "")); a.status != want {
			t.Errorf("token %d: status = %d, want %d", i+1, a.status, want)
		}
	}
}

func TestWithoutConsentTokensHaveNoRolesAndGraphSays403(t *testing.T) {
	w := world(t, sandbox.Options{})
	before := token(t, w, "")
	if err := w.Trouble("no-consent"); err != nil {
		t.Fatal(err)
	}
	if a := ask(t, w, "GET /v1.0/users", before); a.status != http.StatusUnauthorized {
		t.Errorf("with the token from before: %d, want 401", a.status)
	}
	during := token(t, w, "")
	if c := claimsOf(t, during); c["roles"] != nil {
		t.Errorf("roles = %v, want none", c["roles"])
	}
	if a := ask(t, w, "GET /v1.0/users", during); a.status != http.StatusForbidden || a.graphCode() != "Authorization_RequestDenied" {
		t.Errorf("users = %d %s, want 403 Authorization_RequestDenied", a.status, a.raw)
	}
	w.Recover()
	if a := ask(t, w, "GET /v1.0/users", during); a.status != http.StatusUnauthorized {
		t.Errorf("after consent, the token without roles: %d, want 401, so that a new one is asked for", a.status)
	}
	if a := ask(t, w, "GET /v1.0/users", token(t, w, "")); a.status != http.StatusOK {
		t.Errorf("after consent: %d %s, want 200", a.status, a.raw)
	}
}

func TestClockTroubleShowsInTheDate(t *testing.T) {
	w := troubled(t, "clock")
	off := func() time.Duration {
		date, err := http.ParseTime(post(t, w, sandbox.TenantID, secretForm(w)).header.Get("Date"))
		if err != nil {
			t.Fatal(err)
		}
		return time.Until(date).Round(time.Minute)
	}
	if d := off(); d != 10*time.Minute {
		t.Errorf("Date is %v ahead, want 10m", d)
	}
	if a := ask(t, w, "GET /v1.0/users", token(t, w, "")); a.status != http.StatusOK {
		t.Errorf("users = %d, want 200: Graph has the same clock", a.status)
	}
	w.Recover()
	if d := off(); d != 0 {
		t.Errorf("after Recover: Date is %v ahead, want 0", d)
	}
}

func TestClaimsTroubleEndsWithTheTokenThatMeetsIt(t *testing.T) {
	w := world(t, sandbox.Options{})
	old := token(t, w, "")
	if err := w.Trouble("claims"); err != nil {
		t.Fatal(err)
	}
	claims, _ := challenged(t, w, old)
	challenged(t, w, old)
	for _, tok := range []string{token(t, w, claims), old} {
		if a := ask(t, w, "GET /v1.0/users", tok); a.status != http.StatusOK {
			t.Errorf("users = %d %s, want 200", a.status, a.raw)
		}
	}
}

func TestSignInTroubleRedirectsEveryCall(t *testing.T) {
	w := troubled(t, "sign-in")
	tok := token(t, w, "")
	a := ask(t, w, "GET /v1.0/users", tok)
	if to := a.header.Get("Location"); a.status != http.StatusFound || !strings.Contains(to, "/common/oauth2/authorize?") || !strings.Contains(string(a.raw), "Object moved") {
		t.Errorf("users = %d to %q: %s, want 302 to a sign-in page", a.status, to, a.raw)
	}
	if strings.Contains(string(a.raw)+a.header.Get("Location"), tok) {
		t.Error("the redirect holds the token")
	}
	w.Recover()
	if a := ask(t, w, "GET /v1.0/users", tok); a.status != http.StatusOK {
		t.Errorf("after Recover: %d, want 200", a.status)
	}
}

func TestEveryTroubleIsKnownAndNoOther(t *testing.T) {
	w := world(t, sandbox.Options{})
	for _, name := range sandbox.Troubles() {
		if err := w.Trouble(name); err != nil {
			t.Errorf("Trouble(%s) = %v", name, err)
		}
	}
	if err := w.Trouble("fire"); err == nil || !strings.Contains(err.Error(), "sign-in") {
		t.Errorf("Trouble(fire) = %v, want an error that names the known ones", err)
	}
}

func ExampleWorld_Trouble() {
	w, err := sandbox.Start(sandbox.Options{})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return
	}
	defer w.Close()
	fmt.Println(sandbox.Troubles(), w.Trouble("throttle"))
	w.Recover()
	// Output: [expired-secret wrong-secret throttle outage revoked no-consent clock claims sign-in] <nil>
}
