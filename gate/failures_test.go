package gate_test

import (
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-13b04e61/gateway/gate"
)

func TestFailuresOfASourceAreHeldOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := inForce(t, nil, keyCaller("job", jobKey))
		bad := viaForward(basic("job", otherKey))
		for n := range 10 {
			if got := identify(t, i, bad); got.code != gate.CallerUnknown || got.asked {
				t.Fatalf("failure %d: %q, want caller_unknown", n+1, got.code)
			}
		}
		got := identify(t, i, bad)
		if got.code != gate.RateLimited || got.refusal.RetryAfter != time.Second {
			t.Fatalf("failure 11: %q, after %v; want rate_limited, 1s", got.code, got.refusal.RetryAfter)
		}
		if got := identify(t, i, viaForward(basic("job", jobKey))); got.caller != "job" {
			t.Errorf("Identify(good key) = %q, want job, whoever fails behind the same address", got.caller)
		}
		if got := identify(t, i, viaForward()); got.code != gate.CallerUnknown {
			t.Errorf("Identify(no credential) = %q, want caller_unknown and its challenge", got.code)
		}
		time.Sleep(time.Second)
		for n, want := range []gate.Code{gate.CallerUnknown, gate.RateLimited} {
			if got := identify(t, i, bad); got.code != want {
				t.Errorf("a second later, failure %d: %q, want %q", n+1, got.code, want)
			}
		}
	})
}

func TestAskingWithoutACredentialIsNoFailure(t *testing.T) {
	i := inForce(t, nil, keyCaller("job", jobKey))
	for n := range 100 {
		if got := identify(t, i, viaForward()); got.code != gate.CallerUnknown {
			t.Fatalf("call %d: %q, want caller_unknown", n, got.code)
		}
	}
}

func TestSourcesAreCountedApart(t *testing.T) {
	uid := func(n uint32) func() (uint32, error) { return func() (uint32, error) { return n, nil } }
	unknown := func() (uint32, error) { return 0, gate.ErrNoPeer }
	type where struct {
		addr string
		uid  func() (uint32, error)
	}
	for name, tt := range map[string]struct {
		failing, other where
		shared         bool
	}{
		"two addresses":           {where{addr: "192.0.2.1"}, where{addr: "192.0.2.2"}, false},
		"one address":             {where{addr: "192.0.2.1"}, where{addr: "192.0.2.1"}, true},
		"one address, mapped":     {where{addr: "192.0.2.1"}, where{addr: "::ffff:192.0.2.1"}, true},
		"one /64":                 {where{addr: "2001:db8:0:1::1"}, where{addr: "2001:db8:0:1:ffff::2"}, true},
		"two /64":                 {where{addr: "2001:db8:0:1::1"}, where{addr: "2001:db8:0:2::1"}, false},
		"zones":                   {where{addr: "fe80::1%eth0"}, where{addr: "fe80::2%eth1"}, true},
		"two users, loopback":     {where{"127.0.0.1", uid(1)}, where{"127.0.0.1", uid(2)}, false},
		"one user, two loopbacks": {where{"127.0.0.1", uid(1)}, where{"::1", uid(1)}, true},
		"user unknown":            {where{"127.0.0.1", unknown}, where{"127.0.0.1", unknown}, true},
		"two users, unix":         {where{"", uid(1)}, where{"", uid(2)}, false},
		"one user, unix":          {where{"", uid(1)}, where{"", uid(1)}, true},
		"unix and unknown":        {where{"", nil}, where{"", nil}, true},
		"uid counts only here":    {where{"192.0.2.1", uid(1)}, where{"192.0.2.2", uid(1)}, false},
	} {
		t.Run(name, func(t *testing.T) {
			i := inForce(t, nil, keyCaller("job", jobKey))
			call := func(w where) gate.Code {
				e := viaForward(basic("job", otherKey))
				e.Source, e.UID = netip.Addr{}, w.uid
				if w.addr != "" {
					e.Source = netip.MustParseAddr(w.addr)
				}
				return identify(t, i, e).code
			}
			for range 11 {
				call(tt.failing)
			}
			want := gate.CallerUnknown
			if tt.shared {
				want = gate.RateLimited
			}
			if got := call(tt.other); got != want {
				t.Errorf("the other source gets %q, want %q", got, want)
			}
		})
	}
}

// Tokens are dear to verify, so that a source which is held off has none looked
// at; one that was believed before costs nothing and passes.
func TestTokensOfASourceThatIsHeldOffAreNotVerified(t *testing.T) {
	key := ecSigner(t, "k")
	synctest.Test(t, func(t *testing.T) {
		srv := newIssuer(key)
		i := inForce(t, srv, jwtCaller("ci"))
		believed := bearer(key.token(t, nil, goodClaims()))
		identify(t, i, believed)
		for range 11 {
			identify(t, i, bearer(key.token(t, nil, with(goodClaims(), "aud", "other"))))
		}
		fresh := bearer(key.token(t, nil, with(goodClaims(), "jti", "fresh")))
		if got := identify(t, i, fresh); got.code != gate.RateLimited || got.refusal.RetryAfter != time.Second {
			t.Errorf("Identify(new token) = %q, %q; want rate_limited", got.caller, got.code)
		}
		if got := identify(t, i, believed); got.caller != "ci" {
			t.Errorf("Identify(believed token) = %q (%s), want ci", got.caller, got.cause)
		}
		time.Sleep(time.Second)
		if got := identify(t, i, fresh); got.caller != "ci" {
			t.Errorf("a second later: Identify(new token) = %q (%s), want ci", got.caller, got.cause)
		}
	})
}
