package sandbox_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/seed-13b04e61/gateway/sandbox"
)

// challenged fetches users and returns the claims that the 401 asks for,
// decoded, with the header lines they came in.
func challenged(t *testing.T, w *sandbox.World, tok string) (claims string, lines []string) {
	t.Helper()
	a := ask(t, w, "GET /v1.0/users", tok)
	if a.status != http.StatusUnauthorized {
		t.Fatalf("answer = %d %s, want 401", a.status, a.raw)
	}
	lines = a.header.Values("WWW-Authenticate")
	m := regexp.MustCompile(`(?i) claims="?([^", ]+)`).FindStringSubmatch(lines[len(lines)-1])
	if m == nil {
		t.Fatalf("no claims in %q", lines)
	}
	value, err := url.PathUnescape(m[1])
	if err != nil {
		t.Fatal(err)
	}
	value = strings.NewReplacer("-", "+", "_", "/").Replace(strings.TrimRight(value, "="))
	raw, err := base64.RawStdEncoding.DecodeString(value)
	if err != nil {
		t.Fatalf("claims %q: %v", m[1], err)
	}
	return string(raw), lines
}

func TestChallengeIsMetByATokenAskedWithItsClaims(t *testing.T) {
	w := world(t, sandbox.Options{})
	for style, mark := range map[sandbox.ChallengeStyle]string{
		"":                `error="insufficient_claims"`,
		sandbox.Quoted:    `authorization_uri="https://`,
		sandbox.Bare:      `authorization_uri=https://`,
		sandbox.Several:   `PoP authorization_uri=`,
		sandbox.TwoLines:  `Bearer realm=`,
		sandbox.URLSafe:   `claims="ey`,
		sandbox.Escaped:   `claims="ey`,
		sandbox.LowerCase: `bearer Realm=`,
	} {
		old := token(t, w, "")
		if err := w.Graph.RequireClaims(sandbox.Challenge{Style: style}); err != nil {
			t.Fatal(err)
		}
		claims, lines := challenged(t, w, old)
		if !strings.Contains(strings.Join(lines, "\n"), mark) {
			t.Errorf("%s: %q, want %q in it", style, lines, mark)
		}
		challenged(t, w, token(t, w, "")) // new, and still without the claims
		merged := strings.Replace(claims, `{"access_token":{`, `{"access_token":{"xms_cc":{"values":["cp1"]},`, 1)
		for _, c := range []string{claims, merged} {
			if a := ask(t, w, "GET /v1.0/users", token(t, w, c)); a.status != http.StatusOK {
				t.Errorf("%s: with %s = %d %s, want 200", style, c, a.status, a.raw)
			}
		}
		w.Graph.RequireNothing()
		if a := ask(t, w, "GET /v1.0/users", old); a.status != http.StatusOK {
			t.Errorf("%s: afterwards = %d, want 200", style, a.status)
		}
	}
}

func TestChallengeAsksForAnNBFAsTheRealOne(t *testing.T) {
	w := world(t, sandbox.Options{})
	if err := w.Graph.RequireClaims(sandbox.Challenge{}); err != nil {
		t.Fatal(err)
	}
	claims, _ := challenged(t, w, token(t, w, ""))
	var doc struct {
		AccessToken struct {
			NBF struct {
				Essential bool
				Value     string
			} `json:"nbf"`
		} `json:"access_token"`
	}
	if err := json.Unmarshal([]byte(claims), &doc); err != nil || !doc.AccessToken.NBF.Essential || len(doc.AccessToken.NBF.Value) != 10 {
		t.Errorf("claims = %s (%v), want an essential nbf in Unix seconds", claims, err)
	}
}

func TestOtherClaimsDoNotMeetTheChallenge(t *testing.T) {
	w := world(t, sandbox.Options{})
	if err := w.Graph.RequireClaims(sandbox.Challenge{Claims: `{"access_token":{"acrs":{"essential":true,"value":"c1"}}}`}); err != nil {
		t.Fatal(err)
	}
	for claims, want := range map[string]int{
		`{"access_token":{"acrs":{"essential":true,"value":"c2"}}}`:                     401,
		`{"access_token":{"nbf":{"essential":true,"value":"1"}}}`:                       401,
		` { "access_token" : {"acrs" : {"value":"c1","essential":true},"nbf":null } } `: 200,
	} {
		if a := ask(t, w, "GET /v1.0/users", token(t, w, claims)); a.status != want {
			t.Errorf("%s = %d, want %d", claims, a.status, want)
		}
	}
}

func TestChallengeThatNothingMeets(t *testing.T) {
	w := world(t, sandbox.Options{})
	if err := w.Graph.RequireClaims(sandbox.Challenge{Always: true}); err != nil {
		t.Fatal(err)
	}
	claims, _ := challenged(t, w, token(t, w, ""))
	challenged(t, w, token(t, w, claims))
}

func TestUnusableChallengesAreStill401(t *testing.T) {
	w := world(t, sandbox.Options{})
	for style, want := range map[sandbox.ChallengeStyle]int{sandbox.Garbage: 0, sandbox.Oversized: 20 << 10} {
		if err := w.Graph.RequireClaims(sandbox.Challenge{Style: style}); err != nil {
			t.Fatal(err)
		}
		a := ask(t, w, "GET /v1.0/users", token(t, w, ""))
		if h := a.header.Get("WWW-Authenticate"); a.status != http.StatusUnauthorized || len(h) < want || !strings.Contains(h, "insufficient_claims") {
			t.Errorf("%s = %d with %d bytes of header", style, a.status, len(h))
		}
	}
}

func TestClaimsThatAreNoRequestAreRefused(t *testing.T) {
	w := world(t, sandbox.Options{})
	for _, c := range []string{"x", "[]", "{}", `{"access_token":{}}`, `{"id_token":{"a":null}}`} {
		if err := w.Graph.RequireClaims(sandbox.Challenge{Claims: c}); err == nil {
			t.Errorf("RequireClaims(%s) = nil, want ErrClaims", c)
		}
	}
}

func ExampleGraph_RequireClaims() {
	w, err := sandbox.Start(sandbox.Options{})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return
	}
	defer w.Close()
	// From here on, a token counts only if it was asked with these claims.
	err = w.Graph.RequireClaims(sandbox.Challenge{Claims: `{"access_token":{"nbf":{"essential":true,"value":"1657834417"}}}`})
	fmt.Println(err)
	// Output: <nil>
}
