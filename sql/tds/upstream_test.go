package tds_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/seed-13b04e61/gateway/secrets"
	"github.com/seed-13b04e61/gateway/sql/tds"
)

const farToken = "ey.token.of-the-gateway"

// clientLogin is what a client may ask for, with all that must not pass.
func clientLogin() *tds.Login {
	return &tds.Login{
		Version: tds.TDS74, PacketSize: 8000, ClientProgVer: 0x01020304, ClientPID: 4711, ConnectionID: 9,
		OptionFlags1: 0xe0, OptionFlags2: 0x83, TypeFlags: 0x02, OptionFlags3: 0x0d, TimeZone: 0xffffffc4, LCID: 0x0407,
		ClientID: [6]byte{1, 2, 3, 4, 5, 6},
		HostName: tds.NewUTF16("ws1"), UserName: tds.NewUTF16("any"), Password: tds.NewUTF16("secret-of-the-caller"),
		AppName: tds.NewUTF16("reports"), ServerName: tds.NewUTF16("127.0.0.1,1433"), Library: tds.NewUTF16("lib"),
		Language: tds.NewUTF16("deutsch"), Database: tds.NewUTF16("clientdb"), AttachDBFile: tds.NewUTF16("c:\\x.mdf"),
		ChangePassword: tds.NewUTF16("another"), SSPI: []byte("ntlm"),
		Features: []tds.Feature{{ID: 1, Data: nil}, {ID: 2, Data: []byte{2, 2, 0, 0, 0, 'x', 0}}, {ID: 0x0a, Data: []byte{1}},
			{ID: 0x0b, Data: nil}, {ID: 0x77, Data: []byte("new")}},
	}
}

func clientOptions() tds.Options {
	return tds.Options{{Token: 0, Data: []byte{16, 0, 1, 2, 0, 0}}, {Token: 1, Data: []byte{0}}, {Token: 2, Data: []byte("inst\x00")},
		{Token: 3, Data: []byte{1, 2, 3, 4}}, {Token: 4, Data: []byte{0}}, {Token: 5, Data: bytes.Repeat([]byte{0xab}, 36)},
		{Token: 7, Data: make([]byte, 32)}}
}

// targetOf leads to one server under the name sql.example.test:1433.
func targetOf(f *farServer) tds.Target {
	return tds.Target{Host: "sql.example.test", Strict: f.strict, Roots: farTrust().pool,
		Dialer: &farDialer{to: map[string]*farServer{"sql.example.test:1433": f}}}
}

func connect(t testing.TB, target tds.Target) (*tds.Upstream, error) {
	t.Helper()
	u, err := tds.Connect(t.Context(), target, clientLogin(), clientOptions(), secrets.New(farToken))
	if err == nil {
		t.Cleanup(func() { _ = u.Close() })
	}
	return u, err
}

// loginErr connects where no login can come about.
func loginErr(t testing.TB, target tds.Target) *tds.LoginError {
	t.Helper()
	_, err := connect(t, target)
	e, ok := errors.AsType[*tds.LoginError](err)
	if !ok {
		t.Fatalf("Connect() error = %v, want a *LoginError", err)
	}
	if strings.Contains(e.Error(), farToken) || strings.Contains(e.Error(), "secret") {
		t.Errorf("the error holds a secret: %v", e)
	}
	return e
}

func TestServerGetsTheTokenInPlaceOfTheClientsCredential(t *testing.T) {
	nonce := bytes.Repeat([]byte{7}, 32)
	for _, c := range []struct {
		name    string
		strict  bool
		fedAuth int
		nonce   []byte
		head    byte
	}{
		{"asked for", false, 1, nil, 3},
		{"asked for, with a nonce", false, 1, nonce, 3},
		{"not asked for", false, 0, nil, 2},
		{"not mentioned", false, -1, nil, 2},
		{"not mentioned, with a nonce", false, -1, nonce, 2},
		{"strict, asked for, with a nonce", true, 1, nonce, 3},
		{"strict, not mentioned", true, -1, nil, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFar()
			f.strict, f.fedAuth, f.nonce = c.strict, c.fedAuth, c.nonce
			f.start(t)
			if _, err := connect(t, targetOf(f)); err != nil {
				t.Fatal(err)
			}
			l := f.seen()[0].login
			if l.bad != "" {
				t.Fatalf("LOGIN7 is broken: %s", l.bad)
			}
			text := farUTF16(farToken)
			want := farJoin([]byte{c.head, byte(len(text)), 0, 0, 0}, text, c.nonce)
			wantFeatures := []farFeature{{1, []byte{}}, {0x0a, []byte{1}}, {0x77, []byte("new")}, {2, want}}
			if !reflect.DeepEqual(l.features, wantFeatures) {
				t.Errorf("features = %v, want %v", l.features, wantFeatures)
			}
			wantTexts := map[string]string{"host": "ws1", "user": "", "password": "", "app": "reports", "server": "sql.example.test",
				"library": "lib", "language": "deutsch", "database": "clientdb", "attach": "", "change": ""}
			if !reflect.DeepEqual(l.texts, wantTexts) {
				t.Errorf("texts = %v, want %v", l.texts, wantTexts)
			}
			wantVersion := uint32(0x74000004)
			if c.strict {
				wantVersion = 0x08000000
			}
			if l.version != wantVersion || len(l.sspi) > 0 {
				t.Errorf("version %#x with %d bytes of SSPI, want %#x and none", l.version, len(l.sspi), wantVersion)
			}
			if l.flags1 != 0xe0 || l.flags2 != 0x03 || l.typeFlag != 0x02 || l.flags3 != 0x18 {
				t.Errorf("flags = %#x %#x %#x %#x, want e0 03 02 18", l.flags1, l.flags2, l.typeFlag, l.flags3)
			}
			own := []byte{0x40, 0x1f, 0, 0, 4, 3, 2, 1, 0x67, 0x12, 0, 0, 9, 0, 0, 0}
			zone := []byte{0xc4, 0xff, 0xff, 0xff, 7, 4, 0, 0}
			if !bytes.Equal(l.fixed[8:24], own) || !bytes.Equal(l.fixed[28:36], zone) || l.clientID != [6]byte{1, 2, 3, 4, 5, 6} {
				t.Errorf("fixed part = %x, client ID %x: not the client's", l.fixed, l.clientID)
			}
		})
	}
}

func TestEntryDecidesDatabaseIntentAndAppName(t *testing.T) {
	long := strings.Repeat("a", 120)
	for _, c := range []struct {
		name           string
		target         func(*tds.Target)
		login          func(*tds.Login)
		database, app  string
		readOnlyIntent bool
	}{
		{"nothing set", func(*tds.Target) {}, func(*tds.Login) {}, "clientdb", "reports", false},
		{"default", func(t *tds.Target) { t.Database = "d" }, func(*tds.Login) {}, "clientdb", "reports", false},
		{"default is used", func(t *tds.Target) { t.Database = "d" }, func(l *tds.Login) { l.Database = nil }, "d", "reports", false},
		{"forced", func(t *tds.Target) { t.Database, t.ForceDatabase = "d", true }, func(*tds.Login) {}, "d", "reports", false},
		{"read only", func(t *tds.Target) { t.ReadOnly = true }, func(*tds.Login) {}, "clientdb", "reports", true},
		{"suffix", func(t *tds.Target) { t.AppNameSuffix = " via gw" }, func(*tds.Login) {}, "clientdb", "reports via gw", false},
		{"suffix is cut", func(t *tds.Target) { t.AppNameSuffix = "1234567😀" },
			func(l *tds.Login) { l.AppName = tds.NewUTF16(long) }, "clientdb", long + "1234567", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFar().start(t)
			target, login := targetOf(f), clientLogin()
			c.target(&target)
			c.login(login)
			u, err := tds.Connect(t.Context(), target, login, clientOptions(), secrets.New(farToken))
			if err != nil {
				t.Fatal(err)
			}
			defer u.Close()
			l := f.seen()[0].login
			if l.texts["database"] != c.database || l.texts["app"] != c.app || l.typeFlag&0x20 != 0 != c.readOnlyIntent {
				t.Errorf("database %q, app %q, type flags %#x", l.texts["database"], l.texts["app"], l.typeFlag)
			}
		})
	}
}

func TestLoginIsNotChangedByConnecting(t *testing.T) {
	f := newFar().start(t)
	login := clientLogin()
	for range 2 { // once more, as a session does that logs in again
		u, err := tds.Connect(t.Context(), targetOf(f), login, clientOptions(), secrets.New(farToken))
		if err != nil {
			t.Fatal(err)
		}
		defer u.Close()
	}
	if !reflect.DeepEqual(login, clientLogin()) {
		t.Error("Connect changed the client's login")
	}
	if v := f.seen(); !reflect.DeepEqual(v[0].login, v[1].login) {
		t.Errorf("second login = %+v, want %+v", v[1].login, v[0].login)
	}
}

func TestPreloginIsTheClientsWithTheTokenAnnounced(t *testing.T) {
	f := newFar().start(t)
	if _, err := connect(t, targetOf(f)); err != nil {
		t.Fatal(err)
	}
	v := f.seen()[0]
	want := map[byte][]byte{0: {16, 0, 1, 2, 0, 0}, 1: {1}, 2: {0}, 3: {1, 2, 3, 4}, 4: {0}, 5: bytes.Repeat([]byte{0xab}, 36), 6: {1}}
	if !reflect.DeepEqual(v.options, want) || v.order[0] != 0 {
		t.Errorf("options = %v in order %v, want %v", v.options, v.order, want)
	}

	u, err := tds.Connect(t.Context(), targetOf(f), clientLogin(), nil, secrets.New(farToken))
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	options := f.seen()[1].options
	if trace := options[5]; len(trace) != 36 || bytes.Equal(trace, make([]byte, 36)) {
		t.Errorf("trace ID of a client without one = %x, want 36 random bytes", trace)
	}
	if len(options[0]) != 6 || len(options[3]) != 4 {
		t.Errorf("VERSION %x, THREADID %x of a client without them", options[0], options[3])
	}
}

func TestLongTokensTravelInFullPacketsOfOneRecordEach(t *testing.T) {
	for _, strict := range []bool{false, true} {
		f := newFar()
		f.strict = strict
		f.start(t)
		u, err := tds.Connect(t.Context(), targetOf(f), clientLogin(), clientOptions(), secrets.New(strings.Repeat("t", 4500)))
		if err != nil {
			t.Fatal(err)
		}
		defer u.Close()
		v := f.seen()[0]
		if len(v.packets) != 3 || v.packets[0] != 4096 || v.packets[1] != 4096 || v.packets[2] >= 4096 || !slices.Equal(v.packets, v.records) {
			t.Errorf("strict %v: packets %v in records %v, want two of 4096 and a rest, a record each", strict, v.packets, v.records)
		}
	}
}

func TestLoginThatEndsWithAPacketHasNoEmptyOneAfterIt(t *testing.T) {
	f := newFar().start(t)
	for n := 1; n < 3000; n++ { // find the token that makes the payload 2 * 4088 bytes
		login := clientLogin()
		login.Features = []tds.Feature{tds.FedAuth(secrets.New(strings.Repeat("t", n)), true, nil)}
		login.ServerName, login.UserName, login.Password = tds.NewUTF16("sql.example.test"), nil, nil
		login.ChangePassword, login.SSPI, login.AttachDBFile = nil, nil, nil
		payload, err := login.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		if len(payload) != 4088 && len(payload) != 4087 {
			continue
		}
		u, err := tds.Connect(t.Context(), targetOf(f), login, nil, secrets.New(strings.Repeat("t", n)))
		if err != nil {
			t.Fatal(err)
		}
		defer u.Close()
		if v := f.seen()[0]; len(v.packets) != 1 || v.packets[0] < 4095 {
			t.Errorf("packets = %v, want one full one", v.packets)
		}
		return
	}
	t.Fatal("no token fits")
}

func TestDialNamesAnotherAddressForTheFirstHopAlone(t *testing.T) {
	first, second := newFar(), newFar().start(t)
	first.answer = func(farVisit) []byte { return farJoin(farRouting("other.example.test", 11003), farDone()) }
	first.start(t)
	dialer := &farDialer{to: map[string]*farServer{"10.0.0.4:14330": first, "other.example.test:11003": second}}
	u, err := connect(t, tds.Target{Host: "sql.example.test", Dial: "10.0.0.4:14330", Roots: farTrust().pool, Dialer: dialer})
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"10.0.0.4:14330", "other.example.test:11003"}; !slices.Equal(dialer.dialed, want) {
		t.Errorf("dialled %v, want %v", dialer.dialed, want)
	}
	if want := []string{"sql.example.test:1433", "other.example.test:11003"}; !slices.Equal(u.Route, want) || u.Server != want[1] {
		t.Errorf("route = %v at %s, want %v", u.Route, u.Server, want)
	}
	if got := first.seen()[0]; got.sni != "sql.example.test" || got.login.texts["server"] != "sql.example.test" {
		t.Errorf("first hop: SNI %q, ServerName %q", got.sni, got.login.texts["server"])
	}
}

func TestUpstreamSaysWhatTheServerSettled(t *testing.T) {
	f := newFar()
	f.mars = 1
	welcome := farJoin(farDone(), farAck(0x74000004), farEnv(4, "8000", "4096"), farFeatures(farFeature{2, nil}), farDone())
	f.answer = func(farVisit) []byte { return welcome }
	f.start(t)
	options := clientOptions()
	options[4].Data = []byte{1}
	u, err := tds.Connect(t.Context(), targetOf(f), clientLogin(), options, secrets.New(farToken))
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	if u.SPID != 0x0102 || u.PacketSize != 8000 || u.Version != tds.TDS74 || !u.MARS || u.Server != "sql.example.test:1433" {
		t.Errorf("SPID %#x, packets of %d, version %#x, MARS %v, server %s", u.SPID, u.PacketSize, u.Version, u.MARS, u.Server)
	}
	if !bytes.Equal(tds.Join(u.Answer), welcome) {
		t.Errorf("answer = %x, want %x", tds.Join(u.Answer), welcome)
	}
	var phases []tds.Phase
	for _, timing := range u.Timings {
		phases = append(phases, timing.Phase)
	}
	if want := []tds.Phase{tds.PhaseDial, tds.PhasePrelogin, tds.PhaseTLS, tds.PhaseLogin}; !slices.Equal(phases, want) {
		t.Errorf("phases = %v, want %v", phases, want)
	}
	if f.seen()[0].options[4][0] != 1 {
		t.Error("the server was not asked for MARS")
	}
	// What follows travels inside TLS, both ways.
	if _, err := u.Conn().Write([]byte("ping")); err != nil {
		t.Fatal(err)
	}
	back := make([]byte, 4)
	if _, err := io.ReadFull(u.Conn(), back); err != nil || string(back) != "ping" {
		t.Errorf("echo = %q, %v", back, err)
	}
}

func TestMARSThatTheServerRefusesIsAnError(t *testing.T) {
	f := newFar().start(t)
	options := clientOptions()
	options[4].Data = []byte{1}
	_, err := tds.Connect(t.Context(), targetOf(f), clientLogin(), options, secrets.New(farToken))
	if err == nil || !strings.Contains(err.Error(), "does not support MARS") || f.seen()[0].loginSeen {
		t.Errorf("error = %v", err)
	}
}

func TestAnAnswerOverManyPacketsIsOne(t *testing.T) {
	f := newFar()
	f.answer = func(farVisit) []byte {
		var b []byte
		for range 50 {
			b = append(b, farInfo(strings.Repeat("long ", 100))...)
		}
		return append(b, farWelcome()...)
	}
	u, err := connect(t, targetOf(f.start(t)))
	if err != nil || len(u.Answer) != 57 {
		t.Errorf("Connect() = %d tokens, %v", len(u.Answer), err)
	}
}

func TestSuccessNeedsLoginackAndTheTokensAcknowledgement(t *testing.T) {
	ack, fed := farAck(0x74000004), farFeatures(farFeature{2, nil})
	for _, c := range []struct {
		name, reason string
		answer       []byte
	}{
		{"nothing", "LOGINACK", farDone()},
		{"no LOGINACK", "LOGINACK", farJoin(fed, farDone())},
		{"no FEATUREEXTACK", "access token", farJoin(ack, farDone())},
		{"another feature", "access token", farJoin(ack, farFeatures(farFeature{0x0a, []byte{1}}), farDone())},
		{"old TDS", "older than 7.3B", farJoin(farAck(0x72090002), fed, farDone())},
		{"packet size 0", "packet size", farJoin(ack, fed, farEnv(4, "0", "4096"), farDone())},
		{"packet size of words", "packet size", farJoin(ack, fed, farEnv(4, "many", "4096"), farDone())},
		{"a token of results", "0x81", farJoin(ack, fed, []byte{0x81, 0, 0}, farDone())},
		{"half a token", "ends beyond", farJoin(ack, fed)[:30]},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFar()
			f.answer = func(farVisit) []byte { return c.answer }
			e := loginErr(t, targetOf(f.start(t)))
			if e.Phase != tds.PhaseLogin || e.Refused != nil || !strings.Contains(e.Error(), c.reason) {
				t.Errorf("error = %v, want one about %q", e, c.reason)
			}
		})
	}
}

func ExampleConnect() {
	ctx := context.Background()
	target := tds.Target{Host: "orders.database.windows.net", Dialer: dialFunc(func(context.Context) (net.Conn, error) {
		return nil, &net.DNSError{Err: "no such host", Name: "orders.database.windows.net", IsNotFound: true}
	})}
	login := &tds.Login{Version: tds.TDS74, Database: tds.NewUTF16("ordersdb")}
	u, err := tds.Connect(ctx, target, login, nil, secrets.New("an access token"))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer u.Close()
	// Output:
	// SQL server orders.database.windows.net:1433: dial: the name is not known to the name server; check server of the entry, and the DNS zone of a private endpoint
}
