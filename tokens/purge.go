package tokens

import (
	"errors"
	"math/rand/v2"
	"time"
)

// forgiveSpread is the time over which refreshes that had failed are tried
// again after [Store.Forgive], so that they do not all come at once.
const forgiveSpread = 3 * time.Second

// Info is what [Store.Peek] tells of a key. It holds no token.
type Info struct {
	Cached      bool      // a token is cached and has not expired
	Usable      bool      // Token would hand it out without waiting
	Origin      Origin    // as Token would say: FromCache or FromStale; "" without a token
	Fingerprint string    // of the token; "" without one
	Obtained    time.Time // these three are zero without a token
	RefreshAt   time.Time
	Expires     time.Time

	Failing bool      // acquisitions fail; Err tells why, unless it has been forgotten
	Until   time.Time // no acquisition before; zero: none is held back
	Err     error     // the acquirer's latest error, or nil
}

// Peek tells what the store knows of k, and false if that is nothing. It
// changes nothing and does not count as use.
func (s *Store) Peek(k Key) (Info, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	var i Info
	e := s.cached(k, now)
	if e != nil {
		i = Info{
			Cached:      true,
			Origin:      e.origin(),
			Fingerprint: e.token.Access.Fingerprint(),
			Obtained:    e.obtained,
			RefreshAt:   e.token.RefreshAt,
			Expires:     e.token.Expires,
			Failing:     e.failing.Load(),
		}
		i.Usable = now.Before(e.floor)
	}
	if b, ok := s.setbacks.latest(k, now); ok {
		i.Failing, i.Err = true, b.err
		if now.Before(b.until) {
			i.Until = b.until
			i.Usable = i.Cached // to its very end, as nothing better can be had
		}
	}
	return i, i.Cached || i.Failing
}

// Keys returns the keys of which the store holds a token or remembers a recent
// failure, each once, in no order. It changes nothing and does not count as use.
func (s *Store) Keys() []Key {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	seen := map[Key]bool{}
	var all []Key
	add := func(k Key) {
		if !seen[k] {
			seen[k] = true
			all = append(all, k)
		}
	}
	for _, e := range s.cache.Values() {
		if now.Before(e.token.Expires) {
			add(e.key)
		}
	}
	for _, kind := range s.setbacks {
		for _, b := range kind.Values() {
			if now.Before(b.until.Add(recollection)) {
				add(b.key)
			}
		}
	}
	return all
}

// Purge forgets all that it knows of the keys of which match is true: tokens,
// failures, hold-offs and renewals; nil matches all. It returns the number of
// tokens. Whoever waits for an acquisition under way gets its token, and
// nobody else does. A failure or hold-off that concerns a whole credential
// matches by the key of the request that failed, or by that key without its
// scope. match must not call the store.
func (s *Store) Purge(match func(Key) bool) int {
	if match == nil {
		match = func(Key) bool { return true }
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, e := range s.cache.Values() {
		if match(e.key) {
			s.drop(e)
			n++
		}
	}
	for f := range s.running {
		if !match(f.key) {
			continue
		}
		f.void = true
		if s.flights[f.lane()] == f {
			delete(s.flights, f.lane())
		}
	}
	s.setbacks.forget(match)
	for _, k := range s.renewals.Keys() {
		if match(k) {
			s.renewals.Remove(k)
		}
	}
	return n
}

// Forgive forgets failures, as after a change of configuration that may have
// mended them; the failures of acquisitions under way included. Tokens stay,
// and so does the quiet that an endpoint asked for. Refreshes that had failed
// are tried again within seconds.
func (s *Store) Forgive() {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	s.setbacks.forgive()
	for f := range s.running {
		f.pardoned = true
	}
	for _, k := range s.renewals.Keys() {
		r, _ := s.renewals.Peek(k)
		r.plain, r.claimed = r.plain.forgiven(), r.claimed.forgiven()
		s.renewals.Add(k, r)
	}
	for _, e := range s.cache.Values() {
		if e.failing.Load() && e.due.After(now) {
			s.plan(e, now.Add(rand.N(forgiveSpread)), now)
		}
	}
}

// forgiven returns a, or nothing if it failed.
func (a attempt) forgiven() attempt {
	if a.err != nil && !errors.Is(a.err, ErrSameToken) {
		return attempt{}
	}
	return a
}
