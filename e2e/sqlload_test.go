package e2e

import (
	"bytes"
	"context"
	"crypto/md5" //nolint:gosec // tells streams apart
	"crypto/tls"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/seed-13b04e61/gateway/sandbox"
	"github.com/seed-13b04e61/gateway/sql/tds"
)

// bulkServer is a SQL server under strict TLS that lets everybody in. A batch is
// answered with as many bytes of stream as it says, a bulk load with its MD5.
type bulkServer struct {
	addr, ca string
}

func startBulkServer(t testing.TB) *bulkServer {
	t.Helper()
	lender := httptest.NewTLSServer(nil) // of a certificate for example.com
	conf := &tls.Config{Certificates: lender.TLS.Certificates, NextProtos: []string{tds.ALPN}, DynamicRecordSizingDisabled: true}
	s := &bulkServer{ca: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: lender.Certificate().Raw}))}
	lender.Close()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.addr = l.Addr().String()
	var work sync.WaitGroup
	t.Cleanup(func() {
		_ = l.Close()
		work.Wait()
	})
	work.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			work.Go(func() {
				defer conn.Close()
				if err := serveBulk(tls.Server(conn, conf)); !errors.Is(err, io.EOF) {
					t.Errorf("a session at the server ends with %v", err)
				}
			})
		}
	})
	return s
}

func serveBulk(conn net.Conn) error {
	for sum := md5.New(); ; { //nolint:gosec // as above
		h, err := tds.ReadHeader(conn)
		if err != nil {
			return err
		}
		if h.Type == tds.Bulk {
			if _, err = io.CopyN(sum, conn, int64(h.Length-tds.HeaderSize)); err == nil && h.Status&tds.EOM != 0 {
				err = reply(conn, sum.Sum(nil))
				sum.Reset()
			}
		} else {
			payload := make([]byte, h.Length-tds.HeaderSize)
			if _, err = io.ReadFull(conn, payload); err == nil && h.Status&tds.EOM != 0 {
				err = answerBulk(conn, h.Type, payload)
			}
		}
		if err != nil {
			return err
		}
	}
}

func answerBulk(conn net.Conn, kind tds.PacketType, payload []byte) error {
	switch kind {
	case tds.PreLogin:
		return reply(conn, tds.Options{{Token: tds.OptVersion, Data: make([]byte, 6)}, {Token: tds.OptEncryption, Data: []byte{byte(tds.EncryptOn)}}}.Bytes())
	case tds.Login7:
		ack := append([]byte{1, 0x74, 0, 0, 4, 4}, tds.NewUTF16("bulk")...)
		ack = append(ack, 12, 0, 7, 0xd0)
		answer := append(binary.LittleEndian.AppendUint16([]byte{tds.TokenLoginAck}, uint16(len(ack))), ack...)
		answer = append(answer, tds.BuildFeatureExtAck([]tds.Feature{{ID: tds.FeatureFedAuth}})...)
		return reply(conn, append(answer, append([]byte{tds.TokenDone}, make([]byte, 12)...)...))
	}
	return sendStream(conn, tds.Reply, int64(binary.BigEndian.Uint64(payload))) //nolint:gosec // the test's own number
}

func reply(conn net.Conn, payload []byte) error {
	return tds.WriteMessage(conn, tds.Header{Type: tds.Reply, SPID: 51}, payload, tds.LoginPacket)
}

// stream is the same bytes for everybody.
func stream() io.Reader { return rand.NewChaCha8([32]byte{1}) }

func streamSum(n int64) ([]byte, error) {
	sum := md5.New() //nolint:gosec // as above
	_, err := io.CopyN(sum, stream(), n)
	return sum.Sum(nil), err
}

// sendStream sends n bytes of stream as one message.
func sendStream(conn net.Conn, kind tds.PacketType, n int64) error {
	from, packet := stream(), make([]byte, tds.LoginPacket)
	for {
		size := int(min(n, tds.LoginPacket-tds.HeaderSize))
		n -= int64(size)
		packet[0], packet[1] = byte(kind), 0
		if n == 0 {
			packet[1] = tds.EOM
		}
		binary.BigEndian.PutUint16(packet[2:], uint16(size+tds.HeaderSize)) //nolint:gosec // a packet's
		if _, err := io.ReadFull(from, packet[tds.HeaderSize:tds.HeaderSize+size]); err != nil {
			return err
		}
		if _, err := conn.Write(packet[:tds.HeaderSize+size]); err != nil || n == 0 {
			return err
		}
	}
}

// sqlLogin opens a session at addr, in clear text.
func sqlLogin(ctx context.Context, addr string) (net.Conn, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	login, err := (&tds.Login{Version: tds.TDS74, PacketSize: 4096}).Bytes()
	hello := tds.Options{{Token: tds.OptVersion, Data: make([]byte, 6)}, {Token: tds.OptEncryption, Data: []byte{byte(tds.EncryptNotSupported)}}}
	for _, m := range []struct {
		kind    tds.PacketType
		payload []byte
	}{{tds.PreLogin, hello.Bytes()}, {tds.Login7, login}} {
		if err == nil {
			err = tds.WriteMessage(conn, tds.Header{Type: m.kind}, m.payload, tds.LoginPacket)
		}
		if err == nil {
			_, _, err = tds.ReadMessage(conn, tds.MaxAnswerBytes, tds.Reply)
		}
	}
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	return conn, nil
}

// askStream asks for n bytes and returns the MD5 of what comes.
func askStream(conn net.Conn, n int64) ([]byte, error) {
	if err := tds.WriteMessage(conn, tds.Header{Type: tds.Batch}, binary.BigEndian.AppendUint64(nil, uint64(n)), tds.LoginPacket); err != nil { //nolint:gosec // a size
		return nil, err
	}
	for sum := md5.New(); ; { //nolint:gosec // as above
		h, err := tds.ReadHeader(conn)
		if err != nil {
			return nil, err
		}
		if _, err := io.CopyN(sum, conn, int64(h.Length-tds.HeaderSize)); err != nil {
			return nil, err
		}
		if h.Status&tds.EOM != 0 {
			return sum.Sum(nil), nil
		}
	}
}

// sqlGateway has one door before s.
func sqlGateway(t testing.TB, s *bulkServer) *gateway {
	t.Helper()
	w := newWorld(t, sandbox.Options{})
	return start(t, setup{
		Config: fmt.Sprintf(`version: 1
listen: {proxy: "127.0.0.1:0", admin: "127.0.0.1:0"}
log: {level: error}
credentials:
  default: {tenant_id: %s, client_id: %s, client_secret: {env: CLIENT_SECRET}, authority_host: %q}
sql:
  - {name: orders-db, kind: mssql, listen: "127.0.0.1:0", server: example.com, dial: %q, max_connections: 2000, client_tls: "off", upstream_tls: strict,
     scope: "%s//.default", tls: {ca_file: sql-ca.pem}}
`, sandbox.TenantDomain, sandbox.ClientID, w.Entra.URL(), s.addr, sandbox.SQLResource),
		Env: []string{"CLIENT_SECRET=" + w.Secret()}, Files: map[string]string{"sql-ca.pem": s.ca},
	})
}

// sqlLoad is what a door bears in one go.
type sqlLoad struct {
	sessions, batches int
	bytes             int64 // of one result and of one bulk load
	idle              int   // sessions that do nothing
}

// borne is what it took.
type borne struct {
	batches    []time.Duration
	up, down   time.Duration
	idle       int // bytes of each idle session
	base, most int // bytes of memory
}

// bear lets the load on the door, and is content when nothing of it is left.
func (l sqlLoad) bear(t testing.TB, g *gateway) (b borne) {
	t.Helper()
	if err := l.crowd(t, g.sql["orders-db"], 1, nil); err != nil { // what is made once is made
		t.Fatal(err)
	}
	held := func() (goroutines, files float64) {
		return g.metric(t, "go_goroutines"), g.metric(t, "process_open_fds")
	}
	gone := func() bool { return g.metric(t, "gateway_sql_sessions") == 0 }
	eventually(t, "the first session has ended", gone)
	goroutines, files := held()
	b.base = resident(t, g)

	idle := make([]net.Conn, l.idle)
	for i := range idle {
		conn, err := sqlLogin(t.Context(), g.sql["orders-db"])
		if err != nil {
			t.Fatal(err)
		}
		idle[i] = conn
	}
	b.idle = (resident(t, g) - b.base) / l.idle
	for _, conn := range idle {
		if _, err := askStream(conn, 1); err != nil {
			t.Errorf("a session that was idle: %v", err)
		}
		_ = conn.Close()
	}
	b.batches = make([]time.Duration, l.sessions*l.batches)
	if err := l.crowd(t, g.sql["orders-db"], l.sessions, b.batches); err != nil {
		t.Errorf("batches: %v", err)
	}
	b.up, b.down = l.both(t, g.sql["orders-db"])
	b.most = resident(t, g)
	eventually(t, "every session has ended", gone)
	eventually(t, "goroutines and files are back to where they were", func() bool {
		nowGoroutines, nowFiles := held()
		return nowGoroutines <= goroutines && nowFiles <= files
	})
	return b
}

// crowd has sessions send their batches at once; took is filled unless nil.
func (l sqlLoad) crowd(t testing.TB, addr string, sessions int, took []time.Duration) error {
	want, err := streamSum(100)
	if err != nil {
		return err
	}
	errs := make([]error, sessions)
	var all sync.WaitGroup
	for i := range sessions {
		all.Go(func() {
			conn, err := sqlLogin(t.Context(), addr)
			if err != nil {
				errs[i] = err
				return
			}
			defer conn.Close()
			for n := range l.batches {
				begun := time.Now()
				got, err := askStream(conn, 100)
				if err != nil || !bytes.Equal(got, want) {
					errs[i] = fmt.Errorf("batch %d: MD5 %x, want %x: %w", n, got, want, err)
					return
				}
				if took != nil {
					took[i*l.batches+n] = time.Since(begun)
				}
			}
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

// both sends a bulk load and reads a result, each of so many bytes.
func (l sqlLoad) both(t testing.TB, addr string) (up, down time.Duration) {
	t.Helper()
	want, err := streamSum(l.bytes)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := sqlLogin(t.Context(), addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	begun := time.Now()
	if err := sendStream(conn, tds.Bulk, l.bytes); err != nil {
		t.Fatal(err)
	}
	_, got, err := tds.ReadMessage(conn, md5.Size, tds.Reply)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("the server read a bulk load of MD5 %x, %v, want %x", got, err, want)
	}
	up, begun = time.Since(begun), time.Now()
	if got, err = askStream(conn, l.bytes); err != nil || !bytes.Equal(got, want) {
		t.Errorf("the client read a result of MD5 %x, %v, want %x", got, err, want)
	}
	return up, time.Since(begun)
}

func TestSessionsLeaveNothingBehindAndNoByteIsLost(t *testing.T) {
	b := sqlLoad{sessions: 50, batches: 100, bytes: 64 << 20, idle: 200}.bear(t, sqlGateway(t, startBulkServer(t)))
	t.Logf("%d KiB for an idle session; %d MiB before, %d MiB after all", b.idle>>10, b.base>>20, b.most>>20)
}

func BenchmarkSQLSessions(b *testing.B) {
	g := sqlGateway(b, startBulkServer(b))
	for b.Loop() {
		l := sqlLoad{sessions: 200, batches: 10_000, bytes: 1 << 30, idle: 1000}
		r := l.bear(b, g)
		for name, p := range map[string]float64{"p50": 0.5, "p99": 0.99} {
			b.ReportMetric(float64(percentile(r.batches, p).Microseconds()), "batch-"+name+"-µs")
		}
		b.ReportMetric(float64(l.bytes>>20)/r.up.Seconds(), "up-MiB/s")
		b.ReportMetric(float64(l.bytes>>20)/r.down.Seconds(), "down-MiB/s")
		b.ReportMetric(float64(r.idle), "B/idle-session")
		b.ReportMetric(float64(r.base>>20), "MiB-before")
		b.ReportMetric(float64(r.most>>20), "MiB-loaded")
	}
}
