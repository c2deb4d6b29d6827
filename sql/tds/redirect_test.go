package tds_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed-13b04e61/gateway/sql/tds"
)

// routedFrom is a target whose server, orders.database.windows.net, answers as
// answer says, and whose dialer knows others by host:port.
func routedFrom(t testing.TB, answer []byte, others map[string]*farServer) (tds.Target, *farServer, *farDialer) {
	t.Helper()
	first := newFar()
	first.answer = func(farVisit) []byte { return answer }
	first.start(t)
	dialer := &farDialer{to: map[string]*farServer{"orders.database.windows.net:1433": first}}
	for addr, f := range others {
		dialer.to[addr] = f.start(t)
	}
	return tds.Target{Host: "orders.database.windows.net", Roots: farTrust().pool, Dialer: dialer}, first, dialer
}

func TestRedirectIsFollowedWithALoginOfItsOwn(t *testing.T) {
	for _, strict := range []bool{false, true} {
		t.Run(fmt.Sprintf("strict %v", strict), func(t *testing.T) {
			node := newFar()
			node.fedAuth, node.nonce, node.strict = -1, bytes.Repeat([]byte{9}, 32), strict
			// Azure routes without any LOGINACK.
			first := newFar()
			first.strict = strict
			first.answer = func(farVisit) []byte {
				return farJoin(farEnv(1, "master", ""), farRouting("Node.database.windows.net", 11007), farDone())
			}
			dialer := &farDialer{to: map[string]*farServer{
				"orders.database.windows.net:1433": first.start(t), "node.database.windows.net:11007": node.start(t)}}
			u, err := connect(t, tds.Target{Host: "orders.database.windows.net", Strict: strict, Roots: farTrust().pool, Dialer: dialer})
			if err != nil {
				t.Fatal(err)
			}
			v := node.seen()[0]
			if v.sni != "node.database.windows.net" || v.login.texts["server"] != "Node.database.windows.net,11007" {
				t.Errorf("SNI %q, ServerName %q: not the routed host", v.sni, v.login.texts["server"])
			}
			if a := first.seen()[0].login.feature(2); a[0] != 3 {
				t.Errorf("first hop's options = %#x, want the echo of its FEDAUTHREQUIRED", a[0])
			}
			b := v.login.feature(2)
			if b[0] != 2 || !bytes.Equal(b[len(b)-32:], node.nonce) {
				t.Errorf("second hop's options = %#x, nonce %x: not those of this hop", b[0], b[len(b)-32:])
			}
			if u.Server != "node.database.windows.net:11007" || len(u.Route) != 2 {
				t.Errorf("server %s by %v", u.Server, u.Route)
			}
			if got := tds.Join(u.Rewrite(clientLogin())); bytes.Contains(got, farUTF16("atabase.windows.net")) {
				t.Error("the client learns of the redirect")
			}
		})
	}
}

func TestRedirectWithLoginackIsARedirectToo(t *testing.T) {
	target, _, _ := routedFrom(t, farJoin(farWelcome(), farRouting("node.database.windows.net", 11007), farDone()),
		map[string]*farServer{"node.database.windows.net:11007": newFar()})
	u, err := connect(t, target)
	if err != nil || u.Server != "node.database.windows.net:11007" {
		t.Errorf("Connect() = %+v, %v", u, err)
	}
}

func TestInstanceOfARedirectStaysInServerName(t *testing.T) {
	// The whole is 128 units with a port of one digit, and too long with two.
	long := strings.Repeat("i", 128-2-1-len("x.datawarehouse.fabric.microsoft.com"))
	for _, c := range []struct {
		routed string
		port   uint16
		want   string
	}{
		{`x.datawarehouse.fabric.microsoft.com\inst-é`, 1433, `x.datawarehouse.fabric.microsoft.com\inst-é,1433`},
		{`x.datawarehouse.fabric.microsoft.com\` + long, 7, `x.datawarehouse.fabric.microsoft.com\` + long + ",7"},
		{`x.datawarehouse.fabric.microsoft.com\` + long, 77, `x.datawarehouse.fabric.microsoft.com\` + long},
	} {
		node := newFar()
		target, _, _ := routedFrom(t, farJoin(farRouting(c.routed, c.port), farDone()),
			map[string]*farServer{fmt.Sprintf("x.datawarehouse.fabric.microsoft.com:%d", c.port): node})
		if _, err := connect(t, target); err != nil {
			t.Fatal(err)
		}
		if v := node.seen()[0]; v.login.texts["server"] != c.want || v.sni != "x.datawarehouse.fabric.microsoft.com" {
			t.Errorf("ServerName = %q for %s, want %q", v.login.texts["server"], v.sni, c.want)
		}
	}
}

func TestEnhancedRoutingReplacesTheDatabase(t *testing.T) {
	for _, database := range []string{"db-7f", ""} {
		node := newFar()
		target, first, _ := routedFrom(t, farJoin(farEnhanced("node.database.windows.net", 11007, database), farDone()),
			map[string]*farServer{"node.database.windows.net:11007": node})
		if _, err := connect(t, target); err != nil {
			t.Fatal(err)
		}
		want := database
		if want == "" {
			want = "clientdb"
		}
		if got := node.seen()[0].login.texts["database"]; got != want {
			t.Errorf("database at the second hop = %q, want %q", got, want)
		}
		if got := first.seen()[0].login.texts["database"]; got != "clientdb" {
			t.Errorf("database at the first hop = %q, want the client's", got)
		}
	}
}

func TestTokenGoesWhereItMayGoAlone(t *testing.T) {
	for _, c := range []struct {
		name, from, to string
		suffixes       []string
		want           bool
	}{
		{"same host", "db", "db", nil, true},
		{"same address", "10.1.2.3", "10.1.2.3", nil, true},
		{"list of Azure", "db.corp.example", "n1.database.windows.net", nil, true},
		{"Fabric", "db.corp.example", "a.b.fabric.microsoft.com", nil, true},
		{"case and the root's dot", "db.corp.example", "N1.Database.Windows.NET.", nil, true},
		{"label boundary", "db.corp.example", "evildatabase.windows.net", nil, false},
		{"the suffix itself", "db.corp.example", "database.windows.net", nil, false},
		{"suffix in front", "db.corp.example", "database.windows.net.evil.example", nil, false},
		{"own domain", "db.corp.example", "n2.corp.example", nil, true},
		{"below own domain", "db.corp.example", "n2.east.corp.example", nil, true},
		{"above own domain", "db.east.corp.example", "db.corp.example", nil, false},
		{"no domain of one label", "db.example", "other.example", nil, false},
		{"no registry's domain", "db.co.uk", "evil.co.uk", nil, false},
		{"elsewhere", "db.corp.example", "evil.example.org", nil, false},
		{"an address", "db.corp.example", "10.1.2.3", nil, false},
		{"an address beside an address", "10.1.2.3", "10.1.2.4", nil, false},
		{"an address of a suffix' look", "db.corp.example", "10.1.2.3", []string{".2.3"}, false},
		{"a listed address", "db.corp.example", "10.1.2.3", []string{"10.1.2.3"}, true},
		{"a listed name", "db.corp.example", "n.other.example", []string{"n.other.example"}, true},
		{"below a listed name", "db.corp.example", "x.n.other.example", []string{"n.other.example"}, false},
		{"a listed suffix", "db.corp.example", "x.n.other.example", []string{".Other.Example"}, true},
		{"a list replaces the defaults", "db.corp.example", "n1.database.windows.net", []string{".other.example"}, false},
		{"and the own domain", "db.corp.example", "n2.corp.example", []string{}, false},
		{"loopback by another name", "localhost", "127.0.0.1", nil, true},
		{"localhost", "127.0.0.1", "localhost", nil, true},
		{"loopback from elsewhere", "db.corp.example", "localhost", nil, false},
		{"loopback's address from elsewhere", "db.corp.example", "127.0.0.1", nil, false},
		{"a name with an empty label", "db.corp.example", "a..database.windows.net", nil, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			first, second := newFar(), newFar()
			first.conf, second.conf = farConf(c.from), farConf(c.to)
			first.answer = func(v farVisit) []byte {
				if v.n == 0 {
					return farJoin(farRouting(c.to, 11999), farDone())
				}
				return farWelcome()
			}
			canonical := strings.TrimSuffix(strings.ToLower(c.to), ".")
			dialer := &farDialer{to: map[string]*farServer{c.from + ":1433": first.start(t), canonical + ":11999": second.start(t)}}
			u, err := connect(t, tds.Target{Host: c.from, Roots: farTrust().pool, Dialer: dialer, RedirectSuffixes: c.suffixes})
			if (err == nil) != c.want {
				t.Fatalf("redirect from %s to %s: %v, want allowed %v", c.from, c.to, err, c.want)
			}
			if c.want {
				if u.Server != canonical+":11999" {
					t.Errorf("server = %s", u.Server)
				}
				return
			}
			if len(dialer.dialed) != 1 || len(second.seen()) != 0 {
				t.Errorf("dialled %v", dialer.dialed)
			}
			e := err.(*tds.LoginError)
			if e.Err == nil || e.Server != c.from+":1433" || !strings.Contains(e.Error(), "redirect") {
				t.Errorf("error = %v", e)
			}
			if !strings.Contains(c.to, "..") && (!strings.Contains(e.Cause(), canonical) || !strings.Contains(e.Remedy(), "redirect_suffixes")) {
				t.Errorf("error = %v, want the host's name and what to do", e)
			}
		})
	}
}

func TestRedirectsThatAreNoneEndTheLogin(t *testing.T) {
	for _, c := range []struct {
		name   string
		answer []byte
	}{
		{"port 0", farRouting("node.database.windows.net", 0)},
		{"no host", farRouting("", 1433)},
		{"a line break", farRouting("a\r\nHost: x.database.windows.net", 1433)},
		{"half", farRouting("node.database.windows.net", 1433)[:20]},
	} {
		target, _, dialer := routedFrom(t, farJoin(c.answer, farDone()), nil)
		if e := loginErr(t, target); e.Phase != tds.PhaseLogin || len(dialer.dialed) != 1 || strings.ContainsAny(e.Error(), "\r\n") {
			t.Errorf("%s: error %v, dialled %v", c.name, e, dialer.dialed)
		}
	}
}

func TestRedirectBesideAnErrorIsARefusal(t *testing.T) {
	target, _, dialer := routedFrom(t, farJoin(farRouting("node.database.windows.net", 11007), farError(40613, "moving"), farDone()), nil)
	e := loginErr(t, target)
	if e.Number() != 40613 || len(dialer.dialed) != 1 {
		t.Errorf("error = %v, dialled %v", e, dialer.dialed)
	}
	if bytes.Contains(tds.Join(e.Tokens), farUTF16("node")) {
		t.Error("the tokens to pass on hold the redirect")
	}
}

func TestRedirectsInACircleEndAtTheTenthServer(t *testing.T) {
	f := newFar()
	f.answer = func(farVisit) []byte { return farJoin(farRouting("orders.database.windows.net", 1433), farDone()) }
	dialer := &farDialer{to: map[string]*farServer{"orders.database.windows.net:1433": f.start(t)}}
	e := loginErr(t, tds.Target{Host: "orders.database.windows.net", Roots: farTrust().pool, Dialer: dialer})
	if len(f.seen()) != 10 || e.Hops != 9 || !strings.Contains(e.Error(), "without end") {
		t.Errorf("%d servers visited, error = %v", len(f.seen()), e)
	}
}

func TestRoutedHostHasToShowItsOwnCertificate(t *testing.T) {
	node := newFar()
	node.conf = farConf("orders.database.windows.net")
	target, _, _ := routedFrom(t, farJoin(farRouting("node.database.windows.net", 11007), farDone()),
		map[string]*farServer{"node.database.windows.net:11007": node})
	e := loginErr(t, target)
	if e.Phase != tds.PhaseTLS || e.Hops != 1 || e.Server != "node.database.windows.net:11007" || node.seen()[0].loginSeen {
		t.Errorf("error = %v", e)
	}
}

// watched keeps what a connection is told.
type watched struct {
	net.Conn
	alive  net.KeepAliveConfig
	closed atomic.Bool
}

func (w *watched) SetKeepAliveConfig(c net.KeepAliveConfig) error { w.alive = c; return nil }

func (w *watched) Close() error {
	w.closed.Store(true)
	return w.Conn.Close()
}

// watchful is a dialer that keeps what it opened.
type watchful struct {
	*farDialer
	opened []*watched
}

func (d *watchful) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	conn, err := d.farDialer.DialContext(ctx, network, addr)
	w := &watched{Conn: conn}
	d.opened = append(d.opened, w)
	return w, err
}

func TestConnectionsAreKeptAliveAndOnesThatRedirectAreClosed(t *testing.T) {
	target, _, dialer := routedFrom(t, farJoin(farRouting("node.database.windows.net", 11007), farDone()),
		map[string]*farServer{"node.database.windows.net:11007": newFar()})
	watch := &watchful{farDialer: dialer}
	target.Dialer = watch
	if _, err := connect(t, target); err != nil {
		t.Fatal(err)
	}
	for n, w := range watch.opened {
		if redirects := n == 0; len(watch.opened) != 2 || w.closed.Load() != redirects {
			t.Errorf("connection %d of %d is closed %v, want the first alone to be", n, len(watch.opened), w.closed.Load())
		}
		if !w.alive.Enable || w.alive.Idle != 30*time.Second {
			t.Errorf("connection %d is kept alive by %+v, want every 30 s", n, w.alive)
		}
	}
}
