package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/seed-13b04e61/gateway/admin"
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
	if f.door == "" || strings.ContainsAny(f.door, "/?#@:") {
		return errors.New("explain LOGIN wants the name of a SQL door; gateway check lists them")
	}
	return nil
}

// decideLogin asks the gate as a SQL door would.
func decideLogin(ctx context.Context, g *gate.Gate, f explainFlags) (admin.Explanation, error) {
	table := g.Table()
	caller, err := callerNamed(table, f.as)
	if err != nil {
		return admin.Explanation{}, err
	}
	i := slices.IndexFunc(table.SQL, func(d *routes.SQL) bool { return d.Name == f.door })
	if i < 0 {
		return admin.Explanation{}, fmt.Errorf("there is no SQL door %q; gateway check lists them", f.door)
	}
	d := table.SQL[i]
	x := explanation{table: table}
	x.Door, x.Caller = string(audit.SQL), f.as
	if caller == nil && table.Callers != nil {
		x.Route, x.At = d.Name, x.at(d.Line)
		x.stranger(audit.SQL)
		return x.Explanation, nil
	}
	account := g.ExplainSQL(audit.With(ctx, &audit.Event{}), d, caller)
	x.tell(account)
	x.Route, x.At = d.Name, x.at(d.Line)
	if account.Refusal != nil {
		return x.Explanation, nil
	}
	c := d.Credential
	x.Allowed = true
	x.Credential, x.Tenant, x.Endpoint, x.Scope = c.Name, c.TenantID, source(c), d.Scope
	x.Fallback = inLine(table, c)
	x.Servers, x.Database = authorities(d), d.Database
	if d.Dial != "" {
		x.Upstream = d.Dial
	}
	return x.Explanation, nil
}
