package tds

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/seed-13b04e61/gateway/secrets"
)

// These tests are within the room: what they look at lies under TLS.

// keeper keeps what it is given without a copy, as no writer should.
type keeper struct {
	packets [][]byte
	tokens  int
	err     error
}

func (k *keeper) Write(b []byte) (int, error) {
	k.packets = append(k.packets, b)
	k.tokens += bytes.Count(b, []byte("t\x00"))
	return len(b), k.err
}

func TestBytesWithTheTokenAreWipedOnceSent(t *testing.T) {
	for _, broken := range []error{nil, errors.New("broken")} {
		k := &keeper{err: broken}
		payload := bytes.Repeat([]byte("t\x00"), 5000)
		if err := writePackets(k, payload); err != broken {
			t.Fatalf("writePackets() = %v, want %v", err, broken)
		}
		if k.tokens == 0 {
			t.Fatal("nothing was written")
		}
		for i, packet := range k.packets {
			if bytes.Contains(packet, []byte("t\x00")) {
				t.Errorf("packet %d still holds the token", i)
			}
		}
	}
}

// scriptConn is a server whose bytes are all there at the beginning.
type scriptConn struct{ io.Reader }

func (scriptConn) Write(b []byte) (int, error)      { return len(b), nil }
func (scriptConn) Close() error                     { return nil }
func (scriptConn) LocalAddr() net.Addr              { return nil }
func (scriptConn) RemoteAddr() net.Addr             { return nil }
func (scriptConn) SetDeadline(time.Time) error      { return nil }
func (scriptConn) SetReadDeadline(time.Time) error  { return nil }
func (scriptConn) SetWriteDeadline(time.Time) error { return nil }

// FuzzAnswer takes what a server may send inside TLS, PRELOGIN's answer (of
// strict TLS) and the login's. Whatever it is, the outcome is one of three: a
// login that may be shown to a client, a redirect that may be followed, or an
// error of bounded length that is one line.
func FuzzAnswer(f *testing.F) {
	packet := func(payload []byte) []byte {
		n := len(payload) + HeaderSize
		return append([]byte{byte(Reply), EOM, byte(n >> 8), byte(n), 0, 7, 1, 0}, payload...)
	}
	pre := packet(Options{{OptVersion, make([]byte, 6)}, {OptEncryption, []byte{1}}, {OptFedAuthRequired, []byte{1}}, {OptNonce, make([]byte, 32)}}.Bytes())
	ack := Token("\xad\x0e\x00\x01\x74\x00\x00\x04\x02M\x00S\x00\x0c\x00\x07\xd0")
	size := Token("\xe3\x0d\x00\x04\x04" + "8\x000\x000\x000\x00" + "\x01" + "4\x00")
	fed := BuildFeatureExtAck([]Feature{{FeatureFedAuth, nil}, {0x0a, []byte{1}}})
	const node = "n.corp.example"
	value := append([]byte{0, 0x99, 5, byte(len(node)), 0}, NewUTF16(node)...)
	routing := append(Token{TokenEnvChange, byte(len(value) + 5), 0, EnvRouting, byte(len(value)), 0}, append(value, 0, 0)...)
	refused := LoginFailed("no").Reply(TDS74)
	done := Token{TokenDone, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	for _, answer := range [][]byte{Join([]Token{size, ack, fed, done}), Join([]Token{routing, done}), refused, nil} {
		f.Add(append(bytes.Clone(pre), packet(answer)...))
	}
	f.Add(append(bytes.Clone(pre), byte(Reply), 0, 0x10, 0, 0, 0, 1, 0)) // a packet that never comes
	login := &Login{Version: TDS73B, Database: NewUTF16("d")}
	f.Fuzz(func(t *testing.T, b []byte) {
		j := &journey{target: Target{Host: "db.corp.example", Strict: true}, login: login, options: serverPrelogin(nil),
			token: secrets.New("fuzzed-token"), route: []string{"db.corp.example:1433"}}
		var u *Upstream
		var routing *Routing
		conn := scriptConn{bytes.NewReader(b)}
		err := j.phase(context.Background(), PhaseLogin, func() error {
			a, err := j.negotiate(conn)
			if err != nil {
				return err
			}
			u, routing, err = j.present(conn, hop{host: "db.corp.example", name: "db.corp.example"}, a)
			return err
		})
		switch {
		case err != nil:
			checkError(t, j.failed(err).(*LoginError))
		case routing != nil:
			if h, err := j.follow(*routing); err == nil && (!allowed(h.host, j.target) || bytes.ContainsAny([]byte(h.dial), " \r\n/@")) {
				t.Errorf("followed to %q", h.dial)
			} else if err != nil {
				checkError(t, j.failed(err).(*LoginError))
			}
		default:
			checkUpstream(t, u, login)
		}
	})
}

func checkError(t *testing.T, e *LoginError) {
	t.Helper()
	text := e.Error()
	if text == "" || bytes.ContainsAny([]byte(text), "\r\n\x00\x1b") || len([]rune(text)) > 3*maxFaultMessage {
		t.Errorf("error = %q", text)
	}
	if (len(e.Refused) > 0) == (e.Err != nil) {
		t.Errorf("refused %v and error %v", e.Refused, e.Err)
	}
	for _, token := range e.Tokens {
		if k := token.Type(); k != TokenError && k != TokenInfo && k != TokenDone {
			t.Errorf("a refusal with token %#02x", k)
		}
	}
}

func checkUpstream(t *testing.T, u *Upstream, login *Login) {
	t.Helper()
	if u.PacketSize < minPacket || u.PacketSize > MaxPacket || !u.Fits(u) {
		t.Errorf("packets of %d, fits itself %v", u.PacketSize, u.Fits(u))
	}
	acked := false
	for _, token := range u.Rewrite(login) {
		switch token.Type() {
		case TokenLoginAck:
			ack, err := ParseLoginAck(token)
			acked = err == nil && ack.Version == login.Version
		case TokenError:
			t.Error("a login with an ERROR")
		case TokenEnvChange:
			if k := envKind(token); k == EnvRouting || k == EnvEnhancedRouting || k == EnvMirror {
				t.Errorf("ENVCHANGE %d reaches the client", k)
			}
		case TokenFeatureExtAck:
			features, err := ParseFeatureExtAck(token)
			for _, f := range features {
				if f.ID == FeatureFedAuth {
					err = errors.New("FEDAUTH reaches the client")
				}
			}
			if err != nil {
				t.Error(err)
			}
		}
	}
	if !acked {
		t.Error("a login without the client's own version in LOGINACK")
	}
}
