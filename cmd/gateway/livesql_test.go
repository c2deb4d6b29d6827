package main

import (
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/seed-13b04e61/gateway/sandbox"
)

func TestEachWayALoginFailsIsExplainedToTheOperator(t *testing.T) {
	refuse := func(number int32, state byte, text string) func(*sandbox.SQLManners) {
		return func(m *sandbox.SQLManners) {
			m.Refuse = &sandbox.SQLRefusal{Number: number, State: state, Text: text, BeforeToken: true}
		}
	}
	sendOn := func(host string, port int) func(*sandbox.SQLManners) {
		return func(m *sandbox.SQLManners) { m.Redirect = &sandbox.SQLRedirect{Host: host, Port: port} }
	}
	for name, test := range map[string]struct {
		keys   string
		manner func(*sandbox.SQLManners)
		phase  string
		number int32
		wants  []string // printed
	}{
		"the firewall":        {"", refuse(40615, 0, ""), "login", 40615, []string{"sees as 203.0.113.7", "az sql server firewall-rule create"}},
		"a virtual network":   {"", refuse(40914, 1, "Cannot open server 'sandbox' requested by the login."), "login", 40914, []string{"virtual network rule"}},
		"no public network":   {"", refuse(47073, 1, "An instance-specific error occurred."), "login", 47073, []string{"private endpoint"}},
		"another server":      {"", refuse(40532, 1, "Cannot open server 'x' requested by the login. The login failed."), "login", 40532, []string{"no name of an Azure SQL server"}},
		"no server's name":    {"", refuse(40531, 1, "Server name cannot be determined."), "login", 40531, []string{"no name of an Azure SQL server"}},
		"another database":    {"", refuse(4060, 1, `Cannot open database "nosuch" requested by the login.`), "login", 4060, []string{`"nosuch"`, "name of the database"}},
		"a paused one":        {"", refuse(40613, 1, "Database 'd' on server 's' is not currently available."), "login", 40613, []string{"paused", "try again"}},
		"a token not taken":   {"", refuse(18456, 1, "Login failed for user ''."), "login", 18456, []string{"Microsoft Entra admin", "tenant"}},
		"a token that ended":  {"", refuse(18456, 233, sandbox.TokenIsExpired().Text), "login", 18456, []string{"try again: the gateway gets a fresh token"}},
		"a stranger's node":   {"", sendOn("node.contoso.com", 11000), "login", 0, []string{"redirects to node.contoso.com", "redirect_suffixes"}},
		"a closed node":       {", redirect_suffixes: [localhost]", sendOn("localhost", 1), "dial", 0, []string{"ports 11000-11999", "Proxy"}},
		"no encryption":       {"", func(m *sandbox.SQLManners) { m.Encryption = sandbox.EncryptNotSupported }, "prelogin", 0, []string{"no token in clear text"}},
		"silence":             {", login_timeout: 1s", func(m *sandbox.SQLManners) { m.Silent = true }, "login", 0, []string{"no answer in time", "login_timeout"}},
		"a broken connection": {"", func(m *sandbox.SQLManners) { m.CutAnswer = true }, "login", 0, []string{"the server closed the connection"}},
		"strict, and it is":   {", upstream_tls: strict", nil, "", 0, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g, _, db := behind(t, test.keys, "")
			if test.manner != nil {
				db.Set(test.manner)
			}
			row := g.logIn(t.Context(), logins(g.file.Table())[0])
			if row.OK != (test.phase == "") || row.FailedAt != test.phase || row.Number != test.number {
				t.Errorf("ok %t, failed at %q with %d, want %q with %d: %s", row.OK, row.FailedAt, row.Number, test.phase, test.number, row)
			}
			for _, want := range test.wants {
				if !strings.Contains(row.String(), want) {
					t.Errorf("printed %q, want %q in it", row, want)
				}
			}
			if !row.OK && row.Remedy == "" {
				t.Errorf("no remedy: %s", row)
			}
		})
	}
}

func TestWhatIsNoSQLServerIsSaidToBeNone(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Read(make([]byte, 4096))
			_, _ = conn.Write([]byte("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"))
			_ = conn.Close()
		}
	}()
	_, credentials := sandboxed(t)
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	g, _ := opened(t, doors{}, quietPorts+credentials+"sql:\n  - {name: web, listen: \"127.0.0.1:0\", server: \"localhost:"+port+"\"}\n")
	row := g.logIn(t.Context(), logins(g.file.Table())[0])
	if row.FailedAt != "prelogin" || !strings.Contains(row.Error, "no SQL server") || !strings.Contains(row.Remedy, "check that a SQL server listens there") {
		t.Errorf("printed %q", row)
	}
	if !slices.ContainsFunc(row.Phases, func(p phaseJSON) bool { return p.Phase == "dial" }) {
		t.Errorf("phases = %v, want dial among them", row.Phases)
	}
}
