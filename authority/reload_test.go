package authority_test

import (
	"strings"
	"sync"
	"testing"

	"github.com/seed-13b04e61/gateway/authority"
	"github.com/seed-13b04e61/gateway/routes"
	"github.com/seed-13b04e61/gateway/secrets"
)

func TestAKeyMadeBeforeAReloadStillWorks(t *testing.T) {
	s := serve(t, nil)
	c := entra(t, s.URL)
	d := loaded(t, c)
	old := d.Key(c, graphScope)
	overwrite(t, c.ClientSecret.File, "second")
	d.Replace([]*routes.Credential{c})
	if d.Key(c, graphScope) == old {
		t.Error("a rotated secret kept its key")
	}
	for _, want := range []string{marker, "second"} {
		k := old
		if want == "second" {
			k = d.Key(c, graphScope)
		}
		if _, err := d.Acquire(t.Context(), k, ""); err != nil {
			t.Fatal(err)
		}
		sent := s.sent()
		if got := sent[len(sent)-1].Get("client_secret"); got != want {
			t.Errorf("sent the secret of another generation: %d bytes, want %d", len(got), len(want))
		}
	}
}

func TestAKeyOfNobodyIsRefusedWithoutARequest(t *testing.T) {
	s := serve(t, nil)
	c := entra(t, s.URL)
	d := loaded(t, c)
	k := d.Key(c, graphScope)
	other := k
	other.Authority = "https://login.evil.test/token"
	d2 := authority.NewDirectory(authority.Options{})
	for name, err := range map[string]error{
		"another authority": func() error { _, err := d.Acquire(t.Context(), other, ""); return err }(),
		"empty directory":   func() error { _, err := d2.Acquire(t.Context(), k, ""); return err }(),
	} {
		if err == nil || !strings.Contains(err.Error(), "not loaded") {
			t.Errorf("%s: error = %v", name, err)
		}
	}
	if n := len(s.sent()); n != 0 {
		t.Errorf("requests = %d, want none", n)
	}
}

func TestAChangedConfigurationDoesNotKeepTheOldSecret(t *testing.T) {
	c := entra(t, "https://login.example.com")
	d := loaded(t, c)
	changed := *c
	changed.ClientID = "another"
	changed.ClientSecret = secrets.Ref{File: "/nonexistent/secret"}
	if f := d.Replace([]*routes.Credential{&changed}); len(f) != 1 || !f[0].Alarm {
		t.Errorf("findings = %+v", f)
	}
	if st := condition(t, d); st.Ready {
		t.Errorf("status = %+v: another client ID with the secret of the first", st)
	}
}

func TestTheLastGoodOneOutlivesManyReloads(t *testing.T) {
	s := serve(t, nil)
	c := entra(t, s.URL)
	d := loaded(t, c)
	first := d.Key(c, graphScope)
	overwrite(t, c.ClientSecret.File, "")
	for range 3 {
		moved := *c
		moved.Line += 7 // a line added above it changes nothing about a credential
		if f := d.Replace([]*routes.Credential{&moved}); len(f) != 1 || !f[0].Alarm {
			t.Fatalf("findings = %+v, want an alarm each time", f)
		}
	}
	if d.Key(c, graphScope) != first {
		t.Error("the key changed")
	}
	succeeds(t, d, c)
	if st := condition(t, d); !st.Ready || !strings.Contains(st.Reason, "last good") || st.Remedy == "" {
		t.Errorf("status = %+v", st)
	}
	overwrite(t, c.ClientSecret.File, marker)
	if f := d.Replace([]*routes.Credential{c}); len(f) != 0 {
		t.Errorf("findings after repair = %+v", f)
	}
	if st := condition(t, d); !st.Ready || st.Reason != "" {
		t.Errorf("status after repair = %+v", st)
	}
}

func TestEachReloadOfAnUnreadyCredentialIsAFreshStart(t *testing.T) {
	c := entra(t, "https://login.example.com")
	c.ClientSecret = secrets.Ref{Env: "GATEWAY_TEST_UNSET"}
	d := authority.NewDirectory(authority.Options{})
	d.Replace([]*routes.Credential{c})
	first := d.Key(c, graphScope)
	if d.Key(c, graphScope) != first {
		t.Error("the key changes without a reload")
	}
	d.Replace([]*routes.Credential{c})
	if d.Key(c, graphScope) == first {
		t.Error("a reload did not give another key, so a cached refusal would last")
	}
}

func TestWhatATokenDependsOnIsInItsKey(t *testing.T) {
	c := entra(t, "https://login.example.com")
	base := loaded(t, c).Key(c, graphScope)
	for name, change := range map[string]func(*routes.Credential){
		"client ID": func(c *routes.Credential) { c.ClientID = "other" },
		"tenant":    func(c *routes.Credential) { c.TenantID = "other.test" },
		"host":      func(c *routes.Credential) { c.AuthorityHost = "https://login.other.test" },
		"secret":    func(c *routes.Credential) { c.ClientSecret = secrets.Ref{File: file(t, "other")} },
		"params":    func(c *routes.Credential) { c.TokenParams = []routes.Param{{Name: "a", Value: "b"}} },
	} {
		changed := *c
		change(&changed)
		if got := loaded(t, &changed).Key(&changed, graphScope); got == base {
			t.Errorf("%s changed and the key did not", name)
		}
	}
	same := *c
	same.ClientSecret = secrets.Ref{File: file(t, marker)}
	if got := loaded(t, &same).Key(&same, graphScope); got != base {
		t.Errorf("key = %+v for the same secret from another file, want %+v", got, base)
	}
}

func TestReloadsAndAcquisitionsDoNotDisturbEachOther(t *testing.T) {
	s := serve(t, nil)
	c := entra(t, s.URL)
	d := loaded(t, c)
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			for range 20 {
				if _, err := d.Acquire(t.Context(), d.Key(c, graphScope), ""); err != nil {
					t.Error(err)
				}
				d.Status()
			}
		})
	}
	for range 20 {
		d.Replace([]*routes.Credential{c})
	}
	group.Wait()
}
