package authority_test

import (
	"sync"
	"sync/atomic"
	"testing"

	"github.com/seed-13b04e61/gateway/authority"
	"github.com/seed-13b04e61/gateway/routes"
	"github.com/seed-13b04e61/gateway/tokens"
)

// cached is a token store over a directory of creds.
func cached(t testing.TB, opts authority.Options, creds ...*routes.Credential) (*authority.Directory, *tokens.Store) {
	t.Helper()
	d := authority.NewDirectory(opts)
	d.Replace(creds)
	store, err := tokens.New(tokens.Config{Acquirer: d, Entries: 1000, Memory: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(store.Close)
	return d, store
}

func TestCallersNeverNoticeARotation(t *testing.T) {
	s, allow := guarded(t, "old")
	c := secretOf(t, s.URL, "old")
	d, store := cached(t, authority.Options{}, c)
	old := d.Key(c, graphScope)
	var key atomic.Pointer[tokens.Key] // as callers hold it, replaced after a reload
	key.Store(&old)
	var done atomic.Bool
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			for !done.Load() {
				k := *key.Load()
				got, _, err := store.Token(t.Context(), k)
				if err != nil {
					t.Error(err)
					return
				}
				if _, _, err := store.Token(t.Context(), k); err != nil || got.Access.IsZero() {
					t.Error(err)
					return
				}
			}
		})
	}
	if _, _, err := store.Token(t.Context(), old); err != nil {
		t.Error(err)
	}
	allow("new") // the old secret is gone before the file has the new one
	overwrite(t, c.ClientSecret.File, "new")
	// A renewal finds the new secret before any reload does.
	before, _, err := store.Token(t.Context(), old)
	if err != nil || before.Access.Reveal() != "token-by-old" {
		t.Errorf("the token of the old secret is gone: %v", err)
	}
	renewed, _, err := store.Renew(t.Context(), old, before, "")
	if err != nil || renewed.Access.Reveal() != "token-by-new" {
		t.Errorf("Renew = %v", err)
	}
	d.Replace([]*routes.Credential{c})
	next := d.Key(c, graphScope)
	key.Store(&next)
	if got, _, err := store.Token(t.Context(), next); err != nil || got.Access.Reveal() != "token-by-new" {
		t.Errorf("after the reload: %v", err)
	}
	done.Store(true)
	group.Wait()
}

func TestAWrongNewSecretFallsBackAndAlarmsWithoutAFailedCall(t *testing.T) {
	s, _ := guarded(t, "newer", "older")
	creds := chained(t, "newer", "older")
	for _, c := range creds {
		c.AuthorityHost = s.URL
	}
	b := &bell{}
	d, store := cached(t, authority.Options{Alarm: b.ring}, creds...)
	if _, _, err := store.Token(t.Context(), d.Key(creds[0], graphScope)); err != nil {
		t.Fatal(err)
	}
	overwrite(t, creds[0].ClientSecret.File, "mistyped")
	d.Replace(creds)
	got, _, err := store.Token(t.Context(), d.Key(creds[0], graphScope))
	if err != nil || got.Access.Reveal() != "token-by-older" {
		t.Errorf("Token = %v, want one by the fallback", err)
	}
	if rings := b.heard(); len(rings) != 1 || statusOf(t, d, "newer").Fallback != "older" {
		t.Errorf("alarms = %q, status %+v", rings, statusOf(t, d, "newer"))
	}
}
