package authority_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-13b04e61/gateway/authority"
	"github.com/seed-13b04e61/gateway/routes"
	"github.com/seed-13b04e61/gateway/sandbox"
	"github.com/seed-13b04e61/gateway/secrets"
	"github.com/seed-13b04e61/gateway/tokens"
)

// requests are those that a fake got, as method, URL and header.
type requests struct {
	mu  sync.Mutex // guards all
	all []*http.Request
}

func (r *requests) add(req *http.Request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, req)
}

func (r *requests) list() []*http.Request {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]*http.Request(nil), r.all...)
}

// fake is a source that answers as answer does, and keeps what it was asked.
func fake(t testing.TB, answer http.HandlerFunc) (address string, got *requests) {
	t.Helper()
	got = &requests{}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got.add(r)
		answer(w, r)
	}))
	t.Cleanup(s.Close)
	return s.URL, got
}

// github answers as the token service of GitHub Actions does: {"count":…,"value":…}.
func github(token string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet || r.Header.Get("Authorization") != "bearer "+marker {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"count": len(token), "value": token})
	}
}

func actions(t testing.TB, address string) *routes.FederatedToken {
	t.Helper()
	return &routes.FederatedToken{Audience: "api://AzureADTokenExchange", URL: &routes.TokenURL{
		Address: address + "/token?api-version=2.0", Header: "Authorization", Format: "bearer {secret}", Secret: secretFile(t, marker), Member: "value",
	}}
}

// metadata answers as the metadata server of Google Cloud does.
func metadata(token string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Metadata-Flavor") != "Google" || r.Header.Get("X-Forwarded-For") != "" {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		w.Header().Set("Metadata-Flavor", "Google")
		_, _ = io.WriteString(w, token+"\n")
	}
}

func by(t testing.TB, host string, f *routes.FederatedToken) *routes.Credential {
	t.Helper()
	c := entra(t, host)
	c.ClientSecret, c.AuthMethod, c.FederatedToken = secrets.Ref{}, "", f
	return c
}

func TestTheSandboxTakesAFederatedTokenFromEachSource(t *testing.T) {
	w := city(t)
	const subject = "repo:contoso/app:ref:refs/heads/main"
	if err := w.Entra.AddFederated(sandbox.ClientID, sandbox.Federated{Issuer: w.Issuer.URL(), Subject: subject}); err != nil {
		t.Fatal(err)
	}
	token, err := w.FederatedToken(subject, sandbox.TokenExchangeAudience, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	address, _ := fake(t, github(token))
	google, _ := fake(t, metadata(token))
	t.Setenv("GCE_METADATA_HOST", strings.TrimPrefix(google, "http://"))
	for name, f := range map[string]*routes.FederatedToken{
		"file": {File: file(t, token+"\n")},
		"exec": {Exec: secrets.Ref{Exec: []string{"/bin/cat", file(t, token+"\n")}, MayRun: true}},
		"url":  actions(t, address),
		"gcp":  {Audience: sandbox.TokenExchangeAudience, GCP: &routes.GCPIdentity{ServiceAccount: "default"}},
	} {
		t.Run(name, func(t *testing.T) {
			c := resident(w)
			c.FederatedToken = f
			d := loaded(t, c)
			succeeds(t, d, c)
			if st := condition(t, d); !st.Ready || st.Kind != "federated_token" {
				t.Errorf("status = %+v", st)
			}
		})
	}
}

func TestAURLSourceIsAskedAnewWithHeaderAndAudience(t *testing.T) {
	t.Setenv("HTTP_PROXY", "http://127.0.0.1:1")
	t.Setenv("http_proxy", "http://127.0.0.1:1")
	token := kubernetes(t, time.Hour, "1")
	address, got := fake(t, github(token))
	e := serve(t, nil)
	f := actions(t, address)
	c := by(t, e.URL, f)
	d := authority.NewDirectory(authority.Options{Dialer: detour{to: e.Listener.Addr().String()}}) // loopback sources go past it
	d.Replace([]*routes.Credential{c})
	if n := len(got.list()); n != 0 {
		t.Errorf("%d requests at load, want none", n)
	}
	key := d.Key(c, graphScope)
	succeeds(t, d, c)
	succeeds(t, d, c)
	all := got.list()
	if len(all) != 2 {
		t.Fatalf("%d requests, want one for each acquisition", len(all))
	}
	if got, want := all[0].URL.String(), "/token?api-version=2.0&audience=api%3A%2F%2FAzureADTokenExchange"; got != want || all[0].Method != "GET" {
		t.Errorf("%s %s, want GET %s", all[0].Method, got, want)
	}
	if h := all[0].Header; h.Get("Accept") != "application/json" || h.Get("Authorization") != "bearer "+marker {
		t.Errorf("header = %v", h)
	}
	form := e.sent()[0]
	if form.Get("client_assertion") != token || form.Get("client_id") != "client-1" || form.Has("client_secret") {
		t.Errorf("form = %v", form)
	}
	d.Replace([]*routes.Credential{c})
	if got := d.Key(c, graphScope); got != key {
		t.Errorf("key = %v after reload, want %v", got, key)
	}
	other := *f
	other.Audience = "api://AzureADTokenExchangeChina"
	if changed := by(t, e.URL, &other); loaded(t, changed).Key(changed, graphScope).Fingerprint == key.Fingerprint {
		t.Error("another audience has the same fingerprint")
	}
}

func TestAURLSourceMayNeedNoSecretAndNameItsOwnAudience(t *testing.T) {
	address, got := fake(t, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = fmt.Fprintf(w, `{"id_token":%q}`, kubernetes(t, time.Hour, "1"))
	})
	e := serve(t, nil)
	c := by(t, e.URL, &routes.FederatedToken{Audience: "x", URL: &routes.TokenURL{Address: address + "/t?audience=own#fragment", Member: "id_token"}})
	succeeds(t, loaded(t, c), c)
	if r := got.list()[0]; r.URL.String() != "/t?audience=own" || len(r.Header["Authorization"]) != 0 {
		t.Errorf("request = %s, %v", r.URL, r.Header)
	}
}

func TestAURLSourceThatGivesNoTokenIsNamed(t *testing.T) {
	stale := kubernetes(t, -3*time.Minute-time.Second, "1")
	status := func(code int, header ...string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			for i := 0; i+1 < len(header); i += 2 {
				w.Header().Set(header[i], header[i+1])
			}
			w.WriteHeader(code)
			_, _ = io.WriteString(w, `{"value":"`+kubernetes(t, time.Hour, "1")+`","message":"m4rker"}`)
		}
	}
	refused := tokens.Failure{Nature: tokens.Propagating, Reach: tokens.ReachCredential, Wait: 5 * time.Second}
	for _, tt := range []struct {
		name         string
		answer       http.HandlerFunc
		want, remedy string
		failure      tokens.Failure
	}{
		{"401", status(401), "answered 401 Unauthorized", "id-token: write", refused},
		{"403", status(403), "answered 403 Forbidden", "id-token: write", refused},
		{"404", status(404), "answered 404 Not Found", "ACTIONS_ID_TOKEN_REQUEST_URL", refused},
		{"400", status(400), "answered 400 Bad Request", "audience", refused},
		{"redirect", status(302, "Location", "https://elsewhere.example/"), "answered 302 Found", "redirects are not followed", refused},
		{"204", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(204) }, "answered 204 No Content", "address", refused},
		{"429", status(429), "answered 429", "wait", tokens.Failure{Nature: tokens.Throttled, Reach: tokens.ReachCredential, Wait: time.Minute}},
		{"429 with a time", status(429, "Retry-After", "7"), "answered 429", "wait", tokens.Failure{Nature: tokens.Throttled, Reach: tokens.ReachCredential, Wait: 7 * time.Second}},
		{"503", status(503), "answered 503", "wait", tokens.Failure{}},
		{"no JSON", says(200, "eyJhbGci m4rker"), "is not a JSON object", "JSON object", refused},
		{"member twice", says(200, `{"value":"a","value":"b"}`), "member twice", "JSON object", refused},
		{"no member", says(200, `{"token":"m4rker"}`), `has no text under "value"`, "federated_token.url.member", refused},
		{"a number", says(200, `{"value":7}`), `has no text under "value"`, "federated_token.url.member", refused},
		{"garbage", says(200, `{"value":"m4rker"}`), "is no JWT", "header.payload.signature", refused},
		{"stale", says(200, `{"value":"`+stale+`"}`), "is stale: expired 3m ago", "clock", refused},
		{"too large", says(200, `{"value":"`+strings.Repeat("a", 64<<10)+`"}`), "larger than 65536 bytes", "address", refused},
		{"breaks off", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			_, _ = io.WriteString(w, `{"value":`)
		}, "cannot be reached", "may reach", tokens.Failure{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			address, got := fake(t, tt.answer)
			e := serve(t, nil)
			c := by(t, e.URL, actions(t, address))
			d := loaded(t, c)
			err := fails(t, d, c)
			if !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Remedy, tt.remedy) || err.Failure() != tt.failure || err.Credential != "c" {
				t.Errorf("error = %s\nfailure = %+v; want %q, %q and %+v", err.Explain(), err.Failure(), tt.want, tt.remedy, tt.failure)
			}
			if st := condition(t, d); st.Ready == err.Refused() || st.LastError == nil {
				t.Errorf("status = %+v", st)
			}
			if n := len(e.sent()); n != 0 || len(got.list()) != 1 {
				t.Errorf("%d requests to the endpoint and %d to the source, want none and one", n, len(got.list()))
			}
		})
	}
}

func TestAURLSourceIsHTTPSOrLoopbackAndTrusted(t *testing.T) {
	for name, u := range map[string]routes.TokenURL{
		"plain http":  {Address: "http://tokens.example.com/t"},
		"no URL":      {Address: "tokens"},
		"bad URL":     {Address: "https://%zz/"},
		"user inside": {Address: "https://m4rker:m4rker@tokens.example.com/"},
		"file":        {Address: "file:///etc/passwd"},
	} {
		t.Run(name, func(t *testing.T) {
			c := by(t, "https://login.example.com", &routes.FederatedToken{URL: &u})
			d := authority.NewDirectory(authority.Options{Dialer: nobody{t}})
			f := d.Replace([]*routes.Credential{c})
			if len(f) != 1 || !f[0].Alarm || !strings.Contains(f[0].Message, "federated_token.url") || f[0].Remedy == "" {
				t.Errorf("findings = %+v", f)
			}
			discreet(t, f)
			fails(t, d, c)
		})
	}
	s, _ := secure(t, nil)
	way := detour{s.Listener.Addr().String(), make(chan string, 1)}
	f := actions(t, "https://tokens.example.com")
	d := authority.NewDirectory(authority.Options{Dialer: way})
	c := by(t, "https://login.example.com", f)
	d.Replace([]*routes.Credential{c})
	if got := fails(t, d, c); got.Refused() || !strings.Contains(got.Error(), "is not trusted") || got.Host != "tokens.example.com" {
		t.Errorf("error = %s", got.Explain())
	}
	if got := <-way.asked; got != "tokens.example.com:443" {
		t.Errorf("dialled %s, want the source by the directory's dialer", got)
	}
	if n := len(s.sent()); n != 0 {
		t.Errorf("%d requests reached a server that is not trusted", n)
	}
}

func TestASourcesSecretIsReadForEachRequest(t *testing.T) {
	address, got := fake(t, github(kubernetes(t, time.Hour, "1")))
	f := actions(t, address)
	f.URL.Secret = secrets.Ref{Env: "GATEWAY_TEST_REQUEST_TOKEN"}
	e := serve(t, nil)
	c := by(t, e.URL, f)
	d := loaded(t, c)
	if err := fails(t, d, c); !strings.Contains(err.Error(), "GATEWAY_TEST_REQUEST_TOKEN is not set") || !strings.Contains(err.Remedy, "id-token: write") {
		t.Errorf("error = %s", err.Explain())
	}
	t.Setenv("GATEWAY_TEST_REQUEST_TOKEN", "bad\nm4rker")
	if err := fails(t, d, c); !err.Refused() || !strings.Contains(err.Error(), "env GATEWAY_TEST_REQUEST_TOKEN holds a control character") || err.Remedy == "" {
		t.Errorf("error = %s", err.Explain())
	}
	if n := len(got.list()); n != 0 {
		t.Errorf("%d requests, want none", n)
	}
	t.Setenv("GATEWAY_TEST_REQUEST_TOKEN", marker)
	succeeds(t, d, c)
}

func TestASourceThatHangsIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &routes.FederatedToken{URL: &routes.TokenURL{Address: "https://tokens.example.com/"}}
		c := by(t, "https://login.example.com", f)
		d := authority.NewDirectory(authority.Options{Dialer: silence{}})
		d.Replace([]*routes.Credential{c})
		began := time.Now()
		got := fails(t, d, c)
		if waited := time.Since(began); waited != 10*time.Second || got.Refused() || !strings.Contains(got.Error(), "did not answer in time") {
			t.Errorf("waited %s, want 10s; error = %v", waited, got)
		}
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		if _, err := d.Acquire(ctx, d.Key(c, graphScope), ""); err == nil || !strings.Contains(err.Error(), "given up") {
			t.Errorf("error = %v", err)
		}
		time.Sleep(time.Minute) // of the bubble, which sees that no dial remains
	})
}

func TestTheMetadataServerOfGoogleCloudIsAskedAsGoogleHasIt(t *testing.T) {
	t.Setenv("HTTP_PROXY", "http://127.0.0.1:1")
	t.Setenv("http_proxy", "http://127.0.0.1:1")
	token := kubernetes(t, time.Hour, "1")
	address, got := fake(t, metadata(token))
	t.Setenv("GCE_METADATA_HOST", strings.TrimPrefix(address, "http://"))
	e := serve(t, nil)
	const account = "app@project.iam.gserviceaccount.com"
	c := by(t, e.URL, &routes.FederatedToken{Audience: "api://AzureADTokenExchange", GCP: &routes.GCPIdentity{ServiceAccount: account}})
	succeeds(t, loaded(t, c), c)
	r := got.list()[0]
	query := url.Values{"audience": {"api://AzureADTokenExchange"}, "format": {"full"}}
	if r.Method != "GET" || r.URL.Path != "/computeMetadata/v1/instance/service-accounts/"+account+"/identity" || r.URL.RawQuery != query.Encode() {
		t.Errorf("%s %s", r.Method, r.URL)
	}
	if sent := e.sent()[0].Get("client_assertion"); sent != token {
		t.Errorf("assertion = %q, want the token without its line end", sent)
	}
}

func TestWhatIsNoMetadataServerIsNotBelieved(t *testing.T) {
	flavored := func(status int, text string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Metadata-Flavor", "Google")
			says(status, text)(w, nil)
		}
	}
	for _, tt := range []struct {
		name         string
		answer       http.HandlerFunc
		want, remedy string
	}{
		{"no flavor", says(200, kubernetes(t, time.Hour, "1")), "Metadata-Flavor is missing", "Google Cloud"},
		{"no account", flavored(404, "m4rker"), "answered 404 Not Found", "service account"},
		{"no JWT", flavored(200, "m4rker"), "is no JWT", "header.payload.signature"},
		{"stale", flavored(200, kubernetes(t, -time.Hour-time.Minute, "1")), "is stale: expired 1h ago", "clock"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			address, _ := fake(t, tt.answer)
			t.Setenv("GCE_METADATA_HOST", strings.TrimPrefix(address, "http://"))
			e := serve(t, nil)
			c := by(t, e.URL, &routes.FederatedToken{GCP: &routes.GCPIdentity{}})
			if got := fails(t, loaded(t, c), c); !got.Refused() || !strings.Contains(got.Error(), tt.want) || !strings.Contains(got.Remedy, tt.remedy) {
				t.Errorf("error = %s", got.Explain())
			}
			if n := len(e.sent()); n != 0 {
				t.Errorf("requests = %d, want none", n)
			}
		})
	}
	for _, host := range []string{"http://metadata", "host/path", "user@host", "host?x", ":80"} {
		t.Setenv("GCE_METADATA_HOST", host)
		c := by(t, "https://login.example.com", &routes.FederatedToken{GCP: &routes.GCPIdentity{}})
		f := authority.NewDirectory(authority.Options{Dialer: nobody{t}}).Replace([]*routes.Credential{c})
		if len(f) != 1 || !f[0].Alarm || !strings.Contains(f[0].Message, "GCE_METADATA_HOST is not a host") {
			t.Errorf("%s: findings = %+v", host, f)
		}
	}
}

func TestACommandsTokenNeedsLeaveAndIsChecked(t *testing.T) {
	for _, tt := range []struct {
		name, script string
		leave        bool
		want         string
	}{
		{"no leave", "echo m4rker", false, "without --allow-exec"},
		{"fails", "echo m4rker; exit 3", true, "exit status 3"},
		{"prints no JWT", "echo m4rker", true, "is no JWT"},
		{"prints a stale one", "echo " + kubernetes(t, -time.Hour-time.Minute, "1"), true, "is stale: expired 1h ago"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := serve(t, nil)
			c := by(t, e.URL, &routes.FederatedToken{Exec: secrets.Ref{Exec: []string{"/bin/sh", "-c", tt.script}, MayRun: tt.leave}})
			d := loaded(t, c) // which runs nothing
			if got := fails(t, d, c); !got.Refused() || !strings.Contains(got.Error(), tt.want) || !strings.Contains(got.Error(), "/bin/sh") || got.Remedy == "" {
				t.Errorf("error = %s", got.Explain())
			}
			if n := len(e.sent()); n != 0 {
				t.Errorf("requests = %d, want none", n)
			}
		})
	}
}
