package gate_test

import (
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/seed-13b04e61/gateway/gate"
	"github.com/seed-13b04e61/gateway/routes"
)

func bearer(token string) gate.Evidence { return viaForward("Bearer " + token) }

func TestTokensAreKnownByEachKindOfKey(t *testing.T) {
	ps := rsaSigner(t, "ps", 2048)
	ps.method = jwt.SigningMethodPS256
	ps.extra = map[string]any{"alg": "PS256"}
	svid := ecSigner(t, "svid")
	svid.extra = map[string]any{"use": "jwt-svid"}
	ed := edSigner(t, "ed")
	ed.extra = map[string]any{"alg": "Ed25519"}
	signers := []*signer{rsaSigner(t, "rs", 2048), ps, svid, ed}
	i := inForce(t, newIssuer(signers...), jwtCaller("ci"))
	for _, s := range signers {
		got := identify(t, i, bearer(s.token(t, nil, goodClaims())))
		if got.caller != "ci" || got.how != "jwt" {
			t.Errorf("Identify(%s) = %q by %q (%s), want ci by jwt", s.kid, got.caller, got.how, got.cause)
		}
	}
	for name, e := range map[string]gate.Evidence{
		"own field":            viaReverse("X-Gateway-Authorization", "Bearer "+signers[3].token(t, nil, goodClaims())),
		"no typ":               bearer(signers[3].token(t, map[string]any{"typ": nil}, goodClaims())),
		"typ of access tokens": bearer(signers[3].token(t, map[string]any{"typ": "at+JWT"}, goodClaims())),
		"typ with application": bearer(signers[3].token(t, map[string]any{"typ": "application/jwt"}, goodClaims())),
		"typ of SPIFFE":        bearer(signers[3].token(t, map[string]any{"typ": "JOSE"}, goodClaims())),
		"list of audiences":    bearer(signers[3].token(t, nil, with(goodClaims(), "aud", []string{"api", "gateway"}))),
		"clock a minute ahead": bearer(signers[3].token(t, nil, with(goodClaims(), "nbf", time.Now().Add(50*time.Second).Unix()))),
		"just expired":         bearer(signers[3].token(t, nil, with(goodClaims(), "exp", time.Now().Add(-50*time.Second).Unix()))),
		"fractional exp":       bearer(signers[3].token(t, nil, with(goodClaims(), "exp", float64(time.Now().Unix())+600.5))),
		"without nbf":          bearer(signers[3].token(t, nil, with(goodClaims(), "nbf", nil))),
		"x5t and x5c beside":   bearer(signers[3].token(t, map[string]any{"x5t": "AAAA", "x5c": []string{"AAAA"}}, goodClaims())),
	} {
		if got := identify(t, i, e); got.caller != "ci" {
			t.Errorf("Identify(%s) = %q (%s), want ci", name, got.caller, got.cause)
		}
	}
	basicField := viaReverse("Authorization", "Bearer "+signers[3].token(t, nil, goodClaims()))
	if got := identify(t, i, basicField); got.caller != "" || !got.asked || got.cause != "the call shows no credential" {
		t.Errorf("Identify(Bearer in Authorization) = %q, %q; want nobody, as that is the app's own", got.caller, got.cause)
	}
}

// forgeries are tokens that prove nobody: good is a key of the issuer's, bad
// one that pretends to be it.
func forgeries(t *testing.T, good, bad *signer) map[string]string {
	t.Helper()
	claims := goodClaims()
	body, head := encode(t, claims), encode(t, good.header())
	fine := good.token(t, nil, claims)
	parts := strings.Split(fine, ".")
	public, err := x509.MarshalPKIXPublicKey(good.key.Public())
	if err != nil {
		t.Fatal(err)
	}
	hmac := func(secret []byte, header string) string {
		text := b64([]byte(header)) + "." + parts[1]
		sum, err := jwt.SigningMethodHS256.Sign(text, secret)
		if err != nil {
			t.Fatal(err)
		}
		return text + "." + b64(sum)
	}
	asPEM := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public})
	sub := func(old, new string) string { return good.raw(t, head, strings.Replace(body, old, new, 1)) }
	all := map[string]string{
		"none":                    b64([]byte(`{"alg":"none","typ":"JWT"}`)) + "." + parts[1] + ".",
		"none, with a signature":  b64([]byte(`{"alg":"none","kid":"k"}`)) + "." + parts[1] + ".AAAA",
		"None":                    b64([]byte(`{"alg":"None","kid":"k"}`)) + "." + parts[1] + ".AAAA",
		"HS256 by the public key": hmac(public, `{"alg":"HS256","kid":"k"}`),
		"HS256 by its PEM":        hmac(asPEM, `{"alg":"HS256","kid":"k"}`),
		"HS256 by nothing":        hmac(nil, `{"alg":"HS256","kid":"k"}`),
		"HS256 by the modulus":    hmac(good.key.Public().(*rsa.PublicKey).N.Bytes(), `{"alg":"HS256","kid":"k"}`),
		"alg in lower case":       good.token(t, map[string]any{"alg": "rs256"}, claims),
		"alg unknown":             good.token(t, map[string]any{"alg": "RS999"}, claims),
		"alg of another kind":     good.token(t, map[string]any{"alg": "ES256"}, claims),
		"alg PS for RS":           good.token(t, map[string]any{"alg": "PS256"}, claims),
		"alg no string":           good.token(t, map[string]any{"alg": 256}, claims),
		"alg in a list":           good.token(t, map[string]any{"alg": []string{"RS256"}}, claims),
		"alg missing":             good.token(t, map[string]any{"alg": nil}, claims),
		"alg empty":               good.token(t, map[string]any{"alg": ""}, claims),
		"ALG beside none":         good.raw(t, `{"ALG":"RS256","alg":"none","kid":"k"}`, body),
		"alg twice":               good.raw(t, `{"alg":"RS256","alg":"RS256","kid":"k"}`, body),
		"alg twice, escaped":      good.raw(t, `{"alg":"RS256","\u0061lg":"none","kid":"k"}`, body),
		"crit":                    good.token(t, map[string]any{"crit": []string{"exp"}}, claims),
		"crit, empty":             good.token(t, map[string]any{"crit": []string{}}, claims),
		"crit, null":              good.raw(t, `{"alg":"RS256","kid":"k","crit":null}`, body),
		"b64":                     good.token(t, map[string]any{"b64": false}, claims),
		"typ of logouts":          good.token(t, map[string]any{"typ": "logout+jwt"}, claims),
		"typ of proofs":           good.token(t, map[string]any{"typ": "dpop+jwt"}, claims),
		"typ no string":           good.token(t, map[string]any{"typ": 1}, claims),
		"kid unknown":             good.token(t, map[string]any{"kid": "other"}, claims),
		"kid empty":               good.token(t, map[string]any{"kid": ""}, claims),
		"kid no string":           good.token(t, map[string]any{"kid": 1}, claims),
		"kid missing, two keys":   good.token(t, map[string]any{"kid": nil}, claims),
		"kid a path":              bad.token(t, map[string]any{"kid": "../../dev/null"}, claims),
		"kid an address":          bad.token(t, map[string]any{"kid": jwksURI}, claims),
		"kid as SQL":              bad.token(t, map[string]any{"kid": "' or 1=1 --"}, claims),
		"kid of the weak key":     bad.token(t, map[string]any{"kid": "weak"}, claims),
		"kid of the secret":       hmac([]byte("secret"), `{"alg":"HS256","kid":"oct"}`),
		"key for encryption":      bad.token(t, map[string]any{"kid": "enc"}, claims),
		"key for another alg":     bad.token(t, map[string]any{"kid": "ps"}, claims),
		"stranger's key":          bad.token(t, map[string]any{"kid": "k"}, claims),
		"jwk brought along":       bad.token(t, map[string]any{"kid": "k", "jwk": bad.jwk()}, claims),
		"jwk alone":               bad.token(t, map[string]any{"kid": nil, "jwk": bad.jwk()}, claims),
		"jku brought along":       bad.token(t, map[string]any{"kid": "evil", "jku": loopback + "/evil/keys"}, claims),
		"x5u brought along":       bad.token(t, map[string]any{"kid": "k", "x5u": loopback + "/evil/keys"}, claims),
		"x5c brought along":       bad.token(t, map[string]any{"kid": "k", "x5c": []string{base64.StdEncoding.EncodeToString(public)}}, claims),
		"header no object":        good.raw(t, `["alg"]`, body),
		"header null":             good.raw(t, `null`, body),
		"header with a tail":      good.raw(t, head+`{}`, body),
		"header nested deep":      good.raw(t, `{"alg":"RS256","kid":"k","x":`+strings.Repeat("[", 3000)+strings.Repeat("]", 3000)+`}`, body),
		"claims no object":        good.raw(t, head, `"claims"`),
		"claims empty":            good.raw(t, head, `{}`),
		"claims with a tail":      good.raw(t, head, body+"x"),
		"claims cut short":        good.raw(t, head, body[:len(body)-1]),
		"claims in bad utf-8":     good.raw(t, head, strings.Replace(body, "job-7", "job\xff", 1)),
		"aud twice":               good.raw(t, head, `{"aud":"other",`+body[1:]),
		"iss twice":               good.raw(t, head, `{"iss":"https://evil.test",`+body[1:]),
		"member twice, deep":      good.raw(t, head, `{"x":{"a":1,"a":2},`+body[1:]),
		"iss missing":             good.token(t, nil, with(claims, "iss", nil)),
		"iss of another":          good.token(t, nil, with(claims, "iss", "https://evil.test")),
		"iss with a slash":        good.token(t, nil, with(claims, "iss", loopback+"/")),
		"iss in upper case":       good.token(t, nil, with(claims, "iss", "HTTP://127.0.0.1:7000/realm")),
		"iss in a list":           good.token(t, nil, with(claims, "iss", []string{loopback})),
		"ISS for iss":             sub(`"iss"`, `"ISS"`),
		"aud of another":          good.token(t, nil, with(claims, "aud", "other")),
		"aud missing":             good.token(t, nil, with(claims, "aud", nil)),
		"aud with more":           good.token(t, nil, with(claims, "aud", "gateway ")),
		"aud as a prefix":         good.token(t, nil, with(claims, "aud", "gate")),
		"aud in upper case":       good.token(t, nil, with(claims, "aud", "Gateway")),
		"aud empty list":          good.token(t, nil, with(claims, "aud", []string{})),
		"aud list in a list":      good.token(t, nil, with(claims, "aud", [][]string{{"gateway"}})),
		"aud object":              good.token(t, nil, with(claims, "aud", map[string]string{"gateway": "gateway"})),
		"aud joined":              good.token(t, nil, with(claims, "aud", "gateway,other")),
		"aud with a number":       good.token(t, nil, with(claims, "aud", []any{"gateway", 1})),
		"exp missing":             good.token(t, nil, with(claims, "exp", nil)),
		"exp null":                good.raw(t, head, `{"exp":null,"iss":"`+loopback+`","aud":"gateway"}`),
		"exp past":                good.token(t, nil, with(claims, "exp", time.Now().Add(-2*time.Minute).Unix())),
		"exp zero":                good.token(t, nil, with(claims, "exp", 0)),
		"exp negative":            good.token(t, nil, with(claims, "exp", -1)),
		"exp a string":            good.token(t, nil, with(claims, "exp", fmt.Sprint(time.Now().Add(time.Hour).Unix()))),
		"exp a list":              good.token(t, nil, with(claims, "exp", []int64{time.Now().Add(time.Hour).Unix()})),
		"exp beyond all":          good.raw(t, head, `{"exp":1e400,"iss":"`+loopback+`","aud":"gateway"}`),
		"exp out of range":        good.raw(t, head, `{"exp":1e30,"iss":"`+loopback+`","aud":"gateway"}`),
		"nbf to come":             good.token(t, nil, with(claims, "nbf", time.Now().Add(2*time.Minute).Unix())),
		"nbf a string":            good.token(t, nil, with(claims, "nbf", "0")),
		"claim of another":        good.token(t, nil, with(claims, "sub", "job-8")),
		"claim missing":           good.token(t, nil, with(claims, "sub", nil)),
		"claim in a list twice":   good.token(t, nil, with(claims, "sub", [][]string{{"job-7"}})),
		"claim an object":         good.token(t, nil, with(claims, "sub", map[string]string{"sub": "job-7"})),
		"claim null":              good.raw(t, head, strings.Replace(body, `"job-7"`, "null", 1)),
		"claim under its name":    sub(`"sub"`, `"Sub"`),
		"claim with a NUL":        good.token(t, nil, with(claims, "sub", "job-7\x00")),
		"payload changed":         parts[0] + "." + b64([]byte(strings.Replace(body, "job-7", "job-9", 1))) + "." + parts[2],
		"signature changed":       parts[0] + "." + parts[1] + "." + flipped(parts[2]),
		"signature cut":           fine[:len(fine)-4],
		"signature empty":         parts[0] + "." + parts[1] + ".",
		"signature padded":        fine + "==",
		"signature of none":       parts[0] + "." + parts[1] + ".AA",
		"parts padded":            padded(parts[0]) + "." + padded(parts[1]) + "." + parts[2],
		"standard alphabet":       parts[0] + "." + parts[1] + "." + strings.NewReplacer("-", "+", "_", "/").Replace(parts[2]) + "+",
		"parts swapped":           parts[1] + "." + parts[0] + "." + parts[2],
		"four parts":              fine + ".x",
		"two parts":               parts[0] + "." + parts[1],
		"five parts, a JWE":       fine + ".x.y",
		"space within":            parts[0] + ". " + parts[1] + "." + parts[2],
		"huge":                    good.token(t, nil, with(claims, "x", strings.Repeat("x", 16<<10))),
		"the token twice":         fine + "," + fine,
	}
	return all
}

func flipped(signature string) string {
	if signature[0] == 'A' {
		return "B" + signature[1:]
	}
	return "A" + signature[1:]
}

func padded(part string) string { return part + strings.Repeat("=", (4-len(part)%4)%4) }

func TestForgedTokensProveNobody(t *testing.T) {
	good, bad, weak := rsaSigner(t, "k", 2048), rsaSigner(t, "k", 2048), rsaSigner(t, "weak", 1024)
	enc, ps := *bad, *bad
	enc.kid, enc.extra = "enc", map[string]any{"use": "enc"}
	ps.kid, ps.extra = "ps", map[string]any{"alg": "PS256"}
	oct := &signer{kid: "oct", key: weak.key, extra: map[string]any{"kty": "oct", "k": b64([]byte("secret"))}}
	tokens := forgeries(t, good, bad)
	tokens["key of 1024 bits"] = weak.token(t, nil, goodClaims())
	if len(tokens) < 100 {
		t.Fatalf("the table has %d cases", len(tokens))
	}
	srv := newIssuer(good, &enc, &ps, oct, weak)
	asked := false
	srv.override = map[string]http.HandlerFunc{"/realm/evil/keys": func(http.ResponseWriter, *http.Request) { asked = true }}
	i := inForce(t, srv, jwtCaller("ci", routes.ClaimRule{Name: "sub", Values: []string{"job-7"}}))
	n := 0
	for name, token := range tokens {
		t.Run(name, func(t *testing.T) {
			n++
			got := identify(t, i, from(n, bearer(token)))
			if got.caller != "" || got.code != gate.CallerUnknown {
				t.Fatalf("Identify = %q, %q; want nobody, caller_unknown", got.caller, got.code)
			}
			if got.cause == "" || len(got.cause) > 600 {
				t.Errorf("cause = %q", got.cause)
			}
			if longest := token[:min(len(token), 24)]; strings.Contains(got.cause, longest) {
				t.Errorf("cause %q holds the token", got.cause)
			}
		})
	}
	if asked {
		t.Error("an address that a token brought along was asked")
	}
	if got := identify(t, i, bearer(good.token(t, nil, goodClaims()))); got.caller != "ci" {
		t.Errorf("Identify(good) = %q (%s), want ci after all that", got.caller, got.cause)
	}
}

func TestCauseNamesWhatIsWrongWithAToken(t *testing.T) {
	key := ecSigner(t, "k")
	i := inForce(t, newIssuer(key), jwtCaller("ci", routes.ClaimRule{Name: "repository", Values: []string{"contoso/app"}}))
	good := with(goodClaims(), "repository", "contoso/app")
	for want, token := range map[string]string{
		`issuer "https://evil.test", whom no caller names`: key.token(t, nil, with(good, "iss", "https://evil.test")),
		`it has expired`:      key.token(t, nil, with(good, "exp", 1700000000)),
		`it is not valid yet`: key.token(t, nil, with(good, "nbf", time.Now().Add(time.Hour).Unix())),
		`it has no exp`:       key.token(t, nil, with(good, "exp", nil)),
		`its audience ["api"] is not "gateway" of caller "ci"`: key.token(t, nil, with(good, "aud", "api")),
		`claim "repository" is none of those of caller "ci"`:   key.token(t, nil, with(good, "repository", "contoso/fork")),
		`its signature is not by the issuer's key`:             ecSigner(t, "k").token(t, nil, good),
		`no key that its issuer publishes`:                     ecSigner(t, "gone").token(t, nil, good),
		`its algorithm "HS256" is not among those`:             key.token(t, map[string]any{"alg": "HS256"}, good),
		`is not for its algorithm`:                             key.token(t, map[string]any{"alg": "RS256"}, good),
	} {
		if got := identify(t, i, from(len(want), bearer(token))); !strings.Contains(got.cause, want) {
			t.Errorf("cause = %q, want it to say %q", got.cause, want)
		}
	}
}

func TestAlgorithmsOfTheTableHold(t *testing.T) {
	rs, es := rsaSigner(t, "rs", 2048), ecSigner(t, "es")
	strict := jwtCaller("strict")
	strict.JWT.Algorithms = []string{"ES256"}
	foolish := jwtCaller("foolish")
	foolish.JWT.Algorithms = []string{"none", "HS256"}
	srv := newIssuer(rs, es)
	for _, tt := range []struct {
		caller *routes.Caller
		token  string
		want   string
	}{
		{strict, es.token(t, nil, goodClaims()), "strict"},
		{strict, rs.token(t, nil, goodClaims()), ""},
		{foolish, rs.token(t, nil, goodClaims()), ""},
		{foolish, b64([]byte(`{"alg":"none"}`)) + "." + strings.Split(es.token(t, nil, goodClaims()), ".")[1] + ".AAAA", ""},
	} {
		if got := identify(t, inForce(t, srv, tt.caller), bearer(tt.token)); got.caller != tt.want {
			t.Errorf("Identify as %s = %q (%s), want %q", tt.caller.Name, got.caller, got.cause, tt.want)
		}
	}
}

// Each caller's own words decide, whoever shares its issuer; the first of the
// file wins.
func TestTokenIsTheFirstCallersWhoseRulesHold(t *testing.T) {
	key := ecSigner(t, "k")
	rule := func(name string, values ...string) routes.ClaimRule {
		return routes.ClaimRule{Name: name, Values: values}
	}
	rsOnly, elsewhere := jwtCaller("rs-only"), jwtCaller("elsewhere")
	rsOnly.JWT.Algorithms = []string{"RS256"}
	elsewhere.JWT.Audience = "elsewhere"
	i := inForce(t, newIssuer(key), rsOnly, elsewhere,
		jwtCaller("both", rule("repository", "contoso/app"), rule("environment", "prod", "staging")),
		jwtCaller("groups", rule("groups", "g1", "g2")),
		jwtCaller("number", rule("run", "17")),
		jwtCaller("truth", rule("verified", "true")),
		jwtCaller("repo", rule("repository", "contoso/app")),
	)
	for _, tt := range []struct {
		want  string
		pairs []any
	}{
		{"both", []any{"repository", "contoso/app", "environment", "staging"}},
		{"repo", []any{"repository", "contoso/app", "environment", "test"}},
		{"repo", []any{"repository", "contoso/app"}},
		{"groups", []any{"groups", []string{"g0", "g2"}}},
		{"groups", []any{"groups", "g1"}},
		{"number", []any{"run", 17}},
		{"truth", []any{"verified", true}},
		{"elsewhere", []any{"aud", []string{"elsewhere"}}},
		{"", []any{"groups", []any{[]string{"g1"}}}},
		{"", []any{"groups", []string{"g1,g2"}}},
		{"", []any{"run", 17.5}},
		{"", []any{"verified", false}},
		{"", nil},
	} {
		got := identify(t, i, bearer(key.token(t, nil, with(goodClaims(), tt.pairs...))))
		if got.caller != tt.want {
			t.Errorf("Identify(%v) = %q (%s), want %q", tt.pairs, got.caller, got.cause, tt.want)
		}
	}
}

func TestTokenWithoutKidMeansTheOnlyKey(t *testing.T) {
	for _, published := range []string{"k", ""} {
		key := ecSigner(t, published)
		i := inForce(t, newIssuer(key), jwtCaller("ci"))
		if got := identify(t, i, bearer(key.token(t, map[string]any{"kid": nil}, goodClaims()))); got.caller != "ci" {
			t.Errorf("Identify = %q (%s), want ci", got.caller, got.cause)
		}
	}
}
