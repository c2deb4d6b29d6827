package gate_test

import (
	"errors"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seed-13b04e61/gateway/audit"
	"github.com/seed-13b04e61/gateway/gate"
)

// Published defects of others in recognising a caller, each by its identifier.
// Two more have tests of their own: CVE-2026-27586 in
// TestUnreadableCAOfAnIssuerKeepsTheTableOut, CVE-2026-41263 (which is
// CVE-2026-32595 as well) in TestUnknownNameCostsWhatAWrongKeyCosts.
func TestPublishedDefectsOfIdentification(t *testing.T) {
	for id, test := range map[string]func(*testing.T){
		"CVE-2025-30204":      manyPartsCostNoMemory,
		"CVE-2024-51744":      expiredTokenIsNotTrustedForItsExpiry,
		"CVE-2026-71326":      noTwoCredentialsShareAnAnswer,
		"CVE-2026-33433":      fieldUnderAnotherNameIsNotRead,
		"CVE-2026-39858":      fieldUnderAnotherNameIsNotRead,
		"GHSA-f28g-86hc-823q": guessesAreHeldOff,
		"CVE-2026-26998":      endlessDocumentIsCutOff,
	} {
		t.Run(id, test)
	}
}

// golang-jwt split a token at each of its dots.
func manyPartsCostNoMemory(t *testing.T) {
	i := inForce(t, nil, jwtCaller("ci"))
	e := bearer(strings.Repeat(".", 15<<10))
	const calls = 100
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range calls {
		if _, err := i.Identify(t.Context(), e); err == nil {
			t.Fatal("believed")
		}
	}
	runtime.ReadMemStats(&after)
	if n := (after.TotalAlloc - before.TotalAlloc) / calls; n > 64<<10 {
		t.Errorf("a token of 15 KiB of dots costs %d bytes", n)
	}
}

// A token that is both expired and forged was taken for merely expired.
func expiredTokenIsNotTrustedForItsExpiry(t *testing.T) {
	key, stranger := ecSigner(t, "k"), ecSigner(t, "k")
	i := inForce(t, newIssuer(key), jwtCaller("ci"))
	got := identify(t, i, bearer(stranger.token(t, nil, with(goodClaims(), "exp", time.Now().Add(-time.Hour).Unix()))))
	if got.caller != "" || !strings.Contains(got.cause, "signature") {
		t.Errorf("Identify = %q, cause %q; want nobody, for the signature", got.caller, got.cause)
	}
}

// Traefik checked password+secret under one key: other halves of one whole were
// one. Names and keys here are never joined.
func noTwoCredentialsShareAnAnswer(t *testing.T) {
	i := inForce(t, nil, keyCaller("a", "bc"), keyCaller("ab", "d"), keyCaller("x", "y:z"))
	var wg sync.WaitGroup
	for n, tt := range []struct{ name, key, want string }{
		{"a", "bc", "a"}, {"ab", "c", ""}, {"ab", "d", "ab"}, {"a", "bd", ""}, {"x", "y:z", "x"}, {"x:y", "z", "x"}, {"xy", "z", ""},
	} {
		wg.Go(func() {
			for range 50 {
				var name string
				c, err := i.Identify(t.Context(), from(n, viaForward(basic(tt.name, tt.key))))
				if c != nil {
					name = c.Name
				}
				if name != tt.want || (err == nil) != (tt.want != "") {
					t.Errorf("Identify(%s, %s) = %q, %v; want %q", tt.name, tt.key, name, err, tt.want)
				}
			}
		})
	}
	wg.Wait()
}

func fieldUnderAnotherNameIsNotRead(t *testing.T) {
	i := inForce(t, nil, keyCaller("job", jobKey))
	for _, field := range []string{"X_Gateway_Authorization", "x-gateway-authorization", "X-Gateway_Authorization", "X-Forwarded-Authorization", "Proxy-Authorization", "X-Forwarded-User", "X-Original-Authorization", "Authorization "} {
		e := gate.Evidence{Door: audit.Reverse, Header: http.Header{field: {basic("job", jobKey)}}}
		if got := identify(t, i, e); got.caller != "" {
			t.Errorf("Identify(%s) = %q, want nobody", field, got.caller)
		}
	}
}

// tokenizer's secret could be found letter by letter; a part of a key proves
// nothing here, and guesses become slow.
func guessesAreHeldOff(t *testing.T) {
	i := inForce(t, nil, keyCaller("job", jobKey))
	limited := 0
	for n := range len(jobKey) {
		_, err := i.Identify(t.Context(), viaForward(basic("job", jobKey[:n])))
		var refusal *gate.Refusal
		if !errors.As(err, &refusal) {
			t.Fatalf("Identify(%d letters) = %v, want a refusal", n, err)
		}
		if refusal.Code == gate.RateLimited {
			limited++
		}
	}
	if limited < len(jobKey)-12 {
		t.Errorf("%d of %d guesses were held off", limited, len(jobKey))
	}
}

// endlessDocumentIsCutOff: the answer of an identity provider was read whole.
func endlessDocumentIsCutOff(t *testing.T) {
	key := ecSigner(t, "k")
	srv := newIssuer(key)
	read := 0
	srv.override = map[string]http.HandlerFunc{"/realm/keys": func(w http.ResponseWriter, _ *http.Request) {
		for range 64 {
			n, _ := w.Write(make([]byte, 1<<16))
			read += n
		}
	}}
	got := identify(t, inForce(t, srv, jwtCaller("ci")), bearer(key.token(t, nil, goodClaims())))
	if got.caller != "" || !strings.Contains(got.cause, "larger than 1 MiB") || read != 4<<20 {
		t.Errorf("Identify = %q, cause %q after %d bytes were offered; want nobody", got.caller, got.cause, read)
	}
}
