package proxy

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/seed-13b04e61/gateway/routes"
	"golang.org/x/time/rate"
)

const (
	// defaultInFlight is how many calls may be under way at once when Config
	// does not say: at some 100 KiB of buffers each, 400 MiB.
	defaultInFlight = 4096
	// busyWait is what a caller is told to wait when the gateway, a route or
	// the caller itself has enough under way.
	busyWait = time.Second
)

// quota is what the calls of a route or of a caller may use in one table. A nil
// quota bounds nothing and counts nothing.
type quota struct {
	concurrency int64 // 0: no limit
	*usage
}

// usage is what is used of a quota. It belongs to the name and outlives tables.
// It is safe for concurrent use.
type usage struct {
	running atomic.Int64
	bucket  *rate.Limiter
}

// newQuota goes on with the usage of before, the quota of that name in the table
// before; nil when there was none, and calls that began then are not counted.
func newQuota(l routes.Limits, before *quota) *quota {
	if l.Concurrency == 0 && l.Rate.Calls == 0 {
		return nil
	}
	limit := rate.Inf
	if l.Rate.Calls > 0 {
		limit = rate.Limit(float64(l.Rate.Calls) / l.Rate.Per.Seconds())
	}
	q := &quota{concurrency: int64(l.Concurrency)}
	if before == nil {
		q.usage = &usage{bucket: rate.NewLimiter(limit, l.Rate.Calls)}
		return q
	}
	q.usage = before.usage
	if q.bucket.Burst() != l.Rate.Calls || q.bucket.Limit() != limit {
		q.bucket.SetBurst(l.Rate.Calls)
		q.bucket.SetLimit(limit)
	}
	return q
}

// setQuotas finds what the table's routes and callers may use.
func (w *world) setQuotas(table *routes.Table, old *world) {
	before := map[string]*quota{} // by "route " or "caller " and the name
	if old != nil {
		for r, q := range old.ofRoute {
			before["route "+r.Name] = q
		}
		for c, q := range old.ofCaller {
			before["caller "+c.Name] = q
		}
	}
	w.ofRoute, w.ofCaller = map[*routes.Route]*quota{}, map[*routes.Caller]*quota{}
	for _, r := range table.Routes {
		if q := newQuota(r.Limits, before["route "+r.Name]); q != nil {
			w.ofRoute[r] = q
		}
	}
	for _, c := range table.Callers {
		if q := newQuota(c.Limits, before["caller "+c.Name]); q != nil {
			w.ofCaller[c] = q
		}
	}
}

// enter takes a place for a call, and tells whether there was one.
func (q *quota) enter() bool {
	if q == nil || q.running.Add(1) <= q.concurrency || q.concurrency == 0 {
		return true
	}
	q.running.Add(-1)
	return false
}

// leave gives back what enter took.
func (q *quota) leave() {
	if q != nil {
		q.running.Add(-1)
	}
}

// draw takes a call out of the bucket, or tells how long until there is one.
func (q *quota) draw(now time.Time) (*rate.Reservation, time.Duration) {
	if q == nil {
		return nil, 0
	}
	r := q.bucket.ReserveN(now, 1)
	wait := r.DelayFrom(now)
	if wait > 0 {
		r.CancelAt(now)
	}
	return r, wait
}

// admit takes places for a call with its caller and its route, in this order,
// so that one caller's excess is not held against the route.
func (p *passage) admit(caller, route *quota) *refusal {
	if caller == nil && route == nil {
		return nil
	}
	if !caller.enter() {
		return busy("this caller has as many calls under way as it may", "limits.concurrency of the caller")
	}
	p.places[0] = caller
	if !route.enter() {
		return busy("this route has as many calls under way as it may", "limits.concurrency of the route")
	}
	p.places[1] = route
	now := time.Now()
	drawn, wait := caller.draw(now)
	if wait > 0 {
		return tooOften("this caller calls more often than it may", "limits.rate of the caller", wait)
	}
	if _, wait = route.draw(now); wait > 0 {
		if drawn != nil {
			drawn.CancelAt(now)
		}
		return tooOften("this route is called more often than it may be", "limits.rate of the route", wait)
	}
	return nil
}

// leave gives all places back.
func (p *passage) leave() {
	for i, q := range p.places {
		q.leave()
		p.places[i] = nil
	}
}

func busy(detail, knob string) *refusal {
	return &refusal{code: Overloaded, detail: detail, retryAfter: busyWait,
		remedy: "call again after Retry-After; if this is usual, raise " + knob}
}

func tooOften(detail, knob string, wait time.Duration) *refusal {
	return &refusal{code: RateLimited, detail: detail, retryAfter: max(wait, time.Second),
		remedy: "call again after Retry-After; if this is usual, raise " + knob}
}

// InFlight is what is under way, for the log of a drain.
type InFlight struct {
	Calls       int64 // whose answer has not ended
	Streams     int64 // those of them that are answered without an announced end
	Upgraded    int64 // those of them that became WebSockets
	Connections int64 // open, those of calls and tunnels included
	Tunnels     int64 // open, intercepted or passed through
	Through     int64 // those of them that are passed through
}

// InFlight counts what is under way. Connections are those of listeners that
// [Handler.Listener] wrapped.
func (h *Handler) InFlight() InFlight {
	open, through := h.tunnels.count()
	return InFlight{
		Calls: h.running.Load(), Streams: h.streams.Load(), Upgraded: h.switches.count(),
		Connections: h.connections.Load(), Tunnels: open, Through: through,
	}
}

// Drain has every later answer over HTTP/1.1 close its connection, so that no
// caller begins another call on it. HTTP/2 is told by http.Server's Shutdown,
// which ends idle connections too; Drain comes first.
func (h *Handler) Drain() { h.draining.Store(true) }

// Shutdown ends the tunnels as http.Server's Shutdown ends connections: idle
// ones at once, those with calls when these are answered, and waits until
// those that are passed through end by themselves. When ctx ends first it
// returns its error, and what is left goes on until [Handler.Cut]. Servers of h
// must take no more calls; Drain comes first.
func (h *Handler) Shutdown(ctx context.Context) error {
	if err := h.inner.srv.Shutdown(ctx); err != nil {
		return err
	}
	_ = h.inner.conns.Close() // a handshake may still be under way
	look := time.NewTicker(drainLook)
	defer look.Stop()
	for {
		if open, _ := h.tunnels.count(); open == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-look.C:
		}
	}
}

// drainLook is how often Shutdown looks for tunnels.
const drainLook = 20 * time.Millisecond

// Cut ends all tunnels at once, and the calls inside.
func (h *Handler) Cut() {
	h.tunnels.cut(false)
	_ = h.inner.srv.Close()
}
