package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/seed-13b04e61/gateway/admin"
)

// explainable are calls that explain tells the grounds of, one for each of them.
var explainable = []string{
	"--as reports GET https://api.contoso.com/orders/1",
	"--as reports DELETE https://api.contoso.com/orders/1",
	"--as reports POST https://api.contoso.com/orders/1/notes",
	"--as reports GET https://api.contoso.com/other",
	"--as backup GET http://api.contoso.com/orders/1",
	"--as guest GET https://api.contoso.com/orders/1",
	"--as backup DELETE https://report.fabrikam.com/x",
	"--as backup --header X-Tenant-Id:fabrikam.onmicrosoft.com GET https://management.azure.com/",
	"--as reports GET https://management.azure.com/",
	"--as reports GET https://api.contoso.com/orders/../x",
	"--as reports GET https://graph.micosoft.com/",
	"--as reports GET https://169.254.169.254/metadata",
	"--as reports GET http://127.0.0.1:8080/orders/orders/1",
	"--as reports GET http://127.0.0.1:8080/orders/1",
	"--as reports GET http://127.0.0.1:8080/nothing",
	"--as reports --header Origin:http://page.test GET http://127.0.0.1:8080/orders/orders/1",
	"--as reports --header Host:page.test GET http://127.0.0.1:8080/orders/orders/1",
	"--as reports --header Host:page.test GET https://api.contoso.com/orders/1",
	"--as reports --header Upgrade:websocket GET https://api.contoso.com/orders/1",
	"--as reports TRACE https://api.contoso.com/orders/1",
	"GET https://api.contoso.com/orders/1",
	"--as reports CONNECT api.contoso.com:443",
	"--as reports CONNECT login.microsoftonline.com:443",
	"--as guest CONNECT api.contoso.com:443",
	"--as reports CONNECT elsewhere.test:443",
	"--as reports CONNECT 127.0.0.1:8080",
	"--as reports CONNECT 10.1.2.3:443",
	"--as reports LOGIN orders-db",
	"--as backup LOGIN orders-db",
	"LOGIN orders-db",
}

// TestExplainNamesTheLineThatDecided compares with testdata/explain.golden, or
// writes it with -update.
func TestExplainNamesTheLineThatDecided(t *testing.T) {
	golden, err := filepath.Abs(filepath.Join("testdata", "explain.golden"))
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile(filepath.Join("testdata", "explain.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(t.TempDir())
	if err := os.WriteFile("routes.yaml", source, 0o600); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(source), "\n")
	var all strings.Builder
	for _, line := range explainable {
		var out, complaints bytes.Buffer
		code := run(t.Context(), append([]string{"explain"}, strings.Fields(line)...), std{&out, &complaints})
		fmt.Fprintf(&all, "$ gateway explain %s\n%s(exit %d)\n\n", line, out.String(), code)

		out.Reset()
		run(t.Context(), append([]string{"explain", "--json"}, strings.Fields(line)...), std{&out, &complaints})
		var x admin.Explanation
		if err := json.Unmarshal(out.Bytes(), &x); err != nil {
			t.Fatalf("%s: %v: %s", line, err, complaints.String())
		}
		if x.Allowed != (code == 0) || x.Decided.Why == "" || x.PassedOver == nil || x.Also == nil {
			t.Errorf("%s: %+v", line, x)
		}
		if !x.Allowed && (x.Remedy == "" || !strings.HasPrefix(x.Cause, x.Detail) || x.Code == "") {
			t.Errorf("%s: refused with cause %q, detail %q, remedy %q", line, x.Cause, x.Detail, x.Remedy)
		}
		var n int
		if _, err := fmt.Sscanf(x.Decided.At, "routes.yaml:%d", &n); x.Decided.At != "" && (err != nil || strings.TrimSpace(lines[n-1]) != x.Decided.Line) {
			t.Errorf("%s: decided by %+v", line, x.Decided)
		}
	}
	if *update {
		if err := os.WriteFile(golden, []byte(all.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if got := all.String(); got != string(want) {
		t.Errorf("explain does not say what testdata/explain.golden has; go test -update writes it anew:\n%s", got)
	}
}

// TestExplainRepeatsNoSecretOfItsQuestion asks rightly and wrongly, with what a
// hasty copy may hold.
func TestExplainRepeatsNoSecretOfItsQuestion(t *testing.T) {
	source, err := os.ReadFile(filepath.Join("testdata", "explain.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(t.TempDir())
	if err := os.WriteFile("routes.yaml", source, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, question := range [][]string{
		{"GET", "ftp://us:hunter2@api.contoso.com/"},
		{"GET", "https://api.contoso.com:x/?sig=hunter2"},
		{"GET", "//us:hunter2@api.contoso.com/"},
		{"GET", "https://us:h/hunter2@api.contoso.com/"},
		{"GET", "https://us:hunter2@api.contoso.com/?sig=hunter2"},
		{"GET", "https://api.contoso.com/orders/1?sig=hunter2#hunter2"},
		{"CONNECT", "us:hunter2@api.contoso.com:443"},
		{"GET", "https://api.contoso.com/", "--header", "Bearer hunter2"},
		{"GET", "https://api.contoso.com/", "--header", "Authorization: Bearer hunter2"},
		{"LOGIN", "sql://us:hunter2@orders-db"},
		{"LOGIN", "us:hunter2"},
	} {
		for _, more := range [][]string{nil, {"--json"}, {"--as", "reports"}} {
			var out bytes.Buffer
			run(t.Context(), append(append([]string{"explain"}, question...), more...), std{&out, &out})
			if text := out.String(); text == "" || strings.Contains(text, "hunter2") {
				t.Errorf("explain %q %q says %s", question, more, text)
			}
		}
	}
}

// TestExplainPrintsNothingThatATerminalObeys asks for what a caller made up.
func TestExplainPrintsNothingThatATerminalObeys(t *testing.T) {
	source, err := os.ReadFile(filepath.Join("testdata", "explain.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(t.TempDir())
	if err := os.WriteFile("routes.yaml", source, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, question := range [][]string{
		{"GET", "https://api.contoso.com/orders/\u202e1"}, {"GET", "https://api.contoso.com/orders/\u009b31m"}, {"G\x1b[2J", "https://api.contoso.com/orders/1"},
		{"GET", "https://\u202eapi.contoso.com/"}, {"GET", "https://api.contoso.com/", "--as", "x\x1b[2J\u202e"}, {"LOGIN", "x\x1b[2J\u202e"},
	} {
		var out bytes.Buffer
		run(t.Context(), append([]string{"explain", "--as", "reports"}, question...), std{&out, &out})
		if text := out.String(); text == "" || strings.ContainsAny(text, "\x1b\u202e\u009b") {
			t.Errorf("explain %q says %q", question, text)
		}
	}
}

// TestARefusalHasTheSameWordsEverywhere makes calls that are refused, and reads
// of them what the caller is told, the log, the recent calls and explain.
func TestARefusalHasTheSameWordsEverywhere(t *testing.T) {
	world, credentials := sandboxed(t)
	text := quietPorts + credentials + strings.Replace(fmt.Sprintf(watchedRoutes, world.Graph.URL(), world.Graph.URL()), "scope: api://unknown/.default,", "scope: api://unknown/.default, paths: [/x/**],", 1)
	g, log := opened(t, doors{}, text)
	here := "http://" + shown(g.proxyL)
	proxied := &http.Client{Transport: &http.Transport{Proxy: http.ProxyURL(&url.URL{Scheme: "http", Host: shown(g.proxyL)}), DisableKeepAlives: true}}
	for _, tt := range []struct {
		client    *http.Client
		url, code string
		explained bool
	}{
		{http.DefaultClient, here + "/graph/v1.0/groups", "rule_denied", true},
		{http.DefaultClient, here + "/graph/v1.0/%2e%2e/users", "bad_request", true},
		{http.DefaultClient, here + "/nothing", "route_unknown", true},
		{http.DefaultClient, here + "/other/y", "route_unknown", true},
		{proxied, "http://elsewhere.test/", "egress_denied", true},
		{proxied, "http://api.contoso.com/y", "egress_denied", true},
		{proxied, "http://169.254.169.254/metadata", "egress_denied", true},
		{http.DefaultClient, here + "/other/x/1", "token_refused", false},
	} {
		before := g.Calls().Total().Requests
		resp, err := tt.client.Get(tt.url)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		var told struct{ Type, Code, Detail, Remedy string }
		if err != nil || json.Unmarshal(body, &told) != nil || told.Code != tt.code {
			t.Fatalf("%s: %d %s %v, want %s", tt.url, resp.StatusCode, body, err, tt.code)
		}
		if !strings.HasSuffix(told.Type, "errors.md#"+tt.code) {
			t.Errorf("%s: type %q leads nowhere", tt.url, told.Type)
		}
		for g.Calls().Total().Requests == before {
			pause()
		}
		var list []admin.Request
		shownAt(t, g, "/api/requests?limit=1", &list)
		r := list[0]
		if r.Code != tt.code || told.Detail == "" || !strings.HasPrefix(r.Cause, told.Detail) || r.Remedy != told.Remedy || r.Remedy == "" {
			t.Errorf("%s: recorded %q and %q, told %q and %q", tt.url, r.Cause, r.Remedy, told.Detail, told.Remedy)
		}
		if line := log.line("call", r.RequestID); line["cause"] != r.Cause || line["remedy"] != r.Remedy {
			t.Errorf("%s: logged %q and %q, recorded %q and %q", tt.url, line["cause"], line["remedy"], r.Cause, r.Remedy)
		}
		if !tt.explained {
			var held []admin.Token
			shownAt(t, g, "/api/tokens", &held)
			for _, k := range held {
				if k.Failing && (k.Error != told.Detail || k.Remedy != told.Remedy) {
					t.Errorf("the token's trouble is %q and %q, the caller was told %q and %q", k.Error, k.Remedy, told.Detail, told.Remedy)
				}
			}
			if line := log.line("no token", ""); line["cause"] != r.Cause || line["remedy"] != r.Remedy {
				t.Errorf("the token's trouble was logged as %q and %q, that of the call as %q and %q", line["cause"], line["remedy"], r.Cause, r.Remedy)
			}
			continue
		}
		var x admin.Explanation
		if shownAt(t, g, "/api/explain?method=GET&url="+url.QueryEscape(tt.url), &x); x.Code != tt.code || x.Cause != r.Cause || x.Remedy != r.Remedy || x.Detail != told.Detail {
			t.Errorf("%s: explained by %q and %q, recorded %q and %q", tt.url, x.Cause, x.Remedy, r.Cause, r.Remedy)
		}
	}
}

// line is the first line of the log of this message that holds part. It waits
// for it.
func (l *logged) line(message, part string) map[string]any {
	for {
		for line := range strings.Lines(l.String()) {
			var fields map[string]any
			if strings.Contains(line, part) && json.Unmarshal([]byte(line), &fields) == nil && fields["message"] == message {
				return fields
			}
		}
		pause()
	}
}
