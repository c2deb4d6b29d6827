package e2e

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/seed-13b04e61/gateway/sandbox"
)

// guard is what stands before an arena that has callers.
type guard struct {
	*arena
	issuer *jwtIssuer
}

// newGuard starts an arena with callers: "good" may use every route, "limited"
// the one with rules, and "ci" shows JWTs.
func newGuard(t testing.TB) *guard {
	t.Helper()
	g := emptyGuard(t)
	g.begin(t, "", nil)
	return g
}

func emptyGuard(t testing.TB) *guard {
	t.Helper()
	g := &guard{arena: emptyArena(t)}
	g.issuer = newJWTIssuer(t, g.stranger.addr)
	return g
}

func (g *guard) begin(t testing.TB, listen string, files map[string]string) {
	t.Helper()
	g.enter(t, g.guarded(t, listen, files))
}

// guarded is what the gateway of g starts with. listen is further keys of
// listen, and files are theirs.
func (g *guard) guarded(t testing.TB, listen string, files map[string]string) setup {
	t.Helper()
	keys := map[string]string{}
	for _, name := range []string{"good", "limited", "other"} {
		keys[name] = base64.RawURLEncoding.EncodeToString(random(32))
	}
	g.callers = map[string]string{"good": "Bearer " + keys["good"], "limited": "Bearer " + keys["limited"], "other": "Bearer " + keys["other"]}
	s := g.setup("127.0.0.1:0")
	s.Config = strings.Replace(s.Config, "listen: {", "listen: {"+listen, 1)
	sections := fmt.Sprintf(`callers:
  good: {api_key: {sha256: %s}}
  limited: {api_key: {sha256: %s}}
  other: {api_key: {sha256: %s}}
  ci: {jwt: {issuer: %q, audience: gateway, claims: {repository: contoso/app}}}
`, digestOf(keys["good"]), digestOf(keys["limited"]), digestOf(keys["other"]), g.issuer.url)
	if strings.Contains(listen, "client_ca_file") {
		sections += "  mesh: {client_certificate: {uri_san: \"spiffe://contoso/mesh\"}}\n  host: {client_certificate: {dns_san: job.contoso.com}}\n"
	}
	s.Config = strings.Replace(s.Config, "routes:\n  - preset: graph\n", sections+"routes:\n  - preset: graph\n    callers: [good, ci"+map[bool]string{true: ", mesh, host"}[strings.Contains(listen, "client_ca_file")]+"]\n", 1)
	s.Config = strings.Replace(s.Config, "  - {name: other, hosts", guardedRoutes("http://"+g.upstream.addr)+"  - {name: other, callers: [other], hosts", 1)
	for name, text := range files {
		s.Files[name] = text
	}
	g.words = append(g.issuer.words(), "{key}", keys["good"], "{KEY}", strings.ToUpper(keys["good"]), "{other key}", keys["other"], "{hash}", digestOf(keys["good"]), "{key-1}", keys["good"][1:], "{-1key}", keys["good"][:42],
		"{basic}", basic("good", keys["good"]), "{basic wrong}", basic("good", "wrong"), "{basic bare}", basic("good", ""), "{basic nobody}", basic("nobody", keys["good"]),
		"{basic other}", basic("other", keys["good"]), "{basic GOOD}", basic("GOOD", keys["good"]), "{basic space}", basic("good ", keys["good"]), "{basic LF}", basic("good", keys["good"]+"\n"),
		"{basic anonymous}", basic("", keys["good"]), "{basic NUL}", basic("good\x00", keys["good"]), "{basic colon}", basic("good", keys["good"]+":x"), "{basic hash}", basic("good", digestOf(keys["good"])),
		"{basic no colon}", base64.StdEncoding.EncodeToString([]byte("good"+keys["good"])), "{basic twice}", base64.StdEncoding.EncodeToString([]byte(basic("good", keys["good"]))))
	return s
}

// guardedRoutes has rules on a second route of the host of graph, and tenants.
func guardedRoutes(upstream string) string {
	return fmt.Sprintf(`  - preset: graph
    name: ruled
    mount: /ruled
    upstream: %q
    callers: [limited]
    allow:
      - {methods: [GET], paths: ["/v1.0/users/**", "/v1.0/groups/{id}/members"]}
      - {methods: [GET, POST], paths: ["/v1.0/$batch"]}
  - name: tenants
    hosts: [tenants.example.com]
    scope: %q
    upstream: %q
    callers: [good]
    tenant: {header: X-Tenant-Id, allowed: [%s, fabrikam.example.com]}
`, upstream, graphScope, upstream, sandbox.TenantID)
}

func random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails
	return b
}

func digestOf(key string) string {
	sum := sha256.Sum256([]byte(key))
	return hex.EncodeToString(sum[:])
}

func basic(name, key string) string {
	return base64.StdEncoding.EncodeToString([]byte(name + ":" + key))
}

// guardedTable is what is tried where there are callers, beside the table for
// all.
func guardedTable() []hostile {
	var all []hostile
	for _, part := range [][]hostile{hostileCredentials(), hostileJWTs(), hostileRules(), hostileBatches(), hostileTenants()} {
		all = append(all, part...)
	}
	return all
}

func TestHostileTableGetsNoFurtherWithACallersCredential(t *testing.T) {
	newGuard(t).attackAll(t, append(hostileTable(), guardedTable()...))
}

// The same bytes from somebody who has no credential reach nobody, whatever
// becomes of them otherwise.
func TestHostileTableOfAStrangerReachesNobody(t *testing.T) {
	g := newGuard(t)
	for _, d := range g.doors {
		for _, h := range hostileTable() {
			if h.door != "" && h.door != d.name || h.way == privateWay {
				continue
			}
			t.Run(d.name+"/"+h.name, func(t *testing.T) {
				got, err := g.exchange(g.fill(h.send, d), max(h.answers, 1))
				if err != nil {
					t.Fatal(err)
				}
				if raw := g.upstream.take(t); len(raw) != 0 {
					t.Errorf("the upstream was called: %q", raw)
				}
				for i, status := range got.statuses {
					if status < 400 || status == http.StatusInternalServerError || h.want == sent && got.codes[i] != "caller_unknown" {
						t.Errorf("status %d, code %q", status, got.codes[i])
					}
				}
				g.safe(t, got)
			})
		}
		g.good(t, d)
		g.arrived(t)
	}
	g.quiet(t)
}
