package proxy_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
)

// echo answers with what it saw.
func echo(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Gateway-Error", "forged")
	w.Header().Set("Alt-Svc", "h3=:443")
	w.Header().Set("Strict-Transport-Security", "max-age=1")
	w.Header()["Set-Cookie"] = []string{"FedAuth=secret", "ARRAffinity=a1"}
	w.Header().Set("Location", "https://example.com/next?x=1")
	h := r.Header.Clone()
	for i, v := range h["Authorization"] {
		if number(v) != 0 {
			h["Authorization"][i] = "ours" // or the answer would be held back
		}
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"uri": r.RequestURI, "host": r.Host, "header": h, "token": number(r.Header.Get("Authorization"))})
}

type echoed struct {
	URI, Host string
	Header    http.Header
	Token     int
}

func TestQueryAndPathLeaveAsTheyCame(t *testing.T) {
	g := newRig(t, plain, newUpstream(t, false, echo))
	for _, target := range []string{
		"/v1.0/users?$expand=members($select=id;$top=5)&$top=3", "/v1.0/users?$filter=startswith(displayName,'a%zz')&$select=id",
		"/v1.0/users?a=1;b=2&&=&%24select=%zz", "/a%2Fb/c%2f..;x=1/d", "/v1.0/users('x|y')?q=\"a\"", "//double//slash", "/%7Euser/~user?", "/ü/%C3%BC?ü=1", "/",
	} {
		for _, door := range []string{"/api" + target, "http://example.com" + target} {
			got := g.raw(t, "GET "+door+" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
			_, body, _ := strings.Cut(got, "\r\n\r\n")
			var e echoed
			if i := strings.IndexByte(body, '{'); i >= 0 {
				body = body[i:]
			}
			if err := json.NewDecoder(strings.NewReader(body)).Decode(&e); err != nil || e.URI != target || e.Token != 1 || e.Host != "example.com" {
				t.Errorf("%s arrived as %q at %q with token %d (%v): %.200s", door, e.URI, e.Host, e.Token, err, got)
			}
		}
	}
}

func TestRefusalsOfTheDoors(t *testing.T) {
	g := newRig(t, plain, newUpstream(t, false, echo))
	tests := []struct{ name, request, want string }{
		{"CONNECT", "CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\n\r\n", "501 not_supported"},
		{"CONNECT by path", "CONNECT /api/x HTTP/1.1\r\nHost: localhost\r\n\r\n", "400 bad_request"},
		{"TRACE", "TRACE /api/x HTTP/1.1\r\nHost: localhost\r\n\r\n", "405 method_refused"},
		{"foreign Host", "GET /api/x HTTP/1.1\r\nHost: evil.test\r\n\r\n", "421 misdirected"},
		{"Origin", "GET /api/x HTTP/1.1\r\nHost: localhost\r\nOrigin: http://evil.test\r\n\r\n", "403 browser_refused"},
		{"Sec-Fetch-Site", "GET /api/x HTTP/1.1\r\nHost: 127.0.0.1:9\r\nSec-Fetch-Site: same-origin\r\n\r\n", "403 browser_refused"},
		{"no mount", "GET /apix/x HTTP/1.1\r\nHost: localhost\r\n\r\n", "404 route_unknown"},
		{"reserved", "GET /.gateway/x HTTP/1.1\r\nHost: localhost\r\n\r\n", "404 route_unknown"},
		{"no route", "GET http://other.test/ HTTP/1.1\r\nHost: localhost\r\n\r\n", "403 egress_denied"},
		{"other port", "GET http://example.com:8443/ HTTP/1.1\r\nHost: localhost\r\n\r\n", "403 egress_denied"},
		{"https in absolute form", "GET https://example.com/ HTTP/1.1\r\nHost: localhost\r\n\r\n", "400 bad_request"},
		{"user information", "GET http://a:b@example.com/ HTTP/1.1\r\nHost: localhost\r\n\r\n", "400 bad_request"},
		{"fragment", "GET /api/x#y HTTP/1.1\r\nHost: localhost\r\n\r\n", "400 bad_request"},
		{"metadata", "GET http://169.254.169.254/ HTTP/1.1\r\nHost: localhost\r\n\r\n", "403 egress_denied"},
		{"odd address", "GET http://0x7f.1/ HTTP/1.1\r\nHost: localhost\r\n\r\n", "400 bad_request"},
		{"long target", "GET /api/" + strings.Repeat("x", 33<<10) + " HTTP/1.1\r\nHost: localhost\r\n\r\n", "414 uri_too_long"},
		{"WebSocket", "GET /api/x HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", "501 not_supported"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := g.raw(t, strings.Replace(tt.request, "\r\n\r\n", "\r\nConnection: close\r\n\r\n", 1))
			status, code, _ := strings.Cut(tt.want, " ")
			if !strings.HasPrefix(got, "HTTP/1.1 "+status) || !strings.Contains(got, "Gateway-Error: "+code+"\r\n") || !strings.Contains(got, "Gateway-Request-Id: ") || !strings.Contains(got, `"code":"`+code+`"`) {
				t.Errorf("got %.400s, want %s", got, tt.want)
			}
		})
	}
	if n := g.issuer.issued.Load(); n != 0 {
		t.Errorf("%d tokens were got for refused calls", n)
	}
}

func TestHeadersAreCleanBothWays(t *testing.T) {
	g := newRig(t, plain, newUpstream(t, false, echo))
	got := g.raw(t, "GET /api/x HTTP/1.1\r\nHost: localhost\r\nConnection: close, Authorization\r\nAuthorization: Bearer mine\r\nauthorization: Bearer also\r\n"+
		"Proxy-Authorization: Basic x\r\nX-Gateway-Authorization: k\r\nX-Forwarded-For: 1.2.3.4\r\nX_Forwarded_For: 1.2.3.4\r\nForwarded: for=1\r\n"+
		"X-HTTP-Method-Override: DELETE\r\nX-Original-URL: /y\r\nX-MS-Client-Principal: z\r\nCookie: FedAuth=1; ARRAffinity=2\r\nUpgrade: h2c\r\nX-Kept: yes\r\n\r\n")
	head, body, _ := strings.Cut(got, "\r\n\r\n")
	var e echoed
	if err := json.NewDecoder(strings.NewReader(body[strings.IndexByte(body, '{'):])).Decode(&e); err != nil {
		t.Fatal(err)
	}
	if e.Token != 1 || len(e.Header["Authorization"]) != 1 {
		t.Errorf("Authorization = %d values, token %d; want ours alone", len(e.Header["Authorization"]), e.Token)
	}
	for name := range e.Header {
		switch name {
		case "Authorization", "X-Kept", "Via":
		case "Cookie":
			if e.Header.Get(name) != "ARRAffinity=2" {
				t.Errorf("Cookie = %q, want affinity alone", e.Header.Get(name))
			}
		default:
			t.Errorf("%s reached the upstream", name)
		}
	}
	for _, gone := range []string{"Gateway-Error", "Alt-Svc", "Strict-Transport", "FedAuth", "token-1"} {
		if strings.Contains(head, gone) {
			t.Errorf("the answer holds %s: %s", gone, head)
		}
	}
	for _, want := range []string{"Set-Cookie: ARRAffinity=a1", "Location: http://localhost/api/next?x=1", "Gateway-Request-Id: "} {
		if !strings.Contains(head, want) {
			t.Errorf("the answer lacks %q: %s", want, head)
		}
	}
}

func TestTokenTroubleIsNeverA401(t *testing.T) {
	g := newRig(t, plain, newUpstream(t, false, echo))
	g.issuer.failWith(errors.New("connection refused"))
	resp, err := g.client(t, false).Get(g.front.URL + "/api/x")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != 503 || resp.Header.Get("Gateway-Error") != "token_unavailable" || resp.Header.Get("Retry-After") == "" {
		t.Errorf("got %d %v", resp.StatusCode, resp.Header)
	}
}

func TestUpstreamTroubleIsNamed(t *testing.T) {
	up := newUpstream(t, false, func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusProxyAuthRequired) })
	for name, tt := range map[string]struct{ routes, want string }{
		"407":         {plain, "502 upstream_proxy"},
		"unknown CA":  {`routes: [{name: api, hosts: [example.com], upstream: "{upstream}"}]`, "502 upstream_tls"},
		"unreachable": {`routes: [{name: api, hosts: [example.com], upstream: "https://127.0.0.1:1"}]`, "502 upstream_unreachable"},
		"link-local":  {`routes: [{name: api, hosts: [example.com], upstream: "https://169.254.169.254"}]`, "502 upstream_unreachable"},
	} {
		t.Run(name, func(t *testing.T) {
			g := newRig(t, tt.routes, up)
			resp, err := g.client(t, true).Get("http://example.com/x")
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			if got := fmt.Sprint(resp.StatusCode, " ", resp.Header.Get("Gateway-Error")); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

func TestAnswersStreamThrough(t *testing.T) {
	release := make(chan struct{})
	g := newRig(t, plain, newUpstream(t, true, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, "data: one\n\n")
		w.(http.Flusher).Flush()
		<-release
		_, _ = io.WriteString(w, "data: two\n\n")
	}))
	resp, err := g.client(t, false).Get(g.front.URL + "/api/events")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	buf := make([]byte, len("data: one\n\n"))
	if _, err := io.ReadFull(resp.Body, buf); err != nil {
		t.Fatal(err)
	}
	close(release)
	if rest, _ := io.ReadAll(resp.Body); string(rest) != "data: two\n\n" {
		t.Errorf("then came %q", rest)
	}
}

func TestReloadLetsCallsEndAsTheyBegan(t *testing.T) {
	entered, release := make(chan struct{}), make(chan struct{})
	up := newUpstream(t, false, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			close(entered)
			<-release
		}
		_, _ = io.WriteString(w, r.URL.Path)
	})
	g := newRig(t, plain, up)
	var wg sync.WaitGroup
	wg.Go(func() {
		resp, err := g.client(t, false).Get(g.front.URL + "/api/slow")
		if err != nil {
			t.Error(err)
			return
		}
		defer resp.Body.Close()
		if b, _ := io.ReadAll(resp.Body); string(b) != "/slow" {
			t.Errorf("the call under way got %d %q", resp.StatusCode, b)
		}
	})
	<-entered
	g.use(t, strings.Replace(plain, "name: api", "name: other", 1), up)
	resp, err := g.client(t, false).Get(g.front.URL + "/other/fast")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 200 {
		t.Errorf("the new table gives %d", resp.StatusCode)
	}
	close(release)
	wg.Wait()
}
