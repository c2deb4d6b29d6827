package e2e

import (
	"encoding/json"
	"net/http"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// words are those of an answer that do not differ from call to call.
func wordsOf(raw string) string {
	return regexp.MustCompile(`(?m)^(Date|Gateway-Request-Id): .*$|"request_id":"[0-9a-f]+"`).ReplaceAllString(raw, "")
}

// logged is what the gateway logged since mark, once it holds word.
func (a *arena) logged(t testing.TB, mark int, word string) string {
	t.Helper()
	text := ""
	eventually(t, "the log says "+word, func() bool {
		text = a.g.stdout.String()[mark:] + a.g.stderr.String()
		return strings.Contains(text, word)
	})
	return text
}

// refusedQuietly shows a Bearer credential that proves nobody, and checks that
// the log tells why, and the answer does not.
func (g *guard) refusedQuietly(t *testing.T, credential, reason string) {
	t.Helper()
	for _, d := range g.doors {
		plain, err := g.exchange(g.fill(with("{carrier}: Bearer wrong"), d), 1)
		if err != nil {
			t.Fatal(err)
		}
		mark := len(g.g.stdout.String())
		got, err := g.exchange(g.fill(with("{carrier}: Bearer "+credential), d), 1)
		if err != nil || got.codes[0] != "caller_unknown" {
			t.Fatalf("%s: %+v, %v; want caller_unknown", d.name, got, err)
		}
		if wordsOf(got.raw) != wordsOf(plain.raw) {
			t.Errorf("%s: the answer tells this from any other wrong credential:\n%s\n%s", d.name, got.raw, plain.raw)
		}
		text := g.logged(t, mark, reason)
		if strings.Contains(text, credential) || jwtIn(text) >= 0 {
			t.Errorf("%s: the log holds the credential", d.name)
		}
		if raw := g.upstream.take(t); len(raw) != 0 {
			t.Errorf("%s: the upstream was called", d.name)
		}
	}
}

// proves shows a Bearer credential that has to prove somebody.
func (g *guard) proves(t *testing.T, credential string) {
	t.Helper()
	for _, d := range g.doors {
		got, err := g.exchange(g.fill(with("{carrier}: Bearer "+credential), d), 1)
		if err != nil || got.statuses[0] != http.StatusOK {
			t.Errorf("%s: %+v, %v", d.name, got, err)
		}
	}
	g.upstream.take(t)
}

func TestExpiredTokenIsRefusedAndTheReasonIsInTheLogAlone(t *testing.T) {
	t.Parallel()
	g := newGuard(t)
	g.proves(t, g.issuer.token(nil, nil))
	g.refusedQuietly(t, g.issuer.token(nil, object{"exp": time.Now().Add(-time.Hour).Unix()}), "expired")
}

func TestKeyThatWasRotatedAwayIsRefusedAndTheReasonIsInTheLogAlone(t *testing.T) {
	t.Parallel()
	g := newGuard(t)
	old := g.issuer.token(nil, nil)
	g.issuer.mu.Lock()
	g.issuer.keys = append(g.issuer.keys[:0:0], newRSA())
	g.issuer.mu.Unlock()
	g.proves(t, g.issuer.token(nil, nil))
	g.refusedQuietly(t, old, "no key")
	g.proves(t, g.issuer.token(nil, nil))
	g.issuer.mu.Lock()
	defer g.issuer.mu.Unlock()
	if g.issuer.fetched > 3 {
		t.Errorf("unknown keys had the issuer asked %d times", g.issuer.fetched)
	}
}

func TestDeadIssuerRefusesItsTokensAndNobodyElse(t *testing.T) {
	t.Parallel()
	g := newGuard(t)
	token := g.issuer.token(nil, nil)
	g.issuer.srv.Close()
	_, port, _ := strings.Cut(strings.TrimPrefix(g.issuer.url, "http://"), ":")
	g.refusedQuietly(t, token, port)
	for _, d := range g.doors {
		g.good(t, d) // by an API key
		g.arrived(t)
	}
}

// A certificate is revoked while the gateway runs, and while a connection that
// showed it is open.
func TestCertificateRevokedMeanwhileIsRefusedAndTheReasonIsInTheLogAlone(t *testing.T) {
	t.Parallel()
	server, clients := newAuthority(t), newCallersAuthority(t, "clients")
	cert := clients.client(t, uriSAN(t, "spiffe://contoso/mesh"))
	g := emptyGuard(t)
	g.tls = server.trusting(cert)
	g.begin(t, tlsListen, tlsFiles(t, server, clients))
	anonymous := with("X: y")
	if got, err := g.exchange(g.fill(anonymous, g.doors[0]), 1); err != nil || got.statuses[0] != http.StatusOK {
		t.Fatalf("before: %+v, %v", got, err)
	}
	g.upstream.take(t)
	replaceFile(t, filepath.Join(g.g.dir, "crl.pem"), clients.revoke(t, cert.Leaf))
	var last exchanged
	eventually(t, "the revoked certificate is refused", func() bool {
		var err error
		last, err = g.exchange(g.fill(anonymous, g.doors[0]), 1)
		return err != nil
	})
	if last.raw != "" || len(last.statuses) != 0 {
		t.Errorf("the handshake fails with %+v", last)
	}
	g.upstream.take(t)
	g.logged(t, 0, "revoked")
	for _, d := range g.doors {
		if got, err := g.exchange(g.fill(anonymous, d), 1); err == nil {
			t.Errorf("%s: %+v", d.name, got)
		}
	}
	if raw := g.upstream.take(t); len(raw) != 0 {
		t.Errorf("the upstream was called: %q", raw)
	}
	g.tls = server.trusting()
	g.good(t, g.doors[0]) // by a key, over TLS
}

// An OpenID provider that nobody here wrote signs the callers' tokens.
func TestForeignIssuersTokenProvesTheCallerItNames(t *testing.T) {
	t.Parallel()
	const api = "https://api.example.com/jwt"
	f := startForeign(t,
		foreignClient{ID: "basic", Secret: basicSecret, Method: "client_secret_basic", Scope: "orders.read"},
		foreignClient{ID: "post", Secret: postSecret, Method: "client_secret_post", Scope: "orders.read"})
	g := emptyGuard(t)
	s := g.guarded(t, "", nil)
	s.Config = strings.Replace(s.Config, "callers:\n", "callers:\n  foreign: {jwt: {issuer: \""+f.issuer+"\", audience: \""+api+"\", ca_file: issuer-ca.pem, claims: {client_id: post}}}\n", 1)
	s.Config = strings.Replace(s.Config, "callers: [good, ci", "callers: [good, foreign, ci", 1)
	s.Files["issuer-ca.pem"] = f.ca.pem
	g.enter(t, s)
	token := func(form url.Values, user, password string) string {
		form.Set("grant_type", "client_credentials")
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, f.origin+"/token", strings.NewReader(form.Encode()))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		if user != "" {
			req.SetBasicAuth(url.QueryEscape(user), url.QueryEscape(password))
		}
		resp, err := f.client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		var got struct {
			AccessToken string `json:"access_token"`
		}
		if err := json.NewDecoder(resp.Body).Decode(&got); err != nil || strings.Count(got.AccessToken, ".") != 2 {
			t.Fatalf("no JWT from the provider: status %d, %v", resp.StatusCode, err)
		}
		return got.AccessToken
	}
	whole := token(url.Values{"client_id": {"post"}, "client_secret": {postSecret}, "resource": {api}, "scope": {"orders.read"}}, "", "")
	g.proves(t, whole)
	g.refusedQuietly(t, token(url.Values{"resource": {api}, "scope": {"orders.read"}}, "basic", basicSecret), "client_id")
	g.refusedQuietly(t, whole[:len(whole)-8]+"AAAAAAAA", "signature")
	g.proves(t, whole)
}
