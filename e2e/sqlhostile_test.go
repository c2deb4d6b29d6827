package e2e

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode"
	"unicode/utf16"

	"github.com/seed-13b04e61/gateway/sandbox"
	"github.com/seed-13b04e61/gateway/sql/tds"
)

// sqlArena is a gateway with a SQL door before the sandbox's server.
type sqlArena struct {
	*gateway
	world *sandbox.World
	far   *sandbox.SQL
	addr  string // of the door
}

// startSQLArena starts one with further keys of the door, and of the file.
func startSQLArena(t testing.TB, door, sections string) *sqlArena {
	t.Helper()
	a := &sqlArena{world: newWorld(t, sandbox.Options{})}
	var err error
	if a.far, err = sandbox.StartSQL(sandbox.SQLOptions{World: a.world}); err != nil { // whose rules nobody here keeps
		t.Fatal(err)
	}
	t.Cleanup(a.far.Close)
	a.gateway = startSQLDoor(t, a.world, string(a.far.CAPEM()), a.far.Addr(), door, sections)
	a.addr = a.sqlAddr(t)
	return a
}

func startSQLDoor(t testing.TB, w *sandbox.World, ca, dial, door, sections string) *gateway {
	t.Helper()
	s := graphSetup(w, fmt.Sprintf(`log: {level: trace}
sql:
  - name: orders
    kind: mssql
    listen: 127.0.0.1:0
    server: %s
    dial: %s
    credential: default
    tls: {ca_file: sql-ca.pem}
%s%s`, sandbox.SQLHost, dial, door, sections))
	s.Files["sql-ca.pem"] = ca
	g := start(t, s)
	g.ready(t)
	return g
}

// sqlAddr is where the door listens, as the gateway says.
func (g *gateway) sqlAddr(t testing.TB) string {
	t.Helper()
	for line := range strings.Lines(g.stderr.String()) {
		if words := strings.Fields(line); len(words) > 2 && words[0] == "sql" && words[1] == "orders" {
			return words[2]
		}
	}
	t.Fatal("the gateway does not say where its SQL door is")
	return ""
}

// knock connects to the door.
func knock(t testing.TB, addr string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(patience))
	return conn
}

// units is s in UTF-16.
func units(s string) tds.UTF16 {
	var b []byte
	for _, u := range utf16.Encode([]rune(s)) {
		b = binary.LittleEndian.AppendUint16(b, u)
	}
	return b
}

// packets are a PRELOGIN without encryption and a LOGIN7, as change has it.
func packets(t testing.TB, change func(*tds.Login)) (prelogin, login []byte) {
	t.Helper()
	l := &tds.Login{Version: tds.TDS74, PacketSize: 4096, UserName: units("any"), Password: units("any"), AppName: units("app"), Database: units("d1")}
	if change != nil {
		change(l)
	}
	payload, err := l.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	var first, second bytes.Buffer
	hello := tds.Options{{Token: tds.OptVersion, Data: make([]byte, 6)}, {Token: tds.OptEncryption, Data: []byte{2}}}
	if err := tds.WriteMessage(&first, tds.Header{Type: tds.PreLogin}, hello.Bytes(), tds.LoginPacket); err != nil {
		t.Fatal(err)
	}
	if err := tds.WriteMessage(&second, tds.Header{Type: tds.Login7}, payload, tds.LoginPacket); err != nil {
		t.Fatal(err)
	}
	return first.Bytes(), second.Bytes()
}

// answerTo is what the door says to a login, all of it up to its end or the end
// of its answer.
func answerTo(t testing.TB, conn net.Conn, change func(*tds.Login)) []byte {
	t.Helper()
	prelogin, login := packets(t, change)
	if _, err := conn.Write(append(prelogin, login...)); err != nil {
		t.Fatal(err)
	}
	if _, _, err := tds.ReadMessage(conn, tds.MaxPreloginBytes, tds.Reply); err != nil {
		t.Fatalf("the answer to PRELOGIN: %v", err)
	}
	_, answer, err := tds.ReadMessage(conn, tds.MaxAnswerBytes, tds.Reply)
	if err != nil {
		t.Fatalf("the answer to LOGIN7: %v", err)
	}
	return answer
}

// welcomed tells whether an answer is that of a login that came about.
func welcomed(t testing.TB, answer []byte) bool {
	t.Helper()
	tokens, err := tds.SplitTokens(answer)
	if err != nil {
		t.Fatalf("the answer %x: %v", answer, err)
	}
	for _, token := range tokens {
		if token.Type() == tds.TokenLoginAck {
			return true
		}
	}
	return false
}

// serves sees that a well-behaved client is served.
func (a *sqlArena) serves(t testing.TB) {
	t.Helper()
	conn := knock(t, a.addr)
	defer conn.Close()
	if answer := answerTo(t, conn, nil); !welcomed(t, answer) {
		t.Fatalf("a good client is refused: %q", answer)
	}
}

// clean sees that nothing secret is in what the process wrote or counts, and
// that each line of its log is JSON of characters that a terminal shows.
func clean(t testing.TB, g *gateway, secrets ...string) {
	t.Helper()
	metrics := must(t, g.client, request{url: "http://" + g.admin + "/metrics"}).body
	all := g.stdout.String() + g.stderr.String() + metrics
	for _, secret := range secrets {
		if secret == "" || strings.Contains(all, secret) || strings.Contains(all, string(units(secret))) {
			t.Errorf("a secret of %d characters is in the log or in /metrics", len(secret))
		}
	}
	for line := range strings.Lines(g.stdout.String()) {
		if !json.Valid([]byte(line)) {
			t.Errorf("a line of the log is no JSON: %.300q", line)
		}
		if strings.ContainsFunc(strings.TrimSuffix(line, "\n"), func(r rune) bool { return !unicode.IsPrint(r) }) || len(line) > 16<<10 {
			t.Errorf("a line of the log has %d bytes, or characters that are not shown: %.300q", len(line), line)
		}
	}
}

// settles sees that goroutines and files are as few as before.
func settles(t testing.TB, g *gateway, goroutines, files float64) {
	t.Helper()
	eventually(t, "goroutines and files are as few as before", func() bool {
		g.client.CloseIdleConnections()
		return g.metric(t, "go_goroutines") <= goroutines+5 && g.metric(t, "process_open_fds") <= files+5
	})
}

func TestClientsOfEveryKindOfEndLeaveNothingBehind(t *testing.T) {
	t.Parallel()
	a := startSQLArena(t, "", "")
	a.serves(t)
	goroutines, files := a.metric(t, "go_goroutines"), a.metric(t, "process_open_fds")
	prelogin, login := packets(t, nil)
	whole := append(bytes.Clone(prelogin), login...)
	var wg sync.WaitGroup
	for worker := range 8 {
		wg.Go(func() {
			for n := worker; n < 2000; n += 8 {
				conn, err := net.Dial("tcp", a.addr)
				if err != nil {
					t.Error(err)
					return
				}
				_ = conn.SetDeadline(time.Now().Add(patience))
				switch cut := n % (len(whole) + 20); {
				case cut < len(whole): // leaves within its login
					_, _ = conn.Write(whole[:cut])
				case cut%4 == 0: // leaves in the midst of its answer
					_, _ = conn.Write(whole)
				case cut%4 == 1: // resets the connection
					_, _ = conn.Write(whole)
					_ = conn.(*net.TCPConn).SetLinger(0)
				case cut%4 == 2: // changes its mind after the login
					_, _ = conn.Write(append(bytes.Clone(whole), 0x16, 3, 1, 0, 200, 1, 0, 0))
					_, _ = io.Copy(io.Discard, conn)
				default: // an attention, half a request, and away
					_, _ = conn.Write(append(bytes.Clone(whole), 6, 1, 0, 8, 0, 0, 1, 0, 1, 1, 0, 90, 0))
				}
				_ = conn.Close()
			}
		})
	}
	wg.Wait()
	settles(t, a.gateway, goroutines, files)
	a.serves(t)
	clean(t, a.gateway, a.world.Secret())
}

func TestCrowdsThatDoNotLogInAreBoundedAndServedClientsStay(t *testing.T) {
	t.Parallel()
	a := startSQLArena(t, "    max_connections: 20\n", "")
	served := knock(t, a.addr)
	if !welcomed(t, answerTo(t, served, nil)) {
		t.Fatal("a good client is refused")
	}
	goroutines := a.metric(t, "go_goroutines")
	var crowd []net.Conn
	for range 1000 {
		conn, err := net.Dial("tcp", a.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		crowd = append(crowd, conn)
	}
	if n := a.metric(t, "go_goroutines"); n > goroutines+4*20+20 {
		t.Errorf("%v goroutines for a crowd, %v before; want no more than 4 times max_connections above", n, goroutines)
	}
	if _, err := served.Write([]byte{6, 1, 0, 8, 0, 0, 1, 0}); err != nil {
		t.Fatal(err)
	}
	if _, _, err := tds.ReadMessage(served, tds.MaxAnswerBytes, tds.Reply); err != nil {
		t.Errorf("a session that was there before: %v", err)
	}
	for _, conn := range crowd {
		_ = conn.Close()
	}
	eventually(t, "a good client is served again", func() bool {
		conn, err := net.Dial("tcp", a.addr)
		if err != nil {
			return false
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(patience))
		prelogin, login := packets(t, nil)
		if _, err := conn.Write(append(prelogin, login...)); err != nil {
			return false
		}
		if _, _, err := tds.ReadMessage(conn, tds.MaxPreloginBytes, tds.Reply); err != nil {
			return false
		}
		_, answer, err := tds.ReadMessage(conn, tds.MaxAnswerBytes, tds.Reply)
		return err == nil && welcomed(t, answer)
	})
}

func TestWordsOfClientsStayOneLineOfTheLog(t *testing.T) {
	t.Parallel()
	a := startSQLArena(t, "", "")
	garbage := tds.UTF16{0, 0xd8, 'a', 0, 0, 0xdc, '\n', 0, '\r', 0, 0, 0, 0x1b, 0, '[', 0, '2', 0, 'J', 0, 0x2e, 0x20, '"', 0, '}', 0, 0xff, 0xff, 0x85, 0, 0x28, 0x20, '\\', 0}
	for n, change := range []func(*tds.Login){
		func(l *tds.Login) { l.AppName = garbage },
		func(l *tds.Login) { l.HostName = garbage },
		func(l *tds.Login) { l.UserName = garbage },
		func(l *tds.Login) { l.Database = garbage },
		func(l *tds.Login) { l.ServerName = garbage },
		func(l *tds.Login) { l.Library, l.Language = garbage, garbage },
		func(l *tds.Login) {
			l.AppName, l.HostName = units(strings.Repeat("\U0001f600", 64)), units(strings.Repeat("\n", 128))
		},
		func(l *tds.Login) { l.UserName, l.Password = units("x"), units("not-for-anybody-to-see") },
		func(l *tds.Login) {
			for id := range 250 {
				l.Features = append(l.Features, tds.Feature{ID: byte(id), Data: make([]byte, 100)})
			}
			l.Features[2].Data = append([]byte{1 << 1}, units("not-for-anybody-to-see")...)
		},
	} {
		conn := knock(t, a.addr)
		if answer := answerTo(t, conn, change); bytes.Contains(answer, units("not-for-anybody-to-see")) {
			t.Errorf("login %d: the client's own secret comes back", n)
		}
		_ = conn.Close()
	}
	clean(t, a.gateway, "not-for-anybody-to-see", a.world.Secret())
}
