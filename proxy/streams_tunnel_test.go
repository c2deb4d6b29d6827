package proxy_test

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/seed-13b04e61/gateway/proxy"
)

func TestWebSocketPassesInATunnelAndEndsWithADrain(t *testing.T) {
	d := digging(t, rigging{alter: websockets}, plain, switching(echoFrames))
	c := d.secure(t, "example.com", d.ca.trust("example.com", "http/1.1"))
	// A page may ask for it: no page can have a browser open tunnels.
	if _, err := io.WriteString(c, "GET /socket HTTP/1.1\r\nHost: example.com\r\nOrigin: https://example.org\r\n"+handshake+frame{1, "abcd", "hello"}.String()); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(c)
	resp, err := http.ReadResponse(r, nil)
	if err != nil || resp.StatusCode != 101 {
		t.Fatalf("%v, %v; want 101", resp, err)
	}
	if f, err := readFrame(r); err != nil || f.payload != "hello" {
		t.Fatalf("got %+v, %v", f, err)
	}
	d.await(t, func(n proxy.InFlight) bool { return n.Upgraded == 1 && n.Tunnels == 1 })
	done := make(chan error, 1)
	go func() { done <- d.handler.Shutdown(t.Context()) }()
	if f, err := readFrame(r); err != nil || f.opcode != 8 || !strings.HasPrefix(f.payload, "\x03\xe9") {
		t.Errorf("got %+v, %v; want a close frame with 1001", f, err)
	}
	c.Close()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if e := d.events.the(1); e.Status != 101 || e.Door != "tunnel" {
		t.Errorf("recorded %d at %s", e.Status, e.Door)
	}
}

func TestStreamsPassInTunnels(t *testing.T) {
	for _, h2 := range []bool{false, true} {
		d := digging(t, rigging{}, plain, parrot)
		pr, pw := io.Pipe()
		req, err := http.NewRequest(http.MethodPost, "https://example.com/x", pr)
		if err != nil {
			t.Fatal(err)
		}
		go func() { _, _ = io.WriteString(pw, "message 00") }()
		resp, err := d.through(t, nil, h2).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		for i := range 20 {
			got := make([]byte, 10)
			if _, err := io.ReadFull(resp.Body, got); err != nil || string(got) != fmt.Sprintf("message %02d", i) {
				t.Fatalf("h2 %v: got %q, %v", h2, got, err)
			}
			if _, err := fmt.Fprintf(pw, "message %02d", i+1); err != nil {
				t.Fatal(err)
			}
		}
		_ = pw.Close()
		_, _ = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
	}
}

func TestAnswersInTunnelsKeepWhatIsTheHostsOwn(t *testing.T) {
	d := digging(t, rigging{alter: rewriting}, plain, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/echo" {
			_, _ = io.WriteString(w, bearer(r))
			return
		}
		for name, v := range map[string]string{"Strict-Transport-Security": "max-age=1", "Alt-Svc": `h3=":443"`, "Location": "https://example.com/y",
			"Set-Cookie": "FedAuth=1", "Content-Type": "application/json"} {
			w.Header().Set(name, v)
		}
		_, _ = io.WriteString(w, `"https://example.com/z"`)
	})
	for _, h2 := range []bool{false, true} {
		client := d.through(t, nil, h2)
		resp, err := client.Get("https://example.com/x")
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		h := resp.Header
		if err != nil || string(b) != `"https://example.com/z"` || h.Get("Strict-Transport-Security") == "" || h.Get("Alt-Svc")+h.Get("Set-Cookie") != "" || h.Get("Location") != "https://example.com/y" {
			t.Errorf("h2 %v: %s, %v with %v", h2, b, err, h)
		}
		resp, err = client.Get("https://example.com/echo")
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != 502 || resp.Header.Get("Gateway-Error") != "token_reflected" {
			t.Errorf("h2 %v: an echo got %s", h2, resp.Status)
		}
	}
}
