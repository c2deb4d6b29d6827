package e2e

import (
	"bytes"
	"context"
	"encoding/csv"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// slowClients are how many connections each kind of slowhttptest holds.
const slowClients = 100

// slowness is one kind of attack, for so many seconds at most: longer than the
// gateway has patience (10 s for a header, 10 s of waiting for a body, 60 s for
// one write).
type slowness struct {
	name, seconds string
	args          []string
}

func slownesses() []slowness {
	return []slowness{
		{"headers", "25", []string{"-H", "-i", "4", "-x", "24"}},
		{"body", "30", []string{"-B", "-i", "3", "-s", "16384", "-x", "24"}},
		{"read", "240", []string{"-X", "-n", "5", "-z", "16", "-w", "256", "-y", "512"}},
	}
}

// tally is what slowhttptest counted in one second.
type tally struct{ closed, connected, available int }

// attack runs one kind until its time is up, ctx is done, or released: until it
// saw that the gateway let go of all connections.
func (s slowness) attack(ctx context.Context, t *testing.T, url string) (counts []tally, released bool) {
	t.Helper()
	report := filepath.Join(t.TempDir(), "report")
	n := strconv.Itoa(slowClients)
	cmd := exec.CommandContext(ctx, "slowhttptest", append(s.args, "-c", n, "-r", n, "-l", s.seconds, "-p", "10", "-g", "-o", report, "-v", "1", "-u", url)...)
	cmd.Env, cmd.Cancel = bareEnvironment(), func() error { return cmd.Process.Signal(os.Interrupt) } // it writes its report then
	out, err := cmd.CombinedOutput()
	b, readErr := os.ReadFile(report + ".csv")
	rows, csvErr := csv.NewReader(bytes.NewReader(b)).ReadAll()
	if readErr != nil || csvErr != nil || len(rows) < 3 {
		t.Errorf("slowhttptest, %s: %v, %v, %v\n%s", s.name, err, readErr, csvErr, tail(string(out), 1000))
		return nil, false
	}
	for _, r := range rows[1:] { // seconds, closed, pending, connected, available
		var v [3]int
		for i, column := range []int{1, 3, 4} {
			if v[i], err = strconv.Atoi(r[column]); err != nil {
				t.Errorf("slowhttptest, %s, reports %q", s.name, r)
				return nil, false
			}
		}
		counts = append(counts, tally{v[0], v[1], v[2]})
	}
	return counts, bytes.Contains(out, []byte("No open connections left"))
}

// slowUpstream counts those whom it has something to say to without end.
type slowUpstream struct{ reading atomic.Int64 }

func (u *slowUpstream) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/big" {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, "small")
		return
	}
	u.reading.Add(1)
	defer u.reading.Add(-1)
	for chunk := noise(64 << 10); ; {
		if _, err := w.Write(chunk); err != nil {
			return // nobody reads it any more
		}
	}
}

// TestSlowClientsAreHeldOffAndAGoodOneIsNot has slowhttptest open a hundred
// connections of each kind, at once, to a gateway that a good client calls.
func TestSlowClientsAreHeldOffAndAGoodOneIsNot(t *testing.T) {
	t.Parallel()
	upstream := &slowUpstream{}
	srv := httptest.NewServer(upstream)
	defer srv.Close()
	g := start(t, issuerSetup(newIssuer(t, plainToken).URL, srv.URL, "log: {access: false}\n"))
	g.ready(t)
	alone := median(t, g)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	readers, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	for _, s := range slownesses() {
		wg.Go(func() {
			if s.name == "read" { // it does not notice before it has read what was under way
				counts, _ := s.attack(readers, t, g.url("/api/big"))
				judgeSlow(t, s, counts)
				return
			}
			counts, released := s.attack(ctx, t, g.url("/api/small"))
			judgeSlow(t, s, counts)
			if !released {
				t.Errorf("%s: after %s s the gateway still holds some of them: %v", s.name, s.seconds, counts)
			}
		})
	}
	eventually(t, "the attack is under way", func() bool {
		return upstream.reading.Load() == slowClients && openSockets(t, g.cmd.Process.Pid) > 3*slowClients
	})
	beside := median(t, g)
	t.Logf("median of a good client's calls: %v without, %v beside %d slow ones", alone, beside, 3*slowClients)
	if beside > 10*alone {
		t.Errorf("a good client waits %v beside the slow ones, and %v without", beside, alone)
	}
	for tick := time.NewTicker(pause); upstream.reading.Load() > 0; <-tick.C {
		if ctx.Err() != nil {
			t.Errorf("read: the gateway still holds %d of them", upstream.reading.Load())
			break
		}
	}
	stop()
	wg.Wait()
	if after := must(t, g.client, request{url: g.url("/api/small")}); after.status != http.StatusOK {
		t.Errorf("status %d after the attack", after.status)
	}
}

// judgeSlow checks that the slow ones were there, and slowhttptest's own probe
// was served in each second.
func judgeSlow(t *testing.T, s slowness, counts []tally) {
	t.Helper()
	most := 0
	for second, c := range counts {
		most = max(most, c.connected)
		if second > 0 && c.available == 0 {
			t.Errorf("%s: slowhttptest's probe was not served in second %d", s.name, second)
		}
	}
	if len(counts) == 0 || most < slowClients/2 {
		t.Errorf("%s: %d connections at most, want %d: %v", s.name, most, slowClients, counts)
	}
}

// median is that of a good client's calls.
func median(t *testing.T, g *gateway) time.Duration {
	t.Helper()
	var took []time.Duration
	for range 300 {
		a := must(t, g.client, request{url: g.url("/api/small")})
		if a.status != http.StatusOK || a.body != "small" {
			t.Fatalf("status %d with %.200q", a.status, a.body)
		}
		took = append(took, a.took)
	}
	slices.Sort(took)
	return took[len(took)/2]
}

// openSockets counts the sockets of a process.
func openSockets(t *testing.T, pid int) int {
	t.Helper()
	dir := filepath.Join("/proc", strconv.Itoa(pid), "fd")
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, e := range entries {
		if to, err := os.Readlink(filepath.Join(dir, e.Name())); err == nil && len(to) > 6 && to[:6] == "socket" {
			n++
		}
	}
	return n
}
