package gate_test

import (
	"bufio"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/seed-13b04e61/gateway/audit"
	"github.com/seed-13b04e61/gateway/gate"
	"github.com/seed-13b04e61/gateway/routes"
)

// identified is what came of one call.
type identified struct {
	caller, how string
	code        gate.Code
	cause       string
	asked       bool
	refusal     *gate.Refusal
}

func identify(t testing.TB, i *gate.Identifier, e gate.Evidence) identified {
	t.Helper()
	event := &audit.Event{Caller: "stale", CallerHow: "stale"}
	caller, err := i.Identify(audit.With(t.Context(), event), e)
	var got identified
	if caller != nil {
		got.caller = caller.Name
	}
	if event.Caller != got.caller {
		t.Errorf("event.Caller = %q, and the caller is %q", event.Caller, got.caller)
	}
	got.how = event.CallerHow
	if err != nil {
		if !errors.As(err, &got.refusal) {
			t.Fatalf("Identify = %v, want a *Refusal", err)
		}
		got.asked = event.Asked
		got.code, got.cause = got.refusal.Code, got.refusal.Cause
		if caller != nil || event.CallerHow != "" {
			t.Errorf("refused, and yet caller = %v, how = %q", caller, event.CallerHow)
		}
	}
	return got
}

// inForce returns an identifier for the callers. Without an issuer it dials
// nobody.
func inForce(t testing.TB, issuer *issuer, callers ...*routes.Caller) *gate.Identifier {
	t.Helper()
	var o gate.IdentifierOptions
	if issuer == nil {
		issuer = &issuer0
	}
	o.Dialer, o.Log = issuer, issuer.log
	i := gate.NewIdentifier(o)
	use(t, i, callers...)
	return i
}

func use(t testing.TB, i *gate.Identifier, callers ...*routes.Caller) {
	t.Helper()
	if errs := i.Use(&routes.Table{Callers: callers}); len(errs) > 0 {
		t.Fatalf("Use = %v", errs)
	}
}

func keyCaller(name string, keys ...string) *routes.Caller {
	c := &routes.Caller{Name: name}
	for _, k := range keys {
		c.APIKeys = append(c.APIKeys, sha256.Sum256([]byte(k)))
	}
	return c
}

func basic(user, key string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+key))
}

// viaForward is a call with those lines of Proxy-Authorization.
func viaForward(lines ...string) gate.Evidence {
	return gate.Evidence{Door: audit.Forward, Source: netip.MustParseAddr("192.0.2.7"), Header: http.Header{"Proxy-Authorization": lines}}
}

// viaReverse is a call with pairs of field and line.
func viaReverse(pairs ...string) gate.Evidence {
	e := gate.Evidence{Door: audit.Reverse, Source: netip.MustParseAddr("192.0.2.7"), Header: http.Header{}}
	for n := 0; n < len(pairs); n += 2 {
		e.Header.Add(pairs[n], pairs[n+1])
	}
	return e
}

// from moves a call to another source, so that its failures are counted apart.
func from(n int, e gate.Evidence) gate.Evidence {
	e.Source = netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)})
	return e
}

// signer is a key of an issuer.
type signer struct {
	kid    string
	method jwt.SigningMethod
	key    crypto.Signer
	extra  map[string]any // members of its JWK
}

func rsaSigner(t testing.TB, kid string, bits int) *signer {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		t.Fatal(err)
	}
	return &signer{kid: kid, method: jwt.SigningMethodRS256, key: key}
}

func ecSigner(t testing.TB, kid string) *signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &signer{kid: kid, method: jwt.SigningMethodES256, key: key}
}

func edSigner(t testing.TB, kid string) *signer {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &signer{kid: kid, method: jwt.SigningMethodEdDSA, key: key}
}

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func (s *signer) jwk() map[string]any {
	m := map[string]any{"use": "sig"}
	if s.kid != "" {
		m["kid"] = s.kid
	}
	switch k := s.key.Public().(type) {
	case *rsa.PublicKey:
		m["kty"], m["n"], m["e"] = "RSA", b64(k.N.Bytes()), "AQAB"
	case *ecdsa.PublicKey:
		point, _ := k.Bytes() // an error only for curves that are not used here
		m["kty"], m["crv"], m["x"], m["y"] = "EC", "P-256", b64(point[1:33]), b64(point[33:])
	case ed25519.PublicKey:
		m["kty"], m["crv"], m["x"] = "OKP", "Ed25519", b64(k)
	}
	maps.Copy(m, s.extra)
	return m
}

// raw signs a header and claims that are written by hand.
func (s *signer) raw(t testing.TB, header, claims string) string {
	t.Helper()
	text := b64([]byte(header)) + "." + b64([]byte(claims))
	signature, err := s.method.Sign(text, s.key)
	if err != nil {
		t.Fatal(err)
	}
	return text + "." + b64(signature)
}

func (s *signer) header() map[string]any {
	return map[string]any{"alg": s.method.Alg(), "typ": "JWT", "kid": s.kid}
}

// token signs claims, with the header's members changed by header; nil deletes.
func (s *signer) token(t testing.TB, header, claims map[string]any) string {
	t.Helper()
	h := s.header()
	for name, v := range header {
		if v == nil {
			delete(h, name)
			continue
		}
		h[name] = v
	}
	return s.raw(t, encode(t, h), encode(t, claims))
}

func encode(t testing.TB, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// issuer publishes keys to whoever dials; it serves HTTP over pipes, which
// synctest understands.
type issuer struct {
	name string

	mu       sync.Mutex // guards what follows
	keys     []*signer
	down     bool
	hang     bool
	asked    int // for keys
	lines    []string
	override map[string]http.HandlerFunc // by path
}

// issuer0 is dialled by nobody.
var issuer0 = issuer{down: true}

const (
	loopback = "http://127.0.0.1:7000/realm"
	jwksURI  = loopback + "/keys"
)

func newIssuer(keys ...*signer) *issuer { return &issuer{name: loopback, keys: keys} }

func (s *issuer) log(msg string, kv ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lines = append(s.lines, strings.TrimSpace(msg+" "+fmt.Sprintln(kv...)))
}

func (s *issuer) logged() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.lines)
}

func (s *issuer) change(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

func (s *issuer) fetches() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked
}

func (s *issuer) DialContext(ctx context.Context, _, addr string) (net.Conn, error) {
	s.mu.Lock()
	down, hang := s.down, s.hang
	s.mu.Unlock()
	switch {
	case hang:
		<-ctx.Done()
		return nil, ctx.Err()
	case down || addr != "127.0.0.1:7000":
		return nil, fmt.Errorf("dial %s: connection refused", addr)
	}
	client, server := net.Pipe()
	go s.serve(server) // ends with the one answer, or the client's close
	return client, nil
}

func (s *issuer) serve(conn net.Conn) {
	defer conn.Close()
	req, err := http.ReadRequest(bufio.NewReader(conn))
	if err != nil {
		return
	}
	rec := httptest.NewRecorder()
	s.answer(rec, req)
	resp := rec.Result()
	resp.Close = true
	_ = resp.Write(conn)
}

func (s *issuer) answer(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	override := s.override[r.URL.Path]
	keys := slices.Clone(s.keys)
	if strings.HasSuffix(r.URL.Path, "/keys") {
		s.asked++
	}
	s.mu.Unlock()
	switch {
	case override != nil:
		override(w, r)
	case strings.HasSuffix(r.URL.Path, "/.well-known/openid-configuration"):
		fmt.Fprintf(w, `{"issuer": %q, "jwks_uri": %q, "response_types_supported": ["id_token"]}`, s.name, jwksURI)
	case strings.HasSuffix(r.URL.Path, "/keys"):
		set := []any{}
		for _, k := range keys {
			set = append(set, k.jwk())
		}
		b, err := json.Marshal(map[string]any{"keys": set})
		if err != nil {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		_, _ = w.Write(b)
	default:
		w.WriteHeader(http.StatusNotFound)
	}
}

// jwtCaller is a caller by tokens of the loopback issuer.
func jwtCaller(name string, rules ...routes.ClaimRule) *routes.Caller {
	return &routes.Caller{Name: name, JWT: &routes.CallerJWT{Issuer: loopback, Audience: "gateway", Claims: rules}}
}

func goodClaims() map[string]any {
	return map[string]any{
		"iss": loopback, "aud": "gateway", "sub": "job-7",
		"exp": time.Now().Add(time.Hour).Unix(),
		"nbf": time.Now().Add(-time.Minute).Unix(),
	}
}

// with returns claims changed by pairs; nil deletes.
func with(claims map[string]any, pairs ...any) map[string]any {
	claims = maps.Clone(claims)
	for n := 0; n < len(pairs); n += 2 {
		if pairs[n+1] == nil {
			delete(claims, pairs[n].(string))
			continue
		}
		claims[pairs[n].(string)] = pairs[n+1]
	}
	return claims
}
