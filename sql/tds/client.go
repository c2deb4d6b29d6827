package tds

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
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
}

// ErrSilent is wrapped by the error of a client that left before it sent a
// byte, as health probes do.
var ErrSilent = errors.New("client left without a byte")

// Client is the client's half of a session, after its LOGIN7.
type Client struct {
	login   *Login
	options Options
}

// Accept takes a client to the end of its LOGIN7: strict TLS if it begins with
// it, PRELOGIN, TLS inside it, LOGIN7. Whoever calls sets the deadline on conn,
// and closes it after an error: whatever could be said to the client has been
// said then, and what it sent is drained. The error may be a *[Fault] that the
// client was told: too old, or with a credential kind that nobody here takes.
func Accept(ctx context.Context, conn net.Conn, f Front) (*Client, error) { panic("provisional") }

// Conn is what the client's packets travel on, TLS taken off. A half close of
// it says the end.
func (c *Client) Conn() net.Conn { panic("provisional") }

// Login is what the client asks for. Its passwords are there until Wipe.
func (c *Client) Login() *Login { return c.login }

// Prelogin is what the client sent before.
func (c *Client) Prelogin() Options { return c.options }

// ServerName is the server that the client names, canonical: without "tcp:",
// port and instance, in lower case; under strict TLS, SNI if LOGIN7 has none.
func (c *Client) ServerName() string { panic("provisional") }

// TLS says how the client is encrypted: "off", "mandatory" or "strict".
func (c *Client) TLS() string { panic("provisional") }

// TraceID is the client's connection ID (GUID text), "" if it sent none.
func (c *Client) TraceID() string { panic("provisional") }

// Welcome tells the client that it is logged in: u's answer, rewritten for it
// (Rewrite), in packets of at most 4096 bytes with the server's SPID. Its
// deadlines are cleared.
func (c *Client) Welcome(u *Upstream) error { panic("provisional") }

// Refuse tells the client that it is not logged in, half-closes, drains for at
// most 2 s and closes: a reset would overtake the message.
func (c *Client) Refuse(f *Fault) { panic("provisional") }

// RefuseAs passes the server's own refusal on as it stands, with an INFO before
// it that leads to the gateway's log; otherwise as Refuse.
func (c *Client) RefuseAs(tokens []Token, info string) { panic("provisional") }
