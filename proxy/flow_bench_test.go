package proxy_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/seed-13b04e61/gateway/proxy"
)

// BenchmarkHTTP2Write tells what one write of an answer costs over HTTP/2, and
// how much of it is for the caller who might not read.
func BenchmarkHTTP2Write(b *testing.B) {
	for _, size := range []int{100, 32 << 10} {
		for _, kind := range []string{"bare", "metered"} {
			b.Run(fmt.Sprintf("%d/%s", size, kind), func(b *testing.B) {
				piece := make([]byte, size)
				s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
					if kind == "metered" {
						metered, end := proxy.Metered(w)
						defer end()
						w = metered
					}
					for b.Loop() {
						_, _ = w.Write(piece)
					}
				}))
				s.EnableHTTP2 = true
				s.StartTLS()
				defer s.Close()
				b.SetBytes(int64(size))
				b.ReportAllocs()
				resp, err := s.Client().Get(s.URL)
				if err != nil {
					b.Fatal(err)
				}
				defer resp.Body.Close()
				if _, err := io.Copy(io.Discard, resp.Body); err != nil {
					b.Fatal(err)
				}
			})
		}
	}
}

// BenchmarkHTTP2InTunnel tells what an answer costs over HTTP/2 inside of a
// tunnel, many streams at a time: a small one, a large one, and events that are
// flushed one by one.
func BenchmarkHTTP2InTunnel(b *testing.B) {
	for _, tt := range []struct {
		name, kind    string
		pieces, bytes int
	}{
		{"small", "application/json", 1, 1 << 10},
		{"large", "application/json", 32, 32 << 10},
		{"events", "text/event-stream", 100, 100},
	} {
		b.Run(tt.name, func(b *testing.B) {
			piece := strings.Repeat("x", tt.bytes)
			d := digging(b, rigging{}, plain, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", tt.kind)
				for range tt.pieces {
					_, _ = io.WriteString(w, piece)
					_ = http.NewResponseController(w).Flush()
				}
			})
			client := d.through(b, nil, true)
			b.SetBytes(int64(tt.pieces * tt.bytes))
			b.ReportAllocs()
			b.SetParallelism(8)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if err := readWhole(client, tt.pieces*tt.bytes); err != nil {
						b.Error(err)
						return
					}
				}
			})
		})
	}
}

// readWhole calls example.com for an answer of so many bytes.
func readWhole(client *http.Client, size int) error {
	resp, err := client.Get("https://example.com/x")
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	n, err := io.Copy(io.Discard, resp.Body)
	if err == nil && (n != int64(size) || resp.ProtoMajor != 2) {
		err = fmt.Errorf("%d bytes by %s, want %d by HTTP/2", n, resp.Proto, size)
	}
	return err
}
