package routes

import (
	"regexp"
	"slices"
	"strings"
)

// policy reads who may use a route, and for what.
func (p *parser) policy(r *Route, m *mapping, t *Table) {
	r.Callers = p.routeCallers(m, t)
	r.FoldPaths = anyCase(r.Hosts, named(r.Credential.Cloud))
	r.Paths = p.patterns(m, "paths")
	var sources []ruleSource
	if _, ok := m.items["allow"]; ok {
		r.Allow, sources = p.rules(m)
	}
	r.Report = m.choice("mode", "enforce", "enforce", "report") == "report"
	r.Tenant = p.tenant(m, r, t)
	r.Limits = p.limits(m.items["limits"], "limits")
	p.lintPolicy(r, m, t)
	if len(p.mistakes) == 0 {
		p.lintRules(r, sources)
	}
}

// routeCallers reads the callers that a route names; nil when it names none.
func (p *parser) routeCallers(m *mapping, t *Table) []*Caller {
	e, ok := m.items["callers"]
	if !ok {
		return nil
	}
	if t.Callers == nil {
		p.refuse(e.at, finding{"there are no callers", "name them in the section callers, or leave the key out"})
		return nil
	}
	list := m.list("callers")
	if len(list) == 0 {
		p.refuse(e.at, finding{"names no caller", "name one, or leave the key out to admit any named caller"})
	}
	out, seen := []*Caller{}, map[*Caller]bool{} // not nil: never anybody
	for _, x := range list {
		c := p.byName[p.scalar(x)]
		switch {
		case c == nil:
			p.refuse(x.at, finding{"there is no caller " + x.shown(), "name it in the section callers; there are " + some(callerNames(t.Callers))})
		case seen[c]:
			p.refuse(x.at, finding{x.shown() + " stands twice", "keep one of the two"})
		default:
			out, seen[c] = append(out, c), true
		}
	}
	return out
}

func callerNames(list []*Caller) []string {
	var names []string
	for _, c := range list {
		names = append(names, quote(c.Name))
	}
	return names
}

// patterns reads a list of patterns; nil when the key is absent.
func (p *parser) patterns(m *mapping, key string) []Pattern {
	e, ok := m.items[key]
	if !ok {
		return nil
	}
	list := m.list(key)
	if len(list) == 0 {
		p.refuse(e.at, finding{"names no path", "write patterns such as /v1.0/users/**, or leave the key out for every path"})
	}
	out := []Pattern{}
	for _, x := range list {
		pattern, err := ParsePattern(p.scalar(x))
		if err != nil {
			why := strings.TrimPrefix(err.Error(), ErrPattern.Error()+": ")
			p.refuse(x.at, finding{x.shown() + " is no pattern of a path: " + why, "write decoded segments, such as /v1.0/users/{id}/**"})
			continue
		}
		out = append(out, pattern)
	}
	return out
}

// ruleSource is where a rule and its paths stand.
type ruleSource struct {
	at    place
	paths []entry
}

// rules reads allow, and where each rule stands.
func (p *parser) rules(m *mapping) ([]Rule, []ruleSource) {
	list := m.list("allow")
	if len(list) == 0 {
		p.refuse(m.items["allow"].at, finding{"allows nothing", "write rules such as {methods: [GET], paths: [/v1.0/users/**]}, or leave the key out"})
	}
	out, sources := []Rule{}, []ruleSource{}
	for _, e := range list {
		x := p.open(e, "rule")
		if len(x.items) == 0 {
			p.refuse(e.at, finding{"this rule allows everything", "name methods, paths or both, or leave allow out"})
		}
		out = append(out, Rule{Line: e.at.line, Methods: p.methods(x), Paths: p.patterns(x, "paths")})
		sources = append(sources, ruleSource{e.at, x.list("paths")})
	}
	return out, sources
}

var methodSyntax = regexp.MustCompile(`^[A-Z][A-Z0-9_-]{0,31}$`)

// methods reads the methods of a rule, in upper case; nil when the key is absent.
func (p *parser) methods(m *mapping) []string {
	e, ok := m.items["methods"]
	if !ok {
		return nil
	}
	list := m.list("methods")
	if len(list) == 0 {
		p.refuse(e.at, finding{"names no method", "write them, such as [GET, HEAD], or leave the key out for any"})
	}
	out := []string{}
	for _, x := range list {
		method := strings.ToUpper(p.scalar(x))
		switch {
		case method == "TRACE" || method == "CONNECT":
			p.refuse(x.at, finding{x.shown() + " is never taken", "leave it out"})
		case !methodSyntax.MatchString(method):
			p.refuse(x.at, finding{x.shown() + " is no method", "write methods such as GET; leave the key out for any"})
		case !slices.Contains(out, method):
			out = append(out, method)
		}
	}
	return out
}

// covers tells whether r allows all that other does.
func (r *Rule) covers(other *Rule, ignoreCase bool) bool {
	if r.Methods != nil && (other.Methods == nil || slices.ContainsFunc(other.Methods, func(m string) bool { return !slices.Contains(r.Methods, m) })) {
		return false
	}
	if r.Paths == nil {
		return true
	}
	paths := other.Paths
	if paths == nil {
		paths = []Pattern{{open: true}}
	}
	return !slices.ContainsFunc(paths, func(q Pattern) bool {
		return !slices.ContainsFunc(r.Paths, func(p Pattern) bool { return p.covers(q, ignoreCase) })
	})
}
