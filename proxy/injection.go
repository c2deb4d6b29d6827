package proxy

import (
	"hash/maphash"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/seed-13b04e61/gateway/routes"
	"github.com/seed-13b04e61/gateway/tokens"
)

// injection is what a route puts into its calls, whatever the caller sent under
// the same names save where a field says otherwise. It is made once per table,
// and so are the values that do not change from call to call.
type injection struct {
	token    stamp
	second   stamp   // its header is "" when the route wants one token only
	set      []field // in every call
	defaults []field // in calls whose caller sent no such field
	seed     maphash.Seed
	date     string // gets the time of sending when the caller sent none; "" for no such field
}

// field is a header field. Its value is shared by many requests, so never
// changed.
type field struct {
	name  string
	value []string
}

// stamp is a token's place.
type stamp struct {
	header, format string

	// made are the values of the tokens seen last, by their key: a route with
	// one tenant sees the same token call after call, and making its value
	// costs some microseconds.
	made [madeSlots]atomic.Pointer[stamped]
}

// madeSlots is enough for the tenants that call at the same time; keys that
// share a slot cost a value made anew.
const madeSlots = 16

type stamped struct {
	token tokens.Token
	value []string // shared by many requests, so never changed
	id    string   // see tokenID

	end    string // see needleOf
	needle []byte // the same
}

// newInjection takes names in any case. Defaults and dates in fields that are
// of one connection are left out: the transport alone speaks of it.
func newInjection(r *routes.Route) *injection {
	i := &injection{
		seed:     maphash.MakeSeed(),
		set:      fields(r.SetHeaders, func(string) bool { return true }),
		defaults: fields(r.DefaultHeaders, func(name string) bool { return !hopByHop(name) }),
	}
	i.token.header, i.token.format = http.CanonicalHeaderKey(r.Inject.Header), r.Inject.Format
	if r.Second != nil {
		i.second.header, i.second.format = http.CanonicalHeaderKey(r.Second.Header), "{token}"
	}
	if date := http.CanonicalHeaderKey(r.DateHeader); !hopByHop(date) {
		i.date = date
	}
	return i
}

func fields(params []routes.Param, wanted func(name string) bool) []field {
	var all []field
	for _, p := range params {
		if name := http.CanonicalHeaderKey(p.Name); wanted(name) {
			all = append(all, field{name, []string{p.Value}})
		}
	}
	return all
}

// hopByHop tells the fields that speak of one connection (RFC 9110 §7.6.1) or
// of a message's framing. Names are canonical.
func hopByHop(name string) bool {
	switch name {
	case "Connection", "Keep-Alive", "Proxy-Connection", "Proxy-Authenticate", "Proxy-Authorization",
		"Te", "Trailer", "Transfer-Encoding", "Upgrade", "Content-Length", "Host":
		return true
	}
	return false
}

// dress sets in h, a caller's fields, what stays the same for all attempts, and
// removes what the caller sent in the tokens' places. It tells whether each
// attempt is to be dated.
func (i *injection) dress(h http.Header) (dated bool) {
	delete(h, i.token.header)
	if i.second.header != "" {
		delete(h, i.second.header)
	}
	for _, f := range i.set {
		h[f.name] = f.value
	}
	for _, f := range i.defaults {
		if _, sent := h[f.name]; !sent {
			h[f.name] = f.value
		}
	}
	if i.date == "" {
		return false
	}
	_, sent := h[i.date]
	return !sent
}

// inject sets in h what belongs to one attempt: the tokens and the time. It is
// by assignment: whatever stood under these names is gone.
func (p *passage) inject(h http.Header) {
	i := p.up.injection
	slot := 0
	if p.pass.Tenant != "" || p.pass.Route.Registry {
		slot = int(maphash.Comparable(i.seed, p.key) % madeSlots)
	}
	first := i.token.of(p.token, slot)
	h[i.token.header], p.event.TokenID = first.value, first.id
	p.sent.add(first)
	if i.second.header != "" {
		second := i.second.of(*p.second, slot)
		h[i.second.header] = second.value
		p.sent.add(second)
	}
	if p.dated {
		h[i.date] = []string{time.Now().UTC().Format(http.TimeFormat)}
	}
}

// of returns what is made of t, which was checked for unfit characters when it
// was acquired.
func (s *stamp) of(t tokens.Token, slot int) *stamped {
	if last := s.made[slot].Load(); last != nil && last.token.Access == t.Access {
		return last
	}
	access := t.Access.Reveal()
	end := needleOf(access)
	fresh := &stamped{token: t, end: end, needle: []byte(end), value: []string{strings.Replace(s.format, "{token}", access, 1)}, id: tokenID(t, access)}
	s.made[slot].Store(fresh)
	return fresh
}
