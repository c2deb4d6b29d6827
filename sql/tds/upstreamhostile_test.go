package tds_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"

	"go.uber.org/goleak"

	"github.com/seed-13b04e61/gateway/secrets"
	"github.com/seed-13b04e61/gateway/sql/tds"
)

func TestLoginEndsWithItsContextInEveryPhase(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	for _, c := range []struct {
		name  string
		phase tds.Phase
		at    func(f *farServer, hold func(net.Conn))
	}{
		{"silent from the start", tds.PhasePrelogin, func(f *farServer, hold func(net.Conn)) { f.onPrelogin = hold }},
		{"silent after LOGIN7", tds.PhaseLogin, func(f *farServer, hold func(net.Conn)) { f.onLogin = hold }},
		{"drips empty INFO for ever", tds.PhaseLogin, func(f *farServer, hold func(net.Conn)) {
			f.onLogin = func(c net.Conn) {
				_, _ = c.Write([]byte{4, 0, 0, 20, 0, 0, 0, 0, 1, 2})
				hold(c)
			}
		}},
		{"silent within the handshake", tds.PhaseTLS, func(f *farServer, hold func(net.Conn)) {
			f.conf = &tls.Config{GetCertificate: func(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
				hold(h.Conn)
				return nil, errors.New("over")
			}}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFar()
			ctx, cancel := context.WithCancel(t.Context())
			c.at(f, func(conn net.Conn) {
				cancel()
				_, _ = io.Copy(io.Discard, conn) // until the gateway hangs up
			})
			f.start(t)
			_, err := tds.Connect(ctx, targetOf(f), clientLogin(), clientOptions(), secrets.New(farToken))
			e, ok := errors.AsType[*tds.LoginError](err)
			if !ok || e.Phase != c.phase || !errors.Is(err, context.Canceled) {
				t.Errorf("error = %v, want one of %s by the context", err, c.phase)
			}
		})
	}
	t.Run("silent while it is dialled", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		_, err := tds.Connect(ctx, tds.Target{Host: "h", Dialer: dialFunc(func(ctx context.Context) (net.Conn, error) {
			cancel()
			<-ctx.Done()
			return nil, ctx.Err()
		})}, clientLogin(), nil, secrets.New(farToken))
		if e, ok := errors.AsType[*tds.LoginError](err); !ok || e.Phase != tds.PhaseDial || !errors.Is(err, context.Canceled) {
			t.Errorf("error = %v", err)
		}
	})
}

type dialFunc func(ctx context.Context) (net.Conn, error)

func (d dialFunc) DialContext(ctx context.Context, _, _ string) (net.Conn, error) { return d(ctx) }

func TestHostileServersEndInAnError(t *testing.T) {
	write := func(b []byte) func(net.Conn) { return func(c net.Conn) { _, _ = c.Write(b) } }
	endless := func(payload int) func(net.Conn) {
		return func(c net.Conn) {
			packet := farFrame(4, make([]byte, payload))
			packet[1] = 0
			for {
				if _, err := c.Write(packet); err != nil {
					return
				}
			}
		}
	}
	for _, c := range []struct {
		name string
		act  func(net.Conn)
	}{
		{"hangs up", func(net.Conn) {}},
		{"half a header", write([]byte{4, 1, 0})},
		{"a length below the header's", write([]byte{4, 1, 0, 3, 0, 0, 0, 0})},
		{"HTTP", write([]byte("HTTP/1.1 400 Bad Request\r\n\r\n"))},
		{"half a packet", write([]byte{4, 1, 1, 0, 0, 0, 0, 0, 1, 2})},
		{"empty answer", write(farFrame(4, nil))},
		{"zeroes", write(farFrame(4, make([]byte, 100)))},
		{"endless packets", endless(4000)},
		{"endless empty packets", endless(0)},
		{"a packet of another type", write(farFrame(1, farWelcome()))},
	} {
		for _, strict := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, strict %v", c.name, strict), func(t *testing.T) {
				pre := newFar()
				pre.strict, pre.onPrelogin = strict, c.act
				if e := loginErr(t, targetOf(pre.start(t))); e.Phase != tds.PhasePrelogin || e.Remedy() == "" {
					t.Errorf("after PRELOGIN: %v", e)
				}
				post := newFar()
				post.strict, post.onLogin = strict, c.act
				if e := loginErr(t, targetOf(post.start(t))); e.Phase != tds.PhaseLogin {
					t.Errorf("after LOGIN7: %v", e)
				}
			})
		}
	}
}
