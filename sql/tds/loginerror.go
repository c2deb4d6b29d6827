package tds

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/seed-13b04e61/gateway/egress"
)

// Phase is a part of a login, in logs, metrics and errors.
type Phase string

// The phases at each server.
const (
	PhaseDial     Phase = "dial"
	PhasePrelogin Phase = "prelogin"
	PhaseTLS      Phase = "tls"
	PhaseLogin    Phase = "login"
)

// Timing is how long a phase took, all hops together.
type Timing struct {
	Phase Phase
	Took  time.Duration
}

// LoginError is why Connect failed. Refused is set when the server said no in
// tokens, which may be passed on; else Err is set.
type LoginError struct {
	Phase   Phase
	Server  string // host:port of the hop
	Hops    int    // redirects followed before
	Err     error  // of network, TLS, protocol, or a redirect that is refused
	Refused []*ServerError
	Tokens  []Token // of the refusal: ERROR, INFO and a DONE at the end
	Timings []Timing
}

// Error is [LoginError.Cause], followed by [LoginError.Remedy] if there is one.
func (e *LoginError) Error() string {
	if remedy := e.Remedy(); remedy != "" {
		return e.Cause() + "; " + remedy
	}
	return e.Cause()
}

// Unwrap is Err.
func (e *LoginError) Unwrap() error { return e.Err }

// Number is that of the first error of the server, 0 if it sent none.
func (e *LoginError) Number() int32 {
	if len(e.Refused) == 0 {
		return 0
	}
	return e.Refused[0].Number
}

// Cause names the server, the phase and the reason, in one line of at most 1000
// characters. It holds no secret.
func (e *LoginError) Cause() string {
	var redirects string
	switch {
	case e.Hops == 1:
		redirects = " (after a redirect)"
	case e.Hops > 1:
		redirects = fmt.Sprintf(" (after %d redirects)", e.Hops)
	}
	return line(fmt.Sprintf("SQL server %s%s: %s: %s", e.Server, redirects, e.Phase, e.Reason()))
}

// Reason is Cause without the server and the phase.
func (e *LoginError) Reason() string {
	reason, _ := e.explain()
	return line(reason)
}

// Remedy is what the operator can do next, "" if nothing is known.
func (e *LoginError) Remedy() string {
	_, remedy := e.explain()
	return line(remedy)
}

// line makes one line of what may be the server's words.
func line(s string) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, s)
	if runes := []rune(s); len(runes) > maxFaultMessage {
		return string(runes[:maxFaultMessage])
	}
	return s
}

// explain is the one table from what went wrong to words.
func (e *LoginError) explain() (reason, remedy string) {
	if len(e.Refused) > 0 {
		return e.Refused[0].Error(), refusalRemedy(e.Refused[0])
	}
	if refused, ok := errors.AsType[*redirectError](e.Err); ok {
		return refused.reason, refused.remedy
	}
	if t := egress.Explain(e.Err, egress.Peer{}); t.Hop { // in the words of every door
		return t.What, t.Remedy + hopPorts(e.Err)
	}
	switch {
	case errors.Is(e.Err, errNoEncryption):
		return e.Err.Error(), "the gateway sends no token in clear text; turn on encryption at the server, or use upstream_tls: strict if it takes TDS 8.0 only"
	case errors.Is(e.Err, ErrReflected):
		return e.Err.Error(), "the server echoes what it is sent: have its operator mend it, and see that server of the entry is what it should be"
	case errors.Is(e.Err, ErrNoMARS):
		return e.Err.Error(), "take MultipleActiveResultSets (MARS) out of the client's connection string"
	case errors.Is(e.Err, context.Canceled):
		return "the login was given up", ""
	case isTimeout(e.Err):
		return "no answer in time", e.timeoutRemedy()
	case e.Phase == PhaseDial:
		return e.dialWords()
	case e.Phase == PhaseTLS:
		return tlsWords(e.Err)
	}
	reason = e.Err.Error()
	if hungUp(e.Err) {
		reason = "the server closed the connection"
	}
	if e.Phase == PhasePrelogin {
		if _, ok := errors.AsType[net.Error](e.Err); !ok && !hungUp(e.Err) {
			reason = "what answers is no SQL server: " + reason
		}
		return reason, "check that a SQL server listens there, and that upstream_tls (mandatory or strict) is what it takes"
	}
	return reason, "look into the server's error log for its reason"
}

func isTimeout(err error) bool {
	netErr, ok := errors.AsType[net.Error](err)
	return errors.Is(err, context.DeadlineExceeded) || ok && netErr.Timeout()
}

func hungUp(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}

// The ports of Azure's nodes, to which the connection policy Redirect leads.
const firstNodePort, lastNodePort = 11000, 11999

func (e *LoginError) timeoutRemedy() string {
	_, text, _ := net.SplitHostPort(e.Server)
	port, _ := strconv.Atoi(text)
	switch {
	case e.Phase == PhaseDial && port >= firstNodePort && port <= lastNodePort:
		return "the server's connection policy is Redirect and a firewall blocks its node ports: open 11000-11999 to it, or set the policy to Proxy"
	case e.Phase == PhaseDial:
		return "check server and dial of the entry, and the firewalls between here and there (port 1433)"
	}
	return "try again; if it stays so, look at the server's health, or raise login_timeout"
}

// hopPorts is what whoever runs a proxy that refused a tunnel must know of SQL.
func hopPorts(err error) string {
	refused, ok := errors.AsType[*egress.ProxyError](err)
	if !ok || refused.Status == http.StatusProxyAuthRequired {
		return ""
	}
	return "; the server is asked for at port 1433, and its nodes at 11000 to 11999"
}

func (e *LoginError) dialWords() (reason, remedy string) {
	if unknown, ok := errors.AsType[*net.DNSError](e.Err); ok && unknown.IsNotFound {
		return "the name is not known to the name server", "check server of the entry, and the DNS zone of a private endpoint"
	}
	if e.Hops > 0 { // what the entry says was right
		return e.Err.Error(), "the server's connection policy is Redirect: let the gateway reach its nodes (ports 11000-11999), or set the policy to Proxy"
	}
	return e.Err.Error(), "check server and dial of the entry, the network, and egress.proxy"
}

// noProtocol tells the peer's alert no_application_protocol (RFC 7301 §3.2), for
// which crypto/tls has a text and no type.
func noProtocol(err error) bool {
	op, ok := errors.AsType[*net.OpError](err)
	return ok && op.Op == "remote error" && strings.HasSuffix(op.Err.Error(), "no application protocol")
}

// tooOld tells a peer whose TLS is older than 1.2, by its alert protocol_version
// (RFC 5246 §7.2) or by what it chose, for which crypto/tls has texts and no types.
func tooOld(err error) bool {
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "remote error" {
		return strings.HasSuffix(op.Err.Error(), "protocol version not supported")
	}
	return strings.Contains(err.Error(), "server selected unsupported protocol version")
}

func tlsWords(err error) (reason, remedy string) {
	if unknown, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		if strings.Contains(unknown.Error(), "insecure algorithm") { // which crypto/x509 has as text alone
			return "its certificate is signed by an algorithm that proves nothing any more, such as SHA-1", "have a certificate issued that is signed with SHA-256"
		}
		return "its certificate is signed by an authority that is not trusted here", "if it comes from a private CA, name the CA's PEM file as tls.ca_file of the entry"
	}
	if _, ok := errors.AsType[x509.HostnameError](err); ok {
		return "its certificate is for another name: " + err.Error(), "write as server what the certificate shows; dial: may name another address for it"
	}
	if bad, ok := errors.AsType[x509.CertificateInvalidError](err); ok && bad.Reason == x509.Expired {
		return "its certificate is not valid at this time: " + err.Error(), "renew the server's certificate, or set this machine's clock"
	}
	if noProtocol(err) {
		return "it does not take TDS 8.0", "set upstream_tls: mandatory"
	}
	if tooOld(err) {
		return "it has no TLS of version 1.2 or later", "turn TLS 1.2 on at the server; the gateway sends no token over what is older"
	}
	remedy = "check that upstream_tls (mandatory or strict) is what the server takes"
	if hungUp(err) {
		return "the server closed the connection within the TLS handshake", remedy
	}
	return "the handshake failed: " + err.Error(), remedy
}

// refusalRemedy is for errors of Azure SQL that come from how things are set up
// (Microsoft: "Troubleshoot connectivity issues and other errors", "Database
// Engine errors").
func refusalRemedy(e *ServerError) string {
	switch e.Number {
	case NumberLoginFailed:
		switch {
		case strings.Contains(e.Message, "Token is expired"):
			return "try again: the gateway gets a fresh token"
		case strings.Contains(e.Message, "token-identified principal"):
			return "the principal of the token is no user of the database: CREATE USER it there (gateway check --live prints the statement)"
		}
	case 40615:
		if ip, ok := e.Address(); ok {
			return "let " + ip.String() + " through the server's firewall, or use a private endpoint"
		}
		return "let the gateway's address through the server's firewall, or use a private endpoint"
	case 40914:
		return "let the gateway's subnet through by a virtual network rule of the server, or use a private endpoint"
	case 47073:
		return "public network access is off at the server: use its private endpoint, or turn it on"
	case 40531, 40532:
		return "server of the entry is no name of an Azure SQL server: write it in full, such as orders.database.windows.net"
	case 4060:
		return "check the name of the database (database of the entry, or the client's), and that the principal is a user of it"
	case NumberUnavailable:
		return "the database is paused, or moves to another node: try again in a minute"
	}
	return ""
}

// Address is the first IP address in the server's words: of 40615 the client's, as
// its firewall sees it. False for none.
func (e *ServerError) Address() (netip.Addr, bool) {
	for word := range strings.FieldsFuncSeq(e.Message, func(r rune) bool { return strings.ContainsRune(" '\",()", r) }) {
		if ip, err := netip.ParseAddr(strings.TrimRight(word, ".")); err == nil {
			return ip.WithZone(""), true // a zone could be anything, and may be pasted into a shell
		}
	}
	return netip.Addr{}, false
}

// phase runs a phase and takes its time. An error becomes a *[LoginError]; once
// ctx has ended, that is the reason, whatever broke by it.
func (j *journey) phase(ctx context.Context, p Phase, run func() error) error {
	began := time.Now()
	err := run()
	j.took(p, time.Since(began))
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		if errors.Is(err, egress.ErrNextHop) { // who it was that did not answer
			return &LoginError{Phase: p, Err: fmt.Errorf("%w: %w", ctx.Err(), err)}
		}
		return &LoginError{Phase: p, Err: ctx.Err()}
	}
	if r, ok := errors.AsType[*refusal](err); ok {
		return &LoginError{Phase: p, Refused: r.errs, Tokens: r.tokens}
	}
	return &LoginError{Phase: p, Err: err}
}

func (j *journey) took(p Phase, took time.Duration) {
	for i := range j.timings {
		if j.timings[i].Phase == p {
			j.timings[i].Took += took
			return
		}
	}
	j.timings = append(j.timings, Timing{p, took})
}

// failed completes the error of the last hop.
func (j *journey) failed(err error) error {
	e, ok := errors.AsType[*LoginError](err)
	if !ok {
		e = &LoginError{Phase: PhaseLogin, Err: err}
	}
	e.Server, e.Hops, e.Timings = j.route[len(j.route)-1], len(j.route)-1, j.timings
	return e
}
