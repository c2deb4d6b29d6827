package tds_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-13b04e61/gateway/sql/tds"
)

// tlsConfigs are a server's and its client's. The certificate has so many
// names that the server's first flight needs several packets.
func tlsConfigs(t testing.TB, names int) (server, client *tls.Config) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{"sql.example"},
		NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1<<33, 0), BasicConstraintsValid: true, IsCA: true,
	}
	for i := range names {
		leaf.DNSNames = append(leaf.DNSNames, fmt.Sprintf("n%d.a-rather-long-domain-name-for-a-certificate.example", i))
	}
	der, err := x509.CreateCertificate(rand.Reader, leaf, leaf, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	if leaf, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	roots.AddCert(leaf)
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}},
		&tls.Config{RootCAs: roots, ServerName: "sql.example"}
}

// tapped records what is written, one entry for each Write, which change may
// replace on its way; nil changes nothing.
type tapped struct {
	net.Conn
	writes [][]byte
	change func(n int, b []byte) []byte
}

func (c *tapped) Write(b []byte) (int, error) {
	c.writes = append(c.writes, bytes.Clone(b))
	out := b
	if c.change != nil {
		out = c.change(len(c.writes), b)
	}
	if _, err := c.Conn.Write(out); err != nil {
		return 0, err
	}
	return len(b), nil
}

// shake does a handshake between two taps, then sends "ping" to the server and
// "pong" back.
func shake(t *testing.T, server, client *tapped, names int) (*tls.Conn, error) {
	t.Helper()
	serverConf, clientConf := tlsConfigs(t, names)
	done := make(chan error, 1)
	go func() {
		conn, err := tds.StartTLS(t.Context(), server, serverConf, tls.Server)
		if err == nil {
			_, err = conn.Write([]byte("pong"))
		}
		if err == nil {
			err = expect(conn, "ping")
		}
		if err != nil {
			_ = server.Close()
		}
		done <- err
	}()
	conn, err := tds.StartTLS(t.Context(), client, clientConf, tls.Client)
	if err == nil {
		err = expect(conn, "pong")
	}
	if err == nil {
		_, err = conn.Write([]byte("ping"))
	}
	if err != nil {
		_ = client.Close()
	}
	return conn, errors.Join(err, <-done)
}

func expect(r io.Reader, want string) error {
	b := make([]byte, len(want))
	if _, err := io.ReadFull(r, b); err != nil {
		return err
	}
	if string(b) != want {
		return fmt.Errorf("read %q, want %q", b, want)
	}
	return nil
}

// buffered is a loopback connection and its other end: unlike net.Pipe, both
// ends may write first.
func buffered(t *testing.T) (a, b net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	a, err = net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if b, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = a.Close(); _ = b.Close() })
	return a, b
}

func TestEachFlightOfAHandshakeIsOneMessageAndThenRecordsTravelBare(t *testing.T) {
	a, b := buffered(t)
	server, client := &tapped{Conn: a}, &tapped{Conn: b}
	conn, err := shake(t, server, client, 100)
	if err != nil {
		t.Fatal(err)
	}
	if v := conn.ConnectionState().Version; v != tls.VersionTLS12 {
		t.Errorf("version %#x, want TLS 1.2", v)
	}
	for name, side := range map[string]*tapped{"server": server, "client": client} {
		if len(side.writes) != 3 {
			t.Fatalf("%s writes %d times, want 3: two flights and a record", name, len(side.writes))
		}
		for i, flight := range side.writes[:2] {
			r := bytes.NewReader(flight)
			_, records, err := tds.ReadMessage(r, 1<<16, tds.PreLogin)
			if err != nil || r.Len() > 0 || len(records) == 0 || records[0] < 0x14 || records[0] > 0x17 {
				t.Errorf("%s, flight %d: %v, %d bytes behind, not one message of records", name, i+1, err, r.Len())
			}
		}
		if side.writes[2][0] != 0x17 {
			t.Errorf("%s: what follows the handshake begins with %#02x, want a bare record", name, side.writes[2][0])
		}
	}
	if flight := server.writes[0]; len(flight) < tds.LoginPacket || flight[2] != 0x10 || flight[3] != 0 {
		t.Errorf("the server's first flight of %d bytes is not in packets of 4096", len(flight))
	}
}

func TestAHandshakeMayComeInReplies(t *testing.T) {
	a, b := buffered(t)
	server, client := &tapped{Conn: a}, &tapped{Conn: b}
	server.change = func(n int, b []byte) []byte {
		b = bytes.Clone(b)
		if n < 3 {
			b[0] = byte(tds.Reply)
		}
		return b
	}
	if _, err := shake(t, server, client, 0); err != nil {
		t.Error(err)
	}
}

func TestARecordInTheLastPacketOfAHandshakeIsNotLost(t *testing.T) {
	a, b := buffered(t)
	server, client := &tapped{Conn: a}, &tapped{Conn: b}
	var last []byte
	server.change = func(n int, b []byte) []byte {
		switch n {
		case 2:
			last = bytes.Clone(b[tds.HeaderSize:])
			return nil
		case 3:
			return write(t, tds.Header{Type: tds.PreLogin}, append(last, b...), tds.LoginPacket)
		}
		return b
	}
	if _, err := shake(t, server, client, 0); err != nil {
		t.Error(err)
	}
}

func TestTheCallersConfigStaysAsItIs(t *testing.T) {
	a, b := buffered(t)
	serverConf, clientConf := tlsConfigs(t, 0)
	clientConf.MaxVersion = tls.VersionTLS13
	go func() { _, _ = tds.StartTLS(t.Context(), a, serverConf, tls.Server) }()
	conn, err := tds.StartTLS(t.Context(), b, clientConf, tls.Client)
	if err != nil {
		t.Fatal(err)
	}
	if v := conn.ConnectionState().Version; v != tls.VersionTLS12 || clientConf.MaxVersion != tls.VersionTLS13 || clientConf.DynamicRecordSizingDisabled {
		t.Errorf("version %#x; the caller's config was changed: %#x", v, clientConf.MaxVersion)
	}
}

func TestHandshakesThatAreNoneFail(t *testing.T) {
	for name, in := range map[string]string{
		"another type":                "0101000900000100" + "16",
		"bare TLS":                    "1603010200010001fc0303",
		"empty packets without end":   strings.Repeat("1201000800000100", 1000),
		"a header alone":              "1201000900000100",
		"nothing":                     "",
		"no TLS within":               "1201000d00000100" + "ffffffffff",
		"a length that no packet has": "1201000700000100",
	} {
		a, b := buffered(t)
		if _, err := a.Write(unhex(t, in)); err != nil {
			t.Fatal(err)
		}
		if err := a.(*net.TCPConn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		conf, _ := tlsConfigs(t, 0)
		if _, err := tds.StartTLS(t.Context(), b, conf, tls.Server); err == nil {
			t.Errorf("%s is taken for a handshake", name)
		}
	}
}

func TestAHandshakeEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := net.Pipe()
		defer a.Close()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		conf, _ := tlsConfigs(t, 0)
		if _, err := tds.StartTLS(ctx, b, conf, tls.Server); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v, want that of the context", err)
		}
	})
}

func TestTheWriteHalfEndsUnderTLSToo(t *testing.T) {
	a, b := buffered(t)
	conn, err := shake(t, &tapped{Conn: a}, &tapped{Conn: b}, 0)
	if err != nil {
		t.Fatal(err)
	}
	half, ok := conn.NetConn().(interface{ CloseWrite() error })
	if !ok {
		t.Fatal("the connection under TLS has no CloseWrite")
	}
	// A tap has no write half to end, which is no error; TCP has one.
	if err := half.CloseWrite(); err != nil {
		t.Error(err)
	}
	serverConf, clientConf := tlsConfigs(t, 0)
	a, b = buffered(t)
	ended := make(chan error, 1)
	go func() {
		server, err := tds.StartTLS(t.Context(), a, serverConf, tls.Server)
		if err == nil {
			err = server.NetConn().(interface{ CloseWrite() error }).CloseWrite()
		}
		ended <- err
	}()
	if conn, err = tds.StartTLS(t.Context(), b, clientConf, tls.Client); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if n, err := conn.Read(make([]byte, 1)); err == nil {
		t.Errorf("read %d bytes behind the end", n)
	}
}

func ExampleStartTLS() {
	certificate := httptest.NewTLSServer(nil) // for example.com
	defer certificate.Close()
	roots := x509.NewCertPool()
	roots.AddCert(certificate.Certificate())

	client, server := net.Pipe()
	defer client.Close()
	go func() {
		conn, err := tds.StartTLS(context.Background(), server, certificate.TLS, tls.Server)
		if err == nil {
			_, err = conn.Write([]byte("bare"))
		}
		if err != nil {
			_ = server.Close()
		}
	}()
	conn, err := tds.StartTLS(context.Background(), client, &tls.Config{RootCAs: roots, ServerName: "example.com"}, tls.Client)
	if err != nil {
		fmt.Println(err)
		return
	}
	b := make([]byte, 4)
	_, err = io.ReadFull(conn, b)
	fmt.Println(tls.VersionName(conn.ConnectionState().Version), string(b), err)
	// Output: TLS 1.2 bare <nil>
}
