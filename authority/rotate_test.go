package authority_test

import (
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-13b04e61/gateway/authority"
	"github.com/seed-13b04e61/gateway/routes"
	"github.com/seed-13b04e61/gateway/secrets"
	"github.com/seed-13b04e61/gateway/tokens"
)

// acceptOnly answers with a token, named after the secret that was shown, if
// that is among good, and with invalid_client otherwise.
func acceptOnly(w http.ResponseWriter, secret string, good []string) {
	for _, g := range good {
		if secret == g {
			_, _ = io.WriteString(w, `{"token_type":"Bearer","expires_in":3600,"access_token":"token-by-`+g+`"}`)
			return
		}
	}
	says(401, `{"error":"invalid_client","error_codes":[7000222],"error_description":"AADSTS7000222: The provided client secret keys are expired."}`)(w, nil)
}

// guarded accepts the secrets good, and lets the test change them.
func guarded(t testing.TB, good ...string) (*server, func(...string)) {
	t.Helper()
	var mu sync.Mutex
	s := &server{}
	s.Server = listen(t, func(w http.ResponseWriter, r *http.Request) {
		if err := r.ParseForm(); err != nil {
			t.Error(err)
		}
		s.mu.Lock()
		s.forms = append(s.forms, r.Form)
		s.mu.Unlock()
		mu.Lock()
		defer mu.Unlock()
		acceptOnly(w, r.FormValue("client_secret"), good)
	})
	return s, func(list ...string) {
		mu.Lock()
		defer mu.Unlock()
		good = list
	}
}

func secretOf(t testing.TB, host, secret string) *routes.Credential {
	t.Helper()
	c := entra(t, host)
	overwrite(t, c.ClientSecret.File, secret)
	return c
}

func TestARotatedSecretIsReadAnewInTheSameAcquisition(t *testing.T) {
	s, allow := guarded(t, "old")
	c := secretOf(t, s.URL, "old")
	d := loaded(t, c)
	k := d.Key(c, graphScope)
	before, err := d.Acquire(t.Context(), k, "")
	if err != nil {
		t.Fatal(err)
	}
	allow("new")
	overwrite(t, c.ClientSecret.File, "new")
	after, err := d.Acquire(t.Context(), k, "")
	if err != nil || after.Access.Reveal() != "token-by-new" || before.Access.Reveal() != "token-by-old" {
		t.Fatalf("Acquire = %v", err)
	}
	if n := len(s.sent()); n != 3 {
		t.Errorf("requests = %d, want 3: one before, a refused one, one with the new secret", n)
	}
	next := d.Key(c, graphScope)
	if next == k {
		t.Error("the next key has the old fingerprint")
	}
	for name, k := range map[string]tokens.Key{"old": k, "new": next} {
		if got, err := d.Acquire(t.Context(), k, ""); err != nil || got.Access.Reveal() != "token-by-new" {
			t.Errorf("the %s key: %v", name, err)
		}
	}
	if st := condition(t, d); st.Fingerprint != next.Fingerprint || st.LastError != nil {
		t.Errorf("status = %+v", st)
	}
	d.Replace([]*routes.Credential{c}) // what a watcher does a moment later
	if d.Key(c, graphScope) != next {
		t.Error("the reload gave the same secret another key")
	}
	if _, err := d.Acquire(t.Context(), k, ""); err != nil {
		t.Errorf("the first key after the reload: %v", err)
	}
}

func TestAnUnchangedSecretIsShownOnce(t *testing.T) {
	s, _ := guarded(t, "other")
	c := secretOf(t, s.URL, "wrong")
	d := loaded(t, c)
	if got := fails(t, d, c); got.AADSTS != 7000222 {
		t.Errorf("error = %v", got)
	}
	if n := len(s.sent()); n != 1 {
		t.Errorf("requests = %d, want 1", n)
	}
}

func TestASourceThatVanishedIsNoReasonForASecondRequest(t *testing.T) {
	s, _ := guarded(t, "other")
	c := secretOf(t, s.URL, "wrong")
	d := loaded(t, c)
	overwrite(t, c.ClientSecret.File, "")
	if got := fails(t, d, c); got.AADSTS != 7000222 {
		t.Errorf("error = %v, want what the endpoint said", got)
	}
	if st := condition(t, d); len(s.sent()) != 1 || !st.Ready || st.Usable() {
		t.Errorf("requests = %d, status %+v", len(s.sent()), st)
	}
}

func TestManyRefusedAtOnceReadTheSourceOnce(t *testing.T) {
	s, _ := guarded(t, "new")
	c := secretOf(t, s.URL, "old")
	count := file(t, "")
	c.ClientSecret = secrets.Ref{MayRun: true, Exec: []string{"/bin/sh", "-c", `echo x >> "$0"; test "$(wc -l < "$0")" = 1 && echo old || echo new`, count}}
	d := loaded(t, c)
	k := d.Key(c, graphScope)
	var group sync.WaitGroup
	for range 16 {
		group.Go(func() {
			if got, err := d.Acquire(t.Context(), k, ""); err != nil || got.Access.Reveal() != "token-by-new" {
				t.Errorf("Acquire = %v", err)
			}
		})
	}
	group.Wait()
	if lines := strings.Count(contents(t, count), "x"); lines != 2 {
		t.Errorf("the source was read %d times, want 2: at load, and once for all", lines)
	}
}

func TestTheSourceIsReadAnewOnceInHalfAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		way := newPipes(t, func(w http.ResponseWriter, r *http.Request) {
			acceptOnly(w, r.FormValue("client_secret"), []string{"third"})
		})
		c := secretOf(t, "http://127.0.0.1", "first")
		d := authority.NewDirectory(authority.Options{Dialer: way})
		d.Replace([]*routes.Credential{c})
		fails(t, d, c) // reads it anew
		overwrite(t, c.ClientSecret.File, "third")
		time.Sleep(29 * time.Second)
		if got := fails(t, d, c); got.Code != "invalid_client" {
			t.Errorf("error = %v", got)
		}
		time.Sleep(2 * time.Second)
		succeeds(t, d, c)
		if n := way.requests(); n != 4 {
			t.Errorf("requests = %d, want 4: two refused, a refused one and its second try", n)
		}
	})
}

func TestACredentialThatWasNotReadyIsReadAnewInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		way := newPipes(t, func(w http.ResponseWriter, r *http.Request) {
			acceptOnly(w, r.FormValue("client_secret"), []string{"late"})
		})
		c := secretOf(t, "http://127.0.0.1", "")
		d := authority.NewDirectory(authority.Options{Dialer: way})
		if f := d.Replace([]*routes.Credential{c}); len(f) != 1 || !f[0].Alarm {
			t.Errorf("findings = %+v", f)
		}
		k := d.Key(c, graphScope)
		overwrite(t, c.ClientSecret.File, "late")
		if got := fails(t, d, c); !strings.Contains(got.Error(), "not ready") {
			t.Errorf("error = %v", got)
		}
		time.Sleep(31 * time.Second)
		if _, err := d.Acquire(t.Context(), k, ""); err != nil {
			t.Errorf("Acquire with the key of the unready credential: %v", err)
		}
		if st := condition(t, d); !st.Ready || st.Reason != "" {
			t.Errorf("status = %+v", st)
		}
	})
}

func TestRotationUnderLoadFailsNobody(t *testing.T) {
	s, allow := guarded(t, "s0")
	c := secretOf(t, s.URL, "s0")
	d := loaded(t, c)
	var done atomic.Bool
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			for !done.Load() {
				if _, err := d.Acquire(t.Context(), d.Key(c, graphScope), ""); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	old := "s0"
	for _, next := range []string{"s1", "s2", "s3"} {
		allow("s0", "s1", "s2", "s3")
		overwrite(t, c.ClientSecret.File, next)
		d.Replace([]*routes.Credential{c})
		allow(old, next) // the one before overlaps, what is older is gone
		succeeds(t, d, c)
		old = next
	}
	done.Store(true)
	group.Wait()
}

func TestARotatedCertificateIsReadAnew(t *testing.T) {
	key := newRSA(t, 2048)
	first, second := certify(t, key, -time.Hour, year), certify(t, key, -time.Hour, year)
	n := 0
	s := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		if n++; n == 1 {
			says(401, `{"error":"invalid_client","error_codes":[700027]}`)(w, nil)
			return
		}
		_, _ = io.WriteString(w, good)
	})
	path := file(t, first.both(t))
	c := certified(t, s.URL, routes.Certificate{File: path})
	d := loaded(t, c)
	overwrite(t, path, second.both(t))
	succeeds(t, d, c)
	if got := condition(t, d).Expires; !got.Equal(second.cert.NotAfter) || n != 2 {
		t.Errorf("expires %s after %d requests, want %s", got, n, second.cert.NotAfter)
	}
}

func TestTheFederatedTokensEndIsInTheStatus(t *testing.T) {
	s := serve(t, nil)
	path := file(t, kubernetes(t, time.Hour, "1"))
	c := federated(t, s.URL, path)
	d := loaded(t, c)
	if left := time.Until(condition(t, d).Expires); left < 58*time.Minute || left > time.Hour {
		t.Errorf("expires in %s after loading, want an hour", left)
	}
	overwrite(t, path, kubernetes(t, 2*time.Hour, "2"))
	succeeds(t, d, c)
	d.Replace([]*routes.Credential{c})
	if left := time.Until(condition(t, d).Expires); left < 118*time.Minute || left > 2*time.Hour {
		t.Errorf("expires in %s after rotation, want two hours", left)
	}
}
