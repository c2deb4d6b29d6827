package tokens

import (
	"errors"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

const (
	// firstHold is how long a key is left alone after its first failure;
	// it doubles with each further one. Two tries and this pause keep an
	// endpoint that is down from seeing more than three requests in the time
	// that callers keep trying.
	firstHold = 5 * time.Second

	// maxTransientHold ends the doubling: so late, at worst, is the end of an
	// outage noticed.
	maxTransientHold = 30 * time.Second

	// maxPropagatingHold ends it for changes that spread through a directory.
	maxPropagatingHold = 60 * time.Second

	// refusedHold is for refusals that nothing but a change of configuration
	// heals. MSAL Python repeats identical refusals for as long.
	refusedHold = 60 * time.Second

	// throttledHold is for an endpoint that asked for quiet and did not say
	// for how long; Entra does say, and says 60 s.
	throttledHold = 60 * time.Second

	// maxThrottledHold bounds what an endpoint may ask for (RFC 9110 §10.2.3
	// does not).
	maxThrottledHold = 3600 * time.Second

	// recollection is how long after its end a hold still counts as recent: no
	// second try at once, and the next hold is twice as long.
	recollection = 2 * time.Minute

	// maxSetbacks bounds each kind of memory of failures. MSAL Python's
	// capacity is the same.
	maxSetbacks = 1024
)

// failureOf asks err for its nature; silence means Transient with ReachKey.
func failureOf(err error) Failure {
	if f, ok := errors.AsType[Failer](err); ok {
		return f.Failure()
	}
	return Failure{}
}

// setback is a failure that keeps the store from asking again for a while.
type setback struct {
	nature Nature
	key    Key // of the request that failed, whole
	wait   time.Duration
	until  time.Time
	err    error
}

// The kinds of setback, which may stand at the same time.
const (
	ofKey      = iota // one token request
	ofProof           // all scopes of a credential, because the credential failed
	ofThrottle        // all scopes of a credential, because the endpoint asked for quiet
	kinds
)

// setbacks is the memory of failures, bounded. Store.mu guards it.
type setbacks [kinds]*simplelru.LRU[Key, setback]

func newSetbacks() (*setbacks, error) {
	var s setbacks
	for kind := range s {
		l, err := simplelru.NewLRU[Key, setback](maxSetbacks, nil)
		if err != nil {
			return nil, err
		}
		s[kind] = l
	}
	return &s, nil
}

// slot is the key under which a setback of this kind that concerns k is kept.
func slot(kind int, k Key) Key {
	if kind != ofKey {
		k.Scope, k.CAE = "", false
	}
	return k
}

// blocking returns the setback that keeps k waiting longest.
func (s *setbacks) blocking(k Key, now time.Time) (setback, bool) {
	var worst setback
	for kind := range s {
		b, ok := s[kind].Get(slot(kind, k))
		if ok && now.Before(b.until) && b.until.After(worst.until) {
			worst = b
		}
	}
	return worst, !worst.until.IsZero()
}

// latest returns the setback of k that ends or ended last, whether or not it
// still holds k up, unless that is long ago.
func (s *setbacks) latest(k Key, now time.Time) (setback, bool) {
	var last setback
	for kind := range s {
		b, ok := s[kind].Peek(slot(kind, k))
		if ok && now.Before(b.until.Add(recollection)) && b.until.After(last.until) {
			last = b
		}
	}
	return last, !last.until.IsZero()
}

// add remembers that f failed.
func (s *setbacks) add(f *flight, why Failure, err error, now time.Time) {
	kind := ofKey
	switch {
	case why.Nature == Throttled:
		kind = ofThrottle
	case why.Reach == ReachCredential:
		kind = ofProof
	}
	at := slot(kind, f.key)
	prev, ok := s[kind].Peek(at)
	if !ok || prev.nature != why.Nature || !now.Before(prev.until.Add(recollection)) {
		prev = setback{}
	}
	wait := holdFor(why, prev.wait, f.why)
	until := now.Add(wait)
	if kind == ofThrottle {
		until = later(until, prev.until) // a shorter answer does not lift a longer hold
	}
	s[kind].Add(at, setback{why.Nature, f.key, wait, until, err})
}

// holdFor returns how long to leave the endpoint alone. Refreshing ahead does
// not lengthen a hold: it has a pace of its own, and when a token has expired
// in spite of it, the first caller should find out soon whether all is well.
func holdFor(why Failure, prev time.Duration, reason string) time.Duration {
	switch why.Nature {
	case Throttled:
		if why.Wait <= 0 {
			return throttledHold
		}
		return min(why.Wait, maxThrottledHold)
	case Refused:
		return refusedHold
	}
	most := maxTransientHold
	if why.Nature == Propagating {
		most = maxPropagatingHold
	}
	switch {
	case prev == 0:
		return firstHold
	case reason == whyAhead:
		return prev
	}
	return min(2*prev, most)
}

// clear forgets what an acquisition for k that succeeded has disproved. That
// an endpoint asked for quiet is not disproved.
func (s *setbacks) clear(k Key) {
	s[ofKey].Remove(k)
	s[ofProof].Remove(slot(ofProof, k))
}

// forget forgets the setbacks of which match is true. One that concerns a
// whole credential matches by the request that failed, or without a scope.
func (s *setbacks) forget(match func(Key) bool) {
	for kind := range s {
		for _, at := range s[kind].Keys() {
			if b, ok := s[kind].Peek(at); ok && (match(at) || match(b.key)) {
				s[kind].Remove(at)
			}
		}
	}
}

// forgive forgets all setbacks but those that an endpoint asked for.
func (s *setbacks) forgive() {
	s[ofKey].Purge()
	s[ofProof].Purge()
}
