package sandbox_test

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"slices"
	"strings"
	"testing"

	"github.com/seed-13b04e61/gateway/sandbox"
)

// violating starts a server whose violations the test looks at itself.
func violating(t testing.TB, w *sandbox.World) *sandbox.SQL {
	t.Helper()
	s, err := sandbox.StartSQL(sandbox.SQLOptions{World: w})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// each runs clients, each against a server of its own, and compares what the
// server held against them; no words mean nothing at all.
func each(t *testing.T, clients []struct {
	name  string
	words string
	run   func(c *rawConn, token string)
}) {
	t.Helper()
	w := world(t, sandbox.Options{})
	token := tokenFor(t, w, sandbox.SQLResource)
	for _, tt := range clients {
		s := violating(t, w)
		c := rawStrict(t, s)
		if strings.HasPrefix(tt.name, "plain: ") {
			c = rawPlain(t, s)
		}
		tt.run(c, token)
		c.conn.Close()
		s.Close()
		got := s.Violations()
		if tt.words == "" && len(got) > 0 || tt.words != "" && (len(got) == 0 || !strings.Contains(got[0], tt.words)) {
			t.Errorf("%s: violations = %q, want one with %q", tt.name, got, tt.words)
		}
		if strings.Contains(strings.Join(got, " "), token[:20]) {
			t.Errorf("%s: a violation holds the token", tt.name)
		}
	}
}

type client = struct {
	name  string
	words string
	run   func(c *rawConn, token string)
}

func TestSQLServerHoldsABadPreloginAgainstTheClient(t *testing.T) {
	option := func(change func(o map[byte][]byte)) func(*rawConn, string) {
		return func(c *rawConn, _ string) { c.prelogin(change) }
	}
	raw := func(payload string) func(*rawConn, string) {
		return func(c *rawConn, _ string) {
			b, _ := hex.DecodeString(payload)
			c.send(0x12, b)
			_, _, _ = c.receive()
		}
	}
	each(t, []client{
		{"right", "", option(nil)},
		{"Microsoft's sample", "", func(c *rawConn, _ string) { // MS-TDS 4.1
			b, _ := hex.DecodeString("1201002F0000010000001A00060100200001020021000103002200040400260001FF0900000000000100B80D000001")
			c.write(b)
			if _, _, err := c.receive(); err != nil {
				c.t.Error(err)
			}
		}},
		{"plain: neither PRELOGIN nor TLS", "begins with 0x10", func(c *rawConn, _ string) { c.send(0x10, make([]byte, 100)); _, _, _ = c.receive() }},
		{"VERSION not first", "not VERSION", raw("010006000100000000ff00")},
		{"option twice", "twice", raw("00000b000600000b0006ff000000000000")},
		{"beyond the message", "ends beyond", raw("00000600ff01000b0001ff00")},
		{"no terminator", "no terminator", raw("00000600")},
		{"data in the options", "within its options", raw("00000100060100020001ff00000000")},
		{"short VERSION", "option 0 has 4 bytes", option(func(o map[byte][]byte) { o[0] = o[0][:4] })},
		{"no ENCRYPTION", "no option 1", option(func(o map[byte][]byte) { delete(o, 1) })},
		{"FEDAUTHREQUIRED 0", "FEDAUTHREQUIRED is not 1", option(func(o map[byte][]byte) { o[6] = []byte{0} })},
		{"short nonce", "option 7 has 31 bytes", option(func(o map[byte][]byte) { o[7] = make([]byte, 31) })},
		{"short TRACEID", "option 5 has 16 bytes", option(func(o map[byte][]byte) { o[5] = make([]byte, 16) })},
		{"MARS 2", "MARSOPT is 2", option(func(o map[byte][]byte) { o[4] = []byte{2} })},
		{"INSTOPT without NUL", "no NUL", option(func(o map[byte][]byte) { o[2] = []byte("x") })},
		{"a packet of 4097 bytes", "4096 are allowed", func(c *rawConn, _ string) { c.packet(0x12, 1, make([]byte, 4089)); _, _, _ = c.receive() }},
		{"a packet without a payload's room", "a packet of length 7", func(c *rawConn, _ string) { c.write([]byte{0x12, 1, 0, 7, 0, 0, 1, 0}); _, _, _ = c.receive() }},
		{"status bits before the login", "status 0x09 before login", func(c *rawConn, _ string) {
			c.packet(0x12, 9, rawOptions(map[byte][]byte{0: make([]byte, 6)}))
			_, _, _ = c.receive()
		}},
		{"plain: no wait for the answer", "did not wait", func(c *rawConn, _ string) {
			b := rawOptions(map[byte][]byte{0: make([]byte, 6), 1: {1}, 2: {0}, 3: make([]byte, 4), 4: {0}})
			head := []byte{0x12, 1, 0, byte(8 + len(b)), 0, 0, 1, 0}
			c.write(append(append(head, b...), head...))
			_, _, _ = c.receive()
			_, _, _ = c.receive()
		}},
		{"LOGIN7 before PRELOGIN", "0x10 where 0x12 has to come", func(c *rawConn, _ string) { c.send(0x10, make([]byte, 100)); _, _, _ = c.receive() }},
		{"plain: TLS handshake in the wrong packets", "a TLS handshake in a packet of type 0x01", func(c *rawConn, _ string) {
			c.prelogin(nil)
			c.send(1, make([]byte, 10))
			_, _, _ = c.receive()
		}},
	})
}

func TestSQLServerHoldsABadALPNAgainstTheClient(t *testing.T) {
	w := world(t, sandbox.Options{})
	for _, alpn := range [][]string{{}, {"h2"}, {"h2", "tds/8.0"}} {
		s := violating(t, w)
		c := rawStrict(t, s, alpn...)
		c.prelogin(nil)
		c.conn.Close()
		s.Close()
		if got := s.Violations(); len(got) == 0 || !strings.Contains(got[0], "ALPN") {
			t.Errorf("ALPN %q: violations = %q", alpn, got)
		}
	}
}

func TestSQLServerHoldsALoginWithoutEncryptionAgainstTheClient(t *testing.T) {
	w := world(t, sandbox.Options{})
	for _, says := range []sandbox.SQLEncryption{sandbox.EncryptOff, sandbox.EncryptNotSupported} {
		s := violating(t, w)
		s.Set(func(m *sandbox.SQLManners) { m.Encryption = says })
		c := rawPlain(t, s)
		c.prelogin(nil)
		c.send(0x10, rawLogin("token", c.echo).bytes())
		if _, _, err := c.receive(); err == nil {
			t.Errorf("%s: the server answered", says)
		}
		if got := s.Violations(); len(got) != 1 || !strings.Contains(got[0], "a token needs TLS") {
			t.Errorf("%s: violations = %q", says, got)
		}
		if len(s.Logins()) != 0 {
			t.Errorf("%s: a login was taken", says)
		}
	}
}

func TestSQLServerHoldsABadLoginAgainstTheClient(t *testing.T) {
	login := func(change func(c *rawConn, l *rawLogin7)) func(*rawConn, string) {
		return func(c *rawConn, token string) {
			c.prelogin(nil)
			l := rawLogin(token, c.echo)
			change(c, &l)
			c.login(l)
		}
	}
	long := strings.Repeat("x", 129)
	each(t, []client{
		{"right", "", login(func(*rawConn, *rawLogin7) {})},
		{"8.0", "", login(func(_ *rawConn, l *rawLogin7) { l.version = 0x08000000 })},
		{"Length", "Length is", login(func(_ *rawConn, l *rawLogin7) { l.length = 2 })},
		{"shorter than its fixed part", "its fixed part has 94", func(c *rawConn, _ string) {
			c.prelogin(nil)
			c.send(0x10, make([]byte, 93))
			_, _, _ = c.receive()
		}},
		{"more than 128 KiB", "more than 131071 bytes", func(c *rawConn, _ string) {
			c.prelogin(nil)
			c.send(0x10, make([]byte, 128<<10))
			_, _, _ = c.receive()
		}},
		{"a host beyond the message", "LOGIN7's HostName is at 94 to", func(c *rawConn, token string) {
			c.prelogin(nil)
			b := rawLogin(token, c.echo).bytes()
			b[39] = 0xff
			c.send(0x10, b)
			_, _, _ = c.receive()
		}},
		{"ibHostName", "ibHostName is 96", login(func(_ *rawConn, l *rawLogin7) { l.ibHost = 2 })},
		{"a long host", "HostName has 129 units", login(func(_ *rawConn, l *rawLogin7) { l.host = long })},
		{"a long app", "AppName has 129 units", login(func(_ *rawConn, l *rawLogin7) { l.app = long })},
		{"a long server", "ServerName has 129 units", login(func(_ *rawConn, l *rawLogin7) { l.server = long })},
		{"plain: 7.4 inside TDS", "", func(c *rawConn, token string) {
			c.secure()
			c.login(rawLogin(token, c.echo))
		}},
		{"plain: 8.0 inside TDS", "8.0 without strict TLS", func(c *rawConn, token string) {
			c.secure()
			l := rawLogin(token, c.echo)
			l.version = 0x08000000
			c.login(l)
		}},
		{"7.3", "FEDAUTH needs 7.4", login(func(_ *rawConn, l *rawLogin7) { l.version = 0x730b0003 })},
		{"fIntSecurity", "fIntSecurity", login(func(_ *rawConn, l *rawLogin7) { l.flags2 = 0x80 })},
		{"user", "FEDAUTH and UserName", login(func(_ *rawConn, l *rawLogin7) { l.user = "sa" })},
		{"password", "FEDAUTH and Password", login(func(_ *rawConn, l *rawLogin7) { l.password = "x" })},
		{"SSPI", "FEDAUTH and SSPI", login(func(_ *rawConn, l *rawLogin7) { l.sspi = []byte{1} })},
		{"attach", "FEDAUTH and AtchDBFile", login(func(_ *rawConn, l *rawLogin7) { l.attach = "x" })},
		{"change password", "FEDAUTH and ChangePassword", login(func(_ *rawConn, l *rawLogin7) { l.change = "x" })},
		{"fChangePassword", "fChangePassword", login(func(_ *rawConn, l *rawLogin7) { l.flags3 |= 1 })},
		{"fUserInstance", "fUserInstance", login(func(_ *rawConn, l *rawLogin7) { l.flags3 |= 4 })},
		{"long SSPI", "FEDAUTH and cbSSPILong", func(c *rawConn, token string) {
			c.prelogin(nil)
			b := rawLogin(token, c.echo).bytes()
			b[90] = 1
			c.send(0x10, b)
			_, _, _ = c.receive()
		}},
		{"fExtension without an Extension", "fExtension and an Extension of 0 bytes", func(c *rawConn, token string) {
			c.prelogin(nil)
			b := rawLogin(token, c.echo).bytes()
			b[58] = 0
			c.send(0x10, b)
			_, _, _ = c.receive()
		}},
		{"no fExtension", "an Extension but not fExtension", func(c *rawConn, token string) {
			c.prelogin(nil)
			b := rawLogin(token, c.echo).bytes()
			b[27] = 0
			c.send(0x10, b)
			_, _, _ = c.receive()
		}},
		{"echo", "fFedAuthEcho is 0", login(func(_ *rawConn, l *rawLogin7) { l.echo = false })},
		{"nonce unasked", "no NONCEOPT", login(func(_ *rawConn, l *rawLogin7) { l.nonce = make([]byte, 32) })},
		{"the nonce left out", "nonce of 0 bytes is not that", func(c *rawConn, token string) {
			c.prelogin(func(o map[byte][]byte) { o[7] = make([]byte, 32) })
			c.nonce = nil
			c.login(rawLogin(token, c.echo))
		}},
		{"another nonce", "is not that of PRELOGIN's answer", func(c *rawConn, token string) {
			c.prelogin(func(o map[byte][]byte) { o[7] = make([]byte, 32) })
			c.nonce = make([]byte, 32)
			c.login(rawLogin(token, c.echo))
		}},
		{"another library", "bFedAuthLibrary is 2", login(func(_ *rawConn, l *rawLogin7) { l.token, l.features = "", []byte{2, 5, 0, 0, 0, 5, 0, 0, 0, 0} })},
		{"FEDAUTH without a token's length", "FEDAUTH has 1 bytes", login(func(_ *rawConn, l *rawLogin7) { l.token, l.features = "", []byte{2, 1, 0, 0, 0, 3} })},
		{"FEDAUTH without a token", "FEDAUTH's token has 0 bytes", login(func(_ *rawConn, l *rawLogin7) { l.token, l.features = "", []byte{2, 5, 0, 0, 0, 3, 0, 0, 0, 0} })},
		{"odd token", "FEDAUTH's token has", login(func(_ *rawConn, l *rawLogin7) { l.tokenSize = -1 })},
		{"token too long", "FEDAUTH's token has", login(func(_ *rawConn, l *rawLogin7) { l.tokenSize = 2 })},
		{"feature twice", "twice", login(func(_ *rawConn, l *rawLogin7) { l.features = []byte{10, 1, 0, 0, 0, 1, 10, 1, 0, 0, 0, 1} })},
		{"feature too long", "ends beyond", login(func(_ *rawConn, l *rawLogin7) { l.features = []byte{10, 0, 0, 0, 9} })},
		{"behind the features", "has to end", login(func(_ *rawConn, l *rawLogin7) { l.tail = []byte{0, 0} })},
		{"features elsewhere", "FeatureExt is at", login(func(_ *rawConn, l *rawLogin7) { l.ext = 5000 })},
		{"a packet too small", "that is not the last has", func(c *rawConn, token string) {
			c.prelogin(nil)
			b := rawLogin(token, c.echo).bytes()
			c.packet(0x10, 0, b[:500])
			c.packet(0x10, 1, b[500:])
			_, _, _ = c.receive()
		}},
		{"a packet too large", "4096 are allowed", func(c *rawConn, token string) {
			c.prelogin(nil)
			l := rawLogin(token, c.echo)
			l.features = append([]byte{0x70, 0, 10, 0, 0}, make([]byte, 2560)...)
			c.packet(0x10, 1, l.bytes())
			_, _, _ = c.receive()
		}},
		{"a packet in two records", "in two TLS records", func(c *rawConn, token string) {
			c.prelogin(nil)
			b := rawLogin(token, c.echo).bytes()
			h := binary.BigEndian.AppendUint16([]byte{0x10, 1}, uint16(len(b)+8))
			c.write(append(append(h, 0, 0, 1, 0), b[:100]...))
			c.write(b[100:])
			_, _, _ = c.receive()
		}},
	})
}

// The sample of a login with FEDAUTH in MS-TDS 4.3 is from a client that sends
// its token by the reserved library; of that one thing apart, it is right.
func TestSQLServerReadsMicrosoftsSampleOfALogin(t *testing.T) {
	head, err := hex.DecodeString("080800000400007400100000000000074037000000000000E003001000000000090400005E000F0000000000000000007C00060088001800B8000400BC000400" +
		"C4000000C400000000155D71E74200000000C40000000000000000000000440041004E00420045004E004500440033002D00580047005A0055004F0053005100" +
		"4C0043004D00440063006C006F00750064002E006400650076002E006D0073006300640073002E0063006F006D002C003100340033003500C40000004F004400" +
		"42004300023E07000001E2060000")
	if err != nil {
		t.Fatal(err)
	}
	w := world(t, sandbox.Options{})
	s := violating(t, w)
	c := rawStrict(t, s)
	c.prelogin(nil)
	token := bytes.Repeat([]byte("a\x00"), 0x6e2/2)
	payload := append(append(head, token...), make([]byte, 0x73e-5-0x6e2)...)
	payload = append(payload, 0xff)
	c.send(0x10, payload)
	_, _, _ = c.receive()
	if len(payload) != 0x808 {
		t.Errorf("the sample has %d bytes, want %d", len(payload), 0x808)
	}
	want := []string{"2.2.6.4: bFedAuthLibrary is 0, not 1, the security token"}
	if got := s.Violations(); !slices.Equal(got, want) {
		t.Errorf("violations = %q, want %q", got, want)
	}
	l := s.Logins()[0]
	if !strings.HasPrefix(l.Host, "DANBENED3") || !strings.HasSuffix(l.Server, ",1435") || l.Library != "ODBC" || l.Error != 18456 {
		t.Errorf("login = %+v", l)
	}
}

func TestSQLServerHoldsBadRequestsAgainstTheClient(t *testing.T) {
	in := func(run func(c *rawConn)) func(*rawConn, string) {
		return func(c *rawConn, token string) {
			c.prelogin(nil)
			if a := c.login(rawLogin(token, c.echo)); !a.has(0xad) {
				c.t.Errorf("login = %x", a.kinds)
			}
			run(c)
			_, _, _ = c.receive()
		}
	}
	header := func(descriptor uint64, outstanding uint32) []byte {
		b := binary.LittleEndian.AppendUint32(nil, 22)
		b = binary.LittleEndian.AppendUint32(b, 18)
		b = binary.LittleEndian.AppendUint16(b, 2)
		b = binary.LittleEndian.AppendUint64(b, descriptor)
		return binary.LittleEndian.AppendUint32(b, outstanding)
	}
	batch := func(text string) []byte { return append(header(0, 1), utf16le(text)...) }
	load := func(rows []byte) func(*rawConn, string) {
		return in(func(c *rawConn) {
			c.send(1, batch("CREATE TABLE #t (a int) INSERT BULK #t (a int)"))
			_, _, _ = c.receive()
			c.send(7, append([]byte{0x81, 1, 0, 0, 0, 0, 0, 9, 0, 0x26, 4, 1, 'a', 0}, rows...))
		})
	}
	each(t, []client{
		{"right", "", in(func(c *rawConn) { c.send(1, batch("SELECT 1")) })},
		{"many packets", "", in(func(c *rawConn) { c.send(1, batch("SELECT 1 --"+strings.Repeat("x", 10_000))) })},
		{"idle attention", "", in(func(c *rawConn) { c.send(6, nil) })},
		{"an ignored request", "", in(func(c *rawConn) {
			c.packet(1, 0, append(batch("SELECT 1 --"), make([]byte, 4088-len(batch("SELECT 1 --")))...))
			c.packet(1, 3, nil)
		})},
		{"no ALL_HEADERS", "ALL_HEADERS", in(func(c *rawConn) { c.send(1, utf16le("SELECT 1")) })},
		{"no descriptor", "no transaction descriptor", in(func(c *rawConn) { c.send(1, append([]byte{4, 0, 0, 0}, utf16le("SELECT 1")...)) })},
		{"another's descriptor", "the transaction descriptor is 0x7", in(func(c *rawConn) { c.send(1, append(header(7, 1), utf16le("SELECT 1")...)) })},
		{"no outstanding request", "OutstandingRequestCount", in(func(c *rawConn) { c.send(1, append(header(0, 0), utf16le("SELECT 1")...)) })},
		{"odd batch", "UTF-16", in(func(c *rawConn) { c.send(1, append(batch("SELECT 1"), 0)) })},
		{"small packet", "that is not the last has", in(func(c *rawConn) {
			c.packet(1, 0, batch("SELECT 1"))
			c.packet(1, 1, nil)
		})},
		{"LOGIN7 again", "0x10 after login", in(func(c *rawConn) { c.send(0x10, make([]byte, 100)) })},
		{"a reply from a client", "0x04 after login", in(func(c *rawConn) { c.send(4, make([]byte, 10)) })},
		{"a request while one runs", "while a request runs", in(func(c *rawConn) {
			c.send(1, batch("WAITFOR DELAY '00:00:30'"))
			c.send(1, batch("SELECT 1"))
			c.send(6, nil)
			_, _, _ = c.receive()
			_, _, _ = c.receive()
		})},
		{"another type within a message", "within a message", in(func(c *rawConn) {
			c.packet(1, 0, make([]byte, 4088))
			c.packet(3, 1, make([]byte, 10))
		})},
		{"ignore without EOM", "ignore bit without EOM", in(func(c *rawConn) {
			c.packet(1, 2, make([]byte, 4088))
			c.packet(1, 1, nil)
		})},
		{"both resets", "both reset bits", in(func(c *rawConn) { c.packet(1, 0x19, batch("SELECT 1")) })},
		{"reset in the middle", "the first packet of its message does not have", in(func(c *rawConn) {
			b := batch("SELECT 1 --" + strings.Repeat("x", 3000))
			c.packet(1, 0, b[:4088])
			c.packet(1, 9, b[4088:])
		})},
		{"a bulk load without DONE, as of FreeTDS", "", load([]byte{0xd1, 4, 1, 0, 0, 0})},
		{"a bulk load with half a row", "cannot be read", load([]byte{0xd1, 4, 1})},
		{"a bulk load with another token", "token 0xaa in a bulk load", load([]byte{0xaa})},
		{"a bulk load with a short DONE", "whose DONE has 2 bytes", load([]byte{0xfd, 0, 0})},
		{"a reset by a bulk load", "a reset bit on a bulk load", in(func(c *rawConn) { c.packet(7, 9, make([]byte, 20)) })},
		{"half a transaction", "ends too soon", in(func(c *rawConn) { c.send(0x0e, append(header(0, 1), 7, 0)) })},
		{"bulk unannounced", "no INSERT BULK has announced", in(func(c *rawConn) { c.send(7, make([]byte, 20)) })},
		{"bad call", "a call that cannot be read", in(func(c *rawConn) { c.send(3, append(header(0, 1), 0xff, 0xff, 99, 0)) })},
		{"attention with a payload", "an attention of 2 bytes", in(func(c *rawConn) { c.send(6, []byte{1, 2}) })},
	})
}
