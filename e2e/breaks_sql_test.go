package e2e

import (
	"fmt"
	"strings"
	"testing"

	"github.com/seed-13b04e61/gateway/sandbox"
)

// lockout is a row about a login at a SQL door.
type lockout struct {
	name      string
	broken    func(f *sqlField)
	mended    func(f *sqlField)
	key       string // "": the right one
	driver    string // words that the driver reads
	result    string
	cause     string
	remedy    string
	checkSays bool // check --live meets it as well
}

func lockouts() []lockout {
	return []lockout{
		{name: "sql-user-missing", broken: func(f *sqlField) { f.far.DropUser(sandbox.ClientID) }, mended: func(f *sqlField) { f.far.CreateUser(sandbox.ClientID) },
			driver: "18456", result: "upstream_refused", cause: "Login failed for user", remedy: "CREATE USER", checkSays: true},
		{name: "sql-firewall", broken: func(f *sqlField) {
			f.far.Set(func(m *sandbox.SQLManners) { m.Refuse = &sandbox.SQLRefusal{Number: 40615} })
		},
			mended: func(f *sqlField) { f.far.Set(func(m *sandbox.SQLManners) { m.Refuse = nil }) },
			driver: "40615", result: "upstream_refused", cause: "203.0.113.7", remedy: "firewall", checkSays: true},
		{name: "sql-caller-key-wrong", broken: func(*sqlField) {}, mended: func(*sqlField) {}, key: wrongKey,
			driver: "18456", result: "caller_unknown", cause: `the password shown is no API key of caller "job"`, remedy: "log in with the caller's name as user and its API key as password"},
	}
}

func lockedOut(t *testing.T) (*scene, *sqlField) {
	f := newSQLField(t, sqlSetup{sections: fmt.Sprintf("callers:\n  job: {api_key: {sha256: %s}}\n", digest([]byte(jobKey)))})
	return &scene{gateway: f.g, name: "sql", told: map[string]string{}, secrets: []string{f.world.Secret(), jobKey, wrongKey}}, f
}

func (l lockout) run(t *testing.T, s *scene, f *sqlField) {
	l.broken(f)
	defer l.mended(f)
	key := l.key
	if key == "" {
		key = jobKey
	}
	_, err := whoever(t.Context(), f.pool(t, "job", key, "encrypt=disable"))
	if err == nil || !strings.Contains(told(err), l.driver) {
		t.Fatalf("the driver reads %v, want %s", err, l.driver)
	}
	documented(t, l.driver)
	s.heard.WriteString(told(err))
	line := s.logged(t, "the login", func(e entry) bool {
		return e["message"] == "sql login" && strings.Contains(e.text("cause"), l.cause)
	})
	why, remedy := line.text("cause"), line.text("remedy")
	t.Logf("why  %s\ndo   %s", why, remedy)
	wants(t, "the log's remedy", remedy, l.remedy)
	var sessions []entry
	s.api(t, "/api/sessions", &sessions)
	found := false
	for _, one := range sessions {
		found = found || one.text("result") == l.result && one.text("cause") == why && one.text("remedy") == remedy
	}
	if !found {
		t.Errorf("/api/sessions has no login with that cause and remedy")
	}
	s.looks = append(s.looks, look{Row: l.name, Where: "#session-rows tr", Words: []string{why, remedy}})
	if l.checkSays {
		s.told = map[string]string{}
		wants(t, "gateway check --live", s.tell(t, live(), 1), l.cause, l.remedy)
	}
}
