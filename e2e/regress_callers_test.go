package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// assaultCallers is assault where there are callers.
func assaultCallers(t *testing.T, table ...hostile) {
	t.Helper()
	t.Parallel()
	newGuard(t).attackAll(t, table)
}

// guardedEntries picks those of the table for callers.
func guardedEntries(t *testing.T, prefixes ...string) []hostile {
	t.Helper()
	table := guardedTable()
	var all []hostile
	for _, p := range prefixes {
		n := len(all)
		for _, h := range table {
			if strings.HasPrefix(h.name, p) {
				all = append(all, h)
			}
		}
		if len(all) == n {
			t.Fatalf("the table has no entry %q", p)
		}
	}
	return all
}

// oauth2-proxy let calls through whose query, whose X-Forwarded-Uri, whose
// fragment or whose User-Agent was that of a check of health.
func TestCVE_2025_54576_CVE_2026_40575_CVE_2026_41059_CVE_2026_34457_NoFieldOrQueryOpensADoor(t *testing.T) {
	table := guardedEntries(t, "credential as probe", "credential as a path", "health path", "rule path by", "rule GET ∕v1.0∕me?x=", "rule GET ∕v1.0∕users∕%23", "rule GET ∕v1.0∕users∕%3f")
	assaultCallers(t, append(table,
		hostile{name: "query of an allowed path", send: "GET {ruled}/v1.0/me?/v1.0/users HTTP/1.1\r\nHost: {host}\r\n\r\n", want: "rule_denied", as: "limited"},
		hostile{name: "fragment of an allowed path", send: "GET {ruled}/v1.0/me#/v1.0/users HTTP/1.1\r\nHost: {host}\r\n\r\n", want: "bad_request", as: "limited"})...)
}

// Dapr took a path of health for any call, and its rules were passed by dots.
func TestCVE_2023_37918_CVE_2026_41491_DotsAndHealthPathsPassNoRule(t *testing.T) {
	assaultCallers(t, guardedEntries(t, "health path", "rule GET ∕v1.0∕users∕..", "rule GET ∕v1.0∕users∕%2e", "rule GET ∕healthz", "rule GET ∕v1.0∕users∕a∕..")...)
}

// Traefik compared another form of the path than it sent.
func TestCVE_2025_32431_CVE_2025_47952_CVE_2025_66490_CVE_2026_40912_CVE_2026_48020_CVE_2026_65600_CVE_2026_67309_OneReadingOfAPath(t *testing.T) {
	assaultCallers(t, guardedEntries(t, "rule GET ")...)
}

// Caddy told paths and hosts apart by case where its upstream did not.
func TestCVE_2026_27587_CVE_2026_27588_CaseOpensAndClosesNothing(t *testing.T) {
	table := guardedEntries(t, "rule GET ∕V1.0")
	for _, path := range []string{"/v1.0/ME", "/V1.0/me", "/v1.0/Groups/1", "/BETA/users"} {
		table = append(table, hostile{name: "case of " + path, send: "GET {ruled}" + path + " HTTP/1.1\r\nHost: {host}\r\n\r\n", want: "rule_denied", as: "limited"})
	}
	table = append(table, hostile{name: "case of the host", send: "GET http://GRAPH.Microsoft.COM./v1.0/me HTTP/1.1\r\nHost: x\r\n\r\n", want: "rule_denied", as: "limited", door: "forward"})
	assaultCallers(t, table...)
}

// grpc-go passed rules by when the path did not begin with a slash.
func TestCVE_2026_33186_PathsBeginWithASlash(t *testing.T) {
	table := entries(t, "target without a slash", "target that is", "target with backslashes", "asterisk of")
	for i := range table {
		table[i].guarded = ""
	}
	assaultCallers(t, table...)
}

// golang-jwt took a token for merely expired whose signature was wrong too.
func TestCVE_2024_51744_ExpiredAndForgedIsNobody(t *testing.T) {
	fixedInModule(t, "github.com/golang-jwt/jwt/v5", "v5.0.0")
	assaultCallers(t, guardedEntries(t, "JWT expired", "JWT key of a stranger", "JWT payload exchanged", "JWT whole")...)
}

// Unmasked and unbounded, the parts of a token took memory out of proportion.
func TestCVE_2025_30204_PointsOfATokenAreBounded(t *testing.T) {
	assaultCallers(t, guardedEntries(t, "JWT many points", "JWT huge", "JWT four", "JWT five", "credential long", "credential Basic long")...)
}

// tokenizer let secrets be guessed without end.
func TestGHSA_f28g_86hc_823q_GuessersAreHeldOffAndOthersAreNot(t *testing.T) {
	t.Parallel()
	g := newGuard(t)
	d := g.doors[0]
	held := 0
	for i := range 40 {
		got, err := g.exchange(g.fill(with(fmt.Sprintf("{carrier}: Bearer guess-%040d", i)), d), 1)
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case got.codes[0] == "rate_limited" && strings.Contains(got.raw, "\r\nRetry-After: "):
			held++
		case got.codes[0] != "caller_unknown":
			t.Fatalf("guess %d: %+v", i, got)
		}
	}
	if held < 20 {
		t.Errorf("%d of 40 guesses were held off", held)
	}
	g.good(t, d) // who has the key is not held off by those who have not
	g.arrived(t)
}

// Traefik chose what TLS asks for by a name that the client splits, cases or
// ends with a dot as it likes. Here there is one setting for all names.
func TestCVE_2022_23632_CVE_2022_46153_CVE_2026_32305_CVE_2026_48491_CVE_2026_53622_NoNameChangesWhatTLSAsksFor(t *testing.T) {
	t.Parallel()
	server, clients := newAuthority(t), newCallersAuthority(t, "clients")
	g := emptyGuard(t)
	g.tls = server.trusting()
	g.begin(t, tlsListen, tlsFiles(t, server, clients))
	for _, name := range []string{"localhost", "LOCALHOST", "localhost.", "other.example.com", "*.example.com", "", "127.0.0.1"} {
		g.tls = server.trusting()
		g.tls.ServerName, g.tls.InsecureSkipVerify = name, true //nolint:gosec // it is the server that is tried
		for _, d := range g.doors {
			got, err := g.exchange(g.fill(with("X: y"), d), 1)
			if err == nil && (got.statuses[0] == http.StatusOK || got.codes[0] != "caller_unknown") {
				t.Errorf("by the name %q: %+v", name, got)
			}
		}
	}
	if raw := g.upstream.take(t); len(raw) != 0 {
		t.Errorf("the upstream was called: %q", raw)
	}
}
