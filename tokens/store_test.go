package tokens_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/seed-13b04e61/gateway/secrets"
	"github.com/seed-13b04e61/gateway/tokens"
)

// endpoint is an Acquirer that can be told what to do.
type endpoint struct {
	calls    atomic.Int64
	lifetime time.Duration
	takes    time.Duration
	mu       sync.Mutex
	fail     error
	claims   []string
	same     bool
}

func (e *endpoint) Acquire(ctx context.Context, _ tokens.Key, claims string) (tokens.Token, error) {
	n := e.calls.Add(1)
	e.mu.Lock()
	fail, takes, same := e.fail, e.takes, e.same
	e.claims = append(e.claims, claims)
	e.mu.Unlock()
	select {
	case <-time.After(takes):
	case <-ctx.Done():
		return tokens.Token{}, ctx.Err()
	}
	if fail != nil {
		return tokens.Token{}, fail
	}
	if same {
		n = 1
	}
	return tokens.Token{Access: secrets.New(fmt.Sprintf("token-%d", n)), Expires: time.Now().Add(e.lifetime)}, nil
}

func (e *endpoint) failWith(err error)   { e.mu.Lock(); defer e.mu.Unlock(); e.fail = err }
func (e *endpoint) take(d time.Duration) { e.mu.Lock(); defer e.mu.Unlock(); e.takes = d }

// setback is an error that knows its nature.
type setback struct{ f tokens.Failure }

func (s setback) Error() string           { return "endpoint said no" }
func (s setback) Failure() tokens.Failure { return s.f }

var key = tokens.Key{Authority: "https://login.test/t", Tenant: "t", Credential: "c", Fingerprint: "f", Scope: "s/.default"}

// bubble runs f with a store of its own in a bubble of virtual time.
func bubble(t *testing.T, f func(t *testing.T, s *tokens.Store, e *endpoint)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		e := &endpoint{lifetime: time.Hour, takes: 10 * time.Millisecond}
		s, err := tokens.New(tokens.Config{Acquirer: e, Entries: 1000, Memory: 64 << 20})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		f(t, s, e)
	})
}

func get(t *testing.T, s *tokens.Store) (tokens.Token, tokens.Origin) {
	t.Helper()
	tok, o, err := s.Token(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tok, o
}

func TestThousandColdCallersCostOneAcquisition(t *testing.T) {
	bubble(t, func(t *testing.T, s *tokens.Store, e *endpoint) {
		var wg sync.WaitGroup
		for range 1000 {
			wg.Go(func() { get(t, s) })
		}
		wg.Wait()
		if n := e.calls.Load(); n != 1 {
			t.Errorf("acquisitions = %d, want 1", n)
		}
	})
}

func TestImpatientStarterLeavesAndTheOthersGetTheToken(t *testing.T) {
	bubble(t, func(t *testing.T, s *tokens.Store, e *endpoint) {
		e.take(time.Second)
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, _, err := s.Token(ctx, key); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("the starter got %v, want its own deadline", err)
			}
		})
		wg.Go(func() { get(t, s) })
		wg.Wait()
		if n := e.calls.Load(); n != 1 {
			t.Errorf("acquisitions = %d, want 1", n)
		}
	})
}

func TestTokenInUseIsRefreshedAheadAndNobodyWaits(t *testing.T) {
	bubble(t, func(t *testing.T, s *tokens.Store, e *endpoint) {
		get(t, s)
		e.take(20 * time.Second) // a refresh that is slow
		for range 4 * 60 * 3 {   // three hours, a call each 15 s
			time.Sleep(15 * time.Second)
			began := time.Now()
			get(t, s)
			if waited := time.Since(began); waited > 0 {
				t.Fatalf("a call waited %v", waited)
			}
		}
		if n := e.calls.Load(); n < 4 || n > 6 {
			t.Errorf("acquisitions = %d in three hours, want one each 45 min or so", n)
		}
	})
}

func TestOutageFailsNoCallUntilTheTokenExpires(t *testing.T) {
	bubble(t, func(t *testing.T, s *tokens.Store, e *endpoint) {
		get(t, s)
		e.failWith(errors.New("down"))
		for i := range 3594 {
			time.Sleep(time.Second)
			if _, _, err := s.Token(t.Context(), key); err != nil {
				t.Fatalf("call failed %d s after the token was issued for an hour: %v", i+1, err)
			}
		}
		if _, o := get(t, s); o != tokens.FromStale {
			t.Errorf("origin = %s, want stale", o)
		}
		time.Sleep(10 * time.Second)
		_, _, err := s.Token(t.Context(), key)
		var held *tokens.Unavailable
		if !errors.As(err, &held) {
			t.Errorf("after the expiry: %v, want Unavailable", err)
		}
	})
}

func TestDeadEndpointIsAskedAtMostThreeTimesByTwoHundredCalls(t *testing.T) {
	for _, concurrent := range []bool{true, false} {
		t.Run(fmt.Sprint("concurrent=", concurrent), func(t *testing.T) {
			bubble(t, func(t *testing.T, s *tokens.Store, e *endpoint) {
				e.failWith(errors.New("down"))
				began := time.Now()
				var wg sync.WaitGroup
				for range 200 {
					call := func() {
						if _, _, err := s.Token(t.Context(), key); err == nil {
							t.Error("got a token from a dead endpoint")
						}
					}
					if concurrent {
						wg.Go(call)
					} else {
						call()
					}
				}
				wg.Wait()
				if n, took := e.calls.Load(), time.Since(began); n > 3 || took > time.Second {
					t.Errorf("%d requests in %v, want at most 3 and no waiting", n, took)
				}
			})
		})
	}
}

func TestBlipIsHealedWithinTheCall(t *testing.T) {
	bubble(t, func(t *testing.T, s *tokens.Store, e *endpoint) {
		e.failWith(errors.New("blip"))
		time.AfterFunc(50*time.Millisecond, func() { e.failWith(nil) })
		get(t, s)
	})
}

func TestThrottlingHoldsEveryScopeOfTheCredential(t *testing.T) {
	bubble(t, func(t *testing.T, s *tokens.Store, e *endpoint) {
		get(t, s)
		other := key
		other.Scope = "other/.default"
		e.failWith(setback{tokens.Failure{Nature: tokens.Throttled, Reach: tokens.ReachCredential, Wait: 90 * time.Second}})
		_, _, err := s.Token(t.Context(), other)
		var held *tokens.Unavailable
		if !errors.As(err, &held) || time.Until(held.Until).Round(time.Second) != 90*time.Second {
			t.Fatalf("throttled: %v, want Unavailable for 90 s", err)
		}
		e.failWith(nil)
		before := e.calls.Load()
		third := key
		third.Scope = "third/.default"
		if _, _, err := s.Token(t.Context(), third); err == nil || e.calls.Load() != before {
			t.Error("another scope was asked for during the hold-off")
		}
		get(t, s) // what is cached is served
		time.Sleep(91 * time.Second)
		if _, _, err := s.Token(t.Context(), third); err != nil {
			t.Errorf("after the hold-off: %v", err)
		}
	})
}

func TestRefusalIsRememberedForAMinuteAndForgiven(t *testing.T) {
	bubble(t, func(t *testing.T, s *tokens.Store, e *endpoint) {
		e.failWith(setback{tokens.Failure{Nature: tokens.Refused}})
		for range 50 {
			time.Sleep(time.Second)
			_, _, _ = s.Token(t.Context(), key)
		}
		if n := e.calls.Load(); n != 1 {
			t.Errorf("acquisitions in 50 s = %d, want 1", n)
		}
		e.failWith(nil)
		s.Forgive()
		get(t, s)
	})
}

func TestBurstOfRefusedTokensCostsOneRenewal(t *testing.T) {
	bubble(t, func(t *testing.T, s *tokens.Store, e *endpoint) {
		old, _ := get(t, s)
		var wg sync.WaitGroup
		for i := range 200 {
			wg.Go(func() {
				time.Sleep(time.Duration(i) * time.Millisecond) // some come when it is over
				tok, _, err := s.Renew(t.Context(), key, old, "")
				if err != nil || tok.Access == old.Access {
					t.Errorf("Renew = %v, %v", tok.Access == old.Access, err)
				}
			})
		}
		wg.Wait()
		if n := e.calls.Load(); n != 2 {
			t.Errorf("acquisitions = %d, want 2: one to begin, one after the burst", n)
		}
		fresh, _ := get(t, s)
		if _, _, err := s.Renew(t.Context(), key, fresh, ""); !errors.Is(err, tokens.ErrRenewedAlready) {
			t.Errorf("renewing the fruit of a renewal: %v, want ErrRenewedAlready", err)
		}
		if _, _, err := s.Renew(t.Context(), key, fresh, `{"access_token":{}}`); err != nil {
			t.Errorf("a claims challenge after a plain renewal: %v, want it answered", err)
		}
		time.Sleep(31 * time.Second)
		latest, _ := get(t, s)
		if _, _, err := s.Renew(t.Context(), key, latest, ""); err != nil {
			t.Errorf("renewing after 31 s: %v", err)
		}
	})
}

func TestSameTokenAgainIsSaid(t *testing.T) {
	bubble(t, func(t *testing.T, s *tokens.Store, e *endpoint) {
		e.same = true
		old, _ := get(t, s)
		if _, _, err := s.Renew(t.Context(), key, old, ""); !errors.Is(err, tokens.ErrSameToken) {
			t.Errorf("Renew = %v, want ErrSameToken", err)
		}
	})
}

func TestStormOfRefusalsWithADeadEndpointCostsThreeRequests(t *testing.T) {
	bubble(t, func(t *testing.T, s *tokens.Store, e *endpoint) {
		old, _ := get(t, s)
		e.failWith(errors.New("down"))
		for range 200 {
			if _, _, err := s.Renew(t.Context(), key, old, ""); err == nil {
				t.Fatal("renewed by a dead endpoint")
			}
		}
		if n := e.calls.Load() - 1; n > 3 {
			t.Errorf("requests = %d, want at most 3", n)
		}
		get(t, s) // the refused token may still be good elsewhere
	})
}

func TestPurgeForgetsTokensAndFailures(t *testing.T) {
	bubble(t, func(t *testing.T, s *tokens.Store, e *endpoint) {
		get(t, s)
		if n := s.Purge(nil); n != 1 {
			t.Errorf("Purge = %d, want 1", n)
		}
		e.failWith(setback{tokens.Failure{Nature: tokens.Throttled, Wait: time.Hour}})
		_, _, _ = s.Token(t.Context(), key)
		e.failWith(nil)
		s.Purge(nil)
		get(t, s)
	})
}

func TestHungRefreshDelaysNobody(t *testing.T) {
	bubble(t, func(t *testing.T, s *tokens.Store, e *endpoint) {
		get(t, s)
		e.take(time.Hour)
		for range 3580 {
			time.Sleep(time.Second)
			began := time.Now()
			get(t, s)
			if time.Since(began) > 0 {
				t.Fatal("a call waited for a refresh that hangs")
			}
		}
	})
}

func TestCacheStaysWithinItsBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := &endpoint{lifetime: time.Hour}
		s, err := tokens.New(tokens.Config{Acquirer: e, Entries: 1000, Memory: 8 << 10})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		for i := range 100 {
			k := key
			k.Tenant = fmt.Sprint(i)
			if _, _, err := s.Token(t.Context(), k); err != nil {
				t.Fatal(err)
			}
		}
		if n, bytes := s.Stats(); bytes > 8<<10 || n == 0 || n > 12 {
			t.Errorf("%d entries, %d bytes; want some, within 8192 bytes", n, bytes)
		}
	})
}

func newStore(tb testing.TB, entries int) (*tokens.Store, []tokens.Key) {
	tb.Helper()
	s, err := tokens.New(tokens.Config{Acquirer: &endpoint{lifetime: time.Hour}, Entries: entries + 1, Memory: 1 << 30})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(s.Close)
	keys := make([]tokens.Key, entries)
	for i := range keys {
		keys[i] = key
		keys[i].Tenant = fmt.Sprintf("%036d", i)
		if _, _, err := s.Token(context.Background(), keys[i]); err != nil {
			tb.Fatal(err)
		}
	}
	return s, keys
}

func TestLookupAllocatesNothing(t *testing.T) {
	s, keys := newStore(t, 10)
	ctx := context.Background()
	if n := testing.AllocsPerRun(1000, func() { _, _, _ = s.Token(ctx, keys[3]) }); n != 0 {
		t.Errorf("allocations per lookup = %v, want 0", n)
	}
}

// BenchmarkLookup puts the store beside the bare LRU with the same key.
func BenchmarkLookup(b *testing.B) {
	for _, n := range []int{1, 1000, 10_000} {
		s, keys := newStore(b, n)
		bare, err := lru.New[tokens.Key, *tokens.Token](n + 1)
		if err != nil {
			b.Fatal(err)
		}
		for _, k := range keys {
			bare.Add(k, &tokens.Token{})
		}
		b.Run(fmt.Sprintf("store/%d", n), func(b *testing.B) {
			b.ReportAllocs()
			ctx := context.Background()
			i := 0
			for b.Loop() {
				_, _, _ = s.Token(ctx, keys[i%n])
				i++
			}
		})
		b.Run(fmt.Sprintf("lru/%d", n), func(b *testing.B) {
			i := 0
			for b.Loop() {
				_, _ = bare.Get(keys[i%n])
				i++
			}
		})
	}
}

func ExampleStore() {
	s, err := tokens.New(tokens.Config{Acquirer: &endpoint{lifetime: time.Hour}, Entries: 10, Memory: 1 << 20})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer s.Close()
	_, first, _ := s.Token(context.Background(), key)
	_, second, _ := s.Token(context.Background(), key)
	fmt.Println(first, second)
	// Output: identity_provider cache
}
