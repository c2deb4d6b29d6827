package proxy_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/seed-13b04e61/gateway/proxy"
)

// ReverseProxy writes the status line of a 101 as the upstream worded it.
func TestTokenInTheWordsOfA101DoesNotComeBack(t *testing.T) {
	sent := make(chan string, 1)
	g := rigging{acquirer: &distinct{}, alter: websockets}.newRig(t, plain, newUpstream(t, false, func(w http.ResponseWriter, r *http.Request) {
		c, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer c.Close()
		sent <- bearer(r)
		_, _ = io.WriteString(c, "HTTP/1.1 101 "+bearer(r)+"\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
	}))
	got := g.raw(t, "GET /api/socket HTTP/1.1\r\nHost: localhost\r\n"+handshake)
	if !strings.HasPrefix(got, "HTTP/1.1 101 ") {
		t.Fatalf("got %.100q, want the switch", got)
	}
	if token := <-sent; token == "" || strings.Contains(got, token[len(token)-43:]) {
		t.Error("the token came back")
	}
}

func TestTokenIsLookedForHoweverOftenAnotherWasSent(t *testing.T) {
	for times := range 20 {
		if !proxy.LookedFor(distinctToken(2), distinctToken(1), times) {
			t.Fatalf("after %d sendings of another token, this one may come back", times)
		}
	}
}

func TestTokenInTheNameOfARequestIsNotRecorded(t *testing.T) {
	const token = "a-short-opaque-token-of-another-server"
	g := rigging{always: token}.newRig(t, plain, newUpstream(t, false, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Ms-Request-Id", bearer(r))
	}))
	g.get(t, "/api/x")
	if e := g.events.the(1); e.Code != "token_reflected" || strings.Contains(fmt.Sprintf("%+v", e), token) {
		t.Errorf("recorded %+v", e)
	}
}
