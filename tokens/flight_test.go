package tokens_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-13b04e61/gateway/secrets"
	"github.com/seed-13b04e61/gateway/tokens"
)

func TestThousandColdCallersCostOneAcquisition(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, authority := newStore(t)
		got := together(1000, func(int) outcome { return outcomeOf(store.Token(t.Context(), graph)) })
		all(t, got, outcome{"T1", tokens.FromIdentityProvider, nil})
		authority.wants(t, 1, "all wait for the same one")
	})
}

func TestImpatientLeaderLeavesAndTheOthersGetTheirToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, authority := newStore(t)
		authority.becomes(issue(time.Hour, 2*time.Second))
		leader, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began := time.Now()
		left := make(chan error)
		go func() {
			_, _, err := store.Token(leader, graph)
			if time.Since(began) != time.Second {
				err = fmt.Errorf("left after %v: %w", time.Since(began), err)
			}
			left <- err
		}()
		synctest.Wait()
		got := together(100, func(int) outcome { return outcomeOf(store.Token(t.Context(), graph)) })
		if err := <-left; err != context.DeadlineExceeded {
			t.Errorf("leader got %v, want its own context's error after its own second", err)
		}
		all(t, got, outcome{"T1", tokens.FromIdentityProvider, nil})
		authority.wants(t, 1, "the leader's leaving ends nothing")
	})
}

func TestFlightStoresItsResultThoughEverybodyLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, authority := newStore(t)
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		got := together(10, func(int) outcome { return outcomeOf(store.Token(ctx, graph)) })
		all(t, got, outcome{err: context.DeadlineExceeded})
		time.Sleep(time.Second)
		get(t, store, graph, "T1", tokens.FromCache)
		authority.wants(t, 1, "the one they left behind")
	})
}

func TestCallerWhoIsGoneAlreadyStartsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, authority := newStore(t)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, _, err := store.Token(ctx, graph); err != context.Canceled {
			t.Errorf("Token() = %v, want context.Canceled", err)
		}
		synctest.Wait()
		authority.wants(t, 0, "nobody would wait for it")
	})
}

func TestCallersOfOtherKeysDoNotWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, authority := newStore(t)
		authority.becomes(func(ctx context.Context, n int, r request) (tokens.Token, error) {
			if r.key.Scope == "hangs" {
				return hang(ctx, n, r)
			}
			return token("fine", time.Hour), nil
		})
		go func() { _, _, _ = store.Token(context.Background(), key("hangs")) }()
		synctest.Wait()
		began := time.Now()
		get(t, store, graph, "fine", tokens.FromIdentityProvider)
		if took := time.Since(began); took != 0 {
			t.Errorf("another scope waited %v behind the one that hangs", took)
		}
	})
}

func TestFlightEndsByItselfAfterThirtySeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, authority := newStore(t)
		authority.becomes(hang)
		began := time.Now()
		err := refused(t, store, graph)
		if took := time.Since(began); took != 30*time.Second {
			t.Errorf("gave up after %v, want 30 s", took)
		}
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Token() error = %v, want the acquirer's deadline in it", err)
		}
		authority.wants(t, 1, "a second try has no time left")
	})
}

func TestPanicOfTheAcquirerIsAnErrorForAllWaiters(t *testing.T) {
	for _, test := range []struct {
		name  string
		panic func()
		want  string
	}{
		{"a run-time error", func() { var s []int; _ = s[len(s)] }, "out of range"},
		{"a value that may be secret", func() { panic("s3cret") }, "type string"},
		{"a value that may be a secret", func() { panic(secrets.New("s3cret")) }, "type secrets.Secret"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store, authority := newStore(t)
				authority.becomes(func(context.Context, int, request) (tokens.Token, error) {
					test.panic()
					return token("unreachable", time.Hour), nil
				})
				for i, o := range together(50, func(int) outcome { return outcomeOf(store.Token(t.Context(), graph)) }) {
					p, ok := errors.AsType[*tokens.Panicked](o.err)
					if !ok || len(p.Stack) == 0 || !strings.Contains(o.err.Error(), test.want) {
						t.Fatalf("call %d got %v, want a Panicked with its stack that says %q", i, o.err, test.want)
					}
					if strings.Contains(o.err.Error(), "s3cret") {
						t.Fatalf("the error shows the panic's value: %v", o.err)
					}
				}
				authority.becomes(issue(time.Hour, 0))
				time.Sleep(5 * time.Second)
				get(t, store, graph, "T3", tokens.FromIdentityProvider)
			})
		})
	}
}

func TestAcquirerThatEndsItsGoroutineHangsNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, authority := newStore(t)
		authority.becomes(func(context.Context, int, request) (tokens.Token, error) {
			runtime.Goexit()
			return token("unreachable", time.Hour), nil
		})
		if err := refused(t, store, graph); !strings.Contains(err.Error(), "without an answer") {
			t.Errorf("Token() error = %v, want one that tells of no answer", err)
		}
	})
}

func TestBlipIsHealedWithinTheCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, authority := newStore(t)
		authority.becomes(func(ctx context.Context, n int, r request) (tokens.Token, error) {
			if n == 1 {
				return tokens.Token{}, errDown
			}
			return issue(time.Hour, 0)(ctx, n, r)
		})
		got := together(200, func(int) outcome { return outcomeOf(store.Token(t.Context(), graph)) })
		all(t, got, outcome{"T2", tokens.FromIdentityProvider, nil})
		pause := authority.seen()[1].at
		if pause < 150*time.Millisecond || pause > 350*time.Millisecond {
			t.Errorf("second try after %v, want about 250 ms", pause)
		}
	})
}

func TestErrorNamesWhatWasAskedForAndWhy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, authority := newStore(t)
		cause := refusal(tokens.Refused, tokens.ReachKey)
		authority.becomes(refuse(cause))
		err := refused(t, store, graph)
		want := `no token for scope "https://graph.microsoft.com/.default" with credential "default": AADSTS0: trouble`
		if err.Error() != want || err.Key != graph {
			t.Errorf("Token() error = %q for %v, want %q for %v", err, err.Key, want, graph)
		}
		if got, ok := errors.AsType[tokens.Failer](error(err)); !ok || got.Failure() != cause.failure {
			t.Errorf("Token() error does not unwrap to the acquirer's: %v", got)
		}
	})
}
