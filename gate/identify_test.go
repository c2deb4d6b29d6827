package gate_test

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seed-13b04e61/gateway/audit"
	"github.com/seed-13b04e61/gateway/gate"
	"github.com/seed-13b04e61/gateway/routes"
)

func TestNobodyIsKnownBeforeATableIsInForce(t *testing.T) {
	for name, i := range map[string]*gate.Identifier{"new": gate.NewIdentifier(gate.IdentifierOptions{}), "zero": {}} {
		if got := identify(t, i, viaForward(basic("job", jobKey))); got.code != gate.CallerUnknown {
			t.Errorf("Identify by a %s identifier = %q, want caller_unknown", name, got.code)
		}
	}
}

func TestTableWithoutCallersLetsAnyoneCall(t *testing.T) {
	i := gate.NewIdentifier(gate.IdentifierOptions{})
	use(t, i)
	for _, e := range []gate.Evidence{viaForward(), viaForward("junk"), viaReverse("Authorization", "Basic !")} {
		if got := identify(t, i, e); got.caller != "" || got.code != "" || got.how != "" {
			t.Errorf("Identify = %q, %q; want nobody, and no refusal", got.caller, got.code)
		}
	}
	use(t, i, keyCaller("job", jobKey))
	if got := identify(t, i, viaForward()); got.code != gate.CallerUnknown {
		t.Errorf("Identify = %q once there are callers, want caller_unknown", got.code)
	}
	if errs := i.Use(&routes.Table{Callers: []*routes.Caller{}}); errs != nil {
		t.Fatal(errs)
	}
	if got := identify(t, i, viaForward(basic("job", jobKey))); got.code != gate.CallerUnknown {
		t.Errorf("Identify = %q with an empty section, want caller_unknown: nobody may call", got.code)
	}
}

func TestOneProofDecidesAlone(t *testing.T) {
	c := newCA(t)
	uid := uint32(1001)
	i := inForce(t, nil, append(certCallers(), keyCaller("job", jobKey), &routes.Caller{Name: "backup", UID: &uid})...)
	owner := func() (uint32, error) { return 1001, nil }
	stranger := func() (uint32, error) { return 1002, nil }
	nameless := func() (uint32, error) { return 0, fmt.Errorf("%w: gone", gate.ErrNoPeer) }
	billing := verified(c, c.issue(t, "", []string{"spiffe://contoso/billing"}, nil).Leaf).TLS
	unknown := verified(c, c.issue(t, "", []string{"spiffe://contoso/unknown"}, nil).Leaf).TLS
	for name, tt := range map[string]struct {
		line string
		tls  *tls.ConnectionState
		uid  func() (uint32, error)
		want string
		how  string
	}{
		"key before certificate and uid":    {basic("job", jobKey), billing, owner, "job", "api_key"},
		"wrong key, good certificate":       {basic("job", otherKey), billing, owner, "", ""},
		"malformed, good uid":               {"Basic", nil, owner, "", ""},
		"other scheme, good uid":            {"Negotiate YII=", nil, owner, "", ""},
		"certificate before uid":            {"", billing, owner, "billing", "client_certificate"},
		"unknown certificate, good uid":     {"", unknown, owner, "", ""},
		"uid alone":                         {"", nil, owner, "backup", "uid"},
		"uid of nobody":                     {"", nil, stranger, "", ""},
		"uid that the kernel does not tell": {"", nil, nameless, "", ""},
		"nothing":                           {"", nil, nil, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			e := viaForward()
			if tt.line != "" {
				e = viaForward(tt.line)
			}
			e.TLS, e.UID = tt.tls, tt.uid
			got := identify(t, i, e)
			if got.caller != tt.want || got.how != tt.how {
				t.Errorf("Identify = %q by %q (%s), want %q by %q", got.caller, got.how, got.cause, tt.want, tt.how)
			}
		})
	}
}

// An app that sends a placeholder to the reverse door is known by its uid.
func TestPlaceholderOfAnAppIsNoCredential(t *testing.T) {
	uid := uint32(0)
	i := inForce(t, nil, &routes.Caller{Name: "root", UID: &uid})
	for _, value := range []string{"Bearer placeholder", "", "SharedKey x:y", "AWS4-HMAC-SHA256 Credential=x", "Basically x", "basic-v2 x"} {
		e := viaReverse("Authorization", value)
		e.UID = func() (uint32, error) { return 0, nil }
		if got := identify(t, i, e); got.caller != "root" {
			t.Errorf("Identify(Authorization: %s) = %q (%s), want root", value, got.caller, got.cause)
		}
	}
	for _, value := range []string{"Basic", "basic", " Basic x", "\tBasic x", "Basic,x", "\x00Basic x", "\"Basic\" x", "Basic\u00a0x"} {
		e := viaReverse("Authorization", value)
		e.UID = func() (uint32, error) { return 0, nil }
		if got := identify(t, i, e); got.code != gate.CallerUnknown {
			t.Errorf("Identify(Authorization: %q) = %q, want caller_unknown", value, got.caller)
		}
	}
}

func TestKernelIsAskedOnlyWhereACallerHasAUID(t *testing.T) {
	e := viaForward()
	e.UID = func() (uint32, error) {
		t.Error("the kernel was asked")
		return 0, nil
	}
	identify(t, inForce(t, nil, keyCaller("job", jobKey)), e)
}

func TestRemedyNamesTheFieldOfTheDoor(t *testing.T) {
	i := inForce(t, nil, keyCaller("job", jobKey))
	for door, field := range map[audit.Door]string{audit.Forward: "Proxy-Authorization", audit.Tunnel: "Proxy-Authorization", audit.Reverse: "X-Gateway-Authorization"} {
		got := identify(t, i, gate.Evidence{Door: door})
		if !strings.Contains(got.refusal.Remedy, field) {
			t.Errorf("Remedy at %s = %q, want it to name %s", door, got.refusal.Remedy, field)
		}
	}
}

func TestProofOfTwoCallersKeepsTheTableOut(t *testing.T) {
	uid := uint32(7)
	again := keyCaller("job", otherKey)
	for want, callers := range map[string][]*routes.Caller{
		"same API key": {keyCaller("a", jobKey), keyCaller("b", otherKey, jobKey)},
		"same uid":     {{Name: "a", UID: &uid}, {Name: "b", UID: &uid}},
		"same uri_san": {{Name: "a", CertificateURI: "urn:x"}, {Name: "b", CertificateURI: "urn:x"}},
		"same dns_san": {{Name: "a", CertificateDNS: "x.test"}, {Name: "b", CertificateDNS: "X.test"}},
		"same name":    {keyCaller("job", jobKey), again},
	} {
		errs := gate.NewIdentifier(gate.IdentifierOptions{}).Use(&routes.Table{Callers: callers})
		if len(errs) != 1 || !strings.Contains(errs[0].Error(), want) {
			t.Errorf("Use = %v, want one error that says %q", errs, want)
		}
	}
	if errs := gate.NewIdentifier(gate.IdentifierOptions{}).Use(&routes.Table{Callers: []*routes.Caller{keyCaller("a", jobKey, jobKey)}}); errs != nil {
		t.Errorf("Use = %v for one key twice of one caller", errs)
	}
}

func TestReloadTakesEffectAtOnceAndKeepsKeysOfIssuers(t *testing.T) {
	key := ecSigner(t, "k")
	srv := newIssuer(key)
	rule := routes.ClaimRule{Name: "sub", Values: []string{"job-7"}}
	i := inForce(t, srv, jwtCaller("ci", rule), keyCaller("job", jobKey))
	token := bearer(key.token(t, nil, goodClaims()))
	steps := []struct {
		name    string
		callers []*routes.Caller
		jwt     string
		key     string
	}{
		{"as it was", []*routes.Caller{jwtCaller("ci", rule), keyCaller("job", jobKey)}, "ci", "job"},
		{"renamed", []*routes.Caller{jwtCaller("build", rule), keyCaller("job", jobKey)}, "build", "job"},
		{"other rule", []*routes.Caller{jwtCaller("build", routes.ClaimRule{Name: "sub", Values: []string{"job-8"}}), keyCaller("job", jobKey)}, "", "job"},
		{"key revoked", []*routes.Caller{jwtCaller("ci"), keyCaller("job", otherKey)}, "ci", ""},
		{"no tokens", []*routes.Caller{keyCaller("job", jobKey)}, "", "job"},
	}
	for n, step := range steps {
		t.Run(step.name, func(t *testing.T) {
			use(t, i, step.callers...)
			if got := identify(t, i, from(n, token)); got.caller != step.jwt {
				t.Errorf("Identify(token) = %q (%s), want %q", got.caller, got.cause, step.jwt)
			}
			if got := identify(t, i, from(n, viaForward(basic("job", jobKey)))); got.caller != step.key {
				t.Errorf("Identify(key) = %q (%s), want %q", got.caller, got.cause, step.key)
			}
		})
	}
	if n := srv.fetches(); n != 1 {
		t.Errorf("fetches = %d, want 1: the issuer did not change", n)
	}
}

func TestCallsAndReloadsDoNotDisturbEachOther(t *testing.T) {
	key := ecSigner(t, "k")
	i := inForce(t, newIssuer(key), jwtCaller("ci"), keyCaller("job", jobKey))
	token := key.token(t, nil, goodClaims())
	var wg sync.WaitGroup
	for n := range 8 {
		wg.Go(func() {
			for range 100 {
				e, want := bearer(token), "ci"
				if n%2 == 0 {
					e, want = viaForward(basic("job", jobKey)), "job"
				}
				if c, err := i.Identify(t.Context(), e); err != nil || c.Name != want {
					t.Errorf("Identify = %v, %v; want %s", c, err, want)
				}
			}
		})
	}
	wg.Go(func() {
		for n := range 100 {
			c := keyCaller("job", jobKey)
			c.Limits.Concurrency = n
			use(t, i, jwtCaller("ci"), c)
		}
	})
	wg.Wait()
}

// overTLS stands for every host.
type overTLS struct{ addr string }

func (o overTLS) DialContext(ctx context.Context, network, _ string) (net.Conn, error) {
	return (&net.Dialer{}).DialContext(ctx, network, o.addr)
}

// serveTLS serves an issuer's documents under a certificate of its own.
func serveTLS(t *testing.T, s *issuer, cert tls.Certificate) overTLS {
	t.Helper()
	server := httptest.NewUnstartedServer(http.HandlerFunc(s.answer))
	server.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	t.Cleanup(server.Close)
	return overTLS{server.Listener.Addr().String()}
}

// The tokens of real issuers, as their documentation shows them, and what of
// them a table would ask for.
func TestTokensOfKnownIssuersAreUnderstood(t *testing.T) {
	c := newCA(t)
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.cert.Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	const tenant = "72f988bf-86f1-41af-91ab-2d7cd011db47"
	rule := func(name string, values ...string) []routes.ClaimRule {
		return []routes.ClaimRule{{Name: name, Values: values}}
	}
	for name, tt := range map[string]struct {
		issuer, keys, host   string
		header, claims, aud  string
		rules                []routes.ClaimRule
		spoiltFrom, spoiltTo string
	}{
		"GitHub Actions": {
			"https://token.actions.githubusercontent.com", "https://token.actions.githubusercontent.com/.well-known/jwks", "token.actions.githubusercontent.com",
			`{"typ":"JWT","alg":"RS256","x5t":"eBZ_cn3sXYAd0ch4THBKHIgOwOE","kid":"k"}`,
			`{"jti":"9a1f","sub":"repo:contoso/app:environment:prod","environment":"prod","aud":"gateway","ref":"refs/heads/main","sha":"4e5f","repository":"contoso/app","repository_owner":"contoso","actor_id":"12","repository_visibility":"private","repository_id":"74","repository_owner_id":"65","run_id":"1234","run_number":"10","run_attempt":"2","runner_environment":"github-hosted","actor":"octocat","workflow":"deploy","head_ref":"","base_ref":"","event_name":"workflow_dispatch","ref_type":"branch","job_workflow_ref":"contoso/app/.github/workflows/d.yml@refs/heads/main","iss":"https://token.actions.githubusercontent.com",TIMES}`,
			"gateway", rule("repository", "contoso/app"), "contoso/app", "contoso/fork",
		},
		"Kubernetes projected token": {
			"https://kubernetes.default.svc.cluster.local", "https://10.0.0.1/openid/v1/jwks", "kubernetes.default.svc.cluster.local",
			`{"alg":"RS256","kid":"k"}`,
			`{"aud":["gateway"],"iss":"https://kubernetes.default.svc.cluster.local","jti":"d2f","kubernetes.io":{"namespace":"prod","node":{"name":"n1","uid":"a"},"pod":{"name":"reports-0","uid":"b"},"serviceaccount":{"name":"reports","uid":"c"}},"sub":"system:serviceaccount:prod:reports",TIMES}`,
			"gateway", rule("sub", "system:serviceaccount:prod:reports"), "prod:reports", "test:reports",
		},
		"Entra v1": {
			"https://sts.windows.net/" + tenant + "/", "https://login.microsoftonline.com/common/discovery/keys", "sts.windows.net",
			`{"typ":"JWT","alg":"RS256","x5t":"k","kid":"k"}`,
			`{"aud":"api://gateway","iss":"https://sts.windows.net/` + tenant + `/","aio":"E2","appid":"11112222-bbbb-3333-cccc-4444dddd5555","appidacr":"1","idp":"https://sts.windows.net/` + tenant + `/","oid":"o","rh":"r","roles":["Gateway.Call","Other"],"sub":"o","tid":"` + tenant + `","uti":"u","ver":"1.0",TIMES}`,
			"api://gateway", []routes.ClaimRule{{Name: "appid", Values: []string{"11112222-bbbb-3333-cccc-4444dddd5555"}}, {Name: "roles", Values: []string{"Gateway.Call"}}}, "Gateway.Call", "Gateway.Look",
		},
		"Entra v2": {
			"https://login.microsoftonline.com/" + tenant + "/v2.0", "https://login.microsoftonline.com/" + tenant + "/discovery/v2.0/keys", "login.microsoftonline.com",
			`{"typ":"JWT","alg":"RS256","kid":"k"}`,
			`{"aud":"00001111-aaaa-2222-bbbb-3333cccc4444","iss":"https://login.microsoftonline.com/` + tenant + `/v2.0","aio":"E2","azp":"11112222-bbbb-3333-cccc-4444dddd5555","azpacr":"1","oid":"o","rh":"r","sub":"o","tid":"` + tenant + `","uti":"u","ver":"2.0",TIMES}`,
			"00001111-aaaa-2222-bbbb-3333cccc4444", rule("azp", "11112222-bbbb-3333-cccc-4444dddd5555"), "11112222-bbbb", "99992222-bbbb",
		},
		"SPIFFE JWT-SVID": {
			"https://oidc.contoso.test", "https://oidc.contoso.test/keys", "oidc.contoso.test",
			`{"alg":"RS256","kid":"k","typ":"JOSE"}`,
			`{"aud":["gateway"],"iss":"https://oidc.contoso.test","sub":"spiffe://contoso/ns/prod/sa/billing",TIMES}`,
			"gateway", rule("sub", "spiffe://contoso/ns/prod/sa/billing"), "sa/billing", "sa/other",
		},
	} {
		t.Run(name, func(t *testing.T) {
			key := rsaSigner(t, "k", 2048)
			srv := newIssuer(key)
			path := strings.TrimPrefix(strings.TrimSuffix(tt.issuer, "/"), "https://"+tt.host) + "/.well-known/openid-configuration"
			srv.override = map[string]http.HandlerFunc{path: func(w http.ResponseWriter, _ *http.Request) {
				fmt.Fprintf(w, `{"issuer": %q, "jwks_uri": %q}`, tt.issuer, tt.keys)
			}}
			jwks := encode(t, map[string]any{"keys": []any{key.jwk()}})
			srv.override[tt.keys[strings.Index(tt.keys[8:], "/")+8:]] = func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, jwks) }
			dialer := serveTLS(t, srv, c.serve(t, tt.host, "login.microsoftonline.com", "10.0.0.1"))
			i := gate.NewIdentifier(gate.IdentifierOptions{Dialer: dialer})
			use(t, i, &routes.Caller{Name: "app", JWT: &routes.CallerJWT{Issuer: tt.issuer, Audience: tt.aud, CAFile: file, Claims: tt.rules}})
			now := time.Now().Unix()
			claims := strings.Replace(tt.claims, "TIMES", fmt.Sprintf(`"iat":%d,"nbf":%d,"exp":%d`, now, now, now+600), 1)
			if got := identify(t, i, bearer(key.raw(t, tt.header, claims))); got.caller != "app" {
				t.Errorf("Identify = %q (%s), want app", got.caller, got.cause)
			}
			spoilt := strings.ReplaceAll(claims, tt.spoiltFrom, tt.spoiltTo)
			if got := identify(t, i, bearer(key.raw(t, tt.header, spoilt))); got.caller != "" || spoilt == claims {
				t.Errorf("Identify(%s for %s) = %q, want nobody", tt.spoiltTo, tt.spoiltFrom, got.caller)
			}
			other := gate.NewIdentifier(gate.IdentifierOptions{Dialer: dialer})
			use(t, other, &routes.Caller{Name: "app", JWT: &routes.CallerJWT{Issuer: tt.issuer, Audience: tt.aud}})
			if got := identify(t, other, bearer(key.raw(t, tt.header, claims))); got.caller != "" || !strings.Contains(got.cause, "certificate") {
				t.Errorf("Identify without ca_file = %q (%s), want nobody, as the issuer's certificate is not trusted", got.caller, got.cause)
			}
		})
	}
}

// serve signs a server's certificate.
func (c *ca) serve(t testing.TB, hosts ...string) tls.Certificate {
	t.Helper()
	template := *c.cert
	template.IsCA, template.KeyUsage = false, x509.KeyUsageDigitalSignature
	for _, h := range hosts {
		if ip := net.ParseIP(h); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
			continue
		}
		template.DNSNames = append(template.DNSNames, h)
	}
	key, leaf := mint(t, &template, c.cert, c.key)
	return tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: key}
}

func ExampleIdentifier_Identify() {
	i := gate.NewIdentifier(gate.IdentifierOptions{})
	digest := sha256.Sum256([]byte("the-key-that-keygen-printed"))
	errs := i.Use(&routes.Table{Callers: []*routes.Caller{{Name: "reports-job", APIKeys: [][sha256.Size]byte{digest}}}})
	fmt.Println(len(errs))

	evidence := gate.Evidence{Door: audit.Forward, Header: http.Header{}}
	evidence.Header.Set("Proxy-Authorization", "Bearer the-key-that-keygen-printed")
	caller, err := i.Identify(context.Background(), evidence)
	fmt.Println(caller.Name, err)

	evidence.Header.Set("Proxy-Authorization", "Bearer another-key")
	_, err = i.Identify(context.Background(), evidence)
	var refusal *gate.Refusal
	if errors.As(err, &refusal) {
		fmt.Println(refusal)
		fmt.Println("log:", refusal.Cause)
	}
	// Output:
	// 0
	// reports-job <nil>
	// caller_unknown: no caller could be recognised from this call
	// log: the bearer credential is no caller's API key, and no JWT
}
