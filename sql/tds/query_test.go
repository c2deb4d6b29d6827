package tds_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"os"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-13b04e61/gateway/sql/tds"
)

// server answers each message with the next reply, on a connection that it
// returns the other end of, and keeps what it read.
type server struct {
	conn    net.Conn
	got     [][]byte
	done    chan struct{}
	encrypt *tls.Config
}

func serve(t testing.TB, encrypt *tls.Config, replies ...[]byte) (net.Conn, *server) {
	t.Helper()
	a, b := net.Pipe()
	s := &server{conn: b, done: make(chan struct{}), encrypt: encrypt}
	go s.run(replies)
	t.Cleanup(func() { _ = a.Close(); <-s.done })
	return a, s
}

func (s *server) run(replies [][]byte) {
	defer close(s.done)
	defer func() { _ = s.conn.Close() }()
	for i, reply := range replies {
		_, b, err := tds.ReadMessage(s.conn, 1<<20, tds.PreLogin, tds.Login7, tds.Batch)
		if err != nil {
			return
		}
		s.got = append(s.got, b)
		if tds.WriteMessage(s.conn, tds.Header{Type: tds.Reply}, reply, 4096) != nil {
			return
		}
		if i == 0 && s.encrypt != nil {
			if s.conn, err = tds.StartTLS(context.Background(), s.conn, s.encrypt, tls.Server); err != nil {
				return
			}
		}
	}
}

func prelogin(e ...byte) []byte {
	options := tds.Options{{Token: tds.OptVersion, Data: make([]byte, 6)}}
	if len(e) > 0 {
		options = append(options, tds.Option{Token: tds.OptEncryption, Data: e})
	}
	return options.Bytes()
}

func plainLogin() *tds.Login {
	return &tds.Login{Version: tds.TDS74, PacketSize: 4096, UserName: tds.NewUTF16("any"), Password: tds.NewUTF16("any")}
}

// ask logs in, sends a batch and has it answered with reply.
func ask(t testing.TB, reply []byte) ([][]string, error) {
	t.Helper()
	conn, _ := serve(t, nil, prelogin(2), payload(t, "4.5-login-answer.hex", tds.Reply), reply)
	session, err := tds.Open(t.Context(), conn, plainLogin(), nil)
	if err != nil {
		t.Fatal(err)
	}
	return session.Query(t.Context(), "select 1")
}

func TestPublishedAnswerToABatchIsItsRows(t *testing.T) {
	rows, err := ask(t, payload(t, "4.7-batch-answer.hex", tds.Reply))
	if err != nil || !reflect.DeepEqual(rows, [][]string{{"foo"}}) {
		t.Errorf("rows %v, %v, want foo", rows, err)
	}
}

func TestABatchGoesWithTheHeaderOfATransaction(t *testing.T) {
	conn, s := serve(t, nil, prelogin(2), payload(t, "4.5-login-answer.hex", tds.Reply), unhex(t, done))
	session, err := tds.Open(t.Context(), conn, plainLogin(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if rows, err := session.Query(t.Context(), "é"); err != nil || rows != nil {
		t.Errorf("rows %v, %v, want none", rows, err)
	}
	if err := session.Close(); err != nil {
		t.Fatal(err)
	}
	<-s.done
	if got := hex.EncodeToString(s.got[2]); got != "16000000"+"12000000"+"0200"+"0000000000000000"+"01000000"+"e900" {
		t.Errorf("batch %s", got)
	}
	if got := parseLogin(t, s.got[1]); got.UserName.String() != "any" {
		t.Errorf("login of %q", got.UserName)
	}
}

// metadata describes columns without names, of types in hex.
func metadata(types ...string) string {
	text := "81" + fmt.Sprintf("%02x%02x", len(types), len(types)>>8)
	for _, kind := range types {
		text += "00000000" + "0800" + kind + "00"
	}
	return text
}

const (
	nvarchar = "e7" + "0001" + "0904d00034"
	varchar  = "a7" + "0001" + "0904d00034"
)

func TestRowsOfEveryTypeThatIsReadAreText(t *testing.T) {
	for _, test := range []struct {
		name  string
		reply string
		want  [][]string
	}{
		{"fixed", metadata("38", "7f", "32") + "d1" + "feffffff" + "ffffffffffffff7f" + "01" + done,
			[][]string{{"-2", "9223372036854775807", "1"}}},
		{"nullable", metadata("2608", "2604", "2602", "2601", "6801") +
			"d1" + "080000000000000080" + "0407000000" + "02ffff" + "01ff" + "0100" +
			"d1" + "0000000000" + done,
			[][]string{{"-9223372036854775808", "7", "-1", "255", "0"}, {"NULL", "NULL", "NULL", "NULL", "NULL"}}},
		{"text", metadata(nvarchar, varchar) + "d1" + "0400" + "41002065" + "0300" + "41c3a9" +
			"d1" + "ffff" + "ffff" + "d1" + "0000" + "0200" + "e941" + done,
			[][]string{{"A\u6520", "Aé"}, {"NULL", "NULL"}, {"", "\uFFFDA"}}},
		{"with a bitmap of NULLs", metadata("38", nvarchar, "2604", "38", "38", "38", "38", "38", "2604") +
			"d2" + "fa00" + "05000000" + "0408000000" + "0402000000" + done,
			[][]string{{"5", "NULL", "8", "NULL", "NULL", "NULL", "NULL", "NULL", "2"}}},
		{"two results", metadata("38") + "d1" + "01000000" + "fd1100c1000100000000000000" +
			"ab" + hex.EncodeToString(tds.InfoToken("hello"))[2:] +
			metadata("32") + "a902000100" + "d1" + "01" + "7900000000" + done,
			[][]string{{"1"}, {"1"}}},
		{"no columns", "81ffff" + done, nil},
	} {
		rows, err := ask(t, unhex(t, test.reply))
		if err != nil || !reflect.DeepEqual(rows, test.want) {
			t.Errorf("%s: rows %q, %v, want %q", test.name, rows, err, test.want)
		}
	}
}

func TestWhatAQueryCannotReadIsAnError(t *testing.T) {
	wide := metadata("32")
	for name, reply := range map[string]string{
		"empty":                      "",
		"no DONE":                    metadata("38"),
		"a row cut off":              metadata("38") + "d1010000",
		"a row without columns":      "d1" + done,
		"a row of none":              "810000" + "d1" + done,
		"a bitmap cut off":           metadata("38") + "d2",
		"text cut off":               metadata(nvarchar) + "d1" + "0600" + "4100",
		"columns cut off":            "81ff00" + "00000000" + "0800" + "38" + "00",
		"a name cut off":             "810100" + "00000000" + "0800" + "38" + "05" + "4100",
		"nvarchar(max)":              metadata("e7" + "ffff" + "0904d00034"),
		"varchar(max)":               metadata("a7" + "ffff" + "0904d00034"),
		"datetime":                   metadata("3d") + "d1" + "0000000000000000" + done,
		"sql_variant":                metadata("62" + "49230000"),
		"an integer of 3 bytes":      metadata("2604") + "d1" + "03000000" + done,
		"an integer of 255 bytes":    metadata("2604") + "d1" + "ff" + strings.Repeat("00", 255) + done,
		"an unknown token":           "42",
		"values without end":         wide + strings.Repeat("d101", 1<<16+1) + done,
		"more than 1 MiB":            strings.Repeat(done, 1<<20/13+1),
		"a failure that nobody told": "fd0200000000000000000000" + "00",
	} {
		if rows, err := ask(t, unhex(t, reply)); err == nil {
			t.Errorf("%s: rows %q", name, rows)
		}
	}
}

func TestErrorsOfAQueryAreTheServersWords(t *testing.T) {
	reply := append(tds.LoginFailed("first").Reply(tds.TDS74), tds.Unavailable("second").Reply(tds.TDS74)...)
	rows, err := ask(t, reply)
	refused, ok := errors.AsType[*tds.ServerError](err)
	if !ok || refused.Number != 18456 || !strings.Contains(err.Error(), "second") || rows != nil {
		t.Errorf("rows %v, error %v, want both of the server's", rows, err)
	}
}

func TestOpenEncryptsWhenItIsGivenAConfig(t *testing.T) {
	serverConf, clientConf := tlsConfigs(t, 0)
	for _, answer := range []byte{1, 3} {
		conn, _ := serve(t, serverConf, prelogin(answer), payload(t, "4.5-login-answer.hex", tds.Reply), payload(t, "4.7-batch-answer.hex", tds.Reply))
		session, err := tds.Open(t.Context(), conn, plainLogin(), clientConf)
		if err != nil {
			t.Fatal(err)
		}
		if rows, err := session.Query(t.Context(), "select 'foo' as bar"); err != nil || rows[0][0] != "foo" {
			t.Errorf("rows %v, %v", rows, err)
		}
	}
}

func TestOpenNeverFallsBack(t *testing.T) {
	_, clientConf := tlsConfigs(t, 0)
	for _, test := range []struct {
		name   string
		conf   *tls.Config
		answer []byte
	}{
		{"the server cannot encrypt", clientConf, prelogin(2)},
		{"the server encrypts the login alone", clientConf, prelogin(0)},
		{"the server says nothing", clientConf, prelogin()},
		{"the server requires encryption", nil, prelogin(3)},
		{"the server turns encryption on", nil, prelogin(1)},
		{"nothing is said in clear text", nil, prelogin()},
		{"no PRELOGIN", nil, []byte{1, 2, 3}},
	} {
		conn, s := serve(t, nil, test.answer, payload(t, "4.5-login-answer.hex", tds.Reply))
		if _, err := tds.Open(t.Context(), conn, plainLogin(), test.conf); err == nil {
			t.Errorf("%s: logged in", test.name)
		}
		_ = conn.Close()
		<-s.done
		if len(s.got) != 1 {
			t.Errorf("%s: the login was sent all the same", test.name)
		}
	}
}

func TestOpenSaysWhyItFailed(t *testing.T) {
	whole := split(t, payload(t, "4.5-login-answer.hex", tds.Reply))
	size := func(hex string) []byte { return append(tds.Join(whole[5:6]), envChange(t, hex)...) }
	for name, answer := range map[string][]byte{
		"refused":            tds.LoginFailed("no such user").Reply(tds.TDS74),
		"no LOGINACK":        tds.Join(whole[:5]),
		"no tokens":          {0x42},
		"a packet of 0":      size("04" + "013000" + "00"),
		"a packet of 99999":  size("04" + "0539003900390039003900" + "00"),
		"a packet of a name": size("04" + "016100" + "00"),
	} {
		conn, _ := serve(t, nil, prelogin(2), answer)
		_, err := tds.Open(t.Context(), conn, plainLogin(), nil)
		if err == nil {
			t.Errorf("%s: logged in", name)
		}
		if refused, ok := errors.AsType[*tds.ServerError](err); ok != (name == "refused") || ok && refused.Message != "no such user" {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

func TestALoginThatCannotBeWrittenIsNotSent(t *testing.T) {
	conn, _ := serve(t, nil, prelogin(2))
	if _, err := tds.Open(t.Context(), conn, &tds.Login{Version: tds.TDS71}, nil); err == nil {
		t.Error("logged in with TDS 7.1")
	}
}

func TestSilentServersAreGivenUpWithTheContext(t *testing.T) {
	loginAnswer := payload(t, "4.5-login-answer.hex", tds.Reply)
	synctest.Test(t, func(t *testing.T) {
		a, b := net.Pipe()
		defer b.Close()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, err := tds.Open(ctx, a, plainLogin(), nil); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Open: error %v, want that of the context", err)
		}
		conn, _ := serve(t, nil, prelogin(2), loginAnswer)
		session, err := tds.Open(t.Context(), conn, plainLogin(), nil)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel = context.WithCancel(t.Context())
		cancel()
		if _, err := session.Query(ctx, "select 1"); !errors.Is(err, context.Canceled) {
			t.Errorf("Query: error %v, want that of the context", err)
		}
	})
}

func ExampleOpen() {
	// A server that plays the published samples of MS-TDS 4.5 and 4.7.
	read := func(name string) []byte {
		text, _ := os.ReadFile("testdata/ms-tds/" + name)
		message, _ := hex.DecodeString(string(bytes.ReplaceAll(text, []byte("\n"), nil)))
		return message[tds.HeaderSize:]
	}
	conn, far := net.Pipe()
	s := &server{conn: far, done: make(chan struct{})}
	go s.run([][]byte{prelogin(2), read("4.5-login-answer.hex"), read("4.7-batch-answer.hex")})

	ctx := context.Background()
	session, err := tds.Open(ctx, conn, &tds.Login{Version: tds.TDS74, UserName: tds.NewUTF16("any")}, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer session.Close()
	fmt.Println(session.Query(ctx, "select 'foo' as bar"))
	// Output: [[foo]] <nil>
}

func TestASessionWithMARSTakesNoPlainQuery(t *testing.T) {
	if _, err := (&tds.Upstream{MARS: true}).Query(t.Context(), "select 1"); err == nil || !strings.Contains(err.Error(), "MARS") {
		t.Errorf("error %v, want one that names MARS", err)
	}
}
