package proxy_test

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-13b04e61/gateway/proxy"
	"github.com/seed-13b04e61/gateway/routes"
)

const handshake = "Connection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"

// websockets allows the switch on the first route.
func websockets(table *routes.Table) { table.Routes[0].Upgrade = []string{"websocket"} }

// frame is one of RFC 6455 §5.2; key "" for none.
type frame struct {
	opcode  byte
	key     string
	payload string
}

func (f frame) String() string {
	b := []byte{0x80 | f.opcode, 0}
	switch n := len(f.payload); {
	case n < 126:
		b[1] = byte(n)
	case n < 1<<16:
		b[1] = 126
		b = binary.BigEndian.AppendUint16(b, uint16(n))
	default:
		b[1] = 127
		b = binary.BigEndian.AppendUint64(b, uint64(n))
	}
	payload := []byte(f.payload)
	if f.key != "" {
		b[1] |= 0x80
		b = append(b, f.key...)
		for i := range payload {
			payload[i] ^= f.key[i%4]
		}
	}
	return string(append(b, payload...))
}

func readFrame(r io.Reader) (frame, error) {
	var head [14]byte
	if _, err := io.ReadFull(r, head[:2]); err != nil {
		return frame{}, err
	}
	f, masked := frame{opcode: head[0] & 0xf}, head[1]&0x80 != 0
	n := uint64(head[1] & 0x7f)
	more := map[uint64]int{126: 2, 127: 8}[n]
	if _, err := io.ReadFull(r, head[8-more:8]); err != nil {
		return frame{}, err
	}
	if more > 0 {
		clear(head[:8-more])
		n = binary.BigEndian.Uint64(head[:8])
	}
	if masked {
		if _, err := io.ReadFull(r, head[8:12]); err != nil {
			return frame{}, err
		}
		f.key = string(head[8:12])
	}
	payload := make([]byte, n)
	if _, err := io.ReadFull(r, payload); err != nil {
		return frame{}, err
	}
	for i := range payload {
		if f.key != "" {
			payload[i] ^= f.key[i%4]
		}
	}
	f.payload = string(payload)
	return f, nil
}

// switching answers 101 and hands the connection to serve.
func switching(serve func(c net.Conn, r *bufio.Reader)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if number(r.Header.Get("Authorization")) == 0 || r.Header.Get("Upgrade") != "websocket" || r.Header.Get("Connection") != "Upgrade" {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		c, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer c.Close()
		if _, err := io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade, X-Hop\r\nUpgrade: websocket\r\nX-Hop: 1\r\nAlt-Svc: h3=\":443\"\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"); err == nil {
			serve(c, rw.Reader)
		}
	}
}

// echoFrames sends each frame back, unmasked, until it is told to close.
func echoFrames(c net.Conn, r *bufio.Reader) {
	for {
		f, err := readFrame(r)
		if err != nil || f.key == "" {
			return
		}
		if _, err := io.WriteString(c, frame{opcode: f.opcode, payload: f.payload}.String()); err != nil || f.opcode == 8 {
			return
		}
	}
}

// open begins a call that switches, with what follows the handshake at once.
func (g *rig) open(t *testing.T, target, early string) (net.Conn, *bufio.Reader, *http.Response) {
	t.Helper()
	c, err := net.Dial("tcp", g.front.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	host := "example.com"
	if strings.HasPrefix(target, "/") {
		host = "localhost"
	}
	if _, err := io.WriteString(c, "GET "+target+" HTTP/1.1\r\nHost: "+host+"\r\n"+handshake+early); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(c)
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	return c, r, resp
}

func TestWebSocketPassesAtEachDoor(t *testing.T) {
	for _, h2 := range []bool{false, true} { // an upstream that would rather speak HTTP/2
		for _, target := range []string{"/api/socket?x=1;y", "http://example.com/socket"} {
			g := rigging{alter: websockets}.newRig(t, plain, newUpstream(t, h2, switching(echoFrames)))
			early := frame{1, "abcd", "before the answer"}
			c, r, resp := g.open(t, target, early.String())
			if resp.StatusCode != 101 || resp.Header.Get("Sec-Websocket-Accept") == "" || resp.Header.Get("Upgrade") != "websocket" ||
				resp.Header.Get("Connection") != "Upgrade" || resp.Header.Get("X-Hop") != "" || resp.Header.Get("Alt-Svc") != "" || resp.Header.Get("Gateway-Request-Id") == "" {
				t.Fatalf("%s: %d %v", target, resp.StatusCode, resp.Header)
			}
			var in, out int
			for _, f := range []frame{early, {2, "wxyz", strings.Repeat("y", 300)}, {1, "1234", strings.Repeat("z", 70_000)}, {8, "abcd", "\x03\xe8"}} {
				if f != early {
					if _, err := io.WriteString(c, f.String()); err != nil {
						t.Fatal(err)
					}
				}
				got, err := readFrame(r)
				if err != nil || got.payload != f.payload || got.opcode != f.opcode {
					t.Fatalf("%s: got %d bytes of opcode %d, %v; want the %d sent", target, len(got.payload), got.opcode, err, len(f.payload))
				}
				in, out = in+len(f.String()), out+len(got.String())
			}
			if b, err := io.ReadAll(r); err != nil || len(b) > 0 {
				t.Errorf("%s: %q, %v after the close frame; want the end", target, b, err)
			}
			c.Close()
			e := g.events.the(1)
			if e.Status != 101 || e.BytesIn != int64(in) || e.BytesOut != int64(out) || e.Code != "" {
				t.Errorf("%s: recorded %d, %d bytes in, %d out, %s; want 101, %d, %d", target, e.Status, e.BytesIn, e.BytesOut, e.Code, in, out)
			}
		}
	}
}

func TestSwitchThatWasRefusedIsTriedAgain(t *testing.T) {
	echo := switching(echoFrames)
	g := rigging{alter: websockets}.newRig(t, plain, newUpstream(t, false, func(w http.ResponseWriter, r *http.Request) {
		if number(r.Header.Get("Authorization")) == 1 {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		echo(w, r)
	}))
	c, _, resp := g.open(t, "/api/socket", frame{8, "abcd", ""}.String())
	c.Close()
	if e := g.events.the(1); resp.StatusCode != 101 || e.Retry != "recovered" {
		t.Errorf("%d, retry %q; want 101 by the second try", resp.StatusCode, e.Retry)
	}
}

func TestOnlySwitchesThatTheRouteNamesAreMade(t *testing.T) {
	for _, tt := range []struct{ name, request, want string }{
		{"another protocol", "GET /api/x HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: spdy/3\r\n\r\n", "501 not_supported"},
		{"another route", "GET /other/x HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", "501 not_supported"},
		{"by POST", "POST /api/x HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", "400 bad_request"},
		{"with a body", "GET /api/x HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 1\r\n\r\nx", "400 bad_request"},
		{"HTTP/1.0", "GET /api/x HTTP/1.0\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", "400 bad_request"},
		{"not in Connection", "GET /api/x HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n\r\n", "400 bad_request"},
		{"from a page", "GET /api/x HTTP/1.1\r\nHost: localhost\r\nOrigin: https://example.org\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", "403 browser_refused"},
		{"an upstream that switches to another", "GET /api/odd HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", "502 upstream_unreachable"},
		{"an upstream that switches unasked", "GET /api/odd HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", "502 upstream_unreachable"},
		{"an upstream that switches all the same", "GET /api/odd HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n", "502 upstream_unreachable"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var calls atomic.Int64
			g := rigging{alter: websockets}.newRig(t, plain+`
  - {name: other, hosts: [example.org], scope: s, upstream: "{upstream}", tls: {ca_file: "{ca}"}}
`, newUpstream(t, false, func(w http.ResponseWriter, r *http.Request) {
				calls.Add(1)
				c, _, err := http.NewResponseController(w).Hijack()
				if err != nil {
					return
				}
				defer c.Close()
				_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: chargen\r\n\r\n")
			}))
			head, rest, _ := strings.Cut(tt.request, "\r\n\r\n")
			if !strings.Contains(head, "Connection:") {
				head += "\r\nConnection: close"
			}
			got := g.raw(t, strings.Replace(head, "Connection: Upgrade", "Connection: Upgrade, close", 1)+"\r\n\r\n"+rest)
			status, code, _ := strings.Cut(tt.want, " ")
			if !strings.Contains(got, " "+status+" ") || !strings.Contains(got, "Gateway-Error: "+code+"\r\n") {
				t.Errorf("got %.300s, want %s", got, tt.want)
			}
			if n := calls.Load(); (status == "502") != (n == 1) {
				t.Errorf("the upstream was called %d times", n)
			}
		})
	}
}

// parted is an upstream that sends the beginning of a frame, and the rest when
// it is let; it notes what it got.
type parted struct {
	rest chan string
	got  chan frame
}

func (p *parted) serve(c net.Conn, r *bufio.Reader) {
	_, _ = io.WriteString(c, frame{opcode: 1, payload: "first half, second half"}.String()[:12])
	done := make(chan struct{})
	go func() {
		defer close(done)
		for rest := range p.rest {
			_, _ = io.WriteString(c, rest)
		}
	}()
	for {
		f, err := readFrame(r)
		if err != nil {
			break
		}
		p.got <- f
	}
	close(p.got)
	<-done
}

func TestDrainTellsBothSidesBetweenTwoFrames(t *testing.T) {
	up := &parted{make(chan string), make(chan frame, 8)}
	g := rigging{alter: websockets}.newRig(t, plain, newUpstream(t, false, switching(up.serve)))
	c, r, _ := g.open(t, "/api/socket", frame{1, "abcd", "hello"}.String())
	if f := <-up.got; f.payload != "hello" {
		t.Fatalf("the upstream got %q", f.payload)
	}
	half := make([]byte, 12)
	if _, err := io.ReadFull(r, half); err != nil {
		t.Fatal(err)
	}
	if f := g.handler.InFlight(); f.Upgraded != 1 || f.Calls != 1 {
		t.Errorf("under way: %+v, want one call that switched", f)
	}
	done := make(chan error)
	go func() { done <- g.front.Config.Shutdown(t.Context()) }()
	bye, ok := <-up.got
	if !ok || bye.opcode != 8 || bye.key == "" || !strings.HasPrefix(bye.payload, "\x03\xe9") {
		t.Errorf("the upstream got %+v, want a masked close frame with 1001", bye)
	}
	up.rest <- frame{opcode: 1, payload: "first half, second half"}.String()[12:]
	whole, err := readFrame(io.MultiReader(bytes.NewReader(half), r))
	if err != nil || whole.payload != "first half, second half" {
		t.Errorf("got %+v, %v; want the frame that was under way, whole", whole, err)
	}
	bye, err = readFrame(r)
	if err != nil || bye.opcode != 8 || bye.key != "" || !strings.HasPrefix(bye.payload, "\x03\xe9") {
		t.Errorf("the caller got %+v, %v; want a close frame with 1001", bye, err)
	}
	if b, err := io.ReadAll(r); err != nil || len(b) > 0 {
		t.Errorf("%q, %v after it; want the end", b, err)
	}
	close(up.rest)
	_, _ = io.WriteString(c, frame{8, "abcd", "\x03\xe9"}.String())
	c.Close()
	if e := g.events.the(1); e.Status != 101 {
		t.Errorf("recorded %d, want 101", e.Status)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestCloseEndsWhatStillIsSwitched(t *testing.T) {
	g := rigging{alter: websockets}.newRig(t, plain, newUpstream(t, false, switching(func(c net.Conn, r *bufio.Reader) {
		_, _ = io.WriteString(c, "\x81") // the beginning of a frame that never ends
		_, _ = io.Copy(io.Discard, r)
	})))
	_, r, _ := g.open(t, "/api/socket", "")
	if _, err := r.ReadByte(); err != nil {
		t.Fatal(err)
	}
	g.handler.Close()
	if e := g.events.last(); e.Status != 101 || e.BytesOut != 1 {
		t.Errorf("recorded %d with %d bytes, want 101 and 1, before Close returned", e.Status, e.BytesOut)
	}
	if n := g.handler.InFlight().Upgraded; n != 0 {
		t.Errorf("%d are under way", n)
	}
}

func TestSilentWebSocketEndsAfterTenMinutes(t *testing.T) {
	for _, tt := range []struct {
		name  string
		pings int
		want  time.Duration
	}{{"never a word", 0, 10 * time.Minute}, {"a ping now and then", 5, 55 * time.Minute}} {
		t.Run(tt.name, func(t *testing.T) {
			upstream := func(w http.ResponseWriter, r *http.Request) {
				c, _, err := http.NewResponseController(w).Hijack()
				if err != nil {
					return
				}
				defer c.Close()
				_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
				for range tt.pings {
					time.Sleep(9 * time.Minute)
					_, _ = io.WriteString(c, frame{opcode: 9}.String())
				}
				_, _ = io.Copy(io.Discard, c)
			}
			servedBy(t, websockets, nil, upstream, func(t *testing.T, f *front) {
				began := time.Now()
				c, r := f.dial(t)
				defer c.Close()
				go io.WriteString(c, "GET /api/x HTTP/1.1\r\nHost: localhost\r\n"+handshake)
				resp, err := http.ReadResponse(r, nil)
				if err != nil || resp.StatusCode != 101 {
					t.Fatalf("%v, %v; want 101", resp, err)
				}
				for range tt.pings {
					if f, err := readFrame(r); err != nil || f.opcode != 9 {
						t.Fatalf("%+v, %v; want a ping", f, err)
					}
				}
				bye, err := readFrame(r)
				if err != nil || bye.opcode != 8 {
					t.Fatalf("%+v, %v; want a close frame", bye, err)
				}
				if took := time.Since(began); took < tt.want || took > tt.want+time.Minute {
					t.Errorf("it came after %s, want %s", took, tt.want)
				}
				if _, err := r.ReadByte(); err == nil {
					t.Error("the connection is not closed")
				}
				synctest.Wait()
			})
		})
	}
}

func FuzzFarewellComesBetweenTwoFrames(f *testing.F) {
	f.Add([]byte("abcdefgh"), uint8(3), uint16(200))
	f.Add([]byte{0, 126, 255, 1}, uint8(0), uint16(70))
	f.Fuzz(func(t *testing.T, sizes []byte, chunk uint8, at uint16) {
		var sent bytes.Buffer
		for i, n := range sizes[:min(len(sizes), 16)] {
			fr := frame{opcode: 2, payload: strings.Repeat(string('a'+rune(i)), int(n)*int(n))}
			if n%2 == 1 {
				fr.key = "\x01\x02\x03\x04"
			}
			sent.WriteString(fr.String())
		}
		got := proxy.Followed(sent.Bytes(), int(chunk)+1, int(at))
		r := bytes.NewReader(got)
		for {
			fr, err := readFrame(r)
			if err == io.EOF {
				return
			}
			if err != nil {
				t.Fatalf("%d of %d bytes end within a frame: %v", len(got), sent.Len(), err)
			}
			if fr.opcode != 2 {
				t.Fatal(fmt.Sprint("a frame of opcode ", fr.opcode))
			}
		}
	})
}
