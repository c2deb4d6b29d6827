package sql

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"

	"github.com/seed-13b04e61/gateway/audit"
	"github.com/seed-13b04e61/gateway/authority"
	"github.com/seed-13b04e61/gateway/egress"
	"github.com/seed-13b04e61/gateway/gate"
	"github.com/seed-13b04e61/gateway/routes"
)

// refusalKind is what a driver makes of a refusal.
type refusalKind int

const (
	permanent refusalKind = iota // no driver tries again
	unproven                     // permanent: what the client showed is not believed
	transient                    // drivers that do so try again
	crowded                      // transient: too many sessions
)

// refusal is why there is no session.
type refusal struct {
	result audit.LoginResult
	kind   refusalKind
	detail string // for the client: no address but the server's name
	cause  string // for the operator; "" when detail says it all
	remedy string
	// words are those of the server, which the client gets instead; nil for none.
	words   *loginError
	session string // leads from the message to the log
}

// message is what the client reads.
func (r *refusal) message() string {
	text := "gateway: " + r.detail
	if r.remedy != "" {
		text += "; " + r.remedy
	}
	return text + " (session " + r.session + ")"
}

// denied puts the gate's refusal into the frame's words.
func denied(err error) *refusal {
	var no *gate.Refusal
	if !errors.As(err, &no) {
		return &refusal{result: audit.LoginCallerUnknown, kind: permanent, detail: "who logs in could not be found out", cause: err.Error()}
	}
	r := &refusal{result: audit.LoginResult(no.Code), kind: permanent, detail: no.Detail, cause: no.Cause, remedy: no.Remedy}
	if no.Code == gate.CallerUnknown || no.Code == gate.RateLimited {
		r.kind = unproven
	}
	return r
}

// elsewhere refuses a server that the door does not lead to. Only callers that
// were admitted are told which ones it does.
func elsewhere(d *routes.SQL) *refusal {
	const most = 8
	var names []string
	for _, a := range d.Servers {
		names = append(names, a.Host)
	}
	more := ""
	if n := len(names) - most; n > 0 {
		names, more = names[:most], fmt.Sprintf(" and %d more", n)
	}
	return &refusal{
		result: audit.LoginServerUnknown, kind: permanent,
		detail: fmt.Sprintf("the door %s does not lead to the server that the client names, but to %s%s", d.Name, strings.Join(names, ", "), more),
		remedy: "name one of them as server in the connection string, and have the name lead to the gateway",
	}
}

// tokenTrouble is the error of a [TokenSource].
func tokenTrouble(err error) *refusal {
	t := authority.Explain(err)
	r := &refusal{result: audit.LoginTokenMissing, kind: transient, detail: t.Detail, cause: t.Cause, remedy: t.Remedy}
	switch {
	case t.Refused:
		r.result, r.kind = audit.LoginTokenRefused, permanent
	case t.Late:
		r.result = audit.LoginTimeout
	}
	if t.CorrelationID != "" {
		id := "; correlation ID " + t.CorrelationID
		if rest, ok := strings.CutPrefix(r.cause, r.detail); ok {
			r.cause = r.detail + id + rest // the log's words go on where the answer's end
		}
		r.detail += id
	}
	return r
}

// serverTrouble is a login at the server that failed.
func serverTrouble(e *loginError) *refusal {
	if e.words != nil {
		return &refusal{result: audit.LoginUpstreamRefused, kind: permanent, detail: "the server refused the login", cause: e.text, remedy: e.remedy, words: e}
	}
	r := &refusal{kind: transient, cause: e.text}
	hop := egress.Explain(e.err, egress.Peer{}) // its words are those of every door
	switch {
	case errors.Is(e.err, errReflected):
		r.result, r.kind, r.detail = audit.LoginReflected, permanent, "the server's answer contained the token that the gateway had sent it"
	case hop.Hop:
		r.result, r.detail, r.remedy = audit.LoginUpstreamProxy, hop.What, hop.Remedy
		r.cause = printable(e.err.Error(), maxCause) // text has the same words again
		if hop.Late {
			r.result = audit.LoginTimeout
		}
	case untrusted(e.err):
		r.result, r.detail = audit.LoginUpstreamTLS, "the server's certificate could not be verified"
		r.remedy = "if it comes from a private CA, name that as tls.ca_file of the door"
	case garbled(e.err):
		r.result, r.detail = audit.LoginUpstreamTLS, "the TLS handshake with the server failed"
		r.remedy = "check server and upstream_tls of the door"
	case errors.Is(e.err, egress.ErrForbidden):
		r.result, r.detail = audit.LoginUnreachable, "the server's address is one that nobody may reach"
		r.remedy = "metadata services, link-local addresses and the gateway's own listeners are never dialled; correct server or dial of the door"
	case late(e.err):
		r.result, r.detail = audit.LoginTimeout, "the server did not answer in time"
		r.remedy = "see whether a firewall is in the way, or raise login_timeout of the door"
		if e.hops > 0 {
			r.remedy = "the server redirects to node ports (11000 to 11999): open them, or set its connection policy to Proxy"
		}
	case broken(e.err):
		r.result, r.detail = audit.LoginUnreachable, "the server cannot be reached or broke off"
		r.remedy = "check the server's name, the network, and dial of the door or egress.proxy in routes.yaml"
	default: // the wire's own words, about what the server sent
		r.result, r.detail = audit.LoginUpstreamBroken, "the login at the server failed: "+printable(cmp.Or(e.reason, e.err.Error()), maxCause)
		r.cause = "" // which has the same words again
		r.remedy = "see that server of the door is what its kind says"
	}
	if e.lasting {
		r.kind = permanent
	}
	if e.remedy != "" { // the wire knows more of it
		r.remedy = e.remedy
	}
	if e.server != "" {
		r.detail += fmt.Sprintf(" (%s, at %s)", e.server, e.phase)
	}
	return r
}

func late(err error) bool {
	var netErr net.Error
	return errors.Is(err, context.DeadlineExceeded) || errors.As(err, &netErr) && netErr.Timeout()
}

func untrusted(err error) bool {
	var verify *tls.CertificateVerificationError
	var unknown x509.UnknownAuthorityError
	var name x509.HostnameError
	return errors.As(err, &verify) || errors.As(err, &unknown) || errors.As(err, &name)
}

// garbled tells trouble within TLS: of alerts, either's, crypto/tls makes errors of
// these operations.
func garbled(err error) bool {
	var record tls.RecordHeaderError
	var alert *net.OpError
	return errors.As(err, &record) || errors.As(err, &alert) && (alert.Op == "remote error" || alert.Op == "local error")
}

// broken tells a network's error from the wire's own.
func broken(err error) bool {
	var op *net.OpError
	var name *net.DNSError
	var number syscall.Errno
	return err == nil || errors.As(err, &op) || errors.As(err, &name) || errors.As(err, &number) || errors.Is(err, context.Canceled) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.ErrClosedPipe) || errors.Is(err, net.ErrClosed)
}
