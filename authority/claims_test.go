package authority_test

import (
	"encoding/base64"
	"strings"
	"testing"

	"github.com/seed-13b04e61/gateway/authority"
)

func TestOnlyWholeBearerOrPoPChallengesAskForClaims(t *testing.T) {
	const claims = `{"access_token":{"nbf":{"essential":true}}}`
	b64 := base64.StdEncoding.EncodeToString([]byte(claims))
	for _, tt := range []struct{ name, line, want string }{
		{"PoP", `PoP error="insufficient_claims", claims="` + b64 + `"`, claims},
		{"Basic", `Basic realm="x", claims="` + b64 + `"`, ""},
		{"no scheme", `claims="` + b64 + `"`, ""},
		{"never closed", `Bearer error="insufficient_claims", claims="` + b64, ""},
		{"closed by an escape", `Bearer claims="` + b64 + `\`, ""},
		{"error of another challenge", `Bearer error="invalid_token", PoP claims="` + b64 + `"`, claims},
		{"claims of another challenge", `Bearer error="insufficient_claims", Basic claims="` + b64 + `"`, ""},
		{"JSON with a percent sign", `Bearer claims="{\"a\":\"100%\"}"`, `{"a":"100%"}`},
		{"JSON percent-encoded", `Bearer claims=%7B%22a%22%3A1%7D`, `{"a":1}`},
		{"null", `Bearer claims="bnVsbA=="`, ""},
		{"largest", `Bearer claims="` + base64.StdEncoding.EncodeToString([]byte(`{"a":"`+strings.Repeat("x", 8<<10-8)+`"}`)) + `"`, `{"a":"` + strings.Repeat("x", 8<<10-8) + `"}`},
		{"a byte larger", `Bearer claims="` + base64.StdEncoding.EncodeToString([]byte(`{"a":"`+strings.Repeat("x", 8<<10-7)+`"}`)) + `"`, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got, _ := authority.ParseChallenge([]string{tt.line}); got.Claims != tt.want {
				t.Errorf("ParseChallenge(%.80q) = %.80q, want %.80q", tt.line, got.Claims, tt.want)
			}
		})
	}
}
