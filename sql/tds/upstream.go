package tds

import (
	"context"
	"crypto/x509"
	"net"
	"strconv"

	"github.com/seed-13b04e61/gateway/secrets"
)

const (
	defaultPort = 1433
	// maxHops is how many servers one login may lead to.
	maxHops = 10
)

// Dialer opens the connections to servers.
type Dialer interface {
	DialContext(ctx context.Context, network, addr string) (net.Conn, error)
}

// Target is where and how a login is made.
type Target struct {
	Host   string         // of the server: what the certificate shows and LOGIN7 names; canonical
	Port   uint16         // 0: 1433
	Dial   string         // host:port to dial for the first hop instead; "" for none
	Strict bool           // TDS 8.0: TLS from the first byte
	Roots  *x509.CertPool // nil: the system's
	Dialer Dialer         // nil: a [net.Dialer]

	Database      string // when the client names none, or ForceDatabase
	ForceDatabase bool
	ReadOnly      bool   // ApplicationIntent=ReadOnly
	AppNameSuffix string // cut so that the whole has 128 units at most
	// RedirectSuffixes bound where a redirect may lead apart from Host itself:
	// below those that begin with a dot (".database.windows.net"), and to the
	// names and addresses that do not. nil: Host's own domain and
	// [DefaultRedirectSuffixes].
	RedirectSuffixes []string
}

// Upstream is the server's half of a session, logged in.
type Upstream struct {
	Answer     []Token // of the login, as the server sent it
	SPID       uint16
	PacketSize int    // in force from now on
	Version    uint32 // sent in LOGIN7
	MARS       bool
	Server     string   // host:port of the last hop
	Route      []string // host:port of every hop
	Timings    []Timing

	conn net.Conn
}

// Connect logs in: for each hop, at most 10, it dials, negotiates, checks the
// certificate and sends the client's login, made anew for this hop: token in place
// of the client's credential, the server's names, what t demands, and all else as
// the client wrote it. Redirects are followed here and the client never learns of
// them. Success needs LOGINACK and the acknowledgement of FEDAUTH. ctx bounds all
// of it. The error is a *[LoginError].
//
// login is not changed; options is the client's PRELOGIN. Both may be used
// again for a later login of the same session.
func Connect(ctx context.Context, t Target, login *Login, options Options, token secrets.Secret) (*Upstream, error) {
	if t.Port == 0 {
		t.Port = defaultPort
	}
	j := &journey{target: t, login: login, options: serverPrelogin(options), mars: options.MARS(), token: token}
	h := hop{host: t.Host, server: hostPort(t.Host, t.Port), name: t.Host}
	h.dial = h.server
	if t.Dial != "" {
		h.dial = t.Dial
	}
	for {
		j.route = append(j.route, h.server)
		u, routing, err := j.visit(ctx, h)
		if err == nil && routing != nil {
			h, err = j.follow(*routing)
		}
		switch {
		case err != nil:
			return nil, j.failed(err)
		case u != nil:
			u.Server, u.Route, u.Timings = h.server, j.route, j.timings
			return u, nil
		}
	}
}

// Conn is what the server's packets travel on, TLS taken off.
func (u *Upstream) Conn() net.Conn { return u.conn }

// Close ends the connection.
func (u *Upstream) Close() error { return u.conn.Close() }

func hostPort(host string, port uint16) string {
	return net.JoinHostPort(host, strconv.Itoa(int(port)))
}
