package sql_test

import (
	"context"
	"database/sql/driver"
	"fmt"
	"io"
	"net"
	"net/url"
	"slices"
	"strconv"
	"testing"
	"time"

	mssql "github.com/microsoft/go-mssqldb"

	"github.com/seed-13b04e61/gateway/routes"
	"github.com/seed-13b04e61/gateway/sandbox"
	"github.com/seed-13b04e61/gateway/tokens"
)

// BenchmarkLogin has a driver log in with a token of its own, and without a
// credential through the gateway, in turns. far is a server ten milliseconds
// away from both.
func BenchmarkLogin(b *testing.B) {
	const near, far = 0, 10 * time.Millisecond
	for _, c := range []struct {
		client   string // encrypt of the driver, towards the gateway
		strict   bool   // the way to the server
		redirect bool
		rtt      time.Duration
	}{
		{"disable", false, false, near}, {"true", false, false, near}, {"strict", false, false, near},
		{"disable", true, false, near}, {"true", true, false, near}, {"strict", true, false, near},
		{"disable", false, true, near}, {"disable", true, true, near},
		{"disable", false, false, far}, {"strict", false, false, far}, {"disable", true, false, far},
		{"disable", false, true, far}, {"disable", true, true, far},
	} {
		server, hops, distance := "mandatory", 1, "near"
		if c.strict {
			server = "strict"
		}
		if c.redirect {
			hops = 2
		}
		if c.rtt > 0 {
			distance = "far"
		}
		b.Run(fmt.Sprintf("client=%s/server=%s/hops=%d/%s", c.client, server, hops, distance), func(b *testing.B) {
			r := newRace(b, c.strict, c.rtt)
			through, direct := r.through(b, c.client), r.direct(b, c.strict)
			var added, theirs, ours []time.Duration
			for b.Loop() {
				d := r.login(b, direct, c.redirect)
				g := r.login(b, through, c.redirect)
				theirs, ours, added = append(theirs, d), append(ours, g), append(added, g-d)
			}
			b.ReportMetric(0, "ns/op")
			for name, all := range map[string][]time.Duration{"direct": theirs, "gateway": ours, "added": added} {
				slices.Sort(all)
				b.ReportMetric(millis(all[len(all)/2]), "ms-"+name+"-p50")
				b.ReportMetric(millis(all[len(all)*99/100]), "ms-"+name+"-p99")
			}
		})
	}
}

func millis(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// race is two ways to one server.
type race struct {
	*post
	way  string // host:port that leads to the server, through the distance if there is one
	port int
}

func newRace(b *testing.B, strict bool, rtt time.Duration) *race {
	r := &race{}
	r.post = newPost(b, func(table *routes.Table) {
		door := table.SQL[0]
		if rtt > 0 {
			door.Dial = distance(b, door.Dial, rtt)
		}
		r.way = door.Dial
		door.Strict, door.RedirectSuffixes = strict, []string{"localhost"}
		door.MaxConnections = 50 // sessions end a little later than their drivers'
	})
	_, port, err := net.SplitHostPort(r.way)
	if err != nil {
		b.Fatal(err)
	}
	if r.port, err = strconv.Atoi(port); err != nil {
		b.Fatal(err)
	}
	return r
}

// login is one connection; routed has the server send it elsewhere, once.
func (r *race) login(b *testing.B, c driver.Connector, routed bool) time.Duration {
	if routed {
		r.far.Set(func(m *sandbox.SQLManners) {
			m.Redirect = &sandbox.SQLRedirect{Host: "localhost", Port: r.port, Times: 1}
		})
	}
	begun := time.Now()
	conn, err := c.Connect(b.Context())
	took := time.Since(begun)
	if err != nil {
		b.Fatal(err)
	}
	_ = conn.Close()
	return took
}

func (r *race) through(b *testing.B, encrypt string) driver.Connector {
	u := url.URL{Scheme: "sqlserver", Host: r.addr, User: url.UserPassword("any", "any"),
		RawQuery: "encrypt=" + encrypt + "&certificate=" + url.QueryEscape(r.trust)}
	c, err := mssql.NewConnector(u.String())
	if err != nil {
		b.Fatal(err)
	}
	return c
}

// direct has the token at hand, as the gateway does.
func (r *race) direct(b *testing.B, strict bool) driver.Connector {
	encrypt := map[bool]string{false: "true", true: "strict"}[strict]
	u := url.URL{Scheme: "sqlserver", Host: sandbox.SQLHost + ":1433", RawQuery: "encrypt=" + encrypt + "&database=d1&certificate=" + url.QueryEscape(r.door.CAFile)}
	c, err := mssql.NewAccessTokenConnector(u.String(), func() (string, error) {
		t, _, err := r.purse.Token(context.Background(), tokens.Key{})
		return t.Access.Reveal(), err
	})
	if err != nil {
		b.Fatal(err)
	}
	c.(*mssql.Connector).Dialer = shortcut{r.way}
	return c
}

// shortcut leads every name to one address.
type shortcut struct{ addr string }

func (s shortcut) DialContext(ctx context.Context, network, _ string) (net.Conn, error) {
	return (&net.Dialer{}).DialContext(ctx, network, s.addr)
}

// HostName has the driver leave the names to the dialer.
func (s shortcut) HostName() string { return sandbox.SQLHost }

// distance is a way to addr that takes rtt there and back. All of it is on the
// way there, and TCP's own on that of the first bytes.
func distance(b *testing.B, addr string, rtt time.Duration) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer near.Close()
				far, err := net.Dial("tcp", addr)
				if err != nil {
					return
				}
				defer far.Close()
				go delayed(far, near, rtt)
				_, _ = io.Copy(near, far)
			}()
		}
	}()
	return l.Addr().String()
}

// delayed copies what it reads once its time has come.
func delayed(to, from net.Conn, rtt time.Duration) {
	type chunk struct {
		b   []byte
		due time.Time
	}
	chunks := make(chan chunk, 1<<10)
	go func() {
		defer close(chunks)
		for extra := rtt; ; extra = 0 {
			b := make([]byte, 32<<10)
			n, err := from.Read(b)
			if err != nil {
				return
			}
			chunks <- chunk{b[:n], time.Now().Add(rtt + extra)}
		}
	}()
	defer to.Close()
	for c := range chunks {
		<-time.After(time.Until(c.due))
		if _, err := to.Write(c.b); err != nil {
			for range chunks { // its reader ends with the connection
			}
			return
		}
	}
}
