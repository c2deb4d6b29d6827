package tds_test

import (
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"testing"
	"time"

	"github.com/seed-13b04e61/gateway/sql/tds"
)

// FuzzAccept plays bytes to a door of every kind: it comes to an end, and says
// little.
func FuzzAccept(f *testing.F) {
	certificate, _ := identity(f)
	doors := []tds.Front{
		{},
		{TLS: tds.TLSOptional, Certificate: func(string) (*tls.Certificate, error) { return &certificate, nil }},
		{TLS: tds.TLSRequired, Passwords: true, Certificate: func(string) (*tls.Certificate, error) { return &certificate, nil }},
	}
	hello := clientHello(f)
	f.Add(byte(0), append(preloginOf(2), login7(f, nil)...))
	f.Add(byte(0), append(preloginOf(2), login7(f, func(l *tds.Login) {
		l.ServerName = tds.NewUTF16("tcp:h,1")
		l.Features = []tds.Feature{{ID: 2, Data: []byte{3, 2, 0, 0, 0, 'a', 0}}}
	})...))
	f.Add(byte(0), oldLogin7(tds.TDS70))
	f.Add(byte(1), hello)
	f.Add(byte(1), append(preloginOf(1), packet(0x12, hello)...))
	f.Add(byte(2), append(preloginOf(2), login7(f, nil)...))
	f.Add(byte(1), fromHex(f, "1201002F0000010000001A00060100200001020021000103002200040400260001FF0900000000000100B80D000001"))
	f.Fuzz(func(t *testing.T, door byte, sent []byte) {
		conn := &memory{sent: bytes.NewReader(sent)}
		client, err := tds.Accept(t.Context(), conn, doors[int(door)%len(doors)])
		if (client == nil) == (err == nil) {
			t.Fatalf("Accept = %v, %v, want one of them", client, err)
		}
		const most = 8 << 10 // PRELOGIN, a flight of TLS with the certificate, an error of 1000 characters.
		if conn.answered > most {
			t.Errorf("door answered %d bytes by %d, want %d at most", len(sent), conn.answered, most)
		}
		if client == nil {
			return
		}
		_, _ = client.ServerName(), client.TraceID()
		if login := client.Login(); login == nil || !tds.AtLeast73B(login.Version) {
			t.Errorf("door took a client of %v", login)
		}
		client.Refuse(tds.LoginFailed("no"))
		if !conn.closed {
			t.Error("a refused client's connection is open")
		}
	})
}

// clientHello is the first flight of a client in strict TLS.
func clientHello(t testing.TB) []byte {
	t.Helper()
	conn := &memory{sent: bytes.NewReader(nil), keep: true}
	_ = tls.Client(conn, strict(nil, nil)).Handshake()
	if len(conn.kept) == 0 {
		t.Fatal("no ClientHello")
	}
	return conn.kept
}

// memory is a connection whose peer has said all that it will say.
type memory struct {
	sent     *bytes.Reader
	answered int
	keep     bool
	kept     []byte
	closed   bool
}

func (m *memory) Read(b []byte) (int, error) {
	if m.closed {
		return 0, io.ErrClosedPipe
	}
	return m.sent.Read(b)
}

func (m *memory) Write(b []byte) (int, error) {
	if m.keep {
		m.kept = append(m.kept, b...)
	}
	m.answered += len(b)
	return len(b), nil
}

func (m *memory) Close() error {
	m.closed = true
	return nil
}

func (*memory) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (*memory) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (*memory) SetDeadline(time.Time) error      { return nil }
func (*memory) SetReadDeadline(time.Time) error  { return nil }
func (*memory) SetWriteDeadline(time.Time) error { return nil }
