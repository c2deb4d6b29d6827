package tds_test

import (
	"bytes"
	"encoding/hex"
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

// sampleLogin is the payload of MS-TDS 4.2, of TDS 7.2, without an extension.
const sampleLogin = "880000000200097200100000000000070001000000000000E003000000000000090400005E0008006E000200720000007200" +
	"0700800000008000000080000400880000008800000000508BE2B78F8800000088000000880000000000000073006B006F00" +
	"730074006F0076003100730061004F00530051004C002D00330032004F00440042004300"

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func parseLogin(t testing.TB, payload []byte) *tds.Login {
	t.Helper()
	l, err := tds.ParseLogin(payload)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestPublishedLoginIsRebuiltByteForByte(t *testing.T) {
	sample := unhex(t, sampleLogin)
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
