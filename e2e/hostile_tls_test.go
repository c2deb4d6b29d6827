package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// tlsListen is listen of a proxy port that speaks TLS and asks for callers'
// certificates; tlsFiles are its files.
const tlsListen = "tls: {certificate_file: server.pem, key_file: server.key, client_ca_file: clients.pem, client_crl_file: crl.pem}, "

func tlsFiles(t testing.TB, server, clients *authority, revoked ...*x509.Certificate) map[string]string {
	t.Helper()
	certPEM, keyPEM := server.server(t)
	return map[string]string{"server.pem": certPEM, "server.key": keyPEM, "clients.pem": clients.pem, "crl.pem": clients.revoke(t, revoked...)}
}

// revoke makes the list of those that are.
func (a *authority) revoke(t testing.TB, certs ...*x509.Certificate) string {
	t.Helper()
	list := &x509.RevocationList{Number: big.NewInt(time.Now().UnixNano()), ThisUpdate: time.Now().Add(-time.Minute), NextUpdate: time.Now().Add(time.Hour)}
	for _, c := range certs {
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: c.SerialNumber, RevocationTime: time.Now().Add(-time.Minute)})
	}
	der, err := x509.CreateRevocationList(rand.Reader, list, a.cert, a.key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der}))
}

// newCallersAuthority may sign lists of what it revoked.
func newCallersAuthority(t testing.TB, name string) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	a := &authority{key: key, cert: &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}}
	a.pem, a.cert = sign(t, a.cert, a, key)
	return a
}

// client makes a certificate for a caller, changed by change.
func (a *authority) client(t testing.TB, change func(*x509.Certificate)) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "a caller"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	change(template)
	_, cert := sign(t, template, a, key)
	return tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key, Leaf: cert}
}

func uriSAN(t testing.TB, names ...string) func(*x509.Certificate) {
	return func(c *x509.Certificate) {
		for _, name := range names {
			u, err := url.Parse(name)
			if err != nil {
				t.Fatal(err)
			}
			c.URIs = append(c.URIs, u)
		}
	}
}

// trusting is a client's side that speaks HTTP/1.1 and shows certs.
func (a *authority) trusting(certs ...tls.Certificate) *tls.Config {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return &tls.Config{RootCAs: pool, ServerName: "localhost", NextProtos: []string{"http/1.1"}, MinVersion: tls.VersionTLS12,
		// whatever the server asks for, this is shown
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			if len(certs) == 0 {
				return &tls.Certificate{}, nil
			}
			return &certs[0], nil
		}}
}

func TestHostileTableGetsNoFurtherOverTLS(t *testing.T) {
	server, clients := newAuthority(t), newCallersAuthority(t, "clients")
	g := emptyGuard(t)
	g.tls = server.trusting()
	g.begin(t, tlsListen, tlsFiles(t, server, clients))
	var table []hostile
	for _, h := range append(hostileTable(), guardedTable()...) {
		if h.want != "caller_unknown" { // those are tried without TLS, at length
			table = append(table, h)
		}
	}
	g.attackAll(t, table)
}

// hostileCertificate is what a caller may show, and whether it is somebody.
type hostileCertificate struct {
	name string
	cert tls.Certificate
	good bool
}

func hostileCertificates(t testing.TB, clients *authority, revoked tls.Certificate) []hostileCertificate {
	t.Helper()
	const mesh = "spiffe://contoso/mesh"
	whole := uriSAN(t, mesh)
	also := func(more func(*x509.Certificate)) func(*x509.Certificate) {
		return func(c *x509.Certificate) { whole(c); more(c) }
	}
	sameName, stranger := newCallersAuthority(t, "clients"), newCallersAuthority(t, "strangers")
	leafAsCA := clients.client(t, whole)
	below := &authority{cert: leafAsCA.Leaf, key: leafAsCA.PrivateKey.(*ecdsa.PrivateKey)}
	belowLeaf := below.client(t, whole)
	belowLeaf.Certificate = append(belowLeaf.Certificate, leafAsCA.Certificate[0])
	list := []hostileCertificate{
		{"whole", clients.client(t, whole), true},
		{"DNS name", clients.client(t, func(c *x509.Certificate) { c.DNSNames = []string{"job.contoso.com"} }), true},
		{"revoked", revoked, false},
		{"none", tls.Certificate{}, false},
		{"of another CA", stranger.client(t, whole), false},
		{"of another CA with the same name", sameName.client(t, whole), false},
		{"signed by a caller's own", belowLeaf, false},
		{"expired", clients.client(t, also(func(c *x509.Certificate) {
			c.NotBefore, c.NotAfter = time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour)
		})), false},
		{"not yet valid", clients.client(t, also(func(c *x509.Certificate) { c.NotBefore = time.Now().Add(30 * time.Minute) })), false},
		{"for servers alone", clients.client(t, also(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} })), false},
		{"with an unknown critical extension", clients.client(t, also(func(c *x509.Certificate) {
			c.ExtraExtensions = []pkix.Extension{{Id: []int{1, 2, 3, 4}, Critical: true, Value: []byte{5, 0}}}
		})), false},
		{"common name alone", clients.client(t, func(c *x509.Certificate) { c.Subject.CommonName = "job.contoso.com" }), false},
		{"common name of the URI", clients.client(t, func(c *x509.Certificate) { c.Subject.CommonName = mesh }), false},
		{"mail address", clients.client(t, func(c *x509.Certificate) { c.EmailAddresses = []string{"mesh@contoso.com"} }), false},
	}
	for _, uri := range []string{mesh + "/", mesh + "/x", "spiffe://contoso/Mesh", "spiffe://CONTOSO/mesh", "spiffe://contoso/mes%68", "spiffe://contoso//mesh", "spiffe://contoso/x/../mesh", "spiffe://evil/mesh", "https://contoso/mesh", mesh + "?x", mesh + "#x", "spiffe://contoso:443/mesh"} {
		list = append(list, hostileCertificate{"URI " + uri, clients.client(t, uriSAN(t, uri)), false})
	}
	for _, name := range []string{"*.contoso.com", "job.contoso.com.evil.test", "xjob.contoso.com", "contoso.com", "job"} {
		list = append(list, hostileCertificate{"DNS " + name, clients.client(t, func(c *x509.Certificate) { c.DNSNames = []string{name} }), false})
	}
	return list
}

// smokescreen read its revocation list before the CAs that it belongs to, and
// so did not enforce it.
func TestSmokescreen293_HostileCertificatesProveNobody(t *testing.T) {
	server, clients := newAuthority(t), newCallersAuthority(t, "clients")
	revoked := clients.client(t, uriSAN(t, "spiffe://contoso/mesh"))
	g := emptyGuard(t)
	g.tls = server.trusting()
	g.begin(t, tlsListen, tlsFiles(t, server, clients, revoked.Leaf))
	for _, c := range hostileCertificates(t, clients, revoked) {
		for _, d := range g.doors {
			t.Run(c.name+" at "+d.name, func(t *testing.T) {
				g.tls = server.trusting(c.cert)
				got, err := g.exchange(g.fill(with("X: y"), d), 1)
				calls := g.arrived(t)
				switch ok := err == nil && got.statuses[0] == http.StatusOK; {
				case c.good && (!ok || len(calls) != 1):
					t.Errorf("answer %+v, %v, %d calls at the upstream", got, err, len(calls))
				case !c.good && (ok || len(calls) != 0):
					t.Errorf("answer %+v, and %d calls at the upstream", got, len(calls))
				case !c.good && err == nil && got.codes[0] != "caller_unknown":
					t.Errorf("answer %+v, want caller_unknown or no handshake", got)
				case err != nil && errors.Is(err, os.ErrDeadlineExceeded):
					t.Errorf("neither an answer nor an end: %v", err)
				}
				g.safe(t, got)
			})
		}
	}
	g.tls = server.trusting()
	g.good(t, g.doors[0])
	g.quiet(t)
}

// Caddy took the system's CAs when the file of the callers' could not be read.
func TestCVE_2026_27586_WithoutTheCallersCANothingIsServed(t *testing.T) {
	t.Parallel()
	server, clients := newAuthority(t), newCallersAuthority(t, "clients")
	for name, spoil := range map[string]func(files map[string]string){
		"CA missing":            func(f map[string]string) { delete(f, "clients.pem") },
		"CA empty":              func(f map[string]string) { f["clients.pem"] = "" },
		"CA no certificate":     func(f map[string]string) { f["clients.pem"] = "nonsense" },
		"CA a key":              func(f map[string]string) { f["clients.pem"] = f["server.key"] },
		"list missing":          func(f map[string]string) { delete(f, "crl.pem") },
		"list empty":            func(f map[string]string) { f["crl.pem"] = "" },
		"list of another CA":    func(f map[string]string) { f["crl.pem"] = newCallersAuthority(t, "clients").revoke(t) },
		"key of another server": func(f map[string]string) { _, f["server.key"] = server.server(t) },
	} {
		t.Run(name, func(t *testing.T) {
			g := emptyGuard(t)
			s := g.guarded(t, tlsListen, tlsFiles(t, server, clients))
			spoil(s.Files)
			dir := t.TempDir()
			for name, text := range s.Files {
				write(t, filepath.Join(dir, name), text)
			}
			write(t, filepath.Join(dir, "routes.yaml"), s.Config)
			cmd := exec.CommandContext(t.Context(), tool("gateway"), "serve", "--config", filepath.Join(dir, "routes.yaml"))
			cmd.Env = bareEnvironment()
			out, err := cmd.CombinedOutput()
			if err == nil || cmd.ProcessState.ExitCode() != 1 || !strings.Contains(string(out), ".pem") && !strings.Contains(string(out), "server.key") {
				t.Errorf("gateway serve: %v with %s; want exit 1 and the file's name", err, out)
			}
		})
	}
}
