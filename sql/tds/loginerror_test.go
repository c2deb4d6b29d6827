package tds_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/seed-13b04e61/gateway/egress"
	"github.com/seed-13b04e61/gateway/sql/tds"
)

func TestRefusalKeepsTheServersWordsForTheClient(t *testing.T) {
	f := newFar()
	first, second := farError(4060, "Cannot open database \"x\" requested by the login."), farError(18456, "Login failed for user 'y'.")
	f.answer = func(farVisit) []byte { return farJoin(farInfo("hello"), first, second, farDone()) }
	e := loginErr(t, targetOf(f.start(t)))
	if e.Phase != tds.PhaseLogin || e.Number() != 4060 || len(e.Refused) != 2 || e.Err != nil || e.Unwrap() != nil {
		t.Errorf("error = %+v", e)
	}
	if got, want := tds.Join(e.Tokens), farJoin(farInfo("hello"), first, second, farDone()); !bytes.Equal(got, want) {
		t.Errorf("tokens = %x, want %x", got, want)
	}
	if len(e.Timings) != 4 {
		t.Errorf("timings = %v, want those of four phases", e.Timings)
	}
	for _, want := range []string{"sql.example.test:1433", "login", "4060", "Cannot open database"} {
		if !strings.Contains(e.Error(), want) {
			t.Errorf("error %q does not say %q", e, want)
		}
	}
}

func TestRefusalHasNothingThatLooksLikeALogin(t *testing.T) {
	f := newFar()
	refused := farError(18456, "no")
	f.answer = func(farVisit) []byte {
		return farJoin(farAck(0x74000004), farFeatures(farFeature{2, nil}), farEnv(13, "partner", ""), farEnv(1, "d", ""), refused)
	}
	e := loginErr(t, targetOf(f.start(t)))
	done := []byte{0xfd, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	if got := tds.Join(e.Tokens); !bytes.Equal(got, farJoin(refused, done)) {
		t.Errorf("tokens = %x, want the ERROR and a DONE alone", got)
	}
}

func TestRemediesFollowFromTheServersNumber(t *testing.T) {
	for _, c := range []struct {
		number  int32
		message string
		want    string // "" for no remedy
	}{
		{18456, "Login failed for user '<token-identified principal>'.", "CREATE USER"},
		{18456, "Login failed for user '<token-identified principal>'. Token is expired.", "fresh token"},
		{18456, "Login failed. Token is expired.", "fresh token"},
		{18456, "Login failed for user 'x'.", ""},
		{40615, "Cannot open server 'orders' requested by the login. Client with IP address '203.0.113.9' is not allowed to access the server.", "let 203.0.113.9 through"},
		{40615, "Client is not allowed.", "let the gateway's address through"},
		{40914, "Client is not allowed to access the server.", "virtual network rule"},
		{47073, "Deny Public Network Access is set to Yes.", "private endpoint"},
		{40532, "Cannot open server \"localhost\" requested by the login.", "server of the entry"},
		{40531, "Server name cannot be determined.", "server of the entry"},
		{4060, "Cannot open database.", "name of the database"},
		{40613, "Database is not currently available.", "in a minute"},
		{50000, "something else", ""},
	} {
		e := &tds.LoginError{Phase: tds.PhaseLogin, Server: "s:1433", Refused: []*tds.ServerError{{Number: c.number, State: 1, Message: c.message}}}
		if c.want == "" {
			if e.Remedy() != "" {
				t.Errorf("%d %q: remedy %q, want none", c.number, c.message, e.Remedy())
			}
		} else if !strings.Contains(e.Remedy(), c.want) {
			t.Errorf("%d %q: remedy %q, want one with %q", c.number, c.message, e.Remedy(), c.want)
		}
		if got := e.Cause(); !strings.Contains(got, c.message) || e.Error() != strings.TrimSuffix(got+"; "+e.Remedy(), "; ") {
			t.Errorf("Error() = %q, Cause() = %q", e.Error(), got)
		}
	}
}

func TestErrorsSayWhatIsWrongAndWhatToDo(t *testing.T) {
	remote := &net.OpError{Op: "remote error", Err: errors.New("tls: no application protocol")}
	for _, c := range []struct {
		name  string
		e     tds.LoginError
		wants []string
	}{
		{"node ports", tds.LoginError{Phase: tds.PhaseDial, Server: "n.database.windows.net:11003", Hops: 1, Err: os.ErrDeadlineExceeded},
			[]string{"after a redirect", "connection policy is Redirect", "11000-11999", "Proxy"}},
		{"node ports, by the login's own time", tds.LoginError{Phase: tds.PhaseDial, Server: "n:11999", Err: context.DeadlineExceeded}, []string{"Redirect"}},
		{"other ports", tds.LoginError{Phase: tds.PhaseDial, Server: "n:12000", Hops: 2, Err: context.DeadlineExceeded}, []string{"after 2 redirects", "no answer in time", "firewalls"}},
		{"node ports, later", tds.LoginError{Phase: tds.PhaseLogin, Server: "n:11003", Err: context.DeadlineExceeded}, []string{"no answer in time", "login_timeout"}},
		{"refused", tds.LoginError{Phase: tds.PhaseDial, Server: "n:1", Err: errors.New("connection refused")}, []string{"connection refused", "egress.proxy"}},
		{"next hop wants a credential", tds.LoginError{Phase: tds.PhaseDial, Server: "n:1", Err: &egress.ProxyError{Status: 407}}, hopWords(&egress.ProxyError{Status: 407})},
		{"next hop refuses", tds.LoginError{Phase: tds.PhaseDial, Server: "n:1", Err: &egress.ProxyError{Status: 403}}, append(hopWords(&egress.ProxyError{Status: 403}), "11000 to 11999")},
		{"next hop is down", tds.LoginError{Phase: tds.PhaseDial, Server: "n:1", Err: fmt.Errorf("%w: %w", egress.ErrNextHop, syscall.ECONNREFUSED)}, []string{"the next hop refuses the connection", "see that the proxy of egress.proxy is up"}},
		{"no TDS 8.0", tds.LoginError{Phase: tds.PhaseTLS, Server: "n:1", Err: remote}, []string{"TDS 8.0", "upstream_tls: mandatory"}},
		{"given up", tds.LoginError{Phase: tds.PhaseTLS, Server: "n:1", Err: context.Canceled}, []string{"given up"}},
	} {
		for _, want := range c.wants {
			if got := c.e.Error(); !strings.Contains(got, want) {
				t.Errorf("%s: %q does not say %q", c.name, got, want)
			}
		}
	}
}

// hopWords are those of every door about a next hop.
func hopWords(err error) []string {
	t := egress.Explain(err, egress.Peer{})
	return []string{t.What, t.Remedy}
}

func TestServersOfTheOtherModeAreToldApart(t *testing.T) {
	mandatory := newFar().start(t)
	target := targetOf(mandatory)
	target.Strict = true
	if e := loginErr(t, target); e.Phase != tds.PhaseTLS || !strings.Contains(e.Error(), "upstream_tls") {
		t.Errorf("strict at a mandatory server: %v", e)
	}
	strict := newFar()
	strict.strict = true
	target = targetOf(strict.start(t))
	target.Strict = false
	if e := loginErr(t, target); e.Phase != tds.PhasePrelogin || !strings.Contains(e.Error(), "upstream_tls") {
		t.Errorf("mandatory at a strict server: %v", e)
	}
	other := newFar()
	other.strict, other.conf = true, &tls.Config{Certificates: []tls.Certificate{farTrust().leaf}, NextProtos: []string{"h2"}}
	if e := loginErr(t, targetOf(other.start(t))); e.Phase != tds.PhaseTLS || !strings.Contains(e.Error(), "does not take TDS 8.0") {
		t.Errorf("strict at a web server: %v", e)
	}
}

func TestWordsOfTheServerStayOneLineOfBoundedLength(t *testing.T) {
	e := &tds.LoginError{Phase: tds.PhaseLogin, Server: "s:1433",
		Refused: []*tds.ServerError{{Number: 1, Message: "a\r\nb\x1b[31m" + strings.Repeat("é", 5000)}}}
	if got := e.Error(); strings.ContainsAny(got, "\r\n\x1b") || len([]rune(got)) != 1000 {
		t.Errorf("Error() = %d characters: %.60q", len([]rune(got)), got)
	}
}
