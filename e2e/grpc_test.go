package e2e

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// The interoperability programs of grpc-go.
const (
	grpcModule = "google.golang.org/grpc/interop/"
	grpcAt     = "@v1.80.0"
)

// grpcCases are those of the interoperability test that ask for no credential
// of a cloud's: unary, streams both ways, deadlines, cancelling, trailers.
var grpcCases = [...]string{
	"empty_unary", "large_unary", "client_streaming", "server_streaming", "ping_pong", "empty_stream",
	"timeout_on_sleeping_server", "cancel_after_begin", "cancel_after_first_response", "status_code_and_message",
	"special_status_message", "custom_metadata", "unimplemented_method", "unimplemented_service",
}

// grpcName is what the client calls. It resolves nowhere.
const grpcName = "grpc.example.com"

// interop are the two programs, with the server running.
type interop struct {
	client, server string // the program, the address
	ca             *authority
}

func startInterop(t *testing.T) interop {
	t.Helper()
	bin := goInstall(t, grpcModule+"client"+grpcAt, grpcModule+"server"+grpcAt)
	i := interop{client: filepath.Join(bin, "client"), server: freePort(t), ca: newAuthority(t)}
	dir := t.TempDir()
	certPEM, keyPEM := i.ca.server(t, grpcName)
	write(t, filepath.Join(dir, "cert.pem"), certPEM)
	write(t, filepath.Join(dir, "key.pem"), keyPEM)
	_, port, _ := net.SplitHostPort(i.server)
	cmd := exec.Command(filepath.Join(bin, "server"), "-port", port, "-use_tls",
		"-tls_cert_file", filepath.Join(dir, "cert.pem"), "-tls_key_file", filepath.Join(dir, "key.pem"))
	var out transcript
	cmd.Stdout, cmd.Stderr, cmd.Env = &out, &out, bareEnvironment()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("the gRPC server:\n%s", tail(out.String(), 2000))
		}
	})
	eventually(t, "the gRPC server listens", func() bool {
		c, err := net.Dial("tcp", i.server)
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	})
	return i
}

// all runs every case against host, which is trusted by the roots in PEM.
func (i interop) all(t *testing.T, host, roots string, env ...string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "roots.pem")
	write(t, file, roots)
	name, port, _ := net.SplitHostPort(host)
	for _, c := range grpcCases {
		t.Run(c, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
			defer cancel()
			cmd := exec.CommandContext(ctx, i.client, "-use_tls", "-use_test_ca", "-ca_file", file, "-server_host", name, "-server_port", port, "-test_case", c)
			cmd.Env = append(bareEnvironment(), env...)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%v\n%s", err, tail(string(out), 1500))
			}
		})
	}
}

// TestGRPCInteroperates runs grpc-go's own cases: straight to its server, so
// that they are known to be good, and through two doors.
func TestGRPCInteroperates(t *testing.T) {
	i := startInterop(t)
	t.Run("straight", func(t *testing.T) { i.all(t, i.server, i.ca.pem) })
	t.Run("tunnel", func(t *testing.T) {
		g := start(t, intercepting{hosts: grpcName, upstream: "https://" + i.server, ca: i.ca}.setup(t))
		roots, code := g.command(t, "ca", "export")
		if code != 0 {
			t.Fatalf("gateway ca export exits %d: %s", code, roots)
		}
		i.all(t, grpcName+":443", roots, "HTTPS_PROXY=http://"+g.proxy)
		if n := g.metric(t, "gateway_requests_total", `route="api"`, `door="tunnel"`); n < float64(len(grpcCases)) {
			t.Errorf("%v calls through the tunnel, want %d at least", n, len(grpcCases))
		}
	})
	t.Run("reverse", func(t *testing.T) {
		g := i.reverse(t)
		i.all(t, g.proxy, i.ca.pem)
		if n := g.metric(t, "gateway_requests_total", `door="reverse"`); n < float64(len(grpcCases)) {
			t.Errorf("%v calls through the reverse door, want %d at least", n, len(grpcCases))
		}
	})
}

// reverse is a gateway whose mounts are the services' names. As a mount is
// stripped, and gRPC has no base path, a server of the test puts it back.
func (i interop) reverse(t *testing.T) *gateway {
	t.Helper()
	const services = "/grpc.testing."
	route := func(service string) string {
		return fmt.Sprintf("  - {name: %s, hosts: [%s.%s], mount: %s%s, upstream: %q, tls: {ca_file: upstream-ca.pem}}\n",
			strings.ToLower(service), strings.ToLower(service), grpcName, services, service, i.under(t, services+service))
	}
	s := issuerSetup(newIssuer(t, plainToken).URL, "http://127.0.0.1:9", route("TestService")+route("UnimplementedService"))
	s.Config = strings.Replace(s.Config, `admin: "127.0.0.1:0"}`, `admin: "127.0.0.1:0", tls: {certificate_file: tls.pem, key_file: tls.key}}`, 1)
	s.Files["tls.pem"], s.Files["tls.key"] = i.ca.server(t)
	s.Files["upstream-ca.pem"] = i.ca.pem
	return start(t, s)
}

// under is a server that hands its calls to the gRPC server, with prefix, if
// they carry the gateway's token.
func (i interop) under(t *testing.T, prefix string) (origin string) {
	t.Helper()
	tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: poolOf(i.ca)}, ForceAttemptHTTP2: true, IdleConnTimeout: time.Minute}
	t.Cleanup(tr.CloseIdleConnections)
	back := &httputil.ReverseProxy{Transport: tr, Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(&url.URL{Scheme: "https", Host: i.server, Path: prefix})
	}}
	return secureUpstream(t, i.ca, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer "+apiToken {
			http.Error(w, "no token", http.StatusUnauthorized)
			return
		}
		back.ServeHTTP(w, r)
	}), "testservice."+grpcName, "unimplementedservice."+grpcName).URL
}
