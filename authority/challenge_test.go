package authority_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
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

// The shapes of entra.md §6.3: what Graph and others send, or might.
func TestEveryRuleOfChallengesHolds(t *testing.T) {
	const claims = `{"access_token":{"nbf":{"essential":true, "value":"1657834417"},"xms_caeerror":{"value":"10012"}},"k":"??>>"}`
	std := base64.StdEncoding.EncodeToString([]byte(claims))
	padless, urlsafe := strings.TrimRight(std, "="), base64.URLEncoding.EncodeToString([]byte(claims))
	if std == urlsafe || std == padless || !strings.ContainsAny(std, "+/") {
		t.Fatalf("%s does not tell the alphabets apart", std)
	}
	graph := `Bearer realm="", authorization_uri=https://login.microsoftonline.com/common/oauth2/authorize, client_id="00000003-0000-0000-c000-000000000000", error="insufficient_claims", claims="` + std + `", errorDescription="Continuous access evaluation resulted in challenge"`
	for _, tt := range []struct {
		name  string
		lines []string
		want  string
	}{
		{"Graph, bare URI", []string{graph}, claims},
		{"Graph, quoted URI", []string{strings.Replace(graph, "https://login.microsoftonline.com/common/oauth2/authorize", `"https://login.microsoftonline.com/common/oauth2/authorize"`, 1)}, claims},
		{"claims first", []string{`Bearer claims="` + std + `", error="insufficient_claims", realm="a, b"`}, claims},
		{"parted by white space", []string{`Bearer error=insufficient_claims claims=` + std + ` realm=x`}, claims},
		{"parted by tabs", []string{"Bearer\terror=insufficient_claims,\tclaims=" + std}, claims},
		{"bare URL with a query", []string{`Bearer authorization_uri=https://login.test/t?a=b&c=d:1, claims=` + std}, claims},
		{"escaped quote before", []string{`Bearer error_description="he said \"no, Bearer claims=x\"", claims="` + std + `"`}, claims},
		{"no padding", []string{`Bearer claims="` + padless + `"`}, claims},
		{"URL-safe", []string{`Bearer claims="` + urlsafe + `"`}, claims},
		{"URL-safe, no padding", []string{`Bearer claims="` + strings.TrimRight(urlsafe, "=") + `"`}, claims},
		{"URL-safe, bare", []string{`Bearer claims=` + urlsafe}, claims},
		{"percent-encoded", []string{`Bearer claims="` + url.QueryEscape(std) + `"`}, claims},
		{"percent-encoded, bare", []string{`Bearer claims=` + url.QueryEscape(std)}, claims},
		{"PoP", []string{`PoP nonce="n", error="insufficient_claims", claims="` + std + `"`}, claims},
		{"Bearer after PoP without claims", []string{`PoP nonce="n", Bearer error="insufficient_claims", claims="` + std + `"`}, claims},
		{"third line", []string{`Basic realm="a"`, `PoP nonce="n"`, graph}, claims},
		{"the first of two", []string{`Bearer claims="e30=", Bearer claims="` + std + `"`}, `{}`},
		{"error of an earlier line", []string{`Bearer error="invalid_token"`, `Bearer claims="` + std + `"`}, claims},
		{"error between", []string{`Bearer error="invalid_token", claims="` + std + `"`}, ""},
		{"20 KB", []string{`Bearer error="insufficient_claims", claims="` + base64.StdEncoding.EncodeToString([]byte(`{"a":"`+strings.Repeat("x", 20<<10)+`"}`)) + `"`}, ""},
		{"a line of 70 KB", []string{`Bearer realm="` + strings.Repeat("x", 70<<10) + `", claims="` + std + `"`}, ""},
		{"a string", []string{`Bearer claims="` + base64.StdEncoding.EncodeToString([]byte(`"x"`)) + `"`}, ""},
		{"two objects", []string{`Bearer claims="` + base64.StdEncoding.EncodeToString([]byte(`{}{}`)) + `"`}, ""},
		{"broken escape", []string{`Bearer claims="%zz"`}, ""},
		{"garbage", []string{"\x00\xff=,=\"", `"""`, "=====", `Bearer =claims`}, ""},
		{"empty", []string{`Bearer claims=""`}, ""},
		{"Storage", []string{`Bearer authorization_uri=https://login.microsoftonline.com/t/oauth2/authorize resource_id=https://storage.azure.com`}, ""},
		{"Key Vault", []string{`Bearer authorization="https://login.microsoftonline.com/t", resource="https://vault.azure.net"`}, ""},
		{"ARM", []string{`Bearer authorization_uri="https://login.windows.net/t", error="invalid_token", error_description="The access token is from the wrong issuer"`}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got, _ := authority.ParseChallenge(tt.lines); got.Claims != tt.want {
				t.Errorf("ParseChallenge(%.120q) = %.120q, want %.120q", tt.lines, got.Claims, tt.want)
			}
		})
	}
}
