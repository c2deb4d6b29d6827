package authority_test

import (
	"bufio"
	"context"
	"encoding/pem"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"sync"
	"sync/atomic"
	"testing"
)

func listen(t testing.TB, answer http.HandlerFunc) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(answer)
	t.Cleanup(s.Close)
	return s
}

func contents(t testing.TB, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// pipes is a Dialer whose connections never leave the process, so that time
// can stand still: whatever is dialled, handler answers.
type pipes struct {
	t       testing.TB
	handler http.HandlerFunc
	n       atomic.Int64
	mu      sync.Mutex // one request at a time
}

func newPipes(t testing.TB, handler http.HandlerFunc) *pipes {
	return &pipes{t: t, handler: handler}
}

func (p *pipes) requests() int { return int(p.n.Load()) }

func (p *pipes) DialContext(context.Context, string, string) (net.Conn, error) {
	here, there := net.Pipe()
	go p.serve(there) // ends with the first answer, which closes the connection
	return here, nil
}

func (p *pipes) serve(conn net.Conn) {
	defer conn.Close()
	r, err := http.ReadRequest(bufio.NewReader(conn))
	if err != nil {
		return
	}
	if err := r.ParseForm(); err != nil {
		p.t.Error(err)
	}
	p.mu.Lock()
	p.n.Add(1)
	w := httptest.NewRecorder()
	p.handler(w, r)
	p.mu.Unlock()
	resp := w.Result()
	resp.Close = true
	resp.ContentLength = int64(w.Body.Len())
	_ = resp.Write(conn)
}

// secureWith is secure with answers of the test's own.
func secureWith(t testing.TB, answer http.HandlerFunc) (s *httptest.Server, ca string) {
	t.Helper()
	s = httptest.NewUnstartedServer(answer)
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	t.Cleanup(s.Close)
	return s, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}))
}
