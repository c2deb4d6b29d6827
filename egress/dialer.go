// Package egress opens the connections by which calls and token requests leave:
// directly or through the configured next hop, and never to an address that no
// call may reach.
package egress

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/seed-13b04e61/gateway/secrets"
)

const (
	dialTimeout = 10 * time.Second
	keepAlive   = 30 * time.Second
	// connectTimeout bounds the exchange with the next hop after the dial.
	connectTimeout = 15 * time.Second
)

// ErrForbidden is wrapped when an address may not be dialled at all: metadata
// services, managed identity endpoints, link-local, multicast, unspecified, and
// the gateway's own listeners.
var ErrForbidden = errors.New("address may not be dialled")

// ErrNextHop is wrapped when the next hop cannot be reached, does not answer, or
// answers with what is no HTTP. Its refusal is a [ProxyError].
var ErrNextHop = errors.New("next hop")

// ProxyError is the next hop's refusal to open a tunnel (RFC 9110 §9.3.6).
type ProxyError struct {
	Proxy  string // host:port of the next hop
	Target string // host:port asked for
	Status int    // of its answer, such as 407
}

func (e *ProxyError) Error() string {
	return fmt.Sprintf("next hop %s refused a tunnel to %s with status %d", e.Proxy, e.Target, e.Status)
}

// Config is the next hop. The zero value dials directly.
type Config struct {
	Proxy    *url.URL // http or https
	Username string
	Password secrets.Secret
	// Bypass lists what is dialled directly: hosts, .suffixes, addresses and
	// CIDR blocks. Loopback always is.
	Bypass []string
	// Resolver finds the addresses of what is dialled directly; nil: the system's.
	Resolver *net.Resolver
}

// Dialer opens connections. It is safe for concurrent use; its zero value is
// not usable, see [New].
type Dialer struct {
	cfg      Config
	bypass   bypass
	hop      net.Dialer // to the next hop, which the operator chose; guarded against a loop
	straight net.Dialer // to the target itself, guarded
	public   net.Dialer // to a target that no route names, guarded more
	own      *atomic.Pointer[[]netip.AddrPort]
	identity *atomic.Pointer[endpoints]
}

// New understands cfg or says which entry of Bypass it does not.
func New(cfg Config) (*Dialer, error) {
	d := &Dialer{cfg: cfg, own: &atomic.Pointer[[]netip.AddrPort]{}, identity: &atomic.Pointer[endpoints]{}}
	d.identity.Store(newEndpoints(nil))
	var err error
	if d.bypass, err = parseBypass(cfg.Bypass); err != nil {
		return nil, err
	}
	d.hop = net.Dialer{Timeout: dialTimeout, KeepAlive: keepAlive, ControlContext: guard(d.judgeHop)}
	d.straight = net.Dialer{Timeout: dialTimeout, KeepAlive: keepAlive, Resolver: cfg.Resolver, ControlContext: guard(d.judge)}
	d.public = net.Dialer{Timeout: dialTimeout, KeepAlive: keepAlive, Resolver: cfg.Resolver, ControlContext: guard(d.judgePublic)}
	return d, nil
}

// Forbid names the gateway's own listeners, which nobody reaches through it.
func (d *Dialer) Forbid(own []netip.AddrPort) { d.own.Store(&own) }

// DialContext connects to addr, a host and port, by tcp. Names are judged
// before they are resolved or handed to the next hop. The addresses that
// the host resolves to are judged one by one as they are dialled, so that no
// answer of a name server can change between the check and the use.
func (d *Dialer) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	if err := d.judgeName(ctx, addr); err != nil {
		return nil, err
	}
	if d.cfg.Proxy == nil || d.bypass.matches(addr) {
		return d.straight.DialContext(ctx, network, addr)
	}
	return d.tunnel(ctx, addr)
}

// NextHop returns the proxy by which a library with connections of its own has
// to send req, user information included, or nil for none: as an
// [http.Transport]'s Proxy. Who dials by [Dialer.DialContext] does not need it.
func (d *Dialer) NextHop(req *http.Request) (*url.URL, error) {
	addr := hostPort(req.URL)
	if d.cfg.Proxy == nil || d.bypass.matches(addr) {
		return nil, nil
	}
	hop := *d.cfg.Proxy
	if d.cfg.Username != "" {
		hop.User = url.UserPassword(d.cfg.Username, d.cfg.Password.Reveal())
	}
	return &hop, nil
}

// guard judges between the resolution and the connection of each address.
func guard(judge func(netip.AddrPort) error) func(context.Context, string, string, syscall.RawConn) error {
	return func(_ context.Context, network, address string, _ syscall.RawConn) error {
		if !strings.HasPrefix(network, "tcp") {
			return fmt.Errorf("%w: %s", ErrForbidden, network)
		}
		ap, err := netip.ParseAddrPort(address)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrForbidden, err)
		}
		return judge(ap)
	}
}

// tunnel asks the next hop for a connection to addr by CONNECT.
func (d *Dialer) tunnel(ctx context.Context, addr string) (net.Conn, error) {
	hop := hostPort(d.cfg.Proxy)
	conn, err := d.hop.DialContext(ctx, "tcp", hop)
	if err != nil {
		return nil, fmt.Errorf("%w %s: %w", ErrNextHop, hop, err)
	}
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	tunnelled, err := d.connect(ctx, conn, addr)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		_ = conn.Close()
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		var refused *ProxyError
		if errors.As(err, &refused) {
			return nil, err
		}
		return nil, fmt.Errorf("%w %s: %w", ErrNextHop, hop, err)
	}
	return tunnelled, nil
}

func (d *Dialer) connect(ctx context.Context, conn net.Conn, addr string) (net.Conn, error) {
	if d.cfg.Proxy.Scheme == "https" {
		tc := tls.Client(conn, &tls.Config{ServerName: d.cfg.Proxy.Hostname(), MinVersion: tls.VersionTLS12})
		if err := tc.HandshakeContext(ctx); err != nil {
			return nil, err
		}
		conn = tc
	}
	req := &http.Request{Method: http.MethodConnect, URL: &url.URL{Opaque: addr}, Host: addr, Header: http.Header{}}
	if d.cfg.Username != "" {
		pair := d.cfg.Username + ":" + d.cfg.Password.Reveal()
		req.Header.Set("Proxy-Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(pair)))
	}
	if err := req.Write(conn); err != nil {
		return nil, err
	}
	br := bufio.NewReader(conn)
	resp, err := http.ReadResponse(br, req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode/100 != 2 {
		return nil, &ProxyError{Proxy: hostPort(d.cfg.Proxy), Target: addr, Status: resp.StatusCode}
	}
	if br.Buffered() > 0 {
		return &buffered{Conn: conn, r: br}, nil
	}
	return conn, nil
}

// buffered keeps bytes that arrived together with the next hop's answer.
type buffered struct {
	net.Conn
	r *bufio.Reader
}

func (b *buffered) Read(p []byte) (int, error) { return b.r.Read(p) }

// CloseWrite lets whoever has said all still hear the answer.
func (b *buffered) CloseWrite() error {
	if half, ok := b.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}

func hostPort(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return net.JoinHostPort(u.Hostname(), port)
}
