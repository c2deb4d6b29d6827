package proxy_test

import (
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"runtime"
	"testing"

	"github.com/seed-13b04e61/gateway/proxy"
)

// answers is an upstream of 70 bytes.
func answers(w http.ResponseWriter, _ *http.Request) {
	_, _ = io.WriteString(w, `{"value":"0123456789012345678901234567890123456789012345678901234567"}`)
}

// BenchmarkCallInATunnel is a call on a tunnel that is kept.
func BenchmarkCallInATunnel(b *testing.B) {
	for name, h2 := range map[string]bool{"HTTP1": false, "HTTP2": true} {
		b.Run(name, func(b *testing.B) {
			client := digging(b, rigging{}, plain, answers).through(b, nil, h2)
			b.ReportAllocs()
			for b.Loop() {
				fetch(b, client)
			}
		})
	}
}

// BenchmarkTunnelForEachCall opens a tunnel for each call, with a handshake of
// its own.
func BenchmarkTunnelForEachCall(b *testing.B) {
	for name, resumes := range map[string]bool{"full": false, "resumed": true} {
		b.Run(name, func(b *testing.B) {
			client := digging(b, rigging{}, plain, answers).through(b, nil, false)
			tr := client.Transport.(*http.Transport)
			tr.DisableKeepAlives = true
			if !resumes {
				tr.TLSClientConfig.ClientSessionCache = nil
			}
			b.ReportAllocs()
			for b.Loop() {
				fetch(b, client)
			}
		})
	}
}

func fetch(b *testing.B, client *http.Client) {
	resp, err := client.Get("https://example.com/x")
	if err != nil {
		b.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		b.Fatal(resp.Status)
	}
}

// BenchmarkIdleTunnel reports the memory of a tunnel that nobody uses, its
// client's end included.
func BenchmarkIdleTunnel(b *testing.B) {
	const n = 200
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc + m.StackInuse
	}
	b.Run("intercepted", func(b *testing.B) {
		for b.Loop() {
			d := digging(b, rigging{}, plain, answers)
			before := heap()
			open := make([]*tls.Conn, n)
			for i := range open {
				open[i] = d.secure(b, "example.com", d.ca.trust("example.com", "http/1.1"))
				say(b, open[i], "GET /x HTTP/1.1\r\nHost: example.com\r\n\r\n")
			}
			b.ReportMetric(float64(int64(heap())-int64(before))/n, "B/tunnel")
			hangUp(b, d.rig, open)
		}
	})
	b.Run("through", func(b *testing.B) {
		for b.Loop() {
			addr := beside(b, func(c net.Conn) { _, _ = io.Copy(io.Discard, c) })
			g := rigging{alter: allowing(addr)}.newRig(b, plain, newUpstream(b, false, answers))
			before := heap()
			open := make([]net.Conn, n)
			for i := range open {
				open[i], _ = g.dial(b, addr)
			}
			b.ReportMetric(float64(int64(heap())-int64(before))/n, "B/tunnel")
			hangUp(b, g, open)
		}
	})
}

func hangUp[C net.Conn](b *testing.B, g *rig, open []C) {
	for _, c := range open {
		_ = c.Close()
	}
	g.await(b, func(n proxy.InFlight) bool { return n.Tunnels == 0 })
}
