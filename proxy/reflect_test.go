package proxy_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed-13b04e61/gateway/proxy"
	"github.com/seed-13b04e61/gateway/secrets"
	"github.com/seed-13b04e61/gateway/tokens"
)

// distinct issues tokens that end in different ways, as signatures do.
type distinct struct{ issued atomic.Int64 }

func (d *distinct) Acquire(context.Context, tokens.Key, string) (tokens.Token, error) {
	n := d.issued.Add(1)
	return tokens.Token{Access: secrets.New(distinctToken(int(n))), Expires: time.Now().Add(time.Hour)}, nil
}

func distinctToken(n int) string {
	return fmt.Sprintf("token-%d.%s.%043d", n, strings.Repeat("p4yload-", 100), n)
}

// bearer is the token that came with r.
func bearer(r *http.Request) string {
	return strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
}

func TestTokenThatIsSentBackIsHeldBack(t *testing.T) {
	text := func(w http.ResponseWriter, s string) {
		w.Header().Set("Content-Length", fmt.Sprint(len(s)))
		_, _ = io.WriteString(w, s)
	}
	for _, tt := range []struct {
		name string
		h    http.HandlerFunc
		want string // status and code, or "cut"
	}{
		{"in a field", func(w http.ResponseWriter, r *http.Request) { w.Header().Set("X-Echo", r.Header.Get("Authorization")) }, "502 token_reflected"},
		{"in a small body", func(w http.ResponseWriter, r *http.Request) { text(w, "you sent "+bearer(r)+"!") }, "502 token_reflected"},
		{"its signature alone", func(w http.ResponseWriter, r *http.Request) { text(w, bearer(r)[len(bearer(r))-43:]) }, "502 token_reflected"},
		{"in a large body", func(w http.ResponseWriter, r *http.Request) {
			text(w, strings.Repeat("x", 500_000)+bearer(r)+strings.Repeat("y", 500_000))
		}, "cut"},
		{"in a stream, in pieces", func(w http.ResponseWriter, r *http.Request) {
			for _, c := range "data: " + bearer(r) + "\n\n" {
				_, _ = io.WriteString(w, string(c))
				w.(http.Flusher).Flush()
			}
		}, "cut"},
		{"in a trailer", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Trailer", "X-Echo")
			_, _ = io.WriteString(w, "body")
			w.(http.Flusher).Flush()
			w.Header().Set("X-Echo", bearer(r))
		}, "cut"},
		{"that was refused before", func(w http.ResponseWriter, r *http.Request) {
			if bearer(r) == distinctToken(1) {
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			text(w, "before, you sent "+distinctToken(1))
		}, "502 token_reflected"},
		{"in a 401 that stays one", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("WWW-Authenticate", `Bearer error_description="bad token `+bearer(r)+`"`)
			w.WriteHeader(http.StatusUnauthorized)
		}, "502 token_reflected"},
		{"in a field of a 101", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Upgrade", "websocket")
			w.Header().Set("Connection", "Upgrade")
			w.Header().Set("X-Echo", bearer(r))
			w.WriteHeader(http.StatusSwitchingProtocols)
		}, "502 token_reflected"},
		{"another's token", func(w http.ResponseWriter, r *http.Request) { text(w, distinctToken(99)) }, "200 "},
		{"all but its signature", func(w http.ResponseWriter, r *http.Request) { text(w, bearer(r)[:len(bearer(r))-1]) }, "200 "},
		{"encoded, which nobody looks into", func(w http.ResponseWriter, r *http.Request) {
			text(w, base64.StdEncoding.EncodeToString([]byte(bearer(r))))
		}, "200 "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, target := range []string{"/api/x", "http://example.com/x"} {
				g := rigging{acquirer: &distinct{}, alter: websockets}.newRig(t, plain, newUpstream(t, false, tt.h))
				request := "GET " + target + " HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
				if strings.Contains(tt.name, "101") {
					request = "GET " + target + " HTTP/1.1\r\nHost: localhost\r\n" + handshake
				}
				got := g.raw(t, request)
				for n := 1; n <= 2; n++ {
					if end := distinctToken(n)[len(distinctToken(n))-43:]; strings.Contains(got, end) {
						t.Fatalf("%s: token %d came back", target, n)
					}
				}
				e := g.events.the(1)
				if tt.want == "cut" {
					if whole := strings.HasSuffix(got, "0\r\n\r\n") || strings.Contains(got, "yyy"); whole || !strings.Contains(got, " 200 ") || e.Code != "token_reflected" || e.Remedy == "" {
						t.Errorf("%s: %d bytes, whole: %v, recorded %s; want an answer that is cut off, token_reflected", target, len(got), whole, e.Code)
					}
					continue
				}
				if code := fmt.Sprint(e.Status, " ", e.Code); code != tt.want || !strings.Contains(got, " "+tt.want[:3]+" ") {
					t.Errorf("%s: %s, recorded %s; want %s", target, got[:min(len(got), 300)], code, tt.want)
				}
			}
		})
	}
}

func TestEarlyHintsPassWithoutTokenAndWithoutWhatIsTheGateways(t *testing.T) {
	for _, tt := range []struct{ name, link, want string }{
		{"harmless", "</style.css>; rel=preload", "103 Early Hints\r\nLink: </style.css>; rel=preload\r\n"},
		{"with the token", "token", "103 Early Hints\r\n\r\n"},
	} {
		g := newRig(t, plain, newUpstream(t, false, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Link", strings.Replace(tt.link, "token", "<"+bearer(r)+">", 1))
			w.Header().Set("Gateway-Error", "forged")
			w.Header().Set("Alt-Svc", "h3=:443")
			w.WriteHeader(http.StatusEarlyHints)
			clear(w.Header())
			_, _ = io.WriteString(w, "body")
		}))
		got := g.raw(t, "GET http://example.com/x HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
		early, rest, _ := strings.Cut(got, "HTTP/1.1 200")
		if !strings.Contains(early, tt.want) || strings.Contains(early, "Alt-Svc") || strings.Contains(early, "Gateway-Error") || !strings.HasSuffix(rest, "body") {
			t.Errorf("%s: got %q, want %q and the answer", tt.name, got, tt.want)
		}
	}
}

func TestGuardKeepsBackOnlyWhatMayBeTheBeginningOfAToken(t *testing.T) {
	more := make(chan string)
	g := newRig(t, plain, newUpstream(t, false, func(w http.ResponseWriter, r *http.Request) {
		end := bearer(r)[len(bearer(r))-43:]
		for s := range more {
			_, _ = io.WriteString(w, strings.ReplaceAll(s, "{", end[:20]))
			w.(http.Flusher).Flush()
		}
	}))
	go func() { more <- "data: 1\n\n" }()
	resp, err := g.client(t, false).Get(g.front.URL + "/api/x")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	read := func(want string) {
		t.Helper()
		b := make([]byte, len(want))
		if _, err := io.ReadFull(resp.Body, b); err != nil || string(b) != want {
			t.Fatalf("got %q, %v; want %q", b, err, want)
		}
	}
	read("data: 1\n\n") // though nothing comes after it yet
	more <- "data: {\n\n"
	read("data: ")
	read(("sigNature-" + "sigNature-" + "sigNature-")[7:27] + "\n\n")
	more <- "data: {"
	read("data: ")
	close(more)
	read(("sigNature-" + "sigNature-" + "sigNature-")[7:27])
	if _, err := resp.Body.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("%v after all, want the end", err)
	}
}

func FuzzGuardChangesNothingElse(f *testing.F) {
	f.Add("abab", "xxabaabababyy", uint8(1))
	f.Add("aaaaaaaaaaaaaaab", "aaaaaaaaaaaaaaaaaaaaaaaaaac", uint8(3))
	f.Fuzz(func(t *testing.T, token, body string, chunk uint8) {
		token = strings.Repeat(token+"-", 16/(len(token)+1)+1)
		if len(token) > 43 {
			token = token[len(token)-43:]
		}
		got, cut := proxy.Guarded(token, body, int(chunk)+1)
		if want := strings.Contains(body, token); want != cut {
			t.Fatalf("cut off: %v, want %v", cut, want)
		}
		if !cut && got != body || !strings.HasPrefix(body, got) {
			t.Fatalf("%q became %q", body, got)
		}
	})
}
