package gate

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/seed-13b04e61/gateway/audit"
	"github.com/seed-13b04e61/gateway/routes"
)

// Ground is the line of routes.yaml that decided, and why it did. Line is 0
// where no line of the file did.
type Ground struct {
	Line int
	Why  string
}

// Told is a refusal in the words of the operator: what the caller is told, and
// behind it what is not for the caller to know.
func Told(detail, cause string) string {
	switch {
	case cause == "" || cause == detail:
		return detail
	case detail == "" || strings.HasPrefix(cause, detail):
		return cause
	}
	return detail + ": " + cause
}

// Told is the refusal as log, admin port and gateway explain have it.
func (r *Refusal) Told() string { return Told(r.Detail, r.Cause) }

// by notes which route refused, and the line unless a nearer one is known.
func (r *Refusal) by(route *routes.Route, line int) *Refusal {
	if r != nil {
		r.route = route
		r.ground.Line = cmp.Or(r.ground.Line, line, route.Line)
	}
	return r
}

// outside is why a route that the call came to does not hold its path.
func outside(r *routes.Route) Ground {
	return Ground{cmp.Or(r.Lines.Paths, r.Line), fmt.Sprintf("the paths of route %s do not hold this one", r.Name)}
}

// closedAt is the line that says who may use a route or door: its own, or that
// of the section.
func (g *Gate) closedAt(own int) int { return cmp.Or(own, g.table.LineOf("callers")) }

// end is the line at which a host is refused that no route names: egress, or the
// beginning of the routes none of which does.
func (g *Gate) end() int {
	return cmp.Or(g.table.LineOf("egress.default"), g.table.LineOf("egress"), g.table.LineOf("routes"))
}

// passedAt is the line by which a host that no route names is passed through.
func (g *Gate) passedAt(a routes.Authority) int {
	entry, ok := g.table.Egress.PassedBy(a)
	if !ok || entry < 0 {
		return g.end()
	}
	return g.table.LineOf(fmt.Sprintf("egress.allow[%d]", entry))
}

// passed is why a host that no route names is passed through.
func (g *Gate) passed(a routes.Authority) Ground {
	why := fmt.Sprintf("no route names %s, and egress.default: tunnel passes every host at the ports 443 and 80", a)
	if entry, _ := g.table.Egress.PassedBy(a); entry >= 0 {
		why = fmt.Sprintf("no route names %s, and egress.allow has %s", a, g.table.Egress.Allow[entry])
	}
	return Ground{g.passedAt(a), why}
}

// Stranger is the refusal of a call, or of a login, that shows no credential.
func Stranger(door audit.Door) *Refusal {
	if door == audit.SQL {
		return refuseSQL(&doubt{cause: errNothingShown.Error()}, 0)
	}
	return unknown(&Evidence{Door: door}, errNothingShown.Error())
}
