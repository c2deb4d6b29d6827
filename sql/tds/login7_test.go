package tds_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/seed-13b04e61/gateway/secrets"
	"github.com/seed-13b04e61/gateway/sql/tds"
)

// goldenLogin is a LOGIN7 with the features UTF8 and FEDAUTH, the latter with
// the token "abc" and the echo bit.
const goldenLogin = "b70000000400007400100000000000000000000000000000a002001000000000000000005e00020062000000620000006200" +
	"03006800160094000400980002009c0000009c000200000000000000a0000000a0000000a000000000000000680031006100" +
	"7000700073002e00640061007400610062006100730065002e00770069006e0064006f00770073002e006e0065007400a000" +
	"000067007700640031000a0100000001020b0000000306000000610062006300ff"

func parseLogin(t testing.TB, payload []byte) *tds.Login {
	t.Helper()
	l, err := tds.ParseLogin(payload)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestPublishedLoginIsRebuiltByteForByte(t *testing.T) {
	sample := payload(t, "4.2-login.hex", tds.Login7)
	l := parseLogin(t, sample)
	if l.HostName.String() != "skostov1" || l.UserName.String() != "sa" || l.AppName.String() != "OSQL-32" ||
		l.Library.String() != "ODBC" || l.Version != tds.TDS72 || l.Features != nil {
		t.Errorf("host %q, user %q, app %q, library %q, version %#x, features %v",
			l.HostName, l.UserName, l.AppName, l.Library, l.Version, l.Features)
	}
	got, err := l.Bytes()
	if err != nil || !bytes.Equal(got, sample) {
		t.Errorf("Bytes() = %x, %v, want %x", got, err, sample)
	}
}

func TestLoginWithAnAccessTokenIsTheGoldenOne(t *testing.T) {
	l := &tds.Login{
		Version: tds.TDS74, PacketSize: 4096, OptionFlags1: 0xa0, OptionFlags2: 0x02,
		HostName: tds.NewUTF16("h1"), AppName: tds.NewUTF16("app"),
		ServerName: tds.NewUTF16("s.database.windows.net"),
		Library:    tds.NewUTF16("gw"), Database: tds.NewUTF16("d1"),
		Features: []tds.Feature{{ID: 0x0a, Data: []byte{1}}, tds.FedAuth(secrets.New("abc"), true, nil)},
	}
	got, err := l.Bytes()
	if want := strings.ToLower(goldenLogin); err != nil || hex.EncodeToString(got) != want {
		t.Errorf("Bytes() = %x, %v, want %s", got, err, want)
	}
	again, err := parseLogin(t, got).Bytes()
	if err != nil || !bytes.Equal(got, again) {
		t.Errorf("parsed and rebuilt = %x, %v, want %x", again, err, got)
	}
}

// The sample's token is cut out of it, so the test makes one up, and what the
// library of the sample puts behind it: a nonce, a channel token, a signature.
func TestPublishedLoginWithFedAuthIsReadAndWrittenAlike(t *testing.T) {
	whole := sample(t, "4.3-login-fedauth-head.hex")
	whole = append(whole, bytes.Repeat([]byte{'t', 0}, 0x6e2/2)...)
	whole = append(whole, make([]byte, 0x73e-1-4-0x6e2)...)
	whole = append(whole, 0xff)
	_, body, err := tds.ReadMessage(bytes.NewReader(whole), tds.MaxLoginBytes, tds.Login7)
	if err != nil {
		t.Fatal(err)
	}
	l := parseLogin(t, body)
	if l.HostName.String() != "DANBENED3-XGZUO" || l.AppName.String() != "SQLCMD" ||
		l.ServerName.String() != "cloud.dev.mscds.com,1435" ||
		l.UserName != nil || l.Database != nil || l.Version != tds.TDS74 {
		t.Errorf("host %q, app %q, server %q, version %#x", l.HostName, l.AppName, l.ServerName, l.Version)
	}
	data, found := l.Feature(tds.FeatureFedAuth)
	if !found || len(data) != 0x73e || data[0] != 1 {
		t.Fatalf("FEDAUTH of %d bytes (%t)", len(data), found)
	}
	again, err := l.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	if got := parseLogin(t, again); !reflect.DeepEqual(got, l) || len(again) != len(body) {
		t.Errorf("written anew it has %d bytes and is another login, want %d", len(again), len(body))
	}
}

// change returns the golden login with bytes put at a place.
func change(t testing.TB, at int, b ...byte) []byte {
	t.Helper()
	login := unhex(t, goldenLogin)
	copy(login[at:], b)
	return login
}

func TestBrokenLoginsAreErrors(t *testing.T) {
	golden := unhex(t, goldenLogin)
	features := func(hex string) []byte {
		b := append(bytes.Clone(golden[:0xa0]), unhex(t, hex)...)
		b[0] = byte(len(b))
		return b
	}
	for name, in := range map[string][]byte{
		"empty":                            nil,
		"85 bytes":                         golden[:85],
		"93 bytes of 7.4":                  append([]byte{93}, golden[1:93]...),
		"a length beyond the message":      change(t, 0, 0xb8),
		"a length of nearly 4 GiB":         change(t, 0, 0xff, 0xff, 0xff, 0xff),
		"a length below the fixed part":    change(t, 0, 0x5d),
		"a host name beyond the end":       change(t, 36, 0xb6, 0),
		"a host name at 65535":             change(t, 36, 0xff, 0xff),
		"a password of 65535 characters":   change(t, 46, 0xff, 0xff),
		"a database of 4097 characters":    change(t, 70, 0x01, 0x10),
		"SSPI beyond the end":              change(t, 78, 0, 0, 0xff, 0),
		"long SSPI beyond the end":         change(t, 78, 0, 0, 0xff, 0xff, 0xa0, 0, 0, 0, 0xa0, 0, 0, 0, 0, 0, 1, 0),
		"long SSPI of nearly 4 GiB":        change(t, 78, 0, 0, 0xff, 0xff, 0xa0, 0, 0, 0, 0xa0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff),
		"an extension of 3 bytes":          change(t, 58, 3),
		"an extension beyond the end":      change(t, 56, 0xb5, 0),
		"features beyond the end":          change(t, 0x94, 0xb7, 0),
		"features at nearly 4 GiB":         change(t, 0x94, 0xff, 0xff, 0xff, 0xff),
		"features without terminator":      features("0a0000000009000000"),
		"no features at all":               features(""),
		"a feature cut off":                features("0a0100"),
		"a feature beyond the end":         features("0a02000000ff"),
		"a feature of nearly 4 GiB":        features("0affffffffff"),
		"a feature twice":                  features("0a00000000" + "0a00000000" + "ff"),
		"an unknown feature twice":         features("7700000000" + "7700000000" + "ff"),
		"an old login cut off in its data": append([]byte{0x90, 0, 0, 0, 0, 0, 0, 0x71}, golden[8:0x60]...),
	} {
		if l, err := tds.ParseLogin(in); err == nil {
			t.Errorf("%s: parsed as %v", name, l)
		} else if strings.Contains(err.Error(), "h1") {
			t.Errorf("%s: the error quotes the login: %v", name, err)
		}
	}
}

func TestEmptyFieldsMayPointAnywhere(t *testing.T) {
	l := parseLogin(t, change(t, 40, 0xff, 0xff, 0, 0, 0xff, 0xff, 0, 0))
	if l.UserName != nil || l.Password != nil || l.AppName.String() != "app" {
		t.Errorf("user %q, app %q", l.UserName, l.AppName)
	}
}

func TestFieldsMayOverlap(t *testing.T) {
	l := parseLogin(t, change(t, 40, 0x5e, 0, 2, 0))
	if l.UserName.String() != "h1" || l.HostName.String() != "h1" {
		t.Errorf("user %q, host %q, want h1 twice", l.UserName, l.HostName)
	}
	clear(l.UserName)
	if l.HostName.String() != "h1" {
		t.Error("fields that overlap in the message share memory in the login")
	}
}

func TestWhatFollowsTheSaidLengthIsNotRead(t *testing.T) {
	l := parseLogin(t, append(unhex(t, goldenLogin), 1, 2, 3))
	if !reflect.DeepEqual(l, parseLogin(t, unhex(t, goldenLogin))) {
		t.Error("bytes behind the login changed it")
	}
}

func TestALoginWithTheBitOfAnExtensionButNoneIsWrittenWithoutIt(t *testing.T) {
	l := parseLogin(t, change(t, 58, 0))
	if l.Features != nil || l.OptionFlags3&0x10 != 0 {
		t.Errorf("features %v, OptionFlags3 %#x, want neither", l.Features, l.OptionFlags3)
	}
}

// oldLogin is one of TDS 7.1, whose fixed part has 86 bytes.
func oldLogin() []byte {
	b := make([]byte, 86)
	b[0], b[7] = 88, 0x71
	b[27] = 0x10 // which means nothing yet
	b[36], b[38] = 86, 1
	b[56], b[58] = 86, 4
	return append(b, 'h', 0)
}

func TestLoginsBefore72AreReadAndNotWritten(t *testing.T) {
	l := parseLogin(t, oldLogin())
	if l.HostName.String() != "h" || l.Version != tds.TDS71 || l.Features != nil || l.ChangePassword != nil {
		t.Errorf("host %q, version %#x, features %v", l.HostName, l.Version, l.Features)
	}
	if _, err := l.Bytes(); err == nil {
		t.Error("a login of 7.1 was written")
	}
}

func TestVersionsFrom73BOnAreServed(t *testing.T) {
	for version, want := range map[uint32]bool{
		tds.TDS70: false, tds.TDS71: false, tds.TDS711: false, tds.TDS72: false, tds.TDS73A: false,
		tds.TDS73B: true, tds.TDS74: true, tds.TDS80: true, 0: false, 0x0800: false,
	} {
		if got := tds.AtLeast73B(version); got != want {
			t.Errorf("AtLeast73B(%#08x) = %t, want %t", version, got, want)
		}
	}
}

func TestFieldsBeyondTheirLimitsAreNotWritten(t *testing.T) {
	for _, test := range []struct {
		name string
		set  func(*tds.Login, tds.UTF16)
		max  int
	}{
		{"HostName", func(l *tds.Login, u tds.UTF16) { l.HostName = u }, 128},
		{"UserName", func(l *tds.Login, u tds.UTF16) { l.UserName = u }, 128},
		{"Password", func(l *tds.Login, u tds.UTF16) { l.Password = u }, 128},
		{"AppName", func(l *tds.Login, u tds.UTF16) { l.AppName = u }, 128},
		{"ServerName", func(l *tds.Login, u tds.UTF16) { l.ServerName = u }, 128},
		{"CltIntName", func(l *tds.Login, u tds.UTF16) { l.Library = u }, 128},
		{"Language", func(l *tds.Login, u tds.UTF16) { l.Language = u }, 128},
		{"Database", func(l *tds.Login, u tds.UTF16) { l.Database = u }, 128},
		{"AtchDBFile", func(l *tds.Login, u tds.UTF16) { l.AttachDBFile = u }, 260},
		{"ChangePassword", func(l *tds.Login, u tds.UTF16) { l.ChangePassword = u }, 128},
	} {
		l := parseLogin(t, unhex(t, goldenLogin))
		test.set(l, tds.NewUTF16(strings.Repeat("x", test.max)))
		b, err := l.Bytes()
		if err != nil || !reflect.DeepEqual(parseLogin(t, b), l) {
			t.Errorf("%s of %d characters: %v", test.name, test.max, err)
		}
		test.set(l, tds.NewUTF16(strings.Repeat("x", test.max+1)))
		if _, err := l.Bytes(); err == nil || !strings.Contains(err.Error(), test.name) {
			t.Errorf("%s of %d characters: error %v", test.name, test.max+1, err)
		}
	}
}

func TestALoginIsAtMost128KiBLessOne(t *testing.T) {
	l := parseLogin(t, unhex(t, goldenLogin))
	b, _ := l.Bytes()
	l.Features = append(l.Features, tds.Feature{ID: 0x77, Data: make([]byte, tds.MaxLoginBytes-len(b)-5)})
	if b, err := l.Bytes(); err != nil || len(b) != tds.MaxLoginBytes {
		t.Errorf("%d bytes, %v, want %d", len(b), err, tds.MaxLoginBytes)
	}
	l.Features[2].Data = append(l.Features[2].Data, 0)
	if _, err := l.Bytes(); !errors.Is(err, tds.ErrTooLong) {
		t.Errorf("error %v, want ErrTooLong", err)
	}
}

func TestSSPIOfEveryLengthComesThrough(t *testing.T) {
	for _, n := range []int{1, 65534, 65535, 65536, 70000} {
		l := parseLogin(t, unhex(t, goldenLogin))
		l.SSPI = bytes.Repeat([]byte{9}, n)
		b, err := l.Bytes()
		if n > 65000 { // the fields behind it would begin where no offset reaches
			if !errors.Is(err, tds.ErrTooLong) {
				t.Errorf("SSPI of %d bytes: error %v, want ErrTooLong", n, err)
			}
			continue
		}
		if err != nil || !reflect.DeepEqual(parseLogin(t, b), l) {
			t.Errorf("SSPI of %d bytes: %v", n, err)
		}
	}
}

func TestLongSSPIIsRead(t *testing.T) {
	b := unhex(t, goldenLogin)
	b = append(b, bytes.Repeat([]byte{9}, 70000)...)
	copy(b, []byte{byte(len(b)), byte(len(b) >> 8), byte(len(b) >> 16)})
	copy(b[78:], []byte{0xb7, 0, 0xff, 0xff})
	for long, want := range map[uint32]int{0: 65535, 66000: 66000, 70000: 70000} {
		copy(b[90:], []byte{byte(long), byte(long >> 8), byte(long >> 16)})
		if got := len(parseLogin(t, b).SSPI); got != want {
			t.Errorf("SSPI has %d bytes, want %d", got, want)
		}
	}
}

func TestPasswordsAreScrambledOnTheWireAlone(t *testing.T) {
	l := parseLogin(t, unhex(t, goldenLogin))
	l.Password, l.ChangePassword = tds.NewUTF16("pä$$"), tds.NewUTF16("new")
	b, err := l.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(b, l.Password) || bytes.Contains(b, l.ChangePassword) {
		t.Error("a password is on the wire as it is")
	}
	// "a" is 0x61: halves swapped 0x16, XOR 0xa5 is 0xb3 (MS-TDS 2.2.6.4).
	l.Password = tds.NewUTF16("a")
	if b, _ = l.Bytes(); b[0x62] != 0xb3 || b[0x63] != 0xa5 {
		t.Errorf("a is scrambled to %x, want b3a5", b[0x62:0x64])
	}
	if got := parseLogin(t, b); got.Password.String() != "a" || got.ChangePassword.String() != "new" {
		t.Error("passwords do not come back")
	}
}

func TestALoginPrintsNoPassword(t *testing.T) {
	l := tds.Login{Version: tds.TDS74, Password: tds.NewUTF16("hunter2"), Features: []tds.Feature{tds.FedAuth(secrets.New("token"), true, nil)}}
	for _, text := range []string{fmt.Sprint(l), fmt.Sprintf("%v %+v %#v %s %q %x", &l, &l, &l, &l, &l, &l)} {
		if strings.Contains(text, "hunter2") || strings.Contains(text, "token") || strings.Contains(text, "104") || strings.Contains(text, "6800") {
			t.Errorf("prints as %s", text)
		}
		if !strings.Contains(text, "0x74000004") {
			t.Errorf("prints as %s, want the version", text)
		}
	}
}

func TestWipeLeavesNothingOfThePasswords(t *testing.T) {
	l := tds.Login{Password: tds.NewUTF16("one"), ChangePassword: tds.NewUTF16("two"), SSPI: []byte{1, 2}}
	password, change, sspi := l.Password, l.ChangePassword, l.SSPI
	l.Wipe()
	for _, b := range [][]byte{password, change, sspi} {
		if !bytes.Equal(b, make([]byte, len(b))) {
			t.Errorf("left %x", b)
		}
	}
	if l.Password != nil || l.ChangePassword != nil || l.SSPI != nil {
		t.Error("fields are still set")
	}
}

func TestACloneSharesNothingAndHasNoPasswords(t *testing.T) {
	l := parseLogin(t, unhex(t, goldenLogin))
	l.Password, l.ChangePassword, l.SSPI = tds.NewUTF16("p"), tds.NewUTF16("q"), []byte{1}
	c := l.Clone()
	if c.Password != nil || c.ChangePassword != nil || c.SSPI != nil {
		t.Error("the clone has passwords")
	}
	l.Wipe()
	if !reflect.DeepEqual(l, c) {
		t.Error("the clone differs in more than passwords")
	}
	clear(l.HostName)
	clear(l.Features[0].Data)
	l.Features[1] = tds.Feature{}
	if data, found := c.Feature(0x0a); c.HostName.String() != "h1" || !found || data[0] != 1 || len(c.Features[1].Data) != 11 {
		t.Error("the clone changed with its original")
	}
}

func TestFedAuthHasEchoAndNonceOnlyIfTheServerHad(t *testing.T) {
	nonce := bytes.Repeat([]byte{0xee}, 32)
	for _, test := range []struct {
		echo  bool
		nonce []byte
		want  string
	}{
		{false, nil, "0202000000" + "7400"},
		{true, nil, "0302000000" + "7400"},
		{false, nonce, "0202000000" + "7400" + strings.Repeat("ee", 32)},
		{true, nonce, "0302000000" + "7400" + strings.Repeat("ee", 32)},
	} {
		f := tds.FedAuth(secrets.New("t"), test.echo, test.nonce)
		if got := hex.EncodeToString(f.Data); f.ID != tds.FeatureFedAuth || got != test.want {
			t.Errorf("FedAuth(t, %t, %x) = %#x %s, want 0x2 %s", test.echo, test.nonce, f.ID, got, test.want)
		}
	}
}

func TestUTF16CountsUnits(t *testing.T) {
	u := tds.NewUTF16("a\U0001F512é")
	if u.Units() != 4 || u.String() != "a\U0001F512é" || hex.EncodeToString(u) != "61003dd812dde900" {
		t.Errorf("%x has %d units and is %q", []byte(u), u.Units(), u)
	}
	if bad := tds.NewUTF16("\xff"); bad.String() != "\uFFFD" {
		t.Errorf("what is no text becomes %q", bad)
	}
}

func ExampleParseLogin() {
	sent := tds.Login{Version: tds.TDS73B, AppName: tds.NewUTF16("reports"), Password: tds.NewUTF16("ignored")}
	payload, err := sent.Bytes()
	if err != nil {
		fmt.Println(err)
		return
	}
	got, err := tds.ParseLogin(payload)
	if err != nil {
		fmt.Println(err)
		return
	}
	got.Wipe()
	fmt.Println(got, "from", got.AppName)
	// Output: LOGIN7 of TDS 0x730b0003 from reports
}
