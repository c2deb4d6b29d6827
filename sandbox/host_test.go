package sandbox_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptrace"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/seed-13b04e61/gateway/sandbox"
)

func TestEveryPlatformGivesATokenThatGraphTakes(t *testing.T) {
	w := world(t, sandbox.Options{})
	system, _, _ := identities(t, w)
	for _, kind := range platforms() {
		h := host(t, sandbox.HostOptions{World: w, Kind: kind, Identities: []sandbox.ManagedIdentity{system}, TokenDir: t.TempDir()})
		a := identityToken(t, h, kind, sandbox.GraphResource)
		if a.status != http.StatusOK || a.str("token_type") != "Bearer" || a.str("resource") != sandbox.GraphResource {
			t.Fatalf("%s = %d %s, want a token", kind, a.status, a.raw)
		}
		c, want := claimsOf(t, a.str("access_token")), http.StatusOK
		if kind == sandbox.CloudShell {
			want = http.StatusForbidden // a person's, without application permissions
			if c["idtyp"] != nil || c["upn"] == nil {
				t.Errorf("%s: claims = %v, want those of a person", kind, c)
			}
		} else if c["oid"] != system.ObjectID || c["appid"] != system.ClientID || c["xms_mirid"] != system.ResourceID || c["aud"] != sandbox.GraphResource {
			t.Errorf("%s: claims = %v, want those of the identity", kind, c)
		}
		if g := ask(t, w, "GET /v1.0/users", a.str("access_token")); g.status != want {
			t.Errorf("%s: users = %d %s, want %d", kind, g.status, g.raw, want)
		}
		if h.Refused() != 0 {
			t.Errorf("%s: refused = %d, want 0", kind, h.Refused())
		}
	}
}

func TestIdentityIsPickedByEachOfItsNames(t *testing.T) {
	w := world(t, sandbox.Options{})
	system, one, two := identities(t, w)
	all := []sandbox.ManagedIdentity{one, two, system}
	for _, tt := range []struct {
		kind        sandbox.HostKind
		name, value string
		want        string
	}{
		{sandbox.IMDS, "client_id", one.ClientID, one.ObjectID},
		{sandbox.IMDS, "object_id", strings.ToUpper(two.ObjectID), two.ObjectID},
		{sandbox.IMDS, "msi_res_id", one.ResourceID, one.ObjectID},
		{sandbox.AppService, "client_id", two.ClientID, two.ObjectID},
		{sandbox.AppService, "object_id", one.ObjectID, one.ObjectID},
		{sandbox.ContainerApps, "mi_res_id", two.ResourceID, two.ObjectID},
		{sandbox.AzureML, "clientid", one.ClientID, one.ObjectID},
		{sandbox.IMDS, "", "", system.ObjectID},
		{sandbox.AppService, "", "", system.ObjectID},
	} {
		h := host(t, sandbox.HostOptions{World: w, Kind: tt.kind, Identities: all})
		var more []string
		if tt.name != "" {
			more = []string{tt.name, tt.value}
		}
		a := identityToken(t, h, tt.kind, sandbox.GraphResource, more...)
		if a.status != http.StatusOK || claimsOf(t, a.str("access_token"))["oid"] != tt.want {
			t.Errorf("%s %s = %d %s, want the identity %s", tt.kind, tt.name, a.status, a.raw, tt.want)
		}
	}
}

func TestHostsRefuseWhateverTheirPlatformDoes(t *testing.T) {
	w := world(t, sandbox.Options{})
	system, one, two := identities(t, w)
	several, none := []sandbox.ManagedIdentity{one, two}, []sandbox.ManagedIdentity{}
	drop := func(name string) func(*http.Request) { return func(r *http.Request) { r.Header.Del(name) } }
	put := func(name, value string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set(name, value) }
	}
	query := func(name, value string) func(*http.Request) {
		return func(r *http.Request) {
			q := r.URL.Query()
			q.Set(name, value)
			if value == "" {
				q.Del(name)
			}
			r.URL.RawQuery = q.Encode()
		}
	}
	as := func(method string) func(*http.Request) { return func(r *http.Request) { r.Method = method } }
	for _, tt := range []struct {
		kind   sandbox.HostKind
		name   string
		has    []sandbox.ManagedIdentity // nil: the system-assigned one
		change func(*http.Request)
		status int
		words  string
	}{
		{sandbox.IMDS, "no Metadata", nil, drop("Metadata"), 400, "Required metadata header not specified"},
		{sandbox.IMDS, "Metadata: false", nil, put("Metadata", "false"), 400, "Required metadata header not specified"},
		{sandbox.IMDS, "through a proxy", nil, put("X-Forwarded-For", "10.0.0.1"), 400, "X-Forwarded-For"},
		{sandbox.IMDS, "another version", nil, query("api-version", "2017-01-01"), 400, "newest-versions"},
		{sandbox.IMDS, "no resource", nil, query("resource", ""), 400, "Required audience parameter"},
		{sandbox.IMDS, "unknown parameter", nil, query("mi_res_id", one.ResourceID), 400, "not supported"},
		{sandbox.IMDS, "unknown resource", nil, query("resource", "https://graph.microsoft.com/.default"), 400, "AADSTS500011"},
		{sandbox.IMDS, "several and none named", several, func(*http.Request) {}, 400, "Multiple user assigned identities exist"},
		{sandbox.IMDS, "none assigned", none, func(*http.Request) {}, 400, "Identity not found"},
		{sandbox.IMDS, "not assigned", nil, query("client_id", one.ClientID), 400, "Identity not found"},
		{sandbox.IMDS, "by POST", nil, as("POST"), 405, "not allowed"},
		{sandbox.IMDS, "with a token", nil, put("Authorization", "Bearer x"), 400, "malformed"},
		{sandbox.AppService, "no secret", nil, drop("X-IDENTITY-HEADER"), 401, `"statusCode":401`},
		{sandbox.AppService, "wrong secret", nil, put("X-IDENTITY-HEADER", "x"), 401, `"statusCode":401`},
		{sandbox.AppService, "no system-assigned one", several, func(*http.Request) {}, 400, "No Managed Identity found for specified"},
		{sandbox.ContainerApps, "wrong path", nil, func(r *http.Request) { r.URL.Path += "/" }, 404, `"statusCode":404`},
		{sandbox.ServiceFabric, "no secret", nil, drop("Secret"), 400, "SecretHeaderNotFound"},
		{sandbox.ServiceFabric, "an ID", nil, query("client_id", system.ClientID), 400, "not supported"},
		{sandbox.ServiceFabric, "none assigned", none, func(*http.Request) {}, 404, "ManagedIdentityNotFound"},
		{sandbox.ServiceFabric, "no resource", nil, query("resource", ""), 400, "ArgumentNullOrEmpty"},
		{sandbox.AzureML, "wrong secret", nil, put("secret", "x"), 401, "UserError"},
		{sandbox.AzureML, "the ID in its usual spelling", nil, query("client_id", system.ClientID), 400, "not supported"},
		{sandbox.Arc, "an ID", nil, query("client_id", system.ClientID), 400, "not supported"},
		{sandbox.Arc, "wrong key", nil, put("Authorization", "Basic x"), 401, "not valid"},
		{sandbox.CloudShell, "resource in the query", nil, query("resource", sandbox.GraphResource), 400, "malformed"},
	} {
		t.Run(string(tt.kind)+" "+tt.name, func(t *testing.T) {
			if tt.has == nil {
				tt.has = []sandbox.ManagedIdentity{system}
			}
			h := host(t, sandbox.HostOptions{World: w, Kind: tt.kind, Identities: tt.has, TokenDir: t.TempDir()})
			r := identityRequest(t, h, tt.kind, sandbox.GraphResource)
			tt.change(r)
			a := doPinned(t, h, r)
			if a.status != tt.status || !strings.Contains(string(a.raw), tt.words) || a.str("access_token") != "" {
				t.Errorf("answer = %d %s, want %d with %q", a.status, a.raw, tt.status, tt.words)
			}
			if h.Refused()+h.Probes() != 1 {
				t.Errorf("refused = %d, probes = %d, want one of them", h.Refused(), h.Probes())
			}
		})
	}
}

func TestTwoNamesForOneIdentityAreRefused(t *testing.T) {
	w := world(t, sandbox.Options{})
	_, one, _ := identities(t, w)
	h := host(t, sandbox.HostOptions{World: w, Kind: sandbox.IMDS, Identities: []sandbox.ManagedIdentity{one}})
	a := identityToken(t, h, sandbox.IMDS, sandbox.GraphResource, "client_id", one.ClientID, "object_id", one.ObjectID)
	if a.status != http.StatusBadRequest || !strings.Contains(string(a.raw), "Only one") {
		t.Errorf("answer = %d %s, want 400", a.status, a.raw)
	}
}

func TestPlatformHoldsItsTokenUntilNearItsEnd(t *testing.T) {
	w := world(t, sandbox.Options{})
	system, _, _ := identities(t, w)
	h := host(t, sandbox.HostOptions{World: w, Kind: sandbox.IMDS, Identities: []sandbox.ManagedIdentity{system}})
	get := func() string { return identityToken(t, h, sandbox.IMDS, sandbox.GraphResource).str("access_token") }
	first := get()
	if err := w.Entra.Grant(system.ClientID, sandbox.GraphResource, "Group.Read.All"); err != nil {
		t.Fatal(err)
	}
	w.Skew(23 * time.Hour)
	if get() != first {
		t.Error("an hour before its end the token is another, want the same without the new role")
	}
	w.Skew(24*time.Hour - 4*time.Minute)
	second := get()
	if second == first || len(claimsOf(t, second)["roles"].([]any)) != 2 {
		t.Error("four minutes before its end the token is the same, want a new one with the new role")
	}
	if got := identityToken(t, h, sandbox.IMDS, "https://vault.azure.net").str("access_token"); got == second {
		t.Error("two resources share a token")
	}
}

func TestExpiryComesInEveryFormatThatHasBeenSeen(t *testing.T) {
	w := world(t, sandbox.Options{})
	system, _, _ := identities(t, w)
	for format, parse := range map[sandbox.ExpiryFormat]func(any) (time.Time, error){
		"": func(v any) (time.Time, error) {
			n, err := strconv.ParseInt(v.(string), 10, 64)
			return time.Unix(n, 0), err
		},
		sandbox.ExpiryNumber:  func(v any) (time.Time, error) { return time.Unix(int64(v.(float64)), 0), nil },
		sandbox.ExpiryDate:    func(v any) (time.Time, error) { return time.Parse("01/02/2006 15:04:05 -07:00", v.(string)) },
		sandbox.ExpiryRFC3339: func(v any) (time.Time, error) { return time.Parse(time.RFC3339, v.(string)) },
	} {
		h := host(t, sandbox.HostOptions{World: w, Kind: sandbox.AppService, Identities: []sandbox.ManagedIdentity{system}, Expiry: format, Lifetime: 2 * time.Hour})
		a := identityToken(t, h, sandbox.AppService, sandbox.GraphResource)
		at, err := parse(a.json["expires_on"])
		if d := time.Until(at); err != nil || d < 119*time.Minute || d > 2*time.Hour || a.json["expires_in"] != nil {
			t.Errorf("%q: answer = %v (%v), want two hours ahead", format, a.json["expires_on"], err)
		}
	}
	h := host(t, sandbox.HostOptions{
		World: w, Kind: sandbox.AppService, Identities: []sandbox.ManagedIdentity{system},
		Expiry: sandbox.ExpiryAbsent, RefreshIn: time.Hour,
	})
	if a := identityToken(t, h, sandbox.AppService, sandbox.GraphResource); a.json["expires_on"] != nil || a.str("expires_in") == "" || a.str("refresh_in") != "3600" {
		t.Errorf("answer = %v, want expires_in alone, and refresh_in", a.json)
	}
}

func TestProbesAreCountedApart(t *testing.T) {
	w := world(t, sandbox.Options{})
	h := host(t, sandbox.HostOptions{World: w, Kind: sandbox.IMDS})
	h.FailWith(sandbox.Failure{Kind: sandbox.Gone, Times: 1})
	r := identityRequest(t, h, sandbox.IMDS, sandbox.GraphResource)
	r.Header.Del("Metadata")
	if a := do(t, r); a.status != http.StatusBadRequest {
		t.Errorf("probe = %d, want 400: present", a.status)
	}
	h.Fail(sandbox.Unreachable)
	if a := do(t, r.Clone(t.Context())); a.status != http.StatusForbidden || !strings.Contains(string(a.raw), "unreachable network") {
		t.Errorf("probe = %d %s, want 403 as from Docker Desktop", a.status, a.raw)
	}
	if h.Probes() != 2 || h.Requests() != 0 || h.Refused() != 0 {
		t.Errorf("probes, requests, refused = %d, %d, %d, want 2, 0, 0", h.Probes(), h.Requests(), h.Refused())
	}
}

func TestHostFaults(t *testing.T) {
	w := world(t, sandbox.Options{})
	system, _, _ := identities(t, w)
	h := host(t, sandbox.HostOptions{World: w, Kind: sandbox.IMDS, Identities: []sandbox.ManagedIdentity{system}})
	for kind, want := range map[sandbox.Fault]int{
		sandbox.NotFound: 404, sandbox.Gone: 410, sandbox.Throttle: 429, sandbox.ServerError: 500, sandbox.Outage: 503, sandbox.Redirect: 307,
	} {
		h.FailWith(sandbox.Failure{Kind: kind, Times: 2})
		for i, status := range []int{want, want, 200} {
			a := identityToken(t, h, sandbox.IMDS, sandbox.GraphResource)
			if a.status != status {
				t.Errorf("%s, call %d = %d, want %d", kind, i+1, a.status, status)
			}
			if a.status == 429 && a.header.Get("Retry-After") != "60" {
				t.Errorf("Retry-After = %q, want 60", a.header.Get("Retry-After"))
			}
		}
	}
	h.Fail(sandbox.NoToken)
	if a := identityToken(t, h, sandbox.IMDS, sandbox.GraphResource); a.status != 200 || a.json["access_token"] != nil {
		t.Errorf("no-token = %d %s", a.status, a.raw)
	}
	h.Fail(sandbox.Refuse)
	if resp, err := plain().Do(identityRequest(t, h, sandbox.IMDS, sandbox.GraphResource)); err == nil {
		resp.Body.Close()
		t.Error("a refused connection was answered")
	}
	h.Fail(sandbox.Hang)
	done, sent := make(chan int, 1), make(chan struct{})
	r := identityRequest(t, h, sandbox.IMDS, sandbox.GraphResource)
	r = r.WithContext(httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
		WroteRequest: func(httptrace.WroteRequestInfo) { close(sent) },
	}))
	go func() { done <- do(t, r).status }()
	<-sent
	select {
	case status := <-done:
		t.Fatalf("status = %d before Recover", status)
	default:
	}
	h.Recover()
	if got := <-done; got != http.StatusOK {
		t.Errorf("hanging call = %d after Recover, want 200", got)
	}
}

func TestArcKeyIsGoodOnceAndGoneAfterwards(t *testing.T) {
	w := world(t, sandbox.Options{})
	system, _, _ := identities(t, w)
	dir := t.TempDir()
	h := host(t, sandbox.HostOptions{World: w, Kind: sandbox.Arc, Identities: []sandbox.ManagedIdentity{system}, TokenDir: dir})
	ask := func() *http.Request { return identityRequest(t, h, sandbox.Arc, sandbox.GraphResource) }
	first := do(t, ask())
	right := withKey(t, first, ask())
	files, _ := filepath.Glob(filepath.Join(dir, "*.key"))
	if info, err := os.Stat(files[0]); len(files) != 1 || err != nil || info.Size() > 4096 || info.Mode().Perm() != 0o600 {
		t.Errorf("key files = %v (%v), want one for the owner alone", files, err)
	}
	if a := do(t, right); a.status != http.StatusOK {
		t.Errorf("with the key = %d %s, want a token", a.status, a.raw)
	}
	again := ask()
	again.Header.Set("Authorization", right.Header.Get("Authorization"))
	if a := do(t, again); a.status != http.StatusUnauthorized {
		t.Errorf("with a used key = %d, want 401", a.status)
	}
	do(t, ask())
	h.Close()
	if files, _ = filepath.Glob(filepath.Join(dir, "*.key")); len(files) != 0 {
		t.Errorf("key files = %v after Close, want none", files)
	}
}

func TestArcCanBeMadeToLureAClientElsewhere(t *testing.T) {
	w := world(t, sandbox.Options{})
	system, _, _ := identities(t, w)
	arc := func(realm string, size int, has ...sandbox.ManagedIdentity) answer {
		h := host(t, sandbox.HostOptions{World: w, Kind: sandbox.Arc, Identities: has, TokenDir: t.TempDir(), Realm: realm, KeySize: size})
		return do(t, identityRequest(t, h, sandbox.Arc, sandbox.GraphResource))
	}
	if got := arc("/etc/passwd", 0, system).header.Get("WWW-Authenticate"); got != "Basic realm=/etc/passwd" {
		t.Errorf("challenge = %q, want /etc/passwd", got)
	}
	path := strings.TrimPrefix(arc("", 5000, system).header.Get("WWW-Authenticate"), "Basic realm=")
	if info, err := os.Stat(path); err != nil || info.Size() != 5000 {
		t.Errorf("key %q: %v, want 5000 bytes", path, err)
	}
	if a := arc("", 0); a.status != http.StatusBadRequest {
		t.Errorf("without an identity = %d, want 400 before any challenge", a.status)
	}
}

func TestHostOptionsThatMakeNoHost(t *testing.T) {
	w := world(t, sandbox.Options{})
	s := sandbox.ManagedIdentity{SystemAssigned: true}
	for _, o := range []sandbox.HostOptions{
		{Kind: sandbox.IMDS}, {World: w, Kind: "mainframe"}, {World: w, Kind: sandbox.Arc},
		{World: w, Kind: sandbox.IMDS, Identities: []sandbox.ManagedIdentity{s, s}},
	} {
		if _, err := sandbox.StartHost(o); !errors.Is(err, sandbox.ErrOptions) {
			t.Errorf("StartHost(%+v) = %v, want ErrOptions", o.Kind, err)
		}
	}
	if _, err := w.Entra.AddManagedIdentity(sandbox.ManagedIdentity{ObjectID: "x"}); err == nil {
		t.Error("AddManagedIdentity(x) = nil, want an error")
	}
	if _, err := w.Entra.AddManagedIdentity(sandbox.ManagedIdentity{Tenant: "nowhere"}); err == nil {
		t.Error("AddManagedIdentity in no tenant = nil, want an error")
	}
}

func ExampleStartHost() {
	w, err := sandbox.Start(sandbox.Options{})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return
	}
	defer w.Close()
	id, err := w.Entra.AddManagedIdentity(sandbox.ManagedIdentity{SystemAssigned: true})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return
	}
	vm, err := sandbox.StartHost(sandbox.HostOptions{World: w, Kind: sandbox.AppService, Identities: []sandbox.ManagedIdentity{id}})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return
	}
	defer vm.Close()
	for _, line := range vm.Environ() {
		name, _, _ := strings.Cut(line, "=")
		fmt.Println(name)
	}
	// Output:
	// IDENTITY_ENDPOINT
	// IDENTITY_HEADER
}

func FuzzHostRequest(f *testing.F) {
	w := world(f, sandbox.Options{})
	system, one, _ := identities(f, w)
	var hosts []*sandbox.Host
	for _, kind := range platforms() {
		if kind != sandbox.ServiceFabric { // the same over TLS
			has := []sandbox.ManagedIdentity{system, one}
			hosts = append(hosts, host(f, sandbox.HostOptions{World: w, Kind: kind, Identities: has, TokenDir: f.TempDir()}))
		}
	}
	f.Add(uint8(0), "api-version=2018-02-01&resource=https://graph.microsoft.com&client_id="+one.ClientID, "", "true")
	f.Add(uint8(4), "", "resource=https://graph.microsoft.com", "true")
	f.Add(uint8(5), "api-version=2020-06-01&resource=x&a=%zz", "", "Basic x")
	f.Fuzz(func(t *testing.T, which uint8, query, body, header string) {
		h := hosts[int(which)%len(hosts)]
		r, err := http.NewRequestWithContext(t.Context(), map[bool]string{true: "POST", false: "GET"}[body != ""], h.Endpoint(), strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.URL.RawQuery = strings.NewReplacer(" ", "", "#", "").Replace(printable(query))
		for _, name := range []string{"Metadata", "Authorization"} {
			r.Header.Set(name, printable(header))
		}
		a := do(t, r)
		if (a.status == 200) != (a.str("access_token") != "") || (a.status != 200 && len(a.json) == 0) {
			t.Errorf("%s %q %q = %d %q, want a token or an error", h.Endpoint(), query, body, a.status, a.raw)
		}
	})
}

// printable is s without what no client can send.
func printable(s string) string {
	return strings.Map(func(c rune) rune {
		if c < ' ' || c > '~' {
			return -1
		}
		return c
	}, s)
}
