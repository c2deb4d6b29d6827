package authority_test

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-13b04e61/gateway/authority"
	"github.com/seed-13b04e61/gateway/routes"
	"github.com/seed-13b04e61/gateway/secrets"
	"github.com/seed-13b04e61/gateway/tokens"
)

// bell remembers the alarms.
type bell struct {
	mu    sync.Mutex
	rings []string
}

func (b *bell) ring(f authority.Finding) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.rings = append(b.rings, fmt.Sprintf("%s alarm=%v: %s", f.Credential, f.Alarm, f.Message))
}

func (b *bell) heard() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.rings)
}

// office is a token endpoint in a bubble of time that knows some secrets.
type office struct {
	way  *pipes
	good map[string]bool
	seen []string // the secrets shown, in order
	down bool
}

func newOffice(t testing.TB, good ...string) *office {
	o := &office{good: map[string]bool{}}
	for _, g := range good {
		o.good[g] = true
	}
	o.way = newPipes(t, func(w http.ResponseWriter, r *http.Request) {
		secret := r.FormValue("client_secret")
		o.seen = append(o.seen, secret)
		switch {
		case o.down:
			says(503, "")(w, nil)
		case o.good[secret]:
			_, _ = io.WriteString(w, `{"token_type":"Bearer","expires_in":3600,"access_token":"token-by-`+secret+`"}`)
		default:
			says(401, `{"error":"invalid_client","error_codes":[7000222]}`)(w, nil)
		}
	})
	return o
}

// shown returns the secrets shown since it was last called.
func (o *office) shown() string {
	o.way.mu.Lock()
	defer o.way.mu.Unlock()
	list := strings.Join(o.seen, " ")
	o.seen = nil
	return list
}

func (o *office) allow(secret string, good bool) {
	o.way.mu.Lock()
	defer o.way.mu.Unlock()
	o.good[secret] = good
}

// chained returns credentials of which each falls back on the next; their
// names are their secrets.
func chained(t testing.TB, names ...string) []*routes.Credential {
	t.Helper()
	var list []*routes.Credential
	for i, name := range names {
		c := secretOf(t, "http://127.0.0.1", name)
		c.Name = name
		if i+1 < len(names) {
			c.Fallback = names[i+1]
		}
		list = append(list, c)
	}
	return list
}

func statusOf(t testing.TB, d *authority.Directory, name string) authority.Status {
	t.Helper()
	for _, st := range d.Status() {
		if st.Name == name {
			return st
		}
	}
	t.Fatalf("no status of %s", name)
	return authority.Status{}
}

func TestARefusedCredentialFallsBackAlarmsAndReturns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, b := newOffice(t, "older"), &bell{}
		creds := chained(t, "newer", "older")
		d := authority.NewDirectory(authority.Options{Dialer: o.way, Alarm: b.ring})
		d.Replace(creds)
		k := d.Key(creds[0], graphScope)
		get := func(want string) {
			t.Helper()
			got, err := d.Acquire(t.Context(), k, "")
			if err != nil || got.Access.Reveal() != "token-by-"+want {
				t.Fatalf("Acquire = %v, want a token by %s", err, want)
			}
		}
		began := time.Now()
		get("older")
		if got := o.shown(); got != "newer older" {
			t.Errorf("shown = %s", got)
		}
		get("older")
		if got := o.shown(); got != "older" {
			t.Errorf("shown = %s, want the refused one left alone", got)
		}
		st := statusOf(t, d, "newer")
		if st.Fallback != "older" || !st.Since.Equal(began) || !st.Usable() || !st.Ready || st.LastError == nil || st.LastError.AADSTS != 7000222 {
			t.Errorf("status = %+v", st)
		}
		if st := statusOf(t, d, "older"); st.Fallback != "" || st.LastError != nil || !st.Usable() {
			t.Errorf("status of the fallback = %+v", st)
		}
		time.Sleep(5*time.Minute + time.Second)
		get("older")
		get("older")
		if got := o.shown(); got != "newer older older" {
			t.Errorf("shown = %s, want one test of the first", got)
		}
		o.allow("newer", true)
		time.Sleep(5*time.Minute + time.Second)
		get("newer")
		if st := statusOf(t, d, "newer"); st.Fallback != "" || !st.Since.IsZero() || st.LastError != nil {
			t.Errorf("status after the return = %+v", st)
		}
		rings := b.heard()
		if len(rings) != 2 || !strings.HasPrefix(rings[0], `newer alarm=true: the fallback "older" is used in its place: Entra refused: the client secret has expired (AADSTS7000222`) ||
			rings[1] != `newer alarm=false: it works again; the fallback "older" is no longer used` {
			t.Errorf("alarms = %q", rings)
		}
	})
}

func TestAMendedCredentialIsTestedAtOnceAfterAReload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, b := newOffice(t, "older", "mended"), &bell{}
		creds := chained(t, "newer", "older")
		d := authority.NewDirectory(authority.Options{Dialer: o.way, Alarm: b.ring})
		d.Replace(creds)
		succeeds(t, d, creds[0])
		d.Replace(creds)
		o.shown()
		succeeds(t, d, creds[0])
		if got := o.shown(); got != "older" {
			t.Errorf("shown = %s: a reload without change forgot the fallback", got)
		}
		overwrite(t, creds[0].ClientSecret.File, "mended")
		d.Replace(creds)
		succeeds(t, d, creds[0])
		if got := o.shown(); got != "mended" {
			t.Errorf("shown = %s, want the mended secret tried at once", got)
		}
		if n := len(b.heard()); n != 2 {
			t.Errorf("alarms = %q, want one for the fallback and one for the return", b.heard())
		}
	})
}

func TestACredentialThatWasReplacedIsNoLongerSaidToBeFallenBackFrom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, b := newOffice(t, "older"), &bell{}
		creds := chained(t, "newer", "older")
		d := authority.NewDirectory(authority.Options{Dialer: o.way, Alarm: b.ring})
		d.Replace(creds)
		succeeds(t, d, creds[0])
		if st := statusOf(t, d, "newer"); st.Fallback != "older" {
			t.Fatalf("Fallback = %q, want older", st.Fallback)
		}
		overwrite(t, creds[0].ClientSecret.File, "another")
		d.Replace(creds)
		if st := statusOf(t, d, "newer"); st.Fallback != "" || !st.Since.IsZero() {
			t.Errorf("Fallback = %q since %v of a secret that nobody has refused", st.Fallback, st.Since)
		}
		succeeds(t, d, creds[0])
		if st := statusOf(t, d, "newer"); st.Fallback != "older" || len(b.heard()) != 2 {
			t.Errorf("Fallback = %q after %q; want older, and an alarm for each secret that was refused", st.Fallback, b.heard())
		}
	})
}

func TestACredentialThatCannotBeLoadedFallsBackToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, b := newOffice(t, "older"), &bell{}
		creds := chained(t, "newer", "older")
		creds[0].ClientSecret = secrets.Ref{Env: "GATEWAY_TEST_UNSET"}
		d := authority.NewDirectory(authority.Options{Dialer: o.way, Alarm: b.ring})
		if f := d.Replace(creds); len(f) != 1 || !f[0].Alarm {
			t.Errorf("findings = %+v", f)
		}
		if st := statusOf(t, d, "newer"); !st.Ready || st.Reason == "" || !st.Usable() {
			t.Errorf("status before = %+v, want ready by its fallback and the reason", st)
		}
		k := d.Key(creds[0], graphScope)
		if got, err := d.Acquire(t.Context(), k, ""); err != nil || got.Access.Reveal() != "token-by-older" {
			t.Fatalf("Acquire = %v", err)
		}
		if rings := b.heard(); len(rings) != 1 || !strings.Contains(rings[0], "GATEWAY_TEST_UNSET is not set") {
			t.Errorf("alarms = %q", rings)
		}
	})
}

func TestWhenAllRefuseTheFirstIsQuotedAndEachIsNamed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, b := newOffice(t), &bell{}
		creds := chained(t, "one", "two", "three")
		d := authority.NewDirectory(authority.Options{Dialer: o.way, Alarm: b.ring})
		d.Replace(creds)
		got := fails(t, d, creds[0])
		if got.Credential != "one" || got.Failure() != (tokens.Failure{Nature: tokens.Refused, Reach: tokens.ReachCredential}) {
			t.Errorf("error = %+v", got)
		}
		for _, name := range []string{`credential "two"`, `credential "three"`} {
			if !strings.Contains(got.Detail, name) || strings.Contains(got.Error(), name) {
				t.Errorf("%s is not in the detail alone: %s", name, got.Explain())
			}
		}
		if st := statusOf(t, d, "one"); st.Fallback != "" || st.Usable() || len(b.heard()) != 0 {
			t.Errorf("status = %+v, alarms %q", st, b.heard())
		}
		if got := o.shown(); got != "one two three" {
			t.Errorf("shown = %s", got)
		}
	})
}

func TestAChainGoesOnFromTheOneInUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, b := newOffice(t, "two"), &bell{}
		creds := chained(t, "one", "two", "three")
		d := authority.NewDirectory(authority.Options{Dialer: o.way, Alarm: b.ring})
		d.Replace(creds)
		succeeds(t, d, creds[0])
		o.allow("two", false)
		o.allow("three", true)
		o.shown()
		succeeds(t, d, creds[0])
		if got := o.shown(); got != "two three" {
			t.Errorf("shown = %s", got)
		}
		o.allow("three", false)
		o.allow("one", true)
		succeeds(t, d, creds[0])
		if got := o.shown(); got != "three one" {
			t.Errorf("shown = %s, want the first when the one in use is refused", got)
		}
		if rings := b.heard(); len(rings) != 3 || !strings.Contains(rings[1], `"three"`) || !strings.Contains(rings[2], "works again") {
			t.Errorf("alarms = %q", rings)
		}
	})
}

func TestAnOutageIsNoReasonToFallBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, b := newOffice(t, "older"), &bell{}
		o.down = true
		creds := chained(t, "newer", "older")
		d := authority.NewDirectory(authority.Options{Dialer: o.way, Alarm: b.ring})
		d.Replace(creds)
		if got := fails(t, d, creds[0]); got.Refused() || o.shown() != "newer" || len(b.heard()) != 0 {
			t.Errorf("error = %v, alarms %q", got, b.heard())
		}
	})
}

func TestManyWhoFallBackRaiseOneAlarm(t *testing.T) {
	s, _ := guarded(t, "older")
	b := &bell{}
	creds := chained(t, "newer", "older")
	for _, c := range creds {
		c.AuthorityHost = s.URL
	}
	d := authority.NewDirectory(authority.Options{Alarm: b.ring})
	d.Replace(creds)
	var group sync.WaitGroup
	for i := range 16 {
		group.Go(func() {
			k := d.Key(creds[0], fmt.Sprintf("api://%d/.default", i))
			if got, err := d.Acquire(t.Context(), k, ""); err != nil || got.Access.Reveal() != "token-by-older" {
				t.Errorf("Acquire = %v", err)
			}
		})
	}
	group.Wait()
	if rings := b.heard(); len(rings) != 1 {
		t.Errorf("alarms = %q, want one", rings)
	}
}

func TestARefusalOfTheScopeStaysWithTheCredential(t *testing.T) {
	s := serve(t, says(400, `{"error":"invalid_scope","error_codes":[70011]}`))
	creds := chained(t, "newer", "older")
	for _, c := range creds {
		c.AuthorityHost = s.URL
	}
	d := authority.NewDirectory(authority.Options{})
	d.Replace(creds)
	if got := fails(t, d, creds[0]); got.AADSTS != 70011 || len(s.sent()) != 1 {
		t.Errorf("error = %v after %d requests", got, len(s.sent()))
	}
}

func TestTheStatusMayBeReadWhileAllRefuse(t *testing.T) {
	s, _ := guarded(t)
	creds := chained(t, "newer", "older")
	for _, c := range creds {
		c.AuthorityHost = s.URL
	}
	d := authority.NewDirectory(authority.Options{})
	d.Replace(creds)
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			for range 8 {
				if _, err := d.Acquire(t.Context(), d.Key(creds[0], graphScope), ""); err == nil {
					t.Error("a token by a secret that nobody knows")
				}
			}
		})
	}
	for range 50 {
		for _, st := range d.Status() {
			if e := st.LastError; e != nil && (e.Scope != graphScope || strings.Contains(e.Explain(), "older") != (st.Name == "older")) {
				t.Errorf("status of %s has the error %s", st.Name, e.Explain())
			}
		}
	}
	group.Wait()
}
