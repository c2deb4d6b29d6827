package tokens_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-13b04e61/gateway/tokens"
)

func TestOutageCostsThreeRequestsAndFailsAtOnce(t *testing.T) {
	for _, test := range []struct {
		name   string
		rounds int
		calls  int
		pause  time.Duration
	}{
		{"200 at once", 1, 200, 0},
		{"200 one after the other", 200, 1, 0},
		{"200 over several seconds", 200, 1, 40 * time.Millisecond},
		{"20 times 10 at once", 20, 10, 300 * time.Millisecond},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store, authority := newStore(t)
				authority.becomes(refuse(errDown))
				for range test.rounds {
					began := time.Now()
					all(t, together(test.calls, func(int) outcome {
						return outcomeOf(store.Token(t.Context(), graph))
					}), outcome{err: errDown})
					if took := time.Since(began); took > 400*time.Millisecond {
						t.Fatalf("a call failed after %v, want at once", took)
					}
					time.Sleep(test.pause)
				}
				if n := len(authority.seen()); n > 3 {
					t.Errorf("200 calls cost %d requests, want at most 3", n)
				}
			})
		})
	}
}

// holds keeps calling for k once a tenth of a second and returns the pauses
// between the requests that this causes, in seconds, from the second on.
func holds(t *testing.T, s *tokens.Store, e *endpoint, d time.Duration) string {
	t.Helper()
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		u := refused(t, s, graph)
		if left := time.Until(u.Until); left <= 0 || left > time.Minute {
			t.Fatalf("Until is %v away, want it within the minute", left)
		}
	}
	var gaps []int
	for i, r := range e.seen()[1:] {
		gaps = append(gaps, int((r.at-e.seen()[i].at).Round(time.Second)/time.Second))
	}
	return fmt.Sprint(gaps)
}

func TestHoldsGrowWithTheTrouble(t *testing.T) {
	for _, test := range []struct {
		name string
		err  error
		want string
	}{
		{"an error that tells nothing is transient", errDown, "[0 5 10 20 30 30 30]"},
		{"transient", refusal(tokens.Transient, tokens.ReachKey), "[0 5 10 20 30 30 30]"},
		{"propagating", refusal(tokens.Propagating, tokens.ReachKey), "[5 10 20 40 60]"},
		{"refused", refusal(tokens.Refused, tokens.ReachKey), "[60 60]"},
		{"throttled without a time", throttled(0), "[60 60]"},
		{"throttled with a time", throttled(47 * time.Second), "[47 47]"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store, authority := newStore(t)
				authority.becomes(refuse(fmt.Errorf("asking: %w", test.err)))
				if got := holds(t, store, authority, 138*time.Second); got != test.want {
					t.Errorf("pauses between requests = %s, want %s", got, test.want)
				}
			})
		})
	}
}

func TestHoldOffIsCappedAtAnHour(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, authority := newStore(t)
		authority.becomes(refuse(throttled(24 * time.Hour)))
		u := refused(t, store, graph)
		if wait := time.Until(u.Until); wait != time.Hour {
			t.Errorf("Until is %v away, want an hour", wait)
		}
	})
}

func TestHoldsStartAgainSmallAfterASuccess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, authority := newStore(t)
		authority.becomes(refuse(errDown))
		holds(t, store, authority, 16*time.Second)
		authority.becomes(issue(time.Second, 0))
		time.Sleep(20 * time.Second)
		if _, _, err := store.Token(t.Context(), graph); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		authority.becomes(refuse(errDown))
		n := len(authority.seen())
		u := refused(t, store, graph)
		authority.wants(t, n+2, "the trouble is new, so there is a second try")
		if wait := time.Until(u.Until); wait != 5*time.Second {
			t.Errorf("Until is %v away, want 5 s", wait)
		}
	})
}

func TestReachDecidesWhoIsHeld(t *testing.T) {
	sibling, cousin := key("another scope"), graph
	sibling.CAE = true
	cousin.Fingerprint = "rotated"
	for _, test := range []struct {
		name string
		err  error
		want bool // that the sibling is held
	}{
		{"refused key", refusal(tokens.Refused, tokens.ReachKey), false},
		{"refused credential", refusal(tokens.Refused, tokens.ReachCredential), true},
		{"propagating credential", refusal(tokens.Propagating, tokens.ReachCredential), true},
		{"throttled", throttled(time.Minute), true},
		{"outage", errDown, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store, authority := newStore(t)
				authority.becomes(refuse(test.err))
				refused(t, store, graph)
				authority.becomes(issue(time.Hour, 0))
				tok, _, err := store.Token(t.Context(), sibling)
				if held := err != nil; held != test.want {
					t.Errorf("sibling got %v, held should be %v", err, test.want)
				}
				if test.want {
					if u := unavailable(t, tok, err); u.Key != sibling || !errors.Is(err, test.err) {
						t.Errorf("sibling's error is %v of %v, want its own key and the first cause", err, u.Key)
					}
				}
				if _, _, err := store.Token(t.Context(), cousin); err != nil {
					t.Errorf("the rotated credential got %v, want a token", err)
				}
			})
		})
	}
}

func TestThrottledCredentialServesWhatIsCachedAndAsksForNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, authority := newStore(t)
		first := get(t, store, graph, "T1", tokens.FromIdentityProvider)
		authority.becomes(refuse(throttled(10 * time.Minute)))
		refused(t, store, key("b"))
		authority.becomes(issue(time.Hour, 0))
		for range 590 {
			get(t, store, graph, "T1", tokens.FromCache)
			began := time.Now()
			refused(t, store, key("c"))
			tok, _, err := store.Renew(t.Context(), graph, first, "")
			unavailable(t, tok, err)
			if time.Since(began) != 0 {
				t.Fatalf("a throttled call waited %v", time.Since(began))
			}
			time.Sleep(time.Second)
		}
		authority.wants(t, 2, "quiet for ten minutes")
		time.Sleep(10 * time.Second)
		get(t, store, key("c"), "T3", tokens.FromIdentityProvider)
	})
}

func TestSecondTryIsNotMadeWhenQuietWasAskedForMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, authority := newStore(t)
		authority.becomes(func(_ context.Context, _ int, r request) (tokens.Token, error) {
			if r.key == graph {
				return tokens.Token{}, errDown
			}
			time.Sleep(50 * time.Millisecond)
			return tokens.Token{}, throttled(time.Minute)
		})
		got := together(2, func(i int) outcome {
			return outcomeOf(store.Token(t.Context(), []tokens.Key{graph, key("b")}[i]))
		})
		if got[0].err == nil || got[1].err == nil {
			t.Fatalf("got %v, want two errors", got)
		}
		authority.wants(t, 2, "the second try fell into the quiet")
	})
}

func TestLongerHoldOffIsNotLiftedByAShorterOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, authority := newStore(t)
		authority.becomes(func(_ context.Context, n int, r request) (tokens.Token, error) {
			time.Sleep(time.Duration(n) * time.Second)
			if r.key == graph {
				return tokens.Token{}, throttled(10 * time.Minute)
			}
			return tokens.Token{}, throttled(time.Second)
		})
		go func() { _, _, _ = store.Token(context.Background(), graph) }()
		synctest.Wait()
		refused(t, store, key("b"))
		if u := refused(t, store, key("c")); time.Until(u.Until) < 9*time.Minute {
			t.Errorf("Until is %v away, want the ten minutes asked for first", time.Until(u.Until))
		}
	})
}

func TestMemoryOfFailuresIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, authority := newStore(t)
		cause := refusal(tokens.Refused, tokens.ReachKey)
		authority.becomes(func(context.Context, int, request) (tokens.Token, error) { return tokens.Token{}, cause })
		for i := range 1500 {
			refused(t, store, key(fmt.Sprint(i)))
		}
		known := 0
		for i := range 1500 {
			if _, ok := store.Peek(key(fmt.Sprint(i))); ok {
				known++
			}
		}
		if known != 1024 {
			t.Errorf("%d failures are remembered, want the latest 1024", known)
		}
	})
}
