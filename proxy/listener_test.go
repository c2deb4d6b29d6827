package proxy_test

import (
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/seed-13b04e61/gateway/proxy"
)

// elsewhere makes each connection of a listener come from an address.
type elsewhere struct {
	net.Listener
	from chan string
}

type strange struct {
	net.Conn
	addr net.Addr
}

func (s strange) RemoteAddr() net.Addr { return s.addr }

func (e elsewhere) Accept() (net.Conn, error) {
	c, err := e.Listener.Accept()
	if err != nil {
		return nil, err
	}
	addr, err := net.ResolveTCPAddr("tcp", <-e.from)
	return strange{c, addr}, err
}

// seats is a listener of h whose Accepts go to a channel.
func seats(t *testing.T, cfg proxy.Config, from ...string) (l net.Listener, taken chan net.Conn) {
	t.Helper()
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	e := elsewhere{tcp, make(chan string, len(from))}
	for _, f := range from {
		e.from <- f
	}
	g := rigging{config: cfg}.newRig(t, plain, newUpstream(t, false, echo))
	l = g.handler.Listener(e)
	taken = make(chan net.Conn, len(from))
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				close(taken)
				return
			}
			taken <- c
		}
	}()
	t.Cleanup(func() {
		_ = l.Close()
		for c := range taken {
			_ = c.Close()
		}
	})
	return l, taken
}

// knock opens a connection and tells whether it was taken in; what was said, if not.
func knock(t *testing.T, l net.Listener, taken chan net.Conn) (in net.Conn, said string) {
	t.Helper()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	// As a client does that has much to send, and was not waited for.
	_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	answer := make(chan string, 1)
	go func() {
		b, _ := io.ReadAll(c)
		answer <- string(b)
	}()
	select {
	case in = <-taken:
		return in, ""
	case said = <-answer:
		return nil, said
	case <-time.After(5 * time.Second):
		t.Fatal("neither taken in nor turned away")
		return nil, ""
	}
}

func TestConnectionsAreLimited(t *testing.T) {
	sources := func(s string) []string { return strings.Split(s, " ") }
	for _, tt := range []struct {
		name string
		cfg  proxy.Config
		from []string
		want string // y for taken in, n for turned away
	}{
		{"all together", proxy.Config{Connections: 3, PerSource: 2}, sources("127.0.0.1:1 127.0.0.1:2 192.0.2.1:1 192.0.2.2:1 127.0.0.1:3"), "yyynn"},
		{"of one source", proxy.Config{Connections: 50, PerSource: 2}, sources("192.0.2.1:1 192.0.2.1:2 192.0.2.1:3 192.0.2.2:1 [::ffff:192.0.2.1]:4 192.0.2.1:5"), "yynynn"},
		{"of one IPv6 network", proxy.Config{Connections: 50, PerSource: 2}, sources("[2001:db8::1]:1 [2001:db8::2]:1 [2001:db8:0:0:ffff::3]:1 [2001:db8:0:1::1]:1"), "yyny"},
		{"loopback is nobody's source", proxy.Config{Connections: 50, PerSource: 1}, sources("127.0.0.1:1 127.0.0.1:2 [::1]:1 [::1]:2"), "yyyy"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l, taken := seats(t, tt.cfg, tt.from...)
			got := ""
			var in []net.Conn
			for range tt.from {
				c, said := knock(t, l, taken)
				if c != nil {
					in = append(in, c)
					got += "y"
					continue
				}
				got += "n"
				resp := "HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\n"
				if !strings.HasPrefix(said, resp) || !strings.Contains(said, "Gateway-Error: overloaded\r\n") || !strings.HasSuffix(said, `"code":"overloaded"}`) {
					t.Errorf("turned away with %q", said)
				}
			}
			if got != tt.want {
				t.Errorf("taken in: %s, want %s", got, tt.want)
			}
			for _, c := range in {
				_ = c.Close()
				_ = c.Close() // counts once
			}
		})
	}
}

func TestClosedConnectionMakesRoomForAnother(t *testing.T) {
	from := strings.Split(strings.Repeat("192.0.2.1:1 ", 6), " ")[:6]
	l, taken := seats(t, proxy.Config{PerSource: 1}, from...)
	for i := range 3 {
		c, said := knock(t, l, taken)
		if c == nil {
			t.Fatalf("round %d: turned away with %q", i, said)
		}
		if again, _ := knock(t, l, taken); again != nil {
			t.Errorf("round %d: a second connection was taken in", i)
		}
		_ = c.Close()
		_ = c.Close()
	}
}
