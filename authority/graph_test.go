package authority_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"
	"github.com/seed-13b04e61/gateway/authority"
	"github.com/seed-13b04e61/gateway/routes"
	"github.com/seed-13b04e61/gateway/secrets"
)

func TestGraphTableIsWhole(t *testing.T) {
	text, err := os.ReadFile("graph_roles.txt")
	if err != nil {
		t.Fatal(err)
	}
	calls, used, ids := 0, map[string]bool{}, map[string]string{}
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if len(f) < 2 || f[0] == "#" {
			continue
		}
		if len(f) == 2 {
			if uuid.Validate(f[1]) != nil || ids[f[0]] != "" || authority.GraphRoleID(f[0]) != f[1] {
				t.Errorf("permission %s: ID %q stands twice, or is none", f[0], f[1])
			}
			ids[f[0]] = f[1]
			continue
		}
		calls++
		call, ok := authority.FindGraphCall(f[0], strings.ReplaceAll(f[1], "{id}", "48D31887-5FAD-4D73-A9F5-3C356E68A038"))
		if !ok || call.Path != f[1] || !slices.Equal(call.Roles, f[2:]) {
			t.Errorf("FindGraphCall(%s %s) = %v, %v, want %v", f[0], f[1], call, ok, f[2:])
		}
		for i, role := range f[2:] {
			used[role] = true
			if slices.Contains(f[2:2+i], role) {
				t.Errorf("%s %s names %s twice", f[0], f[1], role)
			}
		}
	}
	for role := range used {
		if ids[role] == "" {
			t.Errorf("%s has no app role ID", role)
		}
	}
	if calls < 60 || len(ids) != len(used) {
		t.Errorf("%d calls; %d IDs for %d permissions", calls, len(ids), len(used))
	}
}

func TestGraphCallIsFoundByMethodAndPath(t *testing.T) {
	for _, tt := range []struct{ method, path, want string }{
		{"GET", "/v1.0/users", "/v1.0/users"},
		{"GET", "/v1.0/users/", "/v1.0/users"},
		{"GET", "/v1.0/USERS/ann%40contoso.com/MailFolders", "/v1.0/users/{id}/mailFolders"},
		{"GET", "/v1.0/users/delta", "/v1.0/users/delta"},
		{"DELETE", "/v1.0/users/delta", "/v1.0/users/{id}"},
		{"GET", "/v1.0/users/delta/manager", "/v1.0/users/{id}/manager"},
		{"GET", "/v1.0/users/" + strings.Repeat("u", 300), "/v1.0/users/{id}"},
		{"DELETE", "/v1.0/groups/g/members/m/$ref", "/v1.0/groups/{id}/members/{id}/$ref"},
		{"PUT", "/v1.0/users", ""},
		{"get", "/v1.0/users", ""},
		{"GET", "/beta/users", ""},
		{"GET", "/v1.0/users/$count", ""},
		{"GET", "/v1.0/users/%24count", ""},
		{"GET", "/v1.0/users/delta(x=1)", ""},
		{"GET", "/v1.0/sites/contoso.sharepoint.com:/sites/x", ""},
		{"GET", "/v1.0/users//manager", ""},
		{"GET", "/v1.0/users/u/unheard", ""},
		{"GET", "/v1.0/", ""},
		{"GET", "", ""},
	} {
		call, ok := authority.FindGraphCall(tt.method, tt.path)
		got := ""
		if ok {
			got = call.Path
		}
		if got != tt.want {
			t.Errorf("FindGraphCall(%s, %s) = %q, want %q", tt.method, tt.path, got, tt.want)
		}
	}
	if n := testing.AllocsPerRun(100, func() { authority.FindGraphCall("GET", "/v1.0/Users/ANN/mailFolders") }); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}

func TestGraph403SaysWhatIsHeldWantedAndHowToGrantIt(t *testing.T) {
	const oid = "48d31887-5fad-4d73-a9f5-3c356e68a038"
	of := func(aud string, roles ...string) secrets.Secret {
		s, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{"aud": aud, "roles": roles, "oid": oid}).SignedString([]byte("k"))
		if err != nil {
			t.Fatal(err)
		}
		return secrets.New(s)
	}
	app := &routes.Credential{Name: "daemon", TenantID: tenantA, ClientID: "c1", AuthorityHost: "https://login.microsoftonline.us"}
	managed := &routes.Credential{Name: "mi", ClientID: "c2", ManagedIdentity: &routes.ManagedIdentity{}}
	const grant = "az ad app permission add --id c1 --api 00000003-0000-0000-c000-000000000000 --api-permissions 693c5e45-0940-467d-9b8a-1022fb9d42ef=Role"
	for name, tt := range map[string]struct {
		credential   *routes.Credential
		access       secrets.Secret
		method, path string
		remark       string
		remedy       []string
		never        string
	}{
		"missing": {app, of("https://graph.microsoft.com", "User.Read.All"), "GET", "/v1.0/users/u/messages",
			"holds the application permissions User.Read.All; GET /v1.0/users/{id}/messages wants Mail.ReadBasic.All, or a higher one: Mail.Read, Mail.ReadWrite",
			[]string{grant, "admin-consent --id c1", "gateway purge --credential daemon", "https://login.microsoftonline.us/" + tenantA + "/adminconsent?client_id=c1"}, "suffices"},
		"nothing at all": {app, of(authority.GraphApp), "GET", "/v1.0/users/u/messages", "no application permissions (roles); GET /v1.0/users/{id}/messages wants", []string{grant}, "suffices"},
		"another cloud":  {app, of("https://microsoftgraph.chinacloudapi.cn/"), "GET", "/v1.0/users/u/messages", "wants Mail.ReadBasic.All", []string{grant}, "suffices"},
		"enough":         {app, of("https://graph.microsoft.com", "Mail.Read"), "GET", "/v1.0/users/u/messages", "so Mail.Read suffices and something narrower refuses", []string{"answer's body", "Exchange"}, "az ad"},
		"managed identity": {managed, of("https://graph.microsoft.com"), "GET", "/v1.0/users/u/messages", "wants Mail.ReadBasic.All",
			[]string{"principal " + oid, "693c5e45-0940-467d-9b8a-1022fb9d42ef", "up to a day"}, "az ad"},
		"a call that is not in the table": {app, of("https://graph.microsoft.com"), "GET", "/v1.0/unheard", "holds no application permissions", []string{"adminconsent?client_id=c1"}, "az ad"},
		"another API":                     {app, of("api://orders"), "GET", "/v1.0/users/u/messages", "the token for api://orders holds", []string{"adminconsent?client_id=c1"}, "az ad"},
	} {
		remark, remedy := authority.Denied(tt.credential, tt.access).Of(tt.method, tt.path)
		if !strings.Contains(remark, tt.remark) || strings.Contains(remark+remedy, tt.never) {
			t.Errorf("%s: Denied.Of = %q, %q; want %q and no %q", name, remark, remedy, tt.remark, tt.never)
		}
		for _, want := range tt.remedy {
			if !strings.Contains(remedy, want) {
				t.Errorf("%s: the remedy %q lacks %q", name, remedy, want)
			}
		}
	}
}

func FuzzFindGraphCall(f *testing.F) {
	f.Add("GET", "/v1.0/users/u/mailFolders/f/messages")
	f.Add("GET", "/v1.0//")
	f.Fuzz(func(t *testing.T, method, path string) {
		call, ok := authority.FindGraphCall(method, path)
		if ok && (call.Method != method || strings.Count(call.Path, "/") != strings.Count(strings.TrimSuffix(path, "/"), "/")) {
			t.Errorf("FindGraphCall(%q, %q) = %s %s", method, path, call.Method, call.Path)
		}
	})
}

func ExampleFindGraphCall() {
	call, _ := authority.FindGraphCall("POST", "/v1.0/users/ann@contoso.com/sendMail")
	fmt.Println(call.Path, call.Roles, authority.GraphRoleID(call.Roles[0]))
	// Output: /v1.0/users/{id}/sendMail [Mail.Send] b633e1c5-b582-4048-a93e-9f11b44c7e96
}
