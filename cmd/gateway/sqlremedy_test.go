package main

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"

	"github.com/seed-13b04e61/gateway/routes"
	"github.com/seed-13b04e61/gateway/sql/tds"
)

// The first is the example of [System.Guid]'s ToByteArray in Microsoft's
// documentation.
func TestTheSIDOfAnAppIsItsIDAsAUniqueidentifier(t *testing.T) {
	for id, want := range map[string]string{
		"35918bc9-196d-40ea-9779-889d79b753f0": "0xC98B91356D19EA409779889D79B753F0",
		"00001111-AAAA-2222-BBBB-3333cccc4444": "0x11110000AAAA2222BBBB3333CCCC4444",
		"":                                     "",
		"35918bc9196d40ea9779889d79b753f0":     "",
		"35918bc9-196d-40ea-9779-889d79b753fg": "",
		"3-918bc9-196d-40ea-9779-889d79b753f0": "",
	} {
		if got, ok := sidOf(id); got != want || ok != (want != "") {
			t.Errorf("sidOf(%q) = %q, %t, want %q", id, got, ok, want)
		}
	}
}

func TestANameInBracketsCannotLeaveThem(t *testing.T) {
	if got := quoteName("a]; DROP TABLE b--"); got != "[a]]; DROP TABLE b--]" {
		t.Errorf("quoteName = %s", got)
	}
}

func TestTheFirewallsAddressIsNamedInTheRuleToAdd(t *testing.T) {
	l := login{&routes.SQL{Name: "d", Credential: &routes.Credential{}}, routes.Authority{Host: "orders-srv.database.windows.net", Port: 1433}}
	for text, want := range map[string]string{
		"Client with IP address '203.0.113.7' is not allowed":  "--server orders-srv --name gateway --start-ip-address 203.0.113.7 --end-ip-address 203.0.113.7",
		"Client with IP address '2001:db8::1' is not allowed.": "az sql server ipv6-firewall-rule create --resource-group GROUP --server orders-srv --name gateway --start-ipv6-address 2001:db8::1 --end-ipv6-address 2001:db8::1",
		"Client is not allowed":                                "--start-ip-address ADDRESS ",
		// What a hostile server says must not become a command.
		"Client with IP address '2001:db8::1%`reboot`' is not allowed": "--start-ipv6-address 2001:db8::1 --end-ipv6-address 2001:db8::1)",
	} {
		why := &tds.LoginError{Phase: tds.PhaseLogin, Refused: []*tds.ServerError{{Number: numberFirewall, Message: text}}}
		if got := sqlRemedy(l, why); !strings.Contains(got, want) {
			t.Errorf("%q: remedy %q, want %q in it", text, got, want)
		}
	}
}

func TestATokenThatIsNotTakenIsToldApartFromAMissingUser(t *testing.T) {
	refused := func(text string) *tds.LoginError {
		return &tds.LoginError{Phase: tds.PhaseLogin, Refused: []*tds.ServerError{{Number: tds.NumberLoginFailed, Message: text}}}
	}
	for text, want := range map[string]bool{
		"Login failed for user '<token-identified principal>'.":                   true,
		"Login failed for user '<token-identified principal>'. Token is expired.": false,
		"Login failed for user ''.":                                               false,
	} {
		if got := isUnknownPrincipal(refused(text)); got != want {
			t.Errorf("isUnknownPrincipal(%q) = %t, want %t", text, got, want)
		}
	}
	l := login{&routes.SQL{Name: "d", Credential: &routes.Credential{TenantID: "contoso"}}, routes.Authority{Host: "s.database.windows.net"}}
	if got := sqlRemedy(l, refused("Login failed for user ''.")); !strings.Contains(got, "Entra admin") || !strings.Contains(got, "tenant contoso") {
		t.Errorf("remedy %q, want the server's admin and the tenant in it", got)
	}
}

func TestTheConnectionStringFitsTheDoor(t *testing.T) {
	server := []routes.Authority{{Host: "s.database.windows.net", Port: 1433}}
	callers := []*routes.Caller{{Name: "a"}}
	for name, test := range map[string]struct {
		table *routes.Table
		door  routes.SQL
		addr  string
		want  string
	}{
		"anybody": {&routes.Table{}, routes.SQL{ClientTLS: routes.ClientTLSOptional}, "127.0.0.1:1433",
			"Server=127.0.0.1,1433;Database=NAME;User Id=any;Password=any;Encrypt=False"},
		"callers": {&routes.Table{Callers: callers}, routes.SQL{Database: "d", ClientTLS: routes.ClientTLSOptional}, "127.0.0.1:1433",
			"Server=127.0.0.1,1433;User Id=CALLER;Password=KEY;Encrypt=True;TrustServerCertificate=True"},
		"callers, and a CA": {&routes.Table{Callers: callers, Intercept: &routes.Intercept{}}, routes.SQL{Database: "d", ClientTLS: routes.ClientTLSOptional}, "127.0.0.1:1433",
			"Server=127.0.0.1,1433;User Id=CALLER;Password=KEY;Encrypt=True"},
		"required": {&routes.Table{}, routes.SQL{Database: "d", ClientTLS: routes.ClientTLSRequired, CertificateFile: "c"}, "[::]:1433",
			"Server=127.0.0.1,1433;User Id=any;Password=any;Encrypt=True"},
		"off": {&routes.Table{Callers: callers}, routes.SQL{Database: "d", ClientTLS: routes.ClientTLSOff}, "127.0.0.1:1",
			"Server=127.0.0.1,1;User Id=CALLER;Password=KEY;Encrypt=False"},
		"by name": {&routes.Table{}, routes.SQL{Database: "d", ByName: true, ClientTLS: routes.ClientTLSOptional}, "127.0.0.1:1433",
			"Server=s.database.windows.net,1433;User Id=any;Password=any;Encrypt=False"},
		"unix": {&routes.Table{}, routes.SQL{}, "unix:/run/d.sock", ""},
	} {
		test.door.Servers = server
		if got := connectionString(test.table, &test.door, test.addr); got != test.want {
			t.Errorf("%s: connectionString = %q, want %q", name, got, test.want)
		}
	}
}

func TestALoginThatHeldIsNoFailureWhateverTheServerSaysNext(t *testing.T) {
	for name, test := range map[string]struct {
		rows  [][]string
		err   error
		ok    bool
		wants string
	}{
		"who we are":     {[][]string{{"app@tenant", "orders", "Microsoft SQL Azure\n\tsecond line"}}, nil, true, ": user app@tenant, database orders, Microsoft SQL Azure\n"},
		"nothing":        {nil, nil, true, ": logged in\n"},
		"another row":    {[][]string{{"1"}}, nil, true, "is no such row"},
		"an error":       {nil, &tds.ServerError{Number: 50000, State: 1, Message: "no\x1b[31m"}, true, "is not read: error 50000"},
		"another type":   {nil, errors.New("column 1 is of type 0xf1, which is not read here"), true, "column 1 is of type 0xf1"},
		"an end":         {nil, io.ErrUnexpectedEOF, false, ": query: unexpected EOF\n"},
		"a reset":        {nil, &net.OpError{Op: "read", Err: os.ErrClosed}, false, "answers no query"},
		"silence":        {nil, context.DeadlineExceeded, false, "answers no query"},
		"an interrupted": {nil, context.Canceled, false, "answers no query"},
	} {
		row := loginJSON{Door: "d", Server: "s:1433"}
		row.identified(test.rows, test.err)
		if text := row.String(); row.OK != test.ok || !strings.Contains(text, test.wants) || strings.Contains(text, "\x1b") {
			t.Errorf("%s: ok %t, printed %q, want %t and %q in it", name, row.OK, text, test.ok, test.wants)
		}
	}
}
