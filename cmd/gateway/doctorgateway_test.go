package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/seed-13b04e61/gateway/routes"
)

// realGateway is the gateway itself with a CA, in front of an API that counts
// its calls. It returns the address of its proxy port and routes.yaml's folder.
func realGateway(t *testing.T, key string) (addr, dir string, calls *atomic.Int64) {
	t.Helper()
	calls = &atomic.Int64{}
	api := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { calls.Add(1) }))
	t.Cleanup(api.Close)
	_, credentials := sandboxed(t)
	dir = t.TempDir()
	sum := sha256.Sum256([]byte(key))
	text := fmt.Sprintf("version: 1\nlisten: {proxy: \"127.0.0.1:0\", admin: \"\"}\n%scallers:\n  reports: {api_key: {sha256: %s}}\n  other: {uid: 4242424}\n"+
		"intercept: {ca_dir: %q}\nroutes:\n  - {name: graph, hosts: [%s], scope: https://graph.microsoft.com/.default, upstream: %q, callers: [reports]}\n"+
		"  - {name: theirs, hosts: [theirs.example.com], scope: api://x/.default, callers: [other]}\n",
		credentials, hex.EncodeToString(sum[:]), filepath.Join(dir, "ca"), doctorHost, api.URL)
	g, _ := opened(t, doors{}, text)
	return g.proxyL.Addr().String(), dir, calls
}

// inFront runs doctor's checks on the gateway at url.
func inFront(t *testing.T, url string, vars map[string]string, hosts ...string) *doctor {
	t.Helper()
	all := both(url)
	for name, value := range vars {
		all[name] = value
	}
	d := patient(t, all)
	for _, h := range hosts {
		d.hosts = append(d.hosts, routes.Authority{Host: h, Port: 443})
	}
	t.Setenv("PATH", d.value("PATH"))
	t.Setenv("GATEWAY_CONFIG", "")
	t.Chdir(t.TempDir())
	d.examine(context.Background(), config{})
	return d
}

func TestDoctorBeforeTheGatewayItself(t *testing.T) {
	const key = "a-key-of-this-test-0123456789"
	addr, dir, calls := realGateway(t, key)
	roots, err := certificatesIn(filepath.Join(dir, "ca", "root.pem"))
	if err != nil || len(roots) == 0 {
		t.Fatalf("root.pem: %d certificates, %v", len(roots), err)
	}
	bundle, home := pemFile(t, "bundle.pem", append(roots, publicRoot(t))...), t.TempDir()
	if err := os.WriteFile(filepath.Join(home, ".wgetrc"), []byte("ca_certificate = "+bundle+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	url := "http://reports:" + key + "@" + addr
	d := inFront(t, url, map[string]string{
		"PATH": realPath, "HOME": home, "SSL_CERT_FILE": bundle, "REQUESTS_CA_BUNDLE": bundle, "CURL_CA_BUNDLE": bundle, "GIT_SSL_CAINFO": bundle,
		"NODE_EXTRA_CA_CERTS": pemFile(t, "ca.pem", roots...),
		"JAVA_TOOL_OPTIONS":   "-Djavax.net.ssl.trustStorePassword=changeit -Djavax.net.ssl.trustStore=" + storeFile(t, roots...),
	}, "theirs.example.com", "nowhere.example.com")
	d.want(t, verdictOK, checkProxy, "the gateway answers in")
	d.want(t, verdictOK, checkTunnel, doctorHost, "to caller reports and answers in it")
	d.want(t, verdictNo, checkTunnel, "theirs.example.com: the gateway refuses the tunnel with 403 caller_forbidden")
	d.want(t, verdictNo, checkTunnel, "nowhere.example.com: the gateway refuses the tunnel with 403 egress_denied")
	d.want(t, verdictOK, checkClock, "agrees")
	for _, who := range realClients(t) {
		d.want(t, verdictOK, checkTrust, who+": ", "it calls through the gateway and trusts its CA (")
	}
	d.want(t, verdictOK, checkTrust, "SSL_CERT_FILE", "holds the gateway's CA")

	d = inFront(t, url, map[string]string{"PATH": realPath})
	for _, who := range append(realClients(t), "Go") {
		d.want(t, verdictNo, checkTrust, who+": it does not trust the gateway's CA")
	}
	d = inFront(t, "http://reports:wrong-key-wrong-key@"+addr, nil)
	d.want(t, verdictNo, checkProxy, `does not take the credential of caller "reports"`)
	d = inFront(t, "http://"+addr, nil)
	d.want(t, verdictNo, checkProxy, "the gateway asks who calls")

	d = patient(t, nil)
	d.checkCA(&routes.Table{
		Intercept: &routes.Intercept{CADir: filepath.Join(dir, "ca")},
		Routes:    []*routes.Route{{Hosts: []routes.HostPattern{{Host: doctorHost, Port: 443}, {Host: "theirs.example.com", Port: 443}}}},
	})
	d.want(t, verdictOK, checkFile, "is its owner's alone, and the CA covers every routed host")
	if n := calls.Load(); n != 0 {
		t.Errorf("the API was called %d times, want never", n)
	}
	if strings.Contains(d.text(), key) {
		t.Error("the report holds the key")
	}
}
