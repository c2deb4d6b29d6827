package tokens

import (
	"container/heap"
	"time"
)

const (
	// refreshRetry, give or take refreshRetrySpread of it, lies between two
	// tries to refresh a token that is still valid. azcore's pace.
	refreshRetry       = 30 * time.Second
	refreshRetrySpread = 0.1

	// agendaBatch is how many entries are looked at before callers get their
	// turn at the lock.
	agendaBatch = 64

	// agendaNap is how long the agenda sleeps at most. Timers do not notice
	// that the machine slept or that its clock was set; this does. As long may
	// a token that expired meanwhile still be handed out.
	agendaNap = flightMargin
)

// agenda is a heap of entries by the time at which they need a look: to be
// refreshed, to be closed to unthinking use or, at their expiry, dropped.
type agenda struct{ h entryHeap }

// set puts e in its place after its wake has changed.
func (a *agenda) set(e *entry) {
	if e.index < 0 {
		heap.Push(&a.h, e)
		return
	}
	heap.Fix(&a.h, e.index)
}

func (a *agenda) remove(e *entry) {
	if e.index >= 0 {
		heap.Remove(&a.h, e.index)
	}
}

// first returns the entry that wakes first, or nil.
func (a *agenda) first() *entry {
	if len(a.h) == 0 {
		return nil
	}
	return a.h[0]
}

// keepAhead runs until Close. It is the only goroutine besides the flights.
func (s *Store) keepAhead() {
	timer := time.NewTimer(agendaNap)
	defer timer.Stop()
	for {
		timer.Reset(s.work(time.Now()))
		select {
		case <-s.stop:
			return
		case <-s.kick:
		case <-timer.C:
		}
	}
}

// work does what is due and returns how long nothing will be.
func (s *Store) work(now time.Time) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	for range agendaBatch {
		e := s.agenda.first()
		if e == nil {
			return agendaNap
		}
		if now.Before(e.wake) {
			return min(e.wake.Sub(now), agendaNap)
		}
		switch {
		case !now.Before(e.token.Expires):
			s.drop(e)
		case e.isDue(now) && e.used.Load():
			s.refresh(e, now)
		default: // an unused one is refreshed behind the first call that asks for it
			e.file(now)
			s.agenda.set(e)
		}
	}
	return 0
}

// isDue tells whether e should be refreshed and is not being so.
func (e *entry) isDue(now time.Time) bool { return !e.due.IsZero() && !now.Before(e.due) }

// plan sets when the next try to refresh e is due, zero meaning that one is
// under way, and wakes the agenda if e comes first now. mu is held.
func (s *Store) plan(e *entry, due, now time.Time) {
	e.due = due.Round(0)
	e.file(now)
	s.agenda.set(e)
	if s.agenda.first() != e {
		return
	}
	select {
	case s.kick <- struct{}{}:
	default:
	}
}

// refresh starts to refresh e, whose time has come, unless a setback forbids
// it; then it is put off. Nobody waits for it. mu is held.
func (s *Store) refresh(e *entry, now time.Time) {
	if _, err := s.join(&flight{key: e.key, why: whyAhead, base: e}, now); err != nil {
		e.failing.Store(true)
		s.postpone(e, now)
		return
	}
	s.plan(e, time.Time{}, now)
}

// postpone plans another try to refresh e: after the pause, or after the
// setback that stands in the way. By itself the store will make it only if e
// is used in between. mu is held.
func (s *Store) postpone(e *entry, now time.Time) {
	due := now.Add(around(refreshRetry, refreshRetrySpread))
	if b, ok := s.setbacks.blocking(e.key, now); ok {
		due = later(due, b.until.Add(around(firstHold, 1)/2)) // not all scopes in the same instant
	}
	e.used.Store(false)
	s.plan(e, due, now)
}

// entryHeap implements heap.Interface; agenda is its door.
type entryHeap []*entry

func (h entryHeap) Len() int           { return len(h) }
func (h entryHeap) Less(i, j int) bool { return h[i].wake.Before(h[j].wake) }

func (h entryHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

func (h *entryHeap) Push(x any) {
	e := x.(*entry)
	e.index = len(*h)
	*h = append(*h, e)
}

func (h *entryHeap) Pop() any {
	old := *h
	last := len(old) - 1
	e := old[last]
	old[last] = nil
	e.index = -1
	*h = old[:last]
	return e
}
