package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/seed-13b04e61/gateway/sandbox"
)

// ailment is a row about the gateway's own state: calls go on as before.
type ailment struct {
	name   string
	found  string // words under which docs/troubleshooting.md has it
	broken func(t *testing.T, s *scene)
	cause  string
	remedy string
	api    string   // of the admin port that tells
	where  string   // on the page
	tells  []string // the command that tells as well
	exit   int
}

// run breaks, looks everywhere, and mends it.
func (a ailment) run(t *testing.T, s *scene, page *lookout) {
	config, err := os.ReadFile(s.config)
	if err != nil {
		t.Fatal(err)
	}
	documented(t, a.found)
	a.broken(t, s)
	line := s.logged(t, a.cause, func(e entry) bool { return strings.Contains(plain(e.all()), plain(a.cause)) })
	wants(t, "the log", line.all(), a.cause, a.remedy)
	eventually(t, a.api+" tells", func() bool {
		var told any
		s.api(t, a.api, &told)
		text := plain(words(told))
		return strings.Contains(text, plain(a.cause)) && strings.Contains(text, plain(a.remedy))
	})
	wants(t, "gateway "+a.tells[0], s.tell(t, a.tells, a.exit), a.cause, a.remedy)
	if r := must(t, s.client, request{url: s.url("/graph/v1.0/users")}); r.status != http.StatusOK {
		t.Errorf("calls end with %d meanwhile", r.status)
	}
	page.look(t, s, look{Row: a.name, Where: a.where, Words: []string{a.cause, a.remedy}})
	if err := os.WriteFile(s.config, config, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(s.config, 0o600); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the gateway is well again", func() bool { return s.metric(t, "gateway_config_last_reload_successful") == 1 })
}

// all is what the line says.
func (e entry) all() string { return words(map[string]any(e)) }

// words are the texts in what JSON held.
func words(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case []any:
		var all []string
		for _, one := range v {
			all = append(all, words(one))
		}
		return strings.Join(all, "\n")
	case map[string]any:
		var all []string
		for _, one := range v {
			all = append(all, words(one))
		}
		slices.Sort(all)
		return strings.Join(all, "\n")
	}
	b, _ := json.Marshal(v) // numbers and the like
	return string(b)
}

// edit has routes.yaml say new in place of old, and waits until that was read.
func edit(old, new string) func(*testing.T, *scene) {
	return func(t *testing.T, s *scene) {
		t.Helper()
		text, err := os.ReadFile(s.config)
		if err != nil || !strings.Contains(string(text), old) {
			t.Fatalf("routes.yaml does not hold %q (%v)", old, err)
		}
		write(t, s.config, strings.Replace(string(text), old, new, 1))
		eventually(t, "the edit is refused", func() bool { return s.metric(t, "gateway_config_last_reload_successful") == 0 })
	}
}

// ailingStates is a gateway whose files change under it.
func ailingStates(t *testing.T) (*scene, []ailment) {
	w := newWorld(t, sandbox.Options{})
	set := graphSetup(w, "    allow:\n      - {methods: [GET], paths: [\"/v1.0/**\"]}\n")
	s := &scene{name: "states", told: map[string]string{}, secrets: []string{w.Secret(), "lit3ral-s3cret"}}
	s.gateway = start(t, set)
	s.ready(t)
	check := []string{"check"}
	status := func(name string, broken func(*testing.T, *scene), cause, remedy string) ailment {
		found := "the file is wrong"
		if name == "group-may-write-routes-yaml" {
			found = "group or world may write this file"
		}
		return ailment{name: name, found: found, broken: broken, cause: cause, remedy: remedy, api: "/api/status", where: "#reload-error", tells: check, exit: 1}
	}
	secret := filepath.Join(s.dir, "client-secret")
	return s, []ailment{
		status("mistake-in-routes-yaml", edit("    allow:", "    alow:"), `unknown key "alow"`, `did you mean "allow"?`),
		status("single-slash-for-sql", edit("routes:\n", "routes:\n  - {name: db, hosts: [db.contoso.com], scope: https://database.windows.net/.default}\n"),
			"asks for the wrong audience", "Azure SQL's audience ends in a slash; write https://database.windows.net//.default"),
		status("plain-http-upstream", edit("routes:\n", "routes:\n  - {name: old, hosts: [old.contoso.com], scope: api://old/.default, upstream: \"http://10.0.0.7\"}\n"), "secrets and tokens would travel in clear text", "write https; http is for loopback addresses alone"),
		status("secret-in-routes-yaml", edit("client_secret: {file: client-secret}", "client_secret: "+fmt.Sprintf("%q", "lit3ral-s3cret")), "want a reference, and never the secret itself", "write {file: /run/secrets/name} or {env: NAME}"),
		status("group-may-write-routes-yaml", func(t *testing.T, s *scene) {
			if err := os.Chmod(s.config, 0o660); err != nil {
				t.Fatal(err)
			}
			if out, code := s.command(t, "reload", "--admin", s.admin); code != 1 {
				t.Errorf("gateway reload: %d\n%s", code, out)
			}
		}, "group or world may write this file (mode 0660)", "chmod go-w"),
		{name: "secret-readable-by-others", found: "others may read", cause: "others may read " + secret + " (mode 0644)", remedy: "chmod go-r " + secret, api: "/api/status", where: "#reload-warnings", tells: check,
			broken: func(t *testing.T, s *scene) {
				if err := os.Chmod(secret, 0o644); err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { _ = os.Chmod(secret, 0o600) })
				if out, code := s.command(t, "reload", "--admin", s.admin); code != 0 {
					t.Errorf("gateway reload: %d\n%s", code, out)
				}
			}},
		{name: "secret-vanishes", found: "no such file", cause: "client-secret: no such file", remedy: "put the secret's value into file", api: "/api/credentials", where: "#problems li", tells: live(), exit: 1,
			broken: func(t *testing.T, s *scene) {
				if err := os.Remove(secret); err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { write(t, secret, w.Secret()) })
			}},
	}
}
