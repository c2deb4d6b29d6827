package main

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"unicode"

	"github.com/seed-13b04e61/gateway/admin"
	"github.com/seed-13b04e61/gateway/audit"
	"github.com/seed-13b04e61/gateway/gate"
	"github.com/seed-13b04e61/gateway/proxy"
	"github.com/seed-13b04e61/gateway/routes"
)

// explanation is an [admin.Explanation] in the making.
type explanation struct {
	admin.Explanation
	table *routes.Table
}

// at is a line of the file; "" for none.
func (x *explanation) at(line int) string {
	if line == 0 {
		return ""
	}
	return fmt.Sprintf("%s:%d", x.table.Name, line)
}

func (x *explanation) ground(line int, why string) admin.Ground {
	return admin.Ground{At: x.at(line), Line: x.table.Text(line), Why: why}
}

// tell takes over how the gate decided.
func (x *explanation) tell(a gate.Account) {
	x.Decided = x.ground(a.Decided.Line, a.Decided.Why)
	if a.Route != nil {
		x.Route, x.At = a.Route.Name, x.at(a.Route.Line)
	}
	ways := func(list []gate.Passed) []admin.ExplainedWay {
		out := []admin.ExplainedWay{}
		for _, p := range list {
			out = append(out, admin.ExplainedWay{Route: p.Route.Name, At: x.at(p.Line), Why: p.Why})
		}
		return out
	}
	x.PassedOver, x.MorePassedOver = ways(a.PassedOver), a.MorePassedOver
	x.Also, x.MoreAlso = ways(a.Also), a.MoreAlso
	for _, p := range a.Tried {
		x.Tried = append(x.Tried, x.ground(p.Line, p.Why))
	}
	x.MoreTried = a.MoreTried
	if a.Nearest != nil {
		near := x.ground(a.Nearest.Line, a.Nearest.Why)
		x.Nearest = &near
	}
	if a.Refusal != nil {
		x.refused(a.Refusal)
	}
}

// refused takes over the words of a refusal.
func (x *explanation) refused(r *gate.Refusal) {
	x.Allowed = false
	x.Code, x.Detail, x.Cause, x.Remedy = string(r.Code), r.Detail, r.Told(), r.Remedy
}

// atDoor describes a call that the door refuses, whatever the routes say.
func (x *explanation) atDoor(r *gate.Refusal) {
	line := 0
	if r.Code == proxy.Misdirected && x.Door == string(audit.Reverse) {
		line = x.table.LineOf("listen")
	}
	x.Decided, x.PassedOver, x.Also = x.ground(line, r.Told()), []admin.ExplainedWay{}, []admin.ExplainedWay{}
	x.refused(r)
}

// stranger describes a call without a credential where the file has callers.
func (x *explanation) stranger(door audit.Door) {
	x.atDoor(gate.Stranger(door))
	x.Decided = x.ground(x.table.LineOf("callers"), "with callers in the file nobody is anonymous")
	x.Hint = "name the caller by --as; gateway check lists them"
}

// connect says where a CONNECT leads.
func (x *explanation) connect(ctx context.Context, g *gate.Gate, asked proxy.Asked, t gate.Target) {
	x.Door = string(audit.Tunnel)
	if t.Caller == nil && x.table.Callers != nil {
		x.stranger(audit.Tunnel)
		return
	}
	if asked.Own {
		x.atDoor(asked.Dig(t.Authority))
		return
	}
	event := &audit.Event{}
	way, a, account := g.ExplainTunnel(audit.With(ctx, event), t)
	x.tell(account)
	switch {
	case account.Refusal != nil:
		return
	case way == gate.Through:
		x.passed("https", a)
		return
	}
	if refused := asked.Dig(t.Authority); refused != nil {
		x.refused(refused)
		x.Decided = x.ground(account.Decided.Line, account.Decided.Why+"; but "+refused.Told())
		return
	}
	x.Allowed, x.Way, x.Upstream = true, way.String(), "https://"+a.String()
	if event.Route == "" { // several, or a login host
		x.Route, x.At = "", ""
	}
}

// unnamed describes a call for a host that no route names.
func (x *explanation) unnamed(ctx context.Context, g *gate.Gate, t gate.Target, scheme string) {
	account := g.ExplainThrough(ctx, t)
	x.tell(account)
	if account.Refusal != nil {
		return
	}
	if scheme == "https" {
		x.Door = string(audit.Tunnel)
	}
	x.passed(scheme, t.Authority)
}

// passed describes what is passed through untouched.
func (x *explanation) passed(scheme string, a routes.Authority) {
	x.Allowed, x.Way, x.Upstream, x.Reaches = true, gate.Through.String(), scheme+"://"+a.String(), "any"
	if x.table.Egress.DenyPrivate {
		x.Reaches = "public"
	}
}

// admitted describes a call that the gate judged.
func (x *explanation) admitted(account gate.Account, asked proxy.Asked) {
	x.tell(account)
	if account.Refusal != nil {
		return
	}
	if refused := asked.Leave(account.Pass); refused != nil {
		x.refused(refused)
		x.Decided = x.ground(account.Route.Line, refused.Told())
		return
	}
	pass := account.Pass
	r, c := pass.Route, *pass.Route.Credential
	if pass.Tenant != "" {
		c.TenantID, x.Chosen = pass.Tenant, true
	}
	x.Allowed, x.Rule = true, x.at(pass.Rule)
	x.WouldDeny, x.Batch = pass.Denied, pass.Batch
	x.Credential, x.Tenant, x.Endpoint, x.Scope = c.Name, c.TenantID, source(&c), r.Scope
	x.Fallback = inLine(x.table, &c)
	if r.Second != nil {
		x.Second = r.Second.Scope
	}
	x.Replay = r.Replay
	x.Upstream = "https://" + pass.Authority.String()
	if r.Upstream != nil {
		x.Upstream = r.Upstream.String()
	}
	x.URL = "https://" + strings.TrimSuffix(pass.Authority.String(), ":443") + plainPath(pass.Path)
}

// plainPath is a path as it may be shown: what a terminal would obey or hide is
// percent-encoded, as it will be on its way.
func plainPath(path string) string {
	var b strings.Builder
	for _, r := range path {
		if unicode.IsPrint(r) {
			b.WriteRune(r)
		} else {
			b.WriteString(url.PathEscape(string(r)))
		}
	}
	return b.String()
}

// inLine are the credentials in line behind c.
func inLine(table *routes.Table, c *routes.Credential) (names []string) {
	for next := table.Credential(c.Fallback); next != nil; next = table.Credential(next.Fallback) {
		names = append(names, next.Name)
	}
	return names
}
