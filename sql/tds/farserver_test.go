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
	"unicode/utf16"
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

// farLogin is LOGIN7 in plain words: the fixed part as bytes, texts, and the
// features in order.
type farLogin struct {
	bad                              string // what is wrong with it
	fixed                            [36]byte
	texts                            map[string]string
	sspi                             []byte
	features                         []farFeature
	version                          uint32
	flags1, flags2, typeFlag, flags3 byte
	clientID                         [6]byte
}

type farFeature struct {
	id   byte
	data []byte
}

func (l farLogin) feature(id byte) []byte {
	for _, f := range l.features {
		if f.id == id {
			return f.data
		}
	}
	return nil
}

func farDecode(b []byte) farLogin {
	l := farLogin{texts: map[string]string{}}
	if len(b) < 94 || int(binary.LittleEndian.Uint32(b)) != len(b) {
		l.bad = "length"
		return l
	}
	copy(l.fixed[:], b)
	copy(l.clientID[:], b[72:])
	l.version = binary.LittleEndian.Uint32(b[4:])
	l.flags1, l.flags2, l.typeFlag, l.flags3 = b[24], b[25], b[26], b[27]
	part := func(place, unit int) []byte {
		at, n := int(binary.LittleEndian.Uint16(b[place:])), int(binary.LittleEndian.Uint16(b[place+2:]))*unit
		if n == 0 {
			return nil
		}
		if at < 94 || at+n > len(b) {
			l.bad = fmt.Sprintf("field at %d", place)
			return nil
		}
		return b[at : at+n]
	}
	for name, place := range map[string]int{"host": 36, "user": 40, "password": 44, "app": 48, "server": 52, "library": 60,
		"language": 64, "database": 68, "attach": 82, "change": 86} {
		l.texts[name] = farText(part(place, 2))
	}
	l.sspi = part(78, 1)
	if l.flags3&0x10 == 0 {
		return l
	}
	pointer := part(56, 1)
	if len(pointer) < 4 {
		l.bad = "extension"
		return l
	}
	for p := int(binary.LittleEndian.Uint32(pointer)); ; {
		if p >= len(b) {
			l.bad = "feature list"
			return l
		}
		if b[p] == 0xff {
			if p != len(b)-1 {
				l.bad = "bytes after the features"
			}
			return l
		}
		n := int(binary.LittleEndian.Uint32(b[p+1:]))
		l.features = append(l.features, farFeature{b[p], b[p+5 : p+5+n]})
		p += 5 + n
	}
}

func farText(b []byte) string {
	units := make([]uint16, len(b)/2)
	for i := range units {
		units[i] = binary.LittleEndian.Uint16(b[2*i:])
	}
	return string(utf16.Decode(units))
}

func farUTF16(s string) []byte {
	var b []byte
	for _, u := range utf16.Encode([]rune(s)) {
		b = binary.LittleEndian.AppendUint16(b, u)
	}
	return b
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

// The tokens of answers, in bytes of their own.

func farJoin(tokens ...[]byte) []byte {
	var b []byte
	for _, t := range tokens {
		b = append(b, t...)
	}
	return b
}

func farShort(kind byte, body ...[]byte) []byte {
	b := farJoin(body...)
	return append([]byte{kind, byte(len(b)), byte(len(b) >> 8)}, b...)
}

func farBVar(s string) []byte {
	text := farUTF16(s)
	return append([]byte{byte(len(text) / 2)}, text...)
}

func farUSVar(s string) []byte {
	text := farUTF16(s)
	return append([]byte{byte(len(text) / 2), byte(len(text) / 2 >> 8)}, text...)
}

func farEnv(kind byte, now, old string) []byte {
	return farShort(0xe3, []byte{kind}, farBVar(now), farBVar(old))
}

func farCollation(c ...byte) []byte {
	return farShort(0xe3, []byte{7, byte(len(c))}, c, []byte{0})
}

func farAck(version uint32) []byte {
	return farShort(0xad, []byte{1}, binary.BigEndian.AppendUint32(nil, version), farBVar("Microsoft SQL Server"), []byte{12, 0, 7, 0xd0})
}

func farFeatures(features ...farFeature) []byte {
	b := []byte{0xae}
	for _, f := range features {
		b = append(binary.LittleEndian.AppendUint32(append(b, f.id), uint32(len(f.data))), f.data...)
	}
	return append(b, 0xff)
}

func farError(number int32, message string) []byte {
	return farShort(0xaa, binary.LittleEndian.AppendUint32(nil, uint32(number)), []byte{1, 14}, farUSVar(message), farBVar("far"),
		farBVar(""), []byte{1, 0, 0, 0})
}

func farInfo(message string) []byte {
	return farShort(0xab, []byte{0x45, 0x16, 0, 0, 2, 0}, farUSVar(message), farBVar("far"), farBVar(""), []byte{1, 0, 0, 0})
}

func farDone() []byte { return []byte{0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0} }

func farRouting(server string, port uint16) []byte {
	value := farJoin([]byte{0, byte(port), byte(port >> 8)}, farUSVar(server))
	return farShort(0xe3, []byte{20, byte(len(value)), byte(len(value) >> 8)}, value, []byte{0, 0})
}

func farEnhanced(server string, port uint16, database string) []byte {
	value := farJoin([]byte{0, byte(port), byte(port >> 8)}, farUSVar(server), farUSVar(database))
	return farShort(0xe3, []byte{21, byte(len(value)), byte(len(value) >> 8)}, value, []byte{0, 0})
}

// farWelcome is a whole welcome of TDS 7.4.
func farWelcome() []byte {
	return farJoin(farEnv(1, "ordersdb", "master"), farInfo("Changed database context to 'ordersdb'."),
		farCollation(9, 4, 0xd0, 0, 0x34), farAck(0x74000004), farEnv(4, "4096", "4096"),
		farFeatures(farFeature{2, nil}), farDone())
}
