package e2e

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"encoding/pem"
	"math/big"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seed-13b04e61/gateway/sandbox"
	"github.com/seed-13b04e61/gateway/sql/tds"
)

// hostileSQL is a server with a good certificate that does anything with the
// tokens that it is sent.
type hostileSQL struct {
	addr, ca string

	mu     sync.Mutex // guards what follows
	do     func(conn net.Conn, token string)
	tokens []string
}

func startHostileSQL(t testing.TB) *hostileSQL {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, DNSNames: []string{sandbox.SQLHost}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &hostileSQL{addr: l.Addr().String(), ca: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))}
	conf := &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer conn.Close()
				_ = conn.SetDeadline(time.Now().Add(patience))
				s.serve(t, conn, conf)
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		wg.Wait()
	})
	return s
}

func (s *hostileSQL) serve(t testing.TB, conn net.Conn, conf *tls.Config) {
	if _, _, err := tds.ReadMessage(conn, tds.MaxPreloginBytes, tds.PreLogin); err != nil {
		return
	}
	hello := tds.Options{{Token: tds.OptVersion, Data: make([]byte, 6)}, {Token: tds.OptEncryption, Data: []byte{1}}, {Token: tds.OptMARS, Data: []byte{1}}, {Token: tds.OptFedAuthRequired, Data: []byte{1}}}
	_ = tds.WriteMessage(conn, tds.Header{Type: tds.Reply}, hello.Bytes(), tds.LoginPacket)
	secured, err := tds.StartTLS(t.Context(), conn, conf, tls.Server)
	if err != nil {
		return
	}
	_, payload, err := tds.ReadMessage(secured, tds.MaxLoginBytes, tds.Login7)
	if err != nil {
		return
	}
	login, err := tds.ParseLogin(payload)
	if err != nil {
		t.Errorf("LOGIN7: %v", err)
		return
	}
	data, _ := login.Feature(tds.FeatureFedAuth)
	n := int(binary.LittleEndian.Uint32(data[1:]))
	token := tds.UTF16(data[5 : 5+n]).String()
	s.mu.Lock()
	s.tokens = append(s.tokens, token)
	do := s.do
	s.mu.Unlock()
	do(secured, token)
}

// sqlWelcome is the answer to a login, with more tokens before its end.
func sqlWelcome(more ...tds.Token) []byte {
	ack := tds.Token("\xad\x0e\x00\x01\x74\x00\x00\x04\x02M\x00S\x00\x0c\x00\x07\xd0")
	fed := tds.BuildFeatureExtAck([]tds.Feature{{ID: tds.FeatureFedAuth}})
	done := append(tds.Token{tds.TokenDone}, make([]byte, 12)...)
	return tds.Join(append(append([]tds.Token{ack, fed}, more...), done))
}

func sendReply(conn net.Conn, payload []byte) {
	_ = tds.WriteMessage(conn, tds.Header{Type: tds.Reply}, payload, tds.LoginPacket)
}

func TestHostileSQLServersAreToldAndGetNothingThrough(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sandbox.Options{})
	s := startHostileSQL(t)
	g := startSQLDoor(t, w, s.ca, s.addr, "    login_timeout: 10s\n", "")
	a := &sqlArena{gateway: g, addr: g.sqlAddr(t)}
	good := func(conn net.Conn, _ string) { sendReply(conn, sqlWelcome()) }
	route := func(host string, port uint16) func(net.Conn, string) {
		return func(conn net.Conn, _ string) {
			name := units(host)
			value := append([]byte{0, byte(port), byte(port >> 8), byte(len(name) / 2), byte(len(name) / 2 >> 8)}, name...)
			env := append(tds.Token{tds.TokenEnvChange, byte(len(value) + 5), byte((len(value) + 5) >> 8), tds.EnvRouting, byte(len(value)), byte(len(value) >> 8)}, value...)
			sendReply(conn, sqlWelcome(append(env, 0, 0)))
		}
	}
	size := func(n string) func(net.Conn, string) {
		return func(conn net.Conn, _ string) {
			sendReply(conn, sqlWelcome(append(append(tds.Token{tds.TokenEnvChange, byte(3 + 2*len(n)), 0, tds.EnvPacketSize, byte(len(n))}, units(n)...), 0)))
		}
	}
	for name, test := range map[string]struct {
		do   func(net.Conn, string)
		want string // in what the client is told
	}{
		"the token in an ERROR": {func(c net.Conn, token string) {
			sendReply(c, tds.LoginFailed("no "+token[len(token)-900:]).Reply(tds.TDS74))
		}, "contained the token"},
		"the token in a welcome": {func(c net.Conn, token string) { sendReply(c, sqlWelcome(tds.InfoToken(token[len(token)-900:]))) }, "contained the token"},
		"control characters": {func(c net.Conn, _ string) {
			sendReply(c, tds.LoginFailed("no\n\x1b[2J\x00\u202e"+strings.Repeat("x", 900)).Reply(tds.TDS74))
		}, "no\n\x1b[2J"},
		"a cut in the answer":         {func(c net.Conn, _ string) { _, _ = c.Write([]byte{4, 1, 0, 99, 0, 0, 1, 0, 0xad}) }, "broke off"},
		"endless INFO":                {func(c net.Conn, _ string) { sendReply(c, bytes.Repeat(tds.InfoToken("again"), 40000)) }, "too long"},
		"packets of size 0":           {size("0"), "packet size"},
		"packets of size 65535":       {size("65535"), "packet size"},
		"redirect to metadata":        {route("169.254.169.254", 80), "redirect_suffixes"},
		"redirect to an address":      {route("10.1.2.3", 1433), "redirect_suffixes"},
		"redirect to a look-alike":    {route("evil-database.windows.net.example.com", 1433), "redirect_suffixes"},
		"redirect to a longer name":   {route("database.windows.net.evil.com", 1433), "redirect_suffixes"},
		"redirect to a joined name":   {route("evildatabase.windows.net", 1433), "redirect_suffixes"},
		"redirect to a wide dot":      {route("evil.com\uff0edatabase.windows.net", 1433), "no host name"},
		"redirect to a name with NUL": {route("evil.com\x00.database.windows.net", 1433), "no host name"},
		"redirect to port 0":          {route("node.database.windows.net", 0), "port 0"},
	} {
		t.Run(name, func(t *testing.T) {
			s.mu.Lock()
			s.do = test.do
			s.mu.Unlock()
			conn := knock(t, a.addr)
			answer := answerTo(t, conn, nil)
			if welcomed(t, answer) || !bytes.Contains(answer, units(test.want)) {
				t.Errorf("the client reads %q, want a refusal with %q", tds.UTF16(answer), test.want)
			}
			s.mu.Lock()
			s.do = good
			tokens := s.tokens
			s.mu.Unlock()
			for _, token := range tokens {
				if end := token[len(token)-43:]; bytes.Contains(answer, units(end)) || bytes.Contains(answer, []byte(end)) {
					t.Error("the client reads the token")
				}
			}
			a.serves(t)
		})
	}
	s.mu.Lock()
	tokens := s.tokens
	s.mu.Unlock()
	clean(t, g, append(tokens[:1:1], w.Secret(), tokens[0][len(tokens[0])-43:], tokens[len(tokens)-1])...)
}
