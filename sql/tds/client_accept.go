package tds

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"github.com/seed-13b04e61/gateway/certs/alert"
)

// tlsRecord is the first byte of a TLS handshake (RFC 8446 §5.1).
const tlsRecord = 0x16

// arrival is a client on its way to the end of its LOGIN7.
type arrival struct {
	*Client
	front Front
	wire  *opening
}

func newArrival(conn net.Conn, f Front) *arrival {
	return &arrival{Client: &Client{raw: conn, mode: modeOff}, front: f, wire: &opening{Conn: conn}}
}

func (a *arrival) run(ctx context.Context) (*Client, error) {
	first, err := a.wire.peek()
	switch {
	case err != nil && alert.Ended(err):
		return nil, fmt.Errorf("%w: %w", ErrSilent, err)
	case err != nil:
		return nil, fmt.Errorf("client's first byte: %w", err)
	}
	a.conn = a.wire
	switch PacketType(first) {
	case tlsRecord:
		if err = a.strict(ctx); err == nil {
			err = a.negotiate(ctx)
		}
	case PreLogin:
		err = a.negotiate(ctx)
	case Login7:
		return nil, a.ancient()
	default:
		err = fmt.Errorf("client began with byte %#02x: it speaks neither TDS 7 nor TDS 8", first)
	}
	if err != nil {
		return nil, err
	}
	if err := a.takeLogin(); err != nil {
		return nil, err
	}
	return a.Client, nil
}

// strict does the handshake of TDS 8.0, before any packet (MS-TDS 3.2.5.1).
func (a *arrival) strict(ctx context.Context) error {
	if a.front.TLS == TLSOff {
		return errors.New("client begins with TLS (Encrypt=Strict), which this door does not take: set client_tls: optional, or Encrypt=False in the connection string")
	}
	a.mode = modeStrict
	conf := a.config()
	conf.NextProtos = []string{ALPN}
	conn := tls.Server(a.wire, conf)
	if err := a.handshake(func() error { return conn.HandshakeContext(ctx) }); err != nil {
		return err
	}
	a.conn = conn
	// crypto/tls lets clients without ALPN in.
	if conn.ConnectionState().NegotiatedProtocol != ALPN {
		return fmt.Errorf("client speaks TLS, but not TDS 8.0 in it: it offers no ALPN %q", ALPN)
	}
	return nil
}

// negotiate takes PRELOGIN and answers it, and does what the two agree on.
func (a *arrival) negotiate(ctx context.Context) error {
	_, payload, err := ReadMessage(a.conn, MaxPreloginBytes, PreLogin)
	if err != nil {
		return a.left("client's PRELOGIN", err)
	}
	if a.options, err = ParsePrelogin(payload); err != nil {
		return fmt.Errorf("client's PRELOGIN: %w", err)
	}
	asked, said := a.options.Encryption()
	if !said {
		asked = EncryptNotSupported
	}
	answer, secure := a.front.answer(asked)
	if a.mode == modeStrict {
		answer, secure = answerStrict(asked), false
	}
	if err := WriteMessage(a.conn, Header{Type: Reply}, a.prelogin(answer).Bytes(), LoginPacket); err != nil {
		return fmt.Errorf("answering the client's PRELOGIN: %w", err)
	}
	switch {
	case secure:
		return a.encrypt(ctx, asked)
	case a.mode == modeOff && (asked == EncryptOn || asked == EncryptRequired):
		return a.insists()
	}
	return nil
}

// answer is what a client is told that asked for TLS inside TDS, and whether a
// handshake follows (MS-TDS 2.2.6.5, of the server the rows ENCRYPT_NOT_SUP and
// ENCRYPT_ON; ENCRYPT_OFF, which secures the login alone, is never agreed on).
// A client that cannot encrypt and is told that it has to leaves, or can after
// all: go-mssqldb with encrypt=disable.
func (f Front) answer(asked Encryption) (answer Encryption, secure bool) {
	asks := asked == EncryptOn || asked == EncryptRequired
	switch {
	case f.TLS == TLSOff:
		return EncryptNotSupported, false
	case asks:
		return EncryptOn, true
	case f.TLS == TLSRequired, f.Passwords && (asked != EncryptNotSupported || !f.Plain):
		return EncryptRequired, true
	}
	return EncryptNotSupported, false
}

// answerStrict is for a client in strict TLS, which has to ignore it. Those
// that check it nevertheless (mssql-jdbc) find what they asked for.
func answerStrict(asked Encryption) Encryption {
	if asked == EncryptOn || asked == EncryptRequired {
		return EncryptOn
	}
	return EncryptNotSupported
}

// prelogin is the door's PRELOGIN: SQL Server 2014, by which clients know that
// counts have 8 bytes, and MARS if asked for. FEDAUTHREQUIRED and NONCEOPT stay
// between gateway and server.
func (a *arrival) prelogin(answer Encryption) Options {
	options := Options{
		{OptVersion, []byte{12, 0, 0x07, 0xd0, 0, 0}},
		{OptEncryption, []byte{byte(answer)}},
		{OptInstance, []byte{0}},
		{OptThreadID, nil},
	}
	if _, said := a.options.Get(OptMARS); said {
		mars := byte(0)
		if a.options.MARS() {
			mars = 1
		}
		options = append(options, Option{OptMARS, []byte{mars}})
	}
	return options
}

// encrypt does the handshake inside PRELOGIN packets.
func (a *arrival) encrypt(ctx context.Context, asked Encryption) error {
	err := a.handshake(func() error {
		conn, err := StartTLS(ctx, a.wire, a.config(), tls.Server)
		if err == nil {
			a.conn, a.mode = conn, modeMandatory
		}
		return err
	})
	if err != nil && asked == EncryptNotSupported && !a.wire.shown {
		return fmt.Errorf("client cannot encrypt, which this door asks for: set Encrypt=True (encrypt=true) in the connection string; client_tls and plain say what the door asks for: %w", err)
	}
	return err
}

// takeLogin takes LOGIN7, and tells the client why if it cannot be served.
func (a *arrival) takeLogin() error {
	if err := a.readLogin(); err != nil {
		return err
	}
	if fault := a.unfit(); fault != nil {
		a.decline(fault)
		a.login.Wipe()
		return fault
	}
	return nil
}

func (a *arrival) readLogin() error {
	_, payload, err := ReadMessage(a.conn, MaxLoginBytes, Login7)
	defer clear(payload)
	if a.mode == modeOff {
		a.conn = a.raw // what was peeked at is read
	}
	switch {
	case errors.Is(err, ErrTooLong):
		return a.malformed(err)
	case isTimeout(err):
		a.Refuse(Unavailable("the gateway waited for the rest of this client's LOGIN7 in vain"))
		return a.left("client's LOGIN7", err)
	case err != nil:
		return a.left("client's LOGIN7", err)
	}
	if a.login, err = ParseLogin(payload); err != nil {
		return a.malformed(err)
	}
	return nil
}

// malformed tells the client that its LOGIN7 cannot be read.
func (a *arrival) malformed(err error) error {
	fault := LoginFailed("the gateway cannot read this client's LOGIN7: " + err.Error())
	a.decline(fault)
	return fault
}

// ancient answers a LOGIN7 without PRELOGIN: TDS 7.0, and jTDS without
// encryption, which would report a reset connection instead.
func (a *arrival) ancient() error {
	if err := a.readLogin(); err != nil {
		return err
	}
	defer a.login.Wipe()
	fault := a.tooOld()
	a.decline(fault)
	return fault
}

// left says where the client went away, and what that means.
func (a *arrival) left(at string, err error) error {
	switch {
	case !alert.Ended(err):
		return fmt.Errorf("%s: %w", at, err)
	case a.mode != modeOff:
		return fmt.Errorf("%s: client left right after the TLS handshake, as clients do that do not trust the door's certificate: %s: %w", at, trustRemedy, err)
	case a.options != nil:
		return fmt.Errorf("%s: client left after the answer to its PRELOGIN, as clients do that want encryption: %w", at, err)
	}
	return fmt.Errorf("%s: client left: %w", at, err)
}

// insists ends with a client that asked for encryption where there is none. It
// leaves, and says itself why: where the connection just closes, it reports
// that and not the reason. Or it logs in all the same, in clear text, as tedious
// does and r2dbc-mssql did; that it was not to do is what it is told then.
func (a *arrival) insists() error {
	fault := LoginFailed("the connection string asks for encryption, which this door does not offer (client_tls: off): " +
		"set Encrypt=False (encrypt=false) in it, or client_tls: optional in routes.yaml")
	_ = a.raw.SetReadDeadline(time.Now().Add(lingerWait))
	var told *Fault
	err := a.readLogin()
	switch {
	case errors.As(err, &told):
		return err
	case err == nil:
		a.login.Wipe()
		a.decline(fault)
		return fault
	}
	_, err = io.CopyN(io.Discard, a.raw, lingerBytes)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		_ = closeWrite(a.raw)
	}
	return errors.New("client leaves: " + fault.Message)
}
