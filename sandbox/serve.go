package sandbox

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// maxForm bounds every form and JSON body that comes in; uploads are hashed
// as they stream and bounded by maxUpload.
const (
	maxForm   = 1 << 20
	maxUpload = 4 << 30
)

// surroundings is what the servers of one World share.
type surroundings struct {
	clock *clock
	tls   *tls.Config // nil: plain HTTP
	log   *lineLog
}

// lineLog writes whole lines from many goroutines. Without a writer it is
// silent.
type lineLog struct {
	mu sync.Mutex // guards w
	w  io.Writer
}

// Write makes lineLog the sink of an [http.Server]'s ErrorLog.
func (l *lineLog) Write(p []byte) (int, error) {
	if l.w == nil {
		return len(p), nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}

// server is one listener of the World.
type server struct {
	name  string
	url   string // scheme, host and port, no slash at the end
	env   *surroundings
	inner http.Handler

	door   *door
	http   *http.Server
	cancel context.CancelFunc
	served chan struct{} // closed when Serve has returned
	calls  tally
}

// serve opens a loopback listener on port 0 and serves h on it until close.
func serve(name string, env *surroundings, h http.Handler) (*server, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	s := &server{
		name: name, env: env, inner: h, cancel: cancel,
		url: "http://" + l.Addr().String(), door: &door{Listener: l}, served: make(chan struct{}),
	}
	s.calls.idle.L = &s.calls.mu
	s.http = &http.Server{
		Handler:           s,
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       10 * time.Minute,
		WriteTimeout:      10 * time.Minute,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    128 << 10,
		ErrorLog:          log.New(env.log, name+": ", 0),
	}
	if env.tls != nil {
		s.url = "https://" + l.Addr().String()
		s.http.TLSConfig = env.tls.Clone()
	}
	go s.run() // ends with close
	return s, nil
}

func (s *server) run() {
	defer close(s.served)
	if s.env.tls == nil {
		_ = s.http.Serve(s.door) // always ErrServerClosed, after close
		return
	}
	_ = s.http.ServeTLS(s.door, "", "")
}

// close ends the listener, its connections and its handlers, and waits.
func (s *server) close() {
	s.cancel()
	_ = s.http.Close()
	<-s.served
	s.calls.wait()
}

// ServeHTTP counts, dates and logs each call around the inner handler.
func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if s.door.shut.Load() || !s.calls.enter() {
		panic(http.ErrAbortHandler) // the connection just breaks
	}
	defer s.calls.leave()
	w.Header().Set("Date", s.env.clock.now().UTC().Format(http.TimeFormat))
	rec := &recorder{ResponseWriter: w, status: http.StatusOK}
	s.inner.ServeHTTP(rec, r)
	_, _ = fmt.Fprintf(s.env.log, "%s: %s %q %d\n", s.name, clip(r.Method, 16), clip(r.URL.Path, 200), rec.status)
}

// publicURL is the origin by which r reached this server: its own, or, for a
// Host that is not loopback (a proxy dials here under the real name), https
// and that host. Links in answers and audiences of assertions follow it.
func (s *server) publicURL(r *http.Request) string {
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	ip := net.ParseIP(strings.Trim(host, "[]"))
	if strings.EqualFold(host, "localhost") || (ip != nil && ip.IsLoopback()) {
		scheme, _, _ := strings.Cut(s.url, "://")
		return scheme + "://" + r.Host
	}
	return "https://" + r.Host
}

// door is a listener that can turn connections away without closing its port,
// which somebody else might take meanwhile.
type door struct {
	net.Listener
	shut atomic.Bool
}

// Accept returns the next connection; while shut it resets each instead.
func (d *door) Accept() (net.Conn, error) {
	for {
		c, err := d.Listener.Accept()
		if err != nil || !d.shut.Load() {
			return c, err
		}
		if t, ok := c.(*net.TCPConn); ok {
			_ = t.SetLinger(0) // a reset, not a polite end
		}
		_ = c.Close()
	}
}

// tally counts the handlers at work. A WaitGroup would not do: calls may enter
// while close already waits.
type tally struct {
	mu     sync.Mutex // guards n and closed
	n      int
	closed bool
	idle   sync.Cond
}

// enter reports whether a handler may begin; one that may owes a leave.
func (t *tally) enter() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return false
	}
	t.n++
	return true
}

func (t *tally) leave() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.n--
	t.idle.Broadcast()
}

func (t *tally) wait() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	for t.n > 0 {
		t.idle.Wait()
	}
}

// recorder remembers the status of an answer.
type recorder struct {
	http.ResponseWriter
	status int
}

func (r *recorder) WriteHeader(status int) {
	r.status = status
	r.ResponseWriter.WriteHeader(status)
}

// Unwrap lets [http.ResponseController] reach what the server supports.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

// clip returns s cut to n bytes and free of control characters, fit to be
// repeated in a message or kept in memory.
func clip(s string, n int) string {
	if len(s) > n {
		s = s[:n]
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == '\ufffd' {
			return -1
		}
		return r
	}, s)
}
