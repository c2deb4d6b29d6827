package sql_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	stdsql "database/sql"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	mssql "github.com/microsoft/go-mssqldb"

	"github.com/seed-13b04e61/gateway/audit"
	"github.com/seed-13b04e61/gateway/gate"
	"github.com/seed-13b04e61/gateway/routes"
	"github.com/seed-13b04e61/gateway/sandbox"
	"github.com/seed-13b04e61/gateway/secrets"
	"github.com/seed-13b04e61/gateway/sql"
	"github.com/seed-13b04e61/gateway/tokens"
)

const scope = sandbox.SQLResource + "//.default"

// purse gets tokens of the sandbox's Entra, and keeps the last one.
type purse struct {
	testing.TB
	world *sandbox.World

	mu   sync.Mutex // guards what follows
	last *tokens.Token
}

func (p *purse) Key(c *routes.Credential, scope string) tokens.Key {
	return tokens.Key{Credential: c.Name, Scope: scope}
}

func (p *purse) Token(ctx context.Context, k tokens.Key) (tokens.Token, tokens.Origin, error) {
	p.mu.Lock()
	last := p.last
	p.mu.Unlock()
	if last != nil {
		return *last, tokens.FromCache, nil
	}
	return p.Renew(ctx, k, tokens.Token{}, "")
}

func (p *purse) Renew(context.Context, tokens.Key, tokens.Token, string) (tokens.Token, tokens.Origin, error) {
	resp, err := http.PostForm(p.world.Entra.TokenURL(sandbox.TenantID), url.Values{"grant_type": {"client_credentials"},
		"client_id": {sandbox.ClientID}, "client_secret": {p.world.Secret()}, "scope": {scope}})
	if err != nil {
		return tokens.Token{}, "", err
	}
	defer resp.Body.Close()
	defer http.DefaultClient.CloseIdleConnections()
	var answer struct {
		Token string `json:"access_token"`
		Lives int    `json:"expires_in"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil || answer.Token == "" {
		return tokens.Token{}, "", fmt.Errorf("no token: status %d, %w", resp.StatusCode, err)
	}
	t := tokens.Token{Access: secrets.New(answer.Token), Expires: time.Now().Add(time.Duration(answer.Lives) * time.Second)}
	p.mu.Lock()
	p.last = &t
	p.mu.Unlock()
	return t, tokens.FromIdentityProvider, nil
}

// ledger keeps the records of sessions, and tells of new ones.
type ledger struct {
	mu  sync.Mutex
	all []audit.Session
	new chan struct{}
}

func (l *ledger) RecordSession(s *audit.Session) {
	l.mu.Lock()
	l.all = append(l.all, *s)
	l.mu.Unlock()
	select {
	case l.new <- struct{}{}:
	default:
	}
}

// wait returns the first record that holds what is asked of it.
func (l *ledger) wait(t testing.TB, holds func(s *audit.Session) bool) audit.Session {
	t.Helper()
	for {
		l.mu.Lock()
		all := l.all
		l.mu.Unlock()
		for i := range all {
			if holds(&all[i]) {
				return all[i]
			}
		}
		select {
		case <-l.new:
		case <-t.Context().Done():
			t.Fatal("no such record came")
		case <-time.After(20 * time.Second):
			t.Fatalf("no such record within 20 s: %+v", all)
		}
	}
}

// post is a door before the sandbox's SQL server.
type post struct {
	testing.TB
	far    *sandbox.SQL
	door   *routes.SQL
	gate   *sql.Server
	purse  *purse
	ledger *ledger
	addr   string
	trust  string // file of what the door shows
}

// newPost opens the door, once change has seen its table.
func newPost(t testing.TB, change func(table *routes.Table)) *post {
	t.Helper()
	world, err := sandbox.Start(sandbox.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(world.Close)
	p := &post{TB: t, ledger: &ledger{new: make(chan struct{}, 1)}}
	if p.far, err = sandbox.StartSQL(sandbox.SQLOptions{World: world, Names: []string{"node.example"}}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.far.Close()
		for _, v := range p.far.Violations() {
			t.Errorf("violation: %s", v)
		}
	})
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, p.far.CAPEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	p.door = &routes.SQL{
		Name: "orders", Kind: "mssql", Listen: "127.0.0.1:0", ClientTLS: routes.ClientTLSOptional, CAFile: ca,
		Servers: []routes.Authority{{Host: sandbox.SQLHost, Port: 1433}}, Dial: p.far.Addr(), Database: "d1",
		Credential: &routes.Credential{Name: "default", ClientID: sandbox.ClientID}, Scope: scope,
		MaxConnections: 5, LoginTimeout: 30 * time.Second, ReloginSkew: 5 * time.Minute,
	}
	table := &routes.Table{SQL: []*routes.SQL{p.door}}
	if change != nil {
		change(table)
	}
	own, tokens := certificate(t), &purse{TB: t, world: world}
	p.purse = tokens
	p.trust = filepath.Join(t.TempDir(), "door.pem")
	if err := os.WriteFile(p.trust, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: own.Certificate[0]}), 0o600); err != nil {
		t.Fatal(err)
	}
	identifier := gate.NewIdentifier(gate.IdentifierOptions{})
	if errs := identifier.Use(table); errs != nil {
		t.Fatal(errs)
	}
	log := logOf(t)
	p.gate = sql.New(sql.Config{
		Tokens: tokens, Identifier: identifier, Recorder: audit.SessionRecorders{p.ledger, log}, Log: log,
		Listen:      func(addr string) (net.Listener, error) { return net.Listen("tcp", addr) },
		Certificate: func(*routes.SQL, string) (*tls.Certificate, error) { return own, nil },
	})
	t.Cleanup(p.gate.Close)
	commit, _, err := p.gate.Open(table)
	if err != nil {
		t.Fatal(err)
	}
	if alarms := commit(gate.New(table, tokens), &net.Dialer{}); alarms != nil {
		t.Fatal(alarms)
	}
	p.addr = p.gate.Addrs()["orders"].String()
	return p
}

// logOf is read when a test fails. A benchmark's is not.
func logOf(t testing.TB) *audit.Log {
	t.Helper()
	to := t.Output()
	if _, measures := t.(*testing.B); measures {
		to = io.Discard
	}
	log, err := audit.NewLog(to, audit.LogConfig{Level: "debug", Format: "json"})
	if err != nil {
		t.Fatal(err)
	}
	return log
}

func certificate(t testing.TB) *tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, DNSNames: []string{"localhost"}, IPAddresses: []net.IP{{127, 0, 0, 1}}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// open is a pool of one connection at most.
func (p *post) open(user, password, extra string) *stdsql.DB {
	p.Helper()
	u := url.URL{Scheme: "sqlserver", Host: p.addr, User: url.UserPassword(user, password), RawQuery: "certificate=" + url.QueryEscape(p.trust) + "&app+name=tester&" + extra}
	db, err := stdsql.Open("sqlserver", u.String())
	if err != nil {
		p.Fatal(err)
	}
	db.SetMaxOpenConns(1)
	p.Cleanup(func() { _ = db.Close() })
	return db
}

// who asks the server whom it sees.
func who(t testing.TB, db *stdsql.DB) (string, error) {
	t.Helper()
	var name string
	err := db.QueryRowContext(t.Context(), "select suser_sname()").Scan(&name)
	return name, err
}

func number(err error) int32 {
	var told mssql.Error
	if errors.As(err, &told) {
		return told.Number
	}
	return 0
}

func TestDriversReachTheServerByTheGatewaysToken(t *testing.T) {
	for _, strict := range []bool{false, true} {
		for encrypt, mode := range map[string]string{"disable": "off", "true": "mandatory", "strict": "strict"} {
			t.Run(fmt.Sprintf("%s to %t", encrypt, strict), func(t *testing.T) {
				p := newPost(t, func(table *routes.Table) { table.SQL[0].Strict = strict })
				db := p.open("any", "any", "encrypt="+encrypt)
				if name, err := who(t, db); err != nil || !strings.HasPrefix(name, sandbox.ClientID+"@") {
					t.Errorf("the server sees %q, %v, want the application", name, err)
				}
				got := p.ledger.wait(t, func(s *audit.Session) bool { return s.Result == audit.LoginSuccess })
				if got.ClientTLS != mode || got.App != "tester" || got.Database != "d1" || got.SPID == 0 || len(got.Phases) != 5 || len(got.Route) != 1 {
					t.Errorf("record %+v", got)
				}
				_ = db.Close()
				end := p.ledger.wait(t, func(s *audit.Session) bool { return !s.End.IsZero() })
				if end.Reason != "client closed" || end.Requests == 0 || end.BytesIn == 0 || end.BytesOut == 0 {
					t.Errorf("record of the end %+v", end)
				}
				if logins := p.far.Logins(); len(logins) != 1 || logins[0].Strict != strict || logins[0].Server != sandbox.SQLHost {
					t.Errorf("the server saw %+v", logins)
				}
			})
		}
	}
}

func TestDriversReadWhyTheyAreRefused(t *testing.T) {
	callers := func(table *routes.Table) {
		table.Callers = []*routes.Caller{{Name: "reports", APIKeys: [][sha256.Size]byte{sha256.Sum256([]byte("key-1"))}}}
	}
	for _, test := range []struct {
		name     string
		change   func(table *routes.Table)
		far      func(far *sandbox.SQL)
		password string
		number   int32
		text     string
		result   audit.LoginResult
	}{
		{"a wrong password", callers, nil, "key-2", 18456, "no caller could be recognised", audit.LoginCallerUnknown},
		{"no user of the database", nil, func(far *sandbox.SQL) { far.DropUser(sandbox.ClientID) }, "", 18456, "<token-identified principal>", audit.LoginUpstreamRefused},
		{"the server's firewall", nil, func(far *sandbox.SQL) {
			far.Set(func(m *sandbox.SQLManners) { m.Refuse = &sandbox.SQLRefusal{Number: 40615} })
		}, "", 40615, "203.0.113.7", audit.LoginUpstreamRefused},
		{"a server that is no server", func(table *routes.Table) { table.SQL[0].Dial = "127.0.0.1:1" }, nil, "", 40613, "cannot be reached", audit.LoginUnreachable},
		{"a certificate that nobody trusts", func(table *routes.Table) { table.SQL[0].CAFile = "" }, nil, "", 40613, "certificate", audit.LoginUpstreamTLS},
		{"a server without encryption", nil, func(far *sandbox.SQL) {
			far.Set(func(m *sandbox.SQLManners) { m.Encryption = sandbox.EncryptNotSupported })
		}, "", 40613, "encryption", audit.LoginUpstreamBroken},
		{"a redirect to elsewhere", nil, func(far *sandbox.SQL) {
			far.Set(func(m *sandbox.SQLManners) { m.Redirect = &sandbox.SQLRedirect{Host: "evil.example", Port: 11000} })
		}, "", 40613, "evil.example", audit.LoginUpstreamBroken},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := newPost(t, test.change)
			if test.far != nil {
				test.far(p.far)
			}
			_, err := who(t, p.open("reports", test.password, "encrypt=disable"))
			if number(err) != test.number || !strings.Contains(err.Error(), test.text) {
				t.Errorf("the driver reads %d: %v, want %d with %q", number(err), err, test.number, test.text)
			}
			got := p.ledger.wait(t, func(s *audit.Session) bool { return true })
			if got.Result != test.result || got.Number != test.number || got.Cause == "" || got.Remedy == "" {
				t.Errorf("record %+v, want %s", got, test.result)
			}
		})
	}
}

func TestTokenThatTheServerHoldsExpiredIsRenewedUnseen(t *testing.T) {
	p := newPost(t, nil)
	expired := sandbox.TokenIsExpired()
	expired.Times = 1
	p.far.Set(func(m *sandbox.SQLManners) { m.Refuse = &expired })
	if _, err := who(t, p.open("any", "any", "encrypt=disable")); err != nil {
		t.Fatal(err)
	}
	got := p.ledger.wait(t, func(s *audit.Session) bool { return true })
	if logins := p.far.Logins(); !got.Renewed || len(logins) != 2 || logins[0].TokenID == logins[1].TokenID {
		t.Errorf("renewed %t, logins %+v, want a second one by another token", got.Renewed, logins)
	}
}

func TestRedirectsAreFollowedBehindTheDoor(t *testing.T) {
	p := newPost(t, func(table *routes.Table) { table.SQL[0].RedirectSuffixes = []string{"localhost"} })
	_, port, err := net.SplitHostPort(p.far.Addr())
	if err != nil {
		t.Fatal(err)
	}
	var n int
	if _, err := fmt.Sscan(port, &n); err != nil {
		t.Fatal(err)
	}
	p.far.Set(func(m *sandbox.SQLManners) {
		m.Redirect = &sandbox.SQLRedirect{Host: "localhost", Port: n, Times: 1, NoLoginAck: true}
	})
	if _, err := who(t, p.open("any", "any", "encrypt=disable")); err != nil {
		t.Fatal(err)
	}
	got := p.ledger.wait(t, func(s *audit.Session) bool { return true })
	if got.Redirects != 1 || len(got.Route) != 2 || got.Route[1] != "localhost:"+port {
		t.Errorf("record %+v, want the way told", got)
	}
}

func TestPoolsGoOnPastTheEndOfATokenUnseen(t *testing.T) {
	p := newPost(t, func(table *routes.Table) { table.SQL[0].ReloginSkew = 2 * time.Hour }) // every token is near its end
	db := p.open("any", "any", "encrypt=disable")
	for range 3 {
		if _, err := who(t, db); err != nil {
			t.Fatal(err)
		}
	}
	_ = db.Close()
	end := p.ledger.wait(t, func(s *audit.Session) bool { return !s.End.IsZero() })
	seen := map[string]bool{}
	for _, l := range p.far.Logins() {
		seen[l.TokenID] = true
	}
	if end.Relogins == 0 || int(end.Relogins)+1 != len(p.far.Logins()) || len(seen) != len(p.far.Logins()) {
		t.Errorf("%d logins again, %d logins at the server with %d tokens; want each by a token of its own", end.Relogins, len(p.far.Logins()), len(seen))
	}
}

func TestDoorsThatAreFullTellTheDriver(t *testing.T) {
	p := newPost(t, func(table *routes.Table) { table.SQL[0].MaxConnections = 1 })
	if _, err := who(t, p.open("any", "any", "encrypt=disable")); err != nil {
		t.Fatal(err)
	}
	_, err := who(t, p.open("any", "any", "encrypt=disable"))
	if number(err) != 10928 {
		t.Errorf("the driver reads %v, want 10928", err)
	}
}
