package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/seed-13b04e61/gateway/routes"
)

// pingPath is answered by the gateway itself at every door, for callers that it
// knows: 204 and a Gateway-Request-Id.
const pingPath = "/.gateway/ping"

// maxDoctorAnswer bounds what is read of any answer, in bytes.
const maxDoctorAnswer = 64 << 10

// sight is a host for which the gateway ended TLS.
type sight struct {
	host  routes.Authority
	chain []*x509.Certificate // as shown: leaf and issuing CA
}

// exchange is what came back for one request.
type exchange struct {
	status int
	header http.Header
	body   []byte
	took   time.Duration
}

// ours tells whether this product answered: each of its answers has an id.
func (x *exchange) ours() bool { return x.header.Get("Gateway-Request-Id") != "" }

// visit examines the proxy: whether it can be reached, what it is, whether it
// takes the credential, and what it does with a CONNECT to each host. It
// returns the hosts that it intercepts.
func (d *doctor) visit(ctx context.Context) []sight {
	if !d.reach(ctx) {
		return nil
	}
	x, err := d.ask(ctx, fmt.Sprintf("GET %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", pingPath, d.proxy.Addr))
	if !d.identify(x, err) {
		return nil
	}
	d.checkClock(x)
	var shown []sight
	for _, a := range d.hosts {
		s, more := d.tunnel(ctx, a)
		if s != nil {
			shown = append(shown, *s)
		}
		if !more {
			break
		}
	}
	return shown
}

// dial connects to the proxy, with TLS where its URL says so.
func (d *doctor) dial(ctx context.Context) (net.Conn, error) {
	dialer := &net.Dialer{Timeout: d.patience}
	if d.proxy.Scheme == "https" {
		return (&tls.Dialer{NetDialer: dialer, Config: &tls.Config{MinVersion: tls.VersionTLS12}}).DialContext(ctx, "tcp", d.proxy.Addr)
	}
	return dialer.DialContext(ctx, "tcp", d.proxy.Addr)
}

// reach tells whether anything listens where the proxy is.
func (d *doctor) reach(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, d.patience)
	defer cancel()
	c, err := d.dial(ctx)
	if err == nil {
		_ = c.Close()
		return true
	}
	at := d.proxy.Addr
	if name, ok := errors.AsType[*net.DNSError](err); ok {
		d.no(checkProxy, at, fmt.Sprintf("the name %s cannot be resolved here", name.Name), "use a name that this machine or container knows; 127.0.0.1 inside a container is the container itself")
		return false
	}
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		d.no(checkProxy, at, "nothing listens there", "start the gateway, or correct the port; inside a container 127.0.0.1 is the container itself")
	case os.IsTimeout(err) || errors.Is(err, context.DeadlineExceeded):
		d.no(checkProxy, at, "no answer in time, so something on the way drops packets", "look at firewalls, network policies and security groups")
	case d.proxy.Scheme == "https":
		d.no(checkProxy, at, "TLS to the proxy itself does not come about: "+tlsCause(err), "trust the CA of listen.tls here, or write http:// if the gateway has no listen.tls")
	default:
		d.no(checkProxy, at, "it cannot be reached: "+cause(err), "start the gateway, or correct "+d.proxy.from)
	}
	return false
}

// ask sends one request to the proxy on a connection of its own.
func (d *doctor) ask(ctx context.Context, request string) (*exchange, error) {
	ctx, cancel := context.WithTimeout(ctx, d.patience)
	defer cancel()
	c, err := d.dial(ctx)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(d.patience))
	return converse(c, request)
}

// converse sends a request and reads its answer, a bounded one.
func converse(c io.ReadWriter, request string) (*exchange, error) {
	method, _, _ := strings.Cut(request, " ")
	began := time.Now()
	if _, err := io.WriteString(c, request); err != nil {
		return nil, err
	}
	resp, err := http.ReadResponse(bufio.NewReader(io.LimitReader(c, maxDoctorAnswer)), &http.Request{Method: method})
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	x := &exchange{status: resp.StatusCode, header: resp.Header, took: time.Since(began)}
	if method != http.MethodConnect || x.status != http.StatusOK {
		x.body, _ = io.ReadAll(resp.Body) // what came of it will do
	}
	return x, nil
}

// identify tells whether the answer is one of this product.
func (d *doctor) identify(x *exchange, err error) bool {
	at := d.proxy.Addr
	switch {
	case err != nil && d.proxy.Scheme == "http" && d.speaksTLS():
		d.no(checkProxy, at, "it speaks TLS, and the proxy's URL says http://", "write https://, for clients that speak TLS to a proxy")
	case err != nil:
		d.no(checkProxy, at, "what listens there does not answer as an HTTP proxy: "+cause(err), "correct "+d.proxy.from+"; the gateway's address is listen.proxy of routes.yaml")
	case strings.Contains(string(x.body), "HTTP request to an HTTPS server"):
		d.no(checkProxy, at, "it speaks TLS, and the proxy's URL says http://", "write https://, for clients that speak TLS to a proxy")
	case !x.ours():
		d.no(checkProxy, at, fmt.Sprintf("what answers there is not this gateway but %s (status %d)", stranger(x.header), x.status),
			"let the proxy variables name the gateway; a proxy behind it belongs into egress.proxy of routes.yaml")
	default:
		d.ok(checkProxy, at, "the gateway answers in "+rounded(x.took))
		return true
	}
	return false
}

// speaksTLS tells whether a TLS server listens at the proxy's address.
func (d *doctor) speaksTLS() bool {
	// Nothing is sent: whose certificate it is does not matter here.
	dialer := &tls.Dialer{NetDialer: &net.Dialer{Timeout: d.patience}, Config: &tls.Config{InsecureSkipVerify: true}}
	c, err := dialer.Dial("tcp", d.proxy.Addr)
	if err != nil {
		return false
	}
	_ = c.Close()
	return true
}

// stranger names a server that is not ours by what it says of itself.
func stranger(h http.Header) string {
	for _, name := range []string{"Server", "Via", "X-Squid-Error", "Proxy-Agent"} {
		if v := h.Get(name); v != "" {
			return fmt.Sprintf("%q (its field %s)", v, name)
		}
	}
	return "a server that does not say what it is"
}

// tunnel asks for a tunnel to a and looks at what is inside. It returns what it
// saw of the gateway's CA, and whether another host is worth asking for.
func (d *doctor) tunnel(ctx context.Context, a routes.Authority) (*sight, bool) {
	ctx, cancel := context.WithTimeout(ctx, d.patience)
	defer cancel()
	name := shortAuthority(a)
	c, err := d.dial(ctx)
	if err != nil {
		d.no(checkTunnel, name, "the proxy cannot be reached any more: "+cause(err), "try again")
		return nil, false
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(d.patience))
	request := fmt.Sprintf("CONNECT %s HTTP/1.1\r\nHost: %s\r\n", a, a)
	if d.proxy.hasUser {
		request += "Proxy-Authorization: " + d.proxy.basic() + "\r\n"
	}
	x, err := converse(c, request+"\r\n")
	switch {
	case err != nil:
		d.no(checkTunnel, name, "the gateway gives no answer to CONNECT: "+cause(err), "look at its log")
	case x.status == http.StatusProxyAuthRequired:
		d.unknownCaller(x)
		return nil, false
	case x.status != http.StatusOK:
		d.refusedTunnel(name, x)
	default:
		return d.inside(c, a), true
	}
	return nil, true
}

// basic is the proxy's credential as a field value (RFC 7617).
func (p *proxyURL) basic() string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(p.User+":"+p.Pass))
}

// unknownCaller says why the gateway does not know who calls, and ends in its
// own words.
func (d *doctor) unknownCaller(x *exchange) {
	remedy := "write http://NAME:KEY@HOST:PORT; gateway keygen NAME makes a key and its line for routes.yaml"
	what := fmt.Sprintf("the gateway asks who calls, and %s holds no credential", d.proxy.from)
	if d.proxy.hasUser {
		what = fmt.Sprintf("the gateway does not take the credential of caller %q in %s", d.proxy.User, d.proxy.from)
		remedy = "compare the name with callers: of routes.yaml, and give the caller a new key by gateway keygen"
	}
	if p := problemOf(x); p.Remedy != "" {
		remedy = p.Remedy + "; " + remedy
	}
	d.no(checkProxy, d.proxy.Addr, what+because(x), remedy)
}

// problem is what the gateway's refusals hold.
type problem struct{ Code, Detail, Remedy string }

func problemOf(x *exchange) problem {
	var p problem
	_ = json.Unmarshal(x.body, &p) // the code stands in a field as well
	if p.Code == "" {
		p.Code = x.header.Get("Gateway-Error")
	}
	return p
}

// because is the detail of a refusal as the end of a sentence.
func because(x *exchange) string {
	if p := problemOf(x); p.Detail != "" {
		return ": " + p.Detail
	}
	return ""
}

func (d *doctor) refusedTunnel(name string, x *exchange) {
	p := problemOf(x)
	text := fmt.Sprintf("the gateway refuses the tunnel with %d", x.status)
	if p.Code != "" {
		text += " " + p.Code
	}
	remedy := p.Remedy
	if remedy == "" {
		remedy = "gateway explain GET https://" + name + "/ says what decides it"
	}
	d.no(checkTunnel, name, text+because(x), remedy)
}

// inside does the TLS handshake and, when it is the gateway that speaks, asks
// it for a sign of life. A tunnel that leads to the host itself gets nothing.
func (d *doctor) inside(c net.Conn, a routes.Authority) *sight {
	name := shortAuthority(a)
	// The chain is looked at, and judged by each runtime in its own way. No
	// secret is sent.
	t := tls.Client(c, &tls.Config{ServerName: a.Host, InsecureSkipVerify: true, MinVersion: tls.VersionTLS12})
	if err := t.Handshake(); err != nil {
		d.no(checkTunnel, name, "TLS inside the tunnel does not come about: "+tlsCause(err), "look at the gateway's log")
		return nil
	}
	chain := t.ConnectionState().PeerCertificates
	if !constrained(chain) {
		d.warn(checkTunnel, name, "the gateway passes this host through untouched, so calls get no token", "name it under hosts: of a route if they should")
		return nil
	}
	x, err := converse(t, fmt.Sprintf("GET %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", pingPath, name))
	switch {
	case err != nil:
		d.no(checkTunnel, name, "no answer comes out of the tunnel: "+cause(err), "look at the gateway's log")
		return nil
	case !x.ours():
		d.no(checkTunnel, name, fmt.Sprintf("something other than this gateway ends TLS: %s (status %d)", stranger(x.header), x.status), "look for a second intercepting proxy on the way")
		return nil
	case x.status != http.StatusNoContent:
		d.refusedTunnel(name, x)
		return nil
	}
	caller := ""
	if d.proxy.hasUser {
		caller = " to caller " + d.proxy.User
	}
	d.ok(checkTunnel, name, fmt.Sprintf("the gateway opens the tunnel%s and answers in it", caller))
	return &sight{a, chain}
}

// constrained tells the gateway's certificates from an API's own: an issuing CA
// that may sign for named hosts and no address, or those of loopback, and a leaf
// without a subject.
func constrained(chain []*x509.Certificate) bool {
	if len(chain) < 2 {
		return false
	}
	leaf, issuing := chain[0], chain[1]
	return len(leaf.Subject.Names) == 0 && len(leaf.DNSNames) == 1 && issuing.IsCA &&
		issuing.PermittedDNSDomainsCritical && len(issuing.PermittedDNSDomains) > 0 && len(issuing.ExcludedIPRanges)+len(issuing.PermittedIPRanges) > 0
}

const (
	clockWarns = time.Minute
	clockFails = 5 * time.Minute // Entra refuses assertions from about here
)

// checkClock compares the gateway's clock with this machine's.
func (d *doctor) checkClock(x *exchange) {
	theirs, err := http.ParseTime(x.header.Get("Date"))
	if err != nil {
		d.warn(checkClock, "", "the gateway's answer has no date, so the clocks were not compared", "")
		return
	}
	off := time.Since(theirs) - x.took/2
	which := "ahead of"
	if off < 0 {
		off, which = -off, "behind"
	}
	text := fmt.Sprintf("this machine is %s %s the gateway", rounded(off), which)
	remedy := "set both by NTP: timedatectl set-ntp true"
	switch {
	case off > clockFails:
		d.no(checkClock, "", text+", so certificates seem expired or not yet valid", remedy)
	case off > clockWarns:
		d.warn(checkClock, "", text, remedy)
	default:
		d.ok(checkClock, "", "it agrees with the gateway's")
	}
}

// rounded is a duration for people.
func rounded(t time.Duration) string {
	if t < time.Second {
		return t.Round(time.Millisecond).String()
	}
	return t.Round(time.Second).String()
}

// cause is an error without the addresses that it repeats.
func cause(err error) string {
	if op, ok := errors.AsType[*net.OpError](err); ok {
		return op.Err.Error()
	}
	return err.Error()
}

// tlsCause is what a handshake failed of.
func tlsCause(err error) string {
	if v, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return v.Err.Error()
	}
	return cause(err)
}
