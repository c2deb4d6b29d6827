package sandbox_test

import (
	"context"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	mssql "github.com/microsoft/go-mssqldb"

	"github.com/seed-13b04e61/gateway/sandbox"
)

func TestSQLServerRefusesWhomEntraOrTheDatabaseDoesNotKnow(t *testing.T) {
	w := world(t, sandbox.Options{})
	s := sqlServer(t, sandbox.SQLOptions{World: w, Databases: []string{"d1"}})
	good := tokenFor(t, w, sandbox.SQLResource+"/")
	login := func(token, extra string) error {
		db := openWith(t, s, extra, token)
		return db.PingContext(t.Context())
	}
	for _, aud := range []string{sandbox.SQLResource, sandbox.SQLResource + "/"} {
		if err := login(tokenFor(t, w, aud), ""); err != nil {
			t.Errorf("audience %s: %v", aud, err)
		}
	}
	for name, err := range map[string]error{
		"another audience": login(tokenFor(t, w, "https://vault.azure.net"), ""),
		"a forged token":   login(good[:len(good)-8]+"AAAAAAAA", ""),
		"no token":         login("not.a.token", ""),
	} {
		if !hasNumber(err, 18456) || !strings.Contains(err.Error(), "<token-identified principal>") {
			t.Errorf("%s: %v, want 18456", name, err)
		}
	}
	if err := login(good, "&database=elsewhere"); !hasNumber(err, 4060) {
		t.Errorf("no such database: %v, want 4060", err)
	}
	s.DropUser(strings.ToUpper(sandbox.ClientID))
	if err := login(good, ""); !hasNumber(err, 18456) {
		t.Errorf("no user: %v, want 18456", err)
	}
	s.CreateUser(sandbox.ClientID)
	if err := login(good, ""); err != nil {
		t.Errorf("user again: %v", err)
	}
	w.Skew(2 * time.Hour)
	err := login(good, "")
	if !hasNumber(err, 18456) || !strings.Contains(err.Error(), "Token is expired") {
		t.Errorf("expired: %v, want 18456 Token is expired", err)
	}
	logins := s.Logins()
	if last := logins[len(logins)-1]; last.Error != 18456 || last.Database != "d1" {
		t.Errorf("last login = %+v", last)
	}
}

func TestSQLServerRefusesAsItIsTold(t *testing.T) {
	w := world(t, sandbox.Options{})
	s := sqlServer(t, sandbox.SQLOptions{World: w})
	expired := sandbox.TokenIsExpired()
	for _, tt := range []struct {
		refusal sandbox.SQLRefusal
		words   string
		state   uint8
	}{
		{sandbox.SQLRefusal{Number: 18456}, "<token-identified principal>", 1},
		{expired, "Token is expired", 233},
		{sandbox.SQLRefusal{Number: 40613}, "is not currently available", 1},
		{sandbox.SQLRefusal{Number: 40615, Address: "198.51.100.9"}, "Client with IP address '198.51.100.9'", 1},
		{sandbox.SQLRefusal{Number: 40532}, "Cannot open server", 1},
		{sandbox.SQLRefusal{Number: 4060, State: 7}, `Cannot open database "d1"`, 7},
		{sandbox.SQLRefusal{Number: 49918, Text: "Cannot process request. Not enough resources."}, "Not enough resources", 1},
	} {
		tt.refusal.Times = 2
		s.Set(func(m *sandbox.SQLManners) { m.Refuse = &tt.refusal })
		for range 2 {
			err := openWith(t, s, "", tokenFor(t, w, sandbox.SQLResource)).PingContext(t.Context())
			var e mssql.Error
			if !errors.As(err, &e) || e.Number != tt.refusal.Number || !strings.Contains(e.Message, tt.words) || e.State != tt.state {
				t.Errorf("%d: %v (state %d)", tt.refusal.Number, err, e.State)
			}
		}
		if err := openWith(t, s, "", tokenFor(t, w, sandbox.SQLResource)).PingContext(t.Context()); err != nil {
			t.Errorf("after %d twice: %v", tt.refusal.Number, err)
		}
	}
}

func TestSQLServerChecksTheNameInTheLogin(t *testing.T) {
	w := world(t, sandbox.Options{})
	s := sqlServer(t, sandbox.SQLOptions{World: w, Names: []string{"db.contoso.com"}})
	s.Set(func(m *sandbox.SQLManners) { m.CheckServerName = true })
	token := tokenFor(t, w, sandbox.SQLResource)
	if err := openWith(t, s, "", token).PingContext(t.Context()); err != nil {
		t.Errorf("loopback: %v", err)
	}
	for name, want := range map[string]uint32{
		"db.contoso.com": 0, "DB.contoso.com,1433": 0, `tcp:sandbox.database.windows.net\x,1`: 0, "localhost1": 40532,
	} {
		c := rawStrict(t, s)
		c.prelogin(nil)
		l := rawLogin(token, c.echo)
		l.server = name
		if got := c.login(l).errorNumber(); got != want {
			t.Errorf("%q = %d, want %d", name, got, want)
		}
	}
}

func TestSQLServerRoutesLogins(t *testing.T) {
	w := world(t, sandbox.Options{})
	front, back := sqlServer(t, sandbox.SQLOptions{World: w}), sqlServer(t, sandbox.SQLOptions{World: w})
	host, port, _ := net.SplitHostPort(back.Addr())
	n, _ := strconv.Atoi(port)
	token := tokenFor(t, w, sandbox.SQLResource)
	for _, tt := range []struct {
		name string
		to   sandbox.SQLRedirect
		want string // in hex, of the ENVCHANGE behind its length
	}{
		{"type 20", sandbox.SQLRedirect{Host: "h", Port: 0x1234}, "14" + "0700" + "00" + "3412" + "0100" + "6800" + "0000"},
		{"port 0", sandbox.SQLRedirect{Host: "h"}, "14" + "0700" + "00" + "0000" + "0100" + "6800" + "0000"},
		{"instance", sandbox.SQLRedirect{Host: `h\i`, Port: 1}, "14" + "0b00" + "00" + "0100" + "0300" + "68005c006900" + "0000"},
		{"type 21", sandbox.SQLRedirect{Host: "h", Port: 1, Database: "d"}, "15" + "0b00" + "00" + "0100" + "0100" + "6800" + "0100" + "6400" + "0000"},
	} {
		for _, bare := range []bool{false, true} {
			tt.to.NoLoginAck, tt.to.Times = bare, 1
			front.Set(func(m *sandbox.SQLManners) { m.Redirect = &tt.to })
			c := rawStrict(t, front)
			c.prelogin(nil)
			a := c.login(rawLogin(token, c.echo))
			if got := a.hex(0xe3, 0); got != tt.want {
				t.Errorf("%s: ENVCHANGE = %s, want %s", tt.name, got, tt.want)
			}
			if a.has(0xad) == bare {
				t.Errorf("%s: LOGINACK is there = %v, want %v", tt.name, !bare, bare)
			}
		}
	}
	// And a driver follows it.
	front.Set(func(m *sandbox.SQLManners) { m.Redirect = &sandbox.SQLRedirect{Host: host, Port: n} })
	if got := scan[string](t, openWith(t, front, "", token, back), "SELECT DB_NAME()"); got != "d1" {
		t.Errorf("DB_NAME() = %q, want d1", got)
	}
	logins := front.Logins()
	if last := logins[len(logins)-1]; !last.Routed || last.Error != 0 {
		t.Errorf("last login at the front = %+v, want routed", last)
	}
	if logins = back.Logins(); len(logins) != 1 || logins[0].Routed {
		t.Errorf("logins behind = %+v, want one", logins)
	}
}

func TestSQLServerNegotiatesFedAuthAsItIsTold(t *testing.T) {
	w := world(t, sandbox.Options{})
	s := sqlServer(t, sandbox.SQLOptions{World: w})
	token := tokenFor(t, w, sandbox.SQLResource)
	for says, echo := range map[sandbox.SQLFedAuth]bool{sandbox.FedAuthRequired: true, sandbox.FedAuthNotRequired: false, sandbox.FedAuthAbsent: false} {
		s.Set(func(m *sandbox.SQLManners) { m.FedAuth = says })
		if err := openWith(t, s, "", token).PingContext(t.Context()); err != nil {
			t.Errorf("FEDAUTHREQUIRED %q: %v", says, err)
		}
		logins := s.Logins()
		if last := logins[len(logins)-1]; last.Echo != echo {
			t.Errorf("FEDAUTHREQUIRED %q: echo = %v, want %v", says, last.Echo, echo)
		}
	}
}

func TestSQLServerSendsItsNonceAndSignsIt(t *testing.T) {
	w := world(t, sandbox.Options{})
	s := sqlServer(t, sandbox.SQLOptions{World: w})
	token := tokenFor(t, w, sandbox.SQLResource)
	for _, tt := range []struct {
		says  sandbox.SQLNonce
		asked bool
		want  bool
	}{
		{sandbox.NonceIfAsked, false, false},
		{sandbox.NonceIfAsked, true, true},
		{sandbox.NonceNever, true, false},
		{sandbox.NonceAlways, false, true},
	} {
		s.Set(func(m *sandbox.SQLManners) { m.Nonce = tt.says })
		c := rawStrict(t, s)
		nonce := c.prelogin(func(o map[byte][]byte) {
			if tt.asked {
				o[7] = make([]byte, 32)
			}
		})[7]
		ack := c.login(rawLogin(token, c.echo)).hex(0xae, 0)
		want := "0200000000ff"
		if tt.want {
			want = "0240000000" + hex.EncodeToString(nonce)
		}
		if (len(nonce) == 32) != tt.want || !strings.HasPrefix(ack, want) {
			t.Errorf("%q, asked %v: nonce %x, acknowledged by %s", tt.says, tt.asked, nonce, ack)
		}
	}
}

func TestSQLServerShapesItsAnswer(t *testing.T) {
	w := world(t, sandbox.Options{})
	s := sqlServer(t, sandbox.SQLOptions{World: w})
	token := tokenFor(t, w, sandbox.SQLResource)
	login := func(change func(*sandbox.SQLManners)) rawAnswer {
		s.Set(func(m *sandbox.SQLManners) { *m = sandbox.SQLManners{}; change(m) })
		c := rawStrict(t, s)
		c.prelogin(nil)
		return c.login(rawLogin(token, c.echo))
	}
	if a := login(func(*sandbox.SQLManners) {}); !a.has(0xad) || a.hex(0xae, 0) != "0200000000ff" || a.packets != 1 {
		t.Errorf("plain: %d packets, features %s", a.packets, a.hex(0xae, 0))
	}
	if a := login(func(m *sandbox.SQLManners) { m.DoneFirst = true }); a.kinds[0] != 0xfd || !a.has(0xad) {
		t.Errorf("DoneFirst: %x", a.kinds)
	}
	if a := login(func(m *sandbox.SQLManners) { m.NoFedAuthAck = true }); a.has(0xae) || !a.has(0xad) {
		t.Errorf("NoFedAuthAck: %x", a.kinds)
	}
	if a := login(func(m *sandbox.SQLManners) { m.UnknownToken = true }); !a.has(0xb7) {
		t.Errorf("UnknownToken: %x", a.kinds)
	}
	if a := login(func(m *sandbox.SQLManners) { m.AnswerPacket = 50 }); a.packets < 5 || !a.has(0xad) {
		t.Errorf("AnswerPacket: %d packets", a.packets)
	}
	if a := login(func(m *sandbox.SQLManners) { m.CutAnswer = true }); a.err == nil {
		t.Error("CutAnswer: the answer is whole")
	}
}

func TestSQLServerThatIsSilentStaysSo(t *testing.T) {
	w := world(t, sandbox.Options{})
	s := sqlServer(t, sandbox.SQLOptions{World: w})
	s.Set(func(m *sandbox.SQLManners) { m.Silent = true })
	c := rawStrict(t, s)
	c.prelogin(nil)
	c.send(0x10, rawLogin(tokenFor(t, w, sandbox.SQLResource), c.echo).bytes())
	_ = c.conn.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	if _, err := c.conn.Read(make([]byte, 1)); !errors.Is(err, context.DeadlineExceeded) && !isTimeout(err) {
		t.Errorf("Read = %v, want a timeout", err)
	}
}

func isTimeout(err error) bool {
	var n net.Error
	return errors.As(err, &n) && n.Timeout()
}

func TestSQLServerEndsASessionWhoseTokenHasExpiredAtAReset(t *testing.T) {
	w := world(t, sandbox.Options{})
	s := sqlServer(t, sandbox.SQLOptions{World: w})
	session := func(change func(*sandbox.SQLManners)) error {
		s.Set(change)
		w.Skew(0)
		db := openWith(t, s, "", tokenFor(t, w, sandbox.SQLResource))
		db.SetMaxOpenConns(1)
		if err := db.PingContext(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.Skew(2 * time.Hour)
		_, err := db.ExecContext(t.Context(), "SELECT 1")
		return err
	}
	if err := session(func(m *sandbox.SQLManners) { m.KeepExpired = true }); err != nil {
		t.Errorf("KeepExpired: %v", err)
	}
	if err := session(func(m *sandbox.SQLManners) { m.KeepExpired = false }); !hasNumber(err, 18456) {
		t.Errorf("expired at reset: %v, want 18456", err)
	}
	w.Skew(0)
}

func TestSQLServerNegotiatesEncryptionAsItIsTold(t *testing.T) {
	w := world(t, sandbox.Options{})
	s := sqlServer(t, sandbox.SQLOptions{World: w})
	for _, tt := range []struct {
		says  sandbox.SQLEncryption
		asked byte
		want  byte
	}{
		{"", 0, 3}, {"", 1, 1}, {"", 2, 3}, {"", 3, 1},
		{sandbox.EncryptOn, 0, 1}, {sandbox.EncryptRequired, 1, 3}, {sandbox.EncryptOff, 1, 0}, {sandbox.EncryptNotSupported, 1, 2},
	} {
		s.Set(func(m *sandbox.SQLManners) { m.Encryption = tt.says })
		c := rawPlain(t, s)
		if got := c.prelogin(func(o map[byte][]byte) { o[1] = []byte{tt.asked} })[1]; len(got) != 1 || got[0] != tt.want {
			t.Errorf("%q to %d = %d, want %d", tt.says, tt.asked, got, tt.want)
		}
	}
}

func TestSQLServerSpeaksTLS12InsidePreloginAndLaterWhenStrict(t *testing.T) {
	w := world(t, sandbox.Options{})
	s := sqlServer(t, sandbox.SQLOptions{World: w})
	for _, mode := range sqlModes {
		db := sqlOpen(t, w, s, mode, "")
		if err := db.PingContext(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	logins := s.Logins()
	if logins[0].TLS != tls.VersionTLS12 || logins[1].TLS != tls.VersionTLS13 {
		t.Errorf("TLS = %#x and %#x, want 1.2 and 1.3", logins[0].TLS, logins[1].TLS)
	}
	if logins[0].Version != 0x74000004 || logins[1].Version != 0x08000000 {
		t.Errorf("TDS = %#x and %#x", logins[0].Version, logins[1].Version)
	}
}
