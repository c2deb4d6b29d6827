// Package gate takes the one decision: which route a call takes, whether it
// may, and which token it gets. The doors, gateway explain and the admin page
// all ask here.
package gate

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/seed-13b04e61/gateway/audit"
	"github.com/seed-13b04e61/gateway/routes"
	"github.com/seed-13b04e61/gateway/tokens"
)

// Code names a refusal, as in the header Gateway-Error.
type Code string

// The refusals that are decided here.
const (
	RouteUnknown    Code = "route_unknown"
	EgressDenied    Code = "egress_denied"
	CallerUnknown   Code = "caller_unknown"
	CallerForbidden Code = "caller_forbidden"
	RuleDenied      Code = "rule_denied"
	TenantDenied    Code = "tenant_denied"
	BadRequest      Code = "bad_request"
)

// Refusal is the answer no. Detail and Remedy are for the caller; Cause is for
// the operator's log alone, as it may say why a proof was not believed.
type Refusal struct {
	Code   Code
	Detail string
	Remedy string
	Cause  string
	// RetryAfter is set where the source of failed proofs is held off.
	RetryAfter time.Duration
}

func (r *Refusal) Error() string { return string(r.Code) + ": " + r.Detail }

// Target is what a call asks for.
type Target struct {
	Door      audit.Door
	Authority routes.Authority // canonical; unused on the reverse door
	Method    string
	Path      string         // escaped, as it came
	Query     string         // raw
	Header    http.Header    // read only, for the field that names a tenant; nil for none
	Caller    *routes.Caller // as [Identifier.Identify] found it; nil: anonymous
}

// Pass is the answer yes.
type Pass struct {
	Route     *routes.Route
	Authority routes.Authority // of the upstream
	Path      string           // escaped; what the upstream shall see
	Key       tokens.Key
	Rule      int    // line of the allow rule that decided; 0 when there was none
	Denied    string // mode report: what would have been refused; "" when nothing
	Tenant    string // that the call chose; "" for the credential's own
	// Drop is a header field that goes no further; "" for none.
	Drop string
	// Batch: the body is a batch of Graph's, each of whose calls is judged
	// before it is sent, by [Gate.AdmitBatch].
	Batch bool
	// SecondKey is that of a further token beside the first; zero when
	// Route.Second is nil.
	SecondKey tokens.Key
}

// Keys tells which token a credential gets for a scope.
type Keys interface {
	Key(c *routes.Credential, scope string) tokens.Key
}

// Gate decides by one table. It is immutable and safe for concurrent use.
type Gate struct {
	table *routes.Table
	keys  map[*routes.Route]pair
}

// pair is what a route's calls go out with; second is zero when the route
// wants one token only.
type pair struct{ first, second tokens.Key }

// New prepares the decisions of table.
func New(table *routes.Table, keys Keys) *Gate {
	g := &Gate{table: table, keys: make(map[*routes.Route]pair, len(table.Routes))}
	for _, r := range table.Routes {
		p := pair{first: keys.Key(r.Credential, r.Scope)}
		if r.Second != nil {
			p.second = keys.Key(r.Credential, r.Second.Scope)
		}
		g.keys[r] = p
	}
	return g
}

// Table is the table by which the gate decides.
func (g *Gate) Table() *routes.Table { return g.table }

// Key is the key of a route's token.
func (g *Gate) Key(r *routes.Route) tokens.Key { return g.keys[r].first }

// SecondKey is the key of the token that r wants beside the first; false when
// it wants none.
func (g *Gate) SecondKey(r *routes.Route) (tokens.Key, bool) {
	return g.keys[r].second, r.Second != nil
}

// Admit decides a call and stamps the event in ctx, also when it refuses.
// Every error is a [*Refusal].
func (g *Gate) Admit(ctx context.Context, t Target) (Pass, error) {
	pass, refusal := g.decide(t)
	event := audit.From(ctx)
	if refusal != nil {
		return Pass{}, refusal
	}
	event.Route = pass.Route.Name
	event.Credential = pass.Route.Credential.Name
	event.Host = pass.Authority.String()
	return pass, nil
}

func (g *Gate) decide(t Target) (Pass, *Refusal) {
	if t.Door == audit.Reverse {
		return g.mounted(t)
	}
	r, ok := g.table.Match(t.Authority)
	if !ok {
		return Pass{}, &Refusal{
			Code:   EgressDenied,
			Detail: fmt.Sprintf("no route names %s, and egress.default is deny", t.Authority),
			Remedy: fmt.Sprintf("if calls to %s should get a token, add a route with hosts: [%s] to routes.yaml", t.Authority.Host, t.Authority.Host),
		}
	}
	return g.pass(r, t.Authority, t.Path), nil
}

func (g *Gate) mounted(t Target) (Pass, *Refusal) {
	r, rest, ok := g.table.Mounted(t.Path)
	if !ok {
		return Pass{}, &Refusal{
			Code:   RouteUnknown,
			Detail: "nothing is mounted at this path",
			Remedy: "begin the path with the mount of a route; gateway check lists them",
		}
	}
	return g.pass(r, standsFor(r), rest), nil
}

func (g *Gate) pass(r *routes.Route, a routes.Authority, path string) Pass {
	k := g.keys[r]
	return Pass{Route: r, Authority: a, Path: path, Key: k.first, SecondKey: k.second}
}

// standsFor is the host that a mount stands for: the route's first exact one.
// The table gives no mount to a route without.
func standsFor(r *routes.Route) routes.Authority {
	for _, h := range r.Hosts {
		if !h.Wildcard {
			return routes.Authority{Host: h.Host, Port: h.Port}
		}
	}
	return routes.Authority{}
}
