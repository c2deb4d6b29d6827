package routes_test

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

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
	if r.Upgrade != nil || r.RewriteLinks || r.Placeholder {
		show(b, "beyond", fmt.Sprintf("upgrade %v, rewrite links %t, placeholder %t", r.Upgrade, r.RewriteLinks, r.Placeholder))
	}
}

// showEgress prints what happens beyond the routes; nothing for the defaults.
func showEgress(b *strings.Builder, t *routes.Table) {
	if hop := t.Egress.Proxy; hop != nil {
		fmt.Fprintf(b, "next hop %s user %s password %s bypass %v\n", hop.URL, hop.Username, hop.Password, hop.Bypass)
	}
	if e := t.Egress; e.Tunnel || e.Allow != nil || !e.DenyPrivate {
		fmt.Fprintf(b, "egress tunnel %t allow %v deny private %t\n", e.Tunnel, e.Allow, e.DenyPrivate)
	}
	if t.Intercept != nil {
		fmt.Fprintf(b, "intercept %+v for %v\n", *t.Intercept, t.InterceptedHosts())
	}
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

// small lists all patterns, and all paths, of few short segments.
func small() (patterns, paths []string) {
	patterns, paths = []string{"/", "/**"}, []string{"/"}
	for _, a := range []string{"a", "A", "*"} {
		patterns = append(patterns, "/"+a, "/"+a+"/**")
		for _, b := range []string{"b", "{x}"} {
			patterns = append(patterns, "/"+a+"/"+b, "/"+a+"/"+b+"/**")
		}
	}
	words := []string{"a", "A", "b", "other"}
	for _, a := range words {
		paths = append(paths, "/"+a)
		for _, b := range words {
			paths = append(paths, "/"+a+"/"+b)
			for _, c := range words {
				paths = append(paths, "/"+a+"/"+b+"/"+c)
			}
		}
	}
	return patterns, paths
}

// What is said of two patterns agrees with what they match, path by path.
func TestRemarksUponRulesAgreeWithWhatTheyMatch(t *testing.T) {
	patterns, paths := small()
	for _, host := range []string{"a.contoso.com", "graph.microsoft.com"} {
		anyCase := host == "graph.microsoft.com"
		for _, first := range patterns {
			for _, second := range patterns {
				p, q := mustPattern(t, first), mustPattern(t, second)
				covered, meet := true, false
				for _, text := range paths {
					path := mustPath(t, text)
					in, too := p.Match(path, anyCase), q.Match(path, anyCase)
					covered, meet = covered && (in || !too), meet || in && too
				}
				said := func(rest, remark string) bool {
					table := parse(t, fmt.Sprintf("routes: [{name: a, hosts: [%s], %s}]\n", host, rest))
					return slices.ContainsFunc(table.Warnings, func(m routes.Mistake) bool { return strings.Contains(m.Message, remark) })
				}
				if got := said(fmt.Sprintf("allow: [{paths: [%q]}, {paths: [%q]}]", first, second), "allows all of this"); got != covered {
					t.Errorf("%s: said that %s covers %s: %t, want %t", host, first, second, got, covered)
				}
				if got := said(fmt.Sprintf("paths: [%q], allow: [{paths: [%q]}]", first, second), "can never match"); got == meet {
					t.Errorf("%s: said that no path is both %s and %s: %t, want %t", host, first, second, got, !meet)
				}
			}
		}
	}
}

func TestFilesOfCallersAreWatchedAndOfTheFilesOwnFolder(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "routes.yaml")
	write(t, path, `version: 1
listen:
  tls: {acme: {domains: [gw.contoso.com], ca_file: pebble.pem, storage: acme}, client_ca_file: clients.pem, client_crl_file: revoked.crl}
credentials:
  default: {tenant_id: contoso.com, client_id: a, client_secret: {env: S}}
callers:
  a: {jwt: {issuer: https://i.example, audience: gw, claims: {sub: a}, ca_file: issuer.pem}}
routes:
  - {preset: graph, tenant: {header: X-Tenant-Id, allowed_file: tenants.txt}}
  - {preset: arm, tenant: {header: X-Tenant-Id, allowed_file: tenants.txt}}
audit: {file: audit.jsonl}
`)
	table, err := routes.Load(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{path}
	for _, name := range []string{"clients.pem", "revoked.crl", "pebble.pem", "issuer.pem", "tenants.txt"} {
		want = append(want, filepath.Join(dir, name))
	}
	if got := table.Files(); !slices.Equal(got, want) {
		t.Errorf("Files() = %v, want %v: what is written is not watched", got, want)
	}
	if got := table.Listen.TLS.ACME.Storage; got != filepath.Join(dir, "acme") {
		t.Errorf("storage = %s", got)
	}
	if got := table.Audit.File; got != filepath.Join(dir, "audit.jsonl") {
		t.Errorf("audit file = %s", got)
	}
}

// Nobody is let in by a section that is there and empty, or by a route's list
// that is: what is absent is nil, and nothing else.
func TestOnlyAbsentCallersAreNil(t *testing.T) {
	table := parse(t, "routes: [{name: a, hosts: [a.example]}]\n")
	if table.Callers != nil || table.Routes[0].Callers != nil || table.Routes[0].Paths != nil || table.Routes[0].Allow != nil || table.Caller("") != nil {
		t.Errorf("a file without callers and rules has some: %+v", table.Routes[0])
	}
	for _, src := range []string{
		"callers: {}\nroutes: [{name: a, hosts: [a.example]}]\n",
		"callers: ~\nroutes: [{name: a, hosts: [a.example]}]\n",
		"callers: []\nroutes: [{name: a, hosts: [a.example]}]\n",
		"callers: {a: {uid: 1}}\nroutes: [{name: a, hosts: [a.example], callers: []}]\n",
		"callers: {a: {uid: 1}}\nroutes: [{name: a, hosts: [a.example], callers: ~}]\n",
		"callers: {a: {uid: 1}}\nroutes: [{name: a, hosts: [a.example], callers: ['']}]\n",
		"routes: [{name: a, hosts: [a.example], allow: ~}]\n",
		"routes: [{name: a, hosts: [a.example], allow: [~]}]\n",
		"routes: [{name: a, hosts: [a.example], allow: [{methods: ~}]}]\n",
		"routes: [{name: a, hosts: [a.example], allow: [{paths: ~}]}]\n",
		"routes: [{name: a, hosts: [a.example], paths: ~}]\n",
		"routes: [{name: a, hosts: [a.example], paths: ['']}]\n",
		"routes: [{name: a, hosts: [a.example], limits: ~}]\n",
		"routes: [{name: a, hosts: [a.example], mode: ~}]\n",
		"listen: {tls: ~}\nroutes: [{name: a, hosts: [a.example]}]\n",
		"audit: ~\nroutes: [{name: a, hosts: [a.example]}]\n",
	} {
		if table, err := routes.Parse("routes.yaml", []byte(idp+src), nil); err == nil {
			t.Errorf("Parse(%q) = %+v, want a mistake", src, table.Routes[0])
		}
	}
}

// BenchmarkParse reads files with more callers, routes and rules than could be
// compared each with each.
func BenchmarkParse(b *testing.B) {
	var rules, jwts strings.Builder
	for i := range 5000 {
		fmt.Fprintf(&rules, "      - {methods: [GET], paths: [\"/a%d/**\"]}\n", i)
		fmt.Fprintf(&jwts, "  c%d: {jwt: {issuer: https://i.example, audience: gw, claims: {sub: a%d}}}\n", i, i)
	}
	for name, src := range map[string]string{
		"5000 rules":  "routes:\n  - name: a\n    hosts: [a.example]\n    paths: [/x]\n    allow:\n" + rules.String(),
		"5000 tokens": "callers:\n" + jwts.String() + "routes: [{name: a, hosts: [a.example]}]\n",
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				parse(b, src)
			}
		})
	}
	b.Run("10000 routes", func(b *testing.B) {
		for b.Loop() {
			crowded(b, 5000)
		}
	})
}
