package e2e

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/seed-13b04e61/gateway/sandbox"
)

const wrongKey = "wr0ng-k3y-of-n0body"

// ask makes a call at the reverse door as a caller, "" for one that shows nothing.
func (s *scene) ask(t testing.TB, caller, key string, r request) answer {
	t.Helper()
	if r.header == nil {
		r.header = http.Header{}
	}
	if caller != "" {
		req := http.Request{Header: r.header}
		req.SetBasicAuth(caller, key)
		r.header.Set("X-Gateway-Authorization", r.header.Get("Authorization"))
		r.header.Del("Authorization")
	}
	return must(t, s.client, r)
}

// connect asks for a tunnel and returns the answer to that.
func (s *scene) connect(t testing.TB, caller, key, target string) answer {
	t.Helper()
	conn, err := net.Dial("tcp", s.proxy)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	req := &http.Request{Method: http.MethodConnect, URL: &url.URL{Opaque: target}, Host: target, Header: http.Header{}}
	if caller != "" {
		req.SetBasicAuth(caller, key)
		req.Header.Set("Proxy-Authorization", req.Header.Get("Authorization"))
		req.Header.Del("Authorization")
	}
	if err := req.Write(conn); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{status: resp.StatusCode, header: resp.Header, body: string(body)}
}

// through calls at the forward door as caller job.
func (s *scene) through(t testing.TB, target string) answer {
	t.Helper()
	c := newClient(&url.URL{Scheme: "http", Host: s.proxy, User: url.UserPassword("job", jobKey)})
	defer c.CloseIdleConnections()
	return must(t, c, request{url: target})
}

func asJob(method, path string, header http.Header) func(*testing.T, *scene) answer {
	return func(t *testing.T, s *scene) answer {
		return s.ask(t, "job", jobKey, request{method: method, url: s.url(path), header: header})
	}
}

// brokenCalls is a gateway with callers, rules, tenants and limits, all of which
// say no to somebody.
func brokenCalls(t *testing.T) *scene {
	w := newWorld(t, sandbox.Options{})
	s := &scene{name: "calls", told: map[string]string{}, secrets: []string{w.Secret(), jobKey, otherKey, wrongKey}}
	s.gateway = start(t, setup{
		Files: map[string]string{"client-secret": w.Secret()},
		Config: fmt.Sprintf(`version: 1
listen: {proxy: "127.0.0.1:0", admin: "127.0.0.1:0", hosts: [gateway.test]}
credentials:
  default: {tenant_id: %s, client_id: %s, client_secret: {file: client-secret}, authority_host: %q}
callers:
  job: {api_key: {sha256: %s}}
  other: {api_key: {sha256: %s}}
routes:
  - preset: graph
    upstream: %[6]q
    callers: [job]
    allow:
      - {methods: [GET], paths: ["/v1.0/**"]}
  - {name: tenants, hosts: [tenants.contoso.com], scope: %[7]q, upstream: %[6]q, tenant: {header: X-Tenant-Id, allowed: [contoso.onmicrosoft.com]}}
  - {name: slow-lane, hosts: [slow.contoso.com], scope: %[7]q, upstream: %[6]q, limits: {rate: 1/s}}
  - {name: narrow, hosts: [narrow.contoso.com], scope: %[7]q, upstream: %[6]q, limits: {max_body: 1KiB}}
`, sandbox.TenantDomain, sandbox.ClientID, w.Entra.URL(), digest([]byte(jobKey)), digest([]byte(otherKey)), w.Graph.URL(), graphScope),
	})
	s.ready(t)
	s.rows = append(callerRows(s), ruleRows()...)
	s.rows = append(s.rows, limitRows()...)
	return s
}

func callerRows(s *scene) []breakage {
	users := request{url: s.url("/graph/v1.0/users")}
	return []breakage{
		{name: "caller-key-wrong", status: 401, code: "caller_unknown", detail: "no caller could be recognised from this call", cause: `the API key shown is not that of caller "job"`,
			remedy: "show the caller's credential in X-Gateway-Authorization",
			call:   func(t *testing.T, s *scene) answer { return s.ask(t, "job", wrongKey, users) }},
		{name: "caller-missing", status: 401, code: "caller_unknown", detail: "no caller could be recognised from this call", cause: "no caller could be recognised from this call: the call shows no credential",
			remedy: "show the caller's credential in X-Gateway-Authorization",
			call:   func(t *testing.T, s *scene) answer { return s.ask(t, "", "", users) },
			tells:  []string{"explain", "GET", "http://gateway.test/graph/v1.0/users"}, exit: 1},
		{name: "tunnel-without-key", status: 407, code: "caller_unknown", cause: "no caller could be recognised from this call: the call shows no credential", detail: "no caller could be recognised from this call",
			remedy: "show the caller's credential in Proxy-Authorization",
			call:   func(t *testing.T, s *scene) answer { return s.connect(t, "", "", "graph.microsoft.com:443") },
			tells:  []string{"doctor", "graph.microsoft.com", "--proxy", "http://" + s.proxy}, exit: 1,
			said: "the gateway asks who calls, and --proxy holds no credential", does: "write http://NAME:KEY@HOST:PORT; gateway keygen NAME makes a key"},
		{name: "tunnel-key-wrong", status: 407, code: "caller_unknown", detail: "no caller could be recognised from this call", cause: `the API key shown is not that of caller "job"`,
			remedy: "show the caller's credential in Proxy-Authorization",
			call:   func(t *testing.T, s *scene) answer { return s.connect(t, "job", wrongKey, "graph.microsoft.com:443") },
			tells:  []string{"doctor", "graph.microsoft.com", "--proxy", "http://job:" + wrongKey + "@" + s.proxy}, exit: 1,
			said: "the gateway does not take the credential of caller \"job\" in --proxy: no caller could be recognised from this call", does: "give the caller a new key by gateway keygen"},
		{name: "caller-not-admitted", status: 403, code: "caller_forbidden", cause: "may not be used by caller other", remedy: "if it should, add it to callers of the route",
			call:  func(t *testing.T, s *scene) answer { return s.ask(t, "other", otherKey, users) },
			tells: []string{"explain", "GET", "https://graph.microsoft.com/v1.0/users", "--as", "other"}, exit: 1},
	}
}

func ruleRows() []breakage {
	return []breakage{
		{name: "rule-denies", status: 403, code: "rule_denied", cause: "no rule of route graph allows DELETE on this path: rules have the path for method GET", detail: "no rule of route graph allows DELETE on this path", remedy: "if it should, add method and path to allow of the route, line",
			call:  asJob("DELETE", "/graph/v1.0/users/adele", nil),
			tells: []string{"explain", "DELETE", "https://graph.microsoft.com/v1.0/users/adele", "--as", "job"}, exit: 1},
		{name: "tenant-not-allowed", status: 403, code: "tenant_denied", cause: "route tenants takes the tenant from the call: ", remedy: "name one tenant by its GUID or domain, of those that tenant of the route and tenants of the caller allow",
			call:  asJob("GET", "/tenants/v1.0/users", http.Header{"X-Tenant-Id": {"fabrikam.onmicrosoft.com"}}),
			tells: []string{"explain", "GET", "https://tenants.contoso.com/v1.0/users", "--as", "job", "--header", "X-Tenant-Id: fabrikam.onmicrosoft.com"}, exit: 1},
		{name: "tenant-missing", status: 403, code: "tenant_denied", cause: "the call needs the field X-Tenant-Id, once", remedy: "name one tenant by its GUID or domain",
			call:  asJob("GET", "/tenants/v1.0/users", nil),
			tells: []string{"explain", "GET", "https://tenants.contoso.com/v1.0/users", "--as", "job"}, exit: 1},
		{name: "host-without-route", status: 403, code: "egress_denied", cause: "no route names elsewhere.contoso.com:80", remedy: "add a route with hosts: [elsewhere.contoso.com] to routes.yaml",
			call:  func(t *testing.T, s *scene) answer { return s.through(t, "http://elsewhere.contoso.com/x") },
			tells: []string{"explain", "GET", "http://elsewhere.contoso.com/x", "--as", "job"}, exit: 1},
		{name: "tunnel-without-route", status: 403, code: "egress_denied", cause: "no route names elsewhere.contoso.com", remedy: "add a route with hosts: [elsewhere.contoso.com] to routes.yaml",
			call:  func(t *testing.T, s *scene) answer { return s.connect(t, "job", jobKey, "elsewhere.contoso.com:443") },
			tells: []string{"explain", "CONNECT", "elsewhere.contoso.com:443", "--as", "job"}, exit: 1},
		{name: "mount-unknown", status: 404, code: "route_unknown", cause: "nothing is mounted at this path", remedy: "begin the path with the mount of a route; gateway check lists them",
			call:  asJob("GET", "/gr4ph/v1.0/users", nil),
			tells: []string{"explain", "GET", "http://gateway.test/gr4ph/v1.0/users", "--as", "job"}, exit: 1},
		{name: "path-in-two-ways", status: 400, code: "bad_request", cause: "ambiguous path: it holds an escaped slash", remedy: "write the path plainly",
			call:  asJob("GET", "/graph/v1.0/users/..%2f..%2fbeta", nil),
			tells: []string{"explain", "GET", "https://graph.microsoft.com/v1.0/users/..%2f..%2fbeta", "--as", "job"}, exit: 1},
		{name: "browser", status: 403, code: "browser_refused", cause: "the call came from a page in a browser", remedy: "call from a program; the gateway serves no pages",
			call:  asJob("GET", "/graph/v1.0/users", http.Header{"Origin": {"https://evil.example"}, "Sec-Fetch-Site": {"cross-site"}}),
			tells: []string{"explain", "GET", "http://gateway.test/graph/v1.0/users", "--as", "job", "--header", "Origin: https://evil.example"}, exit: 1},
		{name: "other-host", status: 421, code: "misdirected", cause: "the Host field names none of the gateway's hosts", remedy: "listen.hosts",
			call: func(t *testing.T, s *scene) answer {
				conn, err := net.Dial("tcp", s.proxy)
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				return sends(t, conn, "GET /graph/v1.0/users HTTP/1.1\r\nHost: gateway.contoso.com\r\nConnection: close\r\n\r\n")
			}},
		{name: "tunnel-without-ca", status: 501, code: "not_supported", cause: "the gateway has no CA by which it could read this tunnel", remedy: "intercept",
			call:  func(t *testing.T, s *scene) answer { return s.connect(t, "job", jobKey, "graph.microsoft.com:443") },
			tells: []string{"explain", "CONNECT", "graph.microsoft.com:443", "--as", "job"}, exit: 1},
		{name: "trace", status: 405, code: "method_refused", cause: "TRACE would show the token to the caller", remedy: "use another method",
			call:  asJob("TRACE", "/graph/v1.0/users", nil),
			tells: []string{"explain", "TRACE", "https://graph.microsoft.com/v1.0/users", "--as", "job"}, exit: 1},
	}
}

func limitRows() []breakage {
	return []breakage{
		{name: "rate-limited", status: 429, code: "rate_limited", cause: "this route is called more often than it may be", remedy: "call again after Retry-After; if this is usual, raise limits.rate of the route",
			call: func(t *testing.T, s *scene) (a answer) {
				eventually(t, "the rate is used up", func() bool {
					a = asJob("GET", "/slow-lane/v1.0/users", nil)(t, s)
					return a.status == http.StatusTooManyRequests
				})
				if a.header.Get("Retry-After") == "" {
					t.Error("there is no Retry-After")
				}
				return a
			}},
		{name: "body-too-large", status: 413, code: "too_large", cause: "the request's body is larger than this route takes", remedy: "limits.max_body",
			call: func(t *testing.T, s *scene) answer {
				return s.ask(t, "job", jobKey, request{url: s.url("/narrow/v1.0/$echo"), body: bytes.Repeat([]byte("x"), 4096)})
			}},
		{name: "target-too-long", status: 414, code: "uri_too_long", cause: "path and query together may have 32 KiB", remedy: "send what is long in the request's body",
			call:  asJob("GET", "/graph/v1.0/users?q="+strings.Repeat("x", 40<<10), nil),
			tells: []string{"explain", "GET", "https://graph.microsoft.com/v1.0/users?q=" + strings.Repeat("x", 40<<10), "--as", "job"}, exit: 1},
		{name: "fields-too-large", status: 431, code: "headers_too_large", cause: "the request's fields together may have 64 KiB", remedy: "cookies",
			call:  asJob("GET", "/graph/v1.0/users", http.Header{"X-Much": {strings.Repeat("x", 70<<10)}}),
			tells: []string{"explain", "GET", "https://graph.microsoft.com/v1.0/users", "--as", "job", "--header", "X-Much: " + strings.Repeat("x", 70<<10)}, exit: 1},
		{name: "loop", status: 508, code: "loop", cause: "the call came through this gateway already", remedy: "upstream",
			call: func(t *testing.T, s *scene) answer {
				via := echoed(t, asJob("GET", "/narrow/v1.0/$echo", nil)(t, s)).Headers["Via"]
				return asJob("GET", "/graph/v1.0/users", http.Header{"Via": via})(t, s)
			}},
	}
}
