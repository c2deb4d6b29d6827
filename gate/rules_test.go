package gate_test

import (
	"strings"
	"testing"

	"github.com/seed-13b04e61/gateway/gate"
)

const fourRoutes = `  - preset: graph
  - {name: api, hosts: [api.test], scope: api/.default, credential: other}
  - {name: open, hosts: [open.test], scope: open/.default, credential: other}
  - {name: bound, hosts: [bound.test], scope: bound/.default, credential: other}
`

// ruled has a route with rules whose paths ignore case, one whose do not, one
// without rules, and one with paths alone.
func ruled(t testing.TB) world {
	t.Helper()
	w := newWorld(t, fourRoutes)
	graph, api := w.route("graph"), w.route("api")
	graph.FoldPaths = true
	graph.Allow = append(graph.Allow, rule(t, 11, "GET /v1.0/users/** /v1.0/groups/{id}/members"), rule(t, 12, "PATCH,DELETE /v1.0/users/{id}"))
	api.Allow = append(api.Allow, rule(t, 21, "GET,HEAD /orders/**"), rule(t, 22, "POST /orders /jobs/*/run"), rule(t, 23, "* /any/**"), rule(t, 24, "POST /search/batch /über/{x}"))
	w.route("bound").Paths = patterns(t, "/data/**", "/deep/batch", "/deep/$batch")
	return w
}

func TestRulesJudgeEveryReadingOfAPath(t *testing.T) {
	g := gate.New(ruled(t).Table, keyed{})
	for _, tt := range []struct {
		call string
		want gate.Code
		line int
	}{
		// What the rules name, in spellings of one reading.
		{"GET graph.microsoft.com/v1.0/users", "", 11},
		{"GET graph.microsoft.com/v1.0/users/", "", 11},
		{"GET graph.microsoft.com/v1.0/users/1", "", 11},
		{"GET graph.microsoft.com/v1.0/users/1/messages/2", "", 11},
		{"GET graph.microsoft.com/v1.0/users?$select=id&$top=5", "", 11},
		{"GET graph.microsoft.com/V1.0/USERS/1", "", 11},
		{"GET graph.microsoft.com/v1.0/%75sers/1", "", 11},
		{"GET graph.microsoft.com/v1%2e0/users", "", 11},
		{"GET graph.microsoft.com/v1%2E0/uSERS", "", 11},
		{"GET graph.microsoft.com/v1.0/users/a@b.test", "", 11},
		{"GET graph.microsoft.com/v1.0/users/a%40b.test", "", 11},
		{"GET graph.microsoft.com/v1.0/users('x')", "rule_denied", 0},
		{"GET graph.microsoft.com/v1.0/groups/1/members", "", 11},
		{"GET graph.microsoft.com/v1.0/Groups/1/Members/", "", 11},
		{"PATCH graph.microsoft.com/v1.0/users/1", "", 12},
		{"DELETE graph.microsoft.com/v1.0/users/1", "", 12},
		{"GET api.test/orders", "", 21},
		{"HEAD api.test/orders/1/lines", "", 21},
		{"POST api.test/orders", "", 22},
		{"POST api.test/jobs/7/run", "", 22},
		{"PUT api.test/any", "", 23},
		{"BREW api.test/any/thing", "", 23},
		{"POST api.test/%C3%BCber/1", "", 24},
		{"POST api.test/über/1", "", 24},
		{"GET api.test/orders/a%20b", "", 21},
		{"GET api.test/orders/100%25", "", 21},
		{"GET api.test/orders/...", "", 21},
		{"GET api.test/orders/x;v=1", "", 21},
		// Other methods, of whatever spelling.
		{"POST graph.microsoft.com/v1.0/users", "rule_denied", 0},
		{"PATCH graph.microsoft.com/v1.0/users", "rule_denied", 0},
		{"PATCH graph.microsoft.com/v1.0/users/1/manager", "rule_denied", 0},
		{"PUT graph.microsoft.com/v1.0/users/1", "rule_denied", 0},
		{"get graph.microsoft.com/v1.0/users", "rule_denied", 0},
		{"Get graph.microsoft.com/v1.0/users", "rule_denied", 0},
		{"GETT graph.microsoft.com/v1.0/users", "rule_denied", 0},
		{"OPTIONS graph.microsoft.com/v1.0/users", "rule_denied", 0},
		{"HEAD graph.microsoft.com/v1.0/users", "rule_denied", 0},
		{" graph.microsoft.com/v1.0/users", "rule_denied", 0},
		{"DELETE api.test/orders", "rule_denied", 0},
		{"DELETE api.test/orders/1", "rule_denied", 0},
		{"POST api.test/orders/1", "rule_denied", 0},
		// Other paths.
		{"GET graph.microsoft.com/", "rule_denied", 0},
		{"GET graph.microsoft.com/v1.0", "rule_denied", 0},
		{"GET graph.microsoft.com/beta/users", "rule_denied", 0},
		{"GET graph.microsoft.com/v1.0/usersx", "rule_denied", 0},
		{"GET graph.microsoft.com/v1.0/groups", "rule_denied", 0},
		{"GET graph.microsoft.com/v1.0/groups/1", "rule_denied", 0},
		{"GET graph.microsoft.com/v1.0/groups/1/members/2", "rule_denied", 0},
		{"GET graph.microsoft.com/v1.0/groups/1/owners", "rule_denied", 0},
		{"GET graph.microsoft.com/v1.0/users;x=1", "rule_denied", 0},
		{"GET graph.microsoft.com/v1.0;x=1/users", "rule_denied", 0},
		{"GET graph.microsoft.com/v1.0/users.", "rule_denied", 0},
		{"GET graph.microsoft.com/v1.0/users%20", "rule_denied", 0},
		{"GET graph.microsoft.com/v1.0/%20users", "rule_denied", 0},
		{"GET graph.microsoft.com/v1.0./users", "rule_denied", 0},
		{"GET graph.microsoft.com/v1%2e0%2e/users", "rule_denied", 0},
		{"GET graph.microsoft.com/v1.0/u\u017fers", "rule_denied", 0},
		{"GET graph.microsoft.com/v1.0/u%C5%BFers", "rule_denied", 0},
		{"GET graph.microsoft.com/v1.0/\uff55sers", "rule_denied", 0},
		{"GET graph.microsoft.com/v1.0/users%E2%80%8B", "rule_denied", 0},
		{"GET api.test/ORDERS", "rule_denied", 0},
		{"GET api.test/Orders/1", "rule_denied", 0},
		{"GET api.test/%4frders", "rule_denied", 0},
		{"GET api.test/orders;v=1", "rule_denied", 0},
		{"GET api.test/orders%3bv=1", "rule_denied", 0},
		{"GET api.test/orders%20/1", "rule_denied", 0},
		{"GET api.test/order", "rule_denied", 0},
		{"GET api.test/orders1", "rule_denied", 0},
		{"POST api.test/jobs/run", "rule_denied", 0},
		{"POST api.test/jobs/7/8/run", "rule_denied", 0},
		{"GET api.test/%C3%BCber/1", "rule_denied", 0},
		{"POST api.test/u%CC%88ber/1", "rule_denied", 0},
		{"GET api.test/anything", "rule_denied", 0},
		// Paths of two readings.
		{"GET graph.microsoft.com/v1.0/users/../groups", "bad_request", 0},
		{"GET graph.microsoft.com/v1.0/users/%2e%2e/groups", "bad_request", 0},
		{"GET graph.microsoft.com/v1.0/users/%2E./groups", "bad_request", 0},
		{"GET graph.microsoft.com/v1.0/users/.%2e/groups", "bad_request", 0},
		{"GET graph.microsoft.com/v1.0/users/..;/groups", "bad_request", 0},
		{"GET graph.microsoft.com/v1.0/users/..;x=1/groups", "bad_request", 0},
		{"GET graph.microsoft.com/v1.0/users/..%3b/groups", "bad_request", 0},
		{"GET graph.microsoft.com/v1.0/users/%2e%2e%3bx/groups", "bad_request", 0},
		{"GET graph.microsoft.com/v1.0/users/.;/1", "bad_request", 0},
		{"GET graph.microsoft.com/v1.0/users/./1", "bad_request", 0},
		{"GET graph.microsoft.com/v1.0/users/..", "bad_request", 0},
		{"GET graph.microsoft.com/v1.0/users/.", "bad_request", 0},
		{"GET graph.microsoft.com//v1.0/users", "bad_request", 0},
		{"GET graph.microsoft.com/v1.0//users", "bad_request", 0},
		{"GET graph.microsoft.com/v1.0/users//", "bad_request", 0},
		{"GET graph.microsoft.com/v1.0/;x/users", "bad_request", 0},
		{"GET graph.microsoft.com/v1.0/users%2f1", "bad_request", 0},
		{"GET graph.microsoft.com/v1.0/users%2F..%2Fgroups", "bad_request", 0},
		{"GET graph.microsoft.com/v1.0%2fusers", "bad_request", 0},
		{"GET graph.microsoft.com/v1.0/users%252f1", "bad_request", 0},
		{"GET graph.microsoft.com/v1.0/users/%252e%252e/groups", "bad_request", 0},
		{"GET graph.microsoft.com/v1.0/%2575sers", "bad_request", 0},
		{"GET graph.microsoft.com/v1.0/users%25252f", "bad_request", 0},
		{`GET graph.microsoft.com/v1.0/users\..\groups`, "bad_request", 0},
		{"GET graph.microsoft.com/v1.0/users/..%5cgroups", "bad_request", 0},
		{"GET graph.microsoft.com/v1.0/users%5C1", "bad_request", 0},
		{"GET graph.microsoft.com/v1.0/users%00", "bad_request", 0},
		{"GET graph.microsoft.com/v1.0/users/%00/1", "bad_request", 0},
		{"GET graph.microsoft.com/v1.0/users%0d%0aX: y", "bad_request", 0},
		{"GET graph.microsoft.com/v1.0/users%09", "bad_request", 0},
		{"GET graph.microsoft.com/v1.0/users%7f", "bad_request", 0},
		{"GET graph.microsoft.com/v1.0/users%1f", "bad_request", 0},
		{"GET graph.microsoft.com/v1.0/users#x", "bad_request", 0},
		{"GET graph.microsoft.com/v1.0/users%23x", "bad_request", 0},
		{"GET graph.microsoft.com/v1.0/users%3fx", "bad_request", 0},
		{"GET graph.microsoft.com/v1.0/users%", "bad_request", 0},
		{"GET graph.microsoft.com/v1.0/users%zz", "bad_request", 0},
		{"GET graph.microsoft.com/v1.0/users%u0041", "bad_request", 0},
		{"GET graph.microsoft.com/v1.0/users/%C0%AE%C0%AE/groups", "bad_request", 0},
		{"GET graph.microsoft.com/v1.0/users%C0%AF", "bad_request", 0},
		{"GET graph.microsoft.com/v1.0/users/%ff", "bad_request", 0},
		{"GET graph.microsoft.com/v1.0/users/\xff", "bad_request", 0},
		{"GET graph.microsoft.com/v1.0/users/%ED%A0%80", "bad_request", 0},
		{"GET graph.microsoft.com/v1.0/users/a b", "bad_request", 0},
		{"GET api.test/any/../orders", "bad_request", 0},
		{"DELETE api.test/any/%2e%2e/orders/1", "bad_request", 0},
		{"DELETE api.test/any/..%2forders%2f1", "bad_request", 0},
		{"DELETE api.test//orders/1", "bad_request", 0},
		{"GET bound.test/data/../x", "bad_request", 0},
		{"GET bound.test/x/%2e%2e/data", "bad_request", 0},
		{"GET bound.test//", "bad_request", 0},
		// Without rules the bytes pass as they came.
		{"GET open.test/a/../b//c/%2e%2e;x/%252f%00?_method=DELETE&comp=batch", "", 0},
		{"POST open.test/$batch", "", 0},
		{"GET bound.test/data/1", "", 0},
		{"GET bound.test/data?_method=DELETE", "", 0},
		{"GET bound.test/Data/1", "egress_denied", 0},
		{"GET bound.test/other", "egress_denied", 0},
	} {
		target := onForward(t, tt.call)
		pass, event, code := noted(t, g, target)
		if code != tt.want || pass.Rule != tt.line || event.Rule != tt.line {
			t.Errorf("Admit(%s) = %q, rule %d, event's %d; want %q, %d", tt.call, code, pass.Rule, event.Rule, tt.want, tt.line)
		}
		if code == "" && pass.Path != target.Path {
			t.Errorf("Admit(%s): path %s, want the bytes that came", tt.call, pass.Path)
		}
		if tt.line != 0 && event.Template == "" {
			t.Errorf("Admit(%s): the event has no template", tt.call)
		}
	}
}

func TestBatchesDoNotBringCallsPastRules(t *testing.T) {
	g := gate.New(ruled(t).Table, keyed{})
	for call, want := range map[string]gate.Code{
		"POST graph.microsoft.com/v1.0/$batch":                      "batch",
		"POST graph.microsoft.com/v1.0/%24batch":                    "batch",
		"POST graph.microsoft.com/beta/$BATCH":                      "batch",
		"POST graph.microsoft.com/V1.0/$batch?x=1":                  "batch",
		"POST graph.microsoft.com/v1.0/$batch/":                     "batch",
		"GET graph.microsoft.com/v1.0/$batch":                       "rule_denied",
		"PUT graph.microsoft.com/v1.0/$batch":                       "rule_denied",
		"POST graph.microsoft.com/$batch":                           "rule_denied",
		"POST graph.microsoft.com/v2.0/$batch":                      "rule_denied",
		"POST graph.microsoft.com/v1.0/users/$batch":                "rule_denied",
		"GET graph.microsoft.com/v1.0/users/$batch":                 "rule_denied",
		"POST graph.microsoft.com/v1.0/$batch;x=1":                  "rule_denied",
		"POST graph.microsoft.com/v1.0/$batch.":                     "rule_denied",
		"POST graph.microsoft.com/v1.0/$batch()":                    "rule_denied",
		"POST graph.microsoft.com/v1.0/$batch%20":                   "rule_denied",
		"POST graph.microsoft.com/v1.0/%2524batch":                  "bad_request",
		"POST api.test/any/$batch":                                  "rule_denied",
		"GET api.test/any/%24Batch":                                 "rule_denied",
		"POST api.test/any/batch":                                   "rule_denied",
		"PUT api.test/any/BATCH/":                                   "rule_denied",
		"GET api.test/any/batch":                                    "",
		"POST api.test/any/batches":                                 "",
		"POST api.test/search/batch":                                "rule_denied",
		"POST api.test/any/_vti_bin/client.svc/ProcessQuery":        "rule_denied",
		"GET api.test/any/processquery":                             "rule_denied",
		"POST api.test/any?comp=batch":                              "rule_denied",
		"POST api.test/any?a=1&COMP=Batch":                          "rule_denied",
		"POST api.test/any?a=1;comp=batch":                          "rule_denied",
		"POST api.test/any?%63omp=b%61tch":                          "rule_denied",
		"POST api.test/any?comp=batch+":                             "rule_denied",
		"POST api.test/any?comp=list":                               "",
		"POST api.test/any?comp=list&comp=batch":                    "bad_request",
		"POST api.test/any?comp=batch&comp=list":                    "bad_request",
		"POST api.test/any?%2563omp=batch":                          "bad_request",
		"POST api.test/any?comp=%2562atch":                          "bad_request",
		"POST api.test/any?comp=b%zzatch":                           "bad_request",
		"POST api.test/any?xcomp=batch":                             "",
		"POST bound.test/data/$batch":                               "rule_denied",
		"POST bound.test/data/batch":                                "rule_denied",
		"POST bound.test/data?comp=batch":                           "rule_denied",
		"POST bound.test/deep/batch":                                "", // which the file names whole
		"POST bound.test/deep/%24batch":                             "",
		"GET api.test/orders?_method=DELETE":                        "bad_request",
		"GET api.test/orders?_METHOD=delete":                        "bad_request",
		"GET api.test/orders?_method=GET":                           "",
		"GET api.test/orders?_method=GET&_method=DELETE":            "bad_request",
		"GET api.test/orders?$method=DELETE":                        "bad_request",
		"GET api.test/orders?%24method=DELETE":                      "bad_request",
		"GET api.test/orders?%5fm%65thod=DELETE":                    "bad_request",
		"GET api.test/orders?%255fmethod=DELETE":                    "bad_request",
		"GET api.test/orders?X-HTTP-Method-Override=DELETE":         "bad_request",
		"GET api.test/orders?x-http-method=MERGE":                   "bad_request",
		"GET api.test/orders?_method":                               "bad_request",
		"GET api.test/orders?a=1;_method=DELETE":                    "bad_request",
		"GET api.test/orders?+_method=DELETE":                       "bad_request",
		"GET api.test/orders?my_method=DELETE&filter=_method":       "",
		"GET api.test/orders?" + strings.Repeat("m=1&", 5000) + "x": "",
	} {
		pass, _, code := noted(t, g, onForward(t, call))
		if pass.Batch && code == "" {
			code = "batch"
		}
		if code != want {
			t.Errorf("Admit(%.80s) = %q, want %q", call, code, want)
		}
	}
}

func TestReportedRulesRefuseNothing(t *testing.T) {
	w := ruled(t)
	w.route("graph").Report, w.route("api").Report, w.route("bound").Report = true, true, true
	g := gate.New(w.Table, keyed{})
	for _, tt := range []struct {
		call   string
		code   gate.Code
		denied string
		batch  bool
	}{
		{"GET graph.microsoft.com/v1.0/users", "", "", false},
		{"POST graph.microsoft.com/v1.0/users", "", "rule_denied: ", false},
		{"GET graph.microsoft.com/v1.0/users/../x", "", "bad_request: ambiguous path", false},
		{"POST graph.microsoft.com/v1.0/$batch", "", "", true},
		{"POST api.test/any/$batch", "", "rule_denied: a batch", false},
		{"POST api.test/any?_method=PUT", "", "bad_request: the query's _method", false},
		{"GET bound.test/other", "egress_denied", "", false},
		{"POST bound.test/data/$batch", "rule_denied", "", false},
		{"GET bound.test/data/..", "bad_request", "", false},
	} {
		pass, event, code := noted(t, g, onForward(t, tt.call))
		if code != tt.code || pass.Batch != tt.batch || !strings.HasPrefix(pass.Denied, tt.denied) || (tt.denied == "") != (pass.Denied == "") || event.WouldDeny != pass.Denied {
			t.Errorf("Admit(%s) = %q, denied %q, batch %t; want %q, %q, %t", tt.call, code, pass.Denied, pass.Batch, tt.code, tt.denied, tt.batch)
		}
	}
}

func TestARuleWithoutPathsHoldsEveryPathAndNoRulesHoldNone(t *testing.T) {
	w := ruled(t)
	api := w.route("api")
	api.Allow = api.Allow[:0]
	if _, _, code := noted(t, gate.New(w.Table, keyed{}), onForward(t, "GET api.test/orders")); code != gate.RuleDenied {
		t.Errorf("with no rule at all: %q, want rule_denied", code)
	}
	api.Allow = append(api.Allow, rule(t, 9, "GET"))
	g := gate.New(w.Table, keyed{})
	if pass, _, code := noted(t, g, onForward(t, "GET api.test/what/ever")); code != "" || pass.Rule != 9 {
		t.Errorf("with a rule of methods alone: %q by rule %d, want yes by 9", code, pass.Rule)
	}
	if _, _, code := noted(t, g, onForward(t, "PUT api.test/what/ever")); code != gate.RuleDenied {
		t.Errorf("with a rule for another method: %q, want rule_denied", code)
	}
}
