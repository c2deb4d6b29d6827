package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/seed-13b04e61/gateway/audit"
	"github.com/seed-13b04e61/gateway/routes"
	"github.com/spf13/cobra"
)

func newCheck(s std) *cobra.Command {
	var live, asJSON bool
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Read routes.yaml and print every mistake, or a table of the routes",
		Long: `Reads routes.yaml and prints every mistake and every warning, or a table of the
routes. An unresolved {env:} or {file:} is a warning, so that this can run where
the secrets are not. With --live it also gets a token for each credential and
scope, logs in to each server of sql: and asks it who the gateway is there, and
whatever does not resolve counts as a mistake.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return check(cmd.Context(), checkFlags{configOf(cmd), live, asJSON}, s)
		},
	}
	cmd.Flags().BoolVar(&live, "live", false, "get a token for each credential and scope, and log in to each SQL server")
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
	Callers  []callerJSON  `json:"callers,omitempty"` // absent: routes.yaml has no such section
	Routes   []routeJSON   `json:"routes"`
	SQL      []sqlJSON     `json:"sql,omitempty"`
	// Absent when there are mistakes; Intercept also when there is no CA.
	Egress    *egressJSON    `json:"egress,omitempty"`
	Intercept *interceptJSON `json:"intercept,omitempty"`
	Tokens    []tokenJSON    `json:"tokens,omitempty"`
	Logins    []loginJSON    `json:"sql_logins,omitempty"` // with --live
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
	Callers    []string `json:"callers,omitempty"` // absent: any named caller, or anyone without callers
	Rules      []string `json:"rules,omitempty"`   // those of allow, as METHODS PATHS
	Mode       string   `json:"mode,omitempty"`    // report, when rules are not enforced
	Upgrade    []string `json:"upgrade,omitempty"`
	Rewrite    bool     `json:"rewrite_links,omitempty"`
	HandOut    string   `json:"hand_out,omitempty"` // placeholder, or absent
}

// callerJSON is one who may call. It holds no digest: it is no secret, but
// nobody needs it here.
type callerJSON struct {
	Name    string   `json:"name"`
	By      []string `json:"by"` // what proves it
	Tenants []string `json:"tenants,omitempty"`
}

func check(ctx context.Context, f checkFlags, s std) error {
	file, err := f.config.open()
	if err != nil {
		return checkFailed(err, f, s)
	}
	e, notices, err := quietEngine(file)
	if err != nil {
		return checkFailed(err, f, s)
	}
	defer e.Close()
	table := file.Table()
	report := &checkReport{OK: true, Mistakes: []mistakeJSON{}, Warnings: []string{}}
	certificates, err := lookAtCertificates(table.Listen.TLS)
	if err != nil {
		return checkFailed(err, f, s)
	}
	notices = slices.Concat(notices, certificates, lookAtDoors(table))
	report.warn(append(notices, exposed(table)...), f, s)
	for _, c := range table.Callers {
		report.Callers = append(report.Callers, callerJSON{c.Name, proofsOf(c), c.Tenants})
	}
	for _, r := range table.Routes {
		report.Routes = append(report.Routes, routeRow(r))
	}
	for _, d := range table.SQL {
		report.SQL = append(report.SQL, sqlRow(d))
	}
	report.Egress, report.Intercept = egressRow(table.Egress), interceptRow(table)
	if !f.asJSON {
		printRoutes(s.out, table)
	}
	if f.live {
		report.live(ctx, e, f, s)
		// What does not resolve was a warning for CI's sake, and is none here.
		report.OK = report.OK && !slices.ContainsFunc(notices, func(n notice) bool { return n.alarm })
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

// warn notes the warnings, and prints them for a person.
func (report *checkReport) warn(notices []notice, f checkFlags, s std) {
	for _, n := range notices {
		report.Warnings = append(report.Warnings, n.String())
		if f.asJSON {
			continue
		}
		fmt.Fprintf(s.err, "warning: %s\n", n.text)
		if n.remedy != "" {
			fmt.Fprintf(s.err, "   %s\n", n.remedy)
		}
	}
}

// live gets a token for each credential and scope, logs in to the servers of
// sql:, and compares scopes with what clusters of Kusto say of themselves.
func (report *checkReport) live(ctx context.Context, e *engine, f checkFlags, s std) {
	sc := newScreen(s)
	began, done := func(question) {}, func(_ question, row tokenJSON) {
		report.Tokens = append(report.Tokens, row)
		report.OK = report.OK && row.OK
	}
	if !f.asJSON {
		keep := done
		began = func(q question) { sc.progress(fmt.Sprintf("getting a token: %s …", q)) }
		done = func(q question, row tokenJSON) {
			keep(q, row)
			sc.result(row.OK, row.String())
		}
	}
	newProber(e).run(ctx, began, done)
	report.logins(ctx, e, f, sc)
	sc.done()
	report.warn(checkKusto(ctx, e), f, s)
}

// logins logs in to each server of sql:.
func (report *checkReport) logins(ctx context.Context, e *engine, f checkFlags, sc *screen) {
	inTurn(logins(e.gate.Load().Table()), func(l login) loginJSON {
		if !f.asJSON {
			sc.progress(fmt.Sprintf("logging in: %s …", l))
		}
		return e.logIn(ctx, l)
	}, func(_ login, row loginJSON) {
		report.Logins = append(report.Logins, row)
		report.OK = report.OK && row.OK
		if !f.asJSON {
			sc.result(row.OK, row.String())
		}
	})
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
	return newEngine(file, log, nil)
}

func routeRow(r *routes.Route) routeJSON {
	row := routeJSON{Name: r.Name, Mount: r.Mount, Credential: r.Credential.Name, Scope: r.Scope}
	for _, h := range r.Hosts {
		row.Hosts = append(row.Hosts, h.String())
	}
	if r.Upstream != nil {
		row.Upstream = r.Upstream.String()
	}
	row.Callers = namesOf(r.Callers)
	for _, rule := range r.Allow {
		row.Rules = append(row.Rules, ruleText(rule))
	}
	if r.Report {
		row.Mode = "report"
	}
	row.Upgrade, row.Rewrite = r.Upgrade, r.RewriteLinks
	if r.Placeholder {
		row.HandOut = "placeholder"
	}
	return row
}

// ruleText is a rule in one line.
func ruleText(rule routes.Rule) string {
	methods, paths := "any method", make([]string, 0, len(rule.Paths))
	if rule.Methods != nil {
		methods = strings.Join(rule.Methods, ",")
	}
	for _, p := range rule.Paths {
		paths = append(paths, p.String())
	}
	if len(paths) == 0 {
		paths = append(paths, "any path")
	}
	return methods + " " + strings.Join(paths, " ")
}

// proofsOf says by what a caller is known.
func proofsOf(c *routes.Caller) []string {
	var by []string
	if n := len(c.APIKeys); n > 1 {
		by = append(by, fmt.Sprintf("%d API keys", n))
	} else if n == 1 {
		by = append(by, "API key")
	}
	if c.CertificateURI != "" {
		by = append(by, "certificate "+c.CertificateURI)
	}
	if c.CertificateDNS != "" {
		by = append(by, "certificate "+c.CertificateDNS)
	}
	if c.JWT != nil {
		by = append(by, "JWT of "+c.JWT.Issuer)
	}
	if c.UID != nil {
		by = append(by, fmt.Sprintf("uid %d", *c.UID))
	}
	return by
}

func hostList(r *routes.Route) string { return strings.Join(routeRow(r).Hosts, " ") }

func printRoutes(w io.Writer, table *routes.Table) {
	tw := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	if len(table.Routes) > 0 {
		fmt.Fprintln(tw, "ROUTE\tHOSTS\tMOUNT\tCREDENTIAL\tSCOPE\tCALLERS\tRULES")
	}
	for _, r := range table.Routes {
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", r.Name, hostList(r), orDash(r.Mount), r.Credential.Name, orDash(r.Scope),
			callersOf(table, r.Callers), rulesOf(r))
	}
	printDoors(tw, table)
	if table.Callers != nil {
		fmt.Fprintln(tw, "\nCALLER\tKNOWN BY\tTENANTS")
		for _, c := range table.Callers {
			fmt.Fprintf(tw, "%s\t%s\t%s\n", c.Name, strings.Join(proofsOf(c), ", "), orDash(strings.Join(c.Tenants, " ")))
		}
	}
	printBeyond(tw, table)
	_ = tw.Flush() // as with any print to a terminal
}

// callersOf says in a word or few who may use what admits those.
func callersOf(table *routes.Table, those []*routes.Caller) string {
	switch {
	case table.Callers == nil:
		return "anyone"
	case those == nil:
		return "all"
	}
	return strings.Join(namesOf(those), " ")
}

func namesOf(callers []*routes.Caller) (names []string) {
	for _, c := range callers {
		names = append(names, c.Name)
	}
	return names
}

func rulesOf(r *routes.Route) string {
	switch n := len(r.Allow); {
	case r.Allow == nil:
		return "-"
	case r.Report:
		return fmt.Sprintf("%d, report", n)
	default:
		return fmt.Sprint(n)
	}
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func printJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}
