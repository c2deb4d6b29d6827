package egress_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"testing"

	"github.com/seed-13b04e61/gateway/egress"
)

func TestGatewayIsNotItsOwnNextHop(t *testing.T) {
	for _, scheme := range []string{"http", "https"} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		d, err := egress.New(egress.Config{Proxy: &url.URL{Scheme: scheme, Host: l.Addr().String()}})
		if err != nil {
			t.Fatal(err)
		}
		d.Forbid([]netip.AddrPort{netip.MustParseAddrPort(l.Addr().String())})
		for _, dial := range []func(context.Context, string, string) (net.Conn, error){d.DialContext, d.DialPublic} {
			c, err := dial(t.Context(), "tcp", "example.com:443")
			if c != nil {
				_ = c.Close()
			}
			if !errors.Is(err, egress.ErrForbidden) {
				t.Errorf("%s: dialled %v, error %v; each connection would lead to one more", scheme, c, err)
			}
		}
	}
}

func TestConnectionThatBeganBehindTheNextHopsAnswerHasAnEndOfItsOwn(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { // ends with its one connection
		served <- func() error {
			c, err := l.Accept()
			if err != nil {
				return err
			}
			defer c.Close()
			r := bufio.NewReader(c)
			if _, err := http.ReadRequest(r); err != nil {
				return err
			}
			if _, err := io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\n220 hello "); err != nil {
				return err
			}
			said, err := io.ReadAll(r)
			_, _ = io.WriteString(c, strings.ToUpper(string(said)))
			return err
		}()
	}()
	t.Cleanup(func() { _ = l.Close() })
	d, err := egress.New(egress.Config{Proxy: &url.URL{Scheme: "http", Host: l.Addr().String()}})
	if err != nil {
		t.Fatal(err)
	}
	c, err := d.DialContext(t.Context(), "tcp", "example.com:443")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, "bye"); err != nil {
		t.Fatal(err)
	}
	half, ok := c.(interface{ CloseWrite() error })
	if !ok {
		t.Fatal("it can be closed as a whole alone, and the answer would be lost")
	}
	if err := half.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if all, err := io.ReadAll(c); err != nil || string(all) != "220 hello BYE" {
		t.Errorf("got %q, %v", all, err)
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
}
