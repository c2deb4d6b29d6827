package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"
)

// healthy is a gateway without trouble, with ordinary traffic on all its doors.
type healthy struct {
	*sqlArena
	name string
}

func startHealthy(t *testing.T, p *prometheus) *healthy {
	t.Helper()
	h := &healthy{startSQLArena(t, "", "intercept: {ca_dir: ca}\n"), "well"}
	p.watch(t, h.name, h.gateway)
	return h
}

// begin has clients at each door, some of which ask for what there is not.
func (h *healthy) begin(t *testing.T) {
	t.Helper()
	const api = "graph.microsoft.com/v1.0/users"
	by := func(client *http.Client, address string) func(context.Context) {
		return func(ctx context.Context) { _, _ = call(ctx, client, request{url: address}) }
	}
	forward := newClient(&url.URL{Scheme: "http", Host: h.proxy})
	keep(t, 100*time.Millisecond, h.asks("/graph/v1.0/users"), by(forward, "http://"+api), by(h.tunnelClient(t, false), "https://"+api), by(h.tunnelClient(t, true), "https://"+api))
	keep(t, 5*time.Second, h.asks("/nowhere/"), h.asks("/graph/v1.0/no-such-thing"), h.logins("any", "any"))
	db := sqlPool(t, h.addr, "any", "any", "encrypt=disable")
	keep(t, 200*time.Millisecond, func(ctx context.Context) { _, _ = whoever(ctx, db) })
}

// judge checks that no alert has fired for h, that promtool finds nothing to say
// of its metrics, and that each panel of the dashboard shows something.
func (h *healthy) judge(t *testing.T, p *prometheus) {
	t.Run("the healthy gateway has no alert", func(t *testing.T) {
		for _, fired := range p.everFired(t, h.name) {
			t.Errorf("%s fired", fired)
		}
		for _, door := range []string{"reverse", "forward", "tunnel"} {
			if n := h.metric(t, "gateway_requests_total", `door="`+door+`"`, `code="200"`); n < 50 {
				t.Errorf("%v calls by door %s were answered with 200; that is no traffic", n, door)
			}
		}
		if n := h.metric(t, "gateway_sql_logins_total", `result="success"`); n < 5 {
			t.Errorf("%v logins; that is no traffic", n)
		}
	})
	t.Run("promtool check metrics", func(t *testing.T) {
		cmd := exec.CommandContext(t.Context(), "promtool", "check", "metrics", "--extended")
		cmd.Stdin = strings.NewReader(must(t, h.client, request{url: "http://" + h.admin + "/metrics"}).body)
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(out), "gateway_requests_total") {
			t.Errorf("promtool check metrics: %v\n%s", err, out)
		}
	})
	t.Run("the dashboard", func(t *testing.T) { p.showsBoard(t) })
}

// panel is what matters here of a panel of the dashboard.
type panel struct {
	Title   string
	Targets []struct{ Expr string }
}

// showsBoard has Prometheus answer each query of the dashboard, over all
// instances, with at least one number.
func (p *prometheus) showsBoard(t *testing.T) {
	t.Helper()
	text, err := os.ReadFile("../deploy/grafana/dashboard.json")
	if err != nil {
		t.Fatal(err)
	}
	var board struct {
		Panels     []panel
		Templating struct {
			List []struct {
				Name, Type string
				Definition string
			}
		}
	}
	if err := json.Unmarshal(text, &board); err != nil {
		t.Fatal(err)
	}
	variables := strings.NewReplacer("$__rate_interval", "5m", "$job", "gateway", "$instance", ".*", "$route", ".*")
	asked := 0
	for _, of := range board.Panels {
		for _, target := range of.Targets {
			asked++
			if !hasNumber(p.query(t, variables.Replace(target.Expr))) {
				t.Errorf("panel %q shows nothing: %s", of.Title, target.Expr)
			}
		}
	}
	for _, v := range board.Templating.List {
		if v.Type != "query" {
			continue
		}
		inner, label, _ := strings.Cut(strings.TrimSuffix(strings.TrimPrefix(v.Definition, "label_values("), ")"), ", ")
		if len(p.query(t, fmt.Sprintf("count by (%s) (%s)", label, variables.Replace(inner)))) == 0 {
			t.Errorf("variable %s has no value: %s", v.Name, v.Definition)
		}
	}
	if asked < 30 {
		t.Errorf("%d queries in the dashboard", asked)
	}
}

// hasNumber tells whether one of samples has a value that is a number.
func hasNumber(samples []sample) bool {
	for _, s := range samples {
		text, _ := s.Value[1].(string)
		if v, err := strconv.ParseFloat(text, 64); err == nil && v == v {
			return true
		}
	}
	return false
}
