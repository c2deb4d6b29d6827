package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// tap is a server that keeps every byte that it is sent. It stands where a
// token belongs, and wherever one might go by mistake.
type tap struct {
	addr string

	mu     sync.Mutex // guards all below
	seen   []*tapped  // in the order in which they came
	open   int
	closed map[string]bool // addresses of callers that are gone
	change *sync.Cond      // of open and closed
}

type tapped struct {
	net.Conn
	tap  *tap
	once sync.Once
	sent bytes.Buffer // guarded by tap.mu
}

func (c *tapped) Close() error {
	c.once.Do(func() {
		c.tap.mu.Lock()
		defer c.tap.mu.Unlock()
		c.tap.open--
		c.tap.closed[c.RemoteAddr().String()] = true
		c.tap.change.Broadcast()
	})
	return c.Conn.Close()
}

func (c *tapped) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.tap.mu.Lock()
	defer c.tap.mu.Unlock()
	c.sent.Write(b[:n])
	return n, err
}

type tapListener struct {
	net.Listener
	tap *tap
}

func (l tapListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	l.tap.mu.Lock()
	defer l.tap.mu.Unlock()
	l.tap.open++
	caller := &tapped{Conn: c, tap: l.tap}
	l.tap.seen = append(l.tap.seen, caller)
	return caller, nil
}

// newTap starts one on loopback that answers every call, after its whole body,
// with 200, and then hangs up.
func newTap(t testing.TB) *tap {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &tap{addr: l.Addr().String(), closed: map[string]bool{}}
	p.change = sync.NewCond(&p.mu)
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			panic(http.ErrAbortHandler)
		}
		w.Header().Set("Connection", "close")
		_, _ = io.WriteString(w, "this is the upstream")
	})}
	go func() { _ = srv.Serve(tapListener{l, p}) }()
	t.Cleanup(func() { _ = srv.Close() })
	return p
}

// take returns what came over each connection since the last time. Whatever
// was sent before take is called is in it: connections are accepted in order,
// so that all others were before the one that it makes itself.
func (p *tap) take(t testing.TB) [][]byte {
	t.Helper()
	last, err := net.Dial("tcp", p.addr)
	if err != nil {
		t.Fatal(err)
	}
	name := last.LocalAddr().String()
	_ = last.Close()
	late := false
	timer := time.AfterFunc(patience, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		late = true
		p.change.Broadcast()
	})
	defer timer.Stop()
	p.mu.Lock()
	defer p.mu.Unlock()
	for !p.closed[name] || p.open > 0 {
		if late {
			t.Fatalf("%d connections to the upstream stay open", p.open)
		}
		p.change.Wait()
	}
	var all [][]byte
	for _, c := range p.seen {
		if c.sent.Len() > 0 {
			all = append(all, c.sent.Bytes())
		}
	}
	p.seen = nil
	clear(p.closed)
	return all
}

// wire is one request as it was on the wire.
type wire struct {
	line   string
	fields []string // as they were: "Name: value"
	body   string   // without its chunks' framing
}

// values are those of the field of that name, in any case.
func (w wire) values(name string) []string {
	var all []string
	for _, f := range w.fields {
		if n, v, _ := strings.Cut(f, ":"); strings.EqualFold(n, name) {
			all = append(all, strings.TrimPrefix(v, " "))
		}
	}
	return all
}

// readStrictly cuts raw into requests as RFC 9112 has them when nothing that a
// recipient may be lenient about occurs: whatever two servers might read in
// two ways is an error.
func readStrictly(raw []byte) ([]wire, error) {
	var all []wire
	for rest := string(raw); rest != ""; {
		head, after, ok := strings.Cut(rest, "\r\n\r\n")
		if !ok {
			return nil, fmt.Errorf("the head does not end: %.200q", rest)
		}
		w, err := readHead(head)
		if err != nil {
			return nil, err
		}
		if w.body, rest, err = readFramed(w, after); err != nil {
			return nil, err
		}
		all = append(all, w)
	}
	return all, nil
}

func readHead(head string) (wire, error) {
	lines := strings.Split(head, "\r\n")
	w := wire{line: lines[0], fields: lines[1:]}
	if parts := strings.Split(w.line, " "); len(parts) != 3 || parts[1] == "" || parts[1][0] != '/' || parts[2] != "HTTP/1.1" {
		return wire{}, fmt.Errorf("no request line: %q", w.line)
	}
	if at := strings.IndexFunc(strings.Join(lines, ""), func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }); at >= 0 {
		return wire{}, fmt.Errorf("a control character in %q", head)
	}
	for _, f := range w.fields {
		name, _, ok := strings.Cut(f, ":")
		if !ok || name == "" || strings.Trim(strings.ToLower(name), "abcdefghijklmnopqrstuvwxyz0123456789-!#$%&'*+.^`|~") != "" {
			return wire{}, fmt.Errorf("no field: %q", f)
		}
	}
	return w, nil
}

// readFramed takes the body of w off the front of text.
func readFramed(w wire, text string) (body, rest string, err error) {
	coding, length := w.values("Transfer-Encoding"), w.values("Content-Length")
	switch {
	case len(coding) == 1 && coding[0] == "chunked" && length == nil:
		return readChunks(text)
	case coding != nil || len(length) > 1:
		return "", "", fmt.Errorf("two framings: Transfer-Encoding %q, Content-Length %q", coding, length)
	case length == nil:
		return "", text, nil
	}
	var n int
	if _, err := fmt.Sscanf(length[0], "%d", &n); err != nil || fmt.Sprint(n) != length[0] || n > len(text) {
		return "", "", fmt.Errorf("Content-Length %q before %d bytes", length[0], len(text))
	}
	return text[:n], text[n:], nil
}

func readChunks(text string) (body, rest string, err error) {
	for {
		line, after, ok := strings.Cut(text, "\r\n")
		var n int
		if !ok || line == "" || len(line) > 8 || strings.Trim(line, "0123456789abcdef") != "" {
			return "", "", fmt.Errorf("no size of a chunk: %.40q", text)
		}
		if _, err := fmt.Sscanf(line, "%x", &n); err != nil {
			return "", "", fmt.Errorf("the size of a chunk %q: %w", line, err)
		}
		if len(after) < n+2 || after[n:n+2] != "\r\n" {
			return "", "", errors.New("a chunk of another size than it says, or a trailer")
		}
		body, text = body+after[:n], after[n+2:]
		if n == 0 {
			return body, text, nil
		}
	}
}
