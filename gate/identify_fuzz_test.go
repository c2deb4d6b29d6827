package gate_test

import (
	"encoding/base64"
	"net/http"
	"strings"
	"testing"

	"github.com/golang-jwt/jwt/v5"

	"github.com/seed-13b04e61/gateway/audit"
	"github.com/seed-13b04e61/gateway/gate"
	"github.com/seed-13b04e61/gateway/routes"
)

// Nobody is recognised by a value of which a plain reading of the RFCs does not
// say the caller's own name and key.
func FuzzNoCredentialButTheCallersOwnIsBelieved(f *testing.F) {
	for _, e := range hostileCredentials() {
		for field, lines := range e.Header {
			if len(lines) == 1 && len(lines[0]) < 1<<10 {
				f.Add(field != "Proxy-Authorization", lines[0])
			}
		}
	}
	f.Add(false, basic("job", jobKey))
	f.Add(true, "bearer  "+jobKey)
	i := inForce(f, nil, keyCaller("job", jobKey), keyCaller("other", otherKey))
	f.Fuzz(func(t *testing.T, viaReverse bool, value string) {
		e := gate.Evidence{Door: audit.Forward, Header: http.Header{"Proxy-Authorization": {value}}}
		fields := []string{"Proxy-Authorization"}
		if viaReverse {
			fields = []string{"X-Gateway-Authorization", "Authorization"}
		}
		for _, field := range fields {
			if viaReverse {
				e = gate.Evidence{Door: audit.Reverse, Header: http.Header{field: {value}}}
			}
			got := identify(t, i, e)
			if want := plainReading(value, field == "Authorization"); got.caller != want {
				t.Errorf("Identify(%s: %q) = %q (%s), want %q", field, value, got.caller, got.cause, want)
			}
			if strings.Contains(got.cause, jobKey) || strings.Contains(got.cause, otherKey) {
				t.Errorf("cause %q holds a key", got.cause)
			}
		}
	})
}

// plainReading is a second, simpler opinion of whose credential a value is.
func plainReading(value string, basicOnly bool) string {
	if len(value) > 16<<10 {
		return ""
	}
	at := strings.IndexByte(value, ' ')
	if at < 0 {
		return ""
	}
	rest := strings.TrimLeft(value[at:], " ")
	for name, key := range map[string]string{"job": jobKey, "other": otherKey} {
		pair := base64.StdEncoding.EncodeToString([]byte(name + ":" + key))
		switch scheme := value[:at]; {
		case len(scheme) == 5 && strings.EqualFold(scheme, "basic") && rest == pair:
			return name
		case !basicOnly && len(scheme) == 6 && strings.EqualFold(scheme, "bearer") && rest == key:
			return name
		}
	}
	return ""
}

// Whatever the parts of a token are, only what the issuer's key signed is
// believed, and only as encoding/json and this gate read it alike.
func FuzzNoTokenButTheIssuersIsBelieved(f *testing.F) {
	key := edSigner(f, "k")
	good := key.token(f, nil, goodClaims())
	parts := strings.Split(good, ".")
	f.Add(encode(f, key.header()), encode(f, goodClaims()), parts[2], true)
	f.Add(`{"alg":"EdDSA","kid":"k","crit":["x"]}`, encode(f, goodClaims()), "", true)
	f.Add(`{"alg":"none"}`, encode(f, goodClaims()), "AAAA", false)
	f.Add(`{"alg":"EdDSA","kid":"k"}`, `{"iss":"`+loopback+`","aud":["gateway",["x"]],"exp":9e9,"sub":"job-7"}`, "", true)
	f.Add(`{"alg":"EdDSA","kid":"k"}`, `{"iss":"`+loopback+`","aud":"gateway","exp":9e9,"exp":1,"sub":"job-7"}`, "", true)
	f.Add(`{"alg":"EdDSA"}`, `[[[[{"a":{"a":1}}]]]]`, "", true)
	i := inForce(f, newIssuer(key), jwtCaller("ci", routes.ClaimRule{Name: "sub", Values: []string{"job-7"}}))
	n := 0
	f.Fuzz(func(t *testing.T, header, claims, signature string, signed bool) {
		token := b64([]byte(header)) + "." + b64([]byte(claims)) + "." + signature
		if signed {
			token = key.raw(t, header, claims)
		}
		n++
		got := identify(t, i, from(n, bearer(token)))
		if got.caller == "" {
			if got.code != gate.CallerUnknown && got.code != gate.RateLimited {
				t.Errorf("code = %q", got.code)
			}
			return
		}
		if !signed && token != good {
			t.Fatalf("Identify = %q by a token that nobody signed: %s", got.caller, token)
		}
		said := jwt.MapClaims{}
		verified, err := jwt.NewParser(jwt.WithExpirationRequired()).ParseWithClaims(token, said, func(*jwt.Token) (any, error) { return key.key.Public(), nil })
		if err != nil && !strings.Contains(err.Error(), "expired") && !strings.Contains(err.Error(), "not valid yet") {
			t.Fatalf("the library refuses it: %v", err)
		}
		if verified.Header["crit"] != nil || verified.Method.Alg() != "EdDSA" {
			t.Errorf("believed with header %v", verified.Header)
		}
		list, isList := said["sub"].([]any)
		if said["iss"] != loopback || said["sub"] != "job-7" && (!isList || len(list) == 0) {
			t.Errorf("believed with claims %v", said)
		}
	})
}
