package e2e

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// hostile is one thing that a caller may send, and what becomes of it.
type hostile struct {
	name string
	// send is the bytes, with {to} before the path where the target begins,
	// {host} for the value of Host, and {stranger}, {hop}, {admin} and {proxy}
	// for addresses.
	send string
	// want is the code of the refusal; a bare number for one that net/http may
	// give before there is a call; or sent.
	want string
	line string // of a call that is sent: its first line at the upstream, "" for any
	body string // of a call that is sent
	// without are words that the upstream must not see anywhere, in any case.
	without []string
	door    string // the only one that it is for; "" for all
	way     string // the only way to the gateway that it is for; "" for both
	answers int    // how many it gets; 0 for one

	// bare: where there are callers, it gets no credential but what it holds.
	bare bool
	// guarded is the verdict where there are callers, "" for the same.
	guarded string
	as      string // the caller whose credential it gets; "" for "good"
	tenant  bool   // the token is that of a tenant that the call chose
}

// sent is the verdict on a call that reaches the upstream, with the gateway's
// token and in a form of one reading.
const sent = "sent"

// The ways to a gateway: over a network in clear text, or by TLS or a socket.
const openWay, privateWay = "open", "private"

// denied is the verdict of rules on what they do not allow, or cannot judge.
const denied = "denied"

// broken is the verdict on a call whose body turns out to be none: what the
// upstream has begun to read never ends, and nobody gets its answer.
const broken = "broken"

// attack does as h says at door d and judges the outcome.
func (a *arena) attack(t *testing.T, h hostile, d hostileDoor) {
	t.Helper()
	switch {
	case a.callers == nil:
	case h.guarded != "":
		h.want = h.guarded
	case h.want == sent && !h.bare && strings.Contains(strings.ToLower(h.send), "\n"+strings.ToLower(d.carrier)+":"):
		h.want = "caller_unknown" // of two credentials in one field neither is believed
	}
	got, err := a.exchange(a.fill(a.dress(h, d), d), max(h.answers, 1))
	if err != nil {
		t.Fatal(err)
	}
	switch h.want {
	case broken:
		a.judgeBroken(t, got)
	case sent:
		calls := a.arrived(t)
		a.judgeSent(t, h, got, calls)
	default:
		if calls := a.arrived(t); len(calls) != 0 {
			t.Errorf("the upstream was called: %+v", calls)
		}
		judgeRefused(t, h.want, got)
	}
	a.safe(t, got)
	if h.want == "caller_unknown" {
		a.renew(t)
		d = a.door(d.name)
	}
	a.good(t, d)
	for _, c := range a.arrived(t) {
		if c.line != "GET /good HTTP/1.1" || c.body != "" {
			t.Errorf("a good call afterwards arrives as %q with %q", c.line, c.body)
		}
	}
}

// attackAll sends each of table through each door.
func (a *arena) attackAll(t *testing.T, table []hostile) {
	t.Helper()
	way := openWay
	if a.tls != nil || a.network == "unix" {
		way = privateWay
	}
	for _, door := range []string{"reverse", "forward"} {
		for _, h := range table {
			if (h.door == "" || h.door == door) && (h.way == "" || h.way == way) {
				t.Run(door+"/"+h.name, func(t *testing.T) { a.attack(t, h, a.door(door)) })
			}
		}
	}
	a.quiet(t)
}

// judgeRefused holds every answer to want. After it the connection may say no
// more than that it ends.
func judgeRefused(t *testing.T, want string, got exchanged) {
	t.Helper()
	for i, status := range got.statuses {
		code := got.codes[i]
		plain := fmt.Sprint(status) == want && (code == "" || code == "bad_request" || code == "headers_too_large")
		plain = plain || want == denied && (code == "rule_denied" || code == "bad_request")
		if code != want && !plain {
			t.Errorf("status %d, code %q; want %s", status, code, want)
		}
	}
	if answered(got.raw) > 0 {
		t.Errorf("a call was answered: %.600q", got.raw)
	}
}

// answered is how many answers of raw are those of a call that was let through.
func answered(raw string) int {
	return strings.Count(raw, "HTTP/1.1 2") + strings.Count(raw, "HTTP/1.0 2")
}

func (a *arena) judgeSent(t *testing.T, h hostile, got exchanged, calls []wire) {
	t.Helper()
	answers := max(h.answers, 1)
	if len(got.statuses) != answers || answered(got.raw) != answers || len(calls) != answers {
		t.Fatalf("statuses %v, codes %q, %d calls at the upstream %+v; want %d of each", got.statuses, got.codes, len(calls), calls, answers)
	}
	if h.line != "" && calls[0].line != a.fill(h.line, hostileDoor{}) {
		t.Errorf("the upstream got %q, want %q", calls[0].line, h.line)
	}
	if calls[0].body != h.body {
		t.Errorf("the upstream got the body %.200q, want %.200q", calls[0].body, h.body)
	}
	for _, c := range calls {
		text := strings.ToLower(c.line + "\n" + strings.Join(c.fields, "\n") + "\n")
		rest := text // without the token, whose random letters may spell a word
		if v := c.values("Authorization"); len(v) == 1 && (v[0] == a.token || h.tenant) {
			rest = strings.ReplaceAll(text, strings.ToLower(v[0]), "")
		}
		for _, word := range h.without {
			if strings.Contains(rest, strings.ToLower(a.fill(word, hostileDoor{}))) {
				t.Errorf("the upstream sees %q:\n%s", word, text)
			}
		}
		names := 0
		for _, f := range c.fields {
			name, _, _ := strings.Cut(strings.ToLower(f), ":")
			names += strings.Count(strings.ReplaceAll(name, "_", "-"), "authorization")
		}
		v := c.values("Authorization")
		if len(v) != 1 || (v[0] != a.token) != h.tenant || !strings.HasPrefix(v[0], "Bearer ") || names != 1 {
			t.Errorf("the upstream does not see the gateway's token alone:\n%s", text)
		}
		if v := c.values("Host"); len(v) != 1 || v[0] != "graph.microsoft.com" && !h.tenant {
			t.Errorf("the upstream sees Host %q", v)
		}
	}
}

func (a *arena) judgeBroken(t *testing.T, got exchanged) {
	t.Helper()
	for _, raw := range a.upstream.take(t) {
		if calls, err := readStrictly(raw); err == nil {
			t.Errorf("the upstream got whole calls: %+v", calls)
		}
	}
	if len(got.statuses) == 0 || got.statuses[0] < 400 || answered(got.raw) > 0 {
		t.Errorf("the answer is %.600q, want a refusal", got.raw)
	}
}

// safe checks what holds whatever was sent.
func (a *arena) safe(t *testing.T, got exchanged) {
	t.Helper()
	for _, p := range []*tap{a.stranger, a.hop} {
		if raw := p.take(t); len(raw) != 0 {
			t.Errorf("somebody else was called: %q", raw)
		}
	}
	if at := jwtIn(got.raw); at >= 0 {
		t.Errorf("a token comes back: %.80q", got.raw[at:])
	}
	for _, status := range got.statuses {
		if status == http.StatusInternalServerError {
			t.Error("status 500")
		}
	}
}

// quiet checks that the gateway's log tells of no defect and shows no secret.
func (a *arena) quiet(t *testing.T) {
	t.Helper()
	text := a.g.stdout.String() + a.g.stderr.String()
	for _, word := range []string{"panic", "defect", "goroutine ", "DATA RACE", "of-the-caller", "of-the-next-hop", a.world.Secret()} {
		if at := strings.Index(text, word); at >= 0 {
			t.Errorf("the log holds %.8q: %.600s", word, text[max(0, at-200):])
		}
	}
	if at := jwtIn(text); at >= 0 {
		t.Errorf("the log holds a JWT: %.600s", text[max(0, at-200):])
	}
}

// hostileTable is every entry there is.
func hostileTable() []hostile {
	var all []hostile
	for _, part := range [][]hostile{hostileFraming(), hostileTargets(), hostileFields(), hostilePaths(), hostileHosts()} {
		all = append(all, part...)
	}
	return all
}

func TestHostileTableGetsNoTokenToAWrongPlaceThroughAnyDoor(t *testing.T) {
	dir, err := os.MkdirTemp("", "hostile-") // a socket's path has 107 bytes at most
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	for listener, listen := range map[string]string{"tcp": "127.0.0.1:0", "unix": "unix:" + filepath.Join(dir, "proxy.sock")} {
		t.Run(listener, func(t *testing.T) {
			a := newArena(t, listen)
			a.attackAll(t, hostileTable())
		})
	}
}

func TestHostileTableHasNoEntryTwice(t *testing.T) {
	names, bytes := map[string]bool{}, map[string]string{}
	for _, h := range hostileTable() {
		key := h.door + " " + h.send
		if names[h.name] || bytes[key] != "" {
			t.Errorf("%q stands there twice, as %q", h.name, bytes[key])
		}
		names[h.name], bytes[key] = true, h.name
	}
	if len(names) < 300 {
		t.Errorf("%d entries, want 300 at least", len(names))
	}
}
