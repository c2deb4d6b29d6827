package tds_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-13b04e61/gateway/sql/tds"
)

// The table of encryption, with what a client does next: it logs in in clear
// text or in TLS, or it cannot go on.
func TestEncryptionIsNegotiatedByTheTable(t *testing.T) {
	const (
		off, on, notSupported, required = 0, 1, 2, 3
		clientCertificate               = 0x80
	)
	for _, c := range []struct {
		name             string
		mode             tds.ClientTLS
		passwords, plain bool
		asked            byte
		answer           byte
		then             string // Client.TLS, or "" if the client leaves
	}{
		{"off, client off", tds.TLSOff, false, false, off, notSupported, "off"},
		{"off, client on", tds.TLSOff, false, false, on, notSupported, ""},
		{"off, client requires", tds.TLSOff, false, false, required, notSupported, ""},
		{"off, client cannot", tds.TLSOff, false, false, notSupported, notSupported, "off"},
		{"off, plain passwords", tds.TLSOff, true, true, off, notSupported, "off"},
		{"optional, client off", tds.TLSOptional, false, false, off, notSupported, "off"},
		{"optional, client on", tds.TLSOptional, false, false, on, on, "mandatory"},
		{"optional, client on with a certificate", tds.TLSOptional, false, false, on | clientCertificate, on, "mandatory"},
		{"optional, client requires", tds.TLSOptional, false, false, required, on, "mandatory"},
		{"optional, client cannot", tds.TLSOptional, false, false, notSupported, notSupported, "off"},
		{"optional, passwords, client off", tds.TLSOptional, true, false, off, required, "mandatory"},
		{"optional, plain passwords, client off", tds.TLSOptional, true, true, off, required, "mandatory"},
		{"optional, passwords, client on", tds.TLSOptional, true, false, on, on, "mandatory"},
		{"optional, passwords, client cannot", tds.TLSOptional, true, false, notSupported, required, ""},
		{"optional, plain passwords, client cannot", tds.TLSOptional, true, true, notSupported, notSupported, "off"},
		{"required, client off", tds.TLSRequired, false, false, off, required, "mandatory"},
		{"required, client on", tds.TLSRequired, false, false, on, on, "mandatory"},
		{"required, client requires", tds.TLSRequired, false, false, required, on, "mandatory"},
		{"required, client cannot", tds.TLSRequired, false, false, notSupported, required, ""},
		{"required, plain passwords, client cannot", tds.TLSRequired, true, true, notSupported, required, ""},
		{"required, client could after all", tds.TLSRequired, true, false, notSupported, required, "mandatory"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f, pool := front(t, c.mode)
			f.Passwords, f.Plain = c.passwords, c.plain
			conn, result := arrive(t, f)
			send(t, conn, preloginOf(c.asked))
			if got := answered(t, conn); got != c.answer {
				t.Fatalf("answer = %d, want %d", got, c.answer)
			}
			if c.then == "" {
				conn.Close()
				if a := <-result; a.err == nil || !strings.Contains(a.err.Error(), "Encrypt=") {
					t.Errorf("Accept = %v, want an error with the word to change", a.err)
				}
				return
			}
			if c.then == "mandatory" {
				secured, err := tds.StartTLS(t.Context(), conn, &tls.Config{RootCAs: pool, ServerName: "localhost"}, tls.Client)
				if err != nil {
					t.Fatal(err)
				}
				conn = secured
			}
			send(t, conn, login7(t, nil))
			client := welcomed(t, result)
			if client.TLS() != c.then || client.Login().Password.String() != "pässword" {
				t.Errorf("TLS = %q, password %q, want %q and the password", client.TLS(), client.Login().Password, c.then)
			}
		})
	}
}

func TestClientsWithoutEncryptionOptionCannotEncrypt(t *testing.T) {
	for mode, want := range map[tds.ClientTLS]byte{tds.TLSOff: 2, tds.TLSOptional: 2, tds.TLSRequired: 3} {
		f, _ := front(t, mode)
		conn, _ := arrive(t, f)
		send(t, conn, packet(0x12, tds.Options{{Token: tds.OptVersion, Data: make([]byte, 6)}}.Bytes()))
		if got := answered(t, conn); got != want {
			t.Errorf("answer of mode %d = %d, want %d", mode, got, want)
		}
	}
}

// A client that is told NOT_SUP says itself why it goes no further, as the
// connection stays open for it to do so, for two seconds.
func TestClientThatInsistsOnEncryptionClosesFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn, server := net.Pipe()
		defer conn.Close()
		recorded := &recorder{Conn: server}
		start := time.Now()
		_ = server.SetDeadline(start.Add(15 * time.Second))
		result := take(t.Context(), recorded, tds.Front{})
		send(t, conn, preloginOf(1))
		if got := answered(t, conn); got != 2 {
			t.Errorf("answer = %d, want 2", got)
		}
		send(t, conn, []byte("an alert, perhaps"))
		if a := <-result; a.err == nil || !strings.Contains(a.err.Error(), "client_tls: optional") {
			t.Errorf("Accept = %v, want an error that says what to set", a.err)
		}
		if took := time.Since(start); took != 2*time.Second {
			t.Errorf("waited %v, want 2 s", took)
		}
		if got := recorded.what(); got[len(got)-2] != "close write" {
			t.Errorf("door did %q, want a half close before the close", got)
		}
	})
}

// tedious logs in though it asked for encryption and there is none.
func TestLoginInClearTextAfterAskingForEncryptionIsRefused(t *testing.T) {
	conn, result := arrive(t, tds.Front{})
	send(t, conn, append(preloginOf(1), login7(t, nil)...))
	if got := answered(t, conn); got != 2 {
		t.Errorf("answer = %d, want 2", got)
	}
	if got := readError(t, conn, false); got.number != 18456 || !strings.Contains(got.message, "set Encrypt=False") {
		t.Errorf("error = %+v, want 18456 that says what to set", got)
	}
	conn.Close()
	var fault *tds.Fault
	if a := <-result; !errors.As(a.err, &fault) || a.client != nil {
		t.Errorf("Accept = %v, %v, want the fault that the client was told", a.client, a.err)
	}
}

// strict is a client's TLS of TDS 8.0.
func strict(pool *x509.CertPool, change func(c *tls.Config)) *tls.Config {
	c := &tls.Config{RootCAs: pool, ServerName: "Orders.database.windows.net", NextProtos: []string{"tds/8.0"}}
	if change != nil {
		change(c)
	}
	return c
}

func TestStrictClientsAreTakenInEitherVersion(t *testing.T) {
	for _, c := range []struct {
		name              string
		mode              tds.ClientTLS
		tls               uint16
		asked, answer     byte
		version           uint32
		server, canonical string
	}{
		{"go-mssqldb", tds.TLSRequired, tls.VersionTLS13, 4, 2, tds.TDS80, "localhost", "localhost"},
		{"tedious", tds.TLSRequired, tls.VersionTLS12, 2, 2, tds.TDS74, "localhost", "localhost"},
		{"SqlClient", tds.TLSOptional, tls.VersionTLS13, 0, 2, tds.TDS80, "", "orders.database.windows.net"},
		{"mssql-jdbc of old", tds.TLSOptional, tls.VersionTLS13, 1, 1, tds.TDS80, "", "orders.database.windows.net"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f, pool := front(t, c.mode)
			f.Passwords = true
			raw, result := arrive(t, f)
			conn := tls.Client(raw, strict(pool, func(conf *tls.Config) { conf.MaxVersion = c.tls }))
			send(t, conn, preloginOf(c.asked))
			if got := answered(t, conn); got != c.answer {
				t.Errorf("answer = %d, want %d", got, c.answer)
			}
			if got := conn.ConnectionState(); got.Version != c.tls || got.NegotiatedProtocol != "tds/8.0" {
				t.Errorf("TLS %#x with %q, want %#x with tds/8.0", got.Version, got.NegotiatedProtocol, c.tls)
			}
			send(t, conn, login7(t, func(l *tds.Login) { l.Version, l.ServerName = c.version, tds.NewUTF16(c.server) }))
			client := welcomed(t, result)
			if client.TLS() != "strict" || client.ServerName() != c.canonical || client.Login().Version != c.version {
				t.Errorf("TLS %q, server %q, version %#x, want strict, %q, %#x",
					client.TLS(), client.ServerName(), client.Login().Version, c.canonical, c.version)
			}
		})
	}
}

// SNI counts under strict TLS alone: inside TDS it follows the dialled name.
func TestServerIsNotNamedByTLSInsideTDS(t *testing.T) {
	f, pool := front(t, tds.TLSOptional)
	raw, result := arrive(t, f)
	send(t, raw, preloginOf(1))
	answered(t, raw)
	conn, err := tds.StartTLS(t.Context(), raw, &tls.Config{RootCAs: pool, ServerName: "localhost"}, tls.Client)
	if err != nil {
		t.Fatal(err)
	}
	send(t, conn, login7(t, nil))
	if got := welcomed(t, result).ServerName(); got != "" {
		t.Errorf("ServerName = %q, want none", got)
	}
}

func TestStrictTLSIsForTDS8Alone(t *testing.T) {
	for _, c := range []struct {
		name  string
		mode  tds.ClientTLS
		alpn  []string
		words string
	}{
		{"no ALPN", tds.TLSOptional, nil, "no ALPN"},
		{"a browser", tds.TLSOptional, []string{"h2", "http/1.1"}, "TLS handshake with the client"},
		{"a door without TLS", tds.TLSOff, []string{"tds/8.0"}, "set client_tls: optional"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f, pool := front(t, c.mode)
			raw, result := arrive(t, f)
			conn := tls.Client(raw, strict(pool, func(conf *tls.Config) { conf.NextProtos = c.alpn }))
			_ = conn.Handshake()
			if a := <-result; a.err == nil || !strings.Contains(a.err.Error(), c.words) {
				t.Errorf("Accept = %v, want an error with %q", a.err, c.words)
			}
		})
	}
}

// A TLS 1.3 server writes tickets after the handshake, which a client inside
// TDS no longer expects in packets.
func TestTLSInsideTDSIsNeverAbove12(t *testing.T) {
	f, pool := front(t, tds.TLSOptional)
	raw, result := arrive(t, f)
	send(t, raw, preloginOf(1))
	answered(t, raw)
	inside := &packets{Conn: raw}
	conn := tls.Client(inside, &tls.Config{RootCAs: pool, ServerName: "localhost", MaxVersion: tls.VersionTLS13})
	if err := conn.Handshake(); err != nil {
		t.Fatal(err)
	}
	inside.bare = true
	if got := conn.ConnectionState().Version; got != tls.VersionTLS12 {
		t.Errorf("TLS version = %#x, want %#x", got, tls.VersionTLS12)
	}
	send(t, conn, login7(t, nil))
	welcomed(t, result)
}

// packets is a client's side of TLS inside PRELOGIN packets, made by hand.
type packets struct {
	net.Conn
	bare bool
	rest []byte
}

func (p *packets) Read(b []byte) (int, error) {
	if p.bare {
		return p.Conn.Read(b)
	}
	if len(p.rest) == 0 {
		var header [8]byte
		if _, err := io.ReadFull(p.Conn, header[:]); err != nil {
			return 0, err
		}
		if header[0] != 0x12 {
			return 0, errors.New("no PRELOGIN packet")
		}
		p.rest = make([]byte, binary.BigEndian.Uint16(header[2:])-8)
		if _, err := io.ReadFull(p.Conn, p.rest); err != nil {
			return 0, err
		}
	}
	n := copy(b, p.rest)
	p.rest = p.rest[n:]
	return n, nil
}

func (p *packets) Write(b []byte) (int, error) {
	if p.bare {
		return p.Conn.Write(b)
	}
	_, err := p.Conn.Write(packet(0x12, b))
	return len(b), err
}

func TestDistrustOfTheCertificateIsSaidInWords(t *testing.T) {
	inside := func(conn net.Conn, conf *tls.Config) {
		_, _ = conn.Write(preloginOf(1))
		_, _, _ = tds.ReadMessage(conn, 1<<16, tds.Reply)
		_, _ = tds.StartTLS(t.Context(), conn, conf, tls.Client)
	}
	outside := func(conn net.Conn, conf *tls.Config) { _ = tls.Client(conn, strict(conf.RootCAs, nil)).Handshake() }
	for _, c := range []struct {
		name   string
		client func(conn net.Conn, conf *tls.Config)
		words  string
	}{
		{"inside TDS", inside, "client does not trust the door's certificate: it answered with the alert bad_certificate"},
		{"strict", outside, "client does not trust the door's certificate: it answered with the alert bad_certificate"},
		// OpenSSL sends it so under TLS 1.3.
		{"unsealed alert", func(conn net.Conn, conf *tls.Config) {
			outside(&unsealed{Conn: conn}, conf)
		}, "client does not trust the door's certificate: it answered with the alert unknown_ca"},
		{"closed", func(conn net.Conn, conf *tls.Config) { outside(&mute{Conn: conn}, conf) }, "client left when it saw the door's certificate"},
		{"closed after the handshake", func(conn net.Conn, conf *tls.Config) {
			conf.InsecureSkipVerify = true
			inside(conn, conf)
		}, "client left right after the TLS handshake, as clients do that do not trust the door's certificate"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f, _ := front(t, tds.TLSOptional)
			conn, result := arrive(t, f)
			c.client(conn, &tls.Config{RootCAs: x509.NewCertPool(), ServerName: "localhost"})
			conn.Close()
			a := <-result
			if a.err == nil || !strings.Contains(a.err.Error(), c.words) {
				t.Fatalf("Accept = %v, want an error with %q", a.err, c.words)
			}
			if !strings.Contains(a.err.Error(), "gateway ca export") {
				t.Errorf("error %q has no remedy", a.err)
			}
		})
	}
}

// unsealed writes its second flight as a bare alert, mute not at all.
type unsealed struct {
	net.Conn
	flights int
}

func (u *unsealed) Write(b []byte) (int, error) {
	if u.flights++; u.flights > 1 {
		b = []byte{21, 3, 3, 0, 2, 2, 48}
	}
	return u.Conn.Write(b)
}

type mute struct {
	net.Conn
	flights int
}

func (m *mute) Write(b []byte) (int, error) {
	if m.flights++; m.flights > 1 {
		return len(b), nil
	}
	return m.Conn.Write(b)
}

func TestDoorWithoutCertificateSaysSo(t *testing.T) {
	for name, certificate := range map[string]func(string) (*tls.Certificate, error){
		"none":  nil,
		"error": func(string) (*tls.Certificate, error) { return nil, errors.New("key file is gone") },
	} {
		conn, result := arrive(t, tds.Front{TLS: tds.TLSRequired, Certificate: certificate})
		send(t, conn, preloginOf(1))
		answered(t, conn)
		_, _ = tds.StartTLS(t.Context(), conn, &tls.Config{ServerName: "localhost"}, tls.Client)
		a := <-result
		if a.err == nil || !strings.Contains(a.err.Error(), "no certificate to show") || name == "error" && !strings.Contains(a.err.Error(), "key file is gone") {
			t.Errorf("Accept = %v, want the reason why there is no certificate", a.err)
		}
	}
}

func TestClearTextAfterAskingForTLSIsNoLogin(t *testing.T) {
	f, _ := front(t, tds.TLSRequired)
	conn, result := arrive(t, f)
	send(t, conn, preloginOf(2))
	answered(t, conn)
	send(t, conn, login7(t, nil))
	a := <-result
	if a.err == nil || a.client != nil {
		t.Errorf("Accept = %v, %v, want an error", a.client, a.err)
	}
	if got, _ := io.ReadAll(conn); bytes.Contains(got, []byte{0xad}) {
		t.Errorf("door answered %x", got)
	}
}
