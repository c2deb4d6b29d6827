package proxy_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seed-13b04e61/gateway/audit"
	"github.com/seed-13b04e61/gateway/gate"
	"github.com/seed-13b04e61/gateway/proxy"
	"github.com/seed-13b04e61/gateway/routes"
)

// The key of the caller "job", and how it is shown.
const (
	key   = "k3y-0f-j0b"
	basic = "Basic am9iOmszeS0wZi1qMGI="
)

// porter knows "job" by its key, shown where each door takes it.
type porter struct {
	mu   sync.Mutex // guards seen
	seen []gate.Evidence
	name string // instead of "job"
}

func (p *porter) Identify(_ context.Context, e gate.Evidence) (*routes.Caller, error) {
	if e.UID != nil {
		_, _ = e.UID() // kept for whoever asks later
	}
	p.mu.Lock()
	p.seen = append(p.seen, e)
	p.mu.Unlock()
	fields := []string{"Proxy-Authorization"}
	if e.Door == audit.Reverse {
		fields = []string{"X-Gateway-Authorization", "Authorization"}
	}
	for _, f := range fields {
		for _, v := range e.Header[f] {
			if v == basic || v == "Bearer "+key && f != "Authorization" {
				if p.name != "" {
					return &routes.Caller{Name: p.name}, nil
				}
				return &routes.Caller{Name: "job"}, nil
			}
		}
	}
	return nil, &gate.Refusal{Code: gate.CallerUnknown, Detail: "no caller is known by this", Cause: "the key is not that of job", RetryAfter: 0}
}

// asked is the evidence of all calls so far.
func (p *porter) asked() []gate.Evidence {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]gate.Evidence(nil), p.seen...)
}

func withCallers(table *routes.Table) { table.Callers = []*routes.Caller{{Name: "job"}} }

// guarded is a rig whose table has callers.
func guarded(p proxy.Identifier) rigging {
	return rigging{alter: withCallers, config: proxy.Config{Identifier: p}}
}

func TestNoSpellingOfACallersCredentialReachesTheUpstream(t *testing.T) {
	var mu sync.Mutex
	var arrived []string
	g := guarded(&porter{}).newRig(t, plain, newUpstream(t, false, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		all, _ := json.Marshal([]any{r.Header, r.Trailer})
		mu.Lock()
		arrived = append(arrived, string(all))
		mu.Unlock()
		_, _ = io.WriteString(w, number2(r))
	}))
	doors := map[string]string{
		"/api/x":               "Host: localhost\r\nX-Gateway-Authorization: Bearer " + key + "\r\n",
		"/api/basic":           "Host: localhost\r\nAuthorization: " + basic + "\r\n",
		"http://example.com/x": "Host: example.com\r\nProxy-Authorization: " + basic + "\r\n",
		"HTTP://EXAMPLE.com/y": "Host: evil.test\r\nProxy-Authorization: Bearer " + key + "\r\n",
	}
	for target, proof := range doors {
		for _, alias := range []string{
			"X-None: 1\r\n",
			"proxy-authorization: " + basic + "\r\nPROXY-AUTHORIZATION: " + basic + "\r\n",
			"Proxy_Authorization: " + basic + "\r\n",
			"Proxy-Authorization_: " + basic + "\r\n",
			"X_Gateway_Authorization: " + basic + "\r\n",
			"X-Gateway_Authorization: " + basic + "\r\n",
			"x-gateway-authorization: " + basic + "\r\nX-GATEWAY-AUTHORIZATION: Bearer " + key + "\r\n",
			"AUTHORIZATION: " + basic + "\r\nauthorization: Bearer " + key + "\r\n",
			"Authorization: " + basic + "\r\n\tBearer " + key + "\r\n",
			"_Authorization: " + basic + "\r\nAuthorization_: " + basic + "\r\n",
			"Connection: Proxy-Authorization, Authorization, X-Gateway-Authorization\r\n",
			"Connection: X-Gateway-Authorization\r\nConnection: Authorization\r\n",
			"Proxy-Connection: Proxy-Authorization\r\n",
			"Gateway-Authorization: " + basic + "\r\n",
			"X-Forwarded-Authorization: " + basic + "\r\n",
		} {
			got := g.raw(t, "GET "+target+" HTTP/1.1\r\n"+proof+alias+"Connection: close\r\n\r\n")
			if !strings.HasPrefix(got, "HTTP/1.1 200 ") || !strings.HasSuffix(got, "\r\n\r\n1") {
				t.Errorf("%s with %q: %.300s", target, alias, got)
			}
			trailers := "Transfer-Encoding: chunked\r\nTrailer: Authorization, Proxy-Authorization, X-Gateway-Authorization\r\nConnection: close\r\n\r\n" +
				"1\r\nx\r\n0\r\n" + "X-Gateway-Authorization: " + basic + "\r\nProxy-Authorization: Bearer " + key + "\r\nAuthorization: " + basic + "\r\n\r\n"
			got = g.raw(t, "POST "+target+" HTTP/1.1\r\n"+proof+alias+trailers)
			if !strings.HasPrefix(got, "HTTP/1.1 200 ") && !strings.HasPrefix(got, "HTTP/1.1 400 ") {
				t.Errorf("%s with %q and trailers: %.300s", target, alias, got)
			}
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if len(arrived) < 60 {
		t.Fatalf("%d calls arrived; the test lost its point", len(arrived))
	}
	for _, a := range arrived {
		if strings.Contains(a, key) || strings.Contains(a, basic[6:]) {
			t.Errorf("the upstream saw the caller's key: %.300s", a)
		}
	}
}

// number2 is the number of the one token in r's Authorization, 0 if there are more.
func number2(r *http.Request) string {
	if len(r.Header["Authorization"]) != 1 {
		return "0"
	}
	return fmt.Sprint(number(r.Header.Get("Authorization")))
}

// exchange sends one request on an open connection and reads its answer.
func exchange(t *testing.T, c net.Conn, r *bufio.Reader, request string) *http.Response {
	t.Helper()
	if err := c.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(c, request); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatalf("%.80q: %v", request, err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body = io.NopCloser(strings.NewReader(string(body)))
	return resp
}

func TestStrangerIsAskedWhoItIsAndKeepsItsConnection(t *testing.T) {
	g := guarded(&porter{}).newRig(t, plain, newUpstream(t, false, echo))
	c, err := net.Dial("tcp", g.front.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	r := bufio.NewReader(c)
	small := "Content-Length: 5\r\n\r\nsmall"
	for _, tt := range []struct{ name, request, want string }{
		{"forward", "GET http://example.com/x HTTP/1.1\r\nHost: x\r\n\r\n", `407 caller_unknown [Basic realm="gateway" Bearer] []`},
		{"forward, bad key", "GET http://example.com/x HTTP/1.1\r\nHost: x\r\nProxy-Authorization: Basic eDp5\r\n\r\n", `407 caller_unknown [Basic realm="gateway" Bearer] []`},
		{"forward, by the other door's field", "GET http://example.com/x HTTP/1.1\r\nHost: x\r\nX-Gateway-Authorization: " + basic + "\r\n\r\n", `407 caller_unknown [Basic realm="gateway" Bearer] []`},
		{"forward, with a body", "POST http://example.com/x HTTP/1.1\r\nHost: x\r\n" + small, `407 caller_unknown [Basic realm="gateway" Bearer] []`},
		{"forward, host without a route", "GET http://other.test/x HTTP/1.1\r\nHost: x\r\n\r\n", `407 caller_unknown [Basic realm="gateway" Bearer] []`},
		{"tunnel", "CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\n\r\n", `407 caller_unknown [Basic realm="gateway" Bearer] []`},
		{"tunnel, known", "CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\nProxy-Authorization: " + basic + "\r\n\r\n", `501 not_supported [] []`},
		{"reverse", "GET /api/x HTTP/1.1\r\nHost: localhost\r\n\r\n", `401 caller_unknown [] [Basic realm="gateway"]`},
		{"reverse, with a body", "POST /api/x HTTP/1.1\r\nHost: localhost\r\n" + small, `401 caller_unknown [] [Basic realm="gateway"]`},
		{"reverse, nothing mounted", "GET /none HTTP/1.1\r\nHost: localhost\r\n\r\n", `401 caller_unknown [] [Basic realm="gateway"]`},
		{"reverse, a foreign host", "GET /api/x HTTP/1.1\r\nHost: evil.test\r\n\r\n", `421 misdirected [] []`},
		{"forward, known", "GET http://example.com/x HTTP/1.1\r\nHost: x\r\nProxy-Authorization: " + basic + "\r\n\r\n", `200  [] []`},
		{"reverse, known", "POST /api/x HTTP/1.1\r\nHost: localhost\r\nAuthorization: " + basic + "\r\n" + small, `200  [] []`},
	} {
		resp := exchange(t, c, r, tt.request)
		got := fmt.Sprint(resp.StatusCode, " ", resp.Header.Get("Gateway-Error"), " ", resp.Header["Proxy-Authenticate"], " ", resp.Header["Www-Authenticate"])
		if got != tt.want || resp.Close {
			t.Errorf("%s: %s (closed: %v), want %s on an open connection", tt.name, got, resp.Close, tt.want)
		}
		if body, _ := io.ReadAll(resp.Body); strings.Contains(string(body), "not that of job") {
			t.Errorf("%s: the answer says why the proof was not believed: %s", tt.name, body)
		}
	}
	if e := g.events.the(2); !strings.HasSuffix(e.Cause, ": the key is not that of job") || e.Caller != "" {
		t.Errorf("cause %q, caller %q; the log should say why", e.Cause, e.Caller)
	}
	if e := g.events.the(13); e.Caller != "job" || e.Door != audit.Reverse {
		t.Errorf("caller %q at door %q, want job at the reverse door", e.Caller, e.Door)
	}
	resp := exchange(t, c, r, "POST /api/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999\r\n\r\n")
	if resp.StatusCode != 401 || !resp.Close {
		t.Errorf("a large body gave %d, closed: %v; want 401 and the end of the connection", resp.StatusCode, resp.Close)
	}
}

func TestTableWithCallersLetsNobodyInUnknown(t *testing.T) {
	for name, i := range map[string]proxy.Identifier{
		"nobody identifies":         nil,
		"the identifier is unsure":  unsure{},
		"a caller of another table": &porter{name: "gone"},
	} {
		t.Run(name, func(t *testing.T) {
			var calls int
			g := guarded(i).newRig(t, plain, newUpstream(t, false, func(http.ResponseWriter, *http.Request) { calls++ }))
			resp, _ := g.get(t, "/api/x", "Authorization", basic)
			if resp.StatusCode != 401 || resp.Header.Get("Gateway-Error") != "caller_unknown" || calls != 0 {
				t.Errorf("got %d %s and %d calls upstream, want 401 and none", resp.StatusCode, resp.Header.Get("Gateway-Error"), calls)
			}
		})
	}
}

// unsure knows nobody and refuses nobody.
type unsure struct{}

func (unsure) Identify(context.Context, gate.Evidence) (*routes.Caller, error) { return nil, nil }

func TestTableWithoutCallersAsksNobody(t *testing.T) {
	p := &porter{}
	g := rigging{config: proxy.Config{Identifier: p}}.newRig(t, plain, newUpstream(t, false, echo))
	if resp, _ := g.get(t, "/api/x", "Authorization", basic); resp.StatusCode != 200 || len(p.asked()) != 0 {
		t.Errorf("got %d, and the identifier was asked %d times; want 200 and never", resp.StatusCode, len(p.asked()))
	}
}

func TestEvidenceNamesThePeerAndAsksTheKernelOnce(t *testing.T) {
	p := &porter{}
	g := guarded(p).newRig(t, plain, newUpstream(t, false, echo))
	client := g.client(t, false)
	for range 2 {
		req, err := http.NewRequest(http.MethodGet, g.front.URL+"/api/x", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", basic)
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
	}
	seen := p.asked()
	if len(seen) != 2 || seen[0].Source != netip.MustParseAddr("127.0.0.1") || seen[0].TLS != nil || seen[0].Header.Get("Authorization") != basic {
		t.Fatalf("evidence %+v", seen)
	}
	checkUID(t, seen[0], seen[1])
}
