package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/seed-13b04e61/gateway/proxy"
)

// errorsReference is errors.md: the table of proxy.Statuses, and under each code
// the words of every place in the code that refuses with it.
func errorsReference(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	b.WriteString(generated + "# Errors\n\nWhat a caller gets when the gateway itself refuses: `application/problem+json`, `Gateway-Error: CODE` and\n" +
		"`Proxy-Status`. Upstream's own answers pass as they are and never carry `Gateway-Error`. The problem's `type` leads here.\n\n" +
		"Cause and next step have the same words wherever they are read: `detail` and `remedy` of the answer; `cause` and `remedy` of\n" +
		"the log's line, of `/api/requests`, of the [live page](../page.md), and of `gateway explain`, which names the line of routes.yaml\n" +
		"too. `remedy` is the same to all. The operator's `cause` begins with the caller's `detail`, and may go on behind a colon with\n" +
		"what is not for callers: why a credential was not believed, for whom a route is, what rules have a path, what the token endpoint\n" +
		"or the network said. The words of those two are not among the lists below.\n\n| code | status | `Proxy-Status` error | when |\n|---|---|---|---|\n")
	all := proxy.Statuses()
	for _, a := range all {
		status := strconv.Itoa(a.Status)
		if a.Reverse != 0 {
			status += fmt.Sprintf(", reverse door %d", a.Reverse)
		}
		fmt.Fprintf(&b, "| [`%s`](#%s) | %s | `%s` | %s |\n", a.Code, a.Code, status, a.ProxyStatus, a.When)
	}
	said := refusalWords(t)
	for _, a := range all {
		fmt.Fprintf(&b, "\n## %s\n\n%s: %s.\n\nDo: %s.\n", a.Code, a.Title, strings.TrimSuffix(a.When, "."), a.Remedy)
		list := said[string(a.Code)]
		if len(list) == 0 {
			continue
		}
		b.WriteString("\n| what it says | what to do |\n|---|---|\n")
		for _, w := range list {
			fmt.Fprintf(&b, "| %s | %s |\n", cell(w.detail), cell(orElse(w.remedy, a.Remedy)))
		}
	}
	return b.String()
}

func orElse(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

// cell is text in a table of Markdown.
func cell(s string) string {
	return strings.NewReplacer("|", "\\|", "<", "&lt;", ">", "&gt;", "*", "\\*").Replace(s)
}

// refusalText is what one place in the code says; … stands for what a call fills in.
type refusalText struct{ where, detail, remedy string }

// refusalWords reads the refusals of gate and proxy, by code.
func refusalWords(t *testing.T) map[string][]refusalText {
	t.Helper()
	all := map[string][]refusalText{}
	for _, dir := range []string{"gate", "proxy"} {
		paths, err := filepath.Glob(filepath.Join("..", "..", dir, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		files, codes := []*ast.File{}, map[string]string{}
		for _, path := range paths {
			if strings.HasSuffix(path, "_test.go") {
				continue
			}
			f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			files = append(files, f)
		}
		for _, a := range proxy.Statuses() { // CallerUnknown is caller_unknown
			codes[strings.ReplaceAll(string(a.Code), "_", "")] = string(a.Code)
		}
		for _, f := range files {
			ast.Inspect(f, func(n ast.Node) bool {
				lit, ok := n.(*ast.CompositeLit)
				if !ok || !slices.Contains([]string{"refusal", "Refusal"}, typeName(lit.Type)) {
					return true
				}
				words := map[string]ast.Expr{}
				for _, e := range lit.Elts {
					if kv, ok := e.(*ast.KeyValueExpr); ok {
						words[strings.ToLower(kv.Key.(*ast.Ident).Name)] = kv.Value
					}
				}
				code := codes[strings.ToLower(typeName(words["code"]))]
				if code == "" {
					return true // taken over from another refusal
				}
				detail := textOf(words["detail"])
				if detail == "" || detail == "…" {
					detail = orElse(textOf(words["cause"]), "…")
				}
				w := refusalText{f.Name.Name, detail, textOf(words["remedy"])}
				if w.detail != "…" && !slices.Contains(all[code], w) {
					all[code] = append(all[code], w)
				}
				return true
			})
		}
	}
	return all
}

func typeName(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name
	case *ast.SelectorExpr:
		return e.Sel.Name
	}
	return ""
}

var verb = regexp.MustCompile(`%[+#0-9]*[a-z]`)

// textOf is an expression's text, as far as the code has it.
func textOf(e ast.Expr) string {
	switch e := e.(type) {
	case nil:
		return ""
	case *ast.BasicLit:
		if s, err := strconv.Unquote(e.Value); err == nil {
			return s
		}
	case *ast.BinaryExpr:
		return textOf(e.X) + textOf(e.Y)
	case *ast.CallExpr:
		if typeName(e.Fun) == "Sprintf" {
			return verb.ReplaceAllString(textOf(e.Args[0]), "…")
		}
	}
	return "…"
}

// mostSaid is how many characters a cause or remedy may have.
const mostSaid = 300

func TestEveryRefusalEndsInCauseAndRemedy(t *testing.T) {
	said := refusalWords(t)
	unfinished := regexp.MustCompile(`(?i)\b(todo|tbd|fixme|xxx|lorem)\b|%!|%[a-z]\b`)
	check := func(where, what, text string) {
		t.Helper()
		if text == "" || len([]rune(text)) > mostSaid || unfinished.MatchString(text) || strings.TrimSpace(text) != text {
			t.Errorf("%s: the %s is %q; want words, %d characters at most", where, what, text, mostSaid)
		}
	}
	known := map[string]bool{}
	for _, a := range proxy.Statuses() {
		known[string(a.Code)] = true
		check(string(a.Code), "title", a.Title)
		check(string(a.Code), "cause", a.When)
		check(string(a.Code), "remedy", a.Remedy)
		for _, w := range said[string(a.Code)] {
			check(string(a.Code)+" of "+w.where, "cause", w.detail)
			check(string(a.Code)+" of "+w.where, "remedy", orElse(w.remedy, a.Remedy))
		}
	}
	for _, code := range []string{
		"caller_unknown", "caller_forbidden", "rule_denied", "tenant_denied", "browser_refused", "egress_denied", "route_unknown", "misdirected",
		"bad_request", "method_refused", "too_large", "uri_too_long", "headers_too_large", "slow_request", "rate_limited", "overloaded",
		"token_refused", "token_unavailable", "upstream_unreachable", "upstream_tls", "upstream_proxy", "token_reflected", "loop", "timeout", "not_supported", "internal",
	} {
		if !known[code] {
			t.Errorf("%s is no code of the table", code)
		}
		// What the token endpoint and the network said has words of its own, of
		// the packages authority and egress.
		if len(said[code]) == 0 && code != "token_refused" && code != "timeout" {
			t.Errorf("no refusal with the code %s was found in the code", code)
		}
	}
}
