package tds_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"encoding/hex"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"testing"
	"time"
	"unicode/utf16"

	"github.com/seed-13b04e61/gateway/sql/tds"
)

// arrival is a client that was accepted, or the reason why not.
type arrival struct {
	client *tds.Client
	err    error
}

// arrive connects to a door of this front over loopback. Whoever arrived is
// closed with the test.
func arrive(t *testing.T, f tds.Front) (net.Conn, <-chan arrival) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	conn, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	server, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(); server.Close() })
	deadline := time.Now().Add(30 * time.Second) // for tests that hang
	_ = conn.SetDeadline(deadline)
	_ = server.SetDeadline(deadline)
	return conn, take(t.Context(), server, f)
}

// take is Accept in the background, and closes conn after an error as doors do.
func take(ctx context.Context, conn net.Conn, f tds.Front) <-chan arrival {
	result := make(chan arrival, 1)
	go func() {
		client, err := tds.Accept(ctx, conn, f)
		if err != nil {
			conn.Close()
		}
		result <- arrival{client, err}
	}()
	return result
}

// welcomed is the client of an arrival that has to be one.
func welcomed(t testing.TB, result <-chan arrival) *tds.Client {
	t.Helper()
	a := <-result
	if a.err != nil {
		t.Fatalf("Accept: %v", a.err)
	}
	return a.client
}

// identity is a certificate for localhost and its loopback addresses, and its
// own authority.
func identity(t testing.TB) (tls.Certificate, []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "door"},
		NotBefore: time.Unix(0, 0), NotAfter: time.Now().Add(100 * 365 * 24 * time.Hour),
		DNSNames: []string{"localhost", "orders.database.windows.net"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key},
		pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// front is a door with a certificate, which the pool trusts.
func front(t testing.TB, mode tds.ClientTLS) (tds.Front, *x509.CertPool) {
	t.Helper()
	certificate, text := identity(t)
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(text)
	return tds.Front{TLS: mode, Certificate: func(string) (*tls.Certificate, error) { return &certificate, nil }}, pool
}

// preloginOf is a PRELOGIN with VERSION, ENCRYPTION and more options.
func preloginOf(asked byte, more ...tds.Option) []byte {
	options := tds.Options{{Token: tds.OptVersion, Data: []byte{16, 0, 0, 0, 0, 0}}, {Token: tds.OptEncryption, Data: []byte{asked}}}
	return packet(0x12, append(options, more...).Bytes())
}

// packet is a message of one packet, made by hand.
func packet(kind byte, payload []byte) []byte {
	b := []byte{kind, 1, 0, 0, 0, 0, 1, 0}
	binary.BigEndian.PutUint16(b[2:], uint16(len(payload)+len(b)))
	return append(b, payload...)
}

// login7 is a LOGIN7 of TDS 7.4 with what change does to it.
func login7(t testing.TB, change func(l *tds.Login)) []byte {
	t.Helper()
	l := &tds.Login{Version: tds.TDS74, PacketSize: 4096, UserName: tds.NewUTF16("any"), Password: tds.NewUTF16("pässword")}
	if change != nil {
		change(l)
	}
	b, err := l.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return packet(0x10, b)
}

// oldLogin7 is a LOGIN7 without any text, in the layout before TDS 7.2.
func oldLogin7(version uint32) []byte {
	b := make([]byte, 86)
	binary.LittleEndian.PutUint32(b, uint32(len(b)))
	binary.LittleEndian.PutUint32(b[4:], version)
	return packet(0x10, b)
}

// fromHex is bytes as the specification prints them.
func fromHex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func send(t testing.TB, w io.Writer, b []byte) {
	t.Helper()
	if _, err := w.Write(b); err != nil {
		t.Fatal(err)
	}
}

// answered reads the door's PRELOGIN and returns its ENCRYPTION.
func answered(t testing.TB, r io.Reader) byte {
	t.Helper()
	_, payload, err := tds.ReadMessage(r, 1<<16, tds.Reply)
	if err != nil {
		t.Fatalf("answer to PRELOGIN: %v", err)
	}
	options, err := tds.ParsePrelogin(payload)
	if err != nil {
		t.Fatal(err)
	}
	encryption, _ := options.Get(tds.OptEncryption)
	if len(encryption) != 1 {
		t.Fatalf("answer to PRELOGIN has ENCRYPTION %x", encryption)
	}
	return encryption[0]
}

// told is an error that a client reads.
type told struct {
	number       uint32
	state, class byte
	message      string
	server       string
}

// readError reads the last message of a connection, ERROR and DONE, as clients
// of 7.2 and later or, if old, of before do, and the end after it.
func readError(t testing.TB, r io.Reader, old bool) told {
	t.Helper()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatalf("reading the error: %v after %x", err, b)
	}
	line, done := 4, 13
	if old {
		line, done = 2, 9
	}
	if len(b) < 8+20+done || b[0] != 0x04 || b[1] != 1 || int(binary.BigEndian.Uint16(b[2:])) != len(b) || b[8] != 0xaa {
		t.Fatalf("no message with an ERROR: %x", b)
	}
	size := int(binary.LittleEndian.Uint16(b[9:]))
	token, rest := b[11:11+size], b[11+size:]
	e := told{number: binary.LittleEndian.Uint32(token), state: token[4], class: token[5]}
	units := int(binary.LittleEndian.Uint16(token[6:]))
	e.message = text(token[8 : 8+2*units])
	token = token[8+2*units:]
	e.server = text(token[1 : 1+2*int(token[0])])
	token = token[1+2*int(token[0]):]
	if len(token) != 1+line {
		t.Errorf("ERROR has %d bytes for procedure and line, want %d", len(token), 1+line)
	}
	if want := append([]byte{0xfd, 2}, make([]byte, done-2)...); !bytes.Equal(rest, want) {
		t.Errorf("after ERROR = %x, want %x", rest, want)
	}
	return e
}

// text is UTF-16LE in words.
func text(b []byte) string {
	units := make([]uint16, len(b)/2)
	for i := range units {
		units[i] = binary.LittleEndian.Uint16(b[2*i:])
	}
	return string(utf16.Decode(units))
}
