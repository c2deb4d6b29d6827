package tokens_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-13b04e61/gateway/tokens"
)

func TestPurgeForgetsWhatMatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, authority := newStore(t)
		get(t, store, key("a"), "T1", tokens.FromIdentityProvider)
		get(t, store, key("b"), "T2", tokens.FromIdentityProvider)
		if n := store.Purge(func(k tokens.Key) bool { return k.Scope == "a" }); n != 1 {
			t.Errorf("Purge() = %d, want 1", n)
		}
		get(t, store, key("b"), "T2", tokens.FromCache)
		get(t, store, key("a"), "T3", tokens.FromIdentityProvider)
		if n := store.Purge(nil); n != 2 {
			t.Errorf("Purge(nil) = %d, want 2", n)
		}
		authority.wants(t, 3, "a was asked for twice")
	})
}

func TestPurgeForgetsFailuresAndHoldOffs(t *testing.T) {
	for _, cause := range []error{
		errDown, throttled(time.Hour), refusal(tokens.Refused, tokens.ReachKey), refusal(tokens.Refused, tokens.ReachCredential),
	} {
		synctest.Test(t, func(t *testing.T) {
			store, authority := newStore(t)
			authority.becomes(refuse(cause))
			refused(t, store, graph)
			authority.becomes(issue(time.Hour, 0))
			store.Purge(func(k tokens.Key) bool { return k.Credential != graph.Credential })
			if err := refused(t, store, graph); !errors.Is(err, cause) {
				t.Errorf("Token() after another credential's purge = %v, want %v", err, cause)
			}
			store.Purge(func(k tokens.Key) bool { return k.Credential == graph.Credential })
			if _, _, err := store.Token(t.Context(), graph); err != nil {
				t.Errorf("Token() after its purge = %v, want a token", err)
			}
		})
	}
}

func TestPurgeForgetsThatAKeyWasRenewed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, _ := newStore(t)
		first := get(t, store, graph, "T1", tokens.FromIdentityProvider)
		wantRenewal(t, renew(t, store, first, ""), outcome{"T2", tokens.FromIdentityProvider, nil})
		store.Purge(nil)
		third := get(t, store, graph, "T3", tokens.FromIdentityProvider)
		wantRenewal(t, renew(t, store, third, ""), outcome{"T4", tokens.FromIdentityProvider, nil})
	})
}

func TestFlightUnderAPurgeServesItsWaitersAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, authority := newStore(t)
		authority.becomes(issue(time.Hour, time.Second))
		got := make(chan outcome)
		go func() { got <- outcomeOf(store.Token(context.Background(), graph)) }()
		synctest.Wait()
		store.Purge(nil)
		// Whoever comes after the purge does not join what began before it.
		go func() { got <- outcomeOf(store.Token(context.Background(), graph)) }()
		synctest.Wait()
		authority.wants(t, 2, "one before the purge, one after")
		tokensGot := fmt.Sprint((<-got).token, (<-got).token)
		if tokensGot != "T1T2" && tokensGot != "T2T1" {
			t.Errorf("callers got %s, want each their own", tokensGot)
		}
		get(t, store, graph, "T2", tokens.FromCache)
	})
}

func TestRefreshUnderAPurgeIsNotStored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, authority := newStore(t)
		get(t, store, graph, "T1", tokens.FromIdentityProvider)
		time.Sleep(50 * time.Minute)
		get(t, store, graph, "T1", tokens.FromCache)
		synctest.Wait()
		authority.wants(t, 2, "a refresh is under way")
		store.Purge(nil)
		time.Sleep(time.Second)
		if i, ok := store.Peek(graph); ok {
			t.Errorf("Peek() = %+v after the purge, want nothing", i)
		}
	})
}

func TestFailureUnderAPurgeIsNotRemembered(t *testing.T) {
	for _, test := range []struct {
		name  string
		err   error
		knows bool
	}{
		{"refusal", refusal(tokens.Refused, tokens.ReachKey), false},
		{"quiet asked for", throttled(time.Minute), true},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				for _, forget := range []func(*tokens.Store){
					func(s *tokens.Store) { s.Purge(nil) },
					(*tokens.Store).Forgive,
				} {
					store, authority := newStore(t)
					authority.becomes(refuse(test.err))
					go func() { _, _, _ = store.Token(context.Background(), graph) }()
					synctest.Wait()
					forget(store)
					time.Sleep(time.Second)
					if _, ok := store.Peek(graph); ok != test.knows {
						t.Errorf("failure remembered: %v, want %v", ok, test.knows)
					}
				}
			})
		})
	}
}

func TestForgiveKeepsTokensAndTheQuietAskedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, authority := newStore(t)
		kept := get(t, store, graph, "T1", tokens.FromIdentityProvider)
		cause := refusal(tokens.Refused, tokens.ReachKey)
		authority.becomes(refuse(cause))
		refused(t, store, key("b"))
		wantRenewal(t, renew(t, store, kept, ""), outcome{err: cause})
		store.Forgive()
		authority.becomes(issue(time.Hour, 0))
		get(t, store, graph, "T1", tokens.FromCache)
		get(t, store, key("b"), "T4", tokens.FromIdentityProvider)
		wantRenewal(t, renew(t, store, kept, ""), outcome{"T5", tokens.FromIdentityProvider, nil})

		authority.becomes(refuse(throttled(time.Minute)))
		refused(t, store, key("c"))
		store.Forgive()
		refused(t, store, key("c"))
		authority.wants(t, 6, "what the endpoint asked for is kept")
	})
}

func TestForgiveHasFailedRefreshesTriedAgainSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, authority := newStore(t)
		authority.becomes(issue(time.Hour, 0))
		get(t, store, graph, "T1", tokens.FromIdentityProvider)
		time.Sleep(50 * time.Minute)
		authority.becomes(refuse(refusal(tokens.Refused, tokens.ReachCredential)))
		get(t, store, graph, "T1", tokens.FromCache)
		time.Sleep(time.Second)
		get(t, store, graph, "T1", tokens.FromStale)
		authority.becomes(issue(time.Hour, 0))
		store.Forgive()
		time.Sleep(3 * time.Second)
		synctest.Wait()
		get(t, store, graph, "T3", tokens.FromCache)
	})
}

func TestPeekTellsAndChangesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, authority := newStore(t)
		if i, ok := store.Peek(graph); ok {
			t.Errorf("Peek() of an empty store = %+v", i)
		}
		began := time.Now()
		tok := get(t, store, graph, "T1", tokens.FromIdentityProvider)
		i, ok := store.Peek(graph)
		if !ok || !i.Usable || !i.Cached || i.Failing || i.Origin != tokens.FromCache || i.Err != nil || !i.Until.IsZero() {
			t.Errorf("Peek() = %+v, %v, want a usable token", i, ok)
		}
		if !i.Obtained.Equal(began.Add(50*time.Millisecond)) || !i.Expires.Equal(tok.Expires) || !i.RefreshAt.Equal(tok.RefreshAt) {
			t.Errorf("Peek() times = %v %v %v, want those of the token", i.Obtained, i.RefreshAt, i.Expires)
		}
		if i.Fingerprint != tok.Access.Fingerprint() || strings.Contains(fmt.Sprintf("%+v", i), "T1") {
			t.Errorf("Peek() = %+v, want the fingerprint and no token", i)
		}
		time.Sleep(50 * time.Minute)
		store.Peek(graph)
		synctest.Wait()
		authority.wants(t, 1, "looking is not using")

		authority.becomes(refuse(errDown))
		get(t, store, graph, "T1", tokens.FromCache)
		time.Sleep(time.Second)
		i, ok = store.Peek(graph)
		if !ok || !i.Usable || !i.Failing || i.Origin != tokens.FromStale || !errors.Is(i.Err, errDown) || !i.Until.After(time.Now()) {
			t.Errorf("Peek() while the endpoint fails = %+v, want stale and why", i)
		}
		time.Sleep(10 * time.Minute)
		refused(t, store, graph)
		if i, ok = store.Peek(graph); !ok || i.Usable || i.Cached || !i.Failing {
			t.Errorf("Peek() after the expiry = %+v, want failing and no token", i)
		}
	})
}

func TestKeysAreThoseOfTokensAndRecentFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, authority := newStore(t)
		get(t, store, key("a"), "T1", tokens.FromIdentityProvider)
		authority.becomes(refuse(refusal(tokens.Refused, tokens.ReachCredential)))
		refused(t, store, key("b"))
		has := func(want ...tokens.Key) {
			t.Helper()
			got := map[tokens.Key]bool{}
			for _, k := range store.Keys() {
				got[k] = true
			}
			if len(got) != len(want) || len(store.Keys()) != len(want) {
				t.Errorf("Keys() = %v, want %v", store.Keys(), want)
			}
			for _, k := range want {
				if !got[k] {
					t.Errorf("Keys() lacks %v", k)
				}
			}
		}
		has(key("a"), key("b"))
		time.Sleep(10 * time.Minute)
		has(key("a"))
		store.Purge(nil)
		has()
	})
}
