package tds_test

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"

	"github.com/seed-13b04e61/gateway/sql/tds"
)

func split(t testing.TB, payload []byte) []tds.Token {
	t.Helper()
	tokens, err := tds.SplitTokens(payload)
	if err != nil {
		t.Fatal(err)
	}
	return tokens
}

func TestPublishedAnswerToALoginIsReadToken(t *testing.T) {
	body := payload(t, "4.5-login-answer.hex", tds.Reply)
	tokens := split(t, body)
	var kinds []byte
	for _, token := range tokens {
		kinds = append(kinds, token.Type())
	}
	if got := hex.EncodeToString(kinds); got != "e3abe3e3abade3aefd" {
		t.Fatalf("tokens %s, want e3abe3e3abade3aefd", got)
	}
	if !bytes.Equal(tds.Join(tokens), body) {
		t.Error("Join does not make the answer again")
	}
	for i, want := range map[int]string{
		0: "1 master master", 2: "7 0904d00034 ", 3: "2 us_english ", 6: "4 4096 4096",
	} {
		kind, newValue, oldValue, err := tds.EnvChange(tokens[i])
		got := fmt.Sprintf("%d %s %s", kind, tds.UTF16(newValue), tds.UTF16(oldValue))
		if kind == tds.EnvCollation {
			got = fmt.Sprintf("%d %x %x", kind, newValue, oldValue)
		}
		if err != nil || got != want {
			t.Errorf("token %d: ENVCHANGE %s, %v, want %s", i, got, err, want)
		}
	}
	info, err := tds.ParseServerError(tokens[1])
	want := tds.ServerError{Number: 5701, State: 2, Message: "Changed database context to 'master'.", Server: "cloud", Line: 1}
	if err != nil || *info != want {
		t.Errorf("INFO %+v, %v, want %+v", info, err, want)
	}
	ack, err := tds.ParseLoginAck(tokens[5])
	wantAck := tds.LoginAck{Interface: 1, Version: tds.TDS74, Program: "Microsoft SQL Server\x00\x00", Build: [4]byte{0x0b, 0, 0x08, 0xcb}}
	if err != nil || ack != wantAck {
		t.Errorf("LOGINACK %+v, %v, want %+v", ack, err, wantAck)
	}
	features, err := tds.ParseFeatureExtAck(tokens[7])
	if err != nil || len(features) != 1 || features[0].ID != tds.FeatureFedAuth || len(features[0].Data) != 64 {
		t.Errorf("FEATUREEXTACK %v, %v", features, err)
	}
	if again := tds.BuildFeatureExtAck(features); !bytes.Equal(again, tokens[7]) {
		t.Errorf("FEATUREEXTACK is built as %x", again)
	}
}

func TestWithVersionChangesNothingElse(t *testing.T) {
	token := split(t, payload(t, "4.5-login-answer.hex", tds.Reply))[5]
	before := bytes.Clone(token)
	changed := tds.WithVersion(token, tds.TDS73B)
	if !bytes.Equal(token, before) {
		t.Error("the token itself was changed")
	}
	ack, err := tds.ParseLoginAck(changed)
	if err != nil || ack.Version != tds.TDS73B || !bytes.Equal(tds.WithVersion(changed, tds.TDS74), before) {
		t.Errorf("LOGINACK %+v, %v", ack, err)
	}
}

// done is DONE without bits.
const done = "fd000000000000000000000000"

func TestDoneMayStandBeforeLoginAck(t *testing.T) {
	ack := hex.EncodeToString(split(t, payload(t, "4.5-login-answer.hex", tds.Reply))[5])
	tokens := split(t, unhex(t, done+ack+strings.Replace(done, "fd", "ff", 1)+done))
	if len(tokens) != 4 || tokens[1].Type() != tds.TokenLoginAck || tokens[2].Type() != tds.TokenDoneInProc {
		t.Errorf("tokens %x", tokens)
	}
}

func TestEveryTokenOfALoginsAnswerIsCut(t *testing.T) {
	for _, token := range []string{
		"7901000000", "a902000000", "ed0100aa", "e40300000000ffff"[:16], "ee02000000beef",
		"ae" + "0900000000" + "0a0100000001" + "ff", "aeff", "fe" + done[2:], done,
	} {
		tokens := split(t, unhex(t, token+done))
		if len(tokens) != 2 || hex.EncodeToString(tokens[0]) != token {
			t.Errorf("%s is cut as %x", token, tokens)
		}
	}
}

func TestBrokenTokenStreamsAreErrors(t *testing.T) {
	for name, in := range map[string]string{
		"unknown token":                  done + "42",
		"a column's description":         "8100",
		"0x00":                           "00",
		"DONE cut off":                   done[:24],
		"ENVCHANGE without length":       "e30b",
		"ENVCHANGE cut off":              "e3040001000",
		"SESSIONSTATE without length":    "e4000000",
		"SESSIONSTATE of nearly 4 GiB":   "e4ffffffff" + done,
		"FEDAUTHINFO cut off":            "ee0300000000",
		"FEATUREEXTACK without end":      "ae0900000000",
		"FEATUREEXTACK of nearly 4 GiB":  "ae09ffffffffff",
		"FEATUREEXTACK, a feature twice": "ae09000000000900000000ff",
		"RETURNSTATUS cut off":           "79010000",
	} {
		if len(in)%2 == 1 {
			in += "0"
		}
		if tokens, err := tds.SplitTokens(unhex(t, in)); err == nil {
			t.Errorf("%s: cut as %x", name, tokens)
		}
	}
}

// envChange makes an ENVCHANGE of its value.
func envChange(t testing.TB, value string) tds.Token {
	t.Helper()
	b := unhex(t, value)
	return append(tds.Token{tds.TokenEnvChange, byte(len(b)), byte(len(b) >> 8)}, b...)
}

func TestBrokenEnvChangesAreErrors(t *testing.T) {
	for name, token := range map[string]tds.Token{
		"empty":              {},
		"another token":      unhex(t, done),
		"no type":            envChange(t, ""),
		"no values":          envChange(t, "01"),
		"new value cut off":  envChange(t, "010261000"+"0"),
		"no old value":       envChange(t, "01016100"),
		"old value cut off":  envChange(t, "0705090400003401"),
		"a length too small": tds.Token(unhex(t, "e30100010000")),
		"a length too large": tds.Token(unhex(t, "e30900010000")),
	} {
		if kind, newValue, oldValue, err := tds.EnvChange(token); err == nil {
			t.Errorf("%s: read as %d %x %x", name, kind, newValue, oldValue)
		}
	}
	if kind, newValue, oldValue, err := tds.EnvChange(envChange(t, "0f0100000000")); kind != 15 || newValue != nil || oldValue != nil || err != nil {
		t.Errorf("a type with values of its own: %d %x %x %v", kind, newValue, oldValue, err)
	}
}

// routing makes a routing ENVCHANGE as MS-TDS 2.2.7.9 lays it out.
func routing(t testing.TB, kind byte, protocol byte, port uint16, names ...string) tds.Token {
	t.Helper()
	value := []byte{protocol, byte(port), byte(port >> 8)}
	for _, name := range names {
		u := tds.NewUTF16(name)
		value = append(append(value, byte(u.Units()), byte(u.Units()>>8)), u...)
	}
	value = append([]byte{kind, byte(len(value)), byte(len(value) >> 8)}, value...)
	return envChange(t, hex.EncodeToString(append(value, 0, 0)))
}

func TestRoutingIsReadWithInstanceAndWithout(t *testing.T) {
	for _, test := range []struct {
		token tds.Token
		want  tds.Routing
	}{
		{routing(t, 20, 0, 11043, "node7.tr1.eastus1-a.worker.database.windows.net"),
			tds.Routing{Host: "node7.tr1.eastus1-a.worker.database.windows.net", Port: 11043}},
		{routing(t, 20, 0, 65535, `pbi.fabric.microsoft.com\WH-1`),
			tds.Routing{Host: "pbi.fabric.microsoft.com", Instance: "WH-1", Port: 65535}},
		{routing(t, 21, 0, 1433, "a.database.windows.net", "db"),
			tds.Routing{Host: "a.database.windows.net", Port: 1433, Database: "db"}},
		{routing(t, 21, 0, 1433, `a.database.windows.net\i`, ""),
			tds.Routing{Host: "a.database.windows.net", Instance: "i", Port: 1433}},
	} {
		if got, err := tds.ParseRouting(test.token); err != nil || got != test.want {
			t.Errorf("ParseRouting(%x) = %+v, %v, want %+v", test.token, got, err, test.want)
		}
	}
}

func TestRoutingThatLeadsNowhereIsAnError(t *testing.T) {
	for name, token := range map[string]tds.Token{
		"port 0":                 routing(t, 20, 0, 0, "a.b"),
		"another protocol":       routing(t, 20, 1, 1433, "a.b"),
		"no host":                routing(t, 20, 0, 1433, ""),
		"an instance alone":      routing(t, 20, 0, 1433, `\i`),
		"a host with a path":     routing(t, 20, 0, 1433, "evil.example/.database.windows.net"),
		"a host with a port":     routing(t, 20, 0, 1433, "a.b:99"),
		"a host with NUL":        routing(t, 20, 0, 1433, "evil.example\x00.database.windows.net"),
		"a host not of ASCII":    routing(t, 20, 0, 1433, "a。b"),
		"a host too long":        routing(t, 20, 0, 1433, strings.Repeat("a", 254)),
		"a dot first":            routing(t, 20, 0, 1433, ".database.windows.net"),
		"an instance too long":   routing(t, 20, 0, 1433, `a\`+strings.Repeat("i", 129)),
		"an instance with lines": routing(t, 20, 0, 1433, "a\\i\nj"),
		"no name":                routing(t, 20, 0, 1433),
		"21 without database":    routing(t, 21, 0, 1433, "a.b"),
		"another type":           envChange(t, "010000"),
		"cut off":                envChange(t, "140400"+"00"),
		"nothing":                envChange(t, ""),
		"not even a token":       nil,
	} {
		if got, err := tds.ParseRouting(token); err == nil {
			t.Errorf("%s: read as %+v", name, got)
		}
	}
}

func TestBrokenErrorsAndAcksAreErrors(t *testing.T) {
	whole := tds.InfoToken("text")
	for n := range len(whole) {
		cut := bytes.Clone(whole[:n])
		if n >= 3 {
			cut[1], cut[2] = byte(n-3), 0
		}
		if e, err := tds.ParseServerError(cut); err == nil {
			t.Errorf("INFO of %d bytes is read as %v", n, e)
		}
	}
	ack := split(t, payload(t, "4.5-login-answer.hex", tds.Reply))[5]
	for n := range len(ack) {
		cut := bytes.Clone(ack[:n])
		if n >= 3 {
			cut[1], cut[2] = byte(n-3), 0
		}
		if a, err := tds.ParseLoginAck(cut); err == nil {
			t.Errorf("LOGINACK of %d bytes is read as %v", n, a)
		}
	}
	for _, in := range []string{"", "ad", "ae", "ae0a", "aeff00"} {
		if f, err := tds.ParseFeatureExtAck(unhex(t, in)); err == nil {
			t.Errorf("FEATUREEXTACK %s is read as %v", in, f)
		}
	}
}

func ExampleSplitTokens() {
	refusal := tds.LoginFailed("login failed for user <token-identified principal>").Reply(tds.TDS74)
	tokens, err := tds.SplitTokens(refusal)
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, token := range tokens {
		if token.Type() == tds.TokenError {
			fmt.Println(tds.ParseServerError(token))
		}
	}
	// Output: error 18456, state 1: login failed for user <token-identified principal> <nil>
}
