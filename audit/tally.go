package audit

import (
	"math/bits"
	"net/http"
	"time"
)

const (
	// window is the time over which calls make a rate, in seconds.
	window = 60
	// steps are the parts of each doubling of a duration; so a quantile is
	// within a sixteenth of what it says.
	steps, stepBits = 8, 3
	// doublings bound durations, in microseconds: 2^40 are twelve days.
	doublings = 40
)

// RouteTally is what was counted of a route. Each call that went wrong is
// either a refusal or an error.
type RouteTally struct {
	Requests int64
	Refusals int64         // by the gateway itself
	Errors   int64         // answers of the upstream of 400 and above
	P50, P99 time.Duration // of all calls, until the last byte of the answer
	Rate     float64       // calls a second, over the last minute
	Last     time.Time     // zero: there was none
}

// tally counts calls.
type tally struct {
	requests, refusals, errors int64
	last                       time.Time
	seconds                    [window]second
	took                       [(doublings - stepBits + 2) * steps]uint64
}

// second is how many calls ended in one second of the clock.
type second struct{ at, calls int64 }

func (t *tally) add(e *Event, now time.Time) {
	t.requests++
	switch {
	case e.Asked && e.Status == http.StatusProxyAuthRequired: // no trouble, see Log.Record
	case e.Code != "":
		t.refusals++
	case e.Status >= http.StatusBadRequest:
		t.errors++
	}
	t.last = now
	s := &t.seconds[now.Unix()%window]
	if s.at != now.Unix() {
		*s = second{at: now.Unix()}
	}
	s.calls++
	t.took[step(e.Duration)]++
}

// step is the index of the part of a doubling that d is in.
func step(d time.Duration) int {
	us := uint64(max(0, d.Microseconds())) //nolint:gosec // not negative
	us = min(us, 1<<doublings-1)
	if us < steps {
		return int(us) //nolint:gosec // small
	}
	exp := bits.Len64(us) - 1 - stepBits
	return (exp+1)*steps + int(us>>exp)&(steps-1) //nolint:gosec // small
}

// middle is the duration in the middle of the part with that index.
func middle(i int) time.Duration {
	if i < steps {
		return time.Duration(i) * time.Microsecond
	}
	exp := i/steps - 1
	low := int64(steps+i%steps) << exp
	return time.Duration(low+(int64(1)<<exp)/2) * time.Microsecond
}

// quantile is the duration within which that share of the calls ended.
func (t *tally) quantile(share float64) time.Duration {
	want := uint64(share*float64(t.requests) + 0.999999)
	seen := uint64(0)
	for i, n := range t.took {
		if seen += n; seen >= want && seen > 0 {
			return middle(i)
		}
	}
	return 0
}

func (t *tally) told(now time.Time) RouteTally {
	recent := int64(0)
	for _, s := range t.seconds {
		if age := now.Unix() - s.at; 0 <= age && age < window {
			recent += s.calls
		}
	}
	return RouteTally{
		Requests: t.requests, Refusals: t.refusals, Errors: t.errors,
		P50: t.quantile(0.5), P99: t.quantile(0.99),
		Rate: float64(recent) / window, Last: t.last,
	}
}

// Route returns what was counted of the route of that name; of "" for calls
// that no route matched.
func (c *Calls) Route(name string) RouteTally {
	c.ring.mu.Lock()
	defer c.ring.mu.Unlock()
	if t := c.by[name]; t != nil {
		return t.told(time.Now())
	}
	return RouteTally{}
}

// Total returns what was counted of all calls.
func (c *Calls) Total() RouteTally {
	c.ring.mu.Lock()
	defer c.ring.mu.Unlock()
	return c.total.told(time.Now())
}
