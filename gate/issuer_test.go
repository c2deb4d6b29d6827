package gate_test

import (
	"context"
	"encoding/pem"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/seed-13b04e61/gateway/gate"
)

func TestBelievedTokenIsNotVerifiedAgain(t *testing.T) {
	key := ecSigner(t, "k")
	synctest.Test(t, func(t *testing.T) {
		srv := newIssuer(key)
		i := inForce(t, srv, jwtCaller("ci"))
		token := bearer(key.token(t, nil, goodClaims()))
		for range 50 {
			if got := identify(t, i, token); got.caller != "ci" {
				t.Fatalf("Identify = %q (%s), want ci", got.caller, got.cause)
			}
		}
		if n := srv.fetches(); n != 1 {
			t.Errorf("fetches = %d, want 1", n)
		}
	})
}

func TestTokenIsForgottenWhenItExpires(t *testing.T) {
	key := ecSigner(t, "k")
	synctest.Test(t, func(t *testing.T) {
		i := inForce(t, newIssuer(key), jwtCaller("ci"))
		token := bearer(key.token(t, nil, with(goodClaims(), "exp", time.Now().Add(2*time.Minute).Unix())))
		for _, step := range []struct {
			after time.Duration
			want  string
		}{{0, "ci"}, {119 * time.Second, "ci"}, {time.Minute, "ci"}, {2 * time.Second, ""}} {
			time.Sleep(step.after)
			if got := identify(t, i, token); got.caller != step.want {
				t.Errorf("%v later: Identify = %q (%s), want %q", step.after, got.caller, got.cause, step.want)
			}
		}
	})
}

// A withdrawn key counts for ten minutes at most: with and without calls in
// between, for tokens that were believed before and for new ones.
func TestWithdrawnKeyIsNotTrustedAfterTenMinutes(t *testing.T) {
	old, fresh := ecSigner(t, "old"), ecSigner(t, "fresh")
	for _, pace := range []time.Duration{10 * time.Second, time.Minute, 10 * time.Minute} {
		t.Run(pace.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				srv := newIssuer(old)
				i := inForce(t, srv, jwtCaller("ci"))
				if got := identify(t, i, bearer(old.token(t, nil, goodClaims()))); got.caller != "ci" {
					t.Fatalf("Identify = %q (%s), want ci", got.caller, got.cause)
				}
				srv.change(func() { srv.keys = []*signer{fresh} })
				believed := bearer(old.token(t, nil, goodClaims()))
				for at := pace; at <= 10*time.Minute; at += pace {
					time.Sleep(pace)
					identify(t, i, believed)
					synctest.Wait()
				}
				for name, e := range map[string]gate.Evidence{"believed": believed, "new": bearer(old.token(t, nil, with(goodClaims(), "jti", "new")))} {
					if got := identify(t, i, e); got.caller != "" {
						t.Errorf("Identify(%s token of the withdrawn key) = %q, want nobody", name, got.caller)
					}
				}
				if got := identify(t, i, bearer(fresh.token(t, nil, goodClaims()))); got.caller != "ci" {
					t.Errorf("Identify(new key) = %q (%s), want ci", got.caller, got.cause)
				}
			})
		})
	}
}

func TestNewKeyIsFetchedWhenATokenNamesIt(t *testing.T) {
	old, fresh := ecSigner(t, "old"), ecSigner(t, "fresh")
	synctest.Test(t, func(t *testing.T) {
		srv := newIssuer(old)
		i := inForce(t, srv, jwtCaller("ci"))
		identify(t, i, bearer(old.token(t, nil, goodClaims())))
		srv.change(func() { srv.keys = []*signer{old, fresh} })
		time.Sleep(31 * time.Second)
		if got := identify(t, i, bearer(fresh.token(t, nil, goodClaims()))); got.caller != "ci" {
			t.Errorf("Identify = %q (%s), want ci", got.caller, got.cause)
		}
	})
}

// Whoever invents keys makes the gateway ask its issuer ever more rarely.
func TestInventedKeysDoNotMakeTheGatewayAskOften(t *testing.T) {
	key := ecSigner(t, "k")
	synctest.Test(t, func(t *testing.T) {
		srv := newIssuer(key)
		i := inForce(t, srv, jwtCaller("ci"))
		for n := range 3600 {
			token := key.token(t, map[string]any{"kid": fmt.Sprint("invented-", n)}, goodClaims())
			if got := identify(t, i, from(n, bearer(token))); got.caller != "" {
				t.Fatalf("Identify = %q, want nobody", got.caller)
			}
			time.Sleep(time.Second)
		}
		// 30 s, 1, 2, 4 and then 5 minutes apart.
		if n := srv.fetches(); n < 10 || n > 17 {
			t.Errorf("fetches in an hour = %d, want about 15", n)
		}
		if got := identify(t, i, bearer(key.token(t, nil, goodClaims()))); got.caller != "ci" {
			t.Errorf("Identify(good) = %q (%s), want ci all the same", got.caller, got.cause)
		}
	})
}

func TestKeysAreFetchedAgainBehindTheCalls(t *testing.T) {
	key := ecSigner(t, "k")
	synctest.Test(t, func(t *testing.T) {
		srv := newIssuer(key)
		i := inForce(t, srv, jwtCaller("ci"))
		identify(t, i, bearer(key.token(t, nil, goodClaims())))
		for n := range 30 {
			time.Sleep(time.Minute)
			srv.change(func() { srv.hang = n%5 == 4 })
			begun := time.Now()
			got := identify(t, i, bearer(key.token(t, nil, with(goodClaims(), "jti", n))))
			if got.caller != "ci" || time.Since(begun) > 0 {
				t.Errorf("minute %d: Identify = %q after %v (%s), want ci at once", n, got.caller, time.Since(begun), got.cause)
			}
		}
		time.Sleep(time.Minute)
	})
}

func TestDeadIssuerIsForTheLogAndNotForTheAnswer(t *testing.T) {
	key := ecSigner(t, "k")
	synctest.Test(t, func(t *testing.T) {
		srv := newIssuer(key)
		srv.down = true
		i := inForce(t, srv, jwtCaller("ci"), keyCaller("job", jobKey))
		token := bearer(key.token(t, nil, goodClaims()))
		for n := range 30 { // none of which counts as a guess
			got := identify(t, i, token)
			if got.code != gate.CallerUnknown || !strings.Contains(got.cause, `issuer "`+loopback+`" cannot be had`) || !strings.Contains(got.cause, "connection refused") {
				t.Fatalf("call %d: %q, cause %q; want caller_unknown and the issuer's trouble", n, got.code, got.cause)
			}
			if strings.Contains(got.refusal.Detail+got.refusal.Remedy, "127.0.0.1") {
				t.Errorf("the answer tells of the issuer: %+v", got.refusal)
			}
		}
		if got := identify(t, i, viaForward(basic("job", jobKey))); got.caller != "job" {
			t.Errorf("Identify(key) = %q, want job whatever the issuer does", got.caller)
		}
		time.Sleep(3 * time.Second)
		srv.change(func() { srv.down = false })
		if got := identify(t, i, token); got.caller != "ci" {
			t.Errorf("Identify = %q (%s), want ci once the issuer is back", got.caller, got.cause)
		}
		if lines := srv.logged(); len(lines) != 2 || !strings.Contains(lines[0], "cannot be fetched") || !strings.Contains(lines[1], "can be fetched again") {
			t.Errorf("log = %q, want one line for the failure and one for its end", lines)
		}
	})
}

func TestIssuerThatDiesIsNotTrustedForLong(t *testing.T) {
	key := ecSigner(t, "k")
	synctest.Test(t, func(t *testing.T) {
		srv := newIssuer(key)
		i := inForce(t, srv, jwtCaller("ci"))
		identify(t, i, bearer(key.token(t, nil, goodClaims())))
		srv.change(func() { srv.down = true })
		for n := range 20 {
			want := "ci"
			if n >= 10 {
				want = ""
			}
			if got := identify(t, i, bearer(key.token(t, nil, with(goodClaims(), "jti", n)))); got.caller != want {
				t.Errorf("minute %d: Identify = %q (%s), want %q", n, got.caller, got.cause, want)
			}
			time.Sleep(time.Minute)
		}
	})
}

func TestHangingIssuerHoldsACallForTenSecondsAtMost(t *testing.T) {
	key := ecSigner(t, "k")
	synctest.Test(t, func(t *testing.T) {
		srv := newIssuer(key)
		srv.hang = true
		i := inForce(t, srv, jwtCaller("ci"))
		begun := time.Now()
		got := identify(t, i, bearer(key.token(t, nil, goodClaims())))
		if took := time.Since(begun); got.caller != "" || took > 10*time.Second {
			t.Errorf("Identify = %q after %v, want nobody within 10 s", got.caller, took)
		}
	})
}

// Everything that an issuer may answer wrongly refuses its tokens.
func TestWrongDocumentsOfAnIssuerAreNotBelieved(t *testing.T) {
	key := ecSigner(t, "k")
	const well = "/realm/.well-known/openid-configuration"
	text := func(s string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, s) }
	}
	config := func(issuer, keys string) http.HandlerFunc {
		return text(fmt.Sprintf(`{"issuer": %q, "jwks_uri": %q}`, issuer, keys))
	}
	for name, tt := range map[string]struct {
		path   string
		answer http.HandlerFunc
		want   string
	}{
		"another issuer":       {well, config("https://evil.test", jwksURI), "names another issuer"},
		"issuer with a slash":  {well, config(loopback+"/", jwksURI), "names another issuer"},
		"keys over http":       {well, config(loopback, "http://keys.test/keys"), "is not https"},
		"keys by file":         {well, config(loopback, "file:///etc/passwd"), "no address that can be asked"},
		"keys with a password": {well, config(loopback, "http://u:p@127.0.0.1:7000/realm/keys"), "no address that can be asked"},
		"keys relative":        {well, config(loopback, "/realm/keys"), "no address that can be asked"},
		"keys nowhere":         {well, config(loopback, ""), "no address that can be asked"},
		"loopback nearly":      {well, config(loopback, "http://127.0.0.1.evil.test/keys"), "is not https"},
		"page":                 {well, text("<html>"), "not the JSON"},
		"endless":              {well, text(`{"issuer":"` + strings.Repeat("x", 1<<20) + `"}`), "larger than 1 MiB"},
		"not found":            {well, http.NotFound, "status 404"},
		"redirect": {well, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", jwksURI)
			w.WriteHeader(http.StatusFound)
		}, "status 302"},
		"error":          {"/realm/keys", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) }, "status 500"},
		"no keys":        {"/realm/keys", text(`{"keys": []}`), "holds no key"},
		"keys no list":   {"/realm/keys", text(`{"keys": {"k": 1}}`), "not the JSON"},
		"keys of no use": {"/realm/keys", text(`{"keys": [1, null, "x", {}, {"kty":"RSA"}, {"kty":"RSA","n":"AQAB","e":"AQAB"}, {"kty":"EC","crv":"P-256","x":"AQ","y":"AQ","kid":"k"}, {"kty":"oct","k":"AQAB"}, {"kty":"OKP","crv":"X25519","x":"AQ"}]}`), "holds no key"},
		"endless keys":   {"/realm/keys", text(`{"keys": [` + strings.Repeat("1,", 1<<20) + `1]}`), "larger than 1 MiB"},
	} {
		t.Run(name, func(t *testing.T) {
			defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
			srv := newIssuer(key)
			srv.override = map[string]http.HandlerFunc{tt.path: tt.answer}
			got := identify(t, inForce(t, srv, jwtCaller("ci")), bearer(key.token(t, nil, goodClaims())))
			if got.code != gate.CallerUnknown || !strings.Contains(got.cause, tt.want) {
				t.Errorf("Identify = %q, cause %q; want caller_unknown, %q", got.caller, got.cause, tt.want)
			}
			if len(got.cause) > 1024 {
				t.Errorf("the cause has %d bytes", len(got.cause))
			}
		})
	}
}

func TestManyFirstCallsCostOneFetch(t *testing.T) {
	key := ecSigner(t, "k")
	synctest.Test(t, func(t *testing.T) {
		srv := newIssuer(key)
		i := inForce(t, srv, jwtCaller("ci"))
		var wg sync.WaitGroup
		for n := range 50 {
			token := bearer(key.token(t, nil, with(goodClaims(), "jti", n)))
			wg.Go(func() {
				if c, err := i.Identify(t.Context(), token); err != nil || c.Name != "ci" {
					t.Errorf("Identify = %v, %v; want ci", c, err)
				}
			})
		}
		wg.Wait()
		if n := srv.fetches(); n != 1 {
			t.Errorf("fetches = %d, want 1", n)
		}
	})
}

func TestCallThatIsGivenUpWaitsForNoIssuer(t *testing.T) {
	key := ecSigner(t, "k")
	synctest.Test(t, func(t *testing.T) {
		srv := newIssuer(key)
		srv.hang = true
		i := inForce(t, srv, jwtCaller("ci"))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		begun := time.Now()
		_, err := i.Identify(ctx, bearer(key.token(t, nil, goodClaims())))
		if took := time.Since(begun); err == nil || took != time.Second {
			t.Errorf("Identify = %v after %v, want a refusal after 1s", err, took)
		}
		time.Sleep(10 * time.Second) // the fetch ends by itself
	})
}

// The CAs that vouch for an issuer are part of who it is.
func TestNewCAOfAnIssuerMeansNewKeys(t *testing.T) {
	key := ecSigner(t, "k")
	srv := newIssuer(key)
	file := filepath.Join(t.TempDir(), "ca.pem")
	write := func() {
		t.Helper()
		block := &pem.Block{Type: "CERTIFICATE", Bytes: newCA(t).cert.Raw}
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write()
	caller := jwtCaller("ci")
	caller.JWT.CAFile = file
	i := inForce(t, srv, caller)
	token := bearer(key.token(t, nil, goodClaims()))
	for want := range 3 {
		if got := identify(t, i, token); got.caller != "ci" {
			t.Fatalf("Identify = %q (%s), want ci", got.caller, got.cause)
		}
		use(t, i, caller)
		identify(t, i, token)
		if n := srv.fetches(); n != want+1 {
			t.Errorf("fetches = %d, want %d", n, want+1)
		}
		write()
		use(t, i, caller)
	}
}

// Two callers may trust one issuer by different CAs; each has its own keys.
func TestIssuerOfTwoCAsIsTwoIssuers(t *testing.T) {
	key := ecSigner(t, "k")
	srv := newIssuer(key)
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: newCA(t).cert.Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	first, second := jwtCaller("first"), jwtCaller("second")
	first.JWT.Audience, second.JWT.CAFile = "elsewhere", file
	i := inForce(t, srv, first, second)
	for aud, want := range map[string]string{"elsewhere": "first", "gateway": "second", "nowhere": ""} {
		if got := identify(t, i, bearer(key.token(t, nil, with(goodClaims(), "aud", aud)))); got.caller != want {
			t.Errorf("Identify(aud %s) = %q (%s), want %q", aud, got.caller, got.cause, want)
		}
	}
	if n := srv.fetches(); n != 2 {
		t.Errorf("fetches = %d, want 2", n)
	}
}
