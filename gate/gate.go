// Package gate takes the one decision: who calls, which route a call takes,
// whether it may, and which token it gets. The doors, gateway explain and the
// admin page all ask here.
package gate

import (
	"context"
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

	ground Ground
	route  *routes.Route // that refused, or came nearest; nil for none
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

	mounted  bool     // by the reverse door, so that no other route could have decided
	bound    bool     // paths decided which route it is, and not the host alone
	stripped string   // that named the tenant, from the beginning of the path
	denied   *Refusal // of Denied
}

// Keys tells which token a credential gets for a scope. One that is a
// [TenantKeys] too serves routes whose calls choose the tenant; with any other,
// such calls are refused.
type Keys interface {
	Key(c *routes.Credential, scope string) tokens.Key
}

// TenantKeys tells which token a credential gets for a scope in a tenant other
// than its own. KeyFor is asked for each call of such a route.
type TenantKeys interface {
	KeyFor(c *routes.Credential, scope, tenant string) tokens.Key
}

// Gate decides by one table. It is immutable and safe for concurrent use.
type Gate struct {
	table   *routes.Table
	plans   map[*routes.Route]*plan
	callers map[string]ordinal // by name; nil when the table has no callers
	tenants []*tenantSet       // by caller: those that it may choose; nil for no such list
	keys    TenantKeys         // nil: no call gets another tenant's token
	files   map[string]*tenantSet
	logins  map[routes.Authority][]*routes.Route // that hand out placeholders, by their login host
	sql     map[string]*sqlPlan                  // by the names of SQL doors
}

// plan is what was worked out of a route beforehand.
type plan struct {
	first, second tokens.Key   // second is zero when the route wants one token only
	callers       callerSet    // nil: whoever the table knows
	rules         *ruleIndex   // of allow
	tenants       *tenantRules // nil: the credential's own tenant
	host          routes.Authority
	hostText      string // of host, which most calls are for
}

// New prepares the decisions of table. A list of tenants that cannot be read
// holds none; [Renew] says so.
func New(table *routes.Table, keys Keys) *Gate {
	g, _ := Renew(nil, table, keys)
	return g
}

// Renew is New for a gateway that runs: a list of tenants that cannot be read
// any more stays what it was in previous, which may be nil. Each error is an
// alarm and names the file; the gate works all the same, and refuses the
// tenants of a list that it never saw.
func Renew(previous *Gate, table *routes.Table, keys Keys) (*Gate, []error) {
	g := &Gate{
		table:  table,
		plans:  make(map[*routes.Route]*plan, len(table.Routes)),
		files:  map[string]*tenantSet{},
		logins: loginHosts(table),
	}
	g.keys, _ = keys.(TenantKeys)
	g.know(table.Callers)
	g.sql = g.sqlPlans(keys)
	errs := g.readLists(previous)
	for _, r := range table.Routes {
		p := &plan{first: keys.Key(r.Credential, r.Scope), callers: g.setOf(r.Callers), rules: newRuleIndex(r.Allow)}
		p.host = standsFor(r)
		p.hostText = p.host.String()
		if r.Second != nil {
			p.second = keys.Key(r.Credential, r.Second.Scope)
		}
		if r.Tenant != nil {
			p.tenants = g.tenantRules(r)
		}
		g.plans[r] = p
	}
	return g, errs
}

// Table is the table by which the gate decides.
func (g *Gate) Table() *routes.Table { return g.table }

// Key is the key of a route's token in the credential's own tenant.
func (g *Gate) Key(r *routes.Route) tokens.Key { return g.plan(r).first }

// SecondKey is the key of the token that r wants beside the first; false when
// it wants none.
func (g *Gate) SecondKey(r *routes.Route) (tokens.Key, bool) {
	return g.plan(r).second, r.Second != nil
}

// hostOf is the audit's name for the authority of a call.
func (p *plan) hostOf(a routes.Authority) string {
	if a == p.host {
		return p.hostText
	}
	return a.String()
}

// plan is that of a route of the table; of any other, one that admits nobody.
func (g *Gate) plan(r *routes.Route) *plan {
	if p := g.plans[r]; p != nil {
		return p
	}
	return &plan{callers: callerSet{}}
}

// Admit decides a call and stamps the event in ctx, also when it refuses; but
// for that it is pure. Every error is a [*Refusal].
//
// The route is the first in the order of the file whose hosts hold the
// authority, whose callers hold the caller and whose paths hold the path; on
// the reverse door, the one that is mounted there, if it does. Routes that do
// not admit the caller are as if they were not there. Then the tenant is
// chosen, and the rules of allow judge.
//
// Rules and paths judge a path of one reading alone ([routes.ParsePath]), and
// refuse any other as bad_request; without them, the bytes pass as they came.
// They are a seat belt: OData reaches one entity by the path of another
// ($expand, $ref, navigation, search), so that what an application may do is
// for its permissions to say. With mode report, the rules of allow refuse
// nothing that would pass without them.
func (g *Gate) Admit(ctx context.Context, t Target) (Pass, error) {
	d := decision{gate: g, target: t, who: g.recognise(t.Caller)}
	refusal := d.decide()
	d.stamp(audit.From(ctx))
	if refusal != nil {
		return Pass{}, refusal
	}
	return d.pass, nil
}
