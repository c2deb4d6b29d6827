package tokens_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-13b04e61/gateway/secrets"
	"github.com/seed-13b04e61/gateway/tokens"
)

func TestSecondCallIsServedFromTheCache(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, authority := newStore(t)
		get(t, store, graph, "T1", tokens.FromIdentityProvider)
		get(t, store, graph, "T1", tokens.FromCache)
		authority.wants(t, 1, "one token serves both calls")
	})
}

func TestEveryPartOfTheKeyTellsTokensApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, authority := newStore(t)
		keys := []tokens.Key{graph, graph, graph, graph, graph, graph, graph}
		keys[1].Authority += "x"
		keys[2].Tenant += "x"
		keys[3].Credential += "x"
		keys[4].Fingerprint += "x"
		keys[5].Scope += "x"
		keys[6].CAE = true
		for i, k := range keys {
			get(t, store, k, fmt.Sprint("T", i+1), tokens.FromIdentityProvider)
		}
		authority.wants(t, len(keys), "each key has its own token")
	})
}

func TestNewNamesWhatIsMissing(t *testing.T) {
	for _, test := range []struct {
		name string
		c    tokens.Config
		want string
	}{
		{"no acquirer", tokens.Config{Entries: 1, Memory: 1}, "no acquirer"},
		{"no entries", tokens.Config{Acquirer: &endpoint{}, Memory: 1}, "entries"},
		{"no memory", tokens.Config{Acquirer: &endpoint{}, Entries: 1}, "memory"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if _, err := tokens.New(test.c); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("New() error = %v, want one that names %q", err, test.want)
			}
		})
	}
}

func TestCacheIsBoundedByEntries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, authority := newStoreOf(t, tokens.Config{Entries: 2, Memory: 1 << 20})
		get(t, store, key("a"), "T1", tokens.FromIdentityProvider)
		get(t, store, key("b"), "T2", tokens.FromIdentityProvider)
		get(t, store, key("a"), "T1", tokens.FromCache)
		get(t, store, key("c"), "T3", tokens.FromIdentityProvider)
		get(t, store, key("a"), "T1", tokens.FromCache)
		get(t, store, key("b"), "T4", tokens.FromIdentityProvider)
		authority.wants(t, 4, "b was used longest ago, so it made room for c")
		if n, _ := store.Stats(); n != 2 {
			t.Errorf("Stats() entries = %d, want 2", n)
		}
	})
}

func TestCacheIsBoundedByBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const memory = 20_000
		store, authority := newStoreOf(t, tokens.Config{Entries: 1000, Memory: memory})
		size := 1500
		authority.becomes(func(_ context.Context, n int, _ request) (tokens.Token, error) {
			return token(strings.Repeat("x", size), time.Hour), nil
		})
		for i := range 100 {
			if _, _, err := store.Token(t.Context(), key(fmt.Sprint(i))); err != nil {
				t.Fatal(err)
			}
			if _, bytes := store.Stats(); bytes > memory {
				t.Fatalf("Stats() bytes = %d, want at most %d", bytes, memory)
			}
		}
		if n, bytes := store.Stats(); n < 5 || bytes < int64(n*size) {
			t.Errorf("Stats() = %d, %d, want several entries, each counted with its token", n, bytes)
		}
		size = 2 * memory
		if tok, _, err := store.Token(t.Context(), key("huge")); err != nil || len(tok.Access.Reveal()) != size {
			t.Errorf("Token() = %d bytes, %v, want the token that is too large to be cached", len(tok.Access.Reveal()), err)
		}
		if _, ok := store.Peek(key("huge")); ok {
			t.Error("Peek() knows the token that is larger than the whole cache")
		}
		if n, _ := store.Stats(); n < 5 {
			t.Errorf("Stats() entries = %d, want the others left in place", n)
		}
		store.Purge(nil)
		if n, bytes := store.Stats(); n != 0 || bytes != 0 {
			t.Errorf("Stats() after Purge = %d, %d, want 0, 0", n, bytes)
		}
	})
}

func TestUnusableAnswersAreErrorsAndNotCached(t *testing.T) {
	for _, test := range []struct {
		name string
		tok  func() tokens.Token
		want string
	}{
		{"no token", func() tokens.Token { return token("", time.Hour) }, "without a token"},
		{"expired", func() tokens.Token { return token("x", -time.Second) }, "expired already"},
		{"expires now", func() tokens.Token { return token("x", 0) }, "expired already"},
		{"no expiry", func() tokens.Token { return tokens.Token{Access: secrets.New("x")} }, "expired already"},
		{"absurd expiry", func() tokens.Token { return token("x", 20*365*24*time.Hour) }, "ten years"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store, authority := newStore(t)
				authority.becomes(func(context.Context, int, request) (tokens.Token, error) { return test.tok(), nil })
				if err := refused(t, store, graph); !strings.Contains(err.Error(), test.want) {
					t.Errorf("Token() error = %q, want one that says %q", err, test.want)
				}
				authority.wants(t, 2, "it counts as a passing trouble: one second try")
				if n, _ := store.Stats(); n != 0 {
					t.Errorf("Stats() entries = %d, want 0", n)
				}
			})
		})
	}
}

func TestVeryShortTokensAreHandedOutAndDroppedAtTheirExpiry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, authority := newStore(t)
		authority.becomes(issue(2*time.Second, 0))
		get(t, store, graph, "T1", tokens.FromIdentityProvider)
		get(t, store, graph, "T1", tokens.FromCache)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		// The use above made the store refresh it; nobody used T2.
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if n, bytes := store.Stats(); n != 0 || bytes != 0 {
			t.Errorf("Stats() = %d, %d, want the expired token dropped", n, bytes)
		}
	})
}

func TestHitAllocatesNothing(t *testing.T) {
	store, err := tokens.New(tokens.Config{
		Acquirer: &endpoint{answer: issue(time.Hour, 0)}, Entries: 10, Memory: 1 << 20, Observer: &audience{},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	ctx := t.Context()
	if _, _, err := store.Token(ctx, graph); err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(1000, func() { _, _, _ = store.Token(ctx, graph) }); n != 0 {
		t.Errorf("a hit allocates %v times, want 0", n)
	}
}

func TestObserverHearsOfEveryTokenAndEveryRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &audience{}
		store, authority := newStoreOf(t, tokens.Config{Entries: 10, Memory: 1 << 20, Observer: a})
		first := get(t, store, graph, "T1", tokens.FromIdentityProvider)
		get(t, store, graph, "T1", tokens.FromCache)
		if _, _, err := store.Renew(t.Context(), graph, first, ""); err != nil {
			t.Fatal(err)
		}
		get(t, store, graph, "T2", tokens.FromCache)
		time.Sleep(time.Hour - time.Minute)
		authority.becomes(refuse(errDown))
		refused(t, store, key("other"))
		want := "miss ok 50ms; renew ok 50ms; ahead ok 50ms; miss connection refused 10ms; miss connection refused 10ms"
		if got := strings.Join(a.acquired, "; "); got != want {
			t.Errorf("Acquired heard %q, want %q", got, want)
		}
		if got := fmt.Sprint(a.lookups); got != "map[cache:2 identity_provider:2]" {
			t.Errorf("Lookup heard %s, want two tokens of each source", got)
		}
	})
}

// audience is an Observer that writes down what it hears.
type audience struct {
	mu       sync.Mutex
	acquired []string
	lookups  map[tokens.Origin]int
}

func (a *audience) Lookup(o tokens.Origin) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.lookups == nil {
		a.lookups = make(map[tokens.Origin]int)
	}
	a.lookups[o]++
}

func (a *audience) Acquired(_ tokens.Key, tok tokens.Token, err error, took time.Duration, why string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	result := "ok"
	if err != nil {
		result = err.Error()
	}
	if tok.Access.IsZero() != (err != nil) {
		result = "token and error at once"
	}
	a.acquired = append(a.acquired, fmt.Sprint(why, " ", result, " ", took.Round(time.Millisecond)))
}

func TestClosedStoreServesWhatItHoldsAndAsksForNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, authority := newStore(t)
		get(t, store, graph, "T1", tokens.FromIdentityProvider)
		authority.becomes(hang)
		got := make(chan error)
		go func() {
			_, _, err := store.Token(context.Background(), key("hangs"))
			got <- err
		}()
		synctest.Wait()
		began := time.Now()
		go store.Close()
		if err := <-got; !errors.Is(err, tokens.ErrClosed) {
			t.Errorf("Token() under way when the store closed = %v, want ErrClosed", err)
		}
		store.Close()
		if took := time.Since(began); took != 0 {
			t.Errorf("Close took %v, want the hanging acquisition cancelled at once", took)
		}
		get(t, store, graph, "T1", tokens.FromCache)
		if err := refused(t, store, key("new")); !errors.Is(err, tokens.ErrClosed) {
			t.Errorf("Token() of a closed store = %v, want ErrClosed", err)
		}
		authority.wants(t, 2, "none after Close")
	})
}
