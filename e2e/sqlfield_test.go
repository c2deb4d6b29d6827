package e2e

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"fmt"
	"io"
	"math/big"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/seed-13b04e61/gateway/sandbox"
)

// sqlSetup is a field for drivers: what stands behind the entry's name, listen,
// server and trust in routes.yaml, and further sections of the file.
type sqlSetup struct {
	keys, sections string
	listen         string // "": 127.0.0.1:0
	options        sandbox.SQLOptions
	args           []string          // of serve
	files          map[string]string // beside routes.yaml
	// before changes the world while there is no gateway yet; nil: nothing.
	before func(f *sqlField)
}

// sqlField is where drivers run: the sandbox's strict server, the built gateway
// with a SQL door before it, and a wire tap between the driver and the door. At
// the end no client may have broken a rule of the protocol at the server, and
// no token may have come to the drivers' side or into the log.
type sqlField struct {
	world *sandbox.World
	far   *sandbox.SQL
	g     *gateway
	tap   *sqlTap // drivers connect to this
	host  string  // of the tap
	port  string
	ca    string     // file that drivers trust the door by
	said  transcript // what drivers printed
}

const sqlDoor = "orders"

// sqlPrincipal is whom the server sees behind the gateway.
var sqlPrincipal = sandbox.ClientID + "@" + sandbox.TenantID

// newSQLField opens the door.
func newSQLField(t *testing.T, s sqlSetup) *sqlField {
	t.Helper()
	f := &sqlField{world: newWorld(t, sandbox.Options{})}
	s.options.World = f.world
	f.far = startSQL(t, s.options)
	if s.before != nil {
		s.before(f)
	}
	own := newAuthority(t)
	dir := t.TempDir()
	f.ca = filepath.Join(dir, "door-ca.pem")
	write(t, f.ca, own.pem)
	certificate, key := doorCertificate(t, own)
	files := map[string]string{"client-secret": f.world.Secret(), "sql-ca.pem": string(f.far.CAPEM()), "door.pem": certificate, "door.key": key}
	for name, text := range s.files {
		files[name] = text
	}
	t.Cleanup(func() { f.hunt(t) }) // runs once the gateway is over
	f.g = start(t, setup{Dir: dir, Files: files, Args: s.args, Config: f.config(s)})
	f.tap = newSQLTap(t, f.g.sql[sqlDoor])
	f.host, f.port, _ = net.SplitHostPort(f.tap.addr)
	return f
}

// doorCertificate is for loopback. Its common name is what pytds looks at.
func doorCertificate(t *testing.T, a *authority) (certPEM, keyPEM string) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	certPEM, _ = sign(t, &x509.Certificate{
		SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: "localhost"}, NotBefore: a.cert.NotBefore, NotAfter: a.cert.NotAfter,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames: []string{"localhost", "*.database.windows.net"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}, a, key)
	return certPEM, privatePEM(t, key)
}

// config is routes.yaml with one door.
func (f *sqlField) config(s sqlSetup) string {
	if s.listen == "" {
		s.listen = "127.0.0.1:0"
	}
	return fmt.Sprintf(`version: 1
listen: {proxy: "127.0.0.1:0", admin: "127.0.0.1:0"}
log: {level: trace}
credentials:
  default: {tenant_id: %s, client_id: %s, client_secret: {file: client-secret}, authority_host: %s}
%ssql:
%s`, sandbox.TenantDomain, sandbox.ClientID, f.world.Entra.URL(), s.sections, f.entry(sqlDoor, s.listen, s.keys))
}

// entry is a door before the field's server.
func (f *sqlField) entry(name, listen, keys string) string {
	for _, key := range []struct{ name, usual string }{
		{"server", ", server: " + sandbox.SQLHost}, {"dial:", fmt.Sprintf(", dial: %q", f.far.Addr())}, {"database:", ", database: d1"},
		{"certificate_file:", ", certificate_file: door.pem, key_file: door.key"},
	} {
		shown := key.name != "certificate_file:" || !strings.Contains(keys, "client_tls: off")
		if shown && !strings.Contains(keys, key.name) {
			keys = key.usual + keys
		}
	}
	return fmt.Sprintf("  - {name: %s, listen: %q, tls: {ca_file: sql-ca.pem}%s}\n", name, listen, keys)
}

// run runs a driver's program and returns what it printed, which is kept for
// the hunt.
func (f *sqlField) run(t testing.TB, cmd *exec.Cmd) (string, error) {
	t.Helper()
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	out := stdout.String() + "\n" + stderr.String()
	_, _ = f.said.Write([]byte(out))
	return out, err
}

// hunt looks for the tokens that the server got, and for any other.
func (f *sqlField) hunt(t *testing.T) {
	t.Helper()
	tokens := map[string]bool{}
	for _, l := range f.far.Logins() {
		for _, token := range sqlTokens(l.Payload) {
			tokens[token] = true
		}
		if len(l.Payload) > 0 && l.ClientID != "" && len(tokens) == 0 {
			t.Error("no token is found in a login that the server believed; the hunt is blind")
		}
	}
	seen := map[string]string{"the drivers' output": f.said.String()}
	if f.tap != nil {
		seen["what drivers and door said to each other"] = f.tap.bytes.String()
	}
	if f.g != nil {
		seen["the gateway's stdout"], seen["the gateway's stderr"] = f.g.stdout.String(), f.g.stderr.String()
	}
	for where, text := range seen {
		text += narrow(text) // as UTF-16
		if at := jwtIn(text); at >= 0 {
			t.Errorf("a token is in %s: …%.60q…", where, text[max(0, at-20):])
		}
		for token := range tokens {
			if strings.Contains(text, token[len(token)/2:len(token)/2+24]) {
				t.Errorf("the inside of a token is in %s", where)
			}
		}
		if strings.Contains(text, f.world.Secret()) {
			t.Errorf("the client secret is in %s", where)
		}
	}
}

// narrow takes out the zero bytes that UTF-16 has.
func narrow(s string) string { return strings.ReplaceAll(s, "\x00", "") }

// sqlTokens are the access tokens in a LOGIN7: JWTs in UTF-16, the FEDAUTH
// feature's 32-bit length before each.
func sqlTokens(login []byte) []string {
	var all []string
	start := []byte("e\x00y\x00J\x00")
	for rest := login; ; {
		at := bytes.Index(rest, start)
		if at < 4 {
			return all
		}
		n := int(binary.LittleEndian.Uint32(rest[at-4:]))
		if n > len(rest)-at {
			return all
		}
		all = append(all, narrow(string(rest[at:at+n])))
		rest = rest[at+n:]
	}
}

// sqlTap carries connections to a door and keeps what they carry.
type sqlTap struct {
	addr  string
	door  string
	bytes transcript

	mu   sync.Mutex // guards open
	open map[net.Conn]bool
}

func newSQLTap(t testing.TB, door string) *sqlTap {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &sqlTap{addr: l.Addr().String(), door: door, open: map[net.Conn]bool{}}
	var work sync.WaitGroup
	work.Go(func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return // the listener is closed
			}
			work.Go(func() { p.carry(near) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		p.cut()
		work.Wait()
	})
	return p
}

// cut ends every connection.
func (p *sqlTap) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.open {
		_ = c.Close()
	}
}

// reset ends every connection at once, as a firewall does that has forgotten it.
func (p *sqlTap) reset() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.open {
		if tcp, ok := c.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
		}
		_ = c.Close()
	}
}

func (p *sqlTap) carry(near net.Conn) {
	defer near.Close()
	far, err := net.Dial("tcp", p.door)
	if err != nil {
		return // as a port that nobody listens at
	}
	defer far.Close()
	p.mu.Lock()
	p.open[near], p.open[far] = true, true
	p.mu.Unlock()
	var both sync.WaitGroup
	for _, way := range [][2]net.Conn{{near, far}, {far, near}} {
		both.Go(func() {
			_, _ = io.Copy(way[0], io.TeeReader(way[1], &p.bytes))
			if half, ok := way[0].(*net.TCPConn); ok {
				_ = half.CloseWrite()
			}
		})
	}
	both.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.open, near)
	delete(p.open, far)
}
