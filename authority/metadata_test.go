package authority_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-13b04e61/gateway/authority"
	"github.com/seed-13b04e61/gateway/routes"
	"github.com/seed-13b04e61/gateway/tokens"
)

// idp is an OAuth2 server with metadata, in a bubble of time or out of it.
type idp struct {
	mu       sync.Mutex // guards what follows
	issuer   string
	metadata map[string]string // documents by path; absent: 404
	token    http.HandlerFunc  // nil: a good token
	asked    []string          // METHOD path [how the client proved itself]
	status   int               // of metadata when it is not there; 0: 404
}

func (i *idp) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	i.mu.Lock()
	defer i.mu.Unlock()
	entry := r.Method + " " + r.URL.EscapedPath()
	if r.Method == http.MethodPost {
		_ = r.ParseForm()
		switch {
		case r.Header.Get("Authorization") != "":
			entry += " basic"
		case r.FormValue("client_secret") != "":
			entry += " post"
		case r.FormValue("client_assertion") != "":
			entry += " assertion"
		}
		i.asked = append(i.asked, entry)
		if i.token != nil {
			i.token(w, r)
			return
		}
		_, _ = io.WriteString(w, good)
		return
	}
	i.asked = append(i.asked, entry)
	if r.Header.Get("Authorization") != "" || r.URL.RawQuery != "" {
		w.WriteHeader(500)
		return
	}
	doc, ok := i.metadata[r.URL.EscapedPath()]
	switch {
	case ok:
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, doc)
	case i.status != 0:
		w.WriteHeader(i.status)
	default:
		w.WriteHeader(404)
		_, _ = io.WriteString(w, "<html>not here</html>")
	}
}

// log returns what was asked since it was last called, in a line.
func (i *idp) log() string {
	i.mu.Lock()
	defer i.mu.Unlock()
	all := strings.Join(i.asked, ", ")
	i.asked = nil
	return all
}

func (i *idp) set(path, doc string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.metadata[path] = doc
}

const (
	rfc8414 = "/.well-known/oauth-authorization-server"
	oidc    = "/.well-known/openid-configuration"
)

// document is metadata of issuer with a token endpoint on the same host.
func document(issuer, members string) string {
	u, _ := url.Parse(issuer)
	return fmt.Sprintf(`{"issuer":%q,"token_endpoint":"%s://%s/oauth/token"%s}`, issuer, u.Scheme, u.Host, members)
}

// newIDP serves the issuer path below a loopback address.
func newIDP(t testing.TB, path string) *idp {
	t.Helper()
	i := &idp{metadata: map[string]string{}}
	i.issuer = listen(t, i.ServeHTTP).URL + path
	return i
}

func issued(t testing.TB, issuer string) *routes.Credential {
	t.Helper()
	return &routes.Credential{Name: "idp", Issuer: issuer, ClientID: "gateway", ClientSecret: secretFile(t, marker)}
}

func TestMetadataIsFoundWhereEitherStandardHasIt(t *testing.T) {
	for _, tt := range []struct{ path, at, want string }{
		{"", rfc8414, "GET " + rfc8414},
		{"/", rfc8414, "GET " + rfc8414},
		{"/realms/x", rfc8414 + "/realms/x", "GET " + rfc8414 + "/realms/x"},
		{"/realms/x/", rfc8414 + "/realms/x", "GET " + rfc8414 + "/realms/x"},
		{"/realms/x", "/realms/x" + oidc, "GET " + rfc8414 + "/realms/x, GET /realms/x" + oidc},
		{"/realms/x/", "/realms/x" + oidc, "GET " + rfc8414 + "/realms/x, GET /realms/x" + oidc},
		{"", oidc, "GET " + rfc8414 + ", GET " + oidc},
		{"/a%2Fb", "/a%2Fb" + oidc, "GET " + rfc8414 + "/a%2Fb, GET /a%2Fb" + oidc},
	} {
		i := newIDP(t, tt.path)
		i.set(tt.at, document(i.issuer, ""))
		c := issued(t, i.issuer)
		d := loaded(t, c)
		succeeds(t, d, c)
		succeeds(t, d, c)
		if got := i.log(); got != tt.want+", POST /oauth/token basic, POST /oauth/token basic" {
			t.Errorf("issuer path %q: asked %s", tt.path, got)
		}
		if k := d.Key(c, "s"); k.Authority != i.issuer || k.Tenant != "" {
			t.Errorf("key = %+v, want the issuer as authority", k)
		}
	}
}

func TestTheServersMetadataDecidesTheMethod(t *testing.T) {
	for _, tt := range []struct{ method, members, want string }{
		{"", ``, "basic"}, // RFC 8414 §2: the default
		{"", `,"token_endpoint_auth_methods_supported":["client_secret_post","client_secret_basic"]`, "basic"},
		{"", `,"token_endpoint_auth_methods_supported":["private_key_jwt","client_secret_post"]`, "post"},
		{"client_secret_post", `,"token_endpoint_auth_methods_supported":["client_secret_basic"]`, "post"},
		{"client_secret_basic", `,"token_endpoint_auth_methods_supported":["client_secret_post"]`, "basic"},
		{"", `,"token_endpoint_auth_methods_supported":"nonsense","grant_types_supported":["authorization_code","client_credentials"]`, "basic"},
	} {
		i := newIDP(t, "")
		i.set(rfc8414, document(i.issuer, tt.members))
		c := issued(t, i.issuer)
		c.AuthMethod = tt.method
		succeeds(t, loaded(t, c), c)
		if got := i.log(); !strings.HasSuffix(got, "POST /oauth/token "+tt.want) {
			t.Errorf("method %q, metadata %s: asked %s", tt.method, tt.members, got)
		}
	}
}

func TestMetadataThatCannotBeUsedIsRefused(t *testing.T) {
	for _, tt := range []struct{ name, doc, hint, remedy string }{
		{"another issuer", `{"issuer":"https://evil.test","token_endpoint":"https://evil.test/token"}`, `of the issuer "https://evil.test", and not of "ISSUER"`, "exactly"},
		{"a slash more", `{"issuer":"ISSUER/","token_endpoint":"ISSUER/token"}`, `of the issuer "ISSUER/", and not of "ISSUER"`, "final slash"},
		{"no issuer", `{"token_endpoint":"ISSUER/token"}`, `of the issuer ""`, "exactly"},
		{"no endpoint", `{"issuer":"ISSUER"}`, "no usable token_endpoint", "token_endpoint instead"},
		{"relative endpoint", `{"issuer":"ISSUER","token_endpoint":"/token"}`, "no usable token_endpoint", "token_endpoint instead"},
		{"user information", `{"issuer":"ISSUER","token_endpoint":"https://a:b@idp.test/token"}`, "no usable token_endpoint", "token_endpoint instead"},
		{"plain http", `{"issuer":"ISSUER","token_endpoint":"http://idp.test/token"}`, `not https, at "idp.test"`, "publish an https address"},
		{"another scheme", `{"issuer":"ISSUER","token_endpoint":"ftp://127.0.0.1/token"}`, `not https`, "publish an https address"},
		{"no such grant", `{"issuer":"ISSUER","token_endpoint":"ISSUER/t","grant_types_supported":["authorization_code","x y"]}`, "does not take client credentials; its metadata lists authorization_code", "allow the grant type"},
		{"no such method", `{"issuer":"ISSUER","token_endpoint":"ISSUER/t","token_endpoint_auth_methods_supported":["private_key_jwt","tls_client_auth"]}`,
			"the server takes private_key_jwt, tls_client_auth, and a client_secret can do client_secret_basic or client_secret_post", "token_endpoint_auth_method"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			i := newIDP(t, "")
			i.set(rfc8414, strings.ReplaceAll(tt.doc, "ISSUER", i.issuer))
			i.set(oidc, document(i.issuer, "")) // must not be asked
			c := issued(t, i.issuer)
			d := loaded(t, c)
			got := fails(t, d, c)
			want := strings.ReplaceAll(tt.hint, "ISSUER", i.issuer)
			if got.Nature != tokens.Refused || got.Reach != tokens.ReachCredential || !strings.Contains(got.Error(), want) || !strings.Contains(got.Remedy, tt.remedy) {
				t.Errorf("error = %s, want %s", got.Explain(), want)
			}
			if asked := i.log(); asked != "GET "+rfc8414 {
				t.Errorf("asked %s", asked)
			}
			if st := condition(t, d); st.Ready || !strings.Contains(st.Reason, want) || st.Remedy == "" {
				t.Errorf("status = %+v", st)
			}
		})
	}
}

func TestMetadataThatIsNotThereMayYetCome(t *testing.T) {
	for _, tt := range []struct {
		name   string
		doc    string
		status int
		nature tokens.Nature
		hint   string
	}{
		{"not found", "", 404, tokens.Propagating, "publishes no metadata"},
		{"redirect", "", 302, tokens.Propagating, "publishes no metadata"},
		{"failing", "", 503, tokens.Transient, "publishes no metadata"},
		{"HTML", "<html>", 0, tokens.Propagating, "publishes no metadata"},
		{"a member twice", `{"issuer":"a","issuer":"b"}`, 0, tokens.Propagating, "publishes no metadata"},
		{"endless", `{"issuer":"` + strings.Repeat("x", 1<<20) + `"}`, 0, tokens.Propagating, "publishes no metadata"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			i := newIDP(t, "")
			i.status = tt.status
			if tt.doc != "" {
				i.set(rfc8414, tt.doc)
				i.set(oidc, tt.doc)
			}
			c := issued(t, i.issuer)
			got := fails(t, loaded(t, c), c)
			if got.Nature != tt.nature || !strings.Contains(got.Error(), tt.hint) || !strings.Contains(got.Remedy, "token_endpoint") || !strings.Contains(got.Detail, oidc) {
				t.Errorf("error = %s, %+v", got.Explain(), got.Failure())
			}
			if asked := i.log(); strings.Contains(asked, "POST") {
				t.Errorf("asked %s", asked)
			}
		})
	}
	gone := listen(t, nil)
	gone.Close()
	c := issued(t, gone.URL)
	got := fails(t, loaded(t, c), c)
	if got.Failure() != (tokens.Failure{}) || !strings.Contains(got.Error(), "its metadata cannot be fetched: it refuses the connection") || got.Remedy == "" {
		t.Errorf("nobody there: %s", got.Explain())
	}
}

func TestTheTokenEndpointMayLiveElsewhereAndTheStatusSaysWhere(t *testing.T) {
	i := newIDP(t, "")
	elsewhere := serve(t, nil)
	host := strings.TrimPrefix(elsewhere.URL, "http://")
	i.set(rfc8414, fmt.Sprintf(`{"issuer":%q,"token_endpoint":"%s/token"}`, i.issuer, elsewhere.URL))
	c := issued(t, i.issuer)
	d := loaded(t, c)
	if got := "http://" + condition(t, d).Host; got != i.issuer {
		t.Errorf("host before = %s, want the issuer's", got)
	}
	succeeds(t, d, c)
	if got := condition(t, d).Host; got != host {
		t.Errorf("host = %s, want %s", got, host)
	}
}

func TestTheIssuersCAAndDialerAreTheCredentials(t *testing.T) {
	i := &idp{metadata: map[string]string{rfc8414: document("https://example.com", "")}}
	s, ca := secureWith(t, i.ServeHTTP)
	way := detour{s.Listener.Addr().String(), make(chan string, 4)}
	d := authority.NewDirectory(authority.Options{Dialer: way})
	c := issued(t, "https://example.com")
	c.CAFile = file(t, ca)
	d.Replace([]*routes.Credential{c})
	succeeds(t, d, c)
	if got := <-way.asked; got != "example.com:443" {
		t.Errorf("dialled %s", got)
	}
	c2 := issued(t, "https://example.com")
	d2 := authority.NewDirectory(authority.Options{Dialer: way})
	d2.Replace([]*routes.Credential{c2})
	if got := fails(t, d2, c2); !strings.Contains(got.Error(), "its metadata cannot be fetched: its TLS certificate is not trusted") || !strings.Contains(got.Remedy, "ca_file") {
		t.Errorf("without the CA: %s", got.Explain())
	}
}

func TestManyWaitForOneFetch(t *testing.T) {
	i := newIDP(t, "")
	i.set(rfc8414, document(i.issuer, ""))
	c := issued(t, i.issuer)
	d := loaded(t, c)
	var group sync.WaitGroup
	for range 16 {
		group.Go(func() {
			if _, err := d.Acquire(t.Context(), d.Key(c, "s"), ""); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if got := strings.Count(i.log(), "GET"); got != 1 {
		t.Errorf("the metadata was fetched %d times", got)
	}
}

// bubble is an idp behind pipes.
func bubble(t testing.TB) (*idp, *authority.Directory, *routes.Credential) {
	t.Helper()
	i := &idp{issuer: "http://127.0.0.1", metadata: map[string]string{}}
	i.set(rfc8414, document(i.issuer, ""))
	d := authority.NewDirectory(authority.Options{Dialer: newPipes(t, i.ServeHTTP)})
	c := issued(t, i.issuer)
	d.Replace([]*routes.Credential{c})
	return i, d, c
}

const fetched, asked = "GET " + rfc8414, "POST /oauth/token basic"

func TestMetadataIsKeptForADayAndLongerWhileItCannotBeHad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i, d, c := bubble(t)
		succeeds(t, d, c)
		time.Sleep(24*time.Hour - time.Minute)
		d.Replace([]*routes.Credential{c}) // a reload keeps it
		succeeds(t, d, c)
		if got := i.log(); got != fetched+", "+asked+", "+asked {
			t.Errorf("asked %s", got)
		}
		time.Sleep(2 * time.Minute)
		i.metadata, i.status = map[string]string{}, 503
		succeeds(t, d, c)
		succeeds(t, d, c)
		if got := i.log(); got != fetched+", GET "+oidc+", "+asked+", "+asked {
			t.Errorf("asked %s, want one vain fetch and the old endpoint", got)
		}
		time.Sleep(5*time.Minute + time.Second)
		i.set(rfc8414, document(i.issuer, `,"token_endpoint_auth_methods_supported":["client_secret_post"]`))
		succeeds(t, d, c)
		if got := i.log(); got != fetched+", POST /oauth/token post" {
			t.Errorf("asked %s", got)
		}
	})
}

func TestAServerThatHangsIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := authority.NewDirectory(authority.Options{Dialer: silence{}})
		c := issued(t, "https://idp.test")
		d.Replace([]*routes.Credential{c})
		began := time.Now()
		got := fails(t, d, c)
		if took := time.Since(began); took != 10*time.Second || got.Refused() || !strings.Contains(got.Error(), "no answer in time") {
			t.Errorf("after %s: %v", took, got)
		}
		time.Sleep(time.Minute) // the dial, which is the transport's, ends by itself
	})
}

func TestNothingOfTheSecretGoesToTheMetadata(t *testing.T) {
	var seen []string
	i := newIDP(t, "")
	i.set(rfc8414, document(i.issuer, ""))
	front := listen(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if r.Method == http.MethodGet {
			seen = append(seen, fmt.Sprint(r.URL, r.Header, string(body)))
		}
		r.Body = io.NopCloser(strings.NewReader(string(body)))
		i.ServeHTTP(w, r)
	})
	i.set(rfc8414, document(front.URL, ""))
	c := issued(t, front.URL)
	succeeds(t, loaded(t, c), c)
	for _, s := range seen {
		for _, bad := range []string{"m4rker", base64.StdEncoding.EncodeToString([]byte("gateway:"))[:8], "Authorization"} {
			if strings.Contains(s, bad) {
				t.Errorf("the request for metadata holds %q", bad)
			}
		}
	}
	if len(seen) != 1 {
		t.Errorf("requests for metadata = %d", len(seen))
	}
}

func FuzzMetadata(f *testing.F) {
	i := &idp{issuer: "http://127.0.0.1", metadata: map[string]string{}} // the same in every worker
	front := listen(f, i.ServeHTTP)
	for _, s := range []string{
		document(i.issuer, ""), document(i.issuer, `,"grant_types_supported":["client_credentials"],"token_endpoint_auth_methods_supported":[1]`),
		`{"issuer":"x"}`, `[`, "", `{"issuer":"` + i.issuer + `","token_endpoint":"https://[::1"}`,
	} {
		f.Add(s)
	}
	elsewhere := false
	d := authority.NewDirectory(authority.Options{Dialer: onlyTo{"127.0.0.1:80", front.Listener.Addr().String(), &elsewhere}})
	f.Fuzz(func(t *testing.T, doc string) {
		i.set(rfc8414, doc)
		c := issued(t, i.issuer)
		c.TokenParams = []routes.Param{{Name: "once", Value: doc}} // another configuration, whose metadata is not known yet
		d.Replace([]*routes.Credential{c})
		elsewhere = false
		_, err := d.Acquire(t.Context(), d.Key(c, "s"), "")
		if err == nil && (!strings.Contains(doc, "issuer") || elsewhere) {
			t.Errorf("a token by the metadata %q", doc)
		}
		if err != nil && strings.Contains(err.Error(), "m4rker") {
			t.Errorf("the error shows the secret: %v", err)
		}
		i.log()
	})
}

// onlyTo dials to for one address, and notes that another was asked for.
type onlyTo struct {
	addr, to  string
	elsewhere *bool
}

func (o onlyTo) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	if addr != o.addr {
		*o.elsewhere = true
		return nil, errors.New("not here")
	}
	var dialer net.Dialer
	return dialer.DialContext(ctx, network, o.to)
}
