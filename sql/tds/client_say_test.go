package tds_test

import (
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-13b04e61/gateway/sql/tds"
)

// recorder is a door's side of a connection that tells what was done to it.
type recorder struct {
	net.Conn
	mu   sync.Mutex // guards did, read
	did  []string
	read int
}

func (r *recorder) note(s string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.did) == 0 || r.did[len(r.did)-1] != s {
		r.did = append(r.did, s)
	}
}

func (r *recorder) what() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.did)
}

func (r *recorder) Write(b []byte) (int, error) {
	r.note("write")
	return r.Conn.Write(b)
}

func (r *recorder) Read(b []byte) (int, error) {
	r.note("read")
	n, err := r.Conn.Read(b)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.read += n
	return n, err
}

func (r *recorder) CloseWrite() error {
	r.note("close write")
	return nil
}

func (r *recorder) Close() error {
	r.note("close")
	return r.Conn.Close()
}

// enter logs in over a pipe, in clear text.
func enter(t *testing.T) (net.Conn, *recorder, *tds.Client) {
	t.Helper()
	conn, server := net.Pipe()
	t.Cleanup(func() { conn.Close(); server.Close() })
	recorded := &recorder{Conn: server}
	result := take(t.Context(), recorded, tds.Front{})
	send(t, conn, preloginOf(2))
	answered(t, conn)
	send(t, conn, login7(t, nil))
	return conn, recorded, welcomed(t, result)
}

// A reset would overtake the message, so the door says that it is done and
// reads on until the client is.
func TestRefusalIsFollowedByAHalfClose(t *testing.T) {
	conn, recorded, client := enter(t)
	done := make(chan struct{})
	go func() {
		client.Refuse(tds.Unavailable("come again"))
		close(done)
	}()
	_, payload, err := tds.ReadMessage(conn, 1<<16, tds.Reply)
	if err != nil || payload[0] != tds.TokenError {
		t.Fatalf("refusal = %x, %v", payload, err)
	}
	send(t, conn, []byte("more that the client had sent"))
	conn.Close()
	<-done
	got := recorded.what()
	want := []string{"write", "close write", "read", "close"}
	if len(got) < 4 || !slices.Equal(got[len(got)-4:], want) {
		t.Errorf("door did %q, want at last %q", got, want)
	}
}

// Over TCP what is still unread when a connection is closed makes a reset.
func TestRefusalArrivesThoughTheClientHadSentMore(t *testing.T) {
	for _, secure := range []bool{false, true} {
		f, pool := front(t, tds.TLSOptional)
		raw, result := arrive(t, f)
		conn := raw
		if secure {
			conn = tls.Client(raw, strict(pool, nil))
		}
		send(t, conn, preloginOf(0))
		answered(t, conn)
		send(t, conn, append(login7(t, nil), make([]byte, 200<<10)...))
		client := welcomed(t, result)
		done := make(chan struct{})
		go func() {
			client.Refuse(tds.TooMany("the door is full"))
			close(done)
		}()
		if got := readError(t, conn, false); got.number != 10928 || got.class != 17 || got.message != "the door is full" {
			t.Errorf("error = %+v, want 10928 of class 17", got)
		}
		// Both ends of TLS and of TCP were said, and the door still listens.
		if _, err := raw.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("after the message TCP says %v, want its end", err)
		}
		for range 16 {
			if _, err := raw.Write(make([]byte, 4096)); err != nil {
				t.Errorf("door stopped listening before the client was done: %v", err)
			}
		}
		raw.Close()
		<-done
	}
}

func TestRefusalTakesTwoSecondsAtMost(t *testing.T) {
	for name, client := range map[string]func(conn net.Conn){
		"reads nothing": func(net.Conn) {},
		"stays":         func(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) },
		"drips": func(conn net.Conn) {
			go func() { _, _ = io.Copy(io.Discard, conn) }()
			for {
				if _, err := conn.Write([]byte{0}); err != nil {
					return
				}
				time.Sleep(time.Second / 4)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				conn, recorded, door := enter(t)
				_ = recorded.SetDeadline(time.Now().Add(-time.Second)) // the login used it up
				left := make(chan struct{})
				go func() {
					client(conn)
					close(left)
				}()
				start := time.Now()
				door.Refuse(tds.LoginFailed("no"))
				if took := time.Since(start); took != 2*time.Second {
					t.Errorf("Refuse took %v, want 2 s", took)
				}
				if got := recorded.what(); got[len(got)-1] != "close" {
					t.Errorf("door did %q, want the close last", got)
				}
				<-left
			})
		})
	}
}

// crypto/tls gives its last word five seconds.
func TestRefusalInTLSTakesTwoSecondsAtMost(t *testing.T) {
	f, pool := front(t, tds.TLSOptional)
	synctest.Test(t, func(t *testing.T) {
		raw, server := net.Pipe()
		defer raw.Close()
		result := take(t.Context(), server, f)
		conn := tls.Client(raw, strict(pool, func(c *tls.Config) { c.Time = time.Now }))
		send(t, conn, preloginOf(2))
		answered(t, conn)
		send(t, conn, login7(t, nil))
		client := welcomed(t, result)
		go func() { _, _ = conn.Read(make([]byte, 1024)) }() // the message, and nothing after it
		start := time.Now()
		client.Refuse(tds.LoginFailed("no"))
		if took := time.Since(start); took != 2*time.Second {
			t.Errorf("Refuse took %v, want 2 s", took)
		}
	})
}

func TestRefusedClientIsNotReadForEver(t *testing.T) {
	conn, recorded, client := enter(t)
	go func() {
		_, _, _ = tds.ReadMessage(conn, 1<<16, tds.Reply)
		for flood := make([]byte, 64<<10); ; {
			if _, err := conn.Write(flood); err != nil {
				return
			}
		}
	}()
	before := recorded.read
	client.Refuse(tds.LoginFailed("no"))
	if got := recorded.read - before; got > 2<<20 {
		t.Errorf("door read %d bytes of a client it had refused, want 2 MiB at most", got)
	}
}

// tokens of servers, made by hand.
var (
	serverError = tds.Token(append([]byte{0xaa, 28, 0, 0x18, 0x48, 0, 0, 1, 14, 2, 0, 'n', 0, 'o', 0, 5, 'a', 0, 'z', 0, 'u', 0, 'r', 0, 'e', 0}, 0, 1, 0, 0, 0))
	serverDone  = tds.Token{0xfd, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	databaseEnv = tds.Token{0xe3, 5, 0, 1, 1, 'd', 0, 0}
	routingEnv  = tds.Token{0xe3, 14, 0, 20, 9, 0, 0, 0x98, 0x2b, 2, 0, 'h', 0, 'x', 0, 0, 0}
	mirrorEnv   = tds.Token{0xe3, 5, 0, 13, 1, 'm', 0, 0}
	featureAck  = tds.Token{0xae, 2, 0, 0, 0, 0, 0xff}
	loginAck    = tds.Token{0xad, 14, 0, 1, 0x74, 0, 0, 4, 2, 's', 0, 'q', 0, 12, 0, 7, 0xd0}
)

func TestServersRefusalIsPassedOnWithTheWayToTheLog(t *testing.T) {
	info := tds.InfoToken("gateway: request=42")
	for _, c := range []struct {
		name   string
		tokens []tds.Token
		want   []tds.Token
	}{
		{"error", []tds.Token{serverError, serverDone}, []tds.Token{info, serverError, serverDone}},
		{"two errors", []tds.Token{databaseEnv, serverError, serverError, serverDone}, []tds.Token{databaseEnv, info, serverError, serverError, serverDone}},
		{"no end", []tds.Token{serverError}, []tds.Token{info, serverError, serverDone}},
		{"what misleads", []tds.Token{loginAck, routingEnv, mirrorEnv, featureAck, serverError, {}, serverDone}, []tds.Token{info, serverError, serverDone}},
		{"no error", []tds.Token{loginAck, serverDone}, []tds.Token{tds.Token(tds.LoginFailed("gateway: request=42").Reply(tds.TDS74))}},
		{"nothing", nil, []tds.Token{tds.Token(tds.LoginFailed("gateway: request=42").Reply(tds.TDS74))}},
	} {
		t.Run(c.name, func(t *testing.T) {
			conn, _, client := enter(t)
			go client.RefuseAs(c.tokens, "gateway: request=42")
			_, got, err := tds.ReadMessage(conn, 1<<16, tds.Reply)
			conn.Close()
			if want := tds.Join(c.want); err != nil || !bytes.Equal(got, want) {
				t.Errorf("refusal = %x, %v, want %x", got, err, want)
			}
		})
	}
}
