package proxy_test

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
)

// BenchmarkAnswer tells what the reflection guard costs: a token of a few
// characters is not looked for.
func BenchmarkAnswer(b *testing.B) {
	for _, size := range []int{1 << 10, 60 << 10, 1 << 20} {
		body := strings.Repeat(`{"displayName":"Adele Vance","id":"87d349ed"},`, size/46+1)[:size]
		for _, token := range []string{"", "short"} {
			name := map[string]string{"": "guarded", "short": "unguarded"}[token]
			b.Run(fmt.Sprintf("%d/%s", size, name), func(b *testing.B) {
				g := rigging{always: token}.newRig(b, plain, newUpstream(b, false, func(w http.ResponseWriter, _ *http.Request) {
					w.Header().Set("Content-Length", strconv.Itoa(size))
					_, _ = io.WriteString(w, body)
				}))
				client := g.client(b, false)
				b.SetBytes(int64(size))
				b.ReportAllocs()
				for b.Loop() {
					resp, err := client.Get(g.front.URL + "/api/x")
					if err != nil {
						b.Fatal(err)
					}
					if n, err := io.Copy(io.Discard, resp.Body); err != nil || n != int64(size) {
						b.Fatal(n, err)
					}
					resp.Body.Close()
				}
			})
		}
	}
}
