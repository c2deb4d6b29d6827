package tokens

import (
	"crypto/sha256"
	"math/rand/v2"
	"sync/atomic"
	"time"
)

const (
	// refreshShare of a lifetime is when a token is refreshed ahead if its
	// endpoint did not say (refresh_in): a quarter is left for an outage.
	refreshShare = 0.75

	// refreshSpread moves that moment by up to this share of the lifetime
	// either way, so that tokens obtained together are not refreshed together.
	refreshSpread = 0.05

	// flightMargin is how long before Expires a token stops being handed out
	// while a better one can be had: a call in flight must not outlive it.
	flightMargin = 5 * time.Second

	// marginShare bounds flightMargin to this part of a short lifetime. It is
	// small enough for the margin to begin after the latest refresh ahead, at
	// refreshShare + refreshSpread: refreshing never makes a call wait.
	marginShare = 10

	// maxLifetime is how far away an expiry may be. MSAL.NET draws the same
	// line; beyond it lies a broken clock or a broken server.
	maxLifetime = 10 * 365 * 24 * time.Hour

	// entryOverhead is what an entry is taken to cost besides its strings, in
	// bytes: the entry itself (320), the LRU's element and map slot, which
	// hold a copy of the Key's header each, and its place in the agenda.
	// Measured with 50 000 tokens of 1 600 bytes: 2 418 bytes each on the
	// heap, where this makes it 2 410.
	entryOverhead = 640
)

// digest tells one claims challenge from another; its zero value is none.
// Challenges come from outside and may be long, so they are not kept.
type digest [sha256.Size]byte

func digestOf(claims string) digest {
	if claims == "" {
		return digest{}
	}
	return sha256.Sum256([]byte(claims))
}

// entry is one cached token. What a hit reads comes first, to share a cache
// line or two: with 100 000 tokens, a hit costs what it has to fetch from
// memory. The atomics are read without a lock; due, wake and index belong to
// Store.mu; the rest never changes.
//
// Times here carry no monotonic reading: a machine that slept has to notice
// that the token expired meanwhile.
type entry struct {
	open    atomic.Bool // may be handed out without a look at the clock; see file
	used    atomic.Bool // since it was obtained, or since its last refresh failed
	failing atomic.Bool // its refresh is due, and the endpoint fails
	token   Token

	key      Key
	claims   digest // of the challenge that this token answers
	obtained time.Time
	floor    time.Time // Expires less the margin
	size     int64

	due   time.Time // of the next try to refresh; zero while one is under way
	wake  time.Time // when the agenda has to look at it again
	index int       // in the agenda; -1 when not in it
}

// newEntry expects a token that came through checked.
func newEntry(k Key, t Token, claims digest, now time.Time) *entry {
	e := &entry{
		key:      k,
		token:    t,
		claims:   claims,
		obtained: now.Round(0),
		floor:    floorOf(t, now),
		size:     sizeOf(k, t),
		due:      t.RefreshAt,
		index:    -1,
	}
	e.file(now)
	return e
}

// file decides whether e is open and when that changes, from due, floor and
// Expires. The agenda calls it again at that moment, so that a hit need not
// read the clock, which costs nearly as much as the LRU's lookup. That the
// agenda comes late by the time that a goroutine waits for a processor does no
// harm: refreshing may be late, and the margin is there to be used up.
// Store.mu is held, and the agenda has to be told.
func (e *entry) file(now time.Time) {
	first := e.floor
	if !e.due.IsZero() && e.due.Before(first) {
		first = e.due
	}
	e.open.Store(now.Before(first))
	switch {
	case now.Before(first):
		e.wake = first
	case e.due.After(now) && e.due.Before(e.token.Expires):
		e.wake = e.due
	default:
		e.wake = e.token.Expires
	}
}

// sizeOf is what an entry counts for in Config.Memory.
func sizeOf(k Key, t Token) int64 {
	key := len(k.Authority) + len(k.Tenant) + len(k.Credential) + len(k.Fingerprint) + len(k.Scope)
	return int64(entryOverhead + key + len(t.Access.Reveal()))
}

// touch marks e as used. The load comes first because a store to a line that
// all processors read would cost the hot path more than the whole lookup.
func (e *entry) touch() {
	if !e.used.Load() {
		e.used.Store(true)
	}
}

func (e *entry) origin() Origin {
	if e.failing.Load() {
		return FromStale
	}
	return FromCache
}

// holds tells whether e is this very token.
func (e *entry) holds(t Token) bool { return e.token.Access.Equal(t.Access) }

// checked returns t with its RefreshAt made good, or what is wrong with it.
// A RefreshAt that is missing, past, or too late to be of use is replaced.
func checked(t Token, now time.Time) (Token, error) {
	t.Expires, t.RefreshAt = t.Expires.Round(0), t.RefreshAt.Round(0)
	life := t.Expires.Sub(now)
	switch {
	case t.Access.IsZero():
		return Token{}, errEmpty
	case life <= 0:
		return Token{}, errExpired
	case life > maxLifetime:
		return Token{}, errLongLife
	}
	if !t.RefreshAt.After(now) || !t.RefreshAt.Before(floorOf(t, now)) {
		share := refreshShare + refreshSpread*(2*rand.Float64()-1)
		t.RefreshAt = now.Add(time.Duration(share * float64(life))).Round(0)
	}
	return t, nil
}

// floorOf is when a token obtained at now stops being handed out.
func floorOf(t Token, now time.Time) time.Time {
	return t.Expires.Add(-min(flightMargin, t.Expires.Sub(now)/marginShare))
}

// around returns d, give or take up to share of it.
func around(d time.Duration, share float64) time.Duration {
	return time.Duration(float64(d) * (1 + share*(2*rand.Float64()-1)))
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
