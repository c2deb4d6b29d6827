package tokens_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/seed-13b04e61/gateway/secrets"
	"github.com/seed-13b04e61/gateway/tokens"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// graph is the key that most tests use.
var graph = key("https://graph.microsoft.com/.default")

func key(scope string) tokens.Key {
	return tokens.Key{
		Authority:   "https://login.microsoftonline.com/contoso.onmicrosoft.com/oauth2/v2.0/token",
		Tenant:      "contoso.onmicrosoft.com",
		Credential:  "default",
		Fingerprint: "5e884898da280471",
		Scope:       scope,
	}
}

// token expires after life, counted from now.
func token(name string, life time.Duration) tokens.Token {
	return tokens.Token{Access: secrets.New(name), Expires: time.Now().Add(life)}
}

// trouble is an acquirer's error of a known nature.
type trouble struct{ failure tokens.Failure }

func (trouble) Error() string             { return "AADSTS0: trouble" }
func (t trouble) Failure() tokens.Failure { return t.failure }

func throttled(wait time.Duration) trouble {
	return trouble{tokens.Failure{Nature: tokens.Throttled, Wait: wait}}
}

func refusal(n tokens.Nature, r tokens.Reach) trouble {
	return trouble{tokens.Failure{Nature: n, Reach: r}}
}

// request is one call of the endpoint.
type request struct {
	key    tokens.Key
	claims string
	at     time.Duration // since the endpoint was made
}

// endpoint is a token endpoint. Its answer may be changed between requests; by
// default it issues tokens named T1, T2, ... that live an hour.
type endpoint struct {
	born time.Time

	mu       sync.Mutex
	requests []request
	answer   func(ctx context.Context, n int, r request) (tokens.Token, error)
}

func (e *endpoint) Acquire(ctx context.Context, k tokens.Key, claims string) (tokens.Token, error) {
	e.mu.Lock()
	r := request{k, claims, time.Since(e.born)}
	e.requests = append(e.requests, r)
	n, answer := len(e.requests), e.answer
	e.mu.Unlock()
	return answer(ctx, n, r)
}

func (e *endpoint) becomes(answer func(context.Context, int, request) (tokens.Token, error)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.answer = answer
}

func (e *endpoint) seen() []request {
	e.mu.Lock()
	defer e.mu.Unlock()
	return append([]request(nil), e.requests...)
}

// wants fails the test unless the endpoint has seen n requests so far.
func (e *endpoint) wants(t testing.TB, n int, why string) {
	t.Helper()
	if got := len(e.seen()); got != n {
		t.Fatalf("acquisitions = %d, want %d: %s", got, n, why)
	}
}

// issue answers with tokens T1, T2, ... of the given life after a delay.
func issue(life, delay time.Duration) func(context.Context, int, request) (tokens.Token, error) {
	return func(ctx context.Context, n int, _ request) (tokens.Token, error) {
		select {
		case <-time.After(delay):
			return token(fmt.Sprint("T", n), life), nil
		case <-ctx.Done():
			return tokens.Token{}, ctx.Err()
		}
	}
}

// refuse answers every request with err after a moment on the network.
func refuse(err error) func(context.Context, int, request) (tokens.Token, error) {
	return func(context.Context, int, request) (tokens.Token, error) {
		time.Sleep(10 * time.Millisecond)
		return tokens.Token{}, err
	}
}

// hang answers when the request's own deadline has come.
func hang(ctx context.Context, _ int, _ request) (tokens.Token, error) {
	<-ctx.Done()
	return tokens.Token{}, ctx.Err()
}

var errDown = errors.New("connection refused")

// newStore returns a store before an endpoint; the test closes it at its end.
func newStore(t testing.TB) (*tokens.Store, *endpoint) {
	t.Helper()
	return newStoreOf(t, tokens.Config{Entries: 100, Memory: 1 << 20})
}

func newStoreOf(t testing.TB, c tokens.Config) (*tokens.Store, *endpoint) {
	t.Helper()
	e := &endpoint{born: time.Now(), answer: issue(time.Hour, 50*time.Millisecond)}
	c.Acquirer = e
	s, err := tokens.New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s, e
}

// outcome is what a call got, in one comparable value.
type outcome struct {
	token  string
	origin tokens.Origin
	err    error
}

func outcomeOf(t tokens.Token, o tokens.Origin, err error) outcome {
	return outcome{t.Access.Reveal(), o, err}
}

// get fails the test unless the store hands out the token want at once or
// after an acquisition that succeeds.
func get(t testing.TB, s *tokens.Store, k tokens.Key, want string, from tokens.Origin) tokens.Token {
	t.Helper()
	tok, origin, err := s.Token(t.Context(), k)
	if err != nil || tok.Access.Reveal() != want || origin != from {
		t.Fatalf("Token() = %q, %q, %v, want %q, %q", tok.Access.Reveal(), origin, err, want, from)
	}
	return tok
}

// refused fails the test unless Token fails, and returns why.
func refused(t testing.TB, s *tokens.Store, k tokens.Key) *tokens.Unavailable {
	t.Helper()
	tok, _, err := s.Token(t.Context(), k)
	return unavailable(t, tok, err)
}

func unavailable(t testing.TB, tok tokens.Token, err error) *tokens.Unavailable {
	t.Helper()
	u, ok := errors.AsType[*tokens.Unavailable](err)
	if !ok || !tok.Access.IsZero() {
		t.Fatalf("got %q, %v, want no token and an Unavailable", tok.Access.Reveal(), err)
	}
	return u
}

// together makes n calls at once and returns what each got.
func together(n int, call func(i int) outcome) []outcome {
	got := make([]outcome, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { got[i] = call(i) })
	}
	wg.Wait()
	return got
}

// all fails the test unless every outcome is want.
func all(t testing.TB, got []outcome, want outcome) {
	t.Helper()
	for i, o := range got {
		if o.token != want.token || o.origin != want.origin || !errors.Is(o.err, want.err) {
			t.Fatalf("call %d of %d got %+v, want %+v", i, len(got), o, want)
		}
	}
}
