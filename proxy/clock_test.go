package proxy_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-13b04e61/gateway/audit"
	"github.com/seed-13b04e61/gateway/gate"
	"github.com/seed-13b04e61/gateway/proxy"
	"github.com/seed-13b04e61/gateway/routes"
	"github.com/seed-13b04e61/gateway/tokens"
)

// pipes is a listener and its dialer without a network, for a bubble's clock.
type pipes struct {
	conns chan net.Conn
	done  chan struct{}
}

func (p *pipes) DialContext(ctx context.Context, _, _ string) (net.Conn, error) {
	near, far := net.Pipe()
	select {
	case p.conns <- far:
		return near, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { close(p.done); return nil }
func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipes"} }

// inBubble runs test with a gateway and an upstream that share the bubble's
// clock.
func inBubble(t *testing.T, alter func(*routes.Table), upstream http.HandlerFunc, test func(h http.Handler, log *lines)) {
	synctest.Test(t, func(t *testing.T) {
		p := &pipes{make(chan net.Conn), make(chan struct{})}
		srv := &http.Server{Handler: upstream}
		go func() { _ = srv.Serve(p) }()
		store, err := tokens.New(tokens.Config{Acquirer: &issuer{}, Entries: 10, Memory: 1 << 20})
		if err != nil {
			t.Fatal(err)
		}
		out := &lines{}
		log, err := audit.NewLog(io.MultiWriter(t.Output(), out), audit.LogConfig{Level: "warn", Format: "json"})
		if err != nil {
			t.Fatal(err)
		}
		h := proxy.New(proxy.Config{Tokens: store, Recorder: audit.Recorders{}, Log: log})
		table, err := routes.Parse("routes.yaml", []byte("version: 1\n"+credentials+`routes: [{name: api, hosts: [example.com], scope: s, upstream: "http://127.0.0.1:9"}]`),
			func(string) (string, bool) { return "", false })
		if err != nil {
			t.Fatal(err)
		}
		alter(table)
		h.Use(gate.New(table, keyed{}), p)
		test(h, out)
		h.Close()
		store.Close()
		_ = srv.Close()
	})
}

func call(h http.Handler) int {
	r := httptest.NewRequest(http.MethodGet, "/api/x", nil)
	r.Host = "localhost"
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Code
}

func TestRemarkIsRepeatedInTheLogAfterAMinute(t *testing.T) {
	inBubble(t, devOps, func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusNonAuthoritativeInfo) },
		func(h http.Handler, log *lines) {
			for i, want := range []int{1, 1, 1, 2, 2, 2, 3} { // at 0 s, 20 s, 40 s, …
				if status := call(h); status != http.StatusNonAuthoritativeInfo {
					t.Errorf("call %d: status %d, want 203", i, status)
				}
				if n := strings.Count(log.String(), "not authenticated"); n != want {
					t.Errorf("after call %d: %d remarks in the log, want %d", i, n, want)
				}
				time.Sleep(20 * time.Second)
			}
		})
}

func TestEachAttemptIsDatedAsItIsSent(t *testing.T) {
	var dates []string
	inBubble(t, cosmos, func(w http.ResponseWriter, r *http.Request) {
		dates = append(dates, r.Header.Get("X-Ms-Date"))
		if len(dates) == 1 {
			time.Sleep(5 * time.Second) // an upstream that takes its time to refuse
			w.WriteHeader(http.StatusUnauthorized)
		}
	}, func(h http.Handler, _ *lines) {
		if status := call(h); status != http.StatusOK {
			t.Errorf("status %d, want 200 by the second try", status)
		}
	})
	// A bubble's clock begins there.
	if got, want := strings.Join(dates, " | "), "Sat, 01 Jan 2000 00:00:00 GMT | Sat, 01 Jan 2000 00:00:05 GMT"; got != want {
		t.Errorf("dates %s, want %s", got, want)
	}
}
