package proxy_test

import (
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/seed-13b04e61/gateway/routes"
)

// newIdentityHost is what hands out tokens on this machine, to whoever asks.
func newIdentityHost(t *testing.T) (addr string, asked *atomic.Int64) {
	t.Helper()
	asked = &atomic.Int64{}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { asked.Add(1) }))
	t.Cleanup(s.Close)
	return s.Listener.Addr().String(), asked
}

// A route that leads to a managed identity endpoint is either refused when the
// table is read, or when it is called.
func TestNoRouteLeadsToAManagedIdentityEndpoint(t *testing.T) {
	addr, asked := newIdentityHost(t)
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	hosts := []string{"127.0.0.1", "localhost", "LOCALHOST", "localhost.", "[::1]", "[::ffff:127.0.0.1]", "127.0.0.2", "127.1", "2130706433", "0x7f000001", "0177.0.0.1"}
	var places []string
	for _, h := range hosts {
		places = append(places, h+":"+port, h+":40342")
	}
	places = append(places, "169.254.169.254", "169.254.169.254:80", "[::ffff:169.254.169.254]:80", "2852039166", "metadata.google.internal", "identity.internal:8081")
	called := 0
	for _, place := range places {
		for _, text := range []string{
			`routes: [{name: api, hosts: [example.com], scope: s, upstream: "http://` + place + `"}]`,
			`routes: [{name: api, hosts: [example.com], scope: s, upstream: "https://` + place + `"}]`,
			`routes: [{name: api, hosts: ["` + place + `"], scope: s}]`,
		} {
			_, err := routes.Parse("routes.yaml", []byte("version: 1\n"+credentials+text), func(string) (string, bool) { return "", false })
			if err != nil {
				continue
			}
			called++
			g := rigging{identity: []string{addr, "identity.internal:8081"}}.newRig(t, text, nil)
			reverse := g.raw(t, "GET /api/metadata/identity/oauth2/token HTTP/1.1\r\nHost: localhost\r\nMetadata: true\r\nConnection: close\r\n\r\n")
			if !strings.HasPrefix(reverse, "HTTP/1.1 502 ") || !strings.Contains(reverse, "upstream_unreachable") {
				t.Errorf("%s: reverse door: %.200s", text, reverse)
			}
			if e := g.events.the(1); !strings.Contains(e.Cause, "is a managed identity endpoint") {
				t.Errorf("%s: cause %q, want a managed identity endpoint named", text, e.Cause)
			}
			host := "example.com"
			if strings.Contains(text, `hosts: ["`) {
				host = place
			}
			if forward := g.raw(t, "GET http://"+host+"/metadata/identity/oauth2/token HTTP/1.1\r\nHost: x\r\nMetadata: true\r\nConnection: close\r\n\r\n"); !strings.HasPrefix(forward, "HTTP/1.1 502 ") && !strings.HasPrefix(forward, "HTTP/1.1 403 ") {
				t.Errorf("%s: forward door: %.200s", text, forward)
			}
		}
	}
	if asked.Load() != 0 {
		t.Errorf("the endpoint was asked %d times", asked.Load())
	}
	if called < 20 {
		t.Errorf("only %d of the routes could be called; the test lost its point", called)
	}
}

func TestNoCallReachesAManagedIdentityEndpointByItsURL(t *testing.T) {
	addr, asked := newIdentityHost(t)
	g := rigging{identity: []string{addr}}.newRig(t, plain, newUpstream(t, false, echo))
	for _, place := range []string{"169.254.169.254", "169.254.169.254:80", "127.0.0.1:40342", "localhost:40342", "[::1]:40342", "127.1:40342", "2130706433:40342", "0x7f000001:40342", addr} {
		for _, request := range []string{
			"GET http://" + place + "/metadata/identity/oauth2/token HTTP/1.1\r\nHost: " + place + "\r\n",
			"CONNECT " + place + " HTTP/1.1\r\nHost: " + place + "\r\n",
			"GET /metadata/identity/oauth2/token HTTP/1.1\r\nHost: " + place + "\r\n",
			"GET /api/../../metadata/identity HTTP/1.1\r\nHost: localhost\r\nX-Original-Host: " + place + "\r\n",
		} {
			got := g.raw(t, request+"Metadata: true\r\nConnection: close\r\n\r\n")
			line, _, _ := strings.Cut(got, "\r\n")
			if strings.HasPrefix(request, "GET /api") {
				if !strings.Contains(got, "example.com") && !strings.Contains(got, "Gateway-Error: ") {
					t.Errorf("%.60q: %s; want example.com or a refusal", request, line)
				}
			} else if !strings.Contains(got, "Gateway-Error: ") {
				t.Errorf("%.60q: %s; want a refusal", request, line)
			}
		}
	}
	if asked.Load() != 0 {
		t.Errorf("the endpoint was asked %d times", asked.Load())
	}
}
