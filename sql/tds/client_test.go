package tds_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-13b04e61/gateway/sql/tds"
)

func TestPublishedPreloginIsAnsweredAsServersDo(t *testing.T) {
	f, _ := front(t, tds.TLSOptional)
	conn, _ := arrive(t, f)
	send(t, conn, fromHex(t, "1201002F0000010000001A00060100200001020021000103002200040400260001FF0900000000000100B80D000001")) // MS-TDS 4.1
	// Laid out as the answer of MS-TDS 4.2: another version, and MARS as asked.
	want := fromHex(t, "0401002B0000010000001A00060100200001020021000103002200000400220001FF0C0007D00000010001")
	got := make([]byte, len(want))
	if _, err := io.ReadFull(conn, got); err != nil || !bytes.Equal(got, want) {
		t.Errorf("answer = %X, %v, want %X", got, err, want)
	}
}

func TestMARSIsAnsweredAsAskedAndFedAuthNever(t *testing.T) {
	for _, c := range []struct {
		name string
		more []tds.Option
		want []byte
		said bool
	}{
		{"asked", []tds.Option{{Token: tds.OptMARS, Data: []byte{1}}, {Token: tds.OptFedAuthRequired, Data: []byte{1}}, {Token: tds.OptNonce, Data: make([]byte, 32)}}, []byte{1}, true},
		{"declined", []tds.Option{{Token: tds.OptMARS, Data: []byte{0}}}, []byte{0}, true},
		{"odd", []tds.Option{{Token: tds.OptMARS, Data: []byte{7}}}, []byte{0}, true},
		{"unknown", nil, nil, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			conn, _ := arrive(t, tds.Front{})
			send(t, conn, preloginOf(2, c.more...))
			_, payload, err := tds.ReadMessage(conn, 1<<16, tds.Reply)
			if err != nil {
				t.Fatal(err)
			}
			options, err := tds.ParsePrelogin(payload)
			if err != nil {
				t.Fatal(err)
			}
			if mars, said := options.Get(tds.OptMARS); said != c.said || !bytes.Equal(mars, c.want) {
				t.Errorf("MARS = %x, %v, want %x, %v", mars, said, c.want, c.said)
			}
			for _, never := range []byte{tds.OptFedAuthRequired, tds.OptNonce, tds.OptTraceID} {
				if _, said := options.Get(never); said {
					t.Errorf("option %d was answered", never)
				}
			}
		})
	}
}

func TestOldClientsAreToldWhatToSet(t *testing.T) {
	sample := packet(0x10, fromHex(t, "880000000200097200100000000000070001000000000000E003000000000000090400005E0008006E000200720000007200"+
		"0700800000008000000080000400880000008800000000508BE2B78F8800000088000000880000000000000073006B006F00"+
		"730074006F0076003100730061004F00530051004C002D00330032004F00440042004300")) // MS-TDS 4.2
	for _, c := range []struct {
		name     string
		prelogin bool
		login    []byte
		old      bool
		speaks   string
	}{
		{"7.0", false, oldLogin7(tds.TDS70), true, "7.0 without PRELOGIN"},
		{"7.1 as jTDS", false, oldLogin7(tds.TDS71), true, "7.1 without PRELOGIN"},
		{"7.1", true, oldLogin7(tds.TDS711), true, "7.1"},
		{"7.2", true, sample, false, "7.2"},
		{"7.2 without PRELOGIN", false, sample, false, "7.2 without PRELOGIN"},
		{"7.3A", true, login7(t, func(l *tds.Login) { l.Version = tds.TDS73A }), false, "7.3A"},
		{"7.4 without PRELOGIN", false, login7(t, nil), false, "7.4 without PRELOGIN"},
	} {
		t.Run(c.name, func(t *testing.T) {
			conn, result := arrive(t, tds.Front{Session: "5e55"})
			if c.prelogin {
				send(t, conn, preloginOf(2))
				answered(t, conn)
			}
			send(t, conn, c.login)
			got := readError(t, conn, c.old)
			if got.number != 18456 || got.state != 1 || got.class != 14 || got.server != "gateway" {
				t.Errorf("error = %+v, want 18456 of state 1 and class 14 from gateway", got)
			}
			for _, word := range []string{"TDS 7.3B or later", "speaks " + c.speaks + ":", "TDSVER=7.4"} {
				if !strings.Contains(got.message, word) {
					t.Errorf("message %q lacks %q", got.message, word)
				}
			}
			conn.Close()
			var fault *tds.Fault
			if a := <-result; !errors.As(a.err, &fault) || "gateway: "+fault.Message+" (session 5e55)" != got.message {
				t.Errorf("Accept = %v, want the fault that the client was told, which was %q", a.err, got.message)
			}
		})
	}
}

func TestCredentialsThatNobodyTakesAreRefusedWithTheRemedy(t *testing.T) {
	feature := func(data ...byte) func(l *tds.Login) {
		return func(l *tds.Login) { l.Features = []tds.Feature{{ID: 10, Data: []byte{1}}, {ID: 2, Data: data}} }
	}
	for _, c := range []struct {
		name   string
		front  tds.Front
		change func(l *tds.Login)
		words  []string
	}{
		{"ADAL", tds.Front{}, feature(2<<1, 1), []string{"remove Authentication=Active Directory", "any User ID and Password"}},
		{"library 0", tds.Front{}, feature(1), []string{"remove Authentication=Active Directory"}},
		{"empty FEDAUTH", tds.Front{}, feature(), []string{"remove Authentication=Active Directory"}},
		{"ADAL at a door with callers", tds.Front{Passwords: true, Plain: true}, feature(2<<1, 1), []string{"the caller's name as User ID and its API key as Password"}},
		{"integrated", tds.Front{}, func(l *tds.Login) { l.OptionFlags2 |= 0x80 }, []string{"remove Integrated Security", "Trusted_Connection"}},
		{"SSPI", tds.Front{}, func(l *tds.Login) { l.SSPI = []byte("NTLMSSP") }, []string{"remove Integrated Security"}},
		{"password in clear text", tds.Front{Passwords: true}, nil, []string{"client_tls: optional", "plain: true"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			conn, result := arrive(t, c.front)
			send(t, conn, preloginOf(2))
			answered(t, conn)
			send(t, conn, login7(t, c.change))
			got := readError(t, conn, false)
			if got.number != 18456 || got.state != 1 || got.class != 14 {
				t.Errorf("error = %+v, want 18456 of state 1 and class 14", got)
			}
			for _, word := range c.words {
				if !strings.Contains(got.message, word) {
					t.Errorf("message %q lacks %q", got.message, word)
				}
			}
			conn.Close()
			var fault *tds.Fault
			if a := <-result; !errors.As(a.err, &fault) {
				t.Errorf("Accept = %v, want a fault", a.err)
			}
		})
	}
}

func TestReadyMadeTokenIsTakenAndForgotten(t *testing.T) {
	token := append([]byte{1<<1 | 1, 6, 0, 0, 0}, tds.NewUTF16("abc")...)
	conn, result := arrive(t, tds.Front{})
	send(t, conn, preloginOf(2))
	answered(t, conn)
	send(t, conn, login7(t, func(l *tds.Login) {
		l.Features = []tds.Feature{{ID: 10, Data: []byte{1}}, {ID: 2, Data: token}}
	}))
	login := welcomed(t, result).Login()
	data, there := login.Feature(tds.FeatureFedAuth)
	if !there || bytes.Contains(data[:cap(data)], tds.NewUTF16("abc")) {
		t.Errorf("FEDAUTH = %x, %v, want it there without the token", data[:cap(data)], there)
	}
	if utf8, _ := login.Feature(10); !bytes.Equal(utf8, []byte{1}) || login.Password.String() != "pässword" {
		t.Errorf("feature 10 = %x, password %q, want both as sent", utf8, login.Password)
	}
}

// spied keeps what its reader read into.
type spied struct {
	net.Conn
	buffers [][]byte
}

func (s *spied) Read(b []byte) (int, error) {
	n, err := s.Conn.Read(b)
	s.buffers = append(s.buffers, b[:n])
	return n, err
}

func TestLoginIsOverwrittenWhereItWasReadTo(t *testing.T) {
	secret := scrambled("pässword")
	for _, size := range []int{8, 6000} { // of one packet, of two
		whole := login7(t, func(l *tds.Login) { l.Features = []tds.Feature{{ID: 1, Data: make([]byte, size)}} })
		if !bytes.Contains(whole, secret) {
			t.Fatal("no password in LOGIN7")
		}
		conn, server := net.Pipe()
		defer conn.Close()
		spy := &spied{Conn: server}
		result := take(t.Context(), spy, tds.Front{})
		send(t, conn, preloginOf(2))
		answered(t, conn)
		if err := tds.WriteMessage(conn, tds.Header{Type: tds.Login7}, whole[8:], 4096); err != nil {
			t.Fatal(err)
		}
		if got := welcomed(t, result).Login().Password.String(); got != "pässword" {
			t.Errorf("password = %q", got)
		}
		for _, b := range spy.buffers {
			if bytes.Contains(b, secret) {
				t.Errorf("a buffer of a login of %d bytes still holds the password", len(whole))
			}
		}
	}
}

// scrambled is a password as LOGIN7 has it (MS-TDS 2.2.6.4).
func scrambled(password string) []byte {
	b := bytes.Clone(tds.NewUTF16(password))
	for i, c := range b {
		b[i] = (c<<4 | c>>4) ^ 0xa5
	}
	return b
}

func TestLoginThatCannotBeReadIsAnswered(t *testing.T) {
	long := make([]byte, 0, 160<<10)
	for range 40 {
		p := packet(0x10, make([]byte, 4088))
		p[1] = 0 // not the last
		long = append(long, p...)
	}
	broken := login7(t, nil)
	binary.LittleEndian.PutUint16(broken[8+40:], 60000) // UserName
	for name, login := range map[string][]byte{"broken": broken, "long": long, "short": packet(0x10, make([]byte, 20))} {
		t.Run(name, func(t *testing.T) {
			conn, result := arrive(t, tds.Front{})
			send(t, conn, preloginOf(2))
			answered(t, conn)
			send(t, conn, login)
			if got := readError(t, conn, false); got.number != 18456 || !strings.Contains(got.message, "LOGIN7") {
				t.Errorf("error = %+v, want 18456 about LOGIN7", got)
			}
			conn.Close()
			if a := <-result; a.err == nil || a.client != nil {
				t.Errorf("Accept = %v, %v, want an error", a.client, a.err)
			}
		})
	}
}

func TestProbesAreSilentAndStrangersGetNoAnswer(t *testing.T) {
	conn, result := arrive(t, tds.Front{})
	conn.Close()
	if a := <-result; !errors.Is(a.err, tds.ErrSilent) {
		t.Errorf("Accept of a probe = %v, want ErrSilent", a.err)
	}
	for _, first := range []string{"GET / HTTP/1.1\r\n\r\n", "\x02\x00\x02\x00 TDS 4.2", "\x16\x03\x01\x00\x05hello", "\x00"} {
		conn, result := arrive(t, tds.Front{})
		send(t, conn, []byte(first))
		a := <-result
		if a.err == nil || errors.Is(a.err, tds.ErrSilent) {
			t.Errorf("Accept of %q = %v, want an error that is not ErrSilent", first, a.err)
		}
		// What was not read resets the connection; what matters is that nothing came.
		if got, _ := io.ReadAll(conn); len(got) > 0 {
			t.Errorf("%q was answered by %x", first, got)
		}
	}
}

// The deadline that the door set is the one that holds, however slowly a
// client goes on.
func TestSlowClientIsBoundedByTheDoorsDeadline(t *testing.T) {
	prelogin := preloginOf(2)
	for at, quick := range map[string][]byte{"PRELOGIN": nil, "LOGIN7": prelogin} {
		slow := append(bytes.Clone(prelogin), login7(t, nil)...)[len(quick):]
		synctest.Test(t, func(t *testing.T) {
			conn, server := net.Pipe()
			defer conn.Close()
			start := time.Now()
			_ = server.SetDeadline(start.Add(15 * time.Second))
			result := take(t.Context(), server, tds.Front{})
			answer := make(chan []byte, 1)
			go func() {
				all, _ := io.ReadAll(conn)
				answer <- all
			}()
			_, _ = conn.Write(quick)
			for i := range slow {
				if _, err := conn.Write(slow[i : i+1]); err != nil {
					break
				}
				time.Sleep(time.Second)
			}
			if a := <-result; !errors.Is(a.err, os.ErrDeadlineExceeded) {
				t.Errorf("slow at %s: Accept = %v, want the deadline's error", at, a.err)
			}
			if took := time.Since(start); took > 18*time.Second {
				t.Errorf("slow at %s: Accept took %v, want 15 s, and 2 for a message", at, took)
			}
			_ = server.Close()
			if told := bytes.Contains(<-answer, farUTF16("in vain")); told != (at == "LOGIN7") {
				t.Errorf("slow at %s: told why %t; want it where a message may stand", at, told)
			}
		})
	}
}

func TestAcceptEndsWithItsContext(t *testing.T) {
	errGone := errors.New("door is closing")
	synctest.Test(t, func(t *testing.T) {
		conn, server := net.Pipe()
		defer conn.Close()
		ctx, cancel := context.WithCancelCause(t.Context())
		result := take(ctx, server, tds.Front{})
		send(t, conn, preloginOf(2)[:20])
		cancel(errGone)
		if a := <-result; !errors.Is(a.err, errGone) {
			t.Errorf("Accept = %v, want %v", a.err, errGone)
		}
	})
}

func TestServerIsNamedInCanonicalForm(t *testing.T) {
	for in, want := range map[string]string{
		"orders.database.windows.net":                  "orders.database.windows.net",
		`tcp:Orders.Database.Windows.NET\inst,1433`:    "orders.database.windows.net",
		"admin:tcp:orders.database.windows.net.,11433": "orders.database.windows.net",
		" tcp: orders.database.windows.net , 1433 ":    "orders.database.windows.net",
		"DANIELD3-XGZUOSQLCMDcloud.dev.mscds.com,1435": "danield3-xgzuosqlcmdcloud.dev.mscds.com",
		"127.0.0.1": "127.0.0.1",
		"":          "",
		`\inst`:     "",
		"tcp:,1":    "",
	} {
		conn, result := arrive(t, tds.Front{})
		send(t, conn, preloginOf(2))
		answered(t, conn)
		send(t, conn, login7(t, func(l *tds.Login) { l.ServerName = tds.NewUTF16(in) }))
		if got := welcomed(t, result).ServerName(); got != want {
			t.Errorf("ServerName(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestConnectionIDIsReadAsSqlClientWritesIt(t *testing.T) {
	id := fromHex(t, "33221100554477668899aabbccddeeff")
	for _, c := range []struct {
		data []byte
		want string
	}{
		{append(id, make([]byte, 20)...), "00112233-4455-6677-8899-aabbccddeeff"},
		{make([]byte, 36), ""},
		{id, ""},
		{nil, ""},
	} {
		conn, result := arrive(t, tds.Front{})
		send(t, conn, preloginOf(2, tds.Option{Token: tds.OptTraceID, Data: c.data}))
		answered(t, conn)
		send(t, conn, login7(t, nil))
		client := welcomed(t, result)
		if got := client.TraceID(); got != c.want {
			t.Errorf("TraceID(%x) = %q, want %q", c.data, got, c.want)
		}
		if data, there := client.Prelogin().Get(tds.OptTraceID); !there || !bytes.Equal(data, c.data) {
			t.Errorf("Prelogin has TRACEID %x, want %x", data, c.data)
		}
	}
}

func ExampleAccept() {
	client, door := net.Pipe()
	go func() {
		prelogin := tds.Options{{Token: tds.OptVersion, Data: make([]byte, 6)}, {Token: tds.OptEncryption, Data: []byte{2}}}
		_ = tds.WriteMessage(client, tds.Header{Type: tds.PreLogin}, prelogin.Bytes(), tds.LoginPacket)
		_, _, _ = tds.ReadMessage(client, tds.MaxPreloginBytes, tds.Reply)
		login := tds.Login{Version: tds.TDS74, UserName: tds.NewUTF16("reports"), ServerName: tds.NewUTF16("tcp:Orders,1433")}
		payload, _ := login.Bytes()
		_ = tds.WriteMessage(client, tds.Header{Type: tds.Login7}, payload, tds.LoginPacket)
	}()

	_ = door.SetDeadline(time.Now().Add(15 * time.Second))
	c, err := tds.Accept(context.Background(), door, tds.Front{TLS: tds.TLSOff})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(c.Login().UserName, "asks for", c.ServerName(), "with TLS", c.TLS())
	// Output: reports asks for orders with TLS off
}
