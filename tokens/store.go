package tokens

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// Config is what a [Store] is made of.
type Config struct {
	Acquirer Acquirer
	Entries  int      // how many tokens are kept, at least 1
	Memory   int64    // how many bytes they may take, at least 1; an entry counts its token, its key and 640 bytes
	Observer Observer // may be nil
}

// An Observer hears what a [Store] does, for metrics and the log. It is called
// from many goroutines, outside all locks, and must not block.
type Observer interface {
	// Lookup reports a token handed out. It is on the path of every call and
	// must not allocate.
	Lookup(o Origin)
	// Acquired reports one call of the Acquirer, a refused or unusable answer
	// included. why is "miss" (no token), "ahead" (refresh before expiry) or
	// "renew" (a token was refused). t is zero when err is set.
	Acquired(k Key, t Token, err error, took time.Duration, why string)
}

// deaf is the Observer of a Store that was given none.
type deaf struct{}

func (deaf) Lookup(Origin)                                     {}
func (deaf) Acquired(Key, Token, error, time.Duration, string) {}

// Store caches tokens, acquires each once for all who wait, refreshes it ahead
// of its expiry and renews it when an upstream refuses it. While an endpoint
// fails or asks for quiet, tokens are served to the end of their lives and
// everyone else is told at once. All methods may be called concurrently.
type Store struct {
	acquirer Acquirer
	observer Observer
	entries  int
	memory   int64
	kick     chan struct{} // wakes the agenda's goroutine
	stop     chan struct{} // closed by Close
	wg       sync.WaitGroup

	// cache is read by anyone and written with mu held.
	cache *lru.Cache[Key, *entry]

	// mu guards all that follows. It is never held while the Acquirer or the
	// Observer is called.
	mu       sync.Mutex
	bytes    int64
	agenda   agenda
	flights  map[lane]*flight               // those that may be joined
	running  map[*flight]context.CancelFunc // all, also those that a purge cut off
	setbacks *setbacks
	renewals *simplelru.LRU[Key, renewal]
	closed   bool
}

// New returns a running Store. Close ends it.
func New(c Config) (*Store, error) {
	switch {
	case c.Acquirer == nil:
		return nil, errors.New("token store: no acquirer")
	case c.Entries < 1:
		return nil, fmt.Errorf("token store: %d entries; at least 1 is needed", c.Entries)
	case c.Memory < 1:
		return nil, fmt.Errorf("token store: %d bytes of memory; at least 1 is needed", c.Memory)
	}
	cache, err := lru.New[Key, *entry](c.Entries)
	if err != nil {
		return nil, fmt.Errorf("token store: %w", err)
	}
	renewals, err := simplelru.NewLRU[Key, renewal](maxRenewals, nil)
	if err != nil {
		return nil, fmt.Errorf("token store: %w", err)
	}
	setbacks, err := newSetbacks()
	if err != nil {
		return nil, fmt.Errorf("token store: %w", err)
	}
	s := &Store{
		acquirer: c.Acquirer,
		observer: c.Observer,
		entries:  c.Entries,
		memory:   c.Memory,
		kick:     make(chan struct{}, 1),
		stop:     make(chan struct{}),
		cache:    cache,
		flights:  make(map[lane]*flight),
		running:  make(map[*flight]context.CancelFunc),
		setbacks: setbacks,
		renewals: renewals,
	}
	if s.observer == nil {
		s.observer = deaf{}
	}
	s.wg.Go(s.keepAhead)
	return s, nil
}

// Token returns a token for k. A cached one costs little more than the LRU's
// lookup and no allocation; ctx is not looked at then. Otherwise the call
// joins the one acquisition for k, or starts it, and waits until that is done
// or ctx ends; the acquisition goes on without it.
//
// The error is ctx's, or an [*Unavailable].
func (s *Store) Token(ctx context.Context, k Key) (Token, Origin, error) {
	if e, ok := s.cache.Get(k); ok && e.open.Load() {
		e.touch()
		return s.handOut(e.token, e.origin())
	}
	return s.tokenSlowly(ctx, k)
}

func (s *Store) handOut(t Token, o Origin) (Token, Origin, error) {
	s.observer.Lookup(o)
	return t, o, nil
}

// tokenSlowly is Token for a key that has no token, or one that needs thought.
func (s *Store) tokenSlowly(ctx context.Context, k Key) (Token, Origin, error) {
	e, f, err := s.find(ctx, k)
	switch {
	case err != nil:
		return Token{}, "", err
	case f == nil:
		e.touch()
		return s.handOut(e.token, e.origin())
	}
	t, err := f.wait(ctx)
	if err == nil {
		return s.handOut(t, FromIdentityProvider)
	}
	// A token in its last seconds beats an error that is certain.
	if e != nil && ctx.Err() == nil && s.stands(e) {
		return s.handOut(e.token, FromStale)
	}
	return Token{}, "", err
}

// find returns the entry to hand out at once; or else the flight to wait for,
// with an entry to fall back on if the flight fails and there is one; or else
// the error.
func (s *Store) find(ctx context.Context, k Key) (*entry, *flight, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	e := s.cached(k, now)
	if e != nil && now.Before(e.floor) {
		if e.isDue(now) {
			s.refresh(e, now)
		}
		return e, nil, nil
	}
	if e == nil && ctx.Err() != nil {
		return nil, nil, ctx.Err()
	}
	f, err := s.join(&flight{key: k, why: whyMiss, base: e}, now)
	if e == nil {
		return nil, f, err
	}
	// In its last seconds a token is handed out only if no better one is to be
	// had in time: the endpoint fails, or hangs since before they began.
	if err != nil {
		e.failing.Store(true)
		return e, nil, nil
	}
	if f.started.Before(e.floor) {
		return e, nil, nil
	}
	return e, f, nil
}

// stands tells whether e is still cached and has not expired.
func (s *Store) stands(e *entry) bool {
	cur, ok := s.cache.Peek(e.key)
	return ok && cur == e && time.Now().Before(e.token.Expires)
}

// cached returns the entry of k unless it has expired, without counting as
// use. mu is held.
func (s *Store) cached(k Key, now time.Time) *entry {
	e, ok := s.cache.Peek(k)
	if !ok || !now.Before(e.token.Expires) {
		return nil
	}
	return e
}

// put caches e in place of what k had, and makes room by dropping what was
// used longest ago. A token too large for the whole cache is not kept.
// mu is held.
func (s *Store) put(e *entry, now time.Time) {
	if old, ok := s.cache.Peek(e.key); ok {
		s.drop(old)
	}
	if e.size > s.memory {
		return
	}
	for s.cache.Len() >= s.entries || s.bytes+e.size > s.memory {
		_, oldest, ok := s.cache.RemoveOldest()
		if !ok {
			break
		}
		s.bytes -= oldest.size
		s.agenda.remove(oldest)
	}
	s.cache.Add(e.key, e)
	s.bytes += e.size
	s.plan(e, e.due, now)
}

// drop forgets e, which is cached. mu is held.
func (s *Store) drop(e *entry) {
	s.cache.Remove(e.key)
	s.bytes -= e.size
	s.agenda.remove(e)
}

// Stats returns how many tokens are cached and the bytes that they count for.
func (s *Store) Stats() (entries int, bytes int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cache.Len(), s.bytes
}

// Close cancels the acquisitions under way and waits until all goroutines of
// the store have ended. Tokens that are cached are still handed out; whatever
// needs an acquisition gets [ErrClosed]. It may be called more than once.
func (s *Store) Close() {
	s.mu.Lock()
	if !s.closed {
		s.closed = true
		close(s.stop)
		for _, cancel := range s.running {
			cancel()
		}
	}
	s.mu.Unlock()
	s.wg.Wait()
}
