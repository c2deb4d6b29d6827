package tds_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// farServer is a SQL server of a few lines with its own reading of the bytes: it
// does what it is told and keeps what it saw. Nothing of the room is used.
type farServer struct {
	strict     bool
	encryption int // -1: the option is left out
	fedAuth    int // FEDAUTHREQUIRED; -1: left out
	nonce      []byte
	mars       byte
	conf       *tls.Config
	// answer is the payload that follows LOGIN7; nil hangs up.
	answer func(v farVisit) []byte
	// Takes over, if set, instead of the answer to PRELOGIN or to LOGIN7.
	onPrelogin, onLogin func(net.Conn)

	addr   string
	mu     sync.Mutex
	visits []farVisit
}

// farVisit is what one connection brought.
type farVisit struct {
	n                 int // 0 for the first
	options           map[byte][]byte
	order             []byte
	version           uint16 // of TLS
	alpn, sni         string
	packets           []int  // sizes of LOGIN7's
	records           []int  // sizes of the reads that brought them
	payload           []byte // of LOGIN7
	login             farLogin
	loginSeen, tlsEnd bool
}

// newFar returns a server that encrypts, takes tokens, and welcomes everybody.
func newFar() *farServer {
	return &farServer{encryption: 1, fedAuth: 1, answer: func(farVisit) []byte { return farWelcome() }}
}

// start listens until the test ends.
func (f *farServer) start(t testing.TB) *farServer {
	t.Helper()
	if f.conf == nil {
		f.conf = &tls.Config{Certificates: []tls.Certificate{farTrust().leaf}}
	}
	if f.strict && f.conf.NextProtos == nil {
		f.conf.NextProtos = []string{"tds/8.0"}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f.addr = l.Addr().String()
	var open sync.Map
	var done sync.WaitGroup
	done.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			open.Store(conn, true)
			done.Go(func() {
				defer conn.Close()
				f.serve(conn)
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		open.Range(func(conn, _ any) bool { _ = conn.(net.Conn).Close(); return true })
		done.Wait()
	})
	return f
}

// seen are the visits so far.
func (f *farServer) seen() []farVisit {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]farVisit(nil), f.visits...)
}

func (f *farServer) serve(conn net.Conn) {
	v := farVisit{}
	f.mu.Lock()
	v.n = len(f.visits)
	f.visits = append(f.visits, v)
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		f.visits[v.n] = v
		f.mu.Unlock()
	}()
	note := func(tc *tls.Conn) {
		s := tc.ConnectionState()
		v.version, v.alpn, v.sni, v.tlsEnd = s.Version, s.NegotiatedProtocol, s.ServerName, true
	}
	if f.strict {
		tc := tls.Server(conn, f.conf)
		if tc.Handshake() != nil {
			return
		}
		note(tc)
		conn = tc
	}
	kind, payload, err := farPacket(conn)
	if err != nil || kind != 0x12 {
		return
	}
	v.options, v.order = farOptions(payload)
	if f.onPrelogin != nil {
		f.onPrelogin(conn)
		return
	}
	if _, err := conn.Write(farFrame(4, f.prelogin())); err != nil {
		return
	}
	if !f.strict {
		inner := &farInner{Conn: conn}
		tc := tls.Server(inner, f.conf)
		if tc.Handshake() != nil {
			return
		}
		inner.bare = true
		note(tc)
		conn = tc
	}
	if !v.read(conn) {
		return
	}
	f.mu.Lock()
	f.visits[v.n] = v
	f.mu.Unlock()
	if f.onLogin != nil {
		f.onLogin(conn)
		return
	}
	if answer := f.answer(v); answer != nil {
		for len(answer) > 4088 {
			packet := farFrame(4, answer[:4088])
			packet[1] = 0
			_, _ = conn.Write(packet)
			answer = answer[4088:]
		}
		_, _ = conn.Write(farFrame(4, answer))
		_, _ = io.Copy(conn, conn)
	}
}

// read reads LOGIN7. crypto/tls returns one record at most from each Read.
func (v *farVisit) read(conn net.Conn) bool {
	var payload []byte
	buf := make([]byte, 64<<10)
	for {
		n, err := conn.Read(buf)
		if err != nil {
			return false
		}
		v.records = append(v.records, n)
		last := false
		for b := buf[:n]; len(b) > 0 && !last; {
			if len(b) < 8 || b[0] != 0x10 || int(binary.BigEndian.Uint16(b[2:])) > len(b) {
				return false
			}
			size := int(binary.BigEndian.Uint16(b[2:]))
			v.packets = append(v.packets, size)
			payload = append(payload, b[8:size]...)
			last = b[1]&1 != 0
			b = b[size:]
		}
		if last {
			v.payload, v.login, v.loginSeen = payload, farDecode(payload), true
			return true
		}
	}
}

func (f *farServer) prelogin() []byte {
	type option struct {
		token byte
		data  []byte
	}
	options := []option{{0, []byte{12, 0, 7, 0xd0, 0, 0}}}
	if f.encryption >= 0 {
		options = append(options, option{1, []byte{byte(f.encryption)}})
	}
	options = append(options, option{2, []byte{0}}, option{3, nil}, option{4, []byte{f.mars}})
	if f.fedAuth >= 0 {
		options = append(options, option{6, []byte{byte(f.fedAuth)}})
	}
	if f.nonce != nil {
		options = append(options, option{7, f.nonce})
	}
	var head, data []byte
	for _, o := range options {
		at := len(options)*5 + 1 + len(data)
		head = append(head, o.token, byte(at>>8), byte(at), 0, byte(len(o.data)))
		data = append(data, o.data...)
	}
	return append(append(head, 0xff), data...)
}

func farOptions(b []byte) (map[byte][]byte, []byte) {
	options, order := map[byte][]byte{}, []byte(nil)
	for p := b; len(p) >= 5 && p[0] != 0xff; p = p[5:] {
		at, n := int(binary.BigEndian.Uint16(p[1:])), int(binary.BigEndian.Uint16(p[3:]))
		if at+n > len(b) {
			return nil, nil
		}
		options[p[0]] = b[at : at+n]
		order = append(order, p[0])
	}
	return options, order
}

func farPacket(r io.Reader) (kind byte, payload []byte, err error) {
	var h [8]byte
	if _, err := io.ReadFull(r, h[:]); err != nil {
		return 0, nil, err
	}
	n := int(binary.BigEndian.Uint16(h[2:]))
	if n < 8 || h[1]&1 == 0 {
		return 0, nil, errors.New("odd packet")
	}
	payload = make([]byte, n-8)
	_, err = io.ReadFull(r, payload)
	return h[0], payload, err
}

// farFrame is one packet, of SPID 0x0102.
func farFrame(kind byte, payload []byte) []byte {
	n := len(payload) + 8
	return append([]byte{kind, 1, byte(n >> 8), byte(n), 1, 2, 1, 0}, payload...)
}

// farInner carries TLS in packets until bare.
type farInner struct {
	net.Conn
	rest []byte
	bare bool
}

func (c *farInner) Read(b []byte) (int, error) {
	if c.bare && len(c.rest) == 0 {
		return c.Conn.Read(b)
	}
	if len(c.rest) == 0 {
		kind, payload, err := farPacket(c.Conn)
		if err != nil {
			return 0, err
		}
		if kind != 0x12 {
			return 0, errors.New("TLS in a packet of another type")
		}
		c.rest = payload
	}
	n := copy(b, c.rest)
	c.rest = c.rest[n:]
	return n, nil
}

func (c *farInner) Write(b []byte) (int, error) {
	if c.bare {
		return c.Conn.Write(b)
	}
	for rest := b; len(rest) > 0; {
		n := min(len(rest), 4088)
		if _, err := c.Conn.Write(farFrame(0x12, rest[:n])); err != nil {
			return 0, err
		}
		rest = rest[n:]
	}
	return len(b), nil
}

// farNames are the names on the certificate of every farServer.
var farNames = []string{"sql.example.test", "localhost", "127.0.0.1", "orders.database.windows.net", "node.database.windows.net",
	"w1.worker.database.windows.net", "x.datawarehouse.fabric.microsoft.com", "other.example.test", "elsewhere.example.org"}

type farCA struct {
	pool    *x509.CertPool
	pem     []byte
	leaf    tls.Certificate
	expired tls.Certificate
	named   func(name string) tls.Certificate
}

// farTrust is the one CA of the tests.
var farTrust = sync.OnceValue(func() farCA {
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	root := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "far CA"}, IsCA: true,
		BasicConstraintsValid: true, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der := must(x509.CreateCertificate(rand.Reader, root, root, key.Public(), key))
	issue := func(end time.Time, names ...string) tls.Certificate {
		leafKey := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
		leaf := &x509.Certificate{SerialNumber: big.NewInt(2), NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: end}
		for _, name := range names {
			if ip := net.ParseIP(name); ip != nil {
				leaf.IPAddresses = append(leaf.IPAddresses, ip)
			} else {
				leaf.DNSNames = append(leaf.DNSNames, name)
			}
		}
		return tls.Certificate{PrivateKey: leafKey,
			Certificate: [][]byte{must(x509.CreateCertificate(rand.Reader, leaf, root, leafKey.Public(), key))}}
	}
	ca := farCA{pool: x509.NewCertPool(), pem: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})}
	ca.pool.AppendCertsFromPEM(ca.pem)
	ca.leaf, ca.expired = issue(time.Now().Add(time.Hour), farNames...), issue(time.Now().Add(-time.Hour), farNames...)
	ca.named = func(name string) tls.Certificate { return issue(time.Now().Add(time.Hour), name) }
	return ca
})

// farConf shows a certificate for one name or address alone.
func farConf(name string) *tls.Config {
	return &tls.Config{Certificates: []tls.Certificate{farTrust().named(strings.TrimSuffix(name, "."))}}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// farDialer leads names to servers, and keeps what was dialled.
type farDialer struct {
	to     map[string]*farServer // by host:port
	mu     sync.Mutex
	dialed []string
}

func (d *farDialer) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	d.mu.Lock()
	d.dialed = append(d.dialed, addr)
	d.mu.Unlock()
	f, ok := d.to[addr]
	if !ok {
		return nil, fmt.Errorf("nobody listens at %s", addr)
	}
	var direct net.Dialer
	return direct.DialContext(ctx, network, f.addr)
}
