package tokens

import (
	"context"
	"errors"
	"time"
)

const (
	// renewalInterval is how long a key is not renewed by force again: what an
	// upstream refuses right after a renewal is not cured by the next.
	renewalInterval = 30 * time.Second

	// maxRenewals bounds the memory of renewals, and so how many keys can be
	// guarded by renewalInterval at once. It takes about 5 MB when full.
	maxRenewals = 16384
)

// attempt is the latest renewal of one kind.
type attempt struct {
	until  time.Time // when the next may be made
	claims digest    // what it answered
	fruit  string    // fingerprint of the token it brought; "" if none
	err    error     // nil, ErrSameToken, or the acquirer's
}

// renewal is what is remembered of a key's renewals: one kind after a plain
// 401, one in answer to a claims challenge.
type renewal struct{ plain, claimed attempt }

// plea is what a caller says whose token was refused.
type plea struct {
	key      Key
	rejected Token
	claims   string
}

// Renew replaces a token that an upstream refused, claims being the JSON of
// the claims challenge that came with the refusal, or "". If the token has been
// replaced already, the replacement is returned: a burst of refusals costs one
// acquisition, and so do those who come after it. A token that answers another
// challenge, or none, is no replacement when claims are asked for.
//
// A key is renewed at most once in 30 s, whether that succeeded or not. A
// challenge that the refused token was not obtained with is another event
// than a plain 401, and is held up by an earlier challenge only. A plain renewal
// joins an ordinary refresh under way, unless that brings the refused token.
//
// The refused token stays cached until there is another. The error is ctx's,
// [ErrRenewedAlready], [ErrSameToken] or an [*Unavailable].
func (s *Store) Renew(ctx context.Context, k Key, rejected Token, claims string) (Token, Origin, error) {
	p := plea{k, rejected, claims}
	for {
		e, f, err := s.decide(p)
		switch {
		case err != nil:
			return Token{}, "", err
		case f == nil:
			e.touch()
			return s.handOut(e.token, e.origin())
		}
		t, err := f.wait(ctx)
		switch {
		case f.claims != claims: // another challenge's: see what it left
			if ctx.Err() != nil {
				return Token{}, "", ctx.Err()
			}
		case err != nil:
			return Token{}, "", err
		case !t.Access.Equal(rejected.Access):
			return s.handOut(t, FromIdentityProvider)
		case f.why == whyRenew:
			return Token{}, "", ErrSameToken
		}
	}
}

// RenewBehind is [Store.Renew] for a caller that will not try again: it makes
// the same decision and waits for nothing. If an acquisition for k is under
// way, that one has to do.
func (s *Store) RenewBehind(k Key, rejected Token, claims string) {
	_, _, _ = s.decide(plea{k, rejected, claims})
}

// decide returns the cached token that p may have at once, or else the flight
// to wait for, or else why there is neither.
func (s *Store) decide(p plea) (*entry, *flight, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	e := s.cached(p.key, now)
	replaced := e != nil && !e.holds(p.rejected)
	if replaced && now.Before(e.floor) && (p.claims == "" || e.claims == digestOf(p.claims)) {
		return e, nil, nil
	}
	err := s.guard(p, e, now)
	if err == nil {
		var f *flight
		f, err = s.join(&flight{key: p.key, claims: p.claims, why: whyRenew, rejected: p.rejected, base: e}, now)
		if err == nil {
			return nil, f, nil
		}
	}
	if replaced {
		// Obtained for another challenge than p's, or about to expire, but not
		// the refused one: it has a chance, which the error has not.
		return e, nil, nil
	}
	return nil, nil, err
}

// guard returns the error that keeps p from a renewal so soon after another,
// or nil. mu is held.
func (s *Store) guard(p plea, e *entry, now time.Time) error {
	r, ok := s.renewals.Get(p.key)
	if !ok {
		return nil
	}
	claims, fruit := digestOf(p.claims), p.rejected.Access.Fingerprint()
	answered := r.claimed.fruit == fruit && r.claimed.claims == claims ||
		e != nil && e.holds(p.rejected) && e.claims == claims
	var last attempt
	if p.claims == "" || answered {
		last = r.plain
	}
	if (p.claims != "" || r.claimed.err == nil) && r.claimed.until.After(last.until) {
		last = r.claimed
	}
	switch {
	case !now.Before(last.until):
		return nil
	case last.err == nil && e == nil && last.fruit != fruit:
		return nil // renewed and evicted since: nothing says that the fruit was refused
	case last.err == nil:
		return ErrRenewedAlready
	case errors.Is(last.err, ErrSameToken):
		return ErrSameToken
	}
	until := last.until
	if b, ok := s.setbacks.blocking(p.key, now); ok {
		until = later(until, b.until)
	}
	return &Unavailable{Key: p.key, Until: until, Err: last.err}
}

// noteRenewal remembers how f ended if it was a renewal. An ordinary flight
// that succeeded shows that the trouble of a failed one is over. mu is held.
func (s *Store) noteRenewal(f *flight, now time.Time, err error) {
	r, ok := s.renewals.Peek(f.key)
	if f.why != whyRenew {
		if ok && err == nil && r.plain.err != nil {
			r.plain = attempt{}
			s.renewals.Add(f.key, r)
		}
		return
	}
	a := attempt{until: now.Add(renewalInterval), claims: digestOf(f.claims), err: err}
	switch {
	case err == nil || errors.Is(err, ErrSameToken):
		a.fruit = f.token.Access.Fingerprint()
	case failureOf(err).Nature == Refused:
		a.until = now.Add(refusedHold)
	}
	if f.claims == "" {
		r.plain = a
	} else {
		r.claimed = a
	}
	s.renewals.Add(f.key, r)
}
