package e2e

import (
	"bufio"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// breakage is one row: something that worked is broken, an app calls, and the
// log, the page and a command name the cause and the next step in one way.
type breakage struct {
	name   string
	broken func(t *testing.T, s *scene)           // breaks it; nil: it began so
	call   func(t *testing.T, s *scene) answer    // nil: GET /NAME/v1.0/users at the reverse door
	status int                                    // of the app's answer
	code   string                                 // Gateway-Error; "": the upstream's own answer
	detail string                                 // words of the app's answer; "": those of cause
	cause  string                                 // words of the cause, for the operator
	remedy string                                 // words of the next step
	health bool                                   // gateway health names cause and remedy as well
	tells  []string                               // the command that tells as well, without --config; nil: logs alone
	exit   int                                    // its code
	said   string                                 // words that stand in its output for cause; "": those of cause
	does   string                                 // words that stand there for the remedy; "": the log's own
	after  func(t *testing.T, s *scene, a answer) // what the remedy changes
}

// adminAddress in a row's command stands for that of the scene's admin port.
const adminAddress = "ADMIN"

// scene is a gateway before a world of real servers, and the rows that break it.
type scene struct {
	*gateway
	name    string
	secrets []string // that nobody may be shown
	rows    []breakage
	heard   strings.Builder   // all that apps and operators were told
	told    map[string]string // output of commands that were run already
	looks   []look
}

// look is what an operator would look at on the page: Filter is typed where
// calls are listed and the call opened, or "" for what stands at Where.
type look struct {
	Row    string
	Filter string
	Where  string
	Words  []string
}

// entry is a line of the log, or an object of the API.
type entry map[string]any

func (e entry) text(name string) string {
	s, _ := e[name].(string)
	return s
}

// why is the cause of a refusal, or what there is to remark on an upstream's answer.
func (e entry) why() string { return cmp.Or(e.text("cause"), e.text("remark")) }

// requestID is the log's name for it.
func (e entry) requestID() string { return cmp.Or(e.text("gateway.request_id"), e.text("request_id")) }

// logged waits for the log's line that done takes.
func (s *scene) logged(t testing.TB, what string, done func(entry) bool) entry {
	t.Helper()
	var found entry
	eventually(t, "the log tells of "+what, func() bool {
		for line := range strings.Lines(s.stdout.String() + s.stderr.String()) {
			var e entry
			if json.Unmarshal([]byte(line), &e) == nil && done(e) {
				found = e
				return true
			}
		}
		return false
	})
	return found
}

// api asks the admin port.
func (s *scene) api(t testing.TB, path string, into any) {
	t.Helper()
	a := must(t, s.client, request{url: "http://" + s.admin + path})
	s.heard.WriteString(a.body)
	if err := json.Unmarshal([]byte(a.body), into); err != nil || a.status != http.StatusOK {
		t.Fatalf("%s: status %d, %.300s", path, a.status, a.body)
	}
}

// tell runs a command as an operator would, once for all rows that want it.
func (s *scene) tell(t *testing.T, args []string, exit int) string {
	t.Helper()
	key := strings.Join(args, " ")
	if out, ok := s.told[key]; ok {
		return out
	}
	for i, arg := range args {
		args[i] = strings.ReplaceAll(arg, adminAddress, s.admin)
	}
	out, code := s.command(t, args...)
	s.heard.WriteString(out)
	if code != exit {
		t.Errorf("gateway %s ends with %d, want %d:\n%s", key, code, exit, out)
	}
	s.told[key] = plain(out)
	return s.told[key]
}

// seconds are those by which a clock is said to be wrong: they differ by one
// from call to call.
var seconds = regexp.MustCompile(`\b\d+ s (ahead of|behind)`)

// plain is text with its blanks and line ends as one.
func plain(text string) string {
	return seconds.ReplaceAllString(strings.Join(strings.Fields(text), " "), "some s $1")
}

// wants checks that text has all of words, one after the other.
func wants(t testing.TB, where, text string, words ...string) {
	t.Helper()
	for _, w := range words {
		if w = plain(w); w == "" || !strings.Contains(plain(text), w) {
			t.Errorf("%s does not say %q:\n%s", where, w, tail(text, 6000))
		}
	}
}

// run breaks, calls, and looks everywhere.
func (b breakage) run(t *testing.T, s *scene) {
	if b.broken != nil {
		b.broken(t, s)
	}
	a := b.asked(t, s)
	s.heard.WriteString(a.body)
	id := a.header.Get("Gateway-Request-Id")
	var told string
	if b.code != "" {
		p := refused(t, a, b.status, b.code)
		wants(t, "the app's answer", p.Detail, cmp.Or(b.detail, b.cause))
		told = p.Detail
		wants(t, "the app's answer", p.Remedy, b.remedy)
	} else if a.status != b.status || a.header.Get("Gateway-Error") != "" {
		t.Fatalf("the app gets %d, Gateway-Error %q: %.300s; want the upstream's %d", a.status, a.header.Get("Gateway-Error"), a.body, b.status)
	}
	line := s.logged(t, "the call", func(e entry) bool { return e.requestID() == id && e["message"] == "call" })
	why, remedy := line.why(), line.text("remedy")
	wants(t, "the log's cause", why, b.cause)
	wants(t, "the log's remedy", remedy, b.remedy)
	t.Logf("why  %s\ndo   %s", why, remedy)
	if b.detail == "" || strings.HasPrefix(b.cause, b.detail) {
		if !strings.HasPrefix(why, told) {
			t.Errorf("the answer says %q, and the log %q", told, why)
		}
	}
	documented(t, b.symptom())
	b.remembered(t, s, id, why, remedy)
	s.looks = append(s.looks, look{Row: b.name, Filter: id, Where: "#detail-words", Words: []string{why, remedy}})
	s.looksAtCommands(t, b, why, remedy)
	if b.after != nil {
		b.after(t, s, a)
	}
}

// symptom is what an operator searches for: Entra's number, else the code, else
// the status of the upstream's answer.
func (b breakage) symptom() string {
	number, ok := strings.CutPrefix(regexp.MustCompile(`AADSTS\d+`).FindString(b.cause), "AADSTS")
	if ok {
		return number
	}
	return cmp.Or(b.code, strconv.Itoa(b.status))
}

// documented checks that the operator finds a symptom in the docs.
func documented(t *testing.T, symptom string) {
	t.Helper()
	text, err := os.ReadFile("../docs/troubleshooting.md")
	if err != nil {
		t.Fatal(err)
	}
	if symptom == "" || !regexp.MustCompile(`(^|\W|AADSTS)`+regexp.QuoteMeta(symptom)+`(\W|$)`).Match(text) {
		t.Errorf("docs/troubleshooting.md does not name %q", symptom)
	}
}

func (b breakage) asked(t *testing.T, s *scene) answer {
	t.Helper()
	if b.call != nil {
		return b.call(t, s)
	}
	return must(t, s.client, request{url: s.url("/" + b.name + "/v1.0/users")})
}

// remembered checks that /api/requests has the call in the log's words.
func (b breakage) remembered(t *testing.T, s *scene, id, why, remedy string) {
	t.Helper()
	var calls []entry
	s.api(t, "/api/requests?limit=1000", &calls)
	for _, c := range calls {
		if c.text("request_id") != id {
			continue
		}
		if got := c.why(); got != why || c.text("remedy") != remedy || c.text("code") != b.code {
			t.Errorf("/api/requests says %q, %q, %q; the log %q, %q, %q", c.text("code"), got, c.text("remedy"), b.code, why, remedy)
		}
		return
	}
	t.Errorf("/api/requests has no call %s", id)
}

// looksAtCommands checks what gateway logs and the row's own command say.
func (s *scene) looksAtCommands(t *testing.T, b breakage, why, remedy string) {
	t.Helper()
	out, code := s.command(t, "logs", "--once", "--admin", s.admin, "-n", "1")
	s.heard.WriteString(out)
	if code != 0 {
		t.Errorf("gateway logs ends with %d", code)
	}
	wants(t, "gateway logs", out, why, remedy)
	if b.health {
		out, code := s.command(t, "health", "--admin", s.admin)
		wants(t, fmt.Sprintf("gateway health, which ends with %d,", code), out, b.cause, remedy)
		if out, code := s.command(t, "health", "--live", "--admin", s.admin); code != 0 || strings.TrimSpace(out) != "up" {
			t.Errorf("gateway health --live ends with %d: %s", code, out)
		}
		s.heard.WriteString(out)
	}
	if b.tells == nil {
		return
	}
	wants(t, "gateway "+b.tells[0], s.tell(t, b.tells, b.exit), cmp.Or(b.said, b.cause), cmp.Or(b.does, remedy))
}

// hunt looks for what nobody may be shown in all that was said.
func (s *scene) hunt(t testing.TB) {
	t.Helper()
	said := s.heard.String() + s.stdout.String() + s.stderr.String()
	for i, secret := range s.secrets {
		if secret == "" || strings.Contains(said, secret) {
			t.Errorf("secret %d of scene %s was shown", i, s.name)
		}
	}
	if found := regexp.MustCompile(`eyJ[\w-]{10,}\.[\w-]{10,}|gwp_[\w-]{10,}|PRIVATE KEY`).FindString(said); found != "" {
		t.Errorf("scene %s shows %.20s…", s.name, found)
	}
}

// lookout is one Chromium for all pages that are looked at.
type lookout struct {
	in  io.WriteCloser
	out *bufio.Scanner
}

func newLookout(t *testing.T) *lookout {
	t.Helper()
	cmd := exec.Command("node", "clients/page/breaks.mjs")
	cmd.Env = append(os.Environ(), "BROWSER="+tool("chromium"))
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("the browser: %v", err)
		}
	})
	r := &lookout{in, bufio.NewScanner(out)}
	r.out.Buffer(nil, 1<<20)
	return r
}

// look opens the page of a scene and reads there.
func (r *lookout) look(t *testing.T, s *scene, looks ...look) {
	t.Helper()
	plan, err := json.Marshal(struct {
		Address string
		Looks   []look
	}{"http://" + s.admin, looks})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.in.Write(append(plan, '\n')); err != nil || !r.out.Scan() {
		t.Fatalf("the browser is over: %v, %v", err, r.out.Err())
	}
	var missing []string
	if err := json.Unmarshal(r.out.Bytes(), &missing); err != nil {
		t.Fatalf("the browser says %q: %v", r.out.Text(), err)
	}
	for _, m := range missing {
		t.Error(m)
	}
}

// TestWaysToBreakIt is a table of what goes wrong in the field. For each row
// the log, the page and the operator's command name cause and next step.
func TestWaysToBreakIt(t *testing.T) {
	scenes := []*scene{brokenCredentials(t), brokenEndpoints(t), brokenCalls(t), brokenUpstreams(t), brokenHop(t), deadHop(t)}
	page, rows := newLookout(t), 0
	for _, s := range scenes {
		rows += len(s.rows)
		t.Run(s.name, func(t *testing.T) {
			for _, b := range s.rows {
				t.Run(b.name, func(t *testing.T) { b.run(t, s) })
			}
		})
	}
	states, ailments := ailingStates(t)
	rows += len(ailments)
	for _, a := range ailments {
		t.Run("states/"+a.name, func(t *testing.T) { a.run(t, states, page) })
		states.told = map[string]string{}
	}
	clients := missingClients(t)
	rows += len(missteps())
	for _, m := range missteps() {
		t.Run("clients/"+m.name, func(t *testing.T) { m.run(t, clients) })
	}
	databases, field := lockedOut(t)
	rows += len(lockouts())
	for _, l := range lockouts() {
		t.Run("sql/"+l.name, func(t *testing.T) { l.run(t, databases, field) })
	}
	scenes = append(scenes, states, clients, databases)
	for _, s := range scenes {
		t.Run("page/"+s.name, func(t *testing.T) { page.look(t, s, s.looks...) })
	}
	for _, s := range scenes {
		s.hunt(t)
	}
	t.Logf("%d ways", rows)
}
