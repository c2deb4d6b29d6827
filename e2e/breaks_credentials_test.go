package e2e

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/seed-13b04e61/gateway/sandbox"
)

// identity is one credential of routes.yaml, called as its row, with one route.
type identity struct {
	keys  string // of the credential, but for tenant_id, client_id and authority_host where they are the usual ones
	scope string // "": Graph's
}

// breaker is the set-up that a scene of credentials is made of.
type breaker struct {
	*scene
	t      *testing.T
	world  *sandbox.World
	dir    string
	files  map[string]string
	ids    []string // names of credentials, in order
	yaml   map[string]identity
	routes []string // further ones, as lines of routes.yaml
	more   string   // further sections
}

func newBreaker(t *testing.T, name string) *breaker {
	t.Helper()
	return &breaker{
		scene: &scene{name: name, told: map[string]string{}}, t: t, world: newWorld(t, sandbox.Options{}), dir: t.TempDir(),
		files: map[string]string{}, yaml: map[string]identity{},
	}
}

// app registers an application with a client secret and Graph's permissions.
func (f *breaker) app(name string) (clientID string, secret sandbox.Secret) {
	f.t.Helper()
	id, err := f.world.Entra.RegisterApp(sandbox.App{Name: name})
	if err == nil {
		secret, err = f.world.Entra.AddSecret(id, sandbox.Secret{})
	}
	if err == nil {
		err = f.world.Entra.Grant(id, sandbox.GraphResource, "User.Read.All")
	}
	if err != nil {
		f.t.Fatal(err)
	}
	f.secrets = append(f.secrets, secret.Value)
	return id, secret
}

// row adds one with its credential.
func (f *breaker) row(b breakage, id identity) {
	f.ids, f.yaml[b.name] = append(f.ids, b.name), id
	f.rows = append(f.rows, b)
}

// usual are the keys of a credential of the world's Entra.
func (f *breaker) usual(clientID, more string) string {
	return fmt.Sprintf("tenant_id: %s, client_id: %s, authority_host: %q, %s", sandbox.TenantID, clientID, f.world.Entra.URL(), more)
}

// secret is the file of a client secret that holds text.
func (f *breaker) secret(name, text string) string {
	f.files[name+".secret"] = text
	f.secrets = append(f.secrets, text)
	return "client_secret: {file: " + name + ".secret}"
}

// config is routes.yaml: a credential and a route for each row, and for one that works.
func (f *breaker) config() string {
	var b strings.Builder
	b.WriteString("version: 1\nlisten: {proxy: \"127.0.0.1:0\", admin: \"127.0.0.1:0\"}\ncredentials:\n")
	for _, name := range f.ids {
		fmt.Fprintf(&b, "  %s: {%s}\n", name, f.yaml[name].keys)
	}
	b.WriteString("routes:\n")
	for _, name := range f.ids {
		scope := f.yaml[name].scope
		if scope == "" {
			scope = graphScope
		}
		fmt.Fprintf(&b, "  - {name: %s, hosts: [%s.contoso.com], scope: %q, upstream: %q, credential: %s}\n", name, name, scope, f.world.Graph.URL(), name)
	}
	return b.String() + strings.Join(f.routes, "") + f.more
}

func (f *breaker) start(env ...string) *scene {
	f.t.Helper()
	f.gateway = start(f.t, setup{Dir: f.dir, Config: f.config(), Files: f.files, Env: env})
	return f.scene
}

// live is the command for whoever a token endpoint refuses.
func live() []string { return []string{"check", "--live"} }

func brokenCredentials(t *testing.T) *scene {
	f := newBreaker(t, "credentials")
	f.secretRows()
	f.certificateRows()
	f.directoryRows()
	f.federatedRows()
	f.localRows()
	return f.start("AZURE_POD_IDENTITY_AUTHORITY_HOST=http://" + closedPort(t))
}

func refusedToken(name, cause, remedy string) breakage {
	return breakage{name: name, status: http.StatusBadGateway, code: "token_refused", cause: cause, remedy: remedy, tells: live(), exit: 1, health: true}
}

func (f *breaker) secretRows() {
	id, _ := f.app("wrong-secret")
	f.row(refusedToken("wrong-secret", "the client secret is wrong (AADSTS7000215", "copy the secret's Value"),
		identity{keys: f.usual(id, f.secret("wrong-secret", "wr0ng~Secret-that-nobody-made"))})
	id, s := f.app("secret-id")
	f.row(refusedToken("secret-id", "the client secret is wrong (AADSTS7000215", "it is the secret's ID: create a new secret and copy the column Value"),
		identity{keys: f.usual(id, f.secret("secret-id", s.KeyID))})
	id, _ = f.app("expired-secret")
	old, err := f.world.Entra.AddSecret(id, sandbox.Secret{Expires: time.Now().Add(-time.Hour)})
	if err != nil {
		f.t.Fatal(err)
	}
	f.row(refusedToken("expired-secret", "the client secret has expired (AADSTS7000222", "create a new secret"),
		identity{keys: f.usual(id, f.secret("expired-secret", old.Value))})
}

// certificate writes one of an app, as PEM with its key, and returns it.
func (f *breaker) certificate(name string, until time.Time) (*x509.Certificate, string) {
	f.t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		f.t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(3), Subject: pkix.Name{CommonName: name}, NotBefore: until.Add(-48 * time.Hour), NotAfter: until}
	text, cert := sign(f.t, template, &authority{cert: template, key: key}, key)
	f.files[name+".pem"] = text + privatePEM(f.t, key)
	return cert, text
}

func (f *breaker) certificateRows() {
	later := time.Now().Add(24 * time.Hour)
	id, _ := f.app("expired-certificate")
	cert, _ := f.certificate("expired-certificate", time.Now().Add(-time.Hour))
	if err := f.world.Entra.AddCertificate(id, cert); err != nil {
		f.t.Fatal(err)
	}
	f.row(refusedToken("expired-certificate", "the certificate expired 1h ago", "create a new one, upload it under Certificates & secrets, then replace the file"),
		identity{keys: f.usual(id, "client_certificate: {file: expired-certificate.pem}")})
	id, _ = f.app("unregistered-certificate")
	f.certificate("unregistered-certificate", later)
	f.row(refusedToken("unregistered-certificate", "the certificate is not registered for the application", "upload the certificate (not the key) under Certificates & secrets"),
		identity{keys: f.usual(id, "client_certificate: {file: unregistered-certificate.pem}")})
	_, text := f.certificate("mixed", later)
	f.files["mixed-cert.pem"] = text
	f.certificate("mixed-other", later)
	f.row(refusedToken("key-of-another-certificate", "does not belong to the certificate in", "replace both files together"),
		identity{keys: f.usual(id, "client_certificate: {file: mixed-cert.pem, key_file: mixed-other.pem}")})
	f.files["garbage.pem"] = "this is no certificate\n"
	f.row(refusedToken("garbage-certificate", "garbage.pem is not PEM, nor PKCS#12", "export the certificate and its key as PEM"),
		identity{keys: f.usual(id, "client_certificate: {file: garbage.pem}")})
	write(f.t, filepath.Join(f.dir, "p12.pem"), f.files["mixed.pem"])
	const right = "r1ght-passw0rd-0f-the-file"
	if out, err := exec.Command("openssl", "pkcs12", "-export", "-in", filepath.Join(f.dir, "p12.pem"), "-out", filepath.Join(f.dir, "app.p12"), "-passout", "pass:"+right).CombinedOutput(); err != nil {
		f.t.Fatalf("%v: %s", err, out)
	}
	if err := os.Chmod(filepath.Join(f.dir, "app.p12"), 0o600); err != nil {
		f.t.Fatal(err)
	}
	f.files["p12.password"] = "wr0ng-passw0rd"
	f.secrets = append(f.secrets, right, "wr0ng-passw0rd")
	f.row(refusedToken("wrong-certificate-password", "app.p12 does not open with the password from file", "put the password that the PKCS#12 file was exported with there"),
		identity{keys: f.usual(id, "client_certificate: {file: app.p12, password: {file: p12.password}}")})
}

func (f *breaker) directoryRows() {
	id, s := f.app("wrong-tenant")
	f.row(refusedToken("wrong-tenant", "there is no such tenant (AADSTS90002", "check tenant_id and cloud"),
		identity{keys: fmt.Sprintf("tenant_id: 99999999-0000-cccc-1111-dddd2222eeee, client_id: %s, authority_host: %q, %s", id, f.world.Entra.URL(), f.secret("wrong-tenant", s.Value))})
	f.row(refusedToken("wrong-client", "the tenant knows no such application (AADSTS700016", "check client_id, tenant_id and cloud"),
		identity{keys: f.usual("99999999-aaaa-2222-bbbb-3333cccc4444", f.secret("wrong-client", s.Value))})
	if err := f.world.Entra.AddForeignTenant(sandbox.ForeignTenant{ID: "88888888-0000-cccc-1111-dddd2222eeee", Domain: "contoso.onmicrosoft.us", Cloud: sandbox.USGov}); err != nil {
		f.t.Fatal(err)
	}
	f.row(refusedToken("wrong-cloud", "belongs to the US Government cloud (AADSTS900439", "set cloud: usgov"),
		identity{keys: fmt.Sprintf("tenant_id: contoso.onmicrosoft.us, client_id: %s, authority_host: %q, %s", id, f.world.Entra.URL(), f.secret("wrong-cloud", s.Value))})
	f.row(refusedToken("unknown-resource", "the tenant knows no such resource (AADSTS500011", "check the scope's audience, its slashes above all"),
		identity{keys: f.usual(id, f.secret("unknown-resource", s.Value)), scope: "https://database.windows.net.contoso.com/.default"})
	for _, r := range []struct {
		name          string
		number        int
		cause, remedy string
	}{
		{"conditional-access", 53003, "Conditional Access blocks the application (AADSTS53003", "add the gateway's addresses to the named location"},
		{"missing-consent", 65001, "consent is missing (AADSTS65001", "grant admin consent, then run gateway purge"},
		{"disabled-application", 7000112, "the application is disabled in the tenant", "Enabled for users to sign-in"},
	} {
		id, s := f.app(r.name)
		if err := f.world.Entra.Refuse(id, r.number); err != nil {
			f.t.Fatal(err)
		}
		f.row(refusedToken(r.name, r.cause, r.remedy), identity{keys: f.usual(id, f.secret(r.name, s.Value))})
	}
	f.clockRow()
}

// clockRow has an endpoint whose clock is another than this machine's.
func (f *breaker) clockRow() {
	id, _ := f.app("clock-skew")
	if err := f.world.Entra.Refuse(id, 700024); err != nil {
		f.t.Fatal(err)
	}
	to, err := url.Parse(f.world.Entra.URL())
	if err != nil {
		f.t.Fatal(err)
	}
	p := httputil.NewSingleHostReverseProxy(to)
	p.ModifyResponse = func(r *http.Response) error {
		r.Header.Set("Date", time.Now().Add(-20*time.Minute).UTC().Format(http.TimeFormat))
		return nil
	}
	srv := httptest.NewServer(p)
	f.t.Cleanup(srv.Close)
	f.certificate("clock-skew", time.Now().Add(24*time.Hour))
	f.row(refusedToken("clock-skew", "the assertion is outside of its time (AADSTS700024", "ahead of "+srv.Listener.Addr().String()+"; turn on time synchronisation"),
		identity{keys: fmt.Sprintf("tenant_id: %s, client_id: %s, authority_host: %q, client_certificate: {file: clock-skew.pem}", sandbox.TenantDomain, id, srv.URL)})
}

func (f *breaker) federatedRows() {
	id, _ := f.app("federated")
	if err := f.world.Entra.AddFederated(id, sandbox.Federated{Issuer: f.world.Issuer.URL(), Subject: "system:serviceaccount:shop:orders"}); err != nil {
		f.t.Fatal(err)
	}
	for _, r := range []struct {
		name, subject string
		life          time.Duration
		cause, remedy string
	}{
		{"stale-federated-token", "system:serviceaccount:shop:orders", -time.Hour, "federated token file is stale: expired 1h ago", "stale-federated-token.jwt is no longer renewed; if it is, check this machine's clock"},
		{"federated-subject", "system:serviceaccount:shop:Orders", time.Hour, "in case alone", "compare issuer, subject and audience, case included"},
		{"federated-other-subject", "system:serviceaccount:shop:billing", time.Hour, "no federated credential matches the token's subject", "compare issuer, subject and audience, case included"},
	} {
		token, err := f.world.FederatedToken(r.subject, sandbox.TokenExchangeAudience, r.life)
		if err != nil {
			f.t.Fatal(err)
		}
		f.files[r.name+".jwt"] = token
		f.secrets = append(f.secrets, token)
		f.row(refusedToken(r.name, r.cause, r.remedy), identity{keys: f.usual(id, "federated_token: {file: "+r.name+".jwt}")})
	}
	f.row(refusedToken("missing-federated-file", "never-mounted.jwt: no such file", "check that the token is projected into this container"), identity{keys: f.usual(id, "federated_token: {file: never-mounted.jwt}")})
}

// localRows are those in which nothing can be sent.
func (f *breaker) localRows() {
	id, _ := f.app("local")
	f.row(refusedToken("missing-secret-file", "never-written.secret: no such file", "put the secret's value into file"), identity{keys: f.usual(id, "client_secret: {file: never-written.secret}")})
	f.row(refusedToken("unset-variable", "A_VARIABLE_THAT_IS_NOT_SET is not set", "set A_VARIABLE_THAT_IS_NOT_SET to the secret's value where the gateway is started"), identity{keys: f.usual(id, "client_secret: {env: A_VARIABLE_THAT_IS_NOT_SET}")})
	f.row(refusedToken("no-managed-identity", "there is no managed identity here", "run on an Azure host with an identity assigned"), identity{keys: "managed_identity: {}"})
}

// closedPort is an address at which nobody listens.
func closedPort(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// brokenEndpoints are those that are not there, or not for now.
func brokenEndpoints(t *testing.T) *scene {
	f := newBreaker(t, "endpoints")
	id, s := f.app("app")
	at := func(name, host string) identity {
		return identity{keys: fmt.Sprintf("tenant_id: %s, client_id: %s, authority_host: %q, %s", sandbox.TenantDomain, id, host, f.secret(name, s.Value))}
	}
	gone := func(name, cause, remedy string) breakage {
		b := refusedToken(name, cause, remedy)
		b.status, b.code = http.StatusServiceUnavailable, "token_unavailable"
		return b
	}
	throttled, down := newWorld(t, sandbox.Options{}), newWorld(t, sandbox.Options{})
	throttled.Entra.Fail(sandbox.Throttle)
	down.Entra.Fail(sandbox.Outage)
	sealed := newWorld(t, sandbox.Options{TLS: true})
	f.row(gone("throttled", "too many token requests (status 429", "find out who asks for so many tokens"), at("throttled", throttled.Entra.URL()))
	f.row(gone("outage", "a passing failure", "status page"), at("outage", down.Entra.URL()))
	f.row(gone("endpoint-refuses-connections", "it refuses the connection", "see that it is up and listens at this port, or correct authority_host"), at("endpoint-refuses-connections", "http://"+closedPort(t)))
	f.row(gone("endpoint-without-address", "its name cannot be resolved", "check how it is spelt in authority_host or cloud of this credential, and this machine's DNS"), at("endpoint-without-address", "https://login.contoso.invalid"))
	f.row(gone("endpoint-not-trusted", "its TLS certificate is not trusted", "name that CA's certificate under ca_file of this credential"), at("endpoint-not-trusted", sealed.Entra.URL()))
	return f.start()
}
