package e2e

import (
	"bufio"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/seed-13b04e61/gateway/sandbox"
)

// talk runs a script that looks at a page, and does each step that it asks for.
// What a step returns the script gets as JSON.
func talk(t *testing.T, cmd *exec.Cmd, steps map[string]func() any) {
	t.Helper()
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var said transcript
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	last := ""
	for lines := bufio.NewScanner(out); lines.Scan(); last = lines.Text() {
		name, asked := strings.CutPrefix(lines.Text(), "do ")
		if !asked {
			continue
		}
		answer := []byte("null")
		if step := steps[name]; step == nil {
			t.Errorf("the script asks for %q, which there is not", name)
		} else if answer, err = json.Marshal(step()); err != nil {
			t.Error(err)
		}
		if _, err := fmt.Fprintf(in, "%s\n", answer); err != nil {
			break // it is over; why is said below
		}
	}
	_, _ = io.Copy(io.Discard, out) // what came after an overlong line
	if err := cmd.Wait(); err != nil || last != "ok" {
		t.Errorf("%v after %q\n%s", err, last, said.String())
	}
}

// watched is a gateway with a caller, a route, a SQL door, and a page that is
// looked at.
type watched struct {
	*gateway
	world *sandbox.World
	key   string // of the caller job
	db    *sql.DB
}

const pageQuery = "search-word-of-the-query"

// watch starts one.
func watch(t *testing.T) *watched {
	t.Helper()
	w := &watched{world: newWorld(t, sandbox.Options{})}
	far := startSQL(t, sandbox.SQLOptions{World: w.world, Databases: []string{"d1"}})
	var section string
	section, w.key = sqlKey(t, "job")
	s := graphSetup(w.world, fmt.Sprintf(`    allow:
      - {methods: [GET], paths: ["/v1.0/**"]}
      - {methods: [POST], paths: ["/v1.0/users/*/sendMail"]}
%s
sql:
  - {name: orders-db, listen: "127.0.0.1:0", server: %s, dial: %q, database: d1, callers: [job], tls: {ca_file: sql-ca.pem}}
`, strings.TrimRight(section, "\n"), sandbox.SQLHost, far.Addr()))
	s.Files["sql-ca.pem"] = string(far.CAPEM())
	w.gateway = start(t, s)
	w.ready(t)
	return w
}

// asks sends a call with the key of job.
func (w *watched) asks(t *testing.T, method, path string) answer {
	t.Helper()
	return must(t, w.client, request{method: method, url: w.url(path), header: http.Header{"X-Gateway-Authorization": {"Bearer " + w.key}}})
}

// login opens a session at the SQL door.
func (w *watched) login(t *testing.T, password string) error {
	t.Helper()
	w.db = sqlPool(t, w.sql["orders-db"], "job", password, "encrypt=disable&app+name=worker")
	_, err := whoever(t.Context(), w.db)
	return err
}

// newest is what the API says of the latest call that ended with code.
func (w *watched) newest(t *testing.T, code string) any {
	t.Helper()
	var calls []struct {
		Code   string `json:"code"`
		Cause  string `json:"cause"`
		Remedy string `json:"remedy"`
	}
	if err := json.Unmarshal([]byte(must(t, w.client, request{url: "http://" + w.admin + "/api/requests?code=" + code}).body), &calls); err != nil || len(calls) == 0 {
		t.Fatalf("%d calls ended with %s (%v)", len(calls), code, err)
	}
	return calls[0]
}

// edit changes routes.yaml and returns what the last reload says.
func (w *watched) edit(t *testing.T, change func(string) string, taken float64) any {
	t.Helper()
	text, err := os.ReadFile(w.config)
	if err != nil {
		t.Fatal(err)
	}
	write(t, w.config, change(string(text)))
	eventually(t, "the edit is read", func() bool { return w.metric(t, "gateway_config_last_reload_successful") == taken })
	var status struct {
		Reload struct {
			Error string `json:"error"`
		} `json:"reload"`
	}
	if err := json.Unmarshal([]byte(must(t, w.client, request{url: "http://" + w.admin + "/api/status"}).body), &status); err != nil {
		t.Fatal(err)
	}
	return status.Reload
}

// restart starts the gateway again where it was.
func (w *watched) restart(t *testing.T) {
	t.Helper()
	w.gateway = start(t, setup{Dir: w.dir, Args: []string{"--listen", w.proxy, "--admin", w.admin}})
	w.ready(t)
}

const unknownKey = "\nroutez: []\n"

// steps are what the script asks for, by name.
func (w *watched) steps(t *testing.T) map[string]func() any {
	told := func(a answer, status int, code string) any {
		refused(t, a, status, code)
		return w.newest(t, code)
	}
	return map[string]func() any{
		"call": func() any {
			if a := w.asks(t, "GET", "/graph/v1.0/users?tag="+pageQuery); a.status != http.StatusOK {
				t.Errorf("status %d", a.status)
			}
			return nil
		},
		"deny": func() any { return told(w.asks(t, "DELETE", "/graph/v1.0/users/adele"), 403, "rule_denied") },
		"stranger": func() any {
			return told(must(t, w.client, request{url: w.url("/graph/v1.0/me")}), 401, "caller_unknown")
		},
		"nowhere": func() any { return told(w.asks(t, "GET", "/none/x"), 404, "route_unknown") },
		"forbidden": func() any {
			if a := w.asks(t, "POST", "/graph/v1.0/users/adele/sendMail"); a.status != 403 || a.header.Get("Gateway-Error") != "" {
				t.Errorf("status %d, want Graph's own 403", a.status)
			}
			return nil
		},
		"login": func() any {
			if err := w.login(t, w.key); err != nil {
				t.Error(err)
			}
			return nil
		},
		"logout": func() any { return w.db.Close() == nil },
		"bad login": func() any {
			if w.login(t, "not-the-key-of-job") == nil {
				t.Error("a login with a wrong key succeeded")
			}
			return nil
		},
		"bad file":  func() any { return w.edit(t, func(s string) string { return s + unknownKey }, 0) },
		"good file": func() any { return w.edit(t, func(s string) string { return strings.TrimSuffix(s, unknownKey) }, 1) },
		"stop":      func() any { w.end(t); return nil },
		"start":     func() any { w.restart(t); return nil },
	}
}

// Started, called, failed, seen: every part of the page, on a real gateway.
func TestPageOfARunningGateway(t *testing.T) {
	w := watch(t)
	ctx, cancel := context.WithTimeout(t.Context(), 20*patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "node", "clients/page/real.mjs", "http://"+w.admin)
	cmd.Env = append(os.Environ(), "BROWSER="+tool("chromium"), "HIDDEN="+strings.Join([]string{w.key, w.world.Secret(), pageQuery, "not-the-key-of-job"}, "\n"))
	talk(t, cmd, w.steps(t))
}
