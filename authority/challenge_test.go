package authority_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/golang-jwt/jwt/v5"
	"github.com/seed-13b04e61/gateway/authority"
	"github.com/seed-13b04e61/gateway/secrets"
)

func TestChallengesAreReadInEveryShape(t *testing.T) {
	const claims = `{"access_token":{"nbf":{"essential":true,"value":"1657834417"}}}`
	std := base64.StdEncoding.EncodeToString([]byte(claims))
	raw := base64.RawURLEncoding.EncodeToString([]byte(claims))
	tests := map[string]struct {
		lines []string
		want  string
	}{
		"quoted":           {[]string{`Bearer realm="", error="insufficient_claims", claims="` + std + `"`}, claims},
		"bare":             {[]string{`Bearer realm="", authorization_uri=https://login.test/common/oauth2/authorize, error=insufficient_claims, claims=` + raw}, claims},
		"no error":         {[]string{`Bearer claims="` + std + `"`}, claims},
		"odd case":         {[]string{`bEARER ERROR="Insufficient_Claims", CLAIMS="` + std + `"`}, claims},
		"second in line":   {[]string{`Basic realm="x, y", PoP nonce="a=b", Bearer error="insufficient_claims", claims="` + std + `"`}, claims},
		"second line":      {[]string{`Basic realm="x"`, `Bearer error="insufficient_claims", claims="` + std + `"`}, claims},
		"percent":          {[]string{`Bearer error="insufficient_claims", claims="` + strings.ReplaceAll(std, "=", "%3D") + `"`}, claims},
		"plain JSON":       {[]string{`Bearer error="insufficient_claims", claims="` + strings.ReplaceAll(claims, `"`, `\"`) + `"`}, claims},
		"spaces around =":  {[]string{`Bearer error = "insufficient_claims" , claims = "` + std + `"`}, claims},
		"another error":    {[]string{`Bearer error="invalid_token", claims="` + std + `"`}, ""},
		"none":             {[]string{`Bearer error="invalid_token"`}, ""},
		"garbage":          {[]string{`Bearer error="insufficient_claims", claims="!!!"`}, ""},
		"an array":         {[]string{`Bearer claims="` + base64.StdEncoding.EncodeToString([]byte(`[1]`)) + `"`}, ""},
		"too large":        {[]string{`Bearer claims="` + base64.StdEncoding.EncodeToString([]byte(`{"a":"`+strings.Repeat("x", 20<<10)+`"}`)) + `"`}, ""},
		"unclosed":         {[]string{`Bearer claims="abc`}, ""},
		"nothing":          {nil, ""},
		"token68 and more": {[]string{`Negotiate YII==, Bearer claims="` + std + `"`}, claims},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, _ := authority.ParseChallenge(tt.lines)
			if got.Claims != tt.want {
				t.Errorf("ParseChallenge(%q) = %q, want %q", tt.lines, got.Claims, tt.want)
			}
		})
	}
}

func FuzzChallenge(f *testing.F) {
	f.Add(`Bearer realm="", error="insufficient_claims", claims="e30="`)
	f.Add(`Basic x, a=b, "c", =, Bearer claims=%7b%7d`)
	f.Fuzz(func(t *testing.T, line string) {
		c, err := authority.ParseChallenge([]string{line})
		var object map[string]any
		if c.Claims != "" && (err != nil || json.Unmarshal([]byte(c.Claims), &object) != nil) {
			t.Errorf("claims %q, %v", c.Claims, err)
		}
	})
}

func FuzzTokenAnswer(f *testing.F) {
	for _, s := range []string{good, `{"error":"invalid_client","error_codes":[7000215]}`, `[`, `{"access_token":"a\nb"}`} {
		f.Add(200, s)
		f.Add(400, s)
	}
	var status int
	var body string
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		fmt.Fprint(w, body)
	}))
	f.Cleanup(srv.Close)
	c := entra(f, srv.URL)
	f.Fuzz(func(t *testing.T, s int, b string) {
		if s < 200 || s > 599 {
			return
		}
		status, body = s, b
		tok, err := acquire(t, c, "a/.default")
		if (err == nil) == tok.Access.IsZero() {
			t.Errorf("status %d, body %q: token %v, error %v", s, b, !tok.Access.IsZero(), err)
		}
		if err == nil && strings.ContainsAny(tok.Access.Reveal(), "\r\n \x00") {
			t.Errorf("token %q would break a header", tok.Access.Reveal())
		}
	})
}

func TestTokenWithoutRolesIsRemarkedOn(t *testing.T) {
	make := func(claims jwt.MapClaims) secrets.Secret {
		s, err := jwt.NewWithClaims(jwt.SigningMethodHS256, claims).SignedString([]byte("k"))
		if err != nil {
			t.Fatal(err)
		}
		return secrets.New(s)
	}
	bare, err := authority.Claims(make(jwt.MapClaims{"aud": "https://graph.microsoft.com", "tid": "t1", "appid": "a1"}))
	if err != nil || !strings.Contains(bare.NoRoles(), "/t1/adminconsent?client_id=a1") {
		t.Errorf("remark = %q, %v; want the link for consent", bare.NoRoles(), err)
	}
	full, err := authority.Claims(make(jwt.MapClaims{"aud": "x", "tid": "t1", "roles": []string{"User.Read.All"}}))
	if err != nil || full.NoRoles() != "" || full.Roles[0] != "User.Read.All" {
		t.Errorf("Claims = %+v, %v", full, err)
	}
	if _, err := authority.Claims(secrets.New("opaque")); err == nil {
		t.Error("took an opaque token for a JWT")
	}
}

func ExampleParseChallenge() {
	c, err := authority.ParseChallenge([]string{`Bearer error="insufficient_claims", claims="eyJhY2Nlc3NfdG9rZW4iOnt9fQ=="`})
	fmt.Println(c.Claims, err)
	// Output: {"access_token":{}} <nil>
}
