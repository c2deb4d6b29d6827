package e2e

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/seed-13b04e61/gateway/sandbox"
)

// arena is a gateway under attack amid all whom a token might reach.
type arena struct {
	world         *sandbox.World
	g             *gateway
	upstream      *tap
	stranger, hop *tap // who must never be called
	network, addr string
	doors         []hostileDoor
	token         string // the Authorization that upstream gets, and nobody else

	callers map[string]string // their credentials, as a field's value; nil: no callers
	words   []string          // further markers and what stands for them
	tls     *tls.Config       // nil: the proxy port is plain
	owner   testing.TB        // of its gateways, which outlast the entry that starts one
	setting setup             // what g was started with
	guesses int               // credentials that g refused
}

// hostileDoor is how the table's markers read at one door. A caller's
// credential stands in carrier.
type hostileDoor struct{ name, to, host, carrier string }

// newArena starts one whose proxy port is at listen, and which has no callers.
func newArena(t testing.TB, listen string) *arena {
	t.Helper()
	a := emptyArena(t)
	a.enter(t, a.setup(listen))
	return a
}

func emptyArena(t testing.TB) *arena {
	t.Helper()
	return &arena{world: newWorld(t, sandbox.Options{}), upstream: newTap(t), stranger: newTap(t), hop: newTap(t)}
}

// enter starts the gateway and makes the good call whose token all others have
// to have.
func (a *arena) enter(t testing.TB, s setup) {
	t.Helper()
	a.owner, a.setting = t, s
	a.g = start(t, s)
	a.network, a.addr = "tcp", a.g.proxy
	name := a.g.proxy
	if path, ok := strings.CutPrefix(a.g.proxy, "unix:"); ok {
		a.network, a.addr, name = "unix", path, "localhost"
	}
	a.doors = []hostileDoor{
		{"reverse", "/graph", name, "X-Gateway-Authorization"},
		{"forward", "http://graph.microsoft.com", "graph.microsoft.com", "Proxy-Authorization"},
	}
	a.g.ready(t)
	a.good(t, a.doors[0])
	calls := a.arrived(t)
	if len(calls) != 1 || len(calls[0].values("Authorization")) != 1 {
		t.Fatalf("the upstream saw %+v", calls)
	}
	a.token = calls[0].values("Authorization")[0]
}

// door is that of the gateway which runs now.
func (a *arena) door(name string) hostileDoor {
	return a.doors[slices.IndexFunc(a.doors, func(d hostileDoor) bool { return d.name == name })]
}

// good makes a call that has to succeed.
func (a *arena) good(t testing.TB, d hostileDoor) {
	t.Helper()
	got, err := a.exchange(a.fill(a.dress(hostile{send: "GET {to}/good HTTP/1.1\r\nHost: {host}\r\n\r\n"}, d), d), 1)
	if err != nil || got.statuses[0] != http.StatusOK {
		t.Fatalf("a good call: %+v, %v", got, err)
	}
}

// dress adds the caller's credential to each call of h, as its first field.
func (a *arena) dress(h hostile, d hostileDoor) string {
	if a.callers == nil || h.bare {
		return h.send
	}
	as := h.as
	if as == "" {
		as = "good"
	}
	calls, text := max(h.answers, 1), ""
	rest := h.send
	for range calls {
		line, after, ok := cutFirstLine(rest)
		if !ok {
			break
		}
		carrier := d.carrier
		if strings.HasPrefix(h.send, "CONNECT ") {
			carrier = "Proxy-Authorization"
		}
		text += line + carrier + ": " + a.callers[as] + "\r\n"
		rest = after
	}
	return text + rest
}

// cutFirstLine cuts behind the next line that begins a call.
func cutFirstLine(text string) (through, rest string, ok bool) {
	for _, end := range []string{" HTTP/1.1\r\n", " HTTP/1.0\r\n", " HTTP/1.1\n", " HTTP/1.2\r\n"} {
		if i := strings.Index(text, end); i >= 0 {
			return text[:i+len(end)], text[i+len(end):], true
		}
	}
	return "", text, false
}

func (a *arena) setup(listen string) setup {
	s := graphSetup(a.world, fmt.Sprintf(`  - {name: other, hosts: [other.example.com], scope: %q, upstream: "http://%s"}
egress: {proxy: {url: "http://%s", username: gateway, password: {file: hop-password}}}
log: {level: trace}
`, graphScope, a.upstream.addr, a.hop.addr))
	s.Config = strings.Replace(s.Config, a.world.Graph.URL(), "http://"+a.upstream.addr, 1)
	s.Config = strings.Replace(s.Config, `proxy: "127.0.0.1:0"`, fmt.Sprintf("proxy: %q", listen), 1)
	s.Files["hop-password"] = "of-the-next-hop-0123"
	return s
}

func (a *arena) fill(text string, d hostileDoor) string {
	own := a.addr
	if a.network == "unix" {
		own = "localhost:8080"
	}
	ruled, tenants, at := "/ruled", "/tenants", d.host
	if d.name == "forward" {
		ruled, tenants, at = d.to, "http://tenants.example.com", "tenants.example.com"
	}
	words := append([]string{"{to}", d.to, "{ruled}", ruled, "{tenants}", tenants, "{tenants host}", at, "{host}", d.host, "{carrier}", d.carrier, "{stranger}", a.stranger.addr,
		"{hop}", a.hop.addr, "{admin}", a.g.admin, "{proxy}", own}, a.words...)
	return strings.NewReplacer(words...).Replace(text)
}

// exchanged is what came back for some bytes.
type exchanged struct {
	statuses []int
	codes    []string // Gateway-Error, "" where there is none
	raw      string   // every byte
}

// exchange sends text over a connection of its own, reads so many answers, says
// that nothing more will come, and reads what is left.
func (a *arena) exchange(text string, answers int) (exchanged, error) {
	conn, err := a.dial()
	if err != nil {
		return exchanged{}, err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	// A gateway that answers and hangs up before it was told everything is
	// within its rights: what it answered counts.
	if _, err := io.WriteString(conn, text); err != nil && !errors.Is(err, net.ErrClosed) && !brokenPipe(err) {
		return exchanged{}, err
	}
	var asked *http.Request // GET
	if strings.HasPrefix(text, "HEAD ") {
		asked = &http.Request{Method: http.MethodHead}
	}
	var raw strings.Builder
	r := bufio.NewReader(io.TeeReader(conn, &raw))
	var got exchanged
	for len(got.statuses) < answers {
		resp, err := http.ReadResponse(r, asked)
		if err != nil {
			return got, fmt.Errorf("answer %d: %w; so far %.300q", len(got.statuses)+1, err, raw.String())
		}
		if resp.StatusCode == http.StatusContinue {
			continue
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			return got, err
		}
		got.statuses = append(got.statuses, resp.StatusCode)
		got.codes = append(got.codes, resp.Header.Get("Gateway-Error"))
		if resp.Close {
			break
		}
	}
	if half, ok := conn.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
	}
	_, _ = io.Copy(io.Discard, r) // a reset is an end too
	got.raw = raw.String()
	return got, nil
}

func (a *arena) dial() (net.Conn, error) {
	conn, err := net.Dial(a.network, a.addr)
	if err != nil || a.tls == nil {
		return conn, err
	}
	return tls.Client(conn, a.tls), nil
}

// renew starts another gateway before this one would hold its user off, who
// guesses often: then nothing more would be looked at.
func (a *arena) renew(t *testing.T) {
	t.Helper()
	if a.guesses++; a.guesses%4 != 0 {
		return
	}
	a.quiet(t)
	a.g.end(t)
	a.enter(a.owner, a.setting)
}

func brokenPipe(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "write"
}

// arrived is what the upstream got since the last time.
func (a *arena) arrived(t testing.TB) []wire {
	t.Helper()
	var all []wire
	for _, raw := range a.upstream.take(t) {
		calls, err := readStrictly(raw)
		if err != nil {
			t.Errorf("the upstream got what can be read in two ways: %v", err)
		}
		all = append(all, calls...)
	}
	return all
}
