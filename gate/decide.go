package gate

import (
	"fmt"
	"slices"
	"strings"

	"github.com/seed-13b04e61/gateway/audit"
	"github.com/seed-13b04e61/gateway/routes"
)

// ordinal is a caller's position in the table.
type ordinal int

const (
	// anyone is every caller of a table without callers.
	anyone ordinal = -1
	// stranger is nobody of a table with callers.
	stranger ordinal = -2
)

// callerSet has one bit for each caller of the table.
type callerSet []uint64

func (s callerSet) holds(who ordinal) bool {
	return who >= 0 && int(who)/64 < len(s) && s[who/64]&(1<<(who%64)) != 0
}

// know numbers the callers, and takes their lists of tenants.
func (g *Gate) know(callers []*routes.Caller) {
	if callers == nil {
		return
	}
	g.callers = make(map[string]ordinal, len(callers))
	for i, c := range callers {
		g.callers[c.Name] = ordinal(i)
		g.tenants = append(g.tenants, setOfTenants(c.Tenants))
	}
}

// setOf is nil for nil alone. A caller that the table does not have is in none.
func (g *Gate) setOf(callers []*routes.Caller) callerSet {
	if callers == nil {
		return nil
	}
	set := make(callerSet, (len(g.callers)+63)/64)
	for _, c := range callers {
		if who := g.recognise(c); who >= 0 {
			set[who/64] |= 1 << (who % 64)
		}
	}
	return set
}

// recognise finds the caller by name: it may have been identified by the table
// before this one.
func (g *Gate) recognise(c *routes.Caller) ordinal {
	if g.callers == nil {
		return anyone
	}
	if c != nil {
		if who, ok := g.callers[c.Name]; ok {
			return who
		}
	}
	return stranger
}

func (p *plan) admits(who ordinal) bool {
	if p.callers == nil {
		return who != stranger
	}
	return p.callers.holds(who)
}

// decision is what is known of a call on its way through the gate.
type decision struct {
	gate   *Gate
	target Target
	who    ordinal

	pass     Pass // Route is nil until it is found
	plan     *plan
	read     reading
	named    string         // the tenant as the path has it; not looked at yet
	template routes.Pattern // that matched
	trace    trace          // nil unless the decision is to be explained
}

// reading is a path that was read once for however many routes ask.
type reading struct {
	text string
	path routes.Path
	err  error
}

func (r *reading) of(text string) (routes.Path, error) {
	if r.text != text || text == "" {
		r.text = text
		r.path, r.err = routes.ParsePath(text)
	}
	return r.path, r.err
}

func (d *decision) decide() *Refusal {
	if refusal := d.find(); refusal != nil {
		return refusal
	}
	return d.judgeFound()
}

// judgeFound decides a call whose route is found.
func (d *decision) judgeFound() *Refusal {
	d.plan = d.gate.plan(d.pass.Route)
	d.pass.Key, d.pass.SecondKey = d.plan.first, d.plan.second
	if refusal := d.chooseTenant(); refusal != nil {
		return refusal
	}
	return d.judge()
}

// stamp tells the audit what is known, also of a call that was refused.
func (d *decision) stamp(event *audit.Event) {
	r := d.pass.Route
	if r == nil {
		return
	}
	event.Route = r.Name
	event.Credential = r.Credential.Name
	event.Host = d.gate.plan(r).hostOf(d.pass.Authority)
	event.Tenant = d.pass.Tenant
	event.Rule = d.pass.Rule
	event.WouldDeny = d.pass.Denied
	event.Template = d.template.String()
	event.APIPath = d.pass.Path
}

func (d *decision) find() *Refusal {
	if d.target.Door == audit.Reverse {
		return d.mounted()
	}
	return d.match()
}

// match finds the route of the forward door and of tunnels.
func (d *decision) match() *Refusal {
	bound := false
	for r := range d.gate.table.Candidates(d.target.Authority) {
		if !d.gate.plan(r).admits(d.who) {
			d.trace.note(r, otherCallers)
			continue
		}
		path, fits, refusal := d.fits(r, d.target.Path)
		if refusal != nil {
			return refusal
		}
		if !fits {
			d.trace.note(r, otherPaths)
		}
		bound = bound || r.Paths != nil
		if fits {
			d.pass = Pass{Route: r, Authority: d.target.Authority, Path: path, bound: bound, stripped: before(d.target.Path, path)}
			return nil
		}
	}
	return d.nowhere()
}

// mounted finds the route of the reverse door.
func (d *decision) mounted() *Refusal {
	r, rest, ok := d.gate.table.Mounted(d.target.Path)
	if !ok {
		return &Refusal{
			Code:   RouteUnknown,
			Detail: "nothing is mounted at this path",
			Remedy: "begin the path with the mount of a route; gateway check lists them",
			ground: Ground{d.gate.table.LineOf("routes"), "no route below is mounted where this path begins"},
		}
	}
	if !d.gate.plan(r).admits(d.who) {
		return d.forbidden("route "+r.Name, []*routes.Route{r})
	}
	path, fits, refusal := d.fits(r, rest)
	switch {
	case refusal != nil:
		return refusal
	case !fits:
		return &Refusal{
			Code:   RouteUnknown,
			Detail: fmt.Sprintf("route %s is mounted here, and its paths do not hold this one", r.Name),
			Remedy: fmt.Sprintf("if calls to it should pass, add its path to paths of route %s", r.Name),
			ground: outside(r),
			route:  r,
		}
	}
	d.pass = Pass{Route: r, Authority: standsFor(r), Path: path, mounted: true, bound: r.Paths != nil, stripped: before(rest, path)}
	return nil
}

// before is what stands before the end of a path.
func before(whole, end string) string { return whole[:max(0, len(whole)-len(end))] }

// fits tells whether the route's paths hold an escaped path, and what of it the
// upstream shall see. A path of two readings is refused if that matters.
func (d *decision) fits(r *routes.Route, escaped string) (path string, fits bool, refusal *Refusal) {
	path = escaped
	tenants := d.gate.plan(r).tenants
	if tenants != nil && tenants.prefix != nil {
		if _, err := d.read.of(escaped); err != nil {
			return "", false, ambiguous(err).by(r, r.Lines.Tenant)
		}
		named, rest, ok := tenants.cut(escaped)
		d.named = named
		if ok {
			path = rest
		}
		if !ok {
			return path, r.Paths == nil, nil // which is refused when it comes to the tenant
		}
	}
	if r.Paths == nil {
		return path, true, nil
	}
	read, err := d.read.of(path)
	if err != nil {
		return "", false, ambiguous(err).by(r, r.Lines.Paths)
	}
	at := slices.IndexFunc(r.Paths, func(p routes.Pattern) bool { return p.Match(read, r.FoldPaths) })
	if at < 0 {
		return "", false, nil
	}
	d.template = r.Paths[at]
	return path, true, nil
}

func ambiguous(err error) *Refusal {
	return &Refusal{
		Code:   BadRequest,
		Detail: err.Error(),
		Remedy: "write the path plainly: this route's rules judge only what every server reads in one way",
		ground: Ground{Why: "patterns judge a path of one reading alone, and this one is an " + err.Error()},
	}
}

// nowhere says why no route takes the call.
func (d *decision) nowhere() *Refusal {
	a := d.target.Authority
	var names []string
	var first *routes.Route
	var closed []*routes.Route
	var unread *Refusal
	for r := range d.gate.table.Candidates(a) {
		if names = append(names, r.Name); first == nil {
			first = r
		}
		if d.gate.plan(r).admits(d.who) {
			continue
		}
		_, fits, refusal := d.fits(r, d.target.Path)
		if fits {
			closed = append(closed, r)
		}
		if refusal != nil {
			unread = refusal
		}
	}
	d.template = routes.Pattern{}
	switch {
	case len(closed) > 0:
		return d.forbidden(a.String(), closed)
	case unread != nil:
		return unread
	case len(names) > 0:
		return &Refusal{
			Code:   EgressDenied,
			Detail: fmt.Sprintf("%s has %s, but no paths there hold this one", among("route", names), a),
			Remedy: "if calls to it should get a token, add its path to paths of the route",
			ground: outside(first),
			route:  first,
		}
	}
	return d.gate.nameless(a)
}

// forbidden refuses the caller. For whom the routes are is for the operator
// alone to read.
func (d *decision) forbidden(what string, closed []*routes.Route) *Refusal {
	var reasons []string
	for _, r := range closed[:min(len(closed), mostNames)] {
		reasons = append(reasons, fmt.Sprintf("route %s is for %s", r.Name, whom(r.Callers)))
	}
	return &Refusal{
		Code:   CallerForbidden,
		Detail: fmt.Sprintf("%s may not be used by %s", what, d.caller()),
		Remedy: "if it should, add it to callers of the route",
		Cause:  strings.Join(reasons, "; "),
		ground: Ground{d.gate.closedAt(closed[0].Lines.Callers), reasons[0]},
		route:  closed[0],
	}
}

// caller is who calls, in a message.
func (d *decision) caller() string { return nameOf(d.target.Caller) }

func nameOf(c *routes.Caller) string {
	if c == nil {
		return "an anonymous caller"
	}
	return "caller " + c.Name
}

// whom says for whom a route is that has these callers.
func whom(callers []*routes.Caller) string {
	if callers == nil {
		return "named callers"
	}
	var names []string
	for _, c := range callers {
		names = append(names, c.Name)
	}
	return among("caller", names)
}

// mostNames bounds a list in a message.
const mostNames = 8

// among lists names: "route a", "routes a, b".
func among(noun string, names []string) string {
	if len(names) > 1 {
		noun += "s"
	}
	more := ""
	if n := len(names) - mostNames; n > 0 {
		names, more = names[:mostNames], fmt.Sprintf(" and %d more", n)
	}
	return noun + " " + strings.Join(names, ", ") + more
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
