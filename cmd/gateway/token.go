package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/seed-13b04e61/gateway/authority"
	"github.com/seed-13b04e61/gateway/routes"
	"github.com/seed-13b04e61/gateway/tokens"
	"github.com/spf13/cobra"
)

func newToken(s std) *cobra.Command {
	var f tokenFlags
	cmd := &cobra.Command{
		Use:   "token ROUTE",
		Short: "Get a token as a route or SQL door would, and show what it claims",
		Long: `Gets a token as the route, or SQL door, would and shows its decoded claims. The token itself is
shown by --raw alone. Each run asks the token endpoint anew, since a running
gateway hands out no token to anybody; --refresh is accepted for scripts.`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completeRoutes,
		RunE: func(cmd *cobra.Command, args []string) error {
			f.config, f.route = configOf(cmd), args[0]
			return showToken(cmd.Context(), f, s)
		},
	}
	cmd.Flags().BoolVar(&f.raw, "raw", false, "print the token and nothing else")
	cmd.Flags().BoolVar(&f.refresh, "refresh", false, "get a new token in any case")
	cmd.Flags().BoolVar(&f.asJSON, "json", false, "print JSON")
	addAllowExec(cmd)
	return cmd
}

type tokenFlags struct {
	config               config
	route                string
	raw, refresh, asJSON bool
}

func showToken(ctx context.Context, f tokenFlags, s std) error {
	file, err := f.config.open()
	if err != nil {
		return no(err)
	}
	e, _, err := quietEngine(file)
	if err != nil {
		return no(err)
	}
	defer e.Close()
	got, key, err := e.wanted(f.route)
	if err != nil {
		return no(err)
	}
	ctx, cancel := context.WithTimeout(ctx, liveTimeout)
	defer cancel()
	t, origin, err := e.store.Token(ctx, key)
	var answer *authority.Error
	if errors.As(err, &answer) {
		return no(errors.New(answer.Explain()))
	}
	if err != nil {
		return no(err)
	}
	if f.raw {
		_, err := fmt.Fprintln(s.out, t.Access.Reveal())
		return no(err)
	}
	got.token, got.origin = t, origin
	for _, c := range e.directory.Status() {
		if c.Name == got.credential.Name && c.Fallback != "" {
			got.instead, got.refused = c.Fallback, c.LastError
		}
	}
	return no(got.describe(f.asJSON, s))
}

// gotten is a token and how it was got.
type gotten struct {
	what, name string // "route" or "sql", as in the JSON
	credential *routes.Credential
	scope      string
	token      tokens.Token
	origin     tokens.Origin
	instead    string           // the fallback that got it; "" for the credential itself
	refused    *authority.Error // why not that one
}

// wanted finds the route or SQL door of that name, and the key of its token.
func (e *engine) wanted(name string) (got gotten, key tokens.Key, err error) {
	g := e.gate.Load()
	var names []string
	for _, r := range g.Table().Routes {
		if r.Name == name {
			return gotten{what: "route", name: name, credential: r.Credential, scope: r.Scope}, g.Key(r), nil
		}
		names = append(names, r.Name)
	}
	for _, d := range g.Table().SQL {
		if d.Name == name {
			return gotten{what: "sql", name: name, credential: d.Credential, scope: d.Scope}, e.directory.Key(d.Credential, d.Scope), nil
		}
		names = append(names, d.Name)
	}
	return gotten{}, tokens.Key{}, fmt.Errorf("there is no route %q; there are %s", name, strings.Join(names, ", "))
}

// remark says what is odd about the token's roles, or "". A database goes by its
// own users and their roles.
func (g gotten) remark() string {
	if g.what == "sql" {
		return ""
	}
	return roleRemark(g.credential, g.token)
}

func (g gotten) describe(asJSON bool, s std) error {
	t := g.token
	claims, err := authority.Claims(t.Access)
	opaque := err != nil
	remark := g.remark()
	if asJSON {
		out := map[string]any{
			g.what: g.name, "credential": g.credential.Name, "scope": g.scope,
			"source": g.origin, "expires": t.Expires, "fingerprint": t.Access.Fingerprint(),
		}
		if g.instead != "" {
			out["fallback"] = g.instead
		}
		if !opaque {
			out["claims"] = claims.Raw
		}
		if remark != "" {
			out["remark"] = remark
		}
		return printJSON(s.out, out)
	}
	w := tabwriter.NewWriter(s.out, 0, 8, 2, ' ', 0)
	row := func(name, value string) { fmt.Fprintf(w, "%s\t%s\n", name, orDash(value)) }
	row(map[string]string{"route": "route", "sql": "sql door"}[g.what], g.name)
	row("credential", g.credential.Name)
	if g.instead != "" {
		row("in its place", g.instead+", its fallback")
	}
	row("scope", g.scope)
	row("source", string(g.origin))
	if opaque {
		row("claims", "the token is opaque, as it may be")
	} else {
		row("audience", strings.Join(claims.Audience, " "))
		row("app", claims.AppID)
		row("tenant", claims.TenantID)
		row("roles", strings.Join(claims.Roles, " "))
	}
	row("expires", fmt.Sprintf("%s (in %s)", t.Expires.Format(time.RFC3339), time.Until(t.Expires).Round(time.Second)))
	if err := w.Flush(); err != nil {
		return err
	}
	if remark != "" {
		fmt.Fprintln(s.out, remark)
	}
	if g.refused != nil {
		fmt.Fprintln(s.err, "warning: "+g.refused.Explain())
	}
	_, err = fmt.Fprintln(s.err, "The token itself was not printed; --raw prints it.")
	return err
}
