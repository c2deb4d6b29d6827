package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
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
		Short: "Get a token as a route would, and show what it claims",
		Long: `Gets a token as the route would and shows its decoded claims. The token itself is
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
	g := e.gate.Load()
	i := slices.IndexFunc(g.Table().Routes, func(r *routes.Route) bool { return r.Name == f.route })
	if i < 0 {
		var names []string
		for _, r := range g.Table().Routes {
			names = append(names, r.Name)
		}
		return no(fmt.Errorf("there is no route %q; there are %s", f.route, strings.Join(names, ", ")))
	}
	r := g.Table().Routes[i]
	ctx, cancel := context.WithTimeout(ctx, liveTimeout)
	defer cancel()
	t, origin, err := e.store.Token(ctx, g.Key(r))
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
	got := gotten{route: r, token: t, origin: origin}
	for _, c := range e.directory.Status() {
		if c.Name == r.Credential.Name && c.Fallback != "" {
			got.instead, got.refused = c.Fallback, c.LastError
		}
	}
	return no(got.describe(f.asJSON, s))
}

// gotten is a token and how it was got.
type gotten struct {
	route   *routes.Route
	token   tokens.Token
	origin  tokens.Origin
	instead string           // the fallback that got it; "" for the route's credential itself
	refused *authority.Error // why not that one
}

func (g gotten) describe(asJSON bool, s std) error {
	r, t := g.route, g.token
	claims, err := authority.Claims(t.Access)
	opaque := err != nil
	remark := roleRemark(r.Credential, t)
	if asJSON {
		out := map[string]any{
			"route": r.Name, "credential": r.Credential.Name, "scope": r.Scope,
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
	row("route", r.Name)
	row("credential", r.Credential.Name)
	if g.instead != "" {
		row("in its place", g.instead+", its fallback")
	}
	row("scope", r.Scope)
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
