// Package authority is the token endpoint's wire. It knows how each kind of
// credential proves itself to Microsoft Entra or to any other OAuth2 server
// (RFC 6749 §4.4, RFC 7523 §2.2), what the answer must look like before it is
// believed, and what each refusal means to whoever has to mend it.
//
// It keeps no token: that is the work of package tokens, whose Acquirer the
// [Directory] is. It repeats no request that failed, save once with something
// else to show: a credential that was rotated meanwhile, the next credential
// of a chain of fallbacks, or an address that the server's metadata moved to.
package authority

import (
	"context"
	"net"
	"net/http"
	"reflect"
	"slices"
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
	// Alarm hears that a fallback took a credential's place, as an alarm, and
	// that the credential works again, once each. It may be nil; it is called
	// from acquisitions, holds up the caller, and may call the Directory.
	Alarm func(Finding)
}

// Finding is what was noticed about one credential, by [Directory.Replace] or
// later. An Alarm means that something is broken now; any other finding, that
// it will be, or is no longer.
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
	alarm   func(Finding)

	replacing sync.Mutex // held by Replace alone, so that two cannot interleave
	swapping  sync.Mutex // guards the exchange of current, never held while anything is read
	current   atomic.Pointer[snapshot]
}

// snapshot is one generation of credentials. It is immutable, except for what
// each identity notes in its state and history.
type snapshot struct {
	generation int
	identities []*identity // in the order of the table
	retired    []*identity // the generation before, for calls that began with it
	transports map[trust]*http.Transport
}

// NewDirectory returns a directory without credentials.
func NewDirectory(opts Options) *Directory {
	d := &Directory{dialer: opts.Dialer, version: opts.Version, alarm: opts.Alarm}
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
// that cannot be loaded is not ready, and [Directory.Acquire] says why, unless
// a fallback takes its place; if it could be loaded before under the same
// configuration, the last good one stays in use. Both are reported as alarms.
// Acquisitions under way, and keys made before, stay valid until the next
// Replace.
func (d *Directory) Replace(creds []*routes.Credential) []Finding {
	d.replacing.Lock()
	defer d.replacing.Unlock()

	loads := d.loadAll(creds)

	d.swapping.Lock()
	defer d.swapping.Unlock()
	prev := d.current.Load()
	next := &snapshot{
		generation: prev.generation + 1,
		retired:    prev.identities,
		transports: map[trust]*http.Transport{},
	}
	var findings []Finding
	for _, l := range loads {
		id, found := prev.renew(l, next.generation)
		id.origin, id.login = l.credential, canonicalEndpoint(l.credential.AuthorityHost)
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

// loadsAtOnce bounds the credentials that are loaded at the same time.
const loadsAtOnce = 16

// loadAll loads creds side by side: a command that prints a secret may take ten
// seconds, and the doors open, or the table changes, after the last.
func (d *Directory) loadAll(creds []*routes.Credential) []loading {
	loads := make([]loading, len(creds))
	turns := make(chan struct{}, loadsAtOnce)
	var all sync.WaitGroup
	for i, c := range creds {
		turns <- struct{}{}
		all.Go(func() {
			id, findings, err := load(c, d.dialer, time.Now())
			loads[i] = loading{c, id, findings, err}
			<-turns
		})
	}
	all.Wait()
	return loads
}

// loading is what came of loading one credential.
type loading struct {
	credential *routes.Credential
	id         *identity // nil with an error
	findings   []Finding
	err        error
}

// renew makes of l what the next snapshot has: what was loaded, or the last
// good one, or one that is not ready.
func (s *snapshot) renew(l loading, generation int) (*identity, []Finding) {
	c := l.credential
	last, named := s.same(c), s.named(c.Name)
	if l.err == nil {
		l.id.succeed(last, named)
		return l.id, l.findings
	}
	alarm := Finding{Credential: c.Name, Message: l.err.Error(), Remedy: remedyOf(l.err), Alarm: true}
	if last != nil && last.usable() {
		kept := *last
		kept.reason, kept.remedy = "the last good one is in use: "+l.err.Error(), alarm.Remedy
		alarm.Message = kept.reason
		return &kept, []Finding{alarm}
	}
	unready := &identity{
		credential:  *c,
		authority:   authorityOf(c),
		fingerprint: "unready-" + strconv.Itoa(generation),
		reason:      l.err.Error(),
		remedy:      alarm.Remedy,
		state:       &state{},
		history:     newHistory(time.Now()),
	}
	unready.succeed(nil, named)
	return unready, []Finding{alarm}
}

// succeed takes over what is worth keeping: from last, of the same
// configuration, and from named, of the same name. Either may be nil.
func (id *identity) succeed(last, named *identity) {
	if last != nil && last.fingerprint == id.fingerprint {
		id.state.inherit(last.state)
	}
	if last != nil && last.trust == id.trust && last.discovery != nil {
		id.discovery = last.discovery
	}
	if named == nil {
		return
	}
	id.history = named.history
	if named.fingerprint != id.fingerprint {
		id.history.forgive()
	}
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
	if id := s.holding(c); id != nil {
		return id
	}
	for _, id := range s.retired {
		if sameConfiguration(&id.credential, c) {
			return id
		}
	}
	return nil
}

// holding is same without the generation before.
func (s *snapshot) holding(c *routes.Credential) *identity {
	for _, id := range s.identities {
		if sameConfiguration(&id.credential, c) {
			return id
		}
	}
	return nil
}

// named returns the identity of that name, or nil.
func (s *snapshot) named(name string) *identity {
	for _, id := range s.identities {
		if id.credential.Name == name {
			return id
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
			if id.credential.Name == k.Credential && (id.fingerprint == k.Fingerprint || slices.Contains(id.aliases, k.Fingerprint)) {
				return id
			}
		}
	}
	return nil
}

// Key names the token that c gets for scope. Its fingerprint is that of what
// is loaded now, so that a rotated secret has tokens of its own; while c is
// not ready, it is new with each [Directory.Replace], and nothing is ever
// filed under it but a fallback's tokens. A c that the directory does not hold
// is not ready.
func (d *Directory) Key(c *routes.Credential, scope string) tokens.Key {
	s := d.current.Load()
	k := tokens.Key{
		Authority:   authorityOf(c),
		Tenant:      c.TenantID,
		Credential:  c.Name,
		Fingerprint: "unready-" + strconv.Itoa(s.generation),
		Scope:       scope,
		CAE:         c.CAE && c.Entra(),
	}
	if id := s.loadedFor(c); id != nil {
		k.Fingerprint = id.fingerprint
	}
	return k
}

// authorityOf is what tells c's tokens from those of another server: the token
// endpoint, or the issuer whose metadata names it. It is "" for a managed
// identity, whose host is not known by an address.
func authorityOf(c *routes.Credential) string {
	if c.Issuer != "" {
		return canonicalEndpoint(c.Issuer)
	}
	return canonicalEndpoint(c.Endpoint())
}
