package tokens

import (
	"context"
	"errors"
	"time"
)

const (
	// flightTime bounds one acquisition, its second try included. It is the
	// timeout that the Microsoft libraries give a token request.
	flightTime = 30 * time.Second

	// retryPause, give or take retrySpread of it, comes before a flight's
	// second try: long enough for a connection to be re-established or a
	// balancer to turn elsewhere, short enough for a caller to wait.
	retryPause  = 250 * time.Millisecond
	retrySpread = 0.4
)

// Why a flight was started, as the Observer is told.
const (
	whyMiss  = "miss"
	whyAhead = "ahead"
	whyRenew = "renew"
)

// lane is where flights may be joined. A key has one lane for its ordinary
// token and one for the answer to a claims challenge. That there is one for
// all challenges bounds what an upstream can cause by varying them.
type lane struct {
	key     Key
	claimed bool
}

// flight is one acquisition, shared by all who wait for it and ended by none
// of them. The first block is set by whoever joins; the second by the store.
type flight struct {
	key      Key
	claims   string // raw challenge, or ""
	why      string
	rejected Token  // with whyRenew: what the new token is to replace
	base     *entry // what was cached for key when the flight began

	started time.Time
	done    chan struct{} // closed when token and err are set

	void     bool // purged: the outcome is for the waiters alone; guarded by Store.mu
	pardoned bool // forgiven in advance: a failure is not remembered; guarded by Store.mu

	token Token
	err   *Unavailable
}

func (f *flight) lane() lane { return lane{f.key, f.claims != ""} }

// wait returns the outcome, or ctx's error if ctx ends before.
func (f *flight) wait(ctx context.Context) (Token, error) {
	select {
	case <-f.done:
	case <-ctx.Done():
		select {
		case <-f.done: // both at once: the outcome is the better answer
		default:
			return Token{}, ctx.Err()
		}
	}
	if f.err != nil {
		return Token{}, f.err
	}
	return f.token, nil
}

// join returns the flight under way in f's lane or else starts f, unless the
// store is closed or a setback stands in the way. mu is held.
func (s *Store) join(f *flight, now time.Time) (*flight, error) {
	if other := s.flights[f.lane()]; other != nil {
		return other, nil
	}
	if s.closed {
		return nil, &Unavailable{Key: f.key, Err: ErrClosed}
	}
	if b, ok := s.setbacks.blocking(f.key, now); ok {
		return nil, &Unavailable{Key: f.key, Until: b.until, Err: b.err}
	}
	f.started = now
	f.done = make(chan struct{})
	ctx, cancel := context.WithTimeout(context.Background(), flightTime)
	s.flights[f.lane()] = f
	s.running[f] = cancel
	s.wg.Go(func() {
		defer cancel()
		s.fly(ctx, f)
	})
	return f, nil
}

// fly acquires and lands, whatever the Acquirer does: its panic is an error,
// and even runtime.Goexit leaves nobody waiting.
func (s *Store) fly(ctx context.Context, f *flight) {
	var t Token
	err := errNoAnswer
	defer func() { s.land(f, t, err) }()
	t, err = s.call(ctx, f)
	if err != nil && s.mayRetry(f, err) && s.pause(ctx, f) {
		t, err = s.call(ctx, f)
	}
}

// call calls the Acquirer once and tells the Observer.
func (s *Store) call(ctx context.Context, f *flight) (t Token, err error) {
	began := time.Now()
	err = errNoAnswer
	defer func() {
		if v := recover(); v != nil {
			t, err = Token{}, newPanicked(v)
		}
		s.observer.Acquired(f.key, t, err, time.Since(began), f.why)
	}()
	t, err = s.acquirer.Acquire(ctx, f.key, f.claims)
	if err != nil {
		return Token{}, err
	}
	return checked(t, time.Now())
}

// mayRetry tells whether a second try at once may heal err: somebody waits,
// the trouble is of the passing kind, and it is the first of late. An outage
// is not met with twice the requests.
func (s *Store) mayRetry(f *flight, err error) bool {
	if f.why == whyAhead || failureOf(err).Nature != Transient {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	_, recently := s.setbacks.latest(f.key, time.Now())
	return !recently
}

// pause waits for the moment of the second try, and tells whether it may
// still be made: another scope may have been asked for quiet meanwhile.
func (s *Store) pause(ctx context.Context, f *flight) bool {
	timer := time.NewTimer(around(retryPause, retrySpread))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	_, blocked := s.setbacks.blocking(f.key, time.Now())
	return !blocked
}

// land settles f's outcome, closes its lane and releases the waiters.
func (s *Store) land(f *flight, t Token, err error) {
	s.mu.Lock()
	delete(s.running, f)
	if s.flights[f.lane()] == f {
		delete(s.flights, f.lane())
	}
	if err == nil {
		f.token = t
		s.succeed(f, time.Now())
	} else {
		s.fail(f, err, time.Now())
	}
	s.mu.Unlock()
	close(f.done)
}

// succeed stores f's token, unless the slot has moved on since f began: what
// another flight stored meanwhile is as new, and may answer a challenge that
// f's token does not. An answer to a challenge replaces the refused token and
// no other (entra.md §6.5: the slot still holds the refused token). mu is held.
func (s *Store) succeed(f *flight, now time.Time) {
	if f.void {
		return
	}
	s.setbacks.clear(f.key)
	e := s.cached(f.key, now)
	if f.why == whyRenew && f.token.Access.Equal(f.rejected.Access) {
		s.noteRenewal(f, now, ErrSameToken)
		s.resume(f, e, now)
		return
	}
	superseded := e != nil && e != f.base
	if f.claims != "" {
		superseded = e != nil && !e.holds(f.rejected)
	}
	if superseded {
		s.resume(f, e, now)
		return
	}
	s.put(newEntry(f.key, f.token, digestOf(f.claims), now), now)
	s.noteRenewal(f, now, nil)
}

// fail remembers err and plans the next try of a refresh. mu is held.
func (s *Store) fail(f *flight, err error, now time.Time) {
	if s.closed {
		f.err = &Unavailable{Key: f.key, Err: errors.Join(ErrClosed, err)}
		return
	}
	why := failureOf(err)
	forgotten := f.void || f.pardoned
	if why.Nature == Throttled || !forgotten && !onlyThisChallenge(f, why) {
		s.setbacks.add(f, why, err, now)
	}
	if !forgotten {
		s.noteRenewal(f, now, err)
	}
	u := &Unavailable{Key: f.key, Err: err}
	if b, ok := s.setbacks.blocking(f.key, now); ok {
		u.Until = b.until
	}
	f.err = u
	e := s.cached(f.key, now)
	if e != nil && !now.Before(e.token.RefreshAt) {
		e.failing.Store(true)
	}
	s.resume(f, e, now)
}

// onlyThisChallenge tells that a refusal speaks of the challenge in f, and not
// of the key's ordinary token, which can still be had.
func onlyThisChallenge(f *flight, why Failure) bool {
	return f.claims != "" && why.Reach == ReachKey && (why.Nature == Refused || why.Nature == Propagating)
}

// resume plans another refresh of e if the one under way was f. mu is held.
func (s *Store) resume(f *flight, e *entry, now time.Time) {
	if e != nil && f.claims == "" && e.due.IsZero() {
		s.postpone(e, now)
	}
}
