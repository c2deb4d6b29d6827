package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/seed-13b04e61/gateway/sandbox"
)

// asCaller are the fields of a call by name with key at the reverse door.
func asCaller(name, key string) http.Header {
	return http.Header{"X-Gateway-Authorization": {"Basic " + basic(name, key)}}
}

func TestEveryCallHasItsRecordWhileFilesRotateAndCallersChange(t *testing.T) {
	t.Parallel()
	const job, guestKey = "of-the-job-0123456789", "of-the-guest-0123456789"
	w := newWorld(t, sandbox.Options{})
	with := func(guests string) string {
		return graphSetup(w, fmt.Sprintf("callers:\n  job: {api_key: {sha256: %s}}\n%saudit: {file: audit.jsonl, max_size: 64KiB, keep: 10000}\nlog: {access: false}\n", digestOf(job), guests)).Config
	}
	invited := with(fmt.Sprintf("  guest: {api_key: {sha256: %s}}\n", digestOf(guestKey)))
	s := graphSetup(w, "")
	s.Config = with("")
	g := start(t, s)
	g.ready(t)
	var calls atomic.Int64
	stop, wg := make(chan struct{}), sync.WaitGroup{}
	for range 4 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				a, err := call(t.Context(), g.client, request{url: g.url("/graph/v1.0/users?$top=1"), header: asCaller("job", job)})
				if calls.Add(1); err != nil || a.status != http.StatusOK {
					t.Errorf("a call beside the changes: %v, status %d with %.300s", err, a.status, a.body)
					return
				}
			}
		})
	}
	guest := func(welcome bool) {
		eventually(t, fmt.Sprintf("the guest is welcome: %t", welcome), func() bool {
			calls.Add(1)
			return welcome == (must(t, g.client, request{url: g.url("/graph/v1.0/users?$top=1"), header: asCaller("guest", guestKey)}).status == http.StatusOK)
		})
	}
	for range 3 {
		write(t, g.config, invited)
		guest(true)
		write(t, g.config, with(""))
		guest(false)
	}
	eventually(t, "there were calls for several files", func() bool { return calls.Load() > 600 })
	close(stop)
	wg.Wait()
	if lost := g.metric(t, "gateway_audit_lost_total"); lost != 0 {
		t.Errorf("%v records were lost", lost)
	}
	g.end(t)
	files, err := filepath.Glob(filepath.Join(g.dir, "audit*.jsonl*"))
	if err != nil || len(files) < 3 {
		t.Fatalf("the records are in %q, %v; want several files", files, err)
	}
	if got := recordsIn(t, files); got != int(calls.Load()) {
		t.Errorf("%d calls have a record, want %d", got, calls.Load())
	}
}

// recordsIn is how many calls the files tell of; each line has to be whole.
func recordsIn(t *testing.T, files []string) int {
	t.Helper()
	seen := map[string]bool{}
	for _, path := range files {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(b)) {
			var r struct {
				Kind string `json:"kind"`
				ID   string `json:"gateway.request_id"`
			}
			if err := json.Unmarshal([]byte(line), &r); err != nil || r.Kind != "audit" || seen[r.ID] || !strings.HasSuffix(line, "\n") {
				t.Fatalf("%s: %q is no record of its own: %v", path, line, err)
			}
			seen[r.ID] = true
		}
	}
	return len(seen)
}

// A balancer asks for readiness now and then, and believes the answer until it
// asks again.
func TestDrainBehindABalancerFailsNoCall(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sandbox.Options{})
	var members [2]*gateway
	var fit [2]atomic.Bool
	var served [2]atomic.Int64
	for i := range members {
		s := graphSetup(w, "")
		s.Args = []string{"--drain-delay", "2s"}
		members[i] = start(t, s)
		members[i].ready(t)
		fit[i].Store(true)
	}
	stop, wg := make(chan struct{}), sync.WaitGroup{}
	wg.Go(func() {
		asks := newClient(nil)
		defer asks.CloseIdleConnections()
		for ask := time.NewTicker(200 * time.Millisecond); ; {
			select {
			case <-stop:
				ask.Stop()
				return
			case <-ask.C:
			}
			for i, g := range members {
				a, err := call(t.Context(), asks, request{url: "http://" + g.admin + "/readyz"})
				fit[i].Store(err == nil && a.status == http.StatusOK)
			}
		}
	})
	var calls atomic.Int64
	for range 4 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				i := int(calls.Add(1)) % len(members)
				if !fit[i].Load() {
					i = 1 - i
				}
				a, err := call(t.Context(), members[i].client, request{url: members[i].url("/graph/v1.0/$echo/x"), body: []byte("once")})
				if err != nil || a.status != http.StatusOK {
					t.Errorf("a call behind the balancer, to member %d: %v, status %d with %.300s", i, err, a.status, a.body)
					return
				}
				served[i].Add(1)
			}
		})
	}
	eventually(t, "both serve", func() bool { return served[0].Load() > 50 && served[1].Load() > 50 })
	if err := members[0].cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	<-members[0].exited
	after := served[1].Load()
	eventually(t, "the other serves on", func() bool { return served[1].Load() > after+50 })
	close(stop)
	wg.Wait()
	if members[0].err != nil {
		t.Errorf("the member that was ended: %v", members[0].err)
	}
}
