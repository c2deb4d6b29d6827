package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	// drainTimeout is how long calls under way may take after SIGTERM, and
	// drainDelay how long readiness is false before; Kubernetes kills after 30 s.
	drainTimeout = 25 * time.Second
	drainDelay   = 5 * time.Second
	// drainLook is how often a drain looks at what is still under way.
	drainLook = 20 * time.Millisecond
)

// underway counts the calls of a server, upgraded ones too, which
// [http.Server.Shutdown] neither waits for nor closes.
type underway struct {
	next  http.Handler
	count atomic.Int64
}

// ServeHTTP implements [http.Handler].
func (u *underway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	u.count.Add(1)
	defer u.count.Add(-1)
	u.next.ServeHTTP(w, r)
}

// orders are the signals that a gateway obeys.
type orders struct{ hup, stop chan os.Signal }

func hear() orders {
	o := orders{make(chan os.Signal, 1), make(chan os.Signal, 2)}
	signal.Notify(o.hup, syscall.SIGHUP)
	signal.Notify(o.stop, syscall.SIGTERM, os.Interrupt)
	return o
}

// forget gives the signals back, so that a second one kills.
func (o orders) forget() { signal.Stop(o.stop) }

func (o orders) close() {
	signal.Stop(o.hup)
	signal.Stop(o.stop)
}

// run serves until ctx ends or a signal says so, and then lets the calls under
// way end. SIGTERM comes from who also sends new calls elsewhere, and needs a
// while to; SIGINT from somebody who waits.
func (g *gateway) run(ctx context.Context, o orders) error {
	for {
		select {
		case <-o.hup:
			g.Reload()
		case err := <-g.failed:
			return err
		case s := <-o.stop:
			o.forget()
			if s == os.Interrupt {
				return g.drain(0)
			}
			return g.drain(g.doors.delay)
		case <-ctx.Done():
			o.forget()
			return g.drain(0)
		}
	}
}

// drain says that it is not ready, and for delay takes calls all the same: load
// balancers need a while to hear of it. Then it takes no more, and waits for
// those under way. The proxy goes first, so that readiness can be asked until
// the end.
func (g *gateway) drain(delay time.Duration) error {
	g.log.Info("draining", "delay", delay.String(), "timeout", g.patience.String())
	g.draining.Store(true)
	time.Sleep(delay)
	ctx, cancel := context.WithTimeout(context.Background(), g.patience)
	defer cancel()
	var cut error
	for i, srv := range g.servers {
		err := srv.Shutdown(ctx)
		left := g.calls[i].wait(ctx)
		if err != nil || left > 0 {
			_ = srv.Close()
		}
		if i == 0 && left > 0 {
			g.log.Warn("calls were cut off", "calls", left, "after", g.patience.String(),
				"remedy", "none if these were streams; else see in the log which upstream is slow")
			cut = fmt.Errorf("%d calls were still under way after %s and were cut off", left, g.patience)
		}
	}
	g.log.Info("stopped")
	return cut
}

// wait returns how many calls are left when all have ended, or ctx has.
func (u *underway) wait(ctx context.Context) int64 {
	look := time.NewTicker(drainLook)
	defer look.Stop()
	for {
		n := u.count.Load()
		if n == 0 {
			return 0
		}
		select {
		case <-ctx.Done():
			return n
		case <-look.C:
		}
	}
}

// defaultDelay is how long a gateway that listens there keeps serving after
// SIGTERM. Nobody balances load over loopback.
func defaultDelay(addresses ...string) time.Duration {
	for _, a := range addresses {
		if offLoopback(a) {
			return drainDelay
		}
	}
	return 0
}
