package tds

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"hash"
	"io"
	"math/rand/v2"
	"net"
	"net/http/httptest"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// tcpRig is a relay between two TCP connections; client and server are their
// far ends.
type tcpRig struct {
	*Relay
	client, server *net.TCPConn
	ended          chan error
	reason         string
}

// tcpPair is a connection over loopback. The kernel's buffers are small, but larger
// than a segment there: else each waits for the timer of a closed window.
func tcpPair(t *testing.T) (far, near *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	dialled, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	accepted, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	for _, conn := range []net.Conn{dialled, accepted} {
		_ = conn.(*net.TCPConn).SetReadBuffer(128 << 10)
		_ = conn.(*net.TCPConn).SetWriteBuffer(128 << 10)
		t.Cleanup(func() { _ = conn.Close() })
	}
	return dialled.(*net.TCPConn), accepted.(*net.TCPConn)
}

// newTCPRig runs a relay. client and server are what its halves travel on; nil
// is plain TCP.
func newTCPRig(t *testing.T, wrap func(client, server net.Conn) (net.Conn, net.Conn)) *tcpRig {
	t.Helper()
	t.Cleanup(func() { goleak.VerifyNone(t) })
	g := &tcpRig{ended: make(chan error, 1)}
	var client, server net.Conn
	g.client, client = tcpPair(t)
	g.server, server = tcpPair(t)
	if wrap != nil {
		client, server = wrap(client, server)
	}
	g.Relay = &Relay{Client: &Client{conn: client}, Upstream: &Upstream{PacketSize: 4096, conn: server}}
	go func() {
		reason, err := g.Run(t.Context())
		g.reason = reason
		g.ended <- err
	}()
	return g
}

// testCertificate is one for example.com, and who trusts it.
func testCertificate() (tls.Certificate, *x509.CertPool) {
	s := httptest.NewTLSServer(nil)
	defer s.Close()
	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate())
	return s.TLS.Certificates[0], roots
}

// wantEnd waits for the end of Run.
func (g *tcpRig) wantEnd(t *testing.T, reason string, want error) {
	t.Helper()
	if err := <-g.ended; g.reason != reason || !errors.Is(err, want) {
		t.Errorf("Run = %q, %v; want %q, %v", g.reason, err, reason, want)
	}
}

// stream writes a message of size bytes, in packets of all lengths, in pieces of
// any, and returns its sum.
func stream(w io.Writer, kind PacketType, size int) ([]byte, error) {
	random := rand.New(rand.NewPCG(1, uint64(kind)))
	sum, payload := sha256.New(), make([]byte, MaxPacket)
	var out []byte
	for i := range payload {
		payload[i] = byte(random.Uint32())
	}
	for sent := 0; sent < size; {
		n := min(random.IntN(MaxPacket-HeaderSize)+1, size-sent)
		sent += n
		status := byte(0)
		if sent == size {
			status = EOM
		}
		out = append(out, rawPacket(kind, status, payload[:n])...)
		for cut := random.IntN(60000); len(out) > 0 && (len(out) > cut || sent == size); {
			piece := out[:min(len(out), cut+1)]
			sum.Write(piece)
			if _, err := w.Write(piece); err != nil {
				return nil, err
			}
			out = out[len(piece):]
		}
	}
	return sum.Sum(nil), nil
}

// receive reads a message, and returns its sum.
func receive(r io.Reader) ([]byte, error) {
	var sum hash.Hash = sha256.New()
	for both := io.TeeReader(r, sum); ; {
		h, err := ReadHeader(both)
		if err != nil {
			return nil, err
		}
		if _, err := io.CopyN(io.Discard, both, int64(h.Length-HeaderSize)); err != nil {
			return nil, err
		}
		if h.Status&EOM != 0 {
			return sum.Sum(nil), nil
		}
	}
}

func wantIntact(t *testing.T, from, to net.Conn, kind PacketType, size int) {
	t.Helper()
	type result struct {
		sum []byte
		err error
	}
	sent := make(chan result, 1)
	go func() {
		sum, err := stream(from, kind, size)
		sent <- result{sum, err}
	}()
	got, err := receive(to)
	if err != nil {
		t.Fatal(err)
	}
	if want := <-sent; want.err != nil || !bytes.Equal(got, want.sum) {
		t.Fatalf("a message of type %#02x and %d bytes arrives changed (%v)", byte(kind), size, want.err)
	}
}

func TestFortyMegabytesPassIntactEitherWay(t *testing.T) {
	const size = 40 << 20
	g := newTCPRig(t, nil)
	wantIntact(t, g.client, g.server, Bulk, size)
	wantIntact(t, g.server, g.client, Reply, size)
	_ = g.client.Close()
	g.wantEnd(t, "client closed", nil)
	if s := g.Stats(); s.BytesIn < size || s.BytesOut < size || s.Requests != 1 {
		t.Errorf("Stats() = %+v, want more than %d bytes each way, 1 request", s, size)
	}
}

func TestAClientThatEndsItsHalfGetsItsReply(t *testing.T) {
	g := newTCPRig(t, nil)
	if _, err := g.client.Write(request("select 1")); err != nil {
		t.Fatal(err)
	}
	if err := g.client.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(g.server) // the end of the client's half has passed
	if err != nil || !bytes.Equal(got, request("select 1")) {
		t.Fatalf("server reads %q, %v", got, err)
	}
	for _, b := range [][]byte{replyPartial("row"), replyPacket("done")} {
		if _, err := g.server.Write(b); err != nil {
			t.Fatal(err)
		}
	}
	got, err = io.ReadAll(g.client)
	if want := append(replyPartial("row"), replyPacket("done")...); err != nil || !bytes.Equal(got, want) {
		t.Errorf("client reads %q, %v; want %q", got, err, want)
	}
	g.wantEnd(t, "client closed", errRequestOpen)
}

func TestAServersLastWordsAreNotOvertakenByAReset(t *testing.T) {
	g := newTCPRig(t, nil)
	sent := make(chan error, 1)
	go func() { // until nobody takes more: closing a connection with unread bytes resets it
		for {
			if _, err := g.client.Write(rawPacket(Bulk, 0, make([]byte, 4088))); err != nil {
				sent <- err
				return
			}
		}
	}()
	last := bytes.Repeat(replyPartial(string(make([]byte, 4088))), 500)
	go func() {
		_, _ = g.server.Write(last)
		_ = g.server.CloseWrite()
	}()
	if got, err := io.ReadAll(g.client); err != nil || !bytes.Equal(got, last) {
		t.Errorf("client reads %d bytes, %v; want %d", len(got), err, len(last))
	}
	_ = g.client.Close()
	g.wantEnd(t, "server closed", errReplyOpen)
	<-sent
}

func TestAWriteThatHangsEndsWithTheServersHalf(t *testing.T) {
	g := newTCPRig(t, nil)
	sent := make(chan error, 1)
	go func() { // until nobody takes more
		for {
			if _, err := g.client.Write(rawPacket(Bulk, 0, make([]byte, 4088))); err != nil {
				sent <- err
				return
			}
		}
	}()
	if _, err := io.ReadFull(g.server, make([]byte, 64<<10)); err != nil {
		t.Fatal(err)
	}
	if err := g.server.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	g.wantEnd(t, "server closed", errReplyOpen)
	<-sent
}

func TestEndsOfTLSPassLikeThoseOfTCP(t *testing.T) {
	cert, roots := testCertificate()
	g := newTCPRig(t, func(client, server net.Conn) (net.Conn, net.Conn) {
		return tls.Server(client, &tls.Config{Certificates: []tls.Certificate{cert}}),
			tls.Client(readAhead(server), &tls.Config{RootCAs: roots, ServerName: "example.com"})
	})
	client := tls.Client(g.client, &tls.Config{RootCAs: roots, ServerName: "example.com"})
	server := tls.Server(g.server, &tls.Config{Certificates: []tls.Certificate{cert}})
	for range 3 {
		wantIntact(t, client, server, RPC, 1<<20)
		wantIntact(t, server, client, Reply, 8<<20)
	}
	if _, err := client.Write(request("waitfor")); err != nil {
		t.Fatal(err)
	}
	if err := client.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(server); err != nil || !bytes.Equal(got, request("waitfor")) {
		t.Fatalf("server reads %q, %v", got, err)
	}
	if n, err := g.server.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("under TLS, the server reads %d bytes, %v; want the end of TCP too", n, err)
	}
	if _, err := server.Write(replyPacket("done")); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(client); err != nil || !bytes.Equal(got, replyPacket("done")) {
		t.Errorf("client reads %q, %v", got, err)
	}
	g.wantEnd(t, "client closed", errRequestOpen)
}

// A door's connection under TLS inside TDS is one whose first byte was looked at.
func TestTheEndOfTLSInsideTDSIsThatOfTCPToo(t *testing.T) {
	cert, roots := testCertificate()
	far, near := tcpPair(t)
	secured := make(chan net.Conn, 1)
	go func() { // ends with the handshake, or with the pair
		conn, _ := StartTLS(t.Context(), &opening{Conn: near}, &tls.Config{Certificates: []tls.Certificate{cert}}, tls.Server)
		secured <- conn
	}()
	client, err := StartTLS(t.Context(), far, &tls.Config{RootCAs: roots, ServerName: "example.com"}, tls.Client)
	if err != nil {
		t.Fatal(err)
	}
	if !endWrites(<-secured) {
		t.Error("the connection has no halves")
	}
	_ = far.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := client.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("in TLS the client reads %v, want the end", err)
	}
	if _, err := far.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("under TLS the client reads %v, want the end", err)
	}
}

func TestTheContextEndsTLSThatStallsAtOnce(t *testing.T) {
	cert, roots := testCertificate()
	g := newTCPRig(t, func(client, server net.Conn) (net.Conn, net.Conn) {
		return tls.Server(client, &tls.Config{Certificates: []tls.Certificate{cert}}), server
	})
	client := tls.Client(g.client, &tls.Config{RootCAs: roots, ServerName: "example.com"})
	if _, err := client.Write(request("select everything")); err != nil {
		t.Fatal(err)
	}
	_ = g.server.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
	for { // until the client, which reads nothing, holds everybody up
		if _, err := g.server.Write(replyPartial(string(make([]byte, 4088)))); err != nil {
			break
		}
	}
	g.stop(g.Client.conn, io.ErrNoProgress)
	g.wantEnd(t, "cut off", io.ErrNoProgress)
}

func TestWhatWasReadAheadIsNotHeldBack(t *testing.T) {
	cert, roots := testCertificate()
	g := newTCPRig(t, func(client, server net.Conn) (net.Conn, net.Conn) {
		return client, tls.Client(readAhead(server), &tls.Config{RootCAs: roots, ServerName: "example.com"})
	})
	server := tls.Server(g.server, &tls.Config{Certificates: []tls.Certificate{cert}})
	for size := 1; size < 300_000; size = size*3/2 + 1 {
		// The reply stops within a packet, and the rest comes only when the client
		// has all there is.
		packets := bytes.Repeat(replyPartial(string(make([]byte, 700))), size/708+1)
		if _, err := server.Write(packets[:size]); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(g.client, make([]byte, size)); err != nil {
			t.Fatalf("of %d bytes: %v", size, err)
		}
		if _, err := server.Write(append(packets[size:], replyPacket("")...)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(g.client, make([]byte, len(packets)-size+HeaderSize)); err != nil {
			t.Fatal(err)
		}
	}
	_ = g.client.Close()
	g.wantEnd(t, "client closed", nil)
}
