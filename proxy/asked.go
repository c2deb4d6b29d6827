package proxy

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"

	"github.com/seed-13b04e61/gateway/audit"
	"github.com/seed-13b04e61/gateway/gate"
	"github.com/seed-13b04e61/gateway/routes"
)

// Asked is a call that nobody makes: gateway explain asks what the doors would
// make of it. The code that judges calls judges it.
type Asked struct {
	Table  *routes.Table
	Method string
	URL    *url.URL    // absolute; http and https alone
	Path   string      // of URL, escaped, byte for byte
	Header http.Header // Host, if it is there, is what the call names in that field
	Own    bool        // URL is the gateway's own, for the reverse door
}

// Door is what becomes of the call before the gate is asked: the target to ask
// it for, or the refusal. The door is set in either case.
func (a Asked) Door() (gate.Target, *gate.Refusal) {
	h := &Handler{via: []string{"1.1 gateway-asked"}}
	r, inside := a.request()
	p := &passage{Context: context.Background(), world: &world{hosts: newHosts(a.Table.Listen.Hosts)}, tunnel: inside}
	target, refused := h.door(p, r)
	if target.Door = p.event.Door; refused != nil {
		if !a.Own && inside == nil {
			target.Door = audit.Forward // refused before anybody looked
		}
		return target, refused.known()
	}
	target.Method, target.Query, target.Header = r.Method, a.URL.RawQuery, r.Header
	return target, nil
}

// request is the call as the server would read it. A call to an https:// URL that
// names its host comes inside of a tunnel, where that name counts.
func (a Asked) request() (r *http.Request, inside *tunnel) {
	header := a.Header.Clone()
	host := header.Get("Host")
	header.Del("Host")
	target := a.Path
	if a.URL.RawQuery != "" || a.URL.ForceQuery {
		target += "?" + a.URL.RawQuery
	}
	r = &http.Request{Method: a.Method, URL: a.URL, Host: a.URL.Host, Header: header, ProtoMajor: 1, ProtoMinor: 1}
	if a.URL.Scheme == "https" {
		r.TLS = &tls.ConnectionState{}
	}
	if host != "" {
		r.Host = host
	}
	if at, err := routes.ParseAuthority(a.URL.Host, 443); !a.Own && host != "" && r.TLS != nil && err == nil {
		inside = &tunnel{asked: at, at: at}
	}
	if !a.Own && inside == nil {
		target = a.URL.Scheme + "://" + a.URL.Host + target
	}
	r.RequestURI = target
	return r, inside
}

// Leave is what may still refuse a call that the gate let pass.
func (a Asked) Leave(pass gate.Pass) *gate.Refusal {
	r, _ := a.request()
	refused := checkSlashes(pass.Path)
	if refused == nil && pass.Route != nil {
		refused = (&passage{pass: pass}).wish(r)
	}
	return refused.known()
}

// Dig is what may refuse a tunnel to asked that the gate would have intercepted.
func (a Asked) Dig(asked routes.Authority) *gate.Refusal {
	_, err := netip.ParseAddr(asked.Host)
	switch {
	case a.Own:
		return toItself().known()
	case asked.Port == 80: // plain HTTP is to be expected
		return nil
	case a.Table.Intercept == nil:
		return noInterception().known()
	case err == nil:
		return noCertificate(fmt.Errorf("the CA signs for names alone, and %s is an address", asked.Host)).known()
	}
	return nil
}

// known is the refusal as the gate writes its own, with all that a caller and
// the log are told; nil for nil.
func (r *refusal) known() *gate.Refusal {
	if r == nil {
		return nil
	}
	r = statuses()[r.code].whole(r)
	return &gate.Refusal{Code: r.code, Detail: r.detail, Remedy: r.remedy, Cause: r.cause, RetryAfter: r.retryAfter}
}
