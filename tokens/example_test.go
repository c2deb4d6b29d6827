package tokens_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/seed-13b04e61/gateway/secrets"
	"github.com/seed-13b04e61/gateway/tokens"
)

// counter stands for a token endpoint: it issues token-1, token-2, ...
type counter struct{ n int }

func (c *counter) Acquire(_ context.Context, k tokens.Key, claims string) (tokens.Token, error) {
	if k.Scope == "" {
		return tokens.Token{}, errors.New("invalid_scope")
	}
	c.n++
	return tokens.Token{Access: secrets.New(fmt.Sprint("token-", c.n)), Expires: time.Now().Add(time.Hour)}, nil
}

func newExampleStore() *tokens.Store {
	store, err := tokens.New(tokens.Config{Acquirer: &counter{}, Entries: 100_000, Memory: 512 << 20})
	if err != nil {
		panic(err)
	}
	return store
}

func ExampleNew() {
	store, err := tokens.New(tokens.Config{Acquirer: &counter{}, Entries: 100_000, Memory: 512 << 20})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer store.Close()
	fmt.Println(store.Stats())
	// Output: 0 0
}

func ExampleStore_Token() {
	store := newExampleStore()
	defer store.Close()
	k := tokens.Key{Credential: "default", Scope: "https://graph.microsoft.com/.default"}
	for range 2 {
		token, origin, err := store.Token(context.Background(), k)
		fmt.Println(token.Access.Reveal(), origin, err)
	}
	// Output:
	// token-1 identity_provider <nil>
	// token-1 cache <nil>
}

func ExampleStore_Renew() {
	store := newExampleStore()
	defer store.Close()
	ctx := context.Background()
	k := tokens.Key{Credential: "default", Scope: "https://graph.microsoft.com/.default"}

	token, _, _ := store.Token(ctx, k)
	// The upstream answered 401 ...
	renewed, origin, err := store.Renew(ctx, k, token, "")
	fmt.Println(renewed.Access.Reveal(), origin, err)
	// ... to a second caller as well, which comes a little later ...
	again, origin, err := store.Renew(ctx, k, token, "")
	fmt.Println(again.Access.Reveal(), origin, err)
	// ... and answers 401 to the new token too.
	_, _, err = store.Renew(ctx, k, renewed, "")
	fmt.Println(errors.Is(err, tokens.ErrRenewedAlready))
	// Output:
	// token-2 identity_provider <nil>
	// token-2 cache <nil>
	// true
}

func ExampleUnavailable() {
	store := newExampleStore()
	defer store.Close()
	_, _, err := store.Token(context.Background(), tokens.Key{Credential: "default"})
	if u, ok := errors.AsType[*tokens.Unavailable](err); ok {
		fmt.Println(u)
		fmt.Println("Retry-After:", time.Until(u.Until).Round(time.Second))
	}
	// Output:
	// no token for scope "" with credential "default": invalid_scope
	// Retry-After: 5s
}

func ExampleStore_Purge() {
	store := newExampleStore()
	defer store.Close()
	for _, tenant := range []string{"contoso.onmicrosoft.com", "fabrikam.onmicrosoft.com"} {
		_, _, _ = store.Token(context.Background(), tokens.Key{Tenant: tenant, Scope: "https://graph.microsoft.com/.default"})
	}
	fmt.Println(store.Purge(func(k tokens.Key) bool { return k.Tenant == "contoso.onmicrosoft.com" }))
	fmt.Println(store.Purge(nil))
	// Output:
	// 1
	// 1
}

func ExampleStore_Peek() {
	store := newExampleStore()
	defer store.Close()
	k := tokens.Key{Credential: "default", Scope: "https://graph.microsoft.com/.default"}
	_, known := store.Peek(k)
	fmt.Println(known)
	_, _, _ = store.Token(context.Background(), k)
	info, known := store.Peek(k)
	fmt.Println(known, info.Usable, info.Failing)
	// Output:
	// false
	// true true false
}
