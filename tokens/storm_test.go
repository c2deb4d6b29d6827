package tokens_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-13b04e61/gateway/tokens"
)

// TestStormKeepsItsBounds lets everything happen at once, for ten minutes of
// bubbled time: short tokens, an endpoint that fails, hangs, throttles and
// panics, impatient callers, renewals, purges. Nobody may get an expired
// token, an error of an unknown kind, or wait longer than a flight takes.
func TestStormKeepsItsBounds(t *testing.T) {
	const (
		memory  = 12_000
		callers = 40
		rounds  = 300
	)
	synctest.Test(t, func(t *testing.T) {
		store, authority := newStoreOf(t, tokens.Config{Entries: 12, Memory: memory})
		authority.becomes(capricious)
		var wg sync.WaitGroup
		for range callers {
			wg.Go(func() {
				for range rounds {
					oneCall(t, store)
					if n, bytes := store.Stats(); n > 12 || bytes > memory || (n == 0) != (bytes == 0) {
						t.Errorf("Stats() = %d, %d", n, bytes)
						return
					}
					time.Sleep(rand.N(4 * time.Second))
				}
			})
		}
		for range 60 {
			time.Sleep(10 * time.Second)
			if rand.N(2) == 0 {
				store.Forgive()
				continue
			}
			scope := fmt.Sprint(rand.N(20))
			store.Purge(func(k tokens.Key) bool { return k.Scope == scope })
		}
		wg.Wait()
		time.Sleep(2 * time.Minute) // the flights end, the tokens expire
		synctest.Wait()
		if n, bytes := store.Stats(); n != 0 || bytes != 0 {
			t.Errorf("Stats() at rest = %d, %d, want 0, 0: an entry was lost from the agenda", n, bytes)
		}
	})
}

// capricious succeeds half of the time.
func capricious(ctx context.Context, n int, r request) (tokens.Token, error) {
	time.Sleep(rand.N(time.Second))
	switch rand.N(12) {
	case 0:
		return hang(ctx, n, r)
	case 1:
		return tokens.Token{}, throttled(rand.N(10 * time.Second))
	case 2:
		return tokens.Token{}, refusal(tokens.Propagating, tokens.Reach(rand.N(2)))
	case 3:
		panic("caprice")
	case 4, 5:
		return tokens.Token{}, errDown
	}
	return issue(time.Second+rand.N(time.Minute), 0)(ctx, n, r)
}

// oneCall gets a token for a key of twenty, and may have it renewed.
func oneCall(t *testing.T, store *tokens.Store) {
	k := key(fmt.Sprint(rand.N(20)))
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond+rand.N(time.Minute))
	defer cancel()
	began := time.Now()
	tok, _, err := store.Token(ctx, k)
	judge(t, tok, err)
	if err == nil && rand.N(3) == 0 {
		rejected := tok
		tok, _, err = store.Renew(ctx, k, rejected, []string{"", revoked, moved}[rand.N(3)])
		judge(t, tok, err)
		if err == nil && tok.Access.Equal(rejected.Access) {
			t.Error("Renew() returned the refused token")
		}
	}
	if took := time.Since(began); took > 2*time.Minute {
		t.Errorf("a call took %v", took)
	}
}

// judge fails the test unless a caller may have been told this.
func judge(t *testing.T, tok tokens.Token, err error) {
	t.Helper()
	_, expected := errors.AsType[*tokens.Unavailable](err)
	switch {
	case err == nil && !tok.Expires.After(time.Now()):
		t.Errorf("got a token that expired %v ago", time.Since(tok.Expires))
	case err == nil || expected:
	case errors.Is(err, tokens.ErrRenewedAlready), errors.Is(err, tokens.ErrSameToken):
	case err == context.DeadlineExceeded:
	default:
		t.Errorf("got the error %v", err)
	}
}
