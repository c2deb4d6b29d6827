package e2e

import (
	"context"
	"encoding/xml"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// h2specProgram checks a server against RFC 9113 and RFC 7541.
const h2specProgram = "github.com/summerwind/h2spec/cmd/h2spec@v2.2.1+incompatible"

// h2specCases is how many it has without -S.
const h2specCases = 145

// page is what the judged servers answer. It is long enough for the cases that
// play with windows.
var page = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	_, _ = io.WriteString(w, "<p>a page of a few words, for whoever asks</p>")
})

// judged runs h2spec against a server of this machine and returns the names of
// the cases that failed.
func judged(t *testing.T, program, addr string) []string {
	t.Helper()
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	report := filepath.Join(t.TempDir(), "report.xml")
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, "-h", "localhost", "-p", port, "-t", "-k", "-o", "2", "-P", "/api/", "-j", report)
	out, runErr := cmd.CombinedOutput() // exits 1 when any case fails
	var suites struct {
		Suites []struct {
			Cases []struct {
				Package string    `xml:"package,attr"`
				Name    string    `xml:"classname,attr"`
				Failed  *struct{} `xml:"failure"`
				Broken  *struct{} `xml:"error"`
			} `xml:"testcase"`
		} `xml:"testsuite"`
	}
	b, err := os.ReadFile(report)
	if err == nil {
		err = xml.Unmarshal(b, &suites)
	}
	if err != nil {
		t.Fatalf("h2spec: %v, %v\n%s", runErr, err, tail(string(out), 3000))
	}
	cases, failed := 0, []string(nil)
	for _, s := range suites.Suites {
		for _, c := range s.Cases {
			cases++
			if c.Failed != nil || c.Broken != nil {
				failed = append(failed, c.Package+": "+c.Name)
			}
		}
	}
	if cases < h2specCases {
		t.Fatalf("h2spec ran %d cases, want %d: %v\n%s", cases, h2specCases, runErr, tail(string(out), 3000))
	}
	return failed
}

// TestHTTP2IsAsGoodAsGosOwnServer has h2spec judge, in one run, Go's bare
// server, the gateway's TLS listener, and HTTP/2 inside a tunnel.
func TestHTTP2IsAsGoodAsGosOwnServer(t *testing.T) {
	program := filepath.Join(goInstall(t, h2specProgram), "h2spec")
	ca := newAuthority(t)
	upstream := httptest.NewServer(page)
	defer upstream.Close()

	places := map[string]string{"Go's server": secureUpstream(t, ca, page).Listener.Addr().String()}
	places["the TLS listener"] = listenerForH2(t, ca, upstream.URL)
	places["a tunnel"] = tunnelForH2(t, upstream.URL)

	var mu sync.Mutex
	failed := map[string][]string{}
	var wg sync.WaitGroup
	for name, addr := range places {
		wg.Go(func() {
			names := judged(t, program, addr)
			mu.Lock()
			defer mu.Unlock()
			failed[name] = names
		})
	}
	wg.Wait()
	bare := failed["Go's server"]
	if t.Failed() || len(bare) > 8 {
		t.Fatalf("Go's own server fails %d cases, so they judge nobody: %q", len(bare), bare)
	}
	for _, name := range []string{"the TLS listener", "a tunnel"} {
		t.Logf("%s: %d of %d, Go's own server %d", name, h2specCases-len(failed[name]), h2specCases, h2specCases-len(bare))
		for _, c := range failed[name] {
			if !slices.Contains(bare, c) {
				t.Errorf("%s fails where Go's own server does not: %s", name, c)
			}
		}
	}
}

// listenerForH2 is the reverse door over TLS.
func listenerForH2(t *testing.T, ca *authority, upstream string) string {
	t.Helper()
	s := issuerSetup(newIssuer(t, plainToken).URL, upstream, "")
	s.Config = strings.Replace(s.Config, `admin: "127.0.0.1:0"}`, `admin: "127.0.0.1:0", tls: {certificate_file: tls.pem, key_file: tls.key}}`, 1)
	s.Files["tls.pem"], s.Files["tls.key"] = ca.server(t)
	return start(t, s).proxy
}

// tunnelForH2 is a listener whose connections end in tunnels. The routed host is
// the listener itself as h2spec names it, so that :authority is right.
func tunnelForH2(t *testing.T, upstream string) string {
	t.Helper()
	f := newForwarder(t)
	_, port, _ := net.SplitHostPort(f.addr)
	g := start(t, intercepting{hosts: fmt.Sprintf("%q", "localhost:"+port), upstream: upstream}.setup(t))
	f.to(g.proxy, "localhost:"+port)
	return f.addr
}
