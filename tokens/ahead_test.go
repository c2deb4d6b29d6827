package tokens_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-13b04e61/gateway/tokens"
)

func TestTokenInUseIsRefreshedAheadOfNeed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, authority := newStore(t)
		authority.becomes(issue(time.Hour, 0))
		for i := range 20 {
			k := key(fmt.Sprint(i))
			get(t, store, k, fmt.Sprint("T", i+1), tokens.FromIdentityProvider)
			get(t, store, k, fmt.Sprint("T", i+1), tokens.FromCache)
		}
		time.Sleep(42 * time.Minute) // 70 %
		synctest.Wait()
		authority.wants(t, 20, "no refresh before 70 % of the lifetime")
		time.Sleep(6 * time.Minute) // 80 %
		synctest.Wait()
		authority.wants(t, 40, "all refreshed by 80 % of the lifetime, without a call")
		moments := make(map[time.Duration]bool)
		for _, r := range authority.seen()[20:] {
			moments[r.at.Round(time.Second)] = true
		}
		if len(moments) < 5 {
			t.Errorf("20 tokens were refreshed in %d different seconds, want them spread", len(moments))
		}
	})
}

func TestEndpointsOwnMomentOfRefreshIsKept(t *testing.T) {
	for _, test := range []struct {
		name string
		in   time.Duration
		want [2]time.Duration
	}{
		{"half of the lifetime", 30 * time.Minute, [2]time.Duration{30 * time.Minute, 30 * time.Minute}},
		{"in the past", -time.Minute, [2]time.Duration{42 * time.Minute, 48 * time.Minute}},
		{"now", 0, [2]time.Duration{42 * time.Minute, 48 * time.Minute}},
		{"after the expiry", 2 * time.Hour, [2]time.Duration{42 * time.Minute, 48 * time.Minute}},
		{"too close to the expiry", time.Hour - time.Second, [2]time.Duration{42 * time.Minute, 48 * time.Minute}},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store, authority := newStore(t)
				authority.becomes(func(context.Context, int, request) (tokens.Token, error) {
					tok := token("T", time.Hour)
					tok.RefreshAt = time.Now().Add(test.in)
					return tok, nil
				})
				get(t, store, graph, "T", tokens.FromIdentityProvider)
				get(t, store, graph, "T", tokens.FromCache)
				time.Sleep(50 * time.Minute)
				at := authority.seen()[1].at
				if at < test.want[0] || at > test.want[1] {
					t.Errorf("refreshed at %v, want between %v and %v", at, test.want[0], test.want[1])
				}
			})
		})
	}
}

func TestUnusedTokenIsRefreshedBehindItsNextCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, authority := newStore(t)
		get(t, store, graph, "T1", tokens.FromIdentityProvider)
		time.Sleep(55 * time.Minute)
		synctest.Wait()
		authority.wants(t, 1, "nobody used it since it was obtained")
		began := time.Now()
		for range 100 {
			get(t, store, graph, "T1", tokens.FromCache)
		}
		if took := time.Since(began); took != 0 {
			t.Errorf("the calls took %v, want them served at once", took)
		}
		time.Sleep(time.Second)
		authority.wants(t, 2, "the first call had it refreshed behind its back")
		get(t, store, graph, "T2", tokens.FromCache)
	})
}

func TestUnusedTokensAreDroppedAtTheirExpiry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, authority := newStore(t)
		all(t, together(100, func(i int) outcome {
			_, origin, err := store.Token(t.Context(), key(fmt.Sprint(i)))
			return outcome{"", origin, err}
		}), outcome{"", tokens.FromIdentityProvider, nil})
		if n, _ := store.Stats(); n != 100 {
			t.Errorf("Stats() entries = %d, want 100", n)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if n, bytes := store.Stats(); n != 0 || bytes != 0 {
			t.Errorf("Stats() = %d, %d, want nothing kept beyond its expiry", n, bytes)
		}
		get(t, store, key("0"), "T101", tokens.FromIdentityProvider)
		authority.wants(t, 101, "a miss each at the beginning and one after the expiry")
	})
}

func TestRefreshIsSeenByNoCall(t *testing.T) {
	for _, life := range []time.Duration{3 * time.Second, 20 * time.Second, time.Minute, time.Hour} {
		t.Run(life.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store, authority := newStore(t)
				authority.becomes(issue(life, min(life/50, 10*time.Second)))
				get(t, store, graph, "T1", tokens.FromIdentityProvider)
				for i := range 9000 { // 9 lifetimes
					time.Sleep(life / 1000)
					began := time.Now()
					tok, origin, err := store.Token(t.Context(), graph)
					if err != nil || origin != tokens.FromCache || time.Since(began) != 0 {
						t.Fatalf("call %d: %q, %v after %v, want the cache at once", i, origin, err, time.Since(began))
					}
					if left := time.Until(tok.Expires); left < life/10 && left < 5*time.Second {
						t.Fatalf("call %d got a token that has %v to live", i, left)
					}
				}
				if n := len(authority.seen()); n < 11 || n > 14 {
					t.Errorf("%d acquisitions in nine lifetimes, want one per 70 to 80 %%", n)
				}
			})
		})
	}
}

func TestOutageIsSeenByNoCallUntilTheTokenExpires(t *testing.T) {
	for _, life := range []time.Duration{4 * time.Second, 40 * time.Second, time.Hour} {
		t.Run(life.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store, authority := newStore(t)
				authority.becomes(issue(life, 0))
				first := get(t, store, graph, "T1", tokens.FromIdentityProvider)
				authority.becomes(refuse(errDown))
				origins := make(map[tokens.Origin]int)
				for {
					time.Sleep(life / 1000)
					if !time.Now().Before(first.Expires.Add(-20 * time.Millisecond)) { // two tries' time on the network
						break
					}
					tok, origin, err := store.Token(t.Context(), graph)
					if err != nil || tok.Access.Reveal() != "T1" {
						t.Fatalf("with %v left: %q, %v, want T1", time.Until(first.Expires), tok.Access.Reveal(), err)
					}
					origins[origin]++
				}
				if origins[tokens.FromCache] < 690 || origins[tokens.FromStale] < 180 {
					t.Errorf("origins = %v, want the cache before the refresh failed and stale after", origins)
				}
				for i, r := range authority.seen()[2:] {
					if gap := r.at - authority.seen()[i+1].at; life == time.Hour && gap < 4*time.Second {
						t.Errorf("request %d came %v after the one before", i+2, gap)
					}
				}
				time.Sleep(time.Second)
				refused(t, store, graph)
			})
		})
	}
}

func TestFailedRefreshIsTriedAgainEveryHalfMinuteWhileInUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, authority := newStore(t)
		authority.becomes(issue(time.Hour, 0))
		get(t, store, graph, "T1", tokens.FromIdentityProvider)
		authority.becomes(refuse(errDown))
		use := func(d time.Duration) {
			for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(time.Second) {
				if _, _, err := store.Token(t.Context(), graph); err != nil {
					t.Fatal(err)
				}
			}
		}
		use(50 * time.Minute)
		seen := authority.seen()
		if len(seen) < 4 {
			t.Fatalf("%d requests in 50 minutes, want the refresh tried again", len(seen))
		}
		for i := 2; i < len(seen); i++ {
			if gap := seen[i].at - seen[i-1].at; gap < 27*time.Second || gap > 34*time.Second {
				t.Errorf("try %d came %v after the one before, want about 30 s", i, gap)
			}
		}
		time.Sleep(40 * time.Second) // the last uses earn one more try
		n := len(authority.seen())
		time.Sleep(4 * time.Minute)
		authority.wants(t, n, "nobody uses it any more")
		authority.becomes(issue(time.Hour, 0))
		get(t, store, graph, "T1", tokens.FromStale)
		synctest.Wait()
		get(t, store, graph, fmt.Sprint("T", n+1), tokens.FromCache)
	})
}

func TestHungRefreshDelaysNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, authority := newStore(t)
		authority.becomes(issue(time.Minute, 0))
		first := get(t, store, graph, "T1", tokens.FromIdentityProvider)
		authority.becomes(hang)
		for time.Now().Before(first.Expires.Add(-time.Millisecond)) {
			began := time.Now()
			tok, _, err := store.Token(t.Context(), graph)
			if err != nil || tok.Access.Reveal() != "T1" || time.Since(began) != 0 {
				t.Fatalf("with %v left: %v after %v, want T1 at once", time.Until(first.Expires), err, time.Since(began))
			}
			time.Sleep(100 * time.Millisecond)
		}
		authority.wants(t, 2, "the one that hangs is the only one")
	})
}

func TestTokenInItsLastSecondsIsHandedOutOnlyIfNoBetterOneIsToBeHad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, authority := newStore(t)
		get(t, store, graph, "T1", tokens.FromIdentityProvider)
		get(t, store, key("b"), "T2", tokens.FromIdentityProvider)
		time.Sleep(time.Hour - 4*time.Second)
		get(t, store, graph, "T3", tokens.FromIdentityProvider)
		authority.becomes(refuse(errDown))
		get(t, store, key("b"), "T2", tokens.FromStale)
		authority.wants(t, 5, "a first and a second try for b")
		get(t, store, key("b"), "T2", tokens.FromStale)
		authority.wants(t, 5, "b is held now")
		if i, ok := store.Peek(key("b")); !ok || !i.Usable || !i.Failing {
			t.Errorf("Peek() = %+v, want usable and failing", i)
		}
	})
}

func TestRefreshWaitsForTheEndOfAHoldOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, authority := newStore(t)
		authority.becomes(issue(time.Hour, 0))
		get(t, store, graph, "T1", tokens.FromIdentityProvider)
		get(t, store, graph, "T1", tokens.FromCache)
		time.Sleep(40 * time.Minute)
		authority.becomes(refuse(throttled(12 * time.Minute)))
		refused(t, store, key("another scope"))
		authority.becomes(issue(time.Hour, 0))
		for range 12*60 - 1 {
			if _, _, err := store.Token(t.Context(), graph); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
		}
		authority.wants(t, 2, "quiet for twelve minutes, though a refresh was due")
		get(t, store, graph, "T1", tokens.FromStale)
		time.Sleep(40 * time.Second)
		get(t, store, graph, "T3", tokens.FromCache)
	})
}
