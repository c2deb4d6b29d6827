package tds

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"time"
)

// ClientTLS is what a door says to clients that ask for encryption or do not.
type ClientTLS int

// The modes, as client_tls in routes.yaml.
const (
	TLSOff ClientTLS = iota
	TLSOptional
	TLSRequired
)

// Front is how a door takes clients.
type Front struct {
	TLS ClientTLS
	// Passwords: clients show a password, so that those who can encrypt have to
	// (optional answers OFF with REQ). One that cannot may go on in clear text
	// if Plain is set.
	Passwords bool
	// Plain: clear text is accepted of clients that show a password.
	Plain bool
	// Certificate is shown to clients; serverName is SNI, "" without.
	// It is nil only if TLS is TLSOff.
	Certificate func(serverName string) (*tls.Certificate, error)
	// Session leads from what a client is told to the log; "": nothing does.
	Session string
}

// ErrSilent is wrapped by the error of a client that left before it sent a
// byte, as health probes do.
var ErrSilent = errors.New("client left without a byte")

// The words of [Client.TLS].
const (
	modeOff       = "off"
	modeMandatory = "mandatory"
	modeStrict    = "strict"
)

// Client is the client's half of a session, after its LOGIN7.
type Client struct {
	login   *Login
	options Options
	raw     net.Conn // as the door accepted it
	conn    net.Conn // the same, or TLS upon it
	mode    string
	sni     string // canonical; "" without
}

// Accept takes a client to the end of its LOGIN7: strict TLS if it begins with
// it, PRELOGIN, TLS inside it, LOGIN7. Whoever calls sets the deadline on conn,
// and closes it after an error: whatever could be said to the client has been
// said then, and what it sent is drained. The error may be a *[Fault] that the
// client was told: too old, or with a credential kind that nobody here takes.
// Where ctx ends first, the error wraps its cause.
//
// A token that the client brought itself is overwritten: no server sees it.
func Accept(ctx context.Context, conn net.Conn, f Front) (*Client, error) {
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	c, err := newArrival(conn, f).run(ctx)
	var told *Fault
	if stop() || errors.As(err, &told) {
		return c, err
	}
	if err == nil {
		c.login.Wipe()
		return nil, context.Cause(ctx)
	}
	return nil, fmt.Errorf("%w: %w", context.Cause(ctx), err)
}

// Conn is what the client's packets travel on, TLS taken off. A half close of
// it says the end.
func (c *Client) Conn() net.Conn { return c.conn }

// Login is what the client asks for. Its passwords are there until Wipe.
func (c *Client) Login() *Login { return c.login }

// Prelogin is what the client sent before.
func (c *Client) Prelogin() Options { return c.options }

// ServerName is the server that the client names, canonical: without "tcp:",
// port and instance, in lower case; under strict TLS, SNI if LOGIN7 has none.
func (c *Client) ServerName() string {
	if name := canonicalServer(c.login.ServerName.String()); name != "" || c.mode != modeStrict {
		return name
	}
	return c.sni
}

// TLS says how the client is encrypted: "off", "mandatory" or "strict".
func (c *Client) TLS() string { return c.mode }

// TraceID is the client's connection ID (GUID text), "" if it sent none.
func (c *Client) TraceID() string {
	data, _ := c.options.Get(OptTraceID)
	return traceID(data)
}
