package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/seed-13b04e61/gateway/proxy"
)

const (
	// drainTimeout is how long calls under way may take after SIGTERM, and
	// drainDelay how long readiness is false before; Kubernetes kills after 30 s.
	drainTimeout = 25 * time.Second
	drainDelay   = 5 * time.Second
	// drainLook is how often a drain looks at what is still under way.
	drainLook = 20 * time.Millisecond
)

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
	g.log.Info("draining", "gateway.drain.delay", delay.String(), "gateway.drain.timeout", g.patience.String())
	g.draining.Store(true)
	g.manager.stopping()
	g.handler.Drain()
	time.Sleep(delay)
	ctx, cancel := context.WithTimeout(context.Background(), g.patience)
	defer cancel()
	sessions := make(chan error, 1)
	go func() { sessions <- g.drainSQL(ctx) }() // ends with ctx at the latest
	cut := errors.Join(g.drainProxy(ctx), <-sessions)
	for _, srv := range g.servers[1:] {
		if srv.Shutdown(ctx) != nil {
			_ = srv.Close()
		}
	}
	g.flushTraces(ctx)
	g.log.Info("stopped")
	return cut
}

// drainProxy lets the calls of the proxy port and its tunnels end, and cuts off
// what has not when ctx ends.
func (g *gateway) drainProxy(ctx context.Context) error {
	tunnels := make(chan error, 1)
	go func() { tunnels <- g.handler.Shutdown(ctx) }() // ends with ctx at the latest
	srv := g.servers[0]
	err := srv.Shutdown(ctx)
	left := g.await(ctx)
	<-tunnels
	cut := left.cut(g.patience)
	if cut != nil {
		g.log.Warn("calls were cut off", "gateway.drain.calls", left.Calls, "gateway.drain.streams", left.Streams,
			"gateway.drain.tunnels", left.Tunnels, "gateway.drain.connections", left.Connections, "gateway.drain.timeout", g.patience.String(), "remedy", "none if these were streams or tunnels that pass through; else see in the log which upstream is slow")
	}
	if err != nil || cut != nil {
		_ = srv.Close()
		g.handler.Cut()
	}
	return cut
}

// remains are what a drain found under way in the end.
type remains struct{ proxy.InFlight }

func (r remains) cut(after time.Duration) error {
	if r.Calls == 0 && r.Tunnels == 0 {
		return nil
	}
	return fmt.Errorf("calls were still under way after %s and were cut off: %d, of them %d streams; tunnels: %d, of them %d that pass through",
		after, r.Calls, r.Streams, r.Tunnels, r.Through)
}

// await returns what is left when all calls and tunnels have ended, or ctx has.
// Shutdown does not wait for connections that switched to another protocol.
func (g *gateway) await(ctx context.Context) remains {
	look := time.NewTicker(drainLook)
	defer look.Stop()
	for {
		now := remains{g.handler.InFlight()}
		if now.Calls == 0 && now.Tunnels == 0 {
			return now
		}
		select {
		case <-ctx.Done():
			return now
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
