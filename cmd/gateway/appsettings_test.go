package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/seed-13b04e61/gateway/routes"
)

func TestSettingsAreReadAsASPNETReadsThem(t *testing.T) {
	text := "\ufeff" + `{
		// a comment, "with quotes"
		"AzureAd:TenantId": "colon", /* and another */
		"azuread": {"ClientId": "a//b", "Tags": ["x", "y z",], "Deep": {"No": null, "Yes": true, "N": 12345678901234567890}},
		"AzureAd": {"tenantid": "last"},
	}`
	s, err := readSettings([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	app := s.section("AzureAd")
	for key, want := range map[string]string{"TenantId": "last", "ClientId": "a//b", "CLIENTID": "a//b", "Tags": "", "nothing": ""} {
		if got := app.get(key); got != want {
			t.Errorf("get(%q) = %q, want %q", key, got, want)
		}
	}
	if got := app.values("Tags"); !slices.Equal(got, []string{"x", "y", "z"}) {
		t.Errorf("values(Tags) = %q", got)
	}
	if got := app.section("Deep").get("N"); got != "12345678901234567890" {
		t.Errorf("get(N) = %q", got)
	}
	for _, bad := range []string{"", "[", `{"a": 1} x`, `{"a" 1}`, strings.Repeat("[", 100) + strings.Repeat("]", 100), "[" + strings.Repeat("1,", 20_000) + "1]", `{"a": "unended`} {
		if _, err := readSettings([]byte(bad)); err == nil {
			t.Errorf("readSettings(%q) took it", bad)
		}
	}
}

func TestScopesOfUsersBecomeThoseOfTheApp(t *testing.T) {
	for _, test := range []struct {
		scopes []string
		want   string
	}{
		{[]string{"user.read", "api://x/.default"}, "api://x/.default"},
		{[]string{"api://00001111-aaaa-2222-bbbb-3333cccc4444/access_as_user"}, "api://00001111-aaaa-2222-bbbb-3333cccc4444/.default"},
		{[]string{"https://database.windows.net//user_impersonation"}, "https://database.windows.net//.default"},
		{[]string{"00001111-aaaa-2222-bbbb-3333cccc4444/x"}, "00001111-aaaa-2222-bbbb-3333cccc4444/.default"},
		{[]string{"api://orders"}, "api://orders/.default"},
		{[]string{"user.read"}, ""},
		{nil, ""},
	} {
		if got, _ := appScope(test.scopes); got != test.want {
			t.Errorf("appScope(%q) = %q, want %q", test.scopes, got, test.want)
		}
	}
}

func TestSectionsBecomeNamesOfRoutes(t *testing.T) {
	for name, want := range map[string]string{
		"OrdersAPI": "orders-api", "MyHTTPServer": "my-http-server", "orders": "orders", "Über Äpi": "ber-pi", "__": "api", "A1B2": "a1b2",
		strings.Repeat("x", 100): strings.Repeat("x", 60),
	} {
		if got := slug(name); got != want {
			t.Errorf("slug(%q) = %q, want %q", name, got, want)
		}
	}
}

// FuzzAppSettings: whatever the settings hold, what init would write is a
// routes.yaml without mistakes, and no secret of theirs is in it.
func FuzzAppSettings(f *testing.F) {
	f.Add(`{"AzureAd": {"TenantId": "contoso.com", "ClientId": "x", "ClientSecret": "hunter2hunter2", "SendX5C": true,
		"ClientCertificates": [{"SourceType": "Path", "CertificateDiskPath": "a b.pfx", "CertificatePassword": "hunter3hunter3"}]},
		"DownstreamApi": {"BaseUrl": "https://user:hunter4hunter4@api.contoso.com/x", "Scopes": "api://x/y z"}}`)
	f.Add(`{"AzureAd": {"Authority": "https://login.microsoftonline.us/contoso.com/v2.0", "ClientId": "# : ${X}\n- [", "ClientCapabilities": ["cp1"]}, "GraphApi": {"BaseUrl": "http://[::1]:80"}}`)
	f.Add(`{"AzureAd": {"TenantId": "a", "ClientId": "\u2028", "ClientCredentials": [{"SourceType": "\nx: y"}, {"SourceType": "Base64Encoded", "Base64EncodedValue": "MIIKhunter5"}]}, "Graph": {"Scopes": "a"}}`)
	f.Fuzz(func(t *testing.T, text string) {
		d, err := translate("appsettings.json", []byte(text), noVariables)
		if err != nil {
			return
		}
		out, err := d.complete("routes.yaml", schemaURL, noVariables)
		if err != nil {
			return
		}
		if _, err := routes.Parse("routes.yaml", []byte(out), noVariables); err != nil {
			t.Errorf("of %s came a file with mistakes:\n%s\n%v", text, out, err)
		}
		all, err := readSettings([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range all {
			key := strings.ToLower(s.path[len(s.path)-1])
			secret := key == "clientsecret" || key == "certificatepassword" || key == "base64encodedvalue"
			if secret && len(s.value) >= 8 && onlyThere(all, s.value) && strings.Contains(out, s.value) {
				t.Errorf("the secret under %v was copied:\n%s", s.path, out)
			}
		}
	})
}

// noVariables is an environment without variables.
func noVariables(string) (string, bool) { return "", false }

// onlyThere tells whether one setting alone, and nothing that init writes by
// itself, holds the value.
func onlyThere(all settings, value string) bool {
	n := 0
	for _, s := range all {
		if strings.Contains(s.value, value) || strings.Contains(strings.Join(s.path, ":"), value) {
			n++
		}
	}
	fixed, err := translate("appsettings.json", []byte(`{"AzureAd": {"TenantId": "t", "ClientId": "c", "ClientSecret": "s"}}`), noVariables)
	if err != nil {
		return false
	}
	return n == 1 && !strings.Contains(fixed.text(schemaURL), value)
}
