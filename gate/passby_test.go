package gate_test

import (
	"net/http"
	"testing"

	"github.com/seed-13b04e61/gateway/gate"
)

// onlyRead is a host whose users are behind rules, and whose rest is open.
const onlyRead = `  - {name: users, preset: graph, mount: /users, paths: ["/v1.0/users/**"], allow: [{methods: [GET]}]}
  - {name: rest, preset: graph, mount: /rest}
  - {name: docs, hosts: [api.test], scope: api/.default, paths: ["/docs/**"], allow: [{methods: [GET]}], credential: other}
  - {name: all, hosts: [api.test], scope: api/.default, mount: /all, credential: other}
`

func TestNoBatchOfAnOpenRouteBringsCallsPastTheRulesOfAnother(t *testing.T) {
	w := newWorld(t, onlyRead)
	g := gate.New(w.Table, keyed{})
	if _, _, code := noted(t, g, onForward(t, "DELETE graph.microsoft.com/v1.0/users/1")); code != gate.RuleDenied {
		t.Fatalf("DELETE of a user alone = %q, want rule_denied", code)
	}
	pass, _, code := noted(t, g, onForward(t, "POST graph.microsoft.com/v1.0/$batch"))
	if code != "" || !pass.Batch || pass.Route != w.route("rest") {
		t.Fatalf("batch = %q, to be judged %t; want that of route rest, to be judged", code, pass.Batch)
	}
	for body, want := range map[string]gate.Code{
		requests(`{"id":"1","method":"DELETE","url":"/users/1"}`): gate.RuleDenied,
		requests(`{"id":"1","method":"DELETE","url":"/Users/1"}`): gate.RuleDenied,
		requests(fine): gate.RuleDenied, // its credential might be another
		requests(`{"id":"1","method":"GET","url":"/groups"}`):                                     "",
		requests(`{"id":"1","method":"DELETE","url":"/groups/1"}`):                                "",
		requests(`{"id":"1","method":"POST","url":"/$batch","body":{"requests":[` + fine + `]}}`): gate.BadRequest,
	} {
		ctx, _ := stampable(t)
		_, err := g.AdmitBatch(ctx, pass, nil, []byte(body))
		if got := codeOf(t, err); got != want {
			t.Errorf("AdmitBatch(%s) = %q, want %q", body, got, want)
		}
	}
	for call, want := range map[string]gate.Code{
		"POST api.test/$batch":         gate.RuleDenied,
		"POST api.test/v1/$batch;x":    gate.RuleDenied,
		"POST api.test/?comp=batch":    gate.RuleDenied,
		"POST api.test/orders":         "",
		"DELETE api.test/orders/1":     "",
		"POST api.test/docs/$batch":    gate.RuleDenied,
		"POST api.test/a?comp=b&comp=": gate.BadRequest,
	} {
		if _, _, code := noted(t, g, onForward(t, call)); code != want {
			t.Errorf("%s = %q, want %q", call, code, want)
		}
	}
}

func TestABatchOfARouteThatNoOtherStandsBeforeIsLeftAlone(t *testing.T) {
	w := newWorld(t, onlyRead)
	g := gate.New(w.Table, keyed{})
	// A mount is its route's alone.
	for _, call := range []string{"POST /rest/v1.0/$batch", "POST /all/$batch"} {
		if pass, _, code := noted(t, g, onReverse(call)); code != "" || pass.Batch {
			t.Errorf("%s = %q, to be judged %t; want it passed as it is", call, code, pass.Batch)
		}
	}
	// What stands before, but for other callers, is as if it were not there.
	w.callers("app", "boss")
	w.route("users").Callers = w.Callers[1:]
	g = gate.New(w.Table, keyed{})
	for name, judged := range map[string]bool{"app": false, "boss": true} {
		target := onForward(t, "POST graph.microsoft.com/v1.0/$batch")
		target.Caller = w.caller(name)
		if pass, _, code := noted(t, g, target); code != "" || pass.Batch != judged {
			t.Errorf("%s: %q, to be judged %t; want %t", name, code, pass.Batch, judged)
		}
	}
}

// Cosmos DB takes a POST of documents for a batch of any operations when a
// field says so.
func TestAFieldDoesNotMakeABatchOfACallThatRulesAllow(t *testing.T) {
	g := gate.New(ruled(t).Table, keyed{})
	for value, want := range map[string]gate.Code{"": "", "True": gate.RuleDenied, "1": gate.RuleDenied, "false": "", "False": ""} {
		target := onForward(t, "POST api.test/orders")
		target.Header = http.Header{}
		if value != "" {
			target.Header.Set("x-ms-cosmos-is-batch-request", value)
		}
		if _, _, code := noted(t, g, target); code != want {
			t.Errorf("x-ms-cosmos-is-batch-request: %q = %q, want %q", value, code, want)
		}
	}
	target := onForward(t, "POST api.test/orders")
	target.Header = http.Header{"X-Ms-Cosmos-Is-Batch-Request": {"false", "True"}}
	if _, _, code := noted(t, g, target); code != gate.RuleDenied {
		t.Errorf("two lines of which one says so = %q, want rule_denied", code)
	}
}

func TestACallOfABatchNamesNoVersionOfItsOwn(t *testing.T) {
	w := newWorld(t, `  - {preset: graph, allow: [{methods: [GET], paths: ["/v1.0/**"]}]}`)
	g, pass := batched(t, w)
	for _, url := range []string{"/v1.0/users", "beta/users", "/Beta/users", "/%62eta/users", "/v1%2e0", "/beta?$top=1"} {
		ctx, _ := stampable(t)
		_, err := g.AdmitBatch(ctx, pass, nil, []byte(requests(`{"id":"1","method":"GET","url":"`+url+`"}`)))
		if got := codeOf(t, err); got != gate.BadRequest {
			t.Errorf("a call to %s = %q, want bad_request", url, got)
		}
	}
	for _, url := range []string{"/users/beta", "/betas", "/v1.0x/users"} {
		ctx, _ := stampable(t)
		if _, err := g.AdmitBatch(ctx, pass, nil, []byte(requests(`{"id":"1","method":"GET","url":"`+url+`"}`))); err != nil {
			t.Errorf("a call to %s = %v, want it passed", url, err)
		}
	}
}
