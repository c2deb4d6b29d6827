package gate

import (
	"fmt"
	"strings"

	"github.com/seed-13b04e61/gateway/routes"
)

// reason is why a route does not take a call.
type reason int

const (
	otherHosts reason = iota + 1
	otherCallers
	otherPaths
	otherMount
	shorterMount
	noMount
)

// trace notes on its way through the gate what a call passed by. The nil trace
// notes nothing, and costs nothing.
type trace map[*routes.Route]reason

func (t trace) note(r *routes.Route, why reason) {
	if t != nil {
		t[r] = why
	}
}

// mostShown bounds the hosts or paths of a route in a message.
const mostShown = 3

// words says why r did not take the call.
func (d *decision) words(r *routes.Route, why reason) string {
	switch why {
	case otherCallers:
		return fmt.Sprintf("does not admit %s: it is for %s", d.caller(), whom(r.Callers))
	case otherPaths:
		return "path differs: it has " + some(r.Paths)
	case otherMount:
		return "path differs: it is mounted at " + r.Mount
	case shorterMount:
		return "mounted at " + r.Mount + ", and the longest mount decides"
	case noMount:
		return "has no mount: it is for the doors by which a call names its host"
	}
	return "host differs: it has " + some(r.Hosts)
}

// some lists the first of them.
func some[T fmt.Stringer](list []T) string {
	var b strings.Builder
	for i, x := range list {
		if i == mostShown {
			fmt.Fprintf(&b, " and %d more", len(list)-i)
			break
		}
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(strings.TrimSuffix(x.String(), ":443"))
	}
	return b.String()
}
