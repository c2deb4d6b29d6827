package e2e

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// httputil.ReverseProxy kept hop-by-hop fields when the first Connection line
// was empty.
func TestCVE_2021_33197_EmptyConnectionLineDoesNotKeepHopByHopFields(t *testing.T) {
	assault(t, append(entries(t, "Connection in two lines"),
		passes("inner field behind an empty line", "Connection:\r\nConnection: X-Inner\r\nX-Inner: of-the-caller", "x-inner"))...)
}

// httputil.ReverseProxy panicked when the upstream aborted its answer.
func TestCVE_2021_36221_AbortedAnswerCutsOneCallerOffAndNoMore(t *testing.T) {
	t.Parallel()
	up := serveHTTP(t, func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/abort") {
			w.Header().Set("Content-Length", "1000")
			_, _ = io.WriteString(w, "begun")
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}
		shows(w, r)
	})
	g := start(t, issuerSetup(newIssuer(t, plainToken).URL, up.URL, ""))
	g.ready(t)
	if a, err := call(t.Context(), g.client, request{url: g.url("/api/abort")}); err == nil {
		t.Errorf("the caller takes a broken answer for a whole one: %+v", a)
	}
	if a := must(t, g.client, request{url: g.url("/api/x")}); a.status != http.StatusOK {
		t.Errorf("status %d afterwards", a.status)
	}
	if strings.Contains(g.stdout.String()+g.stderr.String(), "panic") {
		t.Error("the log tells of a panic")
	}
}

// Parameters that ReverseProxy could not parse, or that came after its limit,
// reached the upstream unseen by Rewrite.
func TestCVE_2022_2880_CVE_2026_39825_QueryGoesOutByteForByte(t *testing.T) {
	fixedInGo(t, "go1.26.3")
	many := "?" + strings.Repeat("a&", 10_500) + "b=c"
	assault(t, append(entries(t, "query "), hostile{
		name: "10 501 parameters", send: "GET {to}/v1.0/me" + many + " HTTP/1.1\r\nHost: {host}\r\n\r\n", want: sent, line: "GET /v1.0/me" + many + " HTTP/1.1"})...)
}

// ReverseProxy sent X-Forwarded-For although it was told not to.
func TestCVE_2022_32148_NoAddressOfACallerIsSent(t *testing.T) {
	assault(t,
		passes("nothing of its own", "Accept: */*", "forwarded", "127.0.0.1"),
		passes("nor behind the caller's", "X-Forwarded-For: 10.1.2.3", "forwarded", "10.1.2.3", "127.0.0.1"))
}

// net/http took some malformed Transfer-Encoding for chunked.
func TestCVE_2022_1705_MalformedTransferEncodingIsRefused(t *testing.T) {
	assault(t, entries(t, "TE of ", "TE twice", "vertical tab")...)
}

// net/http took a space before the colon of a field.
func TestCVE_2019_16276_SpaceBeforeAColonIsRefused(t *testing.T) {
	assault(t, entries(t, "space before the colon", "tab before the colon")...)
}

// net/http took field names with spaces, two Content-Length, and both framings.
func TestCVE_2015_5739_CVE_2015_5740_CVE_2015_5741_OneFramingReachesTheUpstream(t *testing.T) {
	assault(t, entries(t, "CL ", "name with a space", "CL and TE", "TE and CL")...)
}

// net/http's chunk reader took a bare LF for the end of a line.
func TestCVE_2025_22871_BareLFEndsNoChunk(t *testing.T) {
	fixedInGo(t, "go1.24.2")
	assault(t, entries(t, "chunked: size ended", "chunked: chunk ended", "chunked: LF in", "chunked: CR in")...)
}

// A client could put what it liked into the Host that net/http sent.
func TestCVE_2023_29406_HostOfTheUpstreamIsTheRoutes(t *testing.T) {
	assault(t, entries(t, "Host ", "reverse host localhost", "X-Forwarded-Host")...)
}

// Chunk extensions made a server read far more than the body.
func TestCVE_2023_39326_ChunkExtensionsAreBoundedAndDropped(t *testing.T) {
	assault(t, entries(t, "chunked: very long", "chunked: extension", "chunked: quoted")...)
}

// An upstream that answers without 100 Continue left ReverseProxy's connection
// in a state that failed later calls.
func TestCVE_2024_24791_CallsAfterAnUnmetExpectationSucceed(t *testing.T) {
	t.Parallel()
	up := serveHTTP(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Expect") != "" {
			w.WriteHeader(http.StatusForbidden) // and the body stays unread
			return
		}
		shows(w, r)
	})
	g := start(t, issuerSetup(newIssuer(t, plainToken).URL, up.URL, ""))
	g.ready(t)
	patient := newClient(nil)
	patient.Transport = &http.Transport{ExpectContinueTimeout: patience} // sends no body unasked
	t.Cleanup(patient.CloseIdleConnections)
	for range 20 {
		r := request{url: g.url("/api/x"), body: noise(300_000), header: http.Header{"Expect": {"100-continue"}}}
		if a := must(t, patient, r); a.status != http.StatusForbidden {
			t.Fatalf("status %d, want the upstream's 403", a.status)
		}
		if a := must(t, g.client, request{url: g.url("/api/x")}); a.status != http.StatusOK {
			t.Fatalf("status %d on the next call", a.status)
		}
	}
}

// Clients of net/http and of Graph kept credentials over a redirect to another
// host.
func TestCVE_2023_45289_CVE_2024_45336_CVE_2025_4673_CVE_2026_44503_NobodyFollowsRedirects(t *testing.T) {
	t.Parallel()
	stranger := newTap(t)
	redirect := func(status int) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://"+stranger.addr+"/here", status)
		}
	}
	for _, status := range []int{301, 302, 303, 307, 308} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			g := start(t, issuerSetup(newIssuer(t, plainToken).URL, serveHTTP(t, redirect(status)).URL, ""))
			g.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
			if a := must(t, g.client, request{url: g.url("/api/x")}); a.status != status {
				t.Errorf("status %d, want the upstream's own %d", a.status, status)
			}
			idle := start(t, issuerSetup(serveHTTP(t, redirect(status)).URL, serveHTTP(t, shows).URL, ""))
			if a := must(t, idle.client, request{url: idle.url("/api/x")}); a.header.Get("Gateway-Error") == "" {
				t.Errorf("status %d from a token endpoint that redirects", a.status)
			}
			if raw := stranger.take(t); len(raw) != 0 {
				t.Errorf("the redirect was followed: %q", raw)
			}
		})
	}
}

// NO_PROXY matched IPv6 zones. No environment steers the gateway, and a zone is
// no part of a host.
func TestCVE_2025_22870_NoEnvironmentSteersCallsAndZonesAreRefused(t *testing.T) {
	stranger := newTap(t)
	up := serveHTTP(t, shows)
	s := issuerSetup(newIssuer(t, plainToken).URL, up.URL, "")
	s.Env = []string{"NO_PROXY=", "no_proxy=", "HTTP_PROXY=http://" + stranger.addr, "HTTPS_PROXY=http://" + stranger.addr, "ALL_PROXY=http://" + stranger.addr}
	g := start(t, s)
	if a := must(t, g.client, request{url: g.url("/api/x")}); a.status != http.StatusOK {
		t.Errorf("status %d", a.status)
	}
	if raw := stranger.take(t); len(raw) != 0 {
		t.Errorf("the environment's proxy was called: %q", raw)
	}
	assault(t, entries(t, "reverse host [::1%", "forward host [::1%")...)
}

// CrossOriginProtection let patterns through that were not named.
func TestCVE_2025_47910_PagesAreRefusedWithoutExceptions(t *testing.T) {
	assault(t, entries(t, "page ")...)
}

// net/url took brackets around anything for a host.
func TestCVE_2025_47912_CVE_2026_25679_BracketsHoldAddressesAlone(t *testing.T) {
	assault(t, entries(t, "reverse host [", "forward host [")...)
}

// net/url's ParseQuery took memory without bound.
func TestCVE_2025_61726_LongQueriesAreRefused(t *testing.T) {
	assault(t, entries(t, "query too long")...)
}

// IDNA turned punycode that decodes to ASCII into the plain name.
func TestCVE_2026_39821_PunycodeOfASCIIIsNoOtherHost(t *testing.T) {
	fixedInModule(t, "golang.org/x/net", "v0.55.0")
	var table []hostile
	for _, host := range []string{"xn--graph-.microsoft.com", "graph.xn--microsoft-.com", "xn--graph.microsoft.com", "xn--.microsoft.com"} {
		table = append(table, hostile{name: host, send: "GET http://" + host + "/v1.0/me HTTP/1.1\r\nHost: graph.microsoft.com\r\n\r\n", want: "400", door: "forward"})
	}
	assault(t, table...)
}

// Name constraints were checked wrongly.
func TestCVE_2024_45341_CVE_2025_61727_CVE_2026_27138_CVE_2026_33810_FixedInGo(t *testing.T) {
	fixedInGo(t, "go1.26.3")
}

// Sessions were resumed under another configuration, h2c waited for headers for
// ever, and messages after the handshake were without bound.
func TestCVE_2025_68121_CVE_2026_56853_CVE_2026_56862_FixedInGo(t *testing.T) {
	fixedInGo(t, "go1.26.6")
}

// Frames of HTTP/2 after a GOAWAY brought a server down.
func TestCVE_2021_39162_FixedInGo(t *testing.T) { fixedInGo(t, "go1.17") }

// Proxies waited for a header without end.
func TestCVE_2026_22045_CVE_2026_25949_CVE_2026_26999_UnfinishedHeadIsCutOff(t *testing.T) {
	t.Parallel()
	g := start(t, issuerSetup(newIssuer(t, plainToken).URL, serveHTTP(t, shows).URL, ""))
	for _, head := range []string{"", "GET /api/x HT", "GET /api/x HTTP/1.1\r\nHost: localhost\r\nX-A"} {
		t.Run(fmt.Sprintf("%d bytes", len(head)), func(t *testing.T) {
			t.Parallel()
			conn, err := net.Dial("tcp", g.proxy)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if _, err := io.WriteString(conn, head); err != nil {
				t.Fatal(err)
			}
			_ = conn.SetReadDeadline(time.Now().Add(patience))
			if b, err := io.ReadAll(conn); err != nil {
				t.Errorf("after %s the connection is still there: %v, %q", patience, err, b)
			}
		})
	}
}

// Answers of the token endpoint were read without bound, and tokens' headers
// took memory out of all proportion.
func TestCVE_2026_26998_CVE_2025_22868_CVE_2025_30204_EndlessTokenAnswerIsRefused(t *testing.T) {
	t.Parallel()
	fixedInModule(t, "golang.org/x/oauth2", "v0.27.0")
	fixedInModule(t, "github.com/golang-jwt/jwt/v5", "v5.2.2")
	var served atomic.Int64
	idp := serveHTTP(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		out := bufio.NewWriter(w)
		_, _ = io.WriteString(out, `{"token_type":"Bearer","access_token":"`)
		for line := strings.Repeat("a", 1<<16); served.Load() < 256<<20; {
			n, err := io.WriteString(out, line)
			if err != nil {
				return
			}
			served.Add(int64(n))
		}
	})
	g := start(t, issuerSetup(idp.URL, serveHTTP(t, shows).URL, ""))
	a := must(t, g.client, request{url: g.url("/api/x")})
	if a.header.Get("Gateway-Error") == "" {
		t.Errorf("status %d from an endless token", a.status)
	}
	if n := served.Load(); n > 64<<20 {
		t.Errorf("the gateway took %d bytes of one answer", n)
	}
}
