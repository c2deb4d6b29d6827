package bench_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seed-13b04e61/gateway/audit"
	"github.com/seed-13b04e61/gateway/egress"
	"github.com/seed-13b04e61/gateway/gate"
	"github.com/seed-13b04e61/gateway/proxy"
	"github.com/seed-13b04e61/gateway/routes"
	"github.com/seed-13b04e61/gateway/secrets"
	"github.com/seed-13b04e61/gateway/tokens"
)

type issuer struct{}

var token = strings.Repeat("t", 1600)

func (issuer) Acquire(context.Context, tokens.Key, string) (tokens.Token, error) {
	return tokens.Token{Access: secrets.New(token), Expires: time.Now().Add(time.Hour)}, nil
}

type keys struct{}

func (keys) Key(c *routes.Credential, scope string) tokens.Key {
	return tokens.Key{Authority: "https://login.test/t/oauth2/v2.0/token", Tenant: "t", Credential: c.Name, Fingerprint: "f", Scope: scope}
}

type quiet struct{}

func (quiet) Debug(string, ...any) {}
func (quiet) Warn(string, ...any)  {}
func (quiet) Error(string, ...any) {}

// apiKey is that of the caller "job", and its SHA-256 is in guarded.
const apiKey = "bm90LWEtc2VjcmV0LWJ1dC1hLWJlbmNobWFyay1rZXk"

// guarded are sections of a table in which nobody is anonymous, and rules judge.
var guarded = fmt.Sprintf(`    callers: [job]
    allow: [{methods: [GET, POST], paths: ["/v1.0/users/**"]}]
callers:
  job: {api_key: {sha256: "%x"}}
`, sha256.Sum256([]byte(apiKey)))

// gateway is the whole pipeline with access lines and metrics, and what else
// the route has.
func gateway(b *testing.B, upstream, more string) http.Handler {
	b.Helper()
	store, err := tokens.New(tokens.Config{Acquirer: issuer{}, Entries: 100, Memory: 1 << 20})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(store.Close)
	log, err := audit.NewLog(io.Discard, audit.LogConfig{Level: "info", Format: "json", Access: true})
	if err != nil {
		b.Fatal(err)
	}
	metrics := audit.NewMetrics("bench", func() audit.State { return audit.State{} })
	who := gate.NewIdentifier(gate.IdentifierOptions{})
	h := proxy.New(proxy.Config{Tokens: store, Recorder: audit.Recorders{log, metrics}, Log: quiet{}, Identifier: who})
	text := fmt.Sprintf(`version: 1
credentials:
  c: {token_endpoint: "https://login.test/token", client_id: x, client_secret: {env: UNUSED}}
routes:
  - name: api
    hosts: [api.test]
    scope: s
    upstream: %q
%s`, upstream, more)
	table, err := routes.Parse("routes.yaml", []byte(text), func(string) (string, bool) { return "", false })
	if err != nil {
		b.Fatal(err)
	}
	dialer, err := egress.New(egress.Config{})
	if err != nil {
		b.Fatal(err)
	}
	if errs := who.Use(table); len(errs) > 0 {
		b.Fatal(errs)
	}
	h.Use(gate.New(table, keys{}), dialer)
	return h
}

type pool struct{ sync.Pool }

func (p *pool) Get() []byte {
	if v, ok := p.Pool.Get().(*[]byte); ok {
		return *v
	}
	return make([]byte, 32<<10)
}
func (p *pool) Put(b []byte) { p.Pool.Put(&b) }

// bare is ReverseProxy with the gateway's transport and a static header: the
// floor for a program built on it.
func bare(b *testing.B, upstream string) http.Handler {
	b.Helper()
	u, err := url.Parse(upstream)
	if err != nil {
		b.Fatal(err)
	}
	value := []string{"Bearer " + token}
	d := &net.Dialer{}
	return &httputil.ReverseProxy{
		Rewrite: func(pr *httputil.ProxyRequest) {
			pr.Out.URL.Scheme, pr.Out.URL.Host = u.Scheme, u.Host
			pr.Out.Header["Authorization"] = value
		},
		BufferPool: &pool{},
		Transport: &http.Transport{DialContext: d.DialContext, ForceAttemptHTTP2: true, MaxIdleConnsPerHost: 256, DisableCompression: true,
			IdleConnTimeout: 90 * time.Second, WriteBufferSize: 32 << 10, ReadBufferSize: 32 << 10, ResponseHeaderTimeout: 120 * time.Second},
	}
}

// BenchmarkCall measures whole calls over loopback, gateway and bare in turn.
func BenchmarkCall(b *testing.B) {
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, `{"displayName":"Adele Vance","id":"87d349ed-44d7-43e1-9a83-5f2406dee5bd"}`)
	}))
	defer upstream.Close()
	for _, size := range []int{0, 16 << 10} {
		body := bytes.Repeat([]byte("x"), size)
		for name, h := range map[string]http.Handler{
			"gateway":              gateway(b, upstream.URL, ""),
			"gateway with callers": gateway(b, upstream.URL, guarded),
			"bare":                 bare(b, upstream.URL),
		} {
			b.Run(fmt.Sprintf("%s/body=%d", name, size), func(b *testing.B) {
				front := httptest.NewServer(h)
				defer front.Close()
				client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
				defer client.CloseIdleConnections()
				b.ReportAllocs()
				b.RunParallel(func(pb *testing.PB) {
					for pb.Next() {
						req, err := http.NewRequest(http.MethodPost, front.URL+"/api/v1.0/users", bytes.NewReader(body))
						if err != nil {
							b.Error(err)
							return
						}
						req.Header["Content-Type"] = []string{"application/json"}
						req.Header["X-Gateway-Authorization"] = []string{"Bearer " + apiKey}
						resp, err := client.Do(req)
						if err != nil {
							b.Error(err)
							return
						}
						_, _ = io.Copy(io.Discard, resp.Body)
						resp.Body.Close()
						if resp.StatusCode != http.StatusOK {
							b.Errorf("status %d", resp.StatusCode)
							return
						}
					}
				})
			})
		}
	}
}
