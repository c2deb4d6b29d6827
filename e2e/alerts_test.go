package e2e

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// trouble is a cause of alerts at one running gateway.
type trouble struct {
	name string // of the instance
	// fires are the alerts that this is the cause of, each with its subject;
	// also are others that speak of the same trouble and may fire or not, by
	// how calls fall.
	fires, also []string
	begin       func(t *testing.T) place
}

// place is where trouble comes and goes. It lasts as long as the test that it
// was begun with.
type place struct {
	g *gateway
	// wreck makes the cause, and mend takes it away; both have a test of their
	// own, which ends before what they start does.
	wreck, mend func(t *testing.T)
}

// TestEachAlertFiresByItsCause has a Prometheus server with the shipped rules
// scrape running gateways, makes trouble for each, and waits for the alerts to
// come and to go. The gateway that has no trouble has no alert. All that takes
// time goes on side by side.
func TestEachAlertFiresByItsCause(t *testing.T) {
	rules, err := os.ReadFile(alertRules)
	if err != nil {
		t.Fatal(err)
	}
	troubles := allTroubles()
	coversAll(t, shippedAlerts(string(rules)), troubles)
	p := startPrometheus(t)
	t.Run("nobody is scraped", func(t *testing.T) {
		p.waitFor(t, trouble{fires: []string{"GatewayNotScraped "}})
	})
	well := startHealthy(t, p)
	places := map[string]place{}
	for _, c := range troubles {
		places[c.name] = c.begin(t)
		p.watch(t, c.name, places[c.name].g)
	}
	p.patiently(t, func() string { return fmt.Sprintf("%d gateways are scraped", len(p.targets)) }, func() bool {
		return len(p.query(t, `up{job="gateway"} == 1`)) == len(p.targets)
	})
	well.begin(t)
	acts := []struct {
		name string
		of   func(t *testing.T, c trouble, s place)
	}{
		{"begins", func(t *testing.T, _ trouble, s place) { s.wreck(t) }},
		{"fires", func(t *testing.T, c trouble, _ place) { p.waitFor(t, c) }},
		{"is mended", func(t *testing.T, c trouble, s place) {
			s.mend(t)
			p.watch(t, c.name, s.g) // its address may be another now
		}},
		{"is over", func(t *testing.T, c trouble, _ place) { p.waitForNone(t, c.name) }},
		{"fired nothing else", func(t *testing.T, c trouble, _ place) {
			for _, fired := range p.everFired(t, c.name) {
				if !slices.Contains(c.fires, fired) && !slices.Contains(c.also, fired) {
					t.Errorf("%s fired too", fired)
				}
			}
		}},
	}
	for _, act := range acts {
		p.deadline = time.Now().Add(alertPatience)
		for _, c := range troubles {
			t.Run(c.name+" "+act.name, func(t *testing.T) { act.of(t, c, places[c.name]) })
		}
	}
	t.Run("nobody is unscraped any more", func(t *testing.T) { p.waitForNone(t, "") })
	well.judge(t, p)
}

// coversAll checks that each alert has a cause here, and that there is no other.
func coversAll(t *testing.T, shipped []string, troubles []trouble) {
	t.Helper()
	caused := map[string]bool{}
	for _, c := range troubles {
		for _, f := range c.fires {
			name, _, _ := strings.Cut(f, " ")
			caused[name] = true
			if !slices.Contains(shipped, name) {
				t.Errorf("%s is no alert of %s", name, alertRules)
			}
		}
	}
	for _, name := range shipped {
		if !caused[name] {
			t.Errorf("nothing in this test is the cause of %s: add a trouble", name)
		}
	}
	if len(shipped) == 0 || t.Failed() {
		t.Fatalf("%d alerts in %s", len(shipped), alertRules)
	}
}

// waitFor waits until each alert of c has fired, and reads what it said. Some do
// for a while only, while others are waited for.
func (p *prometheus) waitFor(t *testing.T, c trouble) {
	t.Helper()
	p.patiently(t, func() string { return fmt.Sprintf("%q have fired; these did: %q", c.fires, p.everFired(t, c.name)) }, func() bool {
		p.firing(t)
		return !slices.ContainsFunc(c.fires, func(want string) bool { _, ok := p.seen[c.name+" "+want]; return !ok })
	})
	for _, name := range c.fires {
		f := p.seen[c.name+" "+name]
		f.wellSaid(t)
		t.Logf("%s: %s\n%s", name, f.Annotations["summary"], f.Annotations["description"])
	}
}

// waitForNone waits until nothing fires at an instance.
func (p *prometheus) waitForNone(t *testing.T, instance string) {
	t.Helper()
	var now []string
	p.patiently(t, func() string { return fmt.Sprintf("no alert fires; these do: %q", now) }, func() bool {
		now = nil
		for _, f := range p.firing(t) {
			if f.Labels["instance"] == instance {
				now = append(now, f.name())
			}
		}
		return len(now) == 0
	})
}

// traffic is what goes on at a gateway until the test ends or halt is called.
type traffic struct {
	wg   sync.WaitGroup
	halt func()
}

// keep does each of what again and again, with a pause between.
func keep(t testing.TB, pause time.Duration, what ...func(ctx context.Context)) *traffic {
	ctx, cancel := context.WithCancel(t.Context())
	tr := &traffic{}
	tr.halt = sync.OnceFunc(func() {
		cancel()
		tr.wg.Wait()
	})
	t.Cleanup(tr.halt)
	for _, do := range what {
		tr.wg.Go(func() {
			for ctx.Err() == nil {
				do(ctx)
				select {
				case <-ctx.Done():
				case <-time.After(pause):
				}
			}
		})
	}
	return tr
}

// asks calls path of the reverse door, whatever comes of it.
func (g *gateway) asks(path string) func(ctx context.Context) {
	return func(ctx context.Context) { _, _ = call(ctx, g.client, request{url: g.url(path)}) }
}
