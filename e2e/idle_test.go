package e2e

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/seed-13b04e61/gateway/sandbox"
)

const (
	// idleConnections is how many lie about; where the system allows fewer open
	// files, it is as many as it allows, and never less than leastIdle.
	idleConnections, leastIdle = 10_000, 5_000

	// idleEnv has the test's binary hold connections to the address in it,
	// instead of running tests. What lies about must not share a process, and
	// so a scheduler and a collector, with the client that is measured.
	idleEnv = "GATEWAY_E2E_IDLE"
)

// holdIdle opens connections to addr, makes a call over each that the gateway
// refuses, tells their number, and holds them until its input ends. Then it
// tells how many of them still serve. It returns the process's exit code.
func holdIdle(addr string, in io.Reader, out io.Writer) int {
	var conns []net.Conn
	for range min(idleConnections, openFiles()-100) {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			fmt.Fprintln(os.Stderr, len(conns), err)
			break
		}
		if !refusedOver(conn) {
			fmt.Fprintln(os.Stderr, len(conns), "is not answered")
			break
		}
		conns = append(conns, conn)
	}
	fmt.Fprintln(out, len(conns))
	_, _ = io.Copy(io.Discard, in)
	alive := 0
	for _, conn := range conns {
		if refusedOver(conn) {
			alive++
		}
	}
	fmt.Fprintln(out, alive)
	return 0
}

// refusedOver tells whether the gateway answers over conn, and keeps it.
func refusedOver(conn net.Conn) bool {
	_ = conn.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(conn, "GET /nowhere HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
		return false
	}
	resp, err := http.ReadResponse(bufio.NewReaderSize(conn, 512), nil)
	if err != nil {
		return false
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return err == nil && !resp.Close && resp.Header.Get("Gateway-Error") == "route_unknown"
}

// openFiles raises the limit as far as it goes, and returns it.
func openFiles() int {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 0
	}
	limit.Cur = limit.Max
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 0
	}
	return int(min(limit.Cur, 1<<20)) //nolint:gosec // bounded
}

// idlers are connections that another process holds.
type idlers struct {
	n     int
	stdin io.Closer
	lines *bufio.Reader
	cmd   *exec.Cmd
}

func startIdlers(t testing.TB, addr string) *idlers {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	i := &idlers{cmd: exec.Command(self)}
	i.cmd.Env = append(bareEnvironment(), idleEnv+"="+addr)
	var stderr transcript
	i.cmd.Stderr = &stderr
	in, err1 := i.cmd.StdinPipe()
	out, err2 := i.cmd.StdoutPipe()
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	if err := i.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = i.cmd.Process.Kill() })
	i.stdin, i.lines = in, bufio.NewReader(out)
	if i.n = i.number(t); i.n < leastIdle {
		t.Fatalf("%d idle connections, want %d at least: %s", i.n, leastIdle, &stderr)
	}
	return i
}

func (i *idlers) number(t testing.TB) int {
	t.Helper()
	line, err := i.lines.ReadString('\n')
	n := 0
	if _, err2 := fmt.Sscan(line, &n); err != nil || err2 != nil {
		t.Fatalf("the process with idle connections says %q: %v", line, err)
	}
	return n
}

// end returns how many connections still served at their end.
func (i *idlers) end(t testing.TB) int {
	t.Helper()
	if err := i.stdin.Close(); err != nil {
		t.Fatal(err)
	}
	alive := i.number(t)
	if err := i.cmd.Wait(); err != nil {
		t.Errorf("the process with idle connections: %v", err)
	}
	return alive
}

// resident is the memory of a process, in bytes.
func resident(t testing.TB, g *gateway) int {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", g.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		kib := 0
		if _, err := fmt.Sscanf(line, "VmRSS: %d kB", &kib); err == nil {
			return kib << 10
		}
	}
	t.Fatalf("no VmRSS in %s", b)
	return 0
}

// goodCalls makes n, one after the other, each of which has to succeed, and
// returns how long each took.
func goodCalls(t testing.TB, g *gateway, n int) []time.Duration {
	t.Helper()
	took := make([]time.Duration, n)
	for i := range took {
		a := must(t, g.client, request{url: g.url("/graph/v1.0/users?$top=1")})
		if a.status != http.StatusOK {
			t.Fatalf("call %d: status %d with %.300s", i, a.status, a.body)
		}
		took[i] = a.took
	}
	return took
}

// percentile sorts d.
func percentile(d []time.Duration, p float64) time.Duration {
	slices.Sort(d)
	return d[int(float64(len(d)-1)*p)]
}

// quietGateway logs no calls: ten thousand refusals would be the load.
func quietGateway(t testing.TB) *gateway {
	t.Helper()
	w := newWorld(t, sandbox.Options{})
	g := start(t, graphSetup(w, "log: {access: false, level: error}\n"))
	g.ready(t)
	return g
}

func TestGoodClientIsServedBesideTenThousandIdleConnections(t *testing.T) {
	g := quietGateway(t)
	calm := goodCalls(t, g, 500)
	before := resident(t, g)
	held := startIdlers(t, g.proxy)
	beside := goodCalls(t, g, 500)
	fresh := newClient(nil) // who comes last finds a place too
	fresh.Transport.(*http.Transport).DisableKeepAlives = true
	for range 50 {
		if a := must(t, fresh, request{url: g.url("/graph/v1.0/users?$top=1")}); a.status != http.StatusOK {
			t.Fatalf("a connection beside %d idle ones: status %d with %.300s", held.n, a.status, a.body)
		}
	}
	after := resident(t, g)
	t.Logf("%d idle connections: %d bytes each, %d MiB before and %d MiB beside them; p99 %s calm, %s beside them",
		held.n, (after-before)/held.n, before>>20, after>>20, percentile(calm, 0.99), percentile(beside, 0.99))
	if alive := held.end(t); alive != held.n {
		t.Errorf("%d of %d idle connections still serve", alive, held.n)
	}
	goodCalls(t, g, 50)
}

// p99-ratio is to be 2 at most.
func BenchmarkGoodClientBesideIdleConnections(b *testing.B) {
	const calls = 3000
	g := quietGateway(b)
	goodCalls(b, g, calls) // warm
	calm := percentile(goodCalls(b, g, calls), 0.99)
	before := resident(b, g)
	held := startIdlers(b, g.proxy)
	var beside []time.Duration
	for b.Loop() {
		beside = append(beside, goodCalls(b, g, calls)...)
	}
	b.ReportMetric(float64(percentile(beside, 0.99))/float64(calm), "p99-ratio")
	b.ReportMetric(float64(calm.Microseconds()), "calm-p99-µs")
	b.ReportMetric(float64((resident(b, g)-before)/held.n), "B/conn")
	b.ReportMetric(float64(held.n), "conns")
	held.end(b)
}
