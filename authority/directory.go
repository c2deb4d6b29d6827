// Package authority is the token endpoint's wire. It knows how each kind of
// credential proves itself to Microsoft Entra or to any other OAuth2 server
// (RFC 6749 §4.4, RFC 7523 §2.2), what the answer must look like before it is
// believed, and what each refusal means to whoever has to mend it.
//
// It keeps no token: that is the work of package tokens, whose Acquirer the
// [Directory] is. It retries nothing either, with the one exception of a
// federated token file that changed while the request was under way.
package authority

import (
	"context"
	"net"
	"net/http"
	"reflect"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed-13b04e61/gateway/routes"
	"github.com/seed-13b04e61/gateway/tokens"
)

// A Dialer opens the connections to token endpoints. The egress proxy, when
// there is one, is its affair: a [Directory] never reads HTTP_PROXY.
type Dialer interface {
	DialContext(ctx context.Context, network, addr string) (net.Conn, error)
}

// Options is what a [Directory] needs from outside. The zero value works.
type Options struct {
	Dialer  Dialer // nil: a net.Dialer
	Version string // of the product, for User-Agent and x-client-Ver; "" says "dev"
}

// Finding is what [Directory.Replace] noticed about one credential. An Alarm
// means that something is broken now; any other finding, that it will be.
type Finding struct {
	Credential string
	Message    string
	Remedy     string
	Alarm      bool
}

// Directory is the [tokens.Acquirer] over all credentials of one table. It is
// empty until [Directory.Replace] and safe for concurrent use.
type Directory struct {
	dialer  Dialer
	version string

	replacing sync.Mutex // held by Replace alone, so that two cannot interleave
	current   atomic.Pointer[snapshot]
}

// snapshot is one generation of credentials. It is immutable, except for what
// each identity notes in its state.
type snapshot struct {
	generation int
	identities []*identity // in the order of the table
	retired    []*identity // the generation before, for calls that began with it
	transports map[trust]*http.Transport
}

// NewDirectory returns a directory without credentials.
func NewDirectory(opts Options) *Directory {
	d := &Directory{dialer: opts.Dialer, version: opts.Version}
	if d.dialer == nil {
		d.dialer = &net.Dialer{Timeout: connectTimeout}
	}
	if d.version == "" {
		d.version = "dev"
	}
	d.current.Store(&snapshot{})
	return d
}

// Replace loads every secret, certificate and CA that creds name, and makes
// creds the directory's whole content. It never fails as a whole. A credential
// that cannot be loaded is not ready, and [Directory.Acquire] says why; if it
// could be loaded before under the same configuration, the last good one stays
// in use. Both are reported as alarms. Acquisitions under way, and keys made
// before, stay valid until the next Replace.
func (d *Directory) Replace(creds []*routes.Credential) []Finding {
	d.replacing.Lock()
	defer d.replacing.Unlock()

	prev := d.current.Load()
	next := &snapshot{
		generation: prev.generation + 1,
		retired:    prev.identities,
		transports: map[trust]*http.Transport{},
	}
	var findings []Finding
	for _, c := range creds {
		id, found := prev.renew(c, d.dialer, next.generation)
		d.connect(id, prev, next)
		next.identities = append(next.identities, id)
		findings = append(findings, found...)
	}
	d.current.Store(next)
	for t, transport := range prev.transports {
		if next.transports[t] == nil {
			transport.CloseIdleConnections()
		}
	}
	return findings
}

// renew loads c, or keeps what the snapshot has of it, or gives it up.
func (s *snapshot) renew(c *routes.Credential, dialer Dialer, generation int) (*identity, []Finding) {
	last := s.same(c)
	id, findings, err := load(c, dialer, time.Now())
	if err == nil {
		if last != nil && last.fingerprint == id.fingerprint {
			id.state.inherit(last.state)
		}
		return id, findings
	}
	alarm := Finding{Credential: c.Name, Message: err.Error(), Remedy: remedyOf(err), Alarm: true}
	if last != nil && last.prover != nil {
		kept := *last
		kept.reason, kept.remedy = "the last good one is in use: "+err.Error(), alarm.Remedy
		alarm.Message = kept.reason
		return &kept, []Finding{alarm}
	}
	return &identity{
		credential:  *c,
		fingerprint: "unready-" + strconv.Itoa(generation),
		reason:      err.Error(),
		remedy:      alarm.Remedy,
		state:       &state{},
	}, []Finding{alarm}
}

// connect gives id the transport for its trust, kept over reloads so that
// connections are.
func (d *Directory) connect(id *identity, prev, next *snapshot) {
	if id.prover == nil {
		return
	}
	transport := next.transports[id.trust]
	if transport == nil {
		transport = prev.transports[id.trust]
	}
	if transport == nil {
		transport = newTransport(d.dialer, id.roots)
	}
	next.transports[id.trust] = transport
	id.transport = transport
}

// same returns the identity of c's name and configuration, or nil.
func (s *snapshot) same(c *routes.Credential) *identity {
	for _, list := range [][]*identity{s.identities, s.retired} {
		for _, id := range list {
			if sameConfiguration(&id.credential, c) {
				return id
			}
		}
	}
	return nil
}

// sameConfiguration compares all that decides what a credential is, and not
// where in the file it stands.
func sameConfiguration(a, b *routes.Credential) bool {
	x, y := *a, *b
	x.Line, y.Line = 0, 0
	x.Origin, y.Origin = "", ""
	return reflect.DeepEqual(x, y)
}

// find returns the identity that k was made for, or nil.
func (s *snapshot) find(k tokens.Key) *identity {
	for _, list := range [][]*identity{s.identities, s.retired} {
		for _, id := range list {
			if id.credential.Name == k.Credential && id.fingerprint == k.Fingerprint {
				return id
			}
		}
	}
	return nil
}

// Key names the token that c gets for scope. Its fingerprint is that of what
// is loaded now, so that a rotated secret has tokens of its own; while c is
// not ready, it is one that no token will ever be filed under, new with each
// [Directory.Replace]. A c that the directory does not hold is not ready.
func (d *Directory) Key(c *routes.Credential, scope string) tokens.Key {
	s := d.current.Load()
	k := tokens.Key{
		Authority:   canonicalEndpoint(c.Endpoint()),
		Tenant:      c.TenantID,
		Credential:  c.Name,
		Fingerprint: "unready-" + strconv.Itoa(s.generation),
		Scope:       scope,
	}
	if id := s.same(c); id != nil {
		k.Fingerprint = id.fingerprint
	}
	return k
}

// Status is the condition of one credential, for the operator.
type Status struct {
	Name   string
	Kind   string // client_secret, client_certificate, federated_token; "" when it could not be told
	Ready  bool   // it can be shown to the token endpoint; not that it would be accepted
	Reason string // why it is not ready, or why the last good one is in use
	Remedy string

	Host        string // of the token endpoint
	Fingerprint string
	Certificate *Leaf // nil but for client_certificate

	LastError *Error        // of the latest acquisition; nil after a success
	Skew      time.Duration // this clock minus the endpoint's; 0 within a minute
}

// Status returns the condition of every credential, in the table's order. It
// reads neither files nor network.
func (d *Directory) Status() []Status {
	s := d.current.Load()
	all := make([]Status, 0, len(s.identities))
	for _, id := range s.identities {
		all = append(all, id.status())
	}
	return all
}
