package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/seed-13b04e61/gateway/audit"
	"go.yaml.in/yaml/v4"
)

// expression is a query of deploy/, and what is said beside it: templates that
// speak of labels.
type expression struct {
	where, query string
	said         []string
}

// TestDashboardAndAlertsUseMetricsThatExist goes by the table that the metrics
// are made from: a name or label that is not there is an alert that never fires.
func TestDashboardAndAlertsUseMetricsThatExist(t *testing.T) {
	all := append(alertExpressions(t), dashboardExpressions(t)...)
	if len(all) < 50 {
		t.Errorf("only %d expressions were found", len(all))
	}
	used := map[string]bool{}
	for _, e := range all {
		for _, mistake := range mistakesOf(e, used) {
			t.Errorf("%s: %s\n   in %s", e.where, mistake, e.query)
		}
	}
	for _, s := range audit.AllSeries() {
		if !used[s.Name] {
			t.Errorf("%s is in no panel and no alert", s.Name)
		}
	}
}

func TestExpressionsOfMetricsThatDoNotExistAreFound(t *testing.T) {
	for name, e := range map[string]expression{
		"a name":                  {query: `rate(gateway_request_total[5m])`},
		"a label":                 {query: `gateway_requests_total{path="/x"}`},
		"a label after one":       {query: `gateway_requests_total{route="a,b", tenant="x"}`},
		"a label to group by":     {query: `sum by (tenant) (gateway_requests_total)`},
		"a label to match on":     {query: `gateway_credential_ready and on (scope) gateway_credential_fallback`},
		"buckets of a counter":    {query: `rate(gateway_requests_total_bucket[5m])`},
		"a histogram by its name": {query: `rate(gateway_upstream_duration_seconds[5m])`},
		"a label in words":        {query: `gateway_credential_ready`, said: []string{"{{ $labels.route }}"}},
		"a label in a legend":     {query: `gateway_credential_ready`, said: []string{"{{route}}"}},
	} {
		if mistakesOf(e, map[string]bool{}) == nil {
			t.Errorf("%s: %s was taken", name, e.query)
		}
	}
}

// mistakesOf are the names and labels of e that no metric has. The metrics that
// it uses are noted in used.
func mistakesOf(e expression, used map[string]bool) (mistakes []string) {
	metric := regexp.MustCompile(`\b(gateway_[a-z0-9_]+)(?:\{([^}]*)\})?`)
	matcher := regexp.MustCompile(`([a-zA-Z_]+)\s*(?:=~|!~|!=|=)\s*"[^"]*"`)
	known := []string{"job", "instance"}
	for _, m := range metric.FindAllStringSubmatch(e.query, -1) {
		labels, ok := labelsOf(m[1], used)
		if !ok {
			mistakes = append(mistakes, fmt.Sprintf("there is no metric %s", m[1]))
			continue
		}
		known = append(known, labels...)
		for _, l := range matcher.FindAllStringSubmatch(m[2], -1) {
			if !slices.Contains(append(labels, "job", "instance"), l[1]) {
				mistakes = append(mistakes, fmt.Sprintf("%s has no label %s", m[1], l[1]))
			}
		}
	}
	if strings.Contains(e.query, "gateway:token_requests:") { // recorded in alerts.yml
		known = append(known, "credential", "result")
	}
	for _, group := range regexp.MustCompile(`\b(?:by|on|without|ignoring)\s*\(([^)]*)\)`).FindAllStringSubmatch(e.query, -1) {
		for _, l := range strings.Split(group[1], ",") {
			if l = strings.TrimSpace(l); !slices.Contains(known, l) {
				mistakes = append(mistakes, fmt.Sprintf("nothing in it has the label %s", l))
			}
		}
	}
	for _, text := range e.said {
		for _, l := range regexp.MustCompile(`\$labels\.([a-z_]+)|\{\{([a-z_]+)\}\}`).FindAllStringSubmatch(text, -1) {
			if !slices.Contains(known, l[1]+l[2]) {
				mistakes = append(mistakes, fmt.Sprintf("its words speak of the label %s", l[1]+l[2]))
			}
		}
	}
	return mistakes
}

// labelsOf are the labels of a series by the name that it has in a query.
func labelsOf(name string, used map[string]bool) (labels []string, ok bool) {
	for _, s := range audit.AllSeries() {
		rest, is := strings.CutPrefix(name, s.Name)
		switch {
		case !is:
			continue
		case s.Kind != "histogram" && rest == "", s.Kind == "histogram" && (rest == "_sum" || rest == "_count"):
			used[s.Name] = true
			return slices.Clone(s.Labels), true
		case s.Kind == "histogram" && rest == "_bucket":
			used[s.Name] = true
			return append(slices.Clone(s.Labels), "le"), true
		}
	}
	return nil, false
}

// runbook is where the runbook_url of alerts leads, to the section of each.
const runbook = "https://github.com/seed-13b04e61/gateway/blob/main/docs/alerts.md#"

func alertExpressions(t *testing.T) (all []expression) {
	t.Helper()
	var file struct {
		Groups []struct {
			Rules []struct {
				Alert, Record, Expr string
				Labels, Annotations map[string]string
			}
		}
	}
	if err := yaml.Unmarshal(deployed(t, "prometheus", "alerts.yml"), &file); err != nil {
		t.Fatal(err)
	}
	var sections []string // of the runbook
	for _, g := range file.Groups {
		for _, r := range g.Rules {
			all = append(all, expression{"alert " + r.Alert + r.Record, r.Expr, []string{r.Annotations["summary"], r.Annotations["description"]}})
			if r.Alert != "" && (r.Annotations["summary"] == "" || r.Annotations["description"] == "" || r.Labels["severity"] == "") {
				t.Errorf("alert %s lacks a summary, a description or a severity", r.Alert)
			}
			if r.Alert != "" {
				sections = append(sections, r.Alert)
				if want := runbook + strings.ToLower(r.Alert); r.Annotations["runbook_url"] != want {
					t.Errorf("runbook_url of alert %s is %q, want %q", r.Alert, r.Annotations["runbook_url"], want)
				}
			}
		}
	}
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "alerts.md"))
	if err != nil {
		t.Fatal(err)
	}
	var there []string
	for _, m := range regexp.MustCompile(`(?m)^## (.+)$`).FindAllStringSubmatch(string(text), -1) {
		there = append(there, m[1])
	}
	if !slices.Equal(there, sections) {
		t.Errorf("docs/alerts.md has the sections\n%q\nwant one for each alert, in their order:\n%q", there, sections)
	}
	return all
}

func dashboardExpressions(t *testing.T) (all []expression) {
	t.Helper()
	var board struct {
		Panels []struct {
			ID      int
			Title   string
			GridPos struct{ H, W, X, Y int }
			Targets []struct{ Expr, LegendFormat string }
		}
	}
	if err := json.Unmarshal(deployed(t, "grafana", "dashboard.json"), &board); err != nil {
		t.Fatal(err)
	}
	taken := map[[2]int]string{}
	for i, p := range board.Panels {
		if p.ID != i+1 {
			t.Errorf("panel %q has id %d, want %d", p.Title, p.ID, i+1)
		}
		for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
			for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
				if other := taken[[2]int{x, y}]; other != "" || x >= 24 {
					t.Fatalf("panel %q lies over %q or beyond the edge", p.Title, other)
				}
				taken[[2]int{x, y}] = p.Title
			}
		}
		for _, target := range p.Targets {
			all = append(all, expression{"panel " + p.Title, target.Expr, []string{target.LegendFormat}})
		}
	}
	return all
}

// deployed is a file of deploy/.
func deployed(t *testing.T, path ...string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(append([]string{"..", "..", "deploy"}, path...)...))
	if err != nil {
		t.Fatal(err)
	}
	return b
}
