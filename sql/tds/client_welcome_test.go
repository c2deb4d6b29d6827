package tds_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"database/sql"
	"errors"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	mssql "github.com/microsoft/go-mssqldb"

	"github.com/seed-13b04e61/gateway/sql/tds"
)

// upstream is a server's half that is logged in, with SPID 77.
func upstream(more ...tds.Token) *tds.Upstream {
	done := tds.Token{0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	return &tds.Upstream{
		Answer: append(append([]tds.Token{databaseEnv, loginAck}, more...), done),
		SPID:   77, PacketSize: 4096, Version: tds.TDS74,
	}
}

func TestWelcomeIsInTheClientsOwnVersion(t *testing.T) {
	for _, c := range []struct {
		name    string
		version uint32
		want    []byte // of LOGINACK
	}{
		{"7.3B", tds.TDS73B, []byte{0x73, 0x0b, 0, 3}},
		{"7.4", tds.TDS74, []byte{0x74, 0, 0, 4}},
		{"8.0", tds.TDS80, []byte{8, 0, 0, 0}},
	} {
		t.Run(c.name, func(t *testing.T) {
			conn, result := arrive(t, tds.Front{})
			send(t, conn, preloginOf(2))
			answered(t, conn)
			send(t, conn, login7(t, func(l *tds.Login) { l.Version = c.version }))
			if err := welcomed(t, result).Welcome(upstream()); err != nil {
				t.Fatal(err)
			}
			h, got, err := tds.ReadMessage(conn, 1<<16, tds.Reply)
			if err != nil || h.SPID != 77 {
				t.Fatalf("answer has SPID %d, %v, want 77", h.SPID, err)
			}
			at := len(databaseEnv) + 4
			if !bytes.Equal(got[at:at+4], c.want) {
				t.Errorf("LOGINACK has version %x, want %x", got[at:at+4], c.want)
			}
		})
	}
}

func TestWelcomeIsInLoginPacketsAndLiftsTheDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn, recorded, client := enter(t)
		_ = recorded.SetDeadline(time.Now().Add(time.Second))
		state := append(tds.Token{0xe4, 0, 0x20, 0, 0}, make([]byte, 0x2000)...) // SESSIONSTATE of 8 KiB
		outcome := make(chan error, 1)
		go func() { outcome <- client.Welcome(upstream(state)) }()
		var total int
		for last := false; !last; {
			h, err := tds.ReadHeader(conn)
			if err != nil {
				t.Fatal(err)
			}
			if h.Length > 4096 || h.SPID != 77 || h.Type != tds.Reply {
				t.Errorf("packet = %+v, want a reply of 4096 bytes at most with SPID 77", h)
			}
			body := make([]byte, h.Length-tds.HeaderSize)
			if _, err := conn.Read(body); err != nil {
				t.Fatal(err)
			}
			total += len(body)
			last = h.Status&tds.EOM != 0
		}
		if err := <-outcome; err != nil || total < len(state) {
			t.Fatalf("Welcome = %v, after %d bytes", err, total)
		}
		time.Sleep(time.Hour)
		go func() { _, _ = conn.Write([]byte{1}) }()
		if n, err := client.Conn().Read(make([]byte, 1)); n != 1 || err != nil {
			t.Errorf("an hour later Read = %d, %v, want a byte", n, err)
		}
	})
}

func TestWelcomeTellsWhenTheClientIsGone(t *testing.T) {
	conn, _, client := enter(t)
	conn.Close()
	if err := client.Welcome(upstream()); err == nil {
		t.Error("Welcome of a client that left = nil, want an error")
	}
}

// door takes clients of go-mssqldb: it welcomes them and answers whatever they
// ask by DONE, or refuses them.
func door(t *testing.T, f tds.Front, refuse *tds.Fault) (addr string, arrived <-chan arrival) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	results := make(chan arrival, 16)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			serveDriver(conn, f, refuse, results)
		}
	}()
	t.Cleanup(func() { listener.Close(); <-ended })
	return listener.Addr().String(), results
}

func serveDriver(conn net.Conn, f tds.Front, refuse *tds.Fault, results chan<- arrival) {
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
	client, err := tds.Accept(context.Background(), conn, f)
	results <- arrival{client, err}
	switch {
	case err != nil:
		return
	case refuse != nil:
		client.Refuse(refuse)
		return
	case client.Welcome(upstream()) != nil:
		return
	}
	for {
		if _, _, err := tds.ReadMessage(client.Conn(), 1<<20, tds.Batch, tds.RPC); err != nil {
			return
		}
		done := []byte{0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
		if tds.WriteMessage(client.Conn(), tds.Header{Type: tds.Reply, SPID: 77}, done, 4096) != nil {
			return
		}
	}
}

func TestGoDriverLogsInEachModeOfTLS(t *testing.T) {
	const text = "no user of that name; ask the one who runs the gateway"
	certificate, trust := identity(t)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, trust, 0o600); err != nil {
		t.Fatal(err)
	}
	show := func(string) (*tls.Certificate, error) { return &certificate, nil }
	for _, c := range []struct {
		name    string
		front   tds.Front
		encrypt string
		want    string // Client.TLS; "" if the driver cannot log in
	}{
		{"off, disable", tds.Front{}, "disable", "off"},
		{"off, false", tds.Front{}, "false", "off"},
		{"off, true", tds.Front{}, "true", ""},
		{"off, strict", tds.Front{}, "strict", ""},
		{"optional, disable", tds.Front{TLS: tds.TLSOptional, Certificate: show}, "disable", "off"},
		{"optional, false", tds.Front{TLS: tds.TLSOptional, Certificate: show}, "false", "off"},
		{"optional, true", tds.Front{TLS: tds.TLSOptional, Certificate: show}, "true", "mandatory"},
		{"optional, strict", tds.Front{TLS: tds.TLSOptional, Certificate: show}, "strict", "strict"},
		{"passwords, false", tds.Front{TLS: tds.TLSOptional, Certificate: show, Passwords: true}, "false", "mandatory"},
		{"passwords, plain, disable", tds.Front{TLS: tds.TLSOptional, Certificate: show, Passwords: true, Plain: true}, "disable", "off"},
		// It encrypts after all, but knows no authority in this mode.
		{"required, disable", tds.Front{TLS: tds.TLSRequired, Certificate: show}, "disable", ""},
		{"required, false", tds.Front{TLS: tds.TLSRequired, Certificate: show}, "false", "mandatory"},
		{"required, true", tds.Front{TLS: tds.TLSRequired, Certificate: show}, "true", "mandatory"},
		{"required, strict", tds.Front{TLS: tds.TLSRequired, Certificate: show}, "strict", "strict"},
	} {
		t.Run(c.name, func(t *testing.T) {
			addr, arrived := door(t, c.front, nil)
			err := ping(t, addr, c.encrypt, ca)
			a := <-arrived
			if c.want == "" {
				if err == nil || a.err == nil {
					t.Errorf("driver = %v, Accept = %v, want errors", err, a.err)
				}
				return
			}
			if err != nil || a.err != nil {
				t.Fatalf("driver = %v, Accept = %v", err, a.err)
			}
			if a.client.TLS() != c.want || a.client.Login().UserName.String() != "any" || a.client.ServerName() != "localhost" {
				t.Errorf("TLS %q, user %q, server %q, want %q, any, localhost",
					a.client.TLS(), a.client.Login().UserName, a.client.ServerName(), c.want)
			}
			addr, _ = door(t, c.front, tds.LoginFailed(text))
			var refusal mssql.Error
			if err := ping(t, addr, c.encrypt, ca); !errors.As(err, &refusal) || refusal.Number != 18456 || !strings.HasSuffix(refusal.Message, text) {
				t.Errorf("refused driver = %#v, want error 18456 with the text", err)
			}
		})
	}
}

func TestGoDriverThatDistrustsTheDoorIsExplained(t *testing.T) {
	f, _ := front(t, tds.TLSRequired)
	for encrypt, words := range map[string]string{
		"true":   "client left when it saw the door's certificate", // it keeps its alert to itself
		"strict": "client does not trust the door's certificate: it answered with the alert bad_certificate",
	} {
		addr, arrived := door(t, f, nil)
		if err := ping(t, addr, encrypt, ""); err == nil {
			t.Error("driver trusts a certificate that nobody signed")
		}
		if a := <-arrived; a.err == nil || !strings.Contains(a.err.Error(), words) {
			t.Errorf("Accept with encrypt=%s = %v, want the reason", encrypt, a.err)
		}
	}
}

// ping logs in by go-mssqldb, with the authorities of a file, and asks for
// something.
func ping(t *testing.T, addr, encrypt, ca string) error {
	t.Helper()
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	q := url.Values{"encrypt": {encrypt}, "database": {"d"}, "dial timeout": {"10"}, "disableretry": {"true"}}
	if ca != "" {
		q.Set("certificate", ca)
	}
	dsn := url.URL{Scheme: "sqlserver", User: url.UserPassword("any", "any"), Host: "localhost:" + port, RawQuery: q.Encode()}
	db, err := sql.Open("sqlserver", dsn.String())
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	conn, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	_, err = conn.ExecContext(ctx, "print 'x'")
	return err
}
