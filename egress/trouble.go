package egress

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"syscall"
)

// Peer is whom a connection was for, in words.
type Peer struct {
	Name string // "the upstream"
	Of   string // "the upstream's"
	Keys string // what of routes.yaml says where it is
	CA   string // the key that names a CA to trust
	SNI  string // how to call it by another name; "": not at all
}

// Trouble is why a connection did not come about. What and Remedy are sentences
// without an address, fit for callers; both are "" when nothing is known but
// that it failed.
type Trouble struct {
	What, Remedy string
	Hop          bool // it is the next hop's
	TLS          bool // of the peer
	Late         bool // nobody answered in time
}

// Explain says in the words of every door why err kept a connection to p from
// coming about.
func Explain(err error, p Peer) Trouble {
	if refused, ok := errors.AsType[*ProxyError](err); ok {
		return refused.trouble()
	}
	if errors.Is(err, ErrNextHop) {
		return hopTrouble(err)
	}
	if t := p.certificate(err); t.TLS {
		return t
	}
	switch {
	case errors.Is(err, ErrForbidden):
		return Trouble{What: p.Of + " address is one that no call may reach",
			Remedy: "metadata services, managed identity endpoints, link-local addresses and the gateway's own listeners are never dialled; correct " + p.Keys}
	case unknownName(err):
		return Trouble{What: p.Of + " name cannot be resolved",
			Remedy: "check how it is spelt in " + p.Keys + ", and this machine's DNS; if only a proxy knows such names, set egress.proxy in routes.yaml"}
	case errors.Is(err, syscall.ECONNREFUSED):
		return Trouble{What: p.Name + " refuses the connection",
			Remedy: "see that it is up and listens at this port, or correct " + p.Keys}
	case late(err) && dialling(err):
		return Trouble{Late: true, What: "no connection to " + p.Name + " came about in time",
			Remedy: "look for a firewall on the way that drops packets, or set egress.proxy in routes.yaml if a proxy leads there; else correct " + p.Keys}
	}
	return Trouble{Late: late(err)}
}

func (e *ProxyError) trouble() Trouble {
	t := Trouble{Hop: true, What: fmt.Sprintf("the next hop refused a tunnel with status %d", e.Status),
		Remedy: "have whoever runs the proxy of egress.proxy let CONNECT to this host pass, or name the host under egress.proxy.bypass in routes.yaml"}
	if e.Status == http.StatusProxyAuthRequired {
		t.What, t.Remedy = "the next hop asks for another credential: status 407", "correct username and password of egress.proxy in routes.yaml"
	}
	return t
}

func hopTrouble(err error) Trouble {
	t := Trouble{Hop: true, What: "the next hop cannot be reached, or opens no tunnel",
		Remedy: "see that the proxy of egress.proxy is up and speaks HTTP, or correct its url in routes.yaml; hosts that need no proxy go under bypass"}
	switch {
	case unknownName(err):
		t.What = "the next hop's name cannot be resolved"
	case errors.Is(err, syscall.ECONNREFUSED):
		t.What = "the next hop refuses the connection"
	case late(err):
		t.What, t.Late = "the next hop did not answer in time", true
	}
	return t
}

// certificate is what is wrong with p's, if it is that.
func (p Peer) certificate(err error) Trouble {
	_, isVerify := errors.AsType[*tls.CertificateVerificationError](err)
	invalid, isInvalid := errors.AsType[x509.CertificateInvalidError](err)
	_, isUnknown := errors.AsType[x509.UnknownAuthorityError](err)
	_, isName := errors.AsType[x509.HostnameError](err)
	switch {
	case isName:
		t := Trouble{TLS: true, What: p.Of + " TLS certificate is for another name", Remedy: "call it by a name that the certificate has: correct " + p.Keys}
		if p.SNI != "" {
			t.Remedy += ", or say its name by " + p.SNI
		}
		return t
	case isInvalid && invalid.Reason == x509.Expired:
		return Trouble{TLS: true, What: p.Of + " TLS certificate has expired, or is not valid yet",
			Remedy: "have its operator renew it; if it is in order, set this machine's clock"}
	case isUnknown, isVerify, isInvalid:
		return Trouble{TLS: true, What: p.Of + " TLS certificate is not trusted",
			Remedy: "if a private CA signed it, name that CA's certificate under " + p.CA + "; otherwise find out who answers there"}
	}
	return Trouble{}
}

func unknownName(err error) bool {
	_, ok := errors.AsType[*net.DNSError](err)
	return ok
}

func dialling(err error) bool {
	op, ok := errors.AsType[*net.OpError](err)
	return ok && op.Op == "dial"
}

func late(err error) bool {
	timeout, ok := errors.AsType[net.Error](err)
	return errors.Is(err, context.DeadlineExceeded) || ok && timeout.Timeout()
}
