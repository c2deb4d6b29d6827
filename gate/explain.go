package gate

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/seed-13b04e61/gateway/audit"
	"github.com/seed-13b04e61/gateway/routes"
)

// MostExplained bounds each list of an [Account].
const MostExplained = 20

// Account is how a call was decided, for people to read.
type Account struct {
	Pass    Pass     // zero when refused
	Refusal *Refusal // nil when the call may go
	// Route took the call; when refused, it is the one that refused or came
	// nearest. nil for none.
	Route   *routes.Route
	Decided Ground
	// PassedOver are routes that came before Route, or all that could not take
	// the call, in the order of the file; those that name its host come first
	// where there is no room for all. Also are later ones that would have taken
	// the call. Tried are rules of Route that do not hold for it.
	PassedOver, Also, Tried             []Passed
	MorePassedOver, MoreAlso, MoreTried int
	Nearest                             *Passed // of all rules tried; nil when none comes near
}

// Passed is a route or rule that did not decide.
type Passed struct {
	Route *routes.Route
	Line  int
	Why   string
}

// Explain is [Gate.Admit] with an account of how it decided.
func (g *Gate) Explain(ctx context.Context, t Target) Account {
	d := decision{gate: g, target: t, who: g.recognise(t.Caller), trace: trace{}}
	refusal := d.decide()
	d.stamp(audit.From(ctx))
	x := Account{Pass: d.pass, Refusal: refusal, Route: d.pass.Route}
	switch {
	case refusal != nil:
		x.Pass = Pass{}
		x.blame(refusal)
	default:
		x.Decided = d.ground()
	}
	d.around(&x)
	d.tried(&x)
	return x
}

// ExplainTunnel is [Gate.Tunnel] with an account of how it decided.
func (g *Gate) ExplainTunnel(ctx context.Context, t Target) (Way, routes.Authority, Account) {
	var x Account
	way, at, r, refusal := g.tunnel(ctx, t)
	switch _, named := g.table.Match(secured(t.Authority)); {
	case refusal != nil:
		x.blame(refusal)
	case way == Through:
		x.taken(nil, g.passed(at))
	case named:
		x.taken(r, Ground{cmp.Or(r.Lines.Hosts, r.Line), fmt.Sprintf("route %s is the first that names %s and admits the caller: each call inside is judged by itself", r.Name, at)})
	default:
		x.taken(r, Ground{r.Line, fmt.Sprintf("route %s hands out placeholders at %s", r.Name, at)})
	}
	d := decision{gate: g, target: t, who: g.recognise(t.Caller), trace: trace{}}
	d.target.Authority, d.target.Path = secured(t.Authority), ""
	for r := range g.table.Candidates(d.target.Authority) {
		if !g.plan(r).admits(d.who) {
			d.trace.note(r, otherCallers)
		}
	}
	d.around(&x)
	return way, at, x
}

// ExplainThrough is [Gate.Through] with an account of how it decided.
func (g *Gate) ExplainThrough(ctx context.Context, t Target) Account {
	d := decision{gate: g, target: t, who: g.recognise(t.Caller), trace: trace{}}
	var x Account
	if refusal := d.through(ctx); refusal != nil {
		x.blame(refusal)
	} else {
		x.taken(nil, g.passed(t.Authority))
	}
	d.around(&x)
	return x
}

// ExplainSQL is [Gate.SQL] with an account of how it decided.
func (g *Gate) ExplainSQL(ctx context.Context, s *routes.SQL, caller *routes.Caller) Account {
	var x Account
	_, refusal := g.login(ctx, s, caller)
	x.blame(refusal)
	if refusal == nil {
		why := fmt.Sprintf("the door %s is for whoever reaches it: the file has no callers", s.Name)
		if g.callers != nil {
			why = fmt.Sprintf("the door %s is for %s", s.Name, whom(s.Callers))
		}
		x.taken(nil, Ground{cmp.Or(s.Lines.Callers, s.Line), why})
	}
	return x
}

// taken notes what took the call.
func (x *Account) taken(r *routes.Route, ground Ground) { x.Route, x.Decided = r, ground }

// blame notes what refused the call, if something did.
func (x *Account) blame(refusal *Refusal) {
	if x.Refusal = refusal; refusal == nil {
		return
	}
	x.Decided = refusal.ground
	x.Decided.Why = cmp.Or(x.Decided.Why, refusal.Told())
	if x.Route == nil {
		x.Route = refusal.route
	}
}

// ground is the line that lets the call pass.
func (d *decision) ground() Ground {
	r, p := d.pass.Route, &d.pass
	switch {
	case p.denied != nil:
		return Ground{p.denied.ground.Line, cmp.Or(p.denied.ground.Why, p.denied.Told()) + "; mode: report lets the call pass"}
	case p.Rule != 0:
		on := "every path"
		if template := d.template.String(); template != "" {
			on = template
		}
		return Ground{p.Rule, fmt.Sprintf("this rule of allow holds for %s on %s", inQuotes(d.target.Method), on)}
	}
	why := fmt.Sprintf("route %s is the first that fits: it names %s", r.Name, p.Authority)
	line := r.Line
	if p.mounted {
		why = fmt.Sprintf("no longer mount than %s begins the path", r.Mount)
		line = cmp.Or(r.Lines.Mount, line)
	}
	if template := d.template.String(); p.bound && template != "" {
		why, line = why+", its paths have "+template, cmp.Or(r.Lines.Paths, line)
	}
	switch {
	case d.gate.callers == nil:
	case r.Callers != nil:
		why += ", it admits " + d.caller()
	default:
		why += ", it admits every named caller"
	}
	switch {
	case p.Batch:
		why += "; each call of the batch is judged by itself"
	case r.Allow == nil:
		why += "; it has no allow"
	}
	return Ground{line, why}
}

// around finds the routes before and behind the one that decided.
func (d *decision) around(x *Account) {
	far, near := make([]*routes.Route, 0, MostExplained), make([]*routes.Route, 0, MostExplained)
	total, behind := 0, false
	keep := func(list []*routes.Route, r *routes.Route) []*routes.Route {
		if len(list) < MostExplained {
			list = append(list, r)
		}
		return list
	}
	for _, r := range d.gate.table.Routes {
		if r == x.Route {
			behind = true
			continue
		}
		why, noted := d.why(r)
		switch {
		case behind && why == 0:
			d.also(x, r)
		case behind && !(noted && x.Refusal != nil):
		case why == otherHosts || why == otherMount || why == noMount:
			far, total = keep(far, r), total+1
		default:
			near, total = keep(near, r), total+1
		}
	}
	shown := append(near, far[:min(len(far), MostExplained-len(near))]...)
	at := d.positions(shown)
	slices.SortFunc(shown, func(a, b *routes.Route) int { return cmp.Compare(at[a], at[b]) })
	for _, r := range shown {
		why, _ := d.why(r)
		x.PassedOver = append(x.PassedOver, Passed{r, r.Line, d.words(r, why)})
	}
	x.MorePassedOver = total - len(shown)
}

// positions are those of routes in the table.
func (d *decision) positions(list []*routes.Route) map[*routes.Route]int {
	at := make(map[*routes.Route]int, len(list))
	for i, r := range d.gate.table.Routes {
		if slices.Contains(list, r) {
			at[r] = i
		}
	}
	return at
}

// why is the reason for which r does not take the call; 0 if it would. noted
// tells that the call came as far as r's callers or paths.
func (d *decision) why(r *routes.Route) (why reason, noted bool) {
	if why, noted := d.trace[r]; noted {
		return why, true
	}
	switch {
	case d.target.Door == audit.Reverse && r.Mount == "":
		return noMount, false
	case d.target.Door == audit.Reverse:
		if rest, ok := strings.CutPrefix(d.target.Path, r.Mount); ok && (rest == "" || rest[0] == '/') {
			return shorterMount, false
		}
		return otherMount, false
	case !slices.ContainsFunc(r.Hosts, func(h routes.HostPattern) bool { return h.Matches(d.target.Authority) }):
		return otherHosts, false
	case !d.gate.plan(r).admits(d.who):
		return otherCallers, true
	case d.target.Path == "": // of a CONNECT, which names none
		return 0, false
	}
	probe := d.probe(r)
	if _, fits, refusal := probe.fits(r, d.target.Path); !fits && refusal == nil {
		return otherPaths, true
	}
	return 0, false
}

// probe is a decision apart, which leaves no trace.
func (d *decision) probe(r *routes.Route) *decision {
	return &decision{gate: d.gate, target: d.target, who: d.who, read: d.read}
}

// also notes a later route that would have taken the call, and what it would
// have made of it.
func (d *decision) also(x *Account, r *routes.Route) {
	if len(x.Also) == MostExplained {
		x.MoreAlso++
		return
	}
	why := "names the host too: it takes calls inside that no route before it does"
	if d.target.Path != "" {
		probe := d.probe(r)
		path, _, refusal := probe.fits(r, d.target.Path)
		probe.pass = Pass{Route: r, Authority: d.target.Authority, Path: path, bound: r.Paths != nil, stripped: before(d.target.Path, path)}
		if refusal == nil {
			refusal = probe.judgeFound()
		}
		if refusal != nil {
			why = fmt.Sprintf("fits too, and comes later; it would refuse the call (%s)", refusal.Code)
		} else {
			why = "fits too, and comes later: the first that fits decides"
			if x.Refusal != nil {
				why = "would allow the call, and comes later: the first that fits decides, also when it refuses"
			}
		}
	}
	x.Also = append(x.Also, Passed{r, r.Line, why})
}

// tried says of the rules of the route why they do not hold, up to the one that
// does.
func (d *decision) tried(x *Account) {
	r := d.pass.Route
	if r == nil || r.Allow == nil || x.Refusal != nil && x.Refusal.Code != RuleDenied {
		return
	}
	path, err := d.read.of(d.pass.Path)
	if err != nil {
		return
	}
	c := innerCall{method: d.target.Method, query: d.target.Query, path: path}
	best := 0
	for i := range r.Allow {
		rule := &r.Allow[i]
		if rule.Line == d.pass.Rule && x.Refusal == nil && d.pass.Rule != 0 {
			break
		}
		miss := c.misses(rule, r.FoldPaths)
		if miss.why == "" {
			continue // a batch or a source was refused, whatever the rules say
		}
		p := Passed{r, rule.Line, miss.why}
		if len(x.Tried) < MostExplained {
			x.Tried = append(x.Tried, p)
		} else {
			x.MoreTried++
		}
		if miss.near > best {
			best, x.Nearest = miss.near, &p
		}
	}
	if x.Refusal == nil {
		x.Nearest = nil
	}
}

// miss is why a rule does not hold, "" if it does, and how near it came.
type miss struct {
	why  string
	near int
}

// misses asks the same of a rule as [innerCall.allowedBy].
func (c innerCall) misses(rule *routes.Rule, foldPaths bool) miss {
	var why []string
	near, holds := 0, rule.Paths == nil
	for _, p := range rule.Paths {
		segments, all := p.Agrees(c.path, foldPaths)
		near, holds = max(near, 2*segments), holds || all
	}
	if rule.Methods != nil && !slices.Contains(rule.Methods, c.method) {
		why = append(why, "method differs: it has "+listed(rule.Methods))
	} else if near > 0 {
		near++
	}
	if !holds {
		why = append(why, "path differs: it has "+some(rule.Paths))
	} else {
		near += 1 << 16
	}
	return miss{strings.Join(why, "; "), near}
}

// listed is a list of words, bounded.
func listed(words []string) string {
	if n := len(words) - mostNames; n > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(words[:mostNames], ", "), n)
	}
	return strings.Join(words, ", ")
}
