package gate_test

import (
	"net/http"
	"testing"

	"github.com/seed-13b04e61/gateway/audit"
	"github.com/seed-13b04e61/gateway/gate"
	"github.com/seed-13b04e61/gateway/routes"
)

// BenchmarkIdentify is what a call pays to be recognised. API keys and cached
// JWTs shall take less than 2 µs.
func BenchmarkIdentify(b *testing.B) {
	c, key, uid := newCA(b), rsaSigner(b, "k", 2048), uint32(1001)
	callers := append(certCallers(), keyCaller("job", jobKey, jobNext), jwtCaller("ci"), &routes.Caller{Name: "backup", UID: &uid})
	i := inForce(b, newIssuer(key), callers...)
	owned := viaForward()
	owned.UID = func() (uint32, error) { return 1001, nil }
	claims := with(goodClaims(), "repository", "contoso/app", "workflow", "deploy", "ref", "refs/heads/main", "environment", "prod")
	for name, e := range map[string]gate.Evidence{
		"key, Basic":  viaForward(basic("job", jobKey)),
		"key, Bearer": viaForward("Bearer " + jobKey),
		"cached JWT":  bearer(key.token(b, nil, claims)),
		"certificate": verified(c, c.issue(b, "", []string{"spiffe://contoso/billing"}, nil).Leaf),
		"uid":         owned,
	} {
		b.Run(name, func(b *testing.B) {
			ctx := audit.With(b.Context(), &audit.Event{})
			if _, err := i.Identify(ctx, e); err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := i.Identify(ctx, e); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkRefusal is what a stranger costs.
func BenchmarkRefusal(b *testing.B) {
	key := rsaSigner(b, "k", 2048)
	i := inForce(b, newIssuer(key), keyCaller("job", jobKey), jwtCaller("ci"))
	for name, e := range map[string]gate.Evidence{
		"nothing":            viaForward(),
		"wrong key":          viaForward(basic("job", otherKey)),
		"unknown name":       viaForward(basic("nobody", otherKey)),
		"token, held off":    bearer(key.token(b, nil, with(goodClaims(), "aud", "other"))),
		"no credential, own": {Door: audit.Reverse, Header: http.Header{"Authorization": {"Bearer placeholder"}}},
	} {
		b.Run(name, func(b *testing.B) {
			ctx := audit.With(b.Context(), &audit.Event{})
			b.ReportAllocs()
			for b.Loop() {
				if _, err := i.Identify(ctx, e); err == nil {
					b.Fatal("believed")
				}
			}
		})
	}
}
