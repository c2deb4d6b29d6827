package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/seed-13b04e61/gateway/audit"
	"github.com/seed-13b04e61/gateway/gate"
	"github.com/seed-13b04e61/gateway/routes"
)

// methodLogin is what explain takes for a login at a SQL door.
const methodLogin = "LOGIN"

// readLogin understands the name of a SQL door, with or without sql:// or tds://
// before it.
func (f *explainFlags) readLogin(target string) error {
	for _, scheme := range []string{"sql://", "tds://"} {
		target = strings.TrimPrefix(target, scheme)
	}
	f.door = strings.TrimSuffix(target, "/")
	if f.door == "" || strings.ContainsAny(f.door, "/?#@") {
		return fmt.Errorf("%q is no name of a SQL door", target)
	}
	return nil
}

// decideLogin asks the gate as a SQL door would.
func decideLogin(ctx context.Context, g *gate.Gate, f explainFlags) (explanation, error) {
	table := g.Table()
	caller, err := callerNamed(table, f.as)
	if err != nil {
		return explanation{}, err
	}
	i := slices.IndexFunc(table.SQL, func(d *routes.SQL) bool { return d.Name == f.door })
	if i < 0 {
		return explanation{}, fmt.Errorf("there is no SQL door %q; gateway check lists them", f.door)
	}
	d := table.SQL[i]
	x := explanation{Door: string(audit.SQL), Caller: f.as}
	if caller == nil && table.Callers != nil {
		x.Code, x.Detail = string(gate.CallerUnknown), "routes.yaml has callers, and a login without a caller's name and key is none of theirs"
		x.Remedy = "name the caller by --as; gateway check lists them"
		return x, nil
	}
	if _, err := g.SQL(audit.With(ctx, &audit.Event{}), d, caller); err != nil {
		x.refused(err)
		return x, nil
	}
	c := d.Credential
	x.Allowed, x.Route, x.At = true, d.Name, fmt.Sprintf("%s:%d", table.Name, d.Line)
	x.Credential, x.Tenant, x.Endpoint, x.Scope = c.Name, c.TenantID, source(c), d.Scope
	for next := table.Credential(c.Fallback); next != nil; next = table.Credential(next.Fallback) {
		x.Fallback = append(x.Fallback, next.Name)
	}
	x.Servers, x.Database = authorities(d), d.Database
	if d.Dial != "" {
		x.Upstream = d.Dial
	}
	return x, nil
}

// printLogin prints where a login leads.
func (x explanation) printLogin(w *tabwriter.Writer, caller string) {
	fmt.Fprintf(w, "door\t%s\nallowed\tyes\ncaller\t%s\nsql door\t%s\t%s\ncredential\t%s\n", x.Door, caller, x.Route, x.At, x.Credential)
	if len(x.Fallback) > 0 {
		fmt.Fprintf(w, "if refused\t%s\n", strings.Join(x.Fallback, ", then "))
	}
	fmt.Fprintf(w, "token from\t%s\nscope\t%s\nlogs in to\t%s\n", x.Endpoint, x.Scope, strings.Join(x.Servers, " or, by the client's ServerName, "))
	if x.Upstream != "" {
		fmt.Fprintf(w, "dials\t%s\n", x.Upstream)
	}
	fmt.Fprintf(w, "database\t%s\n", orDash(x.Database))
}
