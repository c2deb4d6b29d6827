package routes_test

import (
	"fmt"
	"strings"

	"github.com/seed-13b04e61/gateway/routes"
)

// showCaller prints all that is known of a caller.
func showCaller(b *strings.Builder, c *routes.Caller) {
	fmt.Fprintf(b, "caller %s line %d", c.Name, c.Line)
	for _, k := range c.APIKeys {
		show(b, "key", fmt.Sprintf("%x", k))
	}
	show(b, "uri", c.CertificateURI)
	show(b, "dns", c.CertificateDNS)
	if j := c.JWT; j != nil {
		show(b, "jwt", fmt.Sprintf("of %s for %s by %v ca %q", j.Issuer, j.Audience, j.Algorithms, j.CAFile))
		for _, r := range j.Claims {
			show(b, "  claim", fmt.Sprintf("%s %q", r.Name, r.Values))
		}
	}
	if c.UID != nil {
		show(b, "uid", fmt.Sprint(*c.UID))
	}
	show(b, "tenants", fmt.Sprint(c.Tenants))
	showLimits(b, c.Limits)
	b.WriteString("\n")
}

func showLimits(b *strings.Builder, l routes.Limits) {
	if l != (routes.Limits{}) {
		show(b, "limits", fmt.Sprintf("%+v", l))
	}
}

// showPolicy prints who may use a route, and for what.
func showPolicy(b *strings.Builder, r *routes.Route) {
	if r.Callers != nil {
		var names []string
		for _, c := range r.Callers {
			names = append(names, c.Name)
		}
		show(b, "callers", strings.Join(names, ", "))
	}
	show(b, "paths", fmt.Sprint(r.Paths))
	for _, rule := range r.Allow {
		show(b, "allow", fmt.Sprintf("line %d: %v %v", rule.Line, rule.Methods, rule.Paths))
	}
	if r.Report {
		show(b, "mode", "report")
	}
	if r.FoldPaths && r.Paths != nil {
		show(b, "case", "ignored")
	}
	if r.Tenant != nil {
		show(b, "tenant", fmt.Sprintf("%+v", *r.Tenant))
	}
	showLimits(b, r.Limits)
}

// showListen prints the listeners, what pointers lead to behind them.
func showListen(b *strings.Builder, t *routes.Table) {
	l := t.Listen
	l.TLS = nil
	fmt.Fprintf(b, "listen %+v\n", l)
	if x := t.Listen.TLS; x != nil {
		fmt.Fprintf(b, "listen tls %q key %q clients %q revoked %q\n", x.CertificateFile, x.KeyFile, x.ClientCAFile, x.ClientCRLFile)
		if x.ACME != nil {
			fmt.Fprintf(b, "acme %+v\n", *x.ACME)
		}
	}
	if t.Audit != nil {
		fmt.Fprintf(b, "audit %+v\n", *t.Audit)
	}
}
