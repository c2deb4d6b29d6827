package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/seed-13b04e61/gateway/admin"
	"github.com/seed-13b04e61/gateway/sql/tds"
)

// watchedRoutes are a route that lets one path pass, and one whose API nobody
// gives tokens for.
const watchedRoutes = `routes:
  - name: graph
    hosts: [graph.microsoft.com]
    scope: https://graph.microsoft.com/.default
    upstream: %q
    allow:
      - {methods: [GET], paths: ["/v1.0/users"]}
  - {name: other, hosts: [api.contoso.com], scope: api://unknown/.default, upstream: %q}
`

// shownAt decodes what the admin port of g shows at path.
func shownAt(t *testing.T, g *gateway, path string, out any) string {
	t.Helper()
	resp, err := http.Get("http://" + shown(g.adminL) + path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != 200 {
		t.Fatalf("GET %s = %d %s %v", path, resp.StatusCode, text, err)
	}
	if err := json.Unmarshal(text, out); err != nil {
		t.Fatalf("GET %s: %v", path, err)
	}
	return string(text)
}

// calledWith makes one call through the reverse door, and waits until it is
// recorded, which is after its answer.
func calledWith(t *testing.T, g *gateway, path string) (status int) {
	t.Helper()
	before := g.Calls().Total().Requests
	resp, err := http.Get("http://" + shown(g.proxyL) + path)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close()
	for g.Calls().Total().Requests == before {
		pause()
	}
	return resp.StatusCode
}

func TestWindowShowsWhyACallFailed(t *testing.T) {
	world, credentials := sandboxed(t)
	g, _ := opened(t, doors{}, quietPorts+credentials+fmt.Sprintf(watchedRoutes, world.Graph.URL(), world.Graph.URL()))
	for path, want := range map[string]int{"/graph/v1.0/users?$top=1&secret=query": 200, "/graph/v1.0/groups": 403, "/other/x": 502, "/nothing": 404} {
		if got := calledWith(t, g, path); got != want {
			t.Errorf("GET %s = %d, want %d", path, got, want)
		}
	}
	var all []string
	var list []admin.Request
	all = append(all, shownAt(t, g, "/api/requests", &list))
	seen := map[string]admin.Request{}
	for _, r := range list {
		seen[r.Code] = r
	}
	if r := seen[""]; r.Route != "graph" || r.Status != 200 || r.Path != "/graph/v1.0/users" && r.Path != "/v1.0/users" || r.Template != "/v1.0/users" || r.TokenID == "" || r.Rule == 0 || r.Duration <= 0 {
		t.Errorf("the call that went well: %+v", r)
	}
	for _, code := range []string{"rule_denied", "token_refused", "route_unknown"} {
		if r := seen[code]; r.Cause == "" || r.Remedy == "" || r.Door != "reverse" {
			t.Errorf("%s: %+v, want cause and remedy", code, r)
		}
	}
	var routes admin.Routes
	all = append(all, shownAt(t, g, "/api/routes", &routes))
	if len(routes.Routes) != 2 || routes.SQL == nil {
		t.Fatalf("routes: %+v", routes)
	}
	if r := routes.Routes[0]; r.Name != "graph" || r.Requests != 2 || r.Refusals != 1 || r.Errors != 0 || r.P99 <= 0 || r.Last.IsZero() || r.Hosts[0] != "graph.microsoft.com" || r.Line == 0 {
		t.Errorf("graph: %+v", r)
	}
	var creds []admin.Credential
	all = append(all, shownAt(t, g, "/api/credentials", &creds))
	if len(creds) != 1 || creds[0].Kind != "client_secret" || creds[0].Name != "default" || creds[0].DaysLeft != nil {
		t.Errorf("credentials: %+v", creds)
	}
	var held []admin.Token
	all = append(all, shownAt(t, g, "/api/tokens", &held))
	if len(held) != 2 || !regexp.MustCompile(`^[0-9a-f]{16}$`).MatchString(held[0].SHA256) || !held[0].Usable || held[0].Expires.Before(time.Now()) ||
		held[1].SHA256 != "" || !held[1].Failing || held[1].Error == "" || held[1].Remedy == "" {
		t.Errorf("tokens: %+v", held)
	}
	var status admin.Status
	all = append(all, shownAt(t, g, "/api/status", &status))
	if status.Requests != 4 || status.HitRate == nil || status.Version != version || !status.Reload.OK || status.Started.IsZero() || len(status.Degraded) == 0 {
		t.Errorf("status: %+v", status)
	}
	if text := strings.Join(all, ""); strings.Contains(text, world.Secret()) || strings.Contains(text, "eyJ") || strings.Contains(text, "query") {
		t.Error("a secret, a token or a query is shown")
	}
}

func TestWindowShowsTheMistakeThatAReloadFound(t *testing.T) {
	world, credentials := sandboxed(t)
	g, _ := opened(t, doors{}, quietPorts+credentials+fmt.Sprintf(watchedRoutes, world.Graph.URL(), world.Graph.URL()))
	path := g.file.Table().Name
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, append(text, "bogus: 1\n"...), 0o600); err != nil {
		t.Fatal(err)
	}
	done := g.Reload()
	var status admin.Status
	if shownAt(t, g, "/api/status", &status); done.OK || status.Reload.OK || status.Reload.Error != done.Mistakes || !strings.Contains(status.Reload.Error, "bogus") {
		t.Errorf("after a bad edit: %+v, reload said %+v", status.Reload, done)
	}
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	g.Reload()
	if shownAt(t, g, "/api/status", &status); !status.Reload.OK || status.Reload.At.IsZero() {
		t.Errorf("after it was mended: %+v", status.Reload)
	}
}

func TestWindowExplainsAsTheCommandDoes(t *testing.T) {
	world, credentials := sandboxed(t)
	text := quietPorts + credentials + fmt.Sprintf(watchedRoutes, world.Graph.URL(), world.Graph.URL())
	g, _ := opened(t, doors{}, text)
	for _, target := range []string{"https://graph.microsoft.com/v1.0/users", "https://graph.microsoft.com/v1.0/groups", "https://example.com/"} {
		var here, there admin.Explanation
		shownAt(t, g, "/api/explain?method=get&url="+url.QueryEscape(target), &here)
		var out, complaints bytes.Buffer
		run(t.Context(), []string{"explain", "--json", "--config", g.file.Table().Name, "GET", target}, std{&out, &complaints})
		if err := json.Unmarshal(out.Bytes(), &there); err != nil {
			t.Fatal(err, complaints.String())
		}
		a, _ := json.Marshal(here)
		b, _ := json.Marshal(there)
		if string(a) != string(b) {
			t.Errorf("%s:\n%s, and the command says\n%s", target, a, b)
		}
	}
	var own admin.Explanation
	if shownAt(t, g, "/api/explain?method=GET&url="+url.QueryEscape("http://"+shown(g.proxyL)+"/graph/v1.0/users"), &own); own.Door != "reverse" || !own.Allowed {
		t.Errorf("the gateway's own address: %+v", own)
	}
	for _, query := range []string{"", "?method=GET", "?method=GET&url=x", "?method=GET&url=https%3A%2F%2Fa.example&caller=nobody", "?method=LOGIN&url=nothing"} {
		resp, err := http.Get("http://" + shown(g.adminL) + "/api/explain" + query)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != 400 {
			t.Errorf("%s: %d, want 400", query, resp.StatusCode)
		}
	}
}

func TestWindowCountsTheSessionsOfDatabases(t *testing.T) {
	g, _, _ := behind(t, "", "")
	conn, err := net.Dial("tcp", g.shownSQL()["orders-db"])
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tds.Open(t.Context(), conn, checkLogin(), nil); err != nil {
		t.Fatal(err)
	}
	_ = conn.Close()
	var routes admin.Routes
	for shownAt(t, g, "/api/routes", &routes); routes.SQL[0].Sessions != 0 || routes.SQL[0].Logins != 1; shownAt(t, g, "/api/routes", &routes) {
		pause() // the end of a session is recorded after it
	}
	if d := routes.SQL[0]; d.Name != "orders-db" || d.Listen != g.shownSQL()["orders-db"] || d.Server == "" || d.Failures != 0 {
		t.Errorf("the door: %+v", d)
	}
	var list []admin.Session
	if shownAt(t, g, "/api/sessions", &list); len(list) != 2 || list[0].Event != "end" || list[1].Event != "login" || list[1].Result != "success" {
		t.Errorf("sessions: %+v", list)
	}
}

// followed runs gateway logs until a test ends it.
func followed(t *testing.T, args ...string) (out, complaints *logged, end func() int) {
	t.Helper()
	out, complaints = &logged{}, &logged{}
	ctx, cancel := context.WithCancel(t.Context())
	code := make(chan int, 1)
	go func() { code <- run(ctx, append([]string{"logs"}, args...), std{out, complaints}) }()
	return out, complaints, func() int { cancel(); return <-code }
}

// awaits waits until what was written holds text.
func awaits(t *testing.T, out *logged, text string) {
	t.Helper()
	for range 600 {
		if strings.Contains(out.String(), text) {
			return
		}
		pause()
	}
	t.Fatalf("%q did not come; there is\n%s", text, out.String())
}

func TestLogsFollowAGatewayAcrossItsRestart(t *testing.T) {
	world, credentials := sandboxed(t)
	socket := "unix:" + filepath.Join(t.TempDir(), "a.sock")
	text := fmt.Sprintf("version: 1\nlisten: {proxy: \"127.0.0.1:0\", admin: %q}\n", socket) + credentials + fmt.Sprintf(watchedRoutes, world.Graph.URL(), world.Graph.URL())
	g, _ := opened(t, doors{}, text)
	calledWith(t, g, "/graph/v1.0/users")
	calledWith(t, g, "/nothing")
	out, complaints, end := followed(t, "--admin", socket, "--route", "graph")
	awaits(t, out, " 200 GET /graph/v1.0/users → graph.microsoft.com  reverse ")
	calledWith(t, g, "/graph/v1.0/groups")
	awaits(t, out, "code=rule_denied")
	awaits(t, out, "\n   do   ")
	if err := g.drain(0); err != nil {
		t.Error(err)
	}
	awaits(t, complaints, "went away")
	g, _ = opened(t, doors{}, text)
	awaits(t, complaints, "was restarted")
	calledWith(t, g, "/graph/v1.0/sites")
	awaits(t, out, "/v1.0/sites")
	if code := end(); code != exitFine {
		t.Errorf("logs ended with %d when it was interrupted, want 0", code)
	}
	if strings.Contains(out.String(), "route_unknown") || strings.Count(out.String(), " 200 GET ") != 1 {
		t.Errorf("--route graph printed\n%s", out.String())
	}
}

func TestLogsPrintTheLatestAndEnd(t *testing.T) {
	world, credentials := sandboxed(t)
	g, _ := opened(t, doors{}, quietPorts+credentials+fmt.Sprintf(watchedRoutes, world.Graph.URL(), world.Graph.URL()))
	for _, path := range []string{"/graph/v1.0/users", "/graph/v1.0/groups", "/nothing"} {
		calledWith(t, g, path)
	}
	tests := []struct {
		args   []string
		code   int
		counts int // lines of JSON
	}{
		{[]string{"--once", "--json"}, exitFine, 3},
		{[]string{"--once", "--json", "-n", "2"}, exitFine, 2},
		{[]string{"--once", "--json", "--status", "4xx"}, exitFine, 2},
		{[]string{"--once", "--json", "--code", "rule_denied"}, exitFine, 1},
		{[]string{"--once", "--json", "--caller", "nobody"}, exitFine, 0},
		{[]string{"--once", "--status", "7xx"}, exitNo, 0},
		{[]string{"--status", "7xx"}, exitNo, 0},
		{[]string{"--once", "-n", "-1"}, exitUsage, 0},
		{[]string{"more"}, exitUsage, 0},
	}
	for _, tt := range tests {
		var out, complaints bytes.Buffer
		code := run(t.Context(), append([]string{"logs", "--admin", shown(g.adminL)}, tt.args...), std{&out, &complaints})
		lines := 0
		for line := range strings.Lines(out.String()) {
			var r admin.Request
			if err := json.Unmarshal([]byte(line), &r); err != nil || r.RequestID == "" {
				t.Errorf("%v: %s: %v", tt.args, line, err)
			}
			lines++
		}
		if code != tt.code || lines != tt.counts {
			t.Errorf("%v: exit code %d with %d lines, want %d with %d\n%s", tt.args, code, lines, tt.code, tt.counts, complaints.String())
		}
		if empty := code == exitFine && lines == 0; empty != strings.Contains(complaints.String(), "no call of those") {
			t.Errorf("%v: %d lines, and %q is said of it", tt.args, lines, complaints.String())
		}
	}
	if err := g.drain(0); err != nil {
		t.Error(err)
	}
	var complaints bytes.Buffer
	if code := run(t.Context(), []string{"logs", "--admin", shown(g.adminL)}, std{io.Discard, &complaints}); code != exitNo || !strings.Contains(complaints.String(), "no gateway answers") {
		t.Errorf("logs of a gateway that is not there: %d %s", code, complaints.String())
	}
}

func TestALineOfACallIsFitForATerminal(t *testing.T) {
	if line := lineOf(admin.Request{Door: "reverse", Method: "GET", Host: "other.test", Path: "/x", Status: 421, Code: "misdirected"}); !strings.Contains(line, "GET /x at other.test ") {
		t.Errorf("%q does not name the host, which is what is wrong", line)
	}
	line := lineOf(admin.Request{Method: "GET\x1b[2J", Host: "a", Path: "/\u202e", Status: 403, Cause: "first\nsecond\x07", Remedy: "do it", RequestID: "r"})
	if strings.ContainsAny(line, "\x1b\x07\u202e") || !strings.Contains(line, "\n   why  first\n        second \n   do   do it\n") {
		t.Errorf("line = %q", line)
	}
}
