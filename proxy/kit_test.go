package proxy_test

import (
	"context"
	"encoding/pem"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed-13b04e61/gateway/audit"
	"github.com/seed-13b04e61/gateway/egress"
	"github.com/seed-13b04e61/gateway/gate"
	"github.com/seed-13b04e61/gateway/proxy"
	"github.com/seed-13b04e61/gateway/routes"
	"github.com/seed-13b04e61/gateway/secrets"
	"github.com/seed-13b04e61/gateway/tokens"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

// issuer is an Acquirer that issues token-1, token-2, … of 1.6 KB, as Entra's are.
type issuer struct {
	issued atomic.Int64
	mu     sync.Mutex
	fail   error
	claims []string
}

var padding = strings.Repeat("x", 1600)

func (i *issuer) Acquire(_ context.Context, _ tokens.Key, claims string) (tokens.Token, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.claims = append(i.claims, claims)
	if i.fail != nil {
		return tokens.Token{}, i.fail
	}
	n := i.issued.Add(1)
	return tokens.Token{Access: secrets.New(fmt.Sprintf("token-%d.%s", n, padding)), Expires: time.Now().Add(time.Hour)}, nil
}

func (i *issuer) failWith(err error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.fail = err
}

// number is the n of token-n in an Authorization field, 0 for any other value.
func number(authorization string) int {
	var n int
	if _, err := fmt.Sscanf(authorization, "Bearer token-%d.", &n); err != nil {
		return 0
	}
	return n
}

// events collects what was recorded.
type events struct {
	mu   sync.Mutex
	list []audit.Event
}

func (es *events) Record(e *audit.Event) {
	es.mu.Lock()
	defer es.mu.Unlock()
	es.list = append(es.list, *e)
}

func (es *events) last() audit.Event {
	es.mu.Lock()
	defer es.mu.Unlock()
	if len(es.list) == 0 {
		return audit.Event{}
	}
	return es.list[len(es.list)-1]
}

// keyed gives each credential and scope its key, as a directory would.
type keyed struct{}

func (keyed) Key(c *routes.Credential, scope string) tokens.Key {
	return tokens.Key{Authority: "https://login.test", Credential: c.Name, Scope: scope}
}

// bench is a gateway in front of one upstream.
type rig struct {
	handler *proxy.Handler
	front   *httptest.Server
	issuer  *issuer
	events  *events
	dir     string
}

const credentials = `
credentials:
  default: {token_endpoint: "https://login.test/token", client_id: gw, client_secret: {env: UNUSED}}
`

// newRig serves the routes of text, which may name {upstream} and {ca}.
func newRig(t testing.TB, text string, upstream *httptest.Server) *rig {
	t.Helper()
	g := &rig{issuer: &issuer{}, events: &events{}, dir: t.TempDir()}
	store, err := tokens.New(tokens.Config{Acquirer: g.issuer, Entries: 100, Memory: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(store.Close)
	log, err := audit.NewLog(t.Output(), audit.LogConfig{Level: "warn", Format: "json"})
	if err != nil {
		t.Fatal(err)
	}
	g.handler = proxy.New(proxy.Config{Tokens: store, Recorder: g.events, Log: log})
	t.Cleanup(g.handler.Close)
	for _, err := range g.use(t, text, upstream) {
		t.Fatal(err)
	}
	srv := g.handler.NewServer()
	g.front = httptest.NewUnstartedServer(srv.Handler)
	g.front.Config.ReadHeaderTimeout, g.front.Config.MaxHeaderBytes = srv.ReadHeaderTimeout, srv.MaxHeaderBytes
	g.front.Start()
	t.Cleanup(g.front.Close)
	return g
}

// use puts another table in force.
func (g *rig) use(t testing.TB, text string, upstream *httptest.Server) []error {
	t.Helper()
	if upstream != nil {
		ca := filepath.Join(g.dir, "ca.pem")
		if upstream.TLS != nil {
			block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: upstream.Certificate().Raw})
			if err := os.WriteFile(ca, block, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		text = strings.NewReplacer("{upstream}", upstream.URL, "{ca}", ca).Replace(text)
	}
	table, err := routes.Parse("routes.yaml", []byte("version: 1\n"+credentials+text), func(string) (string, bool) { return "", false })
	if err != nil {
		t.Fatal(err)
	}
	dialer, err := egress.New(egress.Config{})
	if err != nil {
		t.Fatal(err)
	}
	return g.handler.Use(gate.New(table, keyed{}), dialer)
}

// plain is a route to a TLS upstream whose certificate says example.com.
const plain = `
routes:
  - {name: api, hosts: [example.com], scope: api/.default, upstream: "{upstream}", tls: {ca_file: "{ca}"}}
`

// upstreams makes a TLS server; h2 says which protocol it speaks.
func newUpstream(t testing.TB, h2 bool, h http.HandlerFunc) *httptest.Server {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.EnableHTTP2 = h2
	s.StartTLS()
	t.Cleanup(s.Close)
	return s
}

// client calls the gateway; through it as a proxy when proxied.
func (g *rig) client(t testing.TB, proxied bool) *http.Client {
	t.Helper()
	tr := &http.Transport{DisableCompression: true, ExpectContinueTimeout: time.Second}
	if proxied {
		u, err := url.Parse(g.front.URL)
		if err != nil {
			t.Fatal(err)
		}
		tr.Proxy = http.ProxyURL(u)
	}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// raw sends bytes and returns all that comes back.
func (g *rig) raw(t *testing.T, request string) string {
	t.Helper()
	c, err := net.Dial("tcp", g.front.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write([]byte(request)); err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	buf := make([]byte, 4096)
	for {
		n, err := c.Read(buf)
		b.Write(buf[:n])
		if err != nil {
			return b.String()
		}
	}
}
