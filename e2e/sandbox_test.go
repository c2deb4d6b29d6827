package e2e

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"testing"

	"github.com/seed-13b04e61/gateway/sandbox"
)

// newWorld starts an Entra and a Graph that last until the test ends.
func newWorld(t testing.TB, o sandbox.Options) *sandbox.World {
	t.Helper()
	w, err := sandbox.Start(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Close)
	return w
}

// graphSetup is a gateway with the one route graph, by client secret, and
// further sections of routes.yaml.
func graphSetup(w *sandbox.World, sections string) setup {
	return setup{
		Config: fmt.Sprintf(`version: 1
listen: {proxy: "127.0.0.1:0", admin: "127.0.0.1:0"}
credentials:
  default:
    tenant_id: %s
    client_id: %s
    client_secret: {file: client-secret}
    authority_host: %s
routes:
  - preset: graph
    upstream: %s
%s`, sandbox.TenantDomain, sandbox.ClientID, w.Entra.URL(), w.Graph.URL(), sections),
		Files: map[string]string{"client-secret": w.Secret()},
	}
}

// startGraph starts a world and a gateway before it, and waits for its token.
func startGraph(t testing.TB, sections string) (*sandbox.World, *gateway) {
	t.Helper()
	w := newWorld(t, sandbox.Options{})
	g := start(t, graphSetup(w, sections))
	g.ready(t)
	return w, g
}

// echo is what the sandbox's Graph answers below /v1.0/$echo.
type echo struct {
	Method, Host, Path, Query, SHA256 string
	Length                            int
	Headers                           map[string][]string
}

// echoed checks that a came from there.
func echoed(t testing.TB, a answer) echo {
	t.Helper()
	var e echo
	if err := json.Unmarshal([]byte(a.body), &e); a.status != http.StatusOK || err != nil || e.Method == "" {
		t.Fatalf("status %d with %.300q; want an echo of the call", a.status, a.body)
	}
	return e
}

// intact checks that body arrived whole.
func intact(t testing.TB, e echo, body []byte) {
	t.Helper()
	if e.Length != len(body) || e.SHA256 != digest(body) {
		t.Errorf("%d bytes arrived with SHA-256 %s; want %d with %s", e.Length, e.SHA256, len(body), digest(body))
	}
}

// noneBare checks that no call reached Graph without a token, or with another
// bearer than one that Entra gave.
func noneBare(t testing.TB, w *sandbox.World) {
	t.Helper()
	if n := w.Graph.Counts().Bare; n != 0 {
		t.Errorf("%d calls reached Graph bare", n)
	}
}

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// noise returns n bytes that differ from call to call.
func noise(n int) []byte {
	b := make([]byte, n)
	var seed [32]byte
	for i := range seed {
		seed[i] = byte(rand.Uint32())
	}
	_, _ = rand.NewChaCha8(seed).Read(b) // never fails
	return b
}
