package sandbox_test

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/seed-13b04e61/gateway/sandbox"
)

// names returns the display names of a page.
func names(a answer) (out []string) {
	value, _ := a.json["value"].([]any)
	for _, v := range value {
		m, _ := v.(map[string]any)
		s, _ := m["displayName"].(string)
		out = append(out, s)
	}
	return out
}

func TestGraphRefusesTokensThatDoNotVerify(t *testing.T) {
	w, foreign := world(t, sandbox.Options{}), world(t, sandbox.Options{})
	good := token(t, w, "")
	parts := strings.Split(good, ".")
	form := secretForm(w)
	form.Set("scope", "https://management.azure.com/.default")
	own, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	forge := func(method jwt.SigningMethod, key any) string {
		tok := jwt.NewWithClaims(method, claimsOf(t, good))
		head, _, _ := jwt.NewParser().ParseUnverified(good, jwt.MapClaims{})
		tok.Header["kid"] = head.Header["kid"]
		raw, err := tok.SignedString(key)
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	other := claimsOf(t, good)
	other["roles"] = []string{"Directory.ReadWrite.All"}
	payload, _ := jwt.NewWithClaims(jwt.SigningMethodNone, other).SignedString(jwt.UnsafeAllowNoneSignatureType)
	for name, tok := range map[string]string{
		"none":             "",
		"no JWT":           "placeholder",
		"another payload":  parts[0] + "." + strings.Split(payload, ".")[1] + "." + parts[2],
		"cut signature":    parts[0] + "." + parts[1] + ".",
		"alg none":         payload,
		"alg HS256":        forge(jwt.SigningMethodHS256, []byte("secret")),
		"another key":      forge(jwt.SigningMethodRS256, own),
		"another Entra":    token(t, foreign, ""),
		"another audience": post(t, w, sandbox.TenantID, form).str("access_token"),
	} {
		a := ask(t, w, "GET /v1.0/users", tok)
		if a.status != http.StatusUnauthorized || a.graphCode() != "InvalidAuthenticationToken" {
			t.Errorf("%s = %d %s, want 401 InvalidAuthenticationToken", name, a.status, a.raw)
		}
		if h := a.header.Get("WWW-Authenticate"); !strings.HasPrefix(h, `Bearer realm="", authorization_uri="https://`) || strings.Contains(h, "claims") {
			t.Errorf("%s: WWW-Authenticate = %q", name, h)
		}
	}
	r := request(t, "GET", w.Graph.URL()+"/v1.0/users", "")
	r.Header["Authorization"] = []string{"Bearer " + good, "Bearer " + good}
	if a := do(t, r); a.status != http.StatusUnauthorized {
		t.Errorf("two Authorization lines = %d, want 401", a.status)
	}
	if a := ask(t, w, "GET /v1.0/users", good); a.status != http.StatusOK {
		t.Errorf("the good one = %d %s, want 200", a.status, a.raw)
	}
}

func TestTokenExpiresWithTheWorldsClock(t *testing.T) {
	w := world(t, sandbox.Options{})
	tok := token(t, w, "")
	w.Skew(3595 * time.Second)
	if a := ask(t, w, "GET /v1.0/users", tok); a.status != http.StatusOK {
		t.Errorf("before exp = %d, want 200", a.status)
	}
	w.Skew(time.Hour)
	if a := ask(t, w, "GET /v1.0/users", tok); a.status != http.StatusUnauthorized || !bytes.Contains(a.raw, []byte("expired")) {
		t.Errorf("after exp = %d %s, want 401", a.status, a.raw)
	}
	w.Skew(-time.Hour)
	if a := ask(t, w, "GET /v1.0/users", tok); a.status != http.StatusUnauthorized {
		t.Errorf("before nbf = %d, want 401", a.status)
	}
}

func TestRevokedTokensAreRefusedUntilANewOne(t *testing.T) {
	w := world(t, sandbox.Options{})
	old := token(t, w, "")
	w.Graph.RevokeTokens()
	fresh := token(t, w, "") // in the same second, most likely
	if a := ask(t, w, "GET /v1.0/users", old); a.status != http.StatusUnauthorized {
		t.Errorf("old = %d, want 401", a.status)
	}
	if a := ask(t, w, "GET /v1.0/users", fresh); a.status != http.StatusOK {
		t.Errorf("fresh = %d %s, want 200", a.status, a.raw)
	}
	w.Graph.RevokeBefore(time.Now().Add(time.Minute))
	if a := ask(t, w, "GET /v1.0/users", fresh); a.status != http.StatusUnauthorized {
		t.Errorf("issued before the time = %d, want 401", a.status)
	}
	w.Graph.RevokeBefore(time.Time{})
	if a := ask(t, w, "GET /v1.0/users", fresh); a.status != http.StatusOK {
		t.Errorf("with the time taken back = %d, want 200", a.status)
	}
}

func TestMissingPermissionIsForbidden(t *testing.T) {
	w := world(t, sandbox.Options{})
	const id = "12345678-1234-4234-8234-123456789abc"
	get := func() answer {
		r := request(t, "GET", w.Graph.URL()+"/v1.0/reports/getEmailActivityUserDetail(period='D7')", "")
		r.Header.Set("Authorization", "Bearer "+token(t, w, ""))
		r.Header.Set("client-request-id", id)
		return do(t, r)
	}
	a := get()
	inner, _ := a.json["error"].(map[string]any)["innerError"].(map[string]any)
	if a.status != http.StatusForbidden || a.graphCode() != "Authorization_RequestDenied" {
		t.Errorf("answer = %d %s, want 403 Authorization_RequestDenied", a.status, a.raw)
	}
	if inner["client-request-id"] != id || inner["request-id"] != a.header.Get("request-id") || inner["date"] == nil ||
		a.header.Get("client-request-id") != id {
		t.Errorf("innerError = %v, headers %v", inner, a.header)
	}
	if err := w.Entra.Grant(sandbox.ClientID, sandbox.GraphResource, "Reports.Read.All"); err != nil {
		t.Fatal(err)
	}
	if a := get(); a.status != http.StatusOK || !strings.HasPrefix(string(a.raw), "Report Refresh Date") {
		t.Errorf("after the grant = %d %s, want a report", a.status, a.raw)
	}
	if err := w.Entra.Ungrant(sandbox.ClientID, sandbox.GraphResource); err != nil {
		t.Fatal(err)
	}
	if a := ask(t, w, "GET /v1.0/users", token(t, w, "")); a.status != http.StatusForbidden {
		t.Errorf("users without any role = %d, want 403", a.status)
	}
}

func TestPagesLeadThroughAllUsers(t *testing.T) {
	w := world(t, sandbox.Options{})
	tok := token(t, w, "")
	all := names(ask(t, w, "GET /v1.0/users", tok))
	var walked []string
	next := w.Graph.URL() + "/v1.0/users?$top=5&odd=%2F+%2f&$select=displayName&$count=true"
	for pages := 0; next != "" && pages < 10; pages++ {
		r := request(t, "GET", next, "")
		r.Header.Set("Authorization", "Bearer "+tok)
		a := do(t, r)
		if a.json["@odata.count"] != float64(len(all)) {
			t.Errorf("@odata.count = %v, want %d", a.json["@odata.count"], len(all))
		}
		walked = append(walked, names(a)...)
		next = a.str("@odata.nextLink")
		if next != "" && !strings.Contains(next, "odd=%2F+%2f&$select=displayName") {
			t.Errorf("nextLink = %q, want the rest of the query as it was", next)
		}
	}
	if !slices.Equal(walked, all) || len(all) < 10 {
		t.Errorf("walked %v, want %v", walked, all)
	}
}

func TestLinksCarryTheHostThatTheClientUsed(t *testing.T) {
	w := world(t, sandbox.Options{})
	r := request(t, "GET", w.Graph.URL()+"/v1.0/users?$top=2", "")
	r.Host = "graph.microsoft.com"
	r.Header.Set("Authorization", "Bearer "+token(t, w, ""))
	a := do(t, r)
	if next := a.str("@odata.nextLink"); !strings.HasPrefix(next, "https://graph.microsoft.com/v1.0/users?$top=2&$skiptoken=") {
		t.Errorf("nextLink = %q", next)
	}
	if !bytes.Contains(a.raw, []byte("$top=2&$skiptoken")) {
		t.Errorf("body = %s, want a plain ampersand", a.raw)
	}
}

func TestFilterAndSelect(t *testing.T) {
	w := world(t, sandbox.Options{})
	w.Graph.AddUser("Miles O'Brien", "")
	tok := token(t, w, "")
	for filter, want := range map[string][]string{
		"startswith(displayName,'al')":    {"Alex Wilber"},
		"startsWith(displayName,'A')":     nil, // refused
		"displayName eq 'Megan Bowen'":    {"Megan Bowen"},
		"jobTitle eq 'director'":          {"Lee Gu", "Miriam Graham", "Nestor Wilke"},
		"displayName eq 'Miles O''Brien'": {"Miles O'Brien"},
		"displayName eq 'nobody'":         {},
		"displayName ne 'x'":              nil,
		"displayName eq 'a' or 'b'":       nil,
		"displayName eq x":                nil,
	} {
		a := ask(t, w, "GET /v1.0/users?$filter="+url.QueryEscape(filter), tok)
		if want == nil {
			if a.status != http.StatusBadRequest || a.graphCode() != "Request_UnsupportedQuery" {
				t.Errorf("%s = %d %s, want 400", filter, a.status, a.raw)
			}
			continue
		}
		if got := names(a); a.status != http.StatusOK || !slices.Equal(got, want) {
			t.Errorf("%s = %d %v, want %v", filter, a.status, got, want)
		}
	}
	a := ask(t, w, "GET /v1.0/users?$top=1&%24select=ID,surname", tok)
	one, _ := a.json["value"].([]any)
	if m, _ := one[0].(map[string]any); len(m) != 2 || m["surname"] != "Vance" {
		t.Errorf("selected = %v, want id and surname", m)
	}
	for _, bad := range []string{"$select=shoeSize", "$top=0", "$top=x", "$skiptoken=!", "$orderby=id", "a=%zz"} {
		if a := ask(t, w, "GET /v1.0/users?"+bad, tok); a.status != http.StatusBadRequest {
			t.Errorf("%s = %d %s, want 400", bad, a.status, a.raw)
		}
	}
}

func TestUsersAreMadeChangedAndRemoved(t *testing.T) {
	w := world(t, sandbox.Options{})
	reader := token(t, w, "")
	const body = `{"displayName":"Ada Byron","userPrincipalName":"ada@contoso.onmicrosoft.com","passwordProfile":{"password":"x"}}`
	if a := ask(t, w, "POST /v1.0/users "+body, reader); a.status != http.StatusForbidden {
		t.Errorf("POST by a reader = %d, want 403", a.status)
	}
	if err := w.Entra.Grant(sandbox.ClientID, sandbox.GraphResource, "User.ReadWrite.All"); err != nil {
		t.Fatal(err)
	}
	tok := token(t, w, "")
	made := ask(t, w, "POST /v1.0/users "+body, tok)
	at := "/v1.0/users/" + made.str("id")
	if made.status != http.StatusCreated || made.header.Get("Location") != w.Graph.URL()+at || bytes.Contains(made.raw, []byte("password")) {
		t.Fatalf("POST = %d %s, Location %q", made.status, made.raw, made.header.Get("Location"))
	}
	if a := ask(t, w, "POST /v1.0/users "+body, tok); a.status != http.StatusBadRequest {
		t.Errorf("the same again = %d, want 400", a.status)
	}
	if a := ask(t, w, "PATCH "+at+` {"jobTitle":"Analyst","id":"mine"}`, tok); a.status != http.StatusNoContent {
		t.Errorf("PATCH = %d %s, want 204", a.status, a.raw)
	}
	if a := ask(t, w, "GET /v1.0/users/ADA@contoso.onmicrosoft.com?$select=id,jobTitle", tok); a.str("jobTitle") != "Analyst" || a.str("id") != made.str("id") {
		t.Errorf("GET by name = %d %s, want the analyst", a.status, a.raw)
	}
	if a := ask(t, w, "DELETE "+at, tok); a.status != http.StatusNoContent {
		t.Errorf("DELETE = %d, want 204", a.status)
	}
	for _, method := range []string{"GET", "PATCH", "DELETE"} {
		if a := ask(t, w, method+" "+at+" {}", tok); a.status != http.StatusNotFound || a.graphCode() != "Request_ResourceNotFound" {
			t.Errorf("%s afterwards = %d %s, want 404", method, a.status, a.raw)
		}
	}
	for _, bad := range []string{"", "[]", "null", `{"displayName":"x"}`} {
		if a := ask(t, w, "POST /v1.0/users "+bad, tok); a.status != http.StatusBadRequest {
			t.Errorf("POST %q = %d, want 400", bad, a.status)
		}
	}
}

func TestGroupsOrganizationAndMail(t *testing.T) {
	w := world(t, sandbox.Options{})
	if err := w.Entra.Grant(sandbox.ClientID, sandbox.GraphResource, "Mail.Send"); err != nil {
		t.Fatal(err)
	}
	tok := token(t, w, "")
	groups := ask(t, w, "GET /v1.0/groups", tok)
	first, _ := groups.json["value"].([]any)[0].(map[string]any)
	members := ask(t, w, fmt.Sprintf("GET /v1.0/groups/%s/members", first["id"]), tok)
	if got, want := names(members), []string{"Alex Wilber", "Megan Bowen"}; !slices.Equal(got, want) {
		t.Errorf("members of %v = %v, want %v", first["displayName"], got, want)
	}
	if a := ask(t, w, "GET /v1.0/groups/none/members", tok); a.status != http.StatusNotFound {
		t.Errorf("members of nothing = %d, want 404", a.status)
	}
	if a := ask(t, w, "GET /v1.0/organization", tok); !bytes.Contains(a.raw, []byte(sandbox.TenantDomain)) {
		t.Errorf("organization = %d %s", a.status, a.raw)
	}
	const mail = "/v1.0/users/AdeleV@contoso.onmicrosoft.com/sendMail"
	if a := ask(t, w, "POST "+mail+` {"message":{"subject":"hi"}}`, tok); a.status != http.StatusAccepted || len(a.raw) != 0 {
		t.Errorf("sendMail = %d %s, want 202 and nothing", a.status, a.raw)
	}
	if a := ask(t, w, "POST "+mail+` {}`, tok); a.status != http.StatusBadRequest {
		t.Errorf("sendMail without message = %d, want 400", a.status)
	}
}

func TestUploadAndEchoTellWhatCame(t *testing.T) {
	w := world(t, sandbox.Options{})
	if err := w.Entra.Grant(sandbox.ClientID, sandbox.GraphResource, "Files.ReadWrite.All"); err != nil {
		t.Fatal(err)
	}
	tok := token(t, w, "")
	body := strings.Repeat("0123456789", 300_000)
	sum := sha256.Sum256([]byte(body))
	want := hex.EncodeToString(sum[:])
	put := ask(t, w, "PUT /v1.0/drive/items/1/content "+body, tok)
	if put.str("sha256") != want || put.json["length"] != float64(len(body)) {
		t.Errorf("PUT = %d %s, want hash %s", put.status, put.raw, want)
	}
	const pathQuery = "/v1.0/$echo/a%2Fb//c;d?$filter=a%20eq%20'b'&&x=%zz+;"
	echo := ask(t, w, "PROPFIND "+pathQuery+" "+body, tok)
	path, query, _ := strings.Cut(pathQuery, "?")
	if echo.str("method") != "PROPFIND" || echo.str("path") != path || echo.str("query") != query || echo.str("sha256") != want {
		t.Errorf("echo = %d %s, want %s and %s byte for byte", echo.status, echo.raw, path, query)
	}
	headers, _ := json.Marshal(echo.json["header_names"])
	if bytes.Contains(echo.raw, []byte(tok)) || !bytes.Contains(headers, []byte("Authorization")) {
		t.Errorf("echo = %s, want the name of Authorization and not its value", echo.raw)
	}
}

func TestUnknownPathsAndMethods(t *testing.T) {
	w := world(t, sandbox.Options{})
	tok := token(t, w, "")
	if a := ask(t, w, "GET /v1.0/nothing", tok); a.status != http.StatusBadRequest || a.graphCode() != "BadRequest" {
		t.Errorf("unknown path = %d %s, want 400 BadRequest", a.status, a.raw)
	}
	if a := ask(t, w, "PUT /v1.0/users", tok); a.status != http.StatusMethodNotAllowed {
		t.Errorf("PUT /users = %d, want 405", a.status)
	}
	if a := ask(t, w, "GET /v1.0/nothing", ""); a.status != http.StatusUnauthorized {
		t.Errorf("unknown path, bare = %d, want 401", a.status)
	}
	if a := ask(t, w, "HEAD /v1.0/users", tok); a.status != http.StatusOK || len(a.raw) != 0 {
		t.Errorf("HEAD = %d, want 200", a.status)
	}
	if !slices.Contains(w.Graph.Paths(), "GET /v1.0/users/{id}") {
		t.Errorf("Paths() = %v", w.Graph.Paths())
	}
}

func TestThrottleAnswersSoManyCalls(t *testing.T) {
	w := world(t, sandbox.Options{})
	tok := token(t, w, "")
	w.Graph.Throttle(1, 9*time.Second)
	if a := ask(t, w, "GET /v1.0/users", ""); a.status != http.StatusUnauthorized {
		t.Errorf("bare = %d, want 401 and no throttling spent", a.status)
	}
	if a := ask(t, w, "GET /v1.0/users", tok); a.status != 429 || a.header.Get("Retry-After") != "9" || a.graphCode() != "TooManyRequests" {
		t.Errorf("first = %d %v %s, want 429 and 9", a.status, a.header, a.raw)
	}
	if a := ask(t, w, "GET /v1.0/users", tok); a.status != http.StatusOK {
		t.Errorf("second = %d, want 200", a.status)
	}
	w.Graph.Throttle(-1, 0)
	for range 2 {
		if a := ask(t, w, "GET /v1.0/users", tok); a.status != 429 || a.header.Get("Retry-After") != "" {
			t.Errorf("without end = %d %v, want 429 and no header", a.status, a.header)
		}
	}
}

func TestSightingsProveThatNoCallArrivedBare(t *testing.T) {
	w := world(t, sandbox.Options{})
	tok := token(t, w, "")
	ask(t, w, "GET /v1.0/users?$top=1", tok)
	ask(t, w, "GET /v1.0/users", "")
	ask(t, w, "POST /v1.0/users {}", tok)
	if got, want := w.Graph.Counts(), (sandbox.Counts{Calls: 3, Bare: 1, OK: 1, Unauthorized: 1, Forbidden: 1}); got != want {
		t.Errorf("Counts() = %+v, want %+v", got, want)
	}
	seen := w.Graph.Seen()
	sum := sha256.Sum256([]byte(tok))
	if seen[0].Authorization != hex.EncodeToString(sum[:]) || seen[0].ClientID != sandbox.ClientID || seen[0].Query != "$top=1" || seen[0].Status != 200 {
		t.Errorf("first = %+v", seen[0])
	}
	if seen[1].Authorization != "" || seen[1].ClientID != "" || seen[1].Status != 401 {
		t.Errorf("second = %+v, want it bare", seen[1])
	}
}

func FuzzUsersQuery(f *testing.F) {
	w := world(f, sandbox.Options{})
	tok := token(f, w, "")
	for _, seed := range []string{"$filter=startswith(displayName,'A')&$top=2", "$skiptoken=c2tpcDo5OTk5", "$filter='", "$select=,", "%24top=999", "$filter=a eq ''''"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, query string) {
		r := request(t, "GET", w.Graph.URL()+"/v1.0/users", "")
		r.URL.RawQuery = strings.Map(func(c rune) rune {
			if c <= ' ' || c == 0x7f || c == '#' {
				return '+'
			}
			return c
		}, query)
		r.Header.Set("Authorization", "Bearer "+tok)
		if a := do(t, r); a.status != http.StatusOK && a.graphCode() == "" {
			t.Errorf("query %q = %d %s, want a page or a Graph error", query, a.status, a.raw)
		}
	})
}
