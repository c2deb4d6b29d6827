package tds_test

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"

	"github.com/seed-13b04e61/gateway/sql/tds"
)

func TestFaultsSpeakTheLayoutOfTheClientsVersion(t *testing.T) {
	f := tds.BadPassword("no")
	const head = "18480000" + "08" + "0e" + "0200" + "6e006f00" +
		"07" + "6700610074006500770061007900" + "00"
	for version, want := range map[uint32]string{
		tds.TDS70:  "aa1e00" + head + "0100" + "fd0200000000000000",
		tds.TDS71:  "aa1e00" + head + "0100" + "fd0200000000000000",
		tds.TDS711: "aa1e00" + head + "0100" + "fd0200000000000000",
		tds.TDS72:  "aa2000" + head + "01000000" + "fd02000000" + "0000000000000000",
		tds.TDS73A: "aa2000" + head + "01000000" + "fd02000000" + "0000000000000000",
		tds.TDS74:  "aa2000" + head + "01000000" + "fd02000000" + "0000000000000000",
		tds.TDS80:  "aa2000" + head + "01000000" + "fd02000000" + "0000000000000000",
	} {
		if got := hex.EncodeToString(f.Reply(version)); got != want {
			t.Errorf("Reply(%#08x) = %s, want %s", version, got, want)
		}
	}
}

func TestFaultsHaveTheNumbersThatDriversKnow(t *testing.T) {
	for _, test := range []struct {
		fault *tds.Fault
		want  tds.ServerError
	}{
		{tds.LoginFailed("m"), tds.ServerError{Number: 18456, State: 1, Class: 14}},
		{tds.BadPassword("m"), tds.ServerError{Number: 18456, State: 8, Class: 14}},
		{tds.Unavailable("m"), tds.ServerError{Number: 40613, State: 1, Class: 17}},
		{tds.TooMany("m"), tds.ServerError{Number: 10928, State: 1, Class: 17}},
	} {
		test.want.Message, test.want.Server, test.want.Line = "m", "gateway", 1
		got, err := tds.ParseServerError(split(t, test.fault.Reply(tds.TDS74))[0])
		if err != nil || *got != test.want {
			t.Errorf("%v is told as %+v, %v, want %+v", test.fault, got, err, test.want)
		}
	}
}

func TestLongFaultsAreCutBetweenCharacters(t *testing.T) {
	for in, want := range map[string]string{
		strings.Repeat("x", 1000):               strings.Repeat("x", 1000),
		strings.Repeat("x", 1001):               strings.Repeat("x", 1000),
		strings.Repeat("x", 998) + "\U0001F512": strings.Repeat("x", 998) + "\U0001F512",
		strings.Repeat("x", 999) + "\U0001F512": strings.Repeat("x", 999),
		strings.Repeat("\U0001F512", 90000):     strings.Repeat("\U0001F512", 500),
	} {
		got, err := tds.ParseServerError(split(t, tds.Unavailable(in).Reply(tds.TDS74))[0])
		if err != nil || got.Message != want {
			t.Errorf("%d bytes are cut to %d, %v, want %d", len(in), len(got.Message), err, len(want))
		}
	}
}

func TestInfoIsNoError(t *testing.T) {
	token := tds.InfoToken("gateway: request=1")
	got, err := tds.ParseServerError(token)
	want := tds.ServerError{Message: "gateway: request=1", Server: "gateway", Line: 1}
	if err != nil || *got != want || token.Type() != tds.TokenInfo {
		t.Errorf("INFO %+v, %v, want %+v", got, err, want)
	}
	if !bytes.Equal(tds.Join(split(t, token)), token) {
		t.Error("the token is not whole")
	}
}

func ExampleFault() {
	f := tds.Unavailable("orders-srv.database.windows.net cannot be reached; try again")
	fmt.Println(f)
	fmt.Printf("%d bytes for TDS 7.4, %d for 7.1\n", len(f.Reply(tds.TDS74)), len(f.Reply(tds.TDS71)))
	// Output:
	// error 40613: orders-srv.database.windows.net cannot be reached; try again
	// 164 bytes for TDS 7.4, 158 for 7.1
}
