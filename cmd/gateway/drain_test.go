package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seed-13b04e61/gateway/audit"
	"github.com/seed-13b04e61/gateway/routes"
	"github.com/seed-13b04e61/gateway/sandbox"
)

// logged is a log that can be read while it is written.
type logged struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logged) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// opened is a gateway with a sandbox behind it, in this process. sections are
// added to its routes.yaml, whose listen section is its own.
func opened(t *testing.T, d doors, text string) (*gateway, *logged) {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "routes.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	file, err := routes.Open(path, os.LookupEnv)
	if err != nil {
		t.Fatal(err)
	}
	out := &logged{}
	log, err := audit.NewLog(out, audit.LogConfig{Level: "debug", Format: "json", Access: true})
	if err != nil {
		t.Fatal(err)
	}
	if d.Proxy == "" {
		d.Listen = file.Table().Listen
	}
	g, err := start(file, d, log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Close)
	return g, out
}

// sandboxed is a world, and a credential section that reaches it.
func sandboxed(t *testing.T) (world *sandbox.World, credentials string) {
	t.Helper()
	world, err := sandbox.Start(sandbox.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(world.Close)
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte(world.Secret()), 0o600); err != nil {
		t.Fatal(err)
	}
	return world, fmt.Sprintf("credentials:\n  default: {tenant_id: %s, client_id: %s, authority_host: %q, client_secret: {file: %q}}\n",
		sandbox.TenantDomain, sandbox.ClientID, world.Entra.URL(), secret)
}

const quietPorts = "version: 1\nlisten: {proxy: \"127.0.0.1:0\", admin: \"127.0.0.1:0\"}\n"

// slow is an upstream whose answer ends when the test says so.
func slow(t *testing.T) (url string, began, finish chan struct{}) {
	t.Helper()
	began, finish = make(chan struct{}, 8), make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "first ")
		_ = http.NewResponseController(w).Flush()
		began <- struct{}{}
		select {
		case <-finish:
			_, _ = io.WriteString(w, "last")
		case <-r.Context().Done():
		}
	}))
	t.Cleanup(srv.Close)
	return srv.URL, began, finish
}

func get(url string) (string, error) {
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Get(url)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return fmt.Sprintf("%d %s", resp.StatusCode, body), err
}

func TestDrainEndsCallsUnderWayAndTakesNoMore(t *testing.T) {
	_, credentials := sandboxed(t)
	upstream, began, finish := slow(t)
	g, _ := opened(t, doors{}, quietPorts+credentials+"routes:\n  - {preset: graph, upstream: "+upstream+"}\n")
	answer := make(chan string, 1)
	go func() {
		got, err := get("http://" + shown(g.proxyL) + "/graph/v1.0/users")
		answer <- fmt.Sprint(got, err)
	}()
	<-began
	drained := make(chan error, 1)
	ctx, stop := context.WithCancel(t.Context())
	go func() { drained <- g.run(ctx, orders{}) }()
	stop()
	for g.Ready("", false).Degraded == nil || g.Ready("", false).Degraded[0] != "draining" {
		pause()
	}
	for { // the port closes a moment after
		if _, err := get("http://" + shown(g.proxyL) + "/graph/"); err != nil {
			break
		}
		pause()
	}
	close(finish)
	if got := <-answer; got != "200 first last<nil>" {
		t.Errorf("the call under way got %q, want all of its answer", got)
	}
	if err := <-drained; err != nil {
		t.Errorf("drain: %v", err)
	}
}

func TestDrainCutsWhatDoesNotEndAndSaysSo(t *testing.T) {
	_, credentials := sandboxed(t)
	upstream, began, _ := slow(t)
	g, out := opened(t, doors{}, quietPorts+credentials+"routes:\n  - {preset: graph, upstream: "+upstream+"}\n")
	answer := make(chan error, 1)
	go func() {
		_, err := get("http://" + shown(g.proxyL) + "/graph/v1.0/users")
		answer <- err
	}()
	<-began
	g.patience = 50 * time.Millisecond
	if err := g.drain(0); err == nil || !strings.Contains(err.Error(), "still under way after 50ms and were cut off: 1") {
		t.Errorf("drain: %v, want it to say what was cut", err)
	}
	if err := <-answer; err == nil {
		t.Error("a call that was cut off ended well")
	}
	if s := out.String(); !strings.Contains(s, `"message":"calls were cut off"`) || !strings.Contains(s, `"gateway.drain.calls":1`) {
		t.Errorf("the log says %s, want how many calls were cut", s)
	}
}

func TestDelayIsForLoadBalancers(t *testing.T) {
	tests := []struct {
		name      string
		addresses []string
		want      time.Duration
	}{
		{"loopback and unix", []string{"127.0.0.1:8080", "unix:/run/admin.sock", ""}, 0},
		{"six", []string{"[::1]:8080", "localhost:8081"}, 0},
		{"everywhere", []string{"0.0.0.0:8080", "127.0.0.1:8081"}, drainDelay},
		{"health alone", []string{"127.0.0.1:8080", "", ":8082"}, drainDelay},
	}
	for _, tt := range tests {
		if got := defaultDelay(tt.addresses...); got != tt.want {
			t.Errorf("%s: delay = %s, want %s", tt.name, got, tt.want)
		}
	}
}

func TestAReloadAtTheEndDoesNotBringTheReadyFileBack(t *testing.T) {
	_, credentials := sandboxed(t)
	g, _ := opened(t, doors{}, quietPorts+credentials+"routes:\n  - {preset: graph}\n")
	path := filepath.Join(t.TempDir(), "ready.json")
	drop, err := g.keepReady(path)
	if err != nil {
		t.Fatal(err)
	}
	drop()
	if done := g.engine.Reload(); done.Mistakes != "" {
		t.Fatal(done.Mistakes)
	}
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("the ready file is there after the end: %v", err)
	}
}
