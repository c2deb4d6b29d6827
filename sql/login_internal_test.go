package sql

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-13b04e61/gateway/audit"
	"github.com/seed-13b04e61/gateway/authority"
	"github.com/seed-13b04e61/gateway/egress"
	"github.com/seed-13b04e61/gateway/gate"
	"github.com/seed-13b04e61/gateway/routes"
	"github.com/seed-13b04e61/gateway/sql/tds"
	"github.com/seed-13b04e61/gateway/tokens"
)

// server is one that takes some tokens alone.
type server struct {
	mu      sync.Mutex // guards what follows
	expired bool       // it says so of those that it does not take
	takes   string     // "": none
	logins  []string   // the tokens that it was shown
}

func (s *server) login(_ context.Context, t target, token string) (facts, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.logins = append(s.logins, token)
	if token == s.takes {
		return facts{route: []string{t.server.String()}}, nil
	}
	return facts{}, &loginError{server: t.server.String(), words: "Login failed", number: 18456, text: "18456: Login failed",
		remedy: "create the user", badToken: true, expired: s.expired}
}

func (s *server) shown() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	shown := strings.Join(s.logins, " ")
	s.logins = nil
	return shown
}

func TestTokenThatTheServerDoesNotTakeIsRenewedOnce(t *testing.T) {
	for _, test := range []struct {
		name     string
		server   *server
		prepare  func(m *mint)
		want     string // of the answer
		shown    string
		renewals int
	}{
		{name: "from the cache", server: &server{takes: "token-2"}, want: "welcome", shown: "token-1 token-2", renewals: 1},
		{name: "from the cache, and in vain", server: &server{}, want: "no 18456 Login failed", shown: "token-1 token-2", renewals: 1},
		{name: "fresh", server: &server{}, prepare: func(m *mint) { m.origin = tokens.FromIdentityProvider }, want: "no 18456 Login failed", shown: "token-1"},
		{name: "fresh, and expired all the same", server: &server{expired: true, takes: "token-2"}, want: "welcome", shown: "token-1 token-2", renewals: 1,
			prepare: func(m *mint) { m.origin = tokens.FromIdentityProvider }},
		{name: "and there is no other", server: &server{}, want: "no 18456 Login failed", shown: "token-1", renewals: 1,
			prepare: func(m *mint) { m.renewErr = tokens.ErrSameToken }},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				door := doorOf("orders", at)
				r.wire.login = test.server.login
				r.use(tableOf(door))
				r.warm(door)
				if test.prepare != nil {
					test.prepare(r.tokens)
				}
				answer := r.dial(at, "127.0.0.1:5000").login(hello{})
				if !strings.HasPrefix(answer, test.want) {
					t.Errorf("answer = %q, want %q", answer, test.want)
				}
				if shown := test.server.shown(); shown != test.shown || r.tokens.renewals != test.renewals {
					t.Errorf("shown %q after %d renewals, want %q and %d", shown, r.tokens.renewals, test.shown, test.renewals)
				}
				got := r.last()
				if got.Renewed != (strings.Contains(test.shown, " ")) {
					t.Errorf("record %+v, want the renewal told", got)
				}
				if test.want != "welcome" && (!strings.Contains(answer, "[gateway: door=orders credential=default appid=app-1 session="+got.ID+"]") ||
					got.Result != audit.LoginUpstreamRefused || got.Number != 18456 || got.Remedy != "create the user") {
					t.Errorf("answer %q, record %+v; want the server's words, and what leads to the record", answer, got)
				}
			})
		})
	}
}

func TestTokenIsRenewedOnceAMinuteForARefusal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		s := &server{}
		door := doorOf("orders", at)
		r.wire.login = s.login
		r.use(tableOf(door))
		r.warm(door)
		try := func(want string) {
			t.Helper()
			r.dial(at, "127.0.0.1:5000").login(hello{})
			if shown := s.shown(); shown != want {
				t.Errorf("the server saw %q, want %q", shown, want)
			}
		}
		try("token-1 token-2")
		try("token-2")
		s.expired = true
		try("token-2 token-3")
		s.expired = false
		time.Sleep(59 * time.Second)
		try("token-3")
		time.Sleep(time.Second)
		try("token-3 token-4")
		if n := len(r.srv.renewals.last); n != 1 {
			t.Errorf("%d keys are remembered, want 1", n)
		}
		later := time.Now().Add(time.Hour)
		r.srv.renewals.due(tokens.Key{Credential: "rotated"}, later)
		if n := len(r.srv.renewals.last); n != 1 {
			t.Errorf("%d keys are remembered, want those of the last minute alone", n)
		}
	})
}

func TestMissingTokensAreToldAsWhatTheyAre(t *testing.T) {
	refused := &authority.Error{Credential: "default", Entra: true, Status: 401, Code: "invalid_client", AADSTS: 7000222, CorrelationID: "c-1",
		Hint: "the secret has expired", Remedy: "rotate it", Detail: "for tenant contoso", Nature: tokens.Refused}
	down := &authority.Error{Credential: "default", Host: "login.test", Hint: "no route to host"}
	for _, test := range []struct {
		name   string
		err    error
		answer []string
		want   audit.LoginResult
	}{
		{"refused", &tokens.Unavailable{Err: refused}, []string{"no 18456 gateway: ", "AADSTS7000222", "correlation ID c-1", "rotate it"}, audit.LoginTokenRefused},
		{"an outage", &tokens.Unavailable{Err: down}, []string{"no 40613 gateway: ", "no token from login.test"}, audit.LoginTokenMissing},
		{"too late", context.DeadlineExceeded, []string{"no 40613 gateway: the token did not arrive in time"}, audit.LoginTimeout},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				r.tokens.err = test.err
				r.use(tableOf(doorOf("orders", at)))
				answer := r.dial(at, "127.0.0.1:5000").login(hello{})
				for _, want := range test.answer {
					if !strings.Contains(answer, want) {
						t.Errorf("answer = %q, want %q in it", answer, want)
					}
				}
				if strings.Contains(answer, "contoso") {
					t.Errorf("answer = %q, which holds what is for the operator alone", answer)
				}
				if n := strings.Count(r.last().Cause, "has expired"); n > 1 {
					t.Errorf("cause = %q, which says it %d times", r.last().Cause, n)
				}
				if got := r.last(); got.Result != test.want || got.Cause == "" || got.Remedy == "" {
					t.Errorf("record %+v", got)
				}
			})
		})
	}
}

func TestTroubleWithServersIsNamedAndTransient(t *testing.T) {
	for _, test := range []struct {
		err  error
		hops int
		want audit.LoginResult
		text string // in the answer
	}{
		{&egress.ProxyError{Proxy: "10.0.0.9:3128", Status: 407}, 0, audit.LoginUpstreamProxy, "the next hop asks for another credential: status 407 (node.example:11000, at tls); correct username and password of egress.proxy in routes.yaml"},
		{&egress.ProxyError{Proxy: "10.0.0.9:3128", Status: 403}, 0, audit.LoginUpstreamProxy, "the next hop refused a tunnel with status 403"},
		{fmt.Errorf("%w: dial tcp 10.0.0.9:3128: %w", egress.ErrNextHop, syscall.ECONNREFUSED), 0, audit.LoginUpstreamProxy, "the next hop refuses the connection"},
		{fmt.Errorf("%w: %w", egress.ErrNextHop, context.DeadlineExceeded), 0, audit.LoginTimeout, "the next hop did not answer in time"},
		{&tls.CertificateVerificationError{Err: x509.UnknownAuthorityError{}}, 0, audit.LoginUpstreamTLS, "tls.ca_file of the door"},
		{tls.RecordHeaderError{Msg: "10.0.0.9"}, 0, audit.LoginUpstreamTLS, "the TLS handshake with the server failed"},
		{&net.OpError{Op: "remote error", Err: errors.New("tls: protocol version not supported")}, 0, audit.LoginUpstreamTLS, "the TLS handshake with the server failed"},
		{&net.OpError{Op: "local error", Err: errors.New("tls: unexpected message")}, 0, audit.LoginUpstreamTLS, "the TLS handshake with the server failed"},
		{fmt.Errorf("%w: 169.254.169.254", egress.ErrForbidden), 0, audit.LoginUnreachable, "nobody may reach"},
		{&net.OpError{Op: "dial", Err: errors.New("10.0.0.9 refused")}, 0, audit.LoginUnreachable, "cannot be reached"},
		{io.ErrUnexpectedEOF, 0, audit.LoginUnreachable, "broke off"},
		{context.DeadlineExceeded, 0, audit.LoginTimeout, "login_timeout"},
		{context.DeadlineExceeded, 1, audit.LoginTimeout, "11000 to 11999"},
		{errors.New("redirect to evil.example is refused"), 0, audit.LoginUpstreamBroken, "redirect to evil.example is refused"},
	} {
		t.Run(fmt.Sprintf("%T after %d", test.err, test.hops), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				r.wire.login = func(context.Context, target, string) (facts, error) {
					return facts{}, &loginError{phase: "tls", server: "node.example:11000", hops: test.hops, err: test.err, text: "at length: " + test.err.Error()}
				}
				r.use(tableOf(doorOf("orders", at)))
				answer := r.dial(at, "127.0.0.1:5000").login(hello{})
				if !strings.HasPrefix(answer, "no 40613 ") || !strings.Contains(answer, test.text) || !strings.Contains(answer, "node.example:11000, at tls") {
					t.Errorf("answer = %q, want 40613 with %q and the server", answer, test.text)
				}
				if hop := egress.Explain(test.err, egress.Peer{}); hop.Hop && (!strings.Contains(answer, hop.What) || !strings.Contains(answer, hop.Remedy)) {
					t.Errorf("answer = %q, want the words of every door: %+v", answer, hop)
				}
				if strings.Contains(answer, "10.0.0.9") {
					t.Errorf("answer = %q, which holds an address", answer)
				}
				if got := r.last(); got.Result != test.want || got.Redirects != test.hops || strings.Count(got.Cause, test.err.Error()) != 1 {
					t.Errorf("record %+v, want %s", got, test.want)
				}
			})
		})
	}
}

func TestServersWithoutMARSAreNoTroubleToTryAgain(t *testing.T) {
	if e := mssqlError(&tds.LoginError{Err: fmt.Errorf("prelogin: %w", tds.ErrNoMARS)}); !e.lasting {
		t.Error("a driver would try MARS again")
	}
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.wire.login = func(context.Context, target, string) (facts, error) {
			return facts{}, &loginError{phase: "prelogin", server: "node.example:1433", err: tds.ErrNoMARS, text: tds.ErrNoMARS.Error(), lasting: true}
		}
		r.use(tableOf(doorOf("orders", at)))
		if answer := r.dial(at, "127.0.0.1:5000").login(hello{}); !strings.HasPrefix(answer, "no 18456 ") || !strings.Contains(answer, "MARS") {
			t.Errorf("answer = %q, want 18456 about MARS", answer)
		}
	})
}

func TestServerThatSendsTheTokenBackIsNoTroubleToTryAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.wire.login = func(context.Context, target, string) (facts, error) {
			err := fmt.Errorf("%w: at length", errReflected)
			return facts{}, &loginError{phase: "login", server: "node.example:1433", err: err, text: err.Error()}
		}
		r.use(tableOf(doorOf("orders", at)))
		answer := r.dial(at, "127.0.0.1:5000").login(hello{})
		if !strings.HasPrefix(answer, "no 18456 ") || !strings.Contains(answer, "contained the token") {
			t.Errorf("answer = %q, want 18456 and what the server did", answer)
		}
		if got := r.last(); got.Result != audit.LoginReflected || r.tokens.renewals > 0 {
			t.Errorf("record %+v after %d renewals, want token_reflected after none", got, r.tokens.renewals)
		}
	})
}

func TestSessionsLogInAgainBeforeTheirTokenEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.use(tableOf(doorOf("orders", at)))
		d := r.enter(at, hello{})
		steps := []struct {
			after time.Duration
			do    func()
			want  string
		}{
			{54 * time.Minute, nil, "token-1"},
			{2 * time.Minute, nil, "token-2"},                                                // by force: the cache had the old one
			{54 * time.Minute, nil, "token-2"},                                               // 1 h 50
			{2 * time.Minute, func() { r.tokens.renewErr = tokens.ErrSameToken }, "token-2"}, // kept
			{time.Second, func() { r.tokens.renewErr = nil }, "token-3"},
			{time.Hour, func() { r.tokens.renewErr, r.tokens.err = errors.New("down"), errors.New("down") }, ""}, // past its end
		}
		for n, s := range steps {
			time.Sleep(s.after)
			if s.do != nil {
				r.tokens.change(s.do)
			}
			want := s.want + " orders.example: reset"
			if s.want == "" {
				want = ""
			}
			if got := d.say("reset"); got != want {
				t.Fatalf("step %d: %q, want %q\n%s", n, got, want, r.log.text())
			}
		}
		end := r.last()
		if end.Relogins != 2 || end.Reason != "token expired" {
			t.Errorf("record %+v, want 2 logins again", end)
		}
		for _, line := range []string{"counted relogin success", "counted relogin kept", "counted relogin failed"} {
			if !strings.Contains(r.log.text(), line) {
				t.Errorf("log %s lacks %q", r.log.text(), line)
			}
		}
	})
}

func TestLoginAgainIsWhatTheTableInForceSays(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(table *routes.Table)
		want   string // token, or the reason in the log
	}{
		{"another credential", func(table *routes.Table) { table.SQL[0].Credential = &routes.Credential{Name: "other"} }, "token-2 orders.example: reset"},
		{"the caller is gone", func(table *routes.Table) { table.Callers = table.Callers[1:] }, "may not be used by caller reports"},
		{"another server", func(table *routes.Table) { table.SQL[0].Servers = []routes.Authority{{Host: "b.example", Port: 1433}} }, errMoved.Error()},
		{"the door is gone", func(table *routes.Table) { table.SQL = nil }, errMoved.Error()},
		{"a CA file that is not there", func(table *routes.Table) { table.SQL[0].CAFile = "no-such.pem" }, "no-such.pem"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				tableWith := func() *routes.Table {
					table := tableOf(doorOf("orders", at))
					table.Callers = []*routes.Caller{keyed("reports", "key-1"), keyed("billing", "key-2")}
					return table
				}
				r.use(tableWith())
				d := r.enter(at, hello{User: "reports", Password: "key-1"})
				next := tableWith()
				test.change(next)
				r.use(next)
				time.Sleep(56 * time.Minute)
				got := d.say("reset")
				if strings.HasPrefix(test.want, "token") {
					if got != test.want {
						t.Errorf("answer = %q, want %q", got, test.want)
					}
					return
				}
				if got != "token-1 orders.example: reset" || !strings.Contains(r.log.text(), test.want) {
					t.Errorf("answer = %q, log %s; want the old token kept because %q", got, r.log.text(), test.want)
				}
				time.Sleep(5 * time.Minute)
				if got := d.say("reset"); got != "" {
					t.Errorf("past the token's end: %q, want the session's end", got)
				}
			})
		})
	}
}

func TestLoginAgainMayBeTurnedOffAndKeepsItsDefects(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		off := doorOf("off", at)
		off.ReloginSkew = 0
		r.use(tableOf(off, doorOf("on", "127.0.0.1:1434")))
		d, on := r.enter(at, hello{}), r.enter("127.0.0.1:1434", hello{})
		time.Sleep(2 * time.Hour)
		if got := d.say("reset"); got != "token-1 off.example: reset" {
			t.Errorf("without logins again: %q, want the server asked", got)
		}
		r.wire.login = func(context.Context, target, string) (facts, error) { panic("hunter2") }
		if got := on.say("reset"); got != "" {
			t.Errorf("a panic past the token's end: %q, want the session's end", got)
		}
		synctest.Wait()
		if text := r.log.text(); !strings.Contains(text, errReloginBug.Error()) || strings.Contains(text, "hunter2") {
			t.Errorf("log %s, want the defect told", text)
		}
	})
}

func TestNobodyIsKnownWithoutAnIdentifier(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.srv.cfg.Identifier = nil
		table := tableOf(doorOf("orders", at))
		table.Callers = []*routes.Caller{keyed("reports", "key-1")}
		r.use(table)
		if got := r.dial(at, "127.0.0.1:5000").login(hello{User: "reports", Password: "key-1"}); !strings.HasPrefix(got, "no 18456 ") {
			t.Errorf("answer = %q, want 18456", got)
		}
		if got := denied(errors.New("odd")); got.result != audit.LoginCallerUnknown {
			t.Errorf("an error that is no refusal: %+v, want nobody let in", got)
		}
		if got := denied(&gate.Refusal{Code: gate.RateLimited}); got.kind != unproven {
			t.Errorf("a guesser: %+v, want one that no driver tries again", got)
		}
	})
}
