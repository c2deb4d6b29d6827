package egress_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seed-13b04e61/gateway/egress"
	"golang.org/x/net/dns/dnsmessage"
)

// nameServer answers for every name by answer, which hears how often the name
// was asked for before.
type nameServer struct {
	addr   string
	answer func(name string, before int) []netip.Addr

	mu    sync.Mutex // guards asked
	asked map[string]int
}

func newNameServer(t *testing.T, answer func(name string, before int) []netip.Addr) *nameServer {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &nameServer{addr: conn.LocalAddr().String(), answer: answer, asked: map[string]int{}}
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 4096)
		for {
			n, peer, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			if reply := s.reply(buf[:n]); reply != nil {
				_, _ = conn.WriteTo(reply, peer)
			}
		}
	}()
	t.Cleanup(func() { conn.Close(); <-done })
	return s
}

// reply answers one question. Addresses of the other family are left out, so
// that a name of an IPv4 address alone has an empty answer for AAAA.
func (s *nameServer) reply(query []byte) []byte {
	var m dnsmessage.Message
	if m.Unpack(query) != nil || len(m.Questions) != 1 {
		return nil
	}
	q := m.Questions[0]
	name := strings.ToLower(strings.TrimSuffix(q.Name.String(), "."))
	s.mu.Lock()
	key := fmt.Sprint(name, q.Type)
	before := s.asked[key]
	s.asked[key]++
	s.mu.Unlock()
	m.Response, m.RecursionAvailable, m.Additionals = true, true, nil
	h := dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class}
	for _, a := range s.answer(name, before) {
		switch {
		case q.Type == dnsmessage.TypeA && a.Is4():
			m.Answers = append(m.Answers, dnsmessage.Resource{Header: h, Body: &dnsmessage.AResource{A: a.As4()}})
		case q.Type == dnsmessage.TypeAAAA && a.Is6():
			m.Answers = append(m.Answers, dnsmessage.Resource{Header: h, Body: &dnsmessage.AAAAResource{AAAA: a.As16()}})
		}
	}
	out, err := m.Pack()
	if err != nil {
		return nil
	}
	return out
}

func (s *nameServer) resolver() *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "udp", s.addr)
	}}
}

// inside lists addresses that no call reaches by a host that no route names.
func inside() (private, forbidden []string) {
	return []string{
			"127.0.0.1", "127.1.2.3", "::1", "::ffff:127.0.0.1",
			"10.0.0.1", "10.255.255.255", "172.16.0.1", "172.31.255.255", "192.168.0.1", "::ffff:10.0.0.1", "::ffff:192.168.1.1",
			"100.64.0.1", "100.127.255.255", "192.0.0.1", "192.0.0.170", "192.0.2.1", "192.88.99.1", "198.18.0.1", "198.19.255.255", "198.51.100.1", "203.0.113.255",
			"240.0.0.1", "254.255.255.255", "0.1.2.3", "::ffff:100.64.0.1",
			"fc00::1", "fd12:3456::1", "fec0::1", "feff::1", "100::1", "2001:db8::1", "2001:20::1", "2001:1::1", "3fff::1", "5f00::1", "4000::1", "::ffff:0:10.0.0.1",
		}, []string{
			"0.0.0.0", "::", "255.255.255.255", "224.0.0.1", "239.255.255.255", "ff02::1", "ff0e::1",
			"169.254.169.254", "169.254.0.1", "::ffff:169.254.169.254", "168.63.129.16", "::ffff:168.63.129.16", "100.100.100.200", "fd00:ec2::254", "fe80::1",
			"64:ff9b::1", "64:ff9b::a00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::a00:1", "2002:a00:1::", "2002:7f00:1::1", "2001::1", "2001:0:a00:1::", "::10.0.0.1", "::127.0.0.1",
		}
}

// outside lists addresses of the internet, next to blocks that are none.
func outside() []string {
	return []string{
		"1.1.1.1", "9.255.255.255", "11.0.0.1", "100.63.255.255", "100.128.0.1", "126.255.255.255", "128.0.0.1", "172.15.255.255", "172.32.0.1",
		"191.255.255.255", "192.0.1.1", "192.0.3.1", "192.167.255.255", "192.169.0.1", "198.17.255.255", "198.20.0.1", "223.255.255.255", "::ffff:1.1.1.1",
		"2001:200::1", "2606:4700::1111", "2a00:1450::1", "2003::1", "2001:db7::1", "3ffe::1",
	}
}

func newDialer(t testing.TB, cfg egress.Config) *egress.Dialer {
	t.Helper()
	d, err := egress.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// dialPublic is one try, which leaves no connection.
func dialPublic(ctx context.Context, d *egress.Dialer, addr string) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	c, err := d.DialPublic(ctx, "tcp", addr)
	if err == nil {
		c.Close()
	}
	return err
}

func TestWhatNoRouteNamesReachesPublicAddressesAlone(t *testing.T) {
	private, forbidden := inside()
	addresses := map[string]netip.Addr{}
	for i, s := range append(private, forbidden...) {
		addresses[fmt.Sprintf("n%d.test", i)] = netip.MustParseAddr(s)
	}
	server := newNameServer(t, func(name string, _ int) []netip.Addr {
		if a, ok := addresses[name]; ok {
			return []netip.Addr{a}
		}
		return nil
	})
	d := newDialer(t, egress.Config{Resolver: server.resolver()})
	for i, s := range append(private, forbidden...) {
		for _, addr := range []string{net.JoinHostPort(s, "443"), fmt.Sprintf("n%d.test:443", i), fmt.Sprintf("N%d.Test.:443", i)} {
			err := dialPublic(t.Context(), d, addr)
			if !errors.Is(err, egress.ErrForbidden) || errors.Is(err, egress.ErrPrivate) != (i < len(private)) {
				t.Errorf("DialPublic(%s) of %s = %v, want ErrForbidden, and ErrPrivate: %t", addr, s, err, i < len(private))
				continue
			}
			shown := netip.MustParseAddr(s).Unmap().String()
			if !strings.Contains(err.Error(), shown) && !strings.Contains(err.Error(), s) {
				t.Errorf("DialPublic(%s) = %v, which does not name %s", addr, err, shown)
			}
			if i < len(private) != strings.Contains(err.Error(), "egress.deny_private: false") {
				t.Errorf("DialPublic(%s) = %v; whether it names deny_private, want %t", addr, err, i < len(private))
			}
		}
	}
}

func TestPublicAddressesAreDialled(t *testing.T) {
	d := newDialer(t, egress.Config{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // nothing leaves this machine
	for _, s := range outside() {
		err := dialPublic(ctx, d, net.JoinHostPort(s, "443"))
		if err == nil || errors.Is(err, egress.ErrForbidden) || !errors.Is(err, context.Canceled) {
			t.Errorf("DialPublic(%s) = %v, want the context's error", s, err)
		}
	}
}

func TestNamesOfThisMachineAreNotPublicHoweverSpelled(t *testing.T) {
	l := sink(t)
	hop := newHop(t, http.StatusOK, "hop")
	_, port, _ := net.SplitHostPort(l.Addr().String())
	for name, cfg := range map[string]egress.Config{"directly": {}, "through a next hop": {Proxy: hop.url(t)}} {
		d := newDialer(t, cfg)
		for _, s := range append(spellings, "a.b.localhost.", "10.1", "0xa.0.0.1", "012.1.2.3", "167772161", "3232235777", "[fd00::1%eth0]") {
			for _, service := range []string{port, "http"} {
				if err := dialPublic(t.Context(), d, s+":"+service); !errors.Is(err, egress.ErrPrivate) {
					t.Errorf("%s: DialPublic(%s:%s) = %v, want ErrPrivate", name, s, service, err)
				}
			}
		}
	}
	if n := len(hop.targets); n != 0 {
		t.Errorf("the next hop was asked %d times", n)
	}
}

// sink is a listener that fails the test if anybody comes.
func sink(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			t.Errorf("%s was connected to %s", c.RemoteAddr(), l.Addr())
			c.Close()
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return l
}

// A name server that says one thing when a name is checked and another when it
// is dialled gets nowhere: the address that is dialled is the one that is judged.
func TestNoAnswerCanChangeBetweenCheckAndDial(t *testing.T) {
	l := sink(t)
	_, port, _ := net.SplitHostPort(l.Addr().String())
	// Unallocated, so that nobody is there whatever this machine's network is.
	first := netip.MustParseAddr("3000::1")
	server := newNameServer(t, func(_ string, before int) []netip.Addr {
		if before == 0 {
			return []netip.Addr{first}
		}
		return []netip.Addr{netip.MustParseAddr("127.0.0.1")}
	})
	d := newDialer(t, egress.Config{Resolver: server.resolver()})
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond) // where a route leads there at all
	defer cancel()
	if _, err := d.DialPublic(ctx, "tcp", net.JoinHostPort("rebinding.test", port)); err == nil || errors.Is(err, egress.ErrForbidden) {
		t.Errorf("first DialPublic = %v, want that %s does not answer", err, first)
	}
	server.mu.Lock()
	for key, n := range server.asked {
		if n != 1 {
			t.Errorf("%s was asked for %d times in one dial, want 1", key, n)
		}
	}
	server.mu.Unlock()
	if err := dialPublic(t.Context(), d, net.JoinHostPort("rebinding.test", port)); !errors.Is(err, egress.ErrPrivate) {
		t.Errorf("second DialPublic = %v, want ErrPrivate", err)
	}
}

func TestOnePublicAddressAmongOthersDoesNotOpenTheOthers(t *testing.T) {
	l := sink(t)
	_, port, _ := net.SplitHostPort(l.Addr().String())
	mixed := []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("127.0.0.2"), netip.MustParseAddr("::1"), netip.MustParseAddr("::ffff:127.0.0.1")}
	server := newNameServer(t, func(string, int) []netip.Addr { return mixed })
	d := newDialer(t, egress.Config{Resolver: server.resolver()})
	if err := dialPublic(t.Context(), d, net.JoinHostPort("mixed.test", port)); !errors.Is(err, egress.ErrPrivate) {
		t.Errorf("DialPublic = %v, want ErrPrivate", err)
	}
}

func TestRoutedHostsMayBePrivate(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	server := newNameServer(t, func(string, int) []netip.Addr { return []netip.Addr{netip.MustParseAddr("127.0.0.1")} })
	d := newDialer(t, egress.Config{Resolver: server.resolver()})
	c, err := d.DialContext(t.Context(), "tcp", net.JoinHostPort("endpoint.test", port))
	if err != nil {
		t.Fatalf("DialContext = %v, want a connection", err)
	}
	c.Close()
	if err := dialPublic(t.Context(), d, net.JoinHostPort("endpoint.test", port)); !errors.Is(err, egress.ErrPrivate) {
		t.Errorf("DialPublic = %v, want ErrPrivate", err)
	}
}

func TestOwnListenersAreNobodysHoweverReached(t *testing.T) {
	l := sink(t)
	own := netip.MustParseAddrPort(l.Addr().String())
	server := newNameServer(t, func(string, int) []netip.Addr { return []netip.Addr{own.Addr()} })
	d := newDialer(t, egress.Config{Resolver: server.resolver()})
	d.Forbid([]netip.AddrPort{own})
	addr := fmt.Sprintf("gateway.test:%d", own.Port())
	for name, dial := range map[string]func(context.Context, string, string) (net.Conn, error){"DialContext": d.DialContext, "DialPublic": d.DialPublic} {
		_, err := dial(t.Context(), "tcp", addr)
		if !errors.Is(err, egress.ErrForbidden) || errors.Is(err, egress.ErrPrivate) || !strings.Contains(err.Error(), "a listener of this gateway") {
			t.Errorf("%s(%s) = %v, want that it is a listener of this gateway", name, addr, err)
		}
	}
}

func TestTheNextHopIsAskedForPublicHostsAlone(t *testing.T) {
	hop := newHop(t, http.StatusOK, "upstream")
	server := newNameServer(t, func(string, int) []netip.Addr { return []netip.Addr{netip.MustParseAddr("127.0.0.1")} })
	d := newDialer(t, egress.Config{Proxy: hop.url(t), Bypass: []string{".corp.test", "10.0.0.0/8"}, Resolver: server.resolver()})
	private, forbidden := inside()
	for i, s := range append(private, forbidden...) {
		err := dialPublic(t.Context(), d, net.JoinHostPort(s, "443"))
		if !errors.Is(err, egress.ErrForbidden) || errors.Is(err, egress.ErrPrivate) != (i < len(private)) {
			t.Errorf("DialPublic(%s) = %v, want ErrForbidden", s, err)
		}
	}
	// What is bypassed is dialled here, and so judged here.
	if err := dialPublic(t.Context(), d, "files.corp.test:443"); !errors.Is(err, egress.ErrPrivate) {
		t.Errorf("DialPublic of a bypassed name = %v, want ErrPrivate", err)
	}
	if n := len(hop.targets); n != 0 {
		t.Fatalf("the next hop was asked %d times", n)
	}
	for _, addr := range []string{"files.test:443", "1.1.1.1:443", "[2606:4700::1111]:80"} {
		c, err := d.DialPublic(t.Context(), "tcp", addr)
		if err != nil {
			t.Fatalf("DialPublic(%s) = %v, want a tunnel", addr, err)
		}
		buf := make([]byte, len("hello from upstream"))
		if _, err := io.ReadFull(c, buf); err != nil || string(buf) != "hello from upstream" {
			t.Errorf("read %q, %v", buf, err)
		}
		c.Close()
		if got := <-hop.targets; got != "CONNECT "+addr {
			t.Errorf("the next hop was asked %q, want %s", got, addr)
		}
		<-hop.auth
	}
}

func TestWhatIsNoHostAndPortIsRefused(t *testing.T) {
	hop := newHop(t, http.StatusOK, "hop")
	d := newDialer(t, egress.Config{Proxy: hop.url(t)})
	for _, addr := range []string{"", "files.test", "::1", "a:b:c"} {
		if err := dialPublic(t.Context(), d, addr); !errors.Is(err, egress.ErrForbidden) {
			t.Errorf("DialPublic(%q) = %v, want ErrForbidden", addr, err)
		}
	}
}

// Whatever address is let through is one of the internet by the registries'
// plain words, and stays refused when it is mapped into IPv6.
func FuzzPublicAddressesAreOfTheInternet(f *testing.F) {
	private, forbidden := inside()
	for _, list := range [][]string{private, forbidden, outside()} {
		for _, s := range list {
			f.Add(netip.MustParseAddr(s).AsSlice())
		}
	}
	d := newDialer(f, egress.Config{})
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	f.Fuzz(func(t *testing.T, raw []byte) {
		ip, ok := netip.AddrFromSlice(raw)
		if !ok {
			return
		}
		err := dialPublic(ctx, d, net.JoinHostPort(ip.String(), "443"))
		refused := errors.Is(err, egress.ErrForbidden)
		if err == nil || !refused && !errors.Is(err, context.Canceled) {
			t.Fatalf("DialPublic(%s) = %v", ip, err)
		}
		if ip.Is4() {
			mapped := dialPublic(ctx, d, net.JoinHostPort("::ffff:"+ip.String(), "443"))
			if errors.Is(mapped, egress.ErrForbidden) != refused {
				t.Errorf("DialPublic(%s) = %v, and of its mapped form %v", ip, err, mapped)
			}
		}
		if refused {
			return
		}
		ip = ip.Unmap()
		b := ip.AsSlice()
		switch {
		case ip.Is6() && b[0]>>5 != 1,
			ip.Is6() && b[0] == 0x20 && (b[1] == 0x02 || b[1] == 0x01 && b[2] < 2),
			ip.Is4() && (b[0] == 0 || b[0] == 10 || b[0] == 127 || b[0] >= 224),
			ip.Is4() && (b[0] == 169 && b[1] == 254 || b[0] == 172 && b[1]>>4 == 1 || b[0] == 192 && b[1] == 168 || b[0] == 100 && b[1]>>6 == 1):
			t.Errorf("DialPublic(%s) lets it through", ip)
		}
	})
}

func ExampleDialer_DialPublic() {
	d, err := egress.New(egress.Config{})
	if err != nil {
		fmt.Println(err)
		return
	}
	_, err = d.DialPublic(context.Background(), "tcp", "10.0.0.5:443")
	fmt.Println(err)
	fmt.Println(errors.Is(err, egress.ErrPrivate))
	// Output:
	// address may not be dialled: 10.0.0.5:443 is a private address; a host that has to be private can have a route, or egress.deny_private: false lets all of them pass
	// true
}
