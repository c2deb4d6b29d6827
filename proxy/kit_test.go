package proxy_test

import (
	"cmp"
	"context"
	"crypto/tls"
	"encoding/pem"
	"fmt"
	"io"
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
	always string // issued instead, when set

	mu     sync.Mutex // guards what follows
	fail   error
	failed string // the only scope that fails; "" for all
	claims []string
	scopes []string
}

var padding = strings.Repeat("sigNature-", 160)

func (i *issuer) Acquire(_ context.Context, k tokens.Key, claims string) (tokens.Token, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.claims = append(i.claims, claims)
	i.scopes = append(i.scopes, k.Scope)
	if i.fail != nil && (i.failed == "" || i.failed == k.Scope) {
		return tokens.Token{}, i.fail
	}
	n := i.issued.Add(1)
	if i.always != "" {
		return tokens.Token{Access: secrets.New(i.always), Expires: time.Now().Add(time.Hour)}, nil
	}
	return tokens.Token{Access: secrets.New(fmt.Sprintf("token-%d.%s", n, padding)), Expires: time.Now().Add(time.Hour)}, nil
}

func (i *issuer) failWith(err error) { i.failFor("", err) }

func (i *issuer) failFor(scope string, err error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.fail, i.failed = err, scope
}

// asked lists the scopes of all acquisitions so far.
func (i *issuer) asked() string {
	i.mu.Lock()
	defer i.mu.Unlock()
	return strings.Join(i.scopes, " ")
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
	mu   sync.Mutex // guards list
	more sync.Cond
	list []audit.Event
}

func (es *events) Record(e *audit.Event) {
	es.mu.Lock()
	defer es.mu.Unlock()
	es.list = append(es.list, *e)
	es.more.Broadcast()
}

// explained checks that every refusal of any test ends in cause and remedy.
func (es *events) explained(t testing.TB) {
	es.mu.Lock()
	defer es.mu.Unlock()
	for _, e := range es.list {
		if e.Code != "" && (e.Cause == "" || e.Remedy == "") {
			t.Errorf("%s of %s %s has cause %q and remedy %q; want both", e.Code, e.Method, e.Path, e.Cause, e.Remedy)
		}
	}
}

// the returns the nth event, the first being 1, once it was recorded: which is
// after the caller has its answer.
func (es *events) the(n int) audit.Event {
	es.mu.Lock()
	defer es.mu.Unlock()
	for len(es.list) < n {
		es.more.Wait()
	}
	return es.list[n-1]
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

// lines is a log that can be read while it is written.
type lines struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// rig is a gateway in front of one upstream.
type rig struct {
	rigging
	handler *proxy.Handler
	front   *httptest.Server
	issuer  *issuer
	events  *events
	log     *lines
	dialer  *egress.Dialer
	dir     string
}

// rigging is what a test may want otherwise. The zero value wants nothing.
type rigging struct {
	alter    func(*routes.Table) // what no preset gives yet
	always   string              // the one token that is ever issued
	keys     gate.Keys           // instead of keyed
	acquirer tokens.Acquirer     // instead of issuer
	identity []string            // this host's managed identity endpoints
	creds    string              // instead of credentials
	config   proxy.Config        // beside what every rig has
	tls      *tls.Config         // of the front, which then speaks HTTP/2 too; nil: plain
	judge    func(*gate.Gate) proxy.Gate
}

const credentials = `
credentials:
  default: {token_endpoint: "https://login.test/token", client_id: gw, client_secret: {env: UNUSED}}
`

// newRig serves the routes of text, which may name {upstream} and {ca}.
func newRig(t testing.TB, text string, upstream *httptest.Server) *rig {
	t.Helper()
	return rigging{}.newRig(t, text, upstream)
}

func (o rigging) newRig(t testing.TB, text string, upstream *httptest.Server) *rig {
	t.Helper()
	g := &rig{rigging: o, issuer: &issuer{always: o.always}, events: &events{}, log: &lines{}, dir: t.TempDir()}
	g.events.more.L = &g.events.mu
	t.Cleanup(func() { g.events.explained(t) })
	if g.acquirer == nil {
		g.acquirer = g.issuer
	}
	if g.keys == nil {
		g.keys = keyed{}
	}
	store, err := tokens.New(tokens.Config{Acquirer: g.acquirer, Entries: 100, Memory: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(store.Close)
	log, err := audit.NewLog(io.MultiWriter(t.Output(), g.log), audit.LogConfig{Level: "warn", Format: "json"})
	if err != nil {
		t.Fatal(err)
	}
	cfg := g.config
	cfg.Tokens, cfg.Recorder, cfg.Log = store, g.events, log
	g.handler = proxy.New(cfg)
	t.Cleanup(g.handler.Close)
	for _, err := range g.use(t, text, upstream) {
		t.Fatal(err)
	}
	g.front = httptest.NewUnstartedServer(nil)
	g.front.Config = g.handler.NewServer()
	g.front.Listener = g.handler.Listener(g.front.Listener)
	if g.tls == nil {
		g.front.Start()
	} else {
		g.front.TLS, g.front.EnableHTTP2 = g.tls, true
		g.front.StartTLS()
	}
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
	table, err := routes.Parse("routes.yaml", []byte("version: 1\n"+cmp.Or(g.creds, credentials)+text), func(string) (string, bool) { return "", false })
	if err != nil {
		t.Fatal(err)
	}
	if g.dialer == nil {
		dialer, err := egress.New(egress.Config{})
		if err != nil {
			t.Fatal(err)
		}
		dialer.ForbidHosts(g.identity)
		g.dialer = dialer
	}
	if g.alter != nil {
		g.alter(table)
	}
	var judge proxy.Gate = decided{gate.New(table, g.keys)}
	if g.judge != nil {
		judge = g.judge(gate.New(table, g.keys))
	}
	return g.handler.Use(judge, g.dialer)
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

// get calls path on the reverse door, with headers as name and value in turn,
// and returns the answer and its body.
func (g *rig) get(t testing.TB, path string, headers ...string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequest(http.MethodGet, g.front.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header[headers[i]] = append(req.Header[headers[i]], headers[i+1])
	}
	resp, err := g.client(t, false).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
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
