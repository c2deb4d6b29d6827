package egress_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/seed-13b04e61/gateway/egress"
)

// spellings are ways to write 127.0.0.1 and what else is this machine.
var spellings = []string{
	"127.0.0.1", "localhost", "LocalHost", "localhost.", "arc.localhost", "127.0.0.1.", "[::1]", "[0:0:0:0:0:0:0:1]", "[::1%lo]",
	"[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "127.1", "127.0.1", "2130706433", "0x7f000001", "0x7f.1", "0X7F.0.0.1", "0177.0.0.1", "017700000001", "127.0.0.2",
}

func dialForbidden(t *testing.T, d *egress.Dialer, addr string) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	c, err := d.DialContext(ctx, "tcp", addr)
	if err == nil {
		c.Close()
	}
	return err
}

func TestManagedIdentityEndpointsAreNotDialledHoweverSpelled(t *testing.T) {
	hop := newHop(t, http.StatusOK, "hop")
	for name, cfg := range map[string]egress.Config{"directly": {}, "through a next hop": {Proxy: hop.url(t)}} {
		d, err := egress.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		d.ForbidHosts([]string{"127.0.0.1:41741", "Identity.Internal:8081", "msi.internal", "10.1.2.3:42356", "[fd00::7]:80", "bad.internal:no-such-port"})
		addrs := []string{
			"169.254.169.254:80", "169.254.169.254.:80", "169.254.169.254:8080", "[::ffff:169.254.169.254]:80", "[::ffff:a9fe:a9fe]:80", "2852039166:80", "0xa9fea9fe:80", "0251.0376.0251.0376:80", "169.16689662:80",
			"metadata.google.internal:80", "METADATA.google.internal.:443",
			"identity.internal:8081", "IDENTITY.internal.:8081", "msi.internal:1", "msi.internal:443", "bad.internal:9",
			"10.1.2.3:42356", "10.66051:42356", "[::ffff:10.1.2.3]:42356", "[fd00::7]:80", "[fd00:0::7]:http",
		}
		for _, s := range spellings {
			addrs = append(addrs, s+":40342", s+":040342", s+":41741")
		}
		for _, addr := range addrs {
			err := dialForbidden(t, d, addr)
			if !errors.Is(err, egress.ErrForbidden) || !strings.Contains(err.Error(), "managed identity endpoint") {
				t.Errorf("%s: DialContext(%s) = %v, want ErrForbidden that names a managed identity endpoint", name, addr, err)
			}
		}
	}
	if n := len(hop.targets); n != 0 {
		t.Errorf("the next hop was asked %d times", n)
	}
}

func TestOtherPortsAndHostsStayReachable(t *testing.T) {
	hop := newHop(t, http.StatusOK, "hop")
	d, err := egress.New(egress.Config{Proxy: hop.url(t)})
	if err != nil {
		t.Fatal(err)
	}
	d.ForbidHosts([]string{"gone.internal:80"})
	d.ForbidHosts([]string{"identity.internal:8081"})
	for _, addr := range []string{"identity.internal:8082", "gone.internal:80", "0b1.internal:40342", "1_0.0.0.1:443", "1.2.3.4.5:443", "256.1.1.1:443", "graph.microsoft.com:443", "10.0.0.1:40342"} {
		if err := dialForbidden(t, d, addr); err != nil {
			t.Errorf("DialContext(%s) = %v, want a tunnel", addr, err)
		}
		if got := <-hop.targets; got != "CONNECT "+addr {
			t.Errorf("the next hop was asked %q, want %s", got, addr)
		}
		<-hop.auth
	}
}

func FuzzEveryNumberThatMeansLoopbackIsRefused(f *testing.F) {
	f.Add(uint32(1), "%d", "%#x")
	f.Add(uint32(0xffffff), "%#o", "%#X")
	f.Add(uint32(0x010203), "%#x", "%d")
	d, err := egress.New(egress.Config{})
	if err != nil {
		f.Fatal(err)
	}
	verb := func(s string) string { // a form that inet_aton(3) reads
		if forms := []string{"%d", "%#x", "%#o", "%#X"}; slices.Contains(forms, s) {
			return s
		}
		return "0x00%x"
	}
	f.Fuzz(func(t *testing.T, n uint32, first, last string) {
		n &= 0xffffff
		first, last = verb(first), verb(last)
		for _, host := range []string{
			fmt.Sprintf(last, 127<<24|n),
			fmt.Sprintf(first+"."+last, 127, n),
			fmt.Sprintf(first+"."+last+"."+first, 127, n>>16, n&0xffff),
			fmt.Sprintf(first+"."+last+"."+first+"."+last, 127, n>>16, n>>8&0xff, n&0xff),
		} {
			if err := dialForbidden(t, d, host+":40342"); !errors.Is(err, egress.ErrForbidden) {
				t.Errorf("DialContext(%s:40342) = %v, want ErrForbidden", host, err)
			}
		}
	})
}

func ExampleDialer_ForbidHosts() {
	d, err := egress.New(egress.Config{})
	if err != nil {
		fmt.Println(err)
		return
	}
	d.ForbidHosts([]string{"127.0.0.1:41741"}) // IDENTITY_ENDPOINT of this host
	_, err = d.DialContext(context.Background(), "tcp", "localhost:41741")
	fmt.Println(err)
	// Output: address may not be dialled: localhost:41741 is a managed identity endpoint
}
