package tokens_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/seed-13b04e61/gateway/tokens"
)

// instant issues tokens without a network.
type instant struct{}

func (instant) Acquire(context.Context, tokens.Key, string) (tokens.Token, error) {
	return token("token", time.Hour), nil
}

// BenchmarkToken sets a hit next to what it cannot be cheaper than: a bare
// LRU's Get with the same key, and the clock.
func BenchmarkToken(b *testing.B) {
	for _, entries := range []int{1, 1_000, 10_000, 100_000} {
		keys := make([]tokens.Key, entries)
		for i := range keys {
			keys[i] = graph
			keys[i].Tenant = fmt.Sprintf("%08d-aaaa-2222-bbbb-3333cccc4444", i)
		}
		b.Run(fmt.Sprintf("store/%d", entries), func(b *testing.B) { benchStore(b, keys) })
		b.Run(fmt.Sprintf("lru/%d", entries), func(b *testing.B) { benchLRU(b, keys) })
	}
	b.Run("clock", func(b *testing.B) {
		var sum int64
		for b.Loop() {
			sum += time.Now().UnixNano()
		}
		if sum == 0 {
			b.Fatal("no time passed")
		}
	})
}

func benchStore(b *testing.B, keys []tokens.Key) {
	ctx := b.Context()
	store, err := tokens.New(tokens.Config{Acquirer: instant{}, Entries: len(keys), Memory: 1 << 30})
	if err != nil {
		b.Fatal(err)
	}
	defer store.Close()
	for _, k := range keys {
		if _, _, err := store.Token(ctx, k); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		if _, _, err := store.Token(ctx, keys[i]); err != nil {
			b.Fatal(err)
		}
		if i += stride; i >= len(keys) {
			i %= len(keys)
		}
	}
}

func benchLRU(b *testing.B, keys []tokens.Key) {
	cache, err := lru.New[tokens.Key, *tokens.Token](len(keys))
	if err != nil {
		b.Fatal(err)
	}
	tok := token("token", time.Hour)
	for _, k := range keys {
		cache.Add(k, &tok)
	}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		if _, ok := cache.Get(keys[i]); !ok {
			b.Fatal("missing")
		}
		if i += stride; i >= len(keys) {
			i %= len(keys)
		}
	}
}

// stride visits keys in an order that the processor does not foresee; it is a
// prime, so that all have their turn.
const stride = 7919

// BenchmarkTokenParallel is the same hit from all processors at once.
func BenchmarkTokenParallel(b *testing.B) {
	store, err := tokens.New(tokens.Config{Acquirer: instant{}, Entries: 10, Memory: 1 << 30})
	if err != nil {
		b.Fatal(err)
	}
	defer store.Close()
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, _, err := store.Token(b.Context(), graph); err != nil {
				b.Error(err)
				return
			}
		}
	})
}
