package gate_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/seed-13b04e61/gateway/audit"
	"github.com/seed-13b04e61/gateway/gate"
	"github.com/seed-13b04e61/gateway/routes"
)

// batched is the pass for a batch at a route with rules.
func batched(t testing.TB, w world) (*gate.Gate, gate.Pass) {
	t.Helper()
	g := gate.New(w.Table, keyed{})
	pass, _, code := noted(t, g, onForward(t, "POST graph.microsoft.com/v1.0/$batch"))
	if code != "" || !pass.Batch {
		t.Fatalf("Admit = %q, batch %t, want a batch", code, pass.Batch)
	}
	return g, pass
}

// requests is a batch of these calls.
func requests(calls ...string) string { return `{"requests":[` + strings.Join(calls, ",") + `]}` }

const fine = `{"id":"1","method":"GET","url":"/users"}`

func TestABatchIsWrittenAnewFromWhatWasJudged(t *testing.T) {
	g, pass := batched(t, ruled(t))
	for in, want := range map[string]string{
		requests(fine): requests(fine),
		" {\n \"requests\" : [ { \"url\":\"users?$select=id\", \"method\":\"GET\", \"id\":\"a\" } ] } \n":                     requests(`{"id":"a","method":"GET","url":"users?$select=id"}`),
		requests(`{"id":"1","method":"\u0047ET","url":"\/users\/1"}`):                                                         requests(`{"id":"1","method":"GET","url":"/users/1"}`),
		requests(fine, `{"id":"2","dependsOn":["1"],"method":"GET","url":"/groups/1/members"}`):                               requests(fine, `{"id":"2","dependsOn":["1"],"method":"GET","url":"/groups/1/members"}`),
		requests(`{"id":"1","method":"PATCH","url":"/users/1","headers":{"Content-Type":"application/json"},"body":{"a":1}}`): requests(`{"id":"1","method":"PATCH","url":"/users/1","headers":{"Content-Type":"application/json"},"body":{"a":1}}`),
		// A body is the API's: order, numbers and escapes stay, blanks between do not.
		requests(`{"id":"1","method":"PATCH","url":"/users/1","body":{"b" : 1e400, "a":"<&\u003c\u2028","b":2}}`): requests(`{"id":"1","method":"PATCH","url":"/users/1","body":{"b":1e400,"a":"<&\u003c\u2028","b":2}}`),
		requests(`{"id":"1","method":"PATCH","url":"/users/1","body":null}`):                                      requests(`{"id":"1","method":"PATCH","url":"/users/1","body":null}`),
		requests(`{"id":"1","method":"PATCH","url":"/users/1","body":"aGVsbG8="}`):                                requests(`{"id":"1","method":"PATCH","url":"/users/1","body":"aGVsbG8="}`),
		requests(`{"id":"1","method":"GET","url":"/Users/%41","headers":{},"dependsOn":[]}`):                      requests(`{"id":"1","method":"GET","url":"/Users/%41"}`),
		requests(`{"id":"1","method":"GET","url":"/users?$filter=startswith(displayName,'a b') and x eq '\u00fc'"}`): requests(
			`{"id":"1","method":"GET","url":"/users?$filter=startswith(displayName,'a b') and x eq 'ü'"}`),
	} {
		got, err := g.AdmitBatch(t.Context(), pass, nil, []byte(in))
		if err != nil {
			t.Errorf("AdmitBatch(%s) = %v", in, err)
			continue
		}
		if string(got) != want {
			t.Errorf("AdmitBatch(%s) = %s, want %s", in, got, want)
		}
		again, err := g.AdmitBatch(t.Context(), pass, nil, got)
		if err != nil || string(again) != string(got) {
			t.Errorf("its own work it reads as %s, %v", again, err)
		}
	}
}

func TestHostileBatchesAreRefused(t *testing.T) {
	g, pass := batched(t, ruled(t))
	twenty := make([]string, 20)
	for i := range twenty {
		twenty[i] = fmt.Sprintf(`{"id":"%d","method":"GET","url":"/users/%d"}`, i, i)
	}
	if _, err := g.AdmitBatch(t.Context(), pass, nil, []byte(requests(twenty...))); err != nil {
		t.Errorf("20 calls: %v", err)
	}
	call := func(members string) string { return requests(fine, `{"id":"7",`+members+`}`) }
	for _, tt := range []struct{ name, body, want string }{
		{"nothing", ``, "it is not JSON"},
		{"null", `null`, "an object is needed"},
		{"a list", `[` + fine + `]`, "an object is needed"},
		{"text", `"requests"`, "an object is needed"},
		{"no requests", `{}`, "it holds no requests"},
		{"an empty list", `{"requests":[]}`, "it holds no requests"},
		{"requests null", `{"requests":null}`, "a list is needed"},
		{"requests an object", `{"requests":{"0":` + fine + `}}`, "a list is needed"},
		{"requests twice", `{"requests":[` + fine + `],"requests":[` + fine + `]}`, `"requests" stands twice`},
		{"requests twice, escaped", `{"requests":[` + fine + `],"\u0072equests":[` + fine + `]}`, `"requests" stands twice`},
		{"Requests beside", `{"requests":[` + fine + `],"Requests":[]}`, `"Requests" is not known`},
		{"Requests", `{"Requests":[` + fine + `]}`, `"Requests" is not known`},
		{"more members", `{"requests":[` + fine + `],"@odata.x":1}`, "is not known"},
		{"something behind", requests(fine) + `{}`, "it is not JSON"},
		{"something behind it", requests(fine) + `x`, "it is not JSON"},
		{"a comma too many", `{"requests":[` + fine + `,]}`, "it is not JSON"},
		{"a comment", `{"requests":[` + fine + `]/**/}`, "it is not JSON"},
		{"single quotes", `{'requests':[]}`, "it is not JSON"},
		{"a byte order mark", "\ufeff" + requests(fine), "it is not JSON"},
		{"UTF-16", "{\x00\"\x00", "it is not JSON"},
		{"broken UTF-8", requests("{\"id\":\"\xc0\xa2\",\"method\":\"GET\",\"url\":\"/users\"}"), "it is not UTF-8"},
		{"broken UTF-8 in a body", requests("{\"id\":\"1\",\"method\":\"PATCH\",\"url\":\"/users/1\",\"body\":\"\xff\"}"), "it is not UTF-8"},
		{"21 calls", requests(append(twenty, fine)...), "more than 20"},
		{"too large", requests(`{"id":"1","method":"PATCH","url":"/users/1","body":"` + strings.Repeat("a", 4<<20) + `"}`), "larger than"},
		{"too deep", requests(`{"id":"1","method":"PATCH","url":"/users/1","body":` + strings.Repeat("[", 20000) + strings.Repeat("]", 20000) + `}`), "it is not JSON"},
		{"a call that is none", requests(`"GET /users"`), "an object is needed"},
		{"a call null", requests(`null`), "an object is needed"},
		{"no id", requests(`{"method":"GET","url":"/users"}`), "id and url are needed"},
		{"an empty id", requests(`{"id":"","method":"GET","url":"/users"}`), "id and url are needed"},
		{"a number as id", requests(`{"id":1,"method":"GET","url":"/users"}`), "id: text is needed"},
		{"a long id", requests(`{"id":"` + strings.Repeat("a", 257) + `","method":"GET","url":"/users"}`), "longer than 256"},
		{"one id twice", requests(fine, fine), `the id "1" stands twice`},
		{"one id twice, escaped", requests(fine, `{"id":"\u0031","method":"GET","url":"/users"}`), `the id "1" stands twice`},
		{"no method", call(`"url":"/users"`), "method is none"},
		{"an empty method", call(`"method":"","url":"/users"`), "method is none"},
		{"a method null", call(`"method":null,"url":"/users"`), "method: text is needed"},
		{"a method with a space", call(`"method":"GET /x","url":"/users"`), "method is none"},
		{"a method with a line break", call(`"method":"GET\r\n","url":"/users"`), "method is none"},
		{"a long method", call(`"method":"` + strings.Repeat("A", 33) + `","url":"/users"`), "longer than 32"},
		{"another method", call(`"method":"POST","url":"/users"`), `request "7" of the batch: no rule of route graph allows POST`},
		{"a method in lower case", call(`"method":"get","url":"/users"`), `request "7" of the batch: no rule of route graph allows "get"`},
		{"method twice", call(`"method":"GET","method":"DELETE","url":"/users/1/manager"`), `"method" stands twice`},
		{"Method", call(`"method":"GET","Method":"DELETE","url":"/users"`), `"Method" is not known`},
		{"METHOD, long s and all", call(`"method":"GET","url":"/users","header\u017f":{}`), "is not known"},
		{"no url", call(`"method":"GET"`), "id and url are needed"},
		{"url twice", call(`"method":"GET","url":"/users","url":"/groups"`), `"url" stands twice`},
		{"url twice, escaped", call(`"method":"GET","url":"/users","\u0075rl":"/groups"`), `"url" stands twice`},
		{"URL", call(`"method":"GET","url":"/users","URL":"/groups"`), `"URL" is not known`},
		{"another path", call(`"method":"GET","url":"/groups"`), `request "7" of the batch: no rule`},
		{"another path, no slash", call(`"method":"GET","url":"groups"`), "no rule"},
		{"the version again", call(`"method":"GET","url":"/v1.0/users"`), "names a version"},
		{"another version", call(`"method":"GET","url":"/../beta/users"`), "dot segment"},
		{"up", call(`"method":"GET","url":"../beta/users"`), "dot segment"},
		{"up, escaped", call(`"method":"GET","url":"%2e%2e/beta/users"`), "dot segment"},
		{"up, as JSON escapes it", call(`"method":"GET","url":"\u002e\u002e\u002fbeta/users"`), "dot segment"},
		{"up behind users", call(`"method":"GET","url":"/users/..;/groups"`), "dot segment"},
		{"an escaped slash", call(`"method":"GET","url":"/users%2f..%2fgroups"`), "slash"},
		{"escaped twice", call(`"method":"GET","url":"/users/%252e%252e/groups"`), "twice"},
		{"a backslash", call(`"method":"GET","url":"/users\\..\\groups"`), "url holds"},
		{"a NUL", call(`"method":"GET","url":"/users\u0000"`), "url holds"},
		{"a line break", call(`"method":"GET","url":"/users\r\nHost: x"`), "url holds"},
		{"a lone surrogate", call(`"method":"GET","url":"/users/\ud800"`), "url holds"},
		{"a fragment", call(`"method":"GET","url":"/users#x"`), "number sign"},
		{"a fragment behind the query", call(`"method":"GET","url":"/users?x#y"`), "fragment"},
		{"absolute", call(`"method":"GET","url":"https://graph.microsoft.com/v1.0/users"`), "its url is absolute"},
		{"absolute, elsewhere", call(`"method":"GET","url":"https://evil.test/"`), "its url is absolute"},
		{"absolute, no slashes", call(`"method":"GET","url":"https:users"`), "its url is absolute"},
		{"no scheme", call(`"method":"GET","url":"//evil.test/users"`), "empty segment"},
		{"two slashes", call(`"method":"GET","url":"/users//1"`), "empty segment"},
		{"a batch", call(`"method":"POST","url":"/$batch"`), "it is a batch itself"},
		{"a batch, escaped", call(`"method":"POST","url":"/%24batch"`), "it is a batch itself"},
		{"a batch below", call(`"method":"GET","url":"/users/$Batch;x"`), "it is a batch itself"},
		{"a batch by query", call(`"method":"GET","url":"/users?comp=batch"`), "it is a batch itself"},
		{"another method by query", call(`"method":"GET","url":"/users?_method=DELETE"`), "another method"},
		{"headers null", call(`"method":"GET","url":"/users","headers":null`), "headers: an object is needed"},
		{"headers a list", call(`"method":"GET","url":"/users","headers":[]`), "headers: an object is needed"},
		{"a header that is no text", call(`"method":"GET","url":"/users","headers":{"A":1}`), "text is needed"},
		{"a header twice", call(`"method":"GET","url":"/users","headers":{"A":"1","a":"2"}`), `"a" stands twice`},
		{"headers twice", call(`"method":"GET","url":"/users","headers":{},"headers":{}`), `"headers" stands twice`},
		{"a header's name with a colon", call(`"method":"GET","url":"/users","headers":{"A: b":"1"}`), "a name that is none"},
		{"a header's name with a space", call(`"method":"GET","url":"/users","headers":{"Authorization ":"1"}`), "a name that is none"},
		{"a header of two lines", call(`"method":"GET","url":"/users","headers":{"A":"1\r\nAuthorization: x"}`), "a control character"},
		{"Authorization", call(`"method":"GET","url":"/users","headers":{"Authorization":"Bearer x"}`), `request "7" of the batch: its header Authorization`},
		{"authorization", call(`"method":"GET","url":"/users","headers":{"authorization":"Bearer x"}`), "its header Authorization"},
		{"Proxy-Authorization", call(`"method":"GET","url":"/users","headers":{"Proxy_Authorization":"x"}`), "its header Proxy-Authorization"},
		{"Host", call(`"method":"GET","url":"/users","headers":{"HOST":"evil.test"}`), "its header Host"},
		{"X-Forwarded-Host", call(`"method":"GET","url":"/users","headers":{"x-forwarded-host":"evil.test"}`), "its header X-Forwarded-Host"},
		{"X-Original-URL", call(`"method":"GET","url":"/users","headers":{"X-Original-URL":"/groups"}`), "its header X-Original-Url"},
		{"X-HTTP-Method-Override", call(`"method":"GET","url":"/users","headers":{"X-HTTP-Method-Override":"DELETE"}`), "its header X-Http-Method-Override"},
		{"X_HTTP_Method", call(`"method":"GET","url":"/users","headers":{"X_HTTP_Method":"DELETE"}`), "its header X-Http-Method"},
		{"Transfer-Encoding", call(`"method":"GET","url":"/users","headers":{"Transfer-Encoding":"chunked"}`), "its header Transfer-Encoding"},
		{"dependsOn text", call(`"method":"GET","url":"/users","dependsOn":"1"`), "dependsOn: a list is needed"},
		{"dependsOn null", call(`"method":"GET","url":"/users","dependsOn":[null]`), "text is needed"},
		{"dependsOn nobody", call(`"method":"GET","url":"/users","dependsOn":["9"]`), `depends on "9"`},
		{"dependsOn itself", call(`"method":"GET","url":"/users","dependsOn":["7"]`), `depends on "7"`},
		{"dependsOn without end", call(`"method":"GET","url":"/users","dependsOn":[` + strings.Repeat(`"1",`, 50) + `"1"]`), "dependsOn is longer"},
		{"an atomicity group", call(`"method":"GET","url":"/users","atomicityGroup":"a"`), "is not known"},
		{"a prototype", call(`"method":"GET","url":"/users","__proto__":{}`), "is not known"},
	} {
		ctx, event := stampable(t)
		got, err := g.AdmitBatch(ctx, pass, nil, []byte(tt.body))
		code := codeOf(t, err)
		if got != nil || code != gate.BadRequest && code != gate.RuleDenied || !strings.Contains(err.Error(), tt.want) || event.WouldDeny != "" {
			t.Errorf("%s: %.80s, %v; want a refusal with %q", tt.name, got, err, tt.want)
		}
	}
}

func TestABatchInReportModeIsJudgedAndSent(t *testing.T) {
	w := ruled(t)
	w.route("graph").Report = true
	g, pass := batched(t, w)
	for _, tt := range []struct{ body, sent, denied string }{
		{requests(fine), requests(fine), ""},
		{` ` + requests(`{"method":"POST","id":"1","url":"/users"}`, `{"id":"2","method":"PUT","url":"/x"}`), requests(`{"id":"1","method":"POST","url":"/users"}`, `{"id":"2","method":"PUT","url":"/x"}`), `rule_denied: request "1" of the batch`},
		{requests(`{"id":"1","method":"GET","url":"/../x"}`), requests(`{"id":"1","method":"GET","url":"/../x"}`), `bad_request: request "1" of the batch: ambiguous`},
		{`{"Requests":[]}`, `{"Requests":[]}`, "bad_request: the batch cannot be judged"},
	} {
		ctx, event := stampable(t)
		got, err := g.AdmitBatch(ctx, pass, nil, []byte(tt.body))
		if err != nil || string(got) != tt.sent || !strings.HasPrefix(event.WouldDeny, tt.denied) || (tt.denied == "") != (event.WouldDeny == "") {
			t.Errorf("AdmitBatch(%s) = %s, %v, denied %q; want %s, %q", tt.body, got, err, event.WouldDeny, tt.sent, tt.denied)
		}
	}
}

func TestABatchTakesNoCallPastAnotherRoute(t *testing.T) {
	w := newWorld(t, `  - {name: directory, hosts: [graph.microsoft.com], scope: https://graph.microsoft.com/.default}
  - preset: graph
`)
	c := w.callers("boss", "clerk")
	directory, graph := w.route("directory"), w.route("graph")
	directory.Paths, directory.Callers, directory.Allow = patterns(t, "/v1.0/directory/**"), c[:1], []routes.Rule{rule(t, 1, "GET /**")}
	directory.FoldPaths, graph.FoldPaths = true, true
	g := gate.New(w.Table, keyed{})
	target := onForward(t, "POST graph.microsoft.com/v1.0/$batch")
	target.Caller = w.caller("boss")
	pass, _, code := noted(t, g, target)
	if code != "" || !pass.Batch || pass.Route != graph {
		t.Fatalf("Admit = %q, batch %t", code, pass.Batch)
	}
	for url, want := range map[string]gate.Code{"/users": "", "/directory/x": gate.RuleDenied, "/Directory": gate.RuleDenied, "%64irectory": gate.RuleDenied} {
		body := []byte(requests(fmt.Sprintf(`{"id":"1","method":"DELETE","url":%q}`, url)))
		if _, err := g.AdmitBatch(t.Context(), pass, target.Caller, body); codeOf(t, err) != want {
			t.Errorf("boss: %s = %v, want %q", url, err, want)
		}
	}
	// Whoever does not get as far as the other route has no rules to pass by.
	target.Caller = w.caller("clerk")
	if pass, _, code := noted(t, g, target); code != "" || pass.Batch {
		t.Errorf("clerk: Admit = %q, batch %t, want no batch", code, pass.Batch)
	}
	// At a mount no other route could have decided.
	mounted := onReverse("POST /graph/v1.0/$batch")
	mounted.Caller = w.caller("boss")
	graph.Allow = []routes.Rule{rule(t, 2, "DELETE /v1.0/directory/**")}
	g = gate.New(w.Table, keyed{})
	if pass, _, code = noted(t, g, mounted); code != "" || !pass.Batch {
		t.Fatalf("Admit = %q, batch %t", code, pass.Batch)
	}
	body := []byte(requests(`{"id":"1","method":"DELETE","url":"/directory/1"}`))
	ctx, event := stampable(t)
	if _, err := g.AdmitBatch(ctx, pass, mounted.Caller, body); err != nil || event.Rule != 2 {
		t.Errorf("at the mount: %v by rule %d, want yes by 2", err, event.Rule)
	}
	graph.Paths = patterns(t, "/v1.0/users/**", "/v1.0/$batch")
	if _, err := g.AdmitBatch(ctx, pass, mounted.Caller, body); codeOf(t, err) != gate.RuleDenied {
		t.Errorf("at the mount, beyond its paths: %v, want rule_denied", err)
	}
}

func TestABatchOfATenantIsJudgedBehindItsName(t *testing.T) {
	w := newWorld(t, "  - preset: graph\n")
	r := w.route("graph")
	r.Tenant, r.FoldPaths = &routes.TenantChoice{Path: "/t/{tenant}", Allowed: []string{fabrikam}}, true
	r.Allow, r.Paths = []routes.Rule{rule(t, 1, "GET /v1.0/users")}, patterns(t, "/v1.0/**")
	g := gate.New(w.Table, keyed{})
	for _, target := range []gate.Target{onForward(t, "POST graph.microsoft.com/t/"+fabrikam+"/v1.0/$batch"), onReverse("POST /graph/t/" + fabrikam + "/v1.0/$batch")} {
		pass, _, code := noted(t, g, target)
		if code != "" || !pass.Batch || pass.Tenant != fabrikam {
			t.Fatalf("Admit = %q, batch %t, tenant %q", code, pass.Batch, pass.Tenant)
		}
		if _, err := g.AdmitBatch(t.Context(), pass, nil, []byte(requests(fine))); err != nil {
			t.Errorf("%s: %v", target.Door, err)
		}
		if _, err := g.AdmitBatch(t.Context(), pass, nil, []byte(requests(`{"id":"1","method":"GET","url":"/groups"}`))); codeOf(t, err) != gate.RuleDenied {
			t.Errorf("%s: %v, want rule_denied", target.Door, err)
		}
	}
}

func TestABatchIsJSONInUTF8(t *testing.T) {
	g := gate.New(ruled(t).Table, keyed{})
	for _, tt := range []struct {
		lines []string
		want  gate.Code
	}{
		{[]string{"application/json"}, ""},
		{[]string{"Application/JSON; charset=UTF-8"}, ""},
		{[]string{"application/json; odata.metadata=minimal"}, ""},
		{[]string{"application/json; charset=utf-16"}, gate.BadRequest},
		{[]string{"application/json; charset=utf-7"}, gate.BadRequest},
		{[]string{"multipart/mixed; boundary=x"}, gate.BadRequest},
		{[]string{"text/plain"}, gate.BadRequest},
		{[]string{"application/json", "multipart/mixed"}, gate.BadRequest},
		{[]string{"application/json;;"}, gate.BadRequest},
		{nil, gate.BadRequest},
	} {
		target := onForward(t, "POST graph.microsoft.com/v1.0/$batch")
		target.Header = http.Header{"Content-Type": tt.lines}
		if _, _, code := noted(t, g, target); code != tt.want {
			t.Errorf("Content-Type %q: %q, want %q", tt.lines, code, tt.want)
		}
	}
}

func ExampleGate_AdmitBatch() {
	g, pass := exampleBatch()
	body, err := g.AdmitBatch(context.Background(), pass, nil, []byte(`{"requests": [{"id": "1", "method": "GET", "url": "users"}]}`))
	fmt.Println(string(body), err)
	_, err = g.AdmitBatch(context.Background(), pass, nil, []byte(`{"requests": [{"id": "1", "method": "DELETE", "url": "users/1"}]}`))
	fmt.Println(err)
	// Output:
	// {"requests":[{"id":"1","method":"GET","url":"users"}]} <nil>
	// rule_denied: request "1" of the batch: no rule of route graph allows DELETE on this path
}

func exampleBatch() (*gate.Gate, gate.Pass) {
	table, err := routes.Parse("routes.yaml", []byte(head+"routes: [{preset: graph}]"), nil)
	if err != nil {
		panic(err)
	}
	users, err := routes.ParsePattern("/v1.0/users/**")
	if err != nil {
		panic(err)
	}
	table.Routes[0].Allow = []routes.Rule{{Line: 8, Methods: []string{"GET"}, Paths: []routes.Pattern{users}}}
	g := gate.New(table, keyed{})
	pass, err := g.Admit(context.Background(), gate.Target{Door: audit.Reverse, Method: "POST", Path: "/graph/v1.0/$batch"})
	if err != nil {
		panic(err)
	}
	return g, pass
}

func BenchmarkAdmitBatch(b *testing.B) {
	g, pass := batched(b, ruled(b))
	calls := make([]string, 20)
	for i := range calls {
		calls[i] = fmt.Sprintf(`{"id":"%d","method":"PATCH","url":"/users/%d","headers":{"Content-Type":"application/json"},"body":{"displayName":"x"}}`, i, i)
	}
	body := []byte(requests(calls...))
	ctx, _ := stampable(b)
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := g.AdmitBatch(ctx, pass, nil, body); err != nil {
			b.Fatal(err)
		}
	}
}

// FuzzAdmitBatch holds what passes against another reader: Go's own, which
// takes the last of two members and any case, must find nothing but what the
// rules allow.
func FuzzAdmitBatch(f *testing.F) {
	for _, seed := range []string{
		requests(fine), requests(fine, fine), `{"Requests":[]}`, requests(`{"id":"1","method":"PATCH","url":"/users/1","headers":{"a":"b"},"body":{}}`),
		requests(`{"id":"1","method":"GET","url":"/users","URL":"/groups"}`), requests(`{"id":"1","method":"GET","url":"users/..%2fgroups"}`),
		requests(`{"id":"1","method":"GET","url":"\u002e\u002e/users","dependsOn":["1"]}`),
	} {
		f.Add([]byte(seed))
	}
	g, pass := batched(f, ruled(f))
	f.Fuzz(func(t *testing.T, body []byte) {
		out, err := g.AdmitBatch(t.Context(), pass, nil, body)
		if err != nil {
			codeOf(t, err)
			return
		}
		var read struct {
			Requests []struct {
				ID, Method, URL string
				Headers         map[string]string
			}
		}
		if err := json.Unmarshal(out, &read); err != nil || len(read.Requests) == 0 {
			t.Fatalf("AdmitBatch(%q) = %q, which reads as %v", body, out, err)
		}
		for _, r := range read.Requests {
			_, _, code := noted(t, g, gate.Target{Door: audit.Forward, Authority: pass.Authority, Method: r.Method, Path: alone(r.URL), Query: query(r.URL)})
			if code != "" {
				t.Errorf("AdmitBatch(%q) passed %s %q, which alone is %s", body, r.Method, r.URL, code)
			}
			for name := range r.Headers {
				if strings.EqualFold(name, "Authorization") || strings.EqualFold(name, "Host") {
					t.Errorf("AdmitBatch(%q) passed the header %s", body, name)
				}
			}
		}
		if again, err := g.AdmitBatch(t.Context(), pass, nil, out); err != nil || string(again) != string(out) {
			t.Errorf("AdmitBatch(%q), its own work, = %q, %v", out, again, err)
		}
	})
}

// alone is the path of an inner call that comes by itself.
func alone(url string) string {
	path, _, _ := strings.Cut(url, "?")
	return "/v1.0/" + strings.TrimPrefix(path, "/")
}

func query(url string) string {
	_, query, _ := strings.Cut(url, "?")
	return query
}
