package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/seed-13b04e61/gateway/admin"
	"github.com/seed-13b04e61/gateway/audit"
	"github.com/seed-13b04e61/gateway/gate"
)

// printExplanation prints x for a person: verdict and next step first, what was
// passed over last.
func printExplanation(out io.Writer, x admin.Explanation) error {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	caller := x.Caller
	switch {
	case x.Code == string(gate.CallerUnknown):
		caller = "unknown"
	case caller == "":
		caller = "anyone who can reach the listener"
	}
	switch {
	case !x.Allowed:
		fmt.Fprintf(w, "door\t%s\ncaller\t%s\nallowed\tno\t%s\nwhy\t%s\ndo\t%s\n", x.Door, caller, x.Code, x.Cause, x.Remedy)
		if x.Hint != "" {
			fmt.Fprintf(w, "here\t%s\n", x.Hint)
		}
		if x.Route != "" {
			fmt.Fprintf(w, "%s\t%s\t%s\n", routeWord(x), x.Route, x.At)
		}
	case x.Door == string(audit.SQL):
		printLogin(w, x, caller)
	case x.Way != "":
		printWay(w, x, caller)
	default:
		printPass(w, x, caller)
	}
	printGrounds(w, x)
	return w.Flush()
}

func routeWord(x admin.Explanation) string {
	if x.Door == string(audit.SQL) {
		return "sql door"
	}
	return "route"
}

func printPass(w io.Writer, x admin.Explanation, caller string) {
	replay := "no second try"
	if x.Replay > 0 {
		replay = fmt.Sprintf("one more try with a fresh token; bodies up to %d bytes are kept for it", x.Replay)
	}
	fmt.Fprintf(w, "door\t%s\nallowed\tyes\ncaller\t%s\nroute\t%s\t%s\n", x.Door, caller, x.Route, x.At)
	if x.Rule != "" {
		fmt.Fprintf(w, "rule\t%s\n", x.Rule)
	}
	if x.WouldDeny != "" {
		fmt.Fprintf(w, "would deny\t%s\tmode: report lets it pass\n", x.WouldDeny)
	}
	if x.Batch {
		fmt.Fprintf(w, "batch\teach call inside is judged by itself\n")
	}
	fmt.Fprintf(w, "credential\t%s\n", x.Credential)
	if x.Chosen {
		fmt.Fprintf(w, "tenant\t%s\tchosen by the call\n", x.Tenant)
	}
	if len(x.Fallback) > 0 {
		fmt.Fprintf(w, "if refused\t%s\n", strings.Join(x.Fallback, ", then "))
	}
	fmt.Fprintf(w, "token from\t%s\nscope\t%s\n", x.Endpoint, orDash(x.Scope))
	if x.Second != "" {
		fmt.Fprintf(w, "and for\t%s\n", x.Second)
	}
	fmt.Fprintf(w, "sends to\t%s\nas\t%s\non 401\t%s\n", x.Upstream, x.URL, replay)
}

// printWay prints where no route has more to say.
func printWay(w io.Writer, x admin.Explanation, caller string) {
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

// printLogin prints where a login leads.
func printLogin(w io.Writer, x admin.Explanation, caller string) {
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

// printGrounds prints the line that decided, and what did not.
func printGrounds(w io.Writer, x admin.Explanation) {
	at := x.Decided.At
	if at == "" {
		at = "no line of the file"
	}
	fmt.Fprintf(w, "decided by\t%s", at)
	if x.Decided.Line != "" {
		fmt.Fprintf(w, "\t%s", x.Decided.Line)
	}
	fmt.Fprintf(w, "\n\t%s\n", x.Decided.Why)
	if x.Nearest != nil {
		fmt.Fprintf(w, "nearest\t%s\t%s\n\t%s\n", x.Nearest.At, x.Nearest.Line, x.Nearest.Why)
	}
	label := "tried"
	for _, g := range x.Tried {
		fmt.Fprintf(w, "%s\t%s\t%s\n", label, g.At, g.Why)
		label = ""
	}
	printMore(w, x.MoreTried, "rules")
	printWays(w, "not taken", x.PassedOver, x.MorePassedOver)
	printWays(w, "also fits", x.Also, x.MoreAlso)
}

func printWays(w io.Writer, label string, list []admin.ExplainedWay, more int) {
	for _, p := range list {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", label, p.Route, p.At, p.Why)
		label = ""
	}
	printMore(w, more, "routes")
}

func printMore(w io.Writer, n int, what string) {
	if n > 0 {
		fmt.Fprintf(w, "\tand %d more %s\n", n, what)
	}
}
