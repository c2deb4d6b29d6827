package proxy_test

import (
	"io"
	"net"
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

// bubble is a gateway that intercepts tunnels to example.com and lets those to
// other.test through, by a clock that does not wait.
type bubble struct {
	front, far *pipes
	events     *events
}

// say sends bytes, and returns what came back until the end and when that was.
func (b *bubble) say(t *testing.T, text string) (string, time.Duration) {
	t.Helper()
	c, err := b.front.DialContext(t.Context(), "", "")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	began := time.Now()
	go func() { _, _ = io.WriteString(c, text) }() // ends with c
	got, _ := io.ReadAll(c)
	return string(got), time.Since(began)
}

func inTunnelBubble(t *testing.T, test func(t *testing.T, b *bubble)) {
	synctest.Test(t, func(t *testing.T) {
		b := &bubble{&pipes{make(chan net.Conn), make(chan struct{})}, &pipes{make(chan net.Conn), make(chan struct{})}, &events{}}
		b.events.more.L = &b.events.mu
		log, err := audit.NewLog(io.Discard, audit.LogConfig{Level: "warn", Format: "json"})
		if err != nil {
			t.Fatal(err)
		}
		table, err := routes.Parse("routes.yaml", []byte("version: 1\n"+credentials+`routes: [{name: api, hosts: [example.com], scope: s}]`),
			func(string) (string, bool) { return "", false })
		if err != nil {
			t.Fatal(err)
		}
		allowing("other.test")(table)
		store, err := tokens.New(tokens.Config{Acquirer: &issuer{}, Entries: 10, Memory: 1 << 20})
		if err != nil {
			t.Fatal(err)
		}
		h := proxy.New(proxy.Config{Tokens: store, Recorder: b.events, Log: log, Certifier: newForger(t)})
		h.Use(decided{gate.New(table, keyed{})}, b.far)
		srv := h.NewServer()
		go func() { _ = srv.Serve(h.Listener(b.front)) }()
		test(t, b)
		_ = srv.Close()
		h.Close()
		store.Close()
	})
}

func TestSlowTunnelsAreEnded(t *testing.T) {
	for name, tt := range map[string]struct {
		text, answer, code string
		want               time.Duration
	}{
		"silent":          {"", "HTTP/1.1 200 Connection Established\r\n\r\n", "slow_request", 10 * time.Second},
		"a byte of TLS":   {"\x16", "HTTP/1.1 200 Connection Established\r\n\r\n", "slow_request", 10 * time.Second},
		"a part of hello": {"\x16\x03\x01\x02\x00", "HTTP/1.1 200 Connection Established\r\n\r\n", "slow_request", 10 * time.Second},
		"a part of HTTP":  {"GET /x HT", "HTTP/1.1 200 Connection Established\r\n\r\n", "", 10 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			inTunnelBubble(t, func(t *testing.T, b *bubble) {
				got, took := b.say(t, "CONNECT example.com:443 HTTP/1.1\r\nHost: x\r\n\r\n"+tt.text)
				if !strings.HasPrefix(got, tt.answer) || took != tt.want {
					t.Errorf("%q and the end after %s, want %q after %s", got, took, tt.answer, tt.want)
				}
				if tt.code == "" {
					return
				}
				if e := b.events.the(1); e.Code != tt.code || e.Method != "CONNECT" || e.Cause == "" {
					t.Errorf("recorded %+v", e)
				}
			})
		})
	}
}

func TestBodyOfAConnectIsNotWaitedForLong(t *testing.T) {
	inTunnelBubble(t, func(t *testing.T, b *bubble) {
		got, took := b.say(t, "CONNECT example.com:443 HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nGET")
		if !strings.HasPrefix(got, "HTTP/1.1 400 ") || !strings.Contains(got, "Connection: close\r\n") || took > 10*time.Second {
			t.Errorf("%.200q and the end after %s", got, took)
		}
	})
}
