package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/seed-13b04e61/gateway/audit"
	"github.com/seed-13b04e61/gateway/authority"
	"github.com/seed-13b04e61/gateway/routes"
	"github.com/seed-13b04e61/gateway/tokens"
	"github.com/spf13/cobra"
)

// liveTimeout is how long check --live and token wait for one token.
const liveTimeout = 40 * time.Second

func newCheck(s std) *cobra.Command {
	var live, asJSON bool
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Read routes.yaml and print every mistake, or a table of the routes",
		Long: `Reads routes.yaml and prints every mistake and every warning, or a table of the
routes. An unresolved {env:} or {file:} is a warning, so that this can run where
the secrets are not. With --live it also gets a token for each credential and
scope, and whatever does not resolve counts as a mistake.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return check(cmd.Context(), checkFlags{configOf(cmd), live, asJSON}, s)
		},
	}
	cmd.Flags().BoolVar(&live, "live", false, "get a token for each credential and scope")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	addAllowExec(cmd)
	return cmd
}

type checkFlags struct {
	config       config
	live, asJSON bool
}

// checkReport is what check --json prints.
type checkReport struct {
	OK       bool          `json:"ok"`
	Mistakes []mistakeJSON `json:"mistakes"`
	Warnings []string      `json:"warnings"`
	Routes   []routeJSON   `json:"routes"`
	Tokens   []tokenJSON   `json:"tokens,omitempty"`
}

type mistakeJSON struct {
	File    string `json:"file"`
	Line    int    `json:"line"`
	Column  int    `json:"column"`
	Field   string `json:"field"`
	Message string `json:"message"`
	Remedy  string `json:"remedy"`
}

type routeJSON struct {
	Name       string   `json:"name"`
	Hosts      []string `json:"hosts"`
	Mount      string   `json:"mount"`
	Credential string   `json:"credential"`
	Scope      string   `json:"scope"`
	Upstream   string   `json:"upstream,omitempty"`
}

// tokenJSON is one token that check --live or token got, or why not.
type tokenJSON struct {
	Credential string    `json:"credential"`
	Scope      string    `json:"scope"`
	OK         bool      `json:"ok"`
	Audience   []string  `json:"aud,omitempty"`
	Roles      []string  `json:"roles,omitempty"`
	Expires    time.Time `json:"expires,omitzero"`
	Remark     string    `json:"remark,omitempty"`
	Error      string    `json:"error,omitempty"`
	Remedy     string    `json:"remedy,omitempty"`
	AADSTS     int       `json:"aadsts,omitempty"`
}

func check(ctx context.Context, f checkFlags, s std) error {
	file, err := f.config.open()
	if err != nil {
		return checkFailed(err, f, s)
	}
	e, notices, err := quietEngine(file)
	if err != nil {
		return no(err)
	}
	defer e.Close()
	report := checkReport{OK: true, Mistakes: []mistakeJSON{}, Warnings: []string{}}
	unresolved := 0
	for _, n := range notices {
		report.Warnings = append(report.Warnings, n.String())
		if n.alarm {
			unresolved++
		}
		if !f.asJSON {
			fmt.Fprintf(s.err, "warning: %s\n", n.text)
			if n.remedy != "" {
				fmt.Fprintf(s.err, "   %s\n", n.remedy)
			}
		}
	}
	table := file.Table()
	for _, r := range table.Routes {
		report.Routes = append(report.Routes, routeRow(r))
	}
	if !f.asJSON {
		printRoutes(s.out, table)
	}
	if f.live {
		report.Tokens = checkLive(ctx, e, f, s)
		for _, t := range report.Tokens {
			report.OK = report.OK && t.OK
		}
		report.OK = report.OK && unresolved == 0
	}
	if f.asJSON {
		if err := printJSON(s.out, report); err != nil {
			return no(err)
		}
	}
	if !report.OK {
		return errNo
	}
	return nil
}

// checkFailed prints the mistakes of a file that was not taken.
func checkFailed(err error, f checkFlags, s std) error {
	if !f.asJSON {
		return no(err)
	}
	report := checkReport{Mistakes: []mistakeJSON{}, Warnings: []string{}, Routes: []routeJSON{}}
	var mistakes routes.Mistakes
	if !errors.As(err, &mistakes) {
		report.Mistakes = append(report.Mistakes, mistakeJSON{Message: err.Error()})
	}
	for _, m := range mistakes {
		report.Mistakes = append(report.Mistakes, mistakeJSON{m.File, m.Line, m.Column, m.Field, m.Message, m.Remedy})
	}
	if err := printJSON(s.out, report); err != nil {
		return no(err)
	}
	return errNo
}

// quietEngine is one for a single question: it logs nothing and has no doors.
func quietEngine(file *routes.File) (*engine, []notice, error) {
	log, err := audit.NewLog(io.Discard, audit.LogConfig{Level: "error", Format: "json"})
	if err != nil {
		return nil, nil, err
	}
	return newEngine(file, log)
}

func routeRow(r *routes.Route) routeJSON {
	row := routeJSON{Name: r.Name, Mount: r.Mount, Credential: r.Credential.Name, Scope: r.Scope}
	for _, h := range r.Hosts {
		row.Hosts = append(row.Hosts, h.String())
	}
	if r.Upstream != nil {
		row.Upstream = r.Upstream.String()
	}
	return row
}

func hostList(r *routes.Route) string { return strings.Join(routeRow(r).Hosts, " ") }

func printRoutes(w io.Writer, table *routes.Table) {
	tw := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(tw, "ROUTE\tHOSTS\tMOUNT\tCREDENTIAL\tSCOPE")
	for _, r := range table.Routes {
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\n", r.Name, hostList(r), orDash(r.Mount), r.Credential.Name, orDash(r.Scope))
	}
	_ = tw.Flush() // as with any print to a terminal
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// checkLive gets a token for each credential and scope, one after the other.
func checkLive(ctx context.Context, e *engine, f checkFlags, s std) []tokenJSON {
	var rows []tokenJSON
	seen := map[tokens.Key]bool{}
	g := e.gate.Load()
	for _, r := range g.Table().Routes {
		k := g.Key(r)
		if seen[k] {
			continue
		}
		seen[k] = true
		if !f.asJSON {
			fmt.Fprintf(s.err, "getting a token: credential %s, scope %s …\n", k.Credential, orDash(k.Scope))
		}
		row, long := liveToken(ctx, e, k)
		rows = append(rows, row)
		if f.asJSON {
			continue
		}
		if !row.OK {
			fmt.Fprintf(s.out, "no  %s\n", long)
			continue
		}
		fmt.Fprintf(s.out, "ok  credential %s, scope %s: aud %s, roles %s, expires %s\n", k.Credential, orDash(k.Scope),
			orDash(strings.Join(row.Audience, " ")), orDash(strings.Join(row.Roles, " ")), row.Expires.Format(time.RFC3339))
		if row.Remark != "" {
			fmt.Fprintf(s.out, "    %s\n", row.Remark)
		}
	}
	return rows
}

// liveToken gets one token and describes it, or its refusal at length.
func liveToken(ctx context.Context, e *engine, k tokens.Key) (row tokenJSON, long string) {
	ctx, cancel := context.WithTimeout(ctx, liveTimeout)
	defer cancel()
	row = tokenJSON{Credential: k.Credential, Scope: k.Scope}
	t, _, err := e.store.Token(ctx, k)
	if err != nil {
		row.Error, long = err.Error(), err.Error()
		var answer *authority.Error
		if errors.As(err, &answer) {
			row.Error, row.Remedy, row.AADSTS = answer.Error(), answer.Remedy, answer.AADSTS
			long = answer.Explain()
		}
		return row, long
	}
	row.OK, row.Expires = true, t.Expires
	if claims, err := authority.Claims(t.Access); err == nil {
		row.Audience, row.Roles = claims.Audience, claims.Roles
	}
	row.Remark = roleRemark(e.gate.Load().Table().Credential(k.Credential), t)
	return row, ""
}

func printJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}
