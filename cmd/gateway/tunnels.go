package main

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"strings"

	"github.com/seed-13b04e61/gateway/audit"
	"github.com/seed-13b04e61/gateway/gate"
	"github.com/seed-13b04e61/gateway/proxy"
	"github.com/seed-13b04e61/gateway/routes"
)

// tunnel says where a CONNECT leads.
func (x *explanation) tunnel(ctx context.Context, g *gate.Gate, t gate.Target) {
	event, table := &audit.Event{}, g.Table()
	x.Door = string(audit.Tunnel)
	if isOwn(t.Authority, x.listen) {
		x.Code, x.Detail = "method_refused", "the target of CONNECT is the gateway itself"
		x.Remedy = "call the gateway without a proxy: name its host in NO_PROXY"
		return
	}
	way, a, err := g.Tunnel(audit.With(ctx, event), t)
	_, noAddress := netip.ParseAddr(a.Host)
	switch {
	case err != nil:
		x.refused(err)
		return
	case way == gate.Through:
		x.passed(table, "https", a)
		return
	case noAddress == nil && t.Authority.Port != 80:
		x.Code, x.Detail = "not_supported", fmt.Sprintf("the CA signs for names alone, and %s is an address", a.Host)
		x.Remedy = "call the host by a name, and dial the address by upstream of the route; the reverse door and http:// URLs work all the same"
		return
	case table.Intercept == nil && t.Authority.Port != 80:
		x.Code = "not_supported"
		x.Detail, x.Remedy = proxy.WithoutCA()
		return
	}
	x.Allowed, x.Way, x.Upstream = true, way.String(), "https://"+a.String()
	for _, r := range table.Routes {
		if r.Name == event.Route {
			x.Route, x.At = r.Name, fmt.Sprintf("%s:%d", table.Name, r.Line)
		}
	}
}

// unnamed describes a call for a host that no route names.
func (x *explanation) unnamed(ctx context.Context, g *gate.Gate, t gate.Target, scheme string) {
	if err := g.Through(ctx, t); err != nil {
		x.refused(err)
		return
	}
	if scheme == "https" {
		x.Door = string(audit.Tunnel)
	}
	x.passed(g.Table(), scheme, t.Authority)
}

// passed describes what is passed through untouched.
func (x *explanation) passed(table *routes.Table, scheme string, a routes.Authority) {
	x.Allowed, x.Way, x.Upstream, x.Reaches = true, gate.Through.String(), scheme+"://"+a.String(), "any"
	if table.Egress.DenyPrivate {
		x.Reaches = "public"
	}
}

// printWay prints where no route has more to say.
func (x explanation) printWay(w io.Writer, caller string) {
	fmt.Fprintf(w, "door\t%s\nallowed\tyes\ncaller\t%s\n", x.Door, caller)
	if x.Way == gate.Through.String() {
		reaches := "public addresses alone"
		if x.Reaches == "any" {
			reaches = "private addresses too (egress.deny_private: false)"
		}
		fmt.Fprintf(w, "way\tpassed through untouched, without a token\nsends to\t%s\nreaches\t%s\n", x.Upstream, reaches)
		return
	}
	fmt.Fprintf(w, "way\tintercepted: each call inside is judged by itself\n")
	if x.Route != "" {
		fmt.Fprintf(w, "route\t%s\t%s\n", x.Route, x.At)
	}
	fmt.Fprintf(w, "calls for\t%s\tgateway explain METHOD URL judges one\n", strings.TrimSuffix(x.Upstream, ":443"))
}

// egressJSON is what happens beyond the routes, as check --json prints it.
type egressJSON struct {
	Default     string   `json:"default"` // deny or tunnel
	Allow       []string `json:"allow,omitempty"`
	DenyPrivate bool     `json:"deny_private"`
	Proxy       string   `json:"proxy,omitempty"` // the next hop
}

// interceptJSON is what the interception CA may sign for.
type interceptJSON struct {
	CADir string   `json:"ca_dir"`
	Hosts []string `json:"hosts"`
}

func egressRow(e routes.Egress) *egressJSON {
	row := &egressJSON{Default: "deny", DenyPrivate: e.DenyPrivate}
	if e.Tunnel {
		row.Default = "tunnel"
	}
	for _, h := range e.Allow {
		row.Allow = append(row.Allow, h.String())
	}
	if e.Proxy != nil {
		row.Proxy = e.Proxy.URL.String()
	}
	return row
}

func interceptRow(table *routes.Table) *interceptJSON {
	if table.Intercept == nil {
		return nil
	}
	return &interceptJSON{CADir: table.Intercept.CADir, Hosts: append([]string{}, table.InterceptedHosts()...)}
}

// printBeyond prints what happens to other hosts than the routed, and to
// tunnels.
func printBeyond(w io.Writer, table *routes.Table) {
	e := egressRow(table.Egress)
	passed, reaches := strings.Join(e.Allow, " "), "-"
	if e.Default == "tunnel" {
		passed = strings.TrimSpace("every host at 443 and 80 " + passed)
	}
	switch {
	case passed == "":
	case e.DenyPrivate:
		reaches = "public addresses"
	default:
		reaches = "private addresses too"
	}
	fmt.Fprintf(w, "\nEGRESS\tPASSED THROUGH\tREACHES\tNEXT HOP\n%s\t%s\t%s\t%s\n", e.Default, orDash(passed), reaches, orDash(e.Proxy))
	folder, hosts := "-", "nothing: HTTPS_PROXY needs intercept.ca_dir, or gateway exec"
	if x := interceptRow(table); x != nil {
		folder, hosts = x.CADir, strings.Join(x.Hosts, " ")
	}
	fmt.Fprintf(w, "\nCA\tMAY SIGN FOR\n%s\t%s\n", folder, hosts)
}
