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

const (
	revoked = `{"access_token":{"nbf":{"essential":true,"value":"1604106651"}}}`
	moved   = `{"access_token":{"xms_rp_ipaddr":{"value":"203.0.113.7"}}}`
)

// renew returns what Renew answers for graph.
func renew(t testing.TB, s *tokens.Store, rejected tokens.Token, claims string) outcome {
	return outcomeOf(s.Renew(t.Context(), graph, rejected, claims))
}

// wantRenewal fails the test unless Renew answers want.
func wantRenewal(t testing.TB, got, want outcome) {
	t.Helper()
	all(t, []outcome{got}, want)
}

func TestBurstOfRefusalsCostsOneAcquisition(t *testing.T) {
	for _, claims := range []string{"", revoked} {
		synctest.Test(t, func(t *testing.T) {
			store, authority := newStore(t)
			first := get(t, store, graph, "T1", tokens.FromIdentityProvider)
			got := together(200, func(int) outcome { return renew(t, store, first, claims) })
			all(t, got, outcome{"T2", tokens.FromIdentityProvider, nil})
			// ... and those who come late, one after the other and all at once.
			wantRenewal(t, renew(t, store, first, claims), outcome{"T2", tokens.FromCache, nil})
			time.Sleep(10 * time.Minute)
			got = together(200, func(int) outcome { return renew(t, store, first, claims) })
			all(t, got, outcome{"T2", tokens.FromCache, nil})
			get(t, store, graph, "T2", tokens.FromCache)
			authority.wants(t, 2, "one to begin, one after the burst")
			if got := authority.seen()[1].claims; got != claims {
				t.Errorf("renewed with claims %q, want %q", got, claims)
			}
		})
	}
}

func TestStaggeredRefusalsCostOneAcquisition(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, authority := newStore(t)
		authority.becomes(issue(time.Hour, 100*time.Millisecond))
		first := get(t, store, graph, "T1", tokens.FromIdentityProvider)
		got := together(200, func(i int) outcome {
			time.Sleep(time.Duration(i) * time.Millisecond)
			return renew(t, store, first, "")
		})
		for i, o := range got {
			if o.err != nil || o.token != "T2" {
				t.Fatalf("call %d got %+v, want T2", i, o)
			}
		}
		authority.wants(t, 2, "before, during and after the flight are one burst")
	})
}

func TestFruitOfARenewalIsNotRenewedForThirtySeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, authority := newStore(t)
		first := get(t, store, graph, "T1", tokens.FromIdentityProvider)
		second, _, err := store.Renew(t.Context(), graph, first, "")
		if err != nil {
			t.Fatal(err)
		}
		got := together(200, func(int) outcome { return renew(t, store, second, "") })
		all(t, got, outcome{err: tokens.ErrRenewedAlready})
		time.Sleep(30*time.Second - time.Millisecond)
		wantRenewal(t, renew(t, store, second, ""), outcome{err: tokens.ErrRenewedAlready})
		get(t, store, graph, "T2", tokens.FromCache)
		authority.wants(t, 2, "a token that is refused at once is not cured by the next")
		time.Sleep(time.Millisecond)
		wantRenewal(t, renew(t, store, second, ""), outcome{"T3", tokens.FromIdentityProvider, nil})
	})
}

func TestTokenOfAnyAgeIsRenewed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, _ := newStore(t)
		first := get(t, store, graph, "T1", tokens.FromIdentityProvider)
		wantRenewal(t, renew(t, store, first, ""), outcome{"T2", tokens.FromIdentityProvider, nil})
	})
}

func TestRefusedTokenThatIsNoLongerCachedIsReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, authority := newStore(t)
		first := get(t, store, graph, "T1", tokens.FromIdentityProvider)
		store.Purge(nil)
		got := together(200, func(int) outcome { return renew(t, store, first, "") })
		all(t, got, outcome{"T2", tokens.FromIdentityProvider, nil})
		authority.wants(t, 2, "the purged one and its successor")
	})
}

func TestSameTokenAgainIsToldApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, authority := newStore(t)
		authority.becomes(func(context.Context, int, request) (tokens.Token, error) {
			time.Sleep(time.Millisecond)
			return token("managed", time.Hour), nil
		})
		first := get(t, store, graph, "managed", tokens.FromIdentityProvider)
		got := together(200, func(int) outcome { return renew(t, store, first, "") })
		all(t, got, outcome{err: tokens.ErrSameToken})
		wantRenewal(t, renew(t, store, first, ""), outcome{err: tokens.ErrSameToken})
		authority.wants(t, 2, "asking again would bring the same")
		get(t, store, graph, "managed", tokens.FromCache)
	})
}

func TestFailedRenewalKeepsTheTokenAndCountsAsOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, authority := newStore(t)
		first := get(t, store, graph, "T1", tokens.FromIdentityProvider)
		authority.becomes(refuse(errDown))
		for range 29 {
			got := together(20, func(int) outcome { return renew(t, store, first, "") })
			all(t, got, outcome{err: errDown})
			get(t, store, graph, "T1", tokens.FromCache)
			time.Sleep(time.Second)
		}
		if n := len(authority.seen()) - 1; n > 3 {
			t.Errorf("a storm of refusals with the endpoint down cost %d requests, want at most 3", n)
		}
		tok, _, err := store.Renew(t.Context(), graph, first, "")
		if u := unavailable(t, tok, err); time.Until(u.Until) <= 0 {
			t.Errorf("Until is %v away, want the rest of the half minute", time.Until(u.Until))
		}
		authority.becomes(issue(time.Hour, 0))
		time.Sleep(2 * time.Second)
		if o := renew(t, store, first, ""); o.err != nil {
			t.Errorf("Renew() after half a minute = %v, want a token", o.err)
		}
	})
}

func TestRenewalJoinsARefreshUnderWay(t *testing.T) {
	for _, test := range []struct {
		name   string
		result string
		want   string
		cost   int
	}{
		{"that brings another token", "fresh", "fresh", 1},
		{"unless it brings the refused one", "T1", "T3", 2},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store, authority := newStore(t)
				first := get(t, store, graph, "T1", tokens.FromIdentityProvider)
				authority.becomes(func(ctx context.Context, n int, r request) (tokens.Token, error) {
					time.Sleep(time.Second)
					if n == 2 {
						return token(test.result, time.Hour), nil
					}
					return issue(time.Hour, 0)(ctx, n, r)
				})
				time.Sleep(50 * time.Minute)
				get(t, store, graph, "T1", tokens.FromCache) // begins the refresh
				synctest.Wait()
				got := together(200, func(int) outcome { return renew(t, store, first, "") })
				all(t, got, outcome{test.want, tokens.FromIdentityProvider, nil})
				authority.wants(t, 1+test.cost, "joined if it helps, renewed if it does not")
				get(t, store, graph, test.want, tokens.FromCache)
			})
		})
	}
}

func TestCallerOfRenewLeavesOnItsOwnDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, authority := newStore(t)
		first := get(t, store, graph, "T1", tokens.FromIdentityProvider)
		authority.becomes(issue(time.Hour, 2*time.Second))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, _, err := store.Renew(ctx, graph, first, ""); err != context.DeadlineExceeded {
			t.Errorf("Renew() = %v, want context.DeadlineExceeded", err)
		}
		wantRenewal(t, renew(t, store, first, ""), outcome{"T2", tokens.FromIdentityProvider, nil})
		authority.wants(t, 2, "the flight outlived its caller")
	})
}

func TestChallengeIsAnotherEventThanAPlainRefusal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, authority := newStore(t)
		first := get(t, store, graph, "T1", tokens.FromIdentityProvider)
		second, _, err := store.Renew(t.Context(), graph, first, "")
		if err != nil {
			t.Fatal(err)
		}
		third, _, err := store.Renew(t.Context(), graph, second, revoked)
		if err != nil || third.Access.Reveal() != "T3" {
			t.Fatalf("Renew() with a challenge right after a plain one = %v, want T3", err)
		}
		for _, claims := range []string{revoked, moved, ""} {
			wantRenewal(t, renew(t, store, third, claims), outcome{err: tokens.ErrRenewedAlready})
		}
		authority.wants(t, 3, "one plain and one claims renewal in the half minute")
		time.Sleep(30 * time.Second)
		wantRenewal(t, renew(t, store, third, moved), outcome{"T4", tokens.FromIdentityProvider, nil})
	})
}

func TestTokenObtainedWithoutTheClaimsIsNoAnswerToThem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, authority := newStore(t)
		first := get(t, store, graph, "T1", tokens.FromIdentityProvider)
		if _, _, err := store.Renew(t.Context(), graph, first, ""); err != nil {
			t.Fatal(err)
		}
		// T2 is newer than the refused T1 and knows nothing of the challenge.
		wantRenewal(t, renew(t, store, first, revoked), outcome{"T3", tokens.FromIdentityProvider, nil})
		// T3 went to its waiter alone, as the slot holds neither T1 nor an older one.
		get(t, store, graph, "T2", tokens.FromCache)
		second := tokens.Token{Access: token("T2", 0).Access}
		wantRenewal(t, renew(t, store, second, revoked), outcome{"T4", tokens.FromIdentityProvider, nil})
		get(t, store, graph, "T4", tokens.FromCache)
		wantRenewal(t, renew(t, store, second, revoked), outcome{"T4", tokens.FromCache, nil})
		authority.wants(t, 4, "the last answer was cached")
	})
}

func TestChallengesThatDifferDoNotMultiplyRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, authority := newStore(t)
		first := get(t, store, graph, "T1", tokens.FromIdentityProvider)
		got := together(200, func(i int) outcome { return renew(t, store, first, fmt.Sprint(`{"nonce":`, i, `}`)) })
		for i, o := range got {
			if o.err != nil || o.token != "T2" {
				t.Fatalf("call %d got %+v, want the one new token", i, o)
			}
		}
		authority.wants(t, 2, "an upstream that varies its challenge cannot flood the endpoint")
	})
}

func TestRefreshDoesNotUndoTheAnswerToAChallenge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, authority := newStore(t)
		first := get(t, store, graph, "T1", tokens.FromIdentityProvider)
		time.Sleep(50 * time.Minute)
		authority.becomes(func(ctx context.Context, n int, r request) (tokens.Token, error) {
			if r.claims == "" {
				time.Sleep(5 * time.Second)
			}
			return issue(time.Hour, 0)(ctx, n, r)
		})
		get(t, store, graph, "T1", tokens.FromCache) // begins a slow refresh, T2
		synctest.Wait()
		wantRenewal(t, renew(t, store, first, revoked), outcome{"T3", tokens.FromIdentityProvider, nil})
		time.Sleep(10 * time.Second)
		get(t, store, graph, "T3", tokens.FromCache)
		authority.wants(t, 3, "the refresh began before the challenge")
	})
}

func TestRefusedChallengeDoesNotHoldTheOrdinaryToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, authority := newStore(t)
		first := get(t, store, graph, "T1", tokens.FromIdentityProvider)
		cause := refusal(tokens.Refused, tokens.ReachKey)
		authority.becomes(refuse(cause))
		for range 59 {
			wantRenewal(t, renew(t, store, first, revoked), outcome{err: cause})
			time.Sleep(time.Second)
		}
		authority.wants(t, 2, "exactly this request is refused for a minute")
		authority.becomes(issue(time.Hour, 0))
		wantRenewal(t, renew(t, store, first, ""), outcome{"T3", tokens.FromIdentityProvider, nil})
	})
}

func TestRenewalObeysANegativeEntry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, authority := newStore(t)
		first := get(t, store, graph, "T1", tokens.FromIdentityProvider)
		cause := refusal(tokens.Refused, tokens.ReachCredential)
		authority.becomes(refuse(cause))
		refused(t, store, key("b"))
		for _, claims := range []string{"", revoked} {
			tok, _, err := store.Renew(t.Context(), graph, first, claims)
			if u := unavailable(t, tok, err); !errors.Is(err, cause) || time.Until(u.Until) < 50*time.Second {
				t.Errorf("Renew(%q) = %v until %v, want the credential's refusal for a minute", claims, err, u.Until)
			}
		}
		authority.wants(t, 2, "the credential is known to be refused")
	})
}

func TestRenewBehindRenewsAndNobodyWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, authority := newStore(t)
		first := get(t, store, graph, "T1", tokens.FromIdentityProvider)
		began := time.Now()
		for range 200 {
			store.RenewBehind(graph, first, "")
		}
		if took := time.Since(began); took != 0 {
			t.Errorf("RenewBehind took %v", took)
		}
		time.Sleep(time.Second)
		second := get(t, store, graph, "T2", tokens.FromCache)
		store.RenewBehind(graph, first, "")
		store.RenewBehind(graph, second, "")
		time.Sleep(time.Second)
		authority.wants(t, 2, "one renewal, and its fruit is not renewed")
	})
}

func TestRenewalOfATokenTooLargeToCacheIsGuardedToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, authority := newStoreOf(t, tokens.Config{Entries: 10, Memory: 10})
		first := get(t, store, graph, "T1", tokens.FromIdentityProvider)
		second, _, err := store.Renew(t.Context(), graph, first, "")
		if err != nil {
			t.Fatal(err)
		}
		wantRenewal(t, renew(t, store, second, ""), outcome{err: tokens.ErrRenewedAlready})
		authority.wants(t, 2, "the fruit is remembered though the token is not")
	})
}

func TestRefusedTokenThatWasEvictedAfterItsRenewalIsReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, authority := newStoreOf(t, tokens.Config{Entries: 1, Memory: 1 << 20})
		first := get(t, store, graph, "T1", tokens.FromIdentityProvider)
		wantRenewal(t, renew(t, store, first, ""), outcome{"T2", tokens.FromIdentityProvider, nil})
		get(t, store, key("evicts it"), "T3", tokens.FromIdentityProvider)
		wantRenewal(t, renew(t, store, first, ""), outcome{"T4", tokens.FromIdentityProvider, nil})
		authority.wants(t, 4, "nothing says that T2 was refused too")
	})
}
