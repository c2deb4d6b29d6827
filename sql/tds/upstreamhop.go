package tds

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/seed-13b04e61/gateway/secrets"
)

const keepAlive = 30 * time.Second

// The lengths of PRELOGIN's options (MS-TDS 2.2.6.5).
const (
	versionBytes  = 6
	threadIDBytes = 4
	traceIDBytes  = 36 // connection ID, activity ID, sequence
	nonceBytes    = 32
)

// journey is one login on its way from server to server.
type journey struct {
	target  Target
	login   *Login
	options Options // what every server gets
	mars    bool
	token   secrets.Secret
	route   []string // host:port of the hops so far, this one included
	timings []Timing
}

// hop is one server on the way.
type hop struct {
	dial     string // host:port
	host     string // what the certificate has to show
	server   string // host:port, for words
	name     string // for LOGIN7's ServerName
	database string // of enhanced routing, in place of any other; "" for none
}

// agreed is what a server's PRELOGIN asks of the LOGIN7 after it.
type agreed struct {
	echo  bool
	nonce []byte // nil without
}

// serverPrelogin is the PRELOGIN that servers get for a client's (MS-TDS
// 2.2.6.5). The trace ID is the client's, so that what an application logs is
// what the server's operator can look for.
func serverPrelogin(client Options) Options {
	version := copied(client, OptVersion, versionBytes)
	if version == nil {
		version = []byte{12, 0, 0x07, 0xd0, 0, 0}
	}
	thread := copied(client, OptThreadID, threadIDBytes)
	if thread == nil {
		thread = make([]byte, threadIDBytes)
	}
	trace := copied(client, OptTraceID, traceIDBytes)
	if trace == nil {
		trace = make([]byte, traceIDBytes)
		_, _ = rand.Read(trace) // never fails (Go 1.24)
	}
	mars := []byte{0}
	if client.MARS() {
		mars[0] = 1
	}
	return Options{
		{OptVersion, version},
		{OptEncryption, []byte{byte(EncryptOn)}}, // under strict TLS nobody looks at it
		{OptInstance, []byte{0}},
		{OptThreadID, thread},
		{OptMARS, mars},
		{OptTraceID, trace},
		{OptFedAuthRequired, []byte{1}},
	}
}

func copied(o Options, token byte, size int) []byte {
	data, ok := o.Get(token)
	if !ok || len(data) != size {
		return nil
	}
	return append([]byte(nil), data...)
}

// visit logs in at one server, which may send the login elsewhere: then there is
// a routing and no upstream. ctx ends it at any moment.
func (j *journey) visit(ctx context.Context, h hop) (*Upstream, *Routing, error) {
	var raw net.Conn
	err := j.phase(ctx, PhaseDial, func() (err error) {
		raw, err = j.dial(ctx, h.dial)
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = raw.Close() })
	u, routing, err := j.enter(ctx, raw, h)
	if !stop() && err == nil {
		err = &LoginError{Phase: PhaseLogin, Err: ctx.Err()}
	}
	if err != nil || routing != nil {
		_ = raw.Close()
		return nil, routing, err
	}
	return u, nil, nil
}

func (j *journey) dial(ctx context.Context, addr string) (net.Conn, error) {
	dialer := j.target.Dialer
	if dialer == nil {
		dialer = &net.Dialer{}
	}
	conn, err := dialer.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	if alive, ok := conn.(interface {
		SetKeepAliveConfig(net.KeepAliveConfig) error
	}); ok {
		// A connection that cannot be kept alive works as well, for a while.
		_ = alive.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: keepAlive, Interval: keepAlive})
	}
	return conn, nil
}

// enter goes through the phases after the dial (MS-TDS 3.2.5): under TDS 8.0 TLS
// comes first, else it starts inside PRELOGIN. No byte of the login is sent
// outside of it.
func (j *journey) enter(ctx context.Context, raw net.Conn, h hop) (u *Upstream, routing *Routing, err error) {
	raw = readAhead(raw)
	conf := &tls.Config{
		ServerName: h.host, RootCAs: j.target.Roots, MinVersion: tls.VersionTLS12,
		DynamicRecordSizingDisabled: true, // SQL Server wants a packet in one record
	}
	var conn *tls.Conn
	handshake := func() (err error) {
		if j.target.Strict {
			conf.NextProtos = []string{ALPN}
			conn = tls.Client(raw, conf)
			return conn.HandshakeContext(ctx)
		}
		conn, err = StartTLS(ctx, raw, conf, tls.Client)
		return err
	}
	var a agreed
	if j.target.Strict {
		if err := j.phase(ctx, PhaseTLS, handshake); err != nil {
			return nil, nil, err
		}
		if err := j.phase(ctx, PhasePrelogin, func() (err error) { a, err = j.negotiate(conn); return err }); err != nil {
			return nil, nil, err
		}
	} else {
		if err := j.phase(ctx, PhasePrelogin, func() (err error) { a, err = j.negotiate(raw); return err }); err != nil {
			return nil, nil, err
		}
		if err := j.phase(ctx, PhaseTLS, handshake); err != nil {
			return nil, nil, err
		}
	}
	err = j.phase(ctx, PhaseLogin, func() (err error) { u, routing, err = j.present(conn, h, a); return err })
	return u, routing, err
}

// errNoEncryption is why a server that would not encrypt the whole session is
// left: the token would be readable, or all after it.
var errNoEncryption = errors.New("the server does not encrypt the connection")

// ErrNoMARS is wrapped when the client asked for MARS and the server refused: the
// client was answered already, so that the session cannot go on without.
var ErrNoMARS = errors.New("the server does not support MARS")

// negotiate exchanges PRELOGIN with the server.
func (j *journey) negotiate(conn net.Conn) (agreed, error) {
	if err := WriteMessage(conn, Header{Type: PreLogin}, j.options.Bytes(), LoginPacket); err != nil {
		return agreed{}, err
	}
	_, payload, err := ReadMessage(conn, MaxPreloginBytes, Reply)
	if err != nil {
		return agreed{}, err
	}
	reply, err := ParsePrelogin(payload)
	if err != nil {
		return agreed{}, err
	}
	if e, ok := reply.Encryption(); !j.target.Strict && (!ok || e != EncryptOn && e != EncryptRequired) {
		return agreed{}, errNoEncryption
	}
	if j.mars && !reply.MARS() {
		return agreed{}, ErrNoMARS
	}
	required, _ := reply.Get(OptFedAuthRequired)
	return agreed{echo: len(required) == 1 && required[0] == 1, nonce: copied(reply, OptNonce, nonceBytes)}, nil
}

// present sends the login and reads what the server makes of it.
func (j *journey) present(conn net.Conn, h hop, a agreed) (*Upstream, *Routing, error) {
	sent, err := j.send(conn, h, a)
	defer sent.wipe()
	if err != nil {
		return nil, nil, err
	}
	header, payload, err := ReadMessage(conn, MaxAnswerBytes, Reply)
	if err != nil {
		return nil, nil, err
	}
	if sent.within(payload) { // a client must not see it, nor the log
		clear(payload)
		return nil, nil, ErrReflected
	}
	answer, err := judge(payload)
	if err != nil || answer.routing != nil {
		return nil, answer.routing, err
	}
	return &Upstream{
		Answer: answer.tokens, SPID: header.SPID, PacketSize: answer.packetSize,
		Version: j.version(), MARS: j.mars, conn: conn,
	}, nil, nil
}

// send sends LOGIN7, and returns by what to know the token again. What held it
// is wiped, sent or not.
func (j *journey) send(conn net.Conn, h hop, a agreed) (needle, error) {
	fedAuth := FedAuth(j.token, a.echo, a.nonce)
	defer clear(fedAuth.Data)
	payload, err := j.rewritten(h, fedAuth).Bytes()
	if err != nil {
		return needle{}, fmt.Errorf("LOGIN7: %w", err)
	}
	defer clear(payload)
	return needleOf(fedAuth), writePackets(conn, payload)
}

// writePackets writes a LOGIN7: packets of 4096 bytes, the last one shorter, each
// in one Write and so in one TLS record. It keeps no copy of the payload, which
// holds the token.
func writePackets(w io.Writer, payload []byte) error {
	packet := make([]byte, LoginPacket)
	defer clear(packet)
	for id := byte(1); ; id++ {
		n := copy(packet[HeaderSize:], payload)
		payload = payload[n:]
		length, status := HeaderSize+n, byte(0)
		if len(payload) == 0 {
			status = EOM
		}
		copy(packet, []byte{byte(Login7), status, byte(length >> 8), byte(length), 0, 0, id, 0})
		if _, err := w.Write(packet[:length]); err != nil || status == EOM {
			return err
		}
	}
}
