package gate_test

import (
	"context"
	"errors"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/seed-13b04e61/gateway/audit"
	"github.com/seed-13b04e61/gateway/gate"
	"github.com/seed-13b04e61/gateway/routes"
	"github.com/seed-13b04e61/gateway/tokens"
)

// KeyFor is of a directory that serves other tenants.
func (k keyed) KeyFor(c *routes.Credential, scope, tenant string) tokens.Key {
	key := k.Key(c, scope)
	key.Tenant = tenant
	return key
}

// oneTenant is a directory that does not.
type oneTenant struct{}

func (oneTenant) Key(c *routes.Credential, scope string) tokens.Key { return keyed{}.Key(c, scope) }

const head = `version: 1
credentials:
  default: {tenant_id: contoso.com, client_id: gw, client_secret: {env: UNUSED}}
  other: {token_endpoint: "https://login.test/token", client_id: gw, client_secret: {env: UNUSED}}
`

// world is a table of which a test says what the parser would.
type world struct {
	testing.TB
	*routes.Table
}

func newWorld(t testing.TB, list string) world {
	t.Helper()
	table, err := routes.Parse("routes.yaml", []byte(head+"routes:\n"+list), os.LookupEnv)
	if err != nil {
		t.Fatal(err)
	}
	return world{t, table}
}

func (w world) route(name string) *routes.Route {
	w.Helper()
	for _, r := range w.Routes {
		if r.Name == name {
			return r
		}
	}
	w.Fatalf("no route %s", name)
	return nil
}

// callers adds callers, and returns them.
func (w world) callers(names ...string) []*routes.Caller {
	var added []*routes.Caller
	for _, name := range names {
		added = append(added, &routes.Caller{Name: name})
	}
	w.Callers = append(w.Callers, added...)
	return added
}

func (w world) caller(name string) *routes.Caller {
	for _, c := range w.Callers {
		if c.Name == name {
			return c
		}
	}
	return nil
}

func patterns(t testing.TB, texts ...string) (list []routes.Pattern) {
	t.Helper()
	for _, text := range texts {
		p, err := routes.ParsePattern(text)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, p)
	}
	return list
}

// rule reads "GET,POST /a/** /b"; "*" stands for any method.
func rule(t testing.TB, line int, text string) routes.Rule {
	t.Helper()
	fields := strings.Fields(text)
	r := routes.Rule{Line: line, Paths: patterns(t, fields[1:]...)}
	if fields[0] != "*" {
		r.Methods = strings.Split(fields[0], ",")
	}
	return r
}

// onForward is a call through the forward door: "GET host/path?query".
func onForward(t testing.TB, text string) gate.Target {
	t.Helper()
	method, rest, _ := strings.Cut(text, " ")
	at := strings.IndexAny(rest, "/?")
	a, err := routes.ParseAuthority(rest[:at], 443)
	if err != nil {
		t.Fatal(err)
	}
	path, query, _ := strings.Cut(rest[at:], "?")
	return gate.Target{Door: audit.Forward, Authority: a, Method: method, Path: path, Query: query, Header: http.Header{"Content-Type": {"application/json"}}}
}

// onReverse is a call through the reverse door: "GET /mount/path?query".
func onReverse(text string) gate.Target {
	method, rest, _ := strings.Cut(text, " ")
	path, query, _ := strings.Cut(rest, "?")
	return gate.Target{Door: audit.Reverse, Method: method, Path: path, Query: query, Header: http.Header{"Content-Type": {"application/json"}}}
}

// codeOf is that of a refusal; "" for none.
func codeOf(t testing.TB, err error) gate.Code {
	t.Helper()
	if err == nil {
		return ""
	}
	var refusal *gate.Refusal
	if !errors.As(err, &refusal) {
		t.Fatalf("error is a %T: %v; want *gate.Refusal", err, err)
	}
	if refusal.Detail == "" {
		t.Errorf("%s has no detail", refusal.Code)
	}
	return refusal.Code
}

// noted is Admit with the event that it stamps.
func noted(t testing.TB, g *gate.Gate, target gate.Target) (gate.Pass, *audit.Event, gate.Code) {
	t.Helper()
	e := &audit.Event{}
	pass, err := g.Admit(audit.With(context.Background(), e), target)
	return pass, e, codeOf(t, err)
}

// stampable is a context with an event.
func stampable(t testing.TB) (context.Context, *audit.Event) {
	t.Helper()
	e := &audit.Event{}
	return audit.With(t.Context(), e), e
}
