package gate

import (
	"context"
	"fmt"

	"github.com/seed-13b04e61/gateway/audit"
	"github.com/seed-13b04e61/gateway/routes"
)

// Way is what becomes of a tunnel.
type Way int

// The ways.
const (
	Intercepted Way = iota + 1 // its calls are served and judged one by one
	Through                    // it is passed through untouched
)

// String names the way: intercepted or through.
func (w Way) String() string {
	switch w {
	case Intercepted:
		return "intercepted"
	case Through:
		return "through"
	}
	return "refused"
}

// Tunnel decides where a CONNECT to t.Authority leads for t.Caller, and returns
// the authority that its calls are for: a routed host's port 80 stands for its
// port 443, as Node's fetch asks for tunnels to plain URLs. Routes win over
// egress. It stamps the event in ctx; the error is a [*Refusal].
//
// A routed host is intercepted for whomever one of its routes admits, whatever
// the paths, which nobody knows yet, and refused to all others. A login host is
// intercepted for whomever a route admits that hands out placeholders of it; for
// all others it is a host like any. The event's Route is set if the caller has
// no more than one route there.
func (g *Gate) Tunnel(ctx context.Context, t Target) (Way, routes.Authority, error) {
	way, at, _, refusal := g.tunnel(ctx, t)
	if refusal != nil {
		return 0, at, refusal
	}
	return way, at, nil
}

// tunnel returns the first route by which a tunnel is intercepted too.
func (g *Gate) tunnel(ctx context.Context, t Target) (Way, routes.Authority, *routes.Route, *Refusal) {
	event, who := audit.From(ctx), g.recognise(t.Caller)
	a := secured(t.Authority)
	if _, named := g.table.Match(a); named {
		r, n := g.openTo(a, who)
		if n == 0 {
			event.Host = t.Authority.String()
			return 0, t.Authority, nil, g.shut(a, t)
		}
		event.Host = g.plan(r).hostOf(a)
		if n == 1 {
			event.Route = r.Name
		}
		return Intercepted, a, r, nil
	}
	event.Host = t.Authority.String()
	for _, r := range g.logins[t.Authority] {
		if g.plan(r).admits(who) {
			return Intercepted, t.Authority, r, nil
		}
	}
	if refusal := g.egress(who, t.Authority); refusal != nil {
		return 0, t.Authority, nil, refusal
	}
	return Through, t.Authority, nil, nil
}

// Through returns nil if a call for t.Authority, which no route of the table
// names, is passed through untouched; else a [*Refusal], and that of
// [Gate.Admit] for a host that a route does name. t.Authority is as the call
// named it, so that a plain URL's port is 80. It stamps the event in ctx.
func (g *Gate) Through(ctx context.Context, t Target) error {
	d := decision{gate: g, target: t, who: g.recognise(t.Caller)}
	if refusal := d.through(ctx); refusal != nil {
		return refusal
	}
	return nil
}

func (d *decision) through(ctx context.Context) *Refusal {
	g, t := d.gate, d.target
	audit.From(ctx).Host = t.Authority.String()
	d.target.Authority = secured(t.Authority)
	if _, named := g.table.Match(d.target.Authority); named {
		if refusal := d.match(); refusal != nil {
			return refusal
		}
		return &Refusal{
			Code:   EgressDenied,
			Detail: fmt.Sprintf("route %s names %s, and routes win over egress", d.pass.Route.Name, d.target.Authority),
			Remedy: "call it as the route has it, or remove the host from the route",
			ground: Ground{d.pass.Route.Line, "this route names the host, and routes win over egress"},
			route:  d.pass.Route,
		}
	}
	return g.egress(d.who, t.Authority)
}

// secured is what a stands for among the routes, whose calls leave by TLS alone.
func secured(a routes.Authority) routes.Authority {
	if a.Port == 80 {
		a.Port = 443
	}
	return a
}

// openTo is the first route of a host that admits the caller, and how many do:
// it counts to two.
func (g *Gate) openTo(a routes.Authority, who ordinal) (first *routes.Route, n int) {
	for r := range g.table.Candidates(a) {
		if !g.plan(r).admits(who) {
			continue
		}
		if n++; n > 1 {
			return first, n
		}
		first = r
	}
	return first, n
}

// shut refuses a host none of whose routes admits the caller.
func (g *Gate) shut(a routes.Authority, t Target) *Refusal {
	var closed []*routes.Route
	for r := range g.table.Candidates(a) {
		if closed = append(closed, r); len(closed) == mostNames {
			break
		}
	}
	d := decision{gate: g, target: t}
	return d.forbidden(a.String(), closed)
}

// egress is nil if a host that no route names is passed through.
func (g *Gate) egress(who ordinal, a routes.Authority) *Refusal {
	switch {
	case !g.table.Egress.Passes(a):
		return g.nameless(a)
	case who == stranger:
		return &Refusal{
			Code:   CallerForbidden,
			Detail: fmt.Sprintf("%s is passed through for named callers alone", a),
			Remedy: "name the caller in the section callers",
			ground: Ground{g.table.LineOf("callers"), "with callers in the file nobody is anonymous"},
		}
	}
	return nil
}

// nameless refuses a host that no route names.
func (g *Gate) nameless(a routes.Authority) *Refusal {
	why, line := "egress.default is deny", g.end()
	switch e := &g.table.Egress; {
	case e.Passes(a):
		why, line = "what is passed through gets no token", g.passedAt(a)
	case e.Tunnel:
		why = "egress.default: tunnel is for the ports 443 and 80"
	}
	if a.Metadata() {
		return &Refusal{
			Code:   EgressDenied,
			Detail: fmt.Sprintf("no call may reach %s, where clouds tell a machine its secrets", a),
			Remedy: "if a program looks for a managed identity there, set hand_out: placeholder on the route, and for the program IDENTITY_ENDPOINT=http://<proxy>/.gateway/identity/token and IDENTITY_HEADER=<the caller's key>",
			ground: Ground{Why: "no line of the file opens the way to a metadata service"},
		}
	}
	return &Refusal{
		Code:   EgressDenied,
		Detail: fmt.Sprintf("no route names %s, and %s", a, why),
		Remedy: fmt.Sprintf("if calls to %s should get a token, add a route with hosts: [%s] to routes.yaml; if they should pass without one, add %q to egress.allow", a.Host, a.Host, a.String()),
		ground: Ground{line, fmt.Sprintf("no route names %s, and %s", a, why)},
	}
}

// loginHosts are the routes by the login host of which each hands out
// placeholders.
func loginHosts(table *routes.Table) map[routes.Authority][]*routes.Route {
	var hosts map[routes.Authority][]*routes.Route
	for _, r := range table.Routes {
		a, ok := r.LoginHost()
		if !ok {
			continue
		}
		if hosts == nil {
			hosts = map[routes.Authority][]*routes.Route{}
		}
		hosts[a] = append(hosts[a], r)
	}
	return hosts
}
