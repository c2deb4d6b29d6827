package certs

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"log"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

// Of handshakes that fail for their client certificate, toldAtOnce are told of
// in tellEvery: anybody may send many.
const (
	toldAtOnce = 10
	tellEvery  = 10 * time.Second
)

// openedKey is where a connection's context keeps its [opened].
type openedKey struct{}

// opened is a connection, and the trust in force when it was accepted.
type opened struct {
	conn  *tls.Conn
	trust *trust
}

// Secure has srv serve TLS by [http.Server.ServeTLS] with empty file names,
// HTTP/1.1 and HTTP/2, from what is in force. A connection outlives a change
// of what is trusted, but its client certificate does not: a call over it whose
// certificate is no longer good (revoked, expired, of a CA that was taken out)
// reaches srv's handler as one without a certificate, and the connection is
// closed after its answer. Why a client certificate was refused goes to
// [Config.Log]; other handshakes that fail are told to srv's ErrorLog as before.
// Call it before srv serves.
func (k *Keeper) Secure(srv *http.Server) {
	srv.TLSConfig = k.base
	if srv.Protocols == nil {
		srv.Protocols = new(http.Protocols)
		srv.Protocols.SetHTTP1(true)
	}
	srv.Protocols.SetHTTP2(true)
	if srv.TLSNextProto == nil {
		srv.TLSNextProto = map[string]func(*http.Server, *tls.Conn, http.Handler){}
	}
	srv.TLSNextProto[challengeProtocol] = func(_ *http.Server, c *tls.Conn, _ http.Handler) { _ = c.Close() }
	if k.cfg.ClientCAFile == "" {
		return
	}
	srv.ErrorLog = log.New(&handshakes{next: srv.ErrorLog, tell: k.cfg.Log}, "", 0)
	inner := srv.ConnContext
	srv.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		if inner != nil {
			ctx = inner(ctx, c)
		}
		conn, _ := c.(*tls.Conn)
		return context.WithValue(ctx, openedKey{}, opened{conn, k.trust.Load()})
	}
	srv.Handler = k.guard(srv.Handler)
}

func (k *Keeper) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		o, _ := r.Context().Value(openedKey{}).(opened)
		if r.TLS == nil && o.conn != nil {
			// HTTP/2 leaves the scheme to the caller, and net/http leaves out TLS
			// where that is http. Who then asks the connection must find no more
			// than is good here.
			state := o.conn.ConnectionState()
			r = r.WithContext(r.Context())
			r.TLS = &state
		}
		if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
			next.ServeHTTP(w, r)
			return
		}
		if err := k.stillGood(r.TLS, o.trust, time.Now()); err != nil {
			k.cfg.Log("warn", "a call came over a connection whose client certificate is no longer good", "client.address", r.RemoteAddr, "cause", err.Error())
			bare := *r.TLS
			bare.PeerCertificates, bare.VerifiedChains = nil, nil
			w, r = lastAnswer{w}, r.WithContext(r.Context())
			r.TLS = &bare
		}
		next.ServeHTTP(w, r)
	})
}

// lastAnswer closes its connection after the answer, whatever the handler does
// with the fields that it finds. Over HTTP/2 net/http sends GOAWAY for it.
type lastAnswer struct{ http.ResponseWriter }

// Unwrap is for [http.ResponseController].
func (l lastAnswer) Unwrap() http.ResponseWriter { return l.ResponseWriter }

// WriteHeader implements [http.ResponseWriter].
func (l lastAnswer) WriteHeader(status int) {
	if status >= http.StatusOK {
		l.Header().Set("Connection", "close")
	}
	l.ResponseWriter.WriteHeader(status)
}

// Write implements [http.ResponseWriter].
func (l lastAnswer) Write(b []byte) (int, error) {
	l.Header().Set("Connection", "close") // too late is harmless
	return l.ResponseWriter.Write(b)
}

// stillGood judges the certificate of an open connection as it would be in a
// new handshake. It is cheap while the trust is the one it was accepted under.
func (k *Keeper) stillGood(state *tls.ConnectionState, accepted *trust, now time.Time) error {
	t := k.trust.Load()
	if accepted != t || ended(state.VerifiedChains, now) {
		return t.verify(state.PeerCertificates, now)
	}
	return t.check(state.VerifiedChains, now)
}

// ended tells whether a certificate of any chain has: then another may do, and
// none has to.
func ended(chains [][]*x509.Certificate, now time.Time) bool {
	for _, chain := range chains {
		for _, c := range chain {
			if now.After(c.NotAfter) {
				return true
			}
		}
	}
	return len(chains) == 0
}

// handshakes takes what a server has to say and finds in it the handshakes that
// failed for their client certificate: crypto/tls tells of them nowhere else.
type handshakes struct {
	next *log.Logger // nil: the standard one
	tell func(level, msg string, kv ...any)

	mu     sync.Mutex // guards what follows
	since  time.Time
	told   int
	silent int // not told of since the last that was
}

// Write implements [io.Writer]. It is called with whole lines.
func (h *handshakes) Write(line []byte) (int, error) {
	text := strings.TrimSuffix(string(line), "\n")
	rest, failed := strings.CutPrefix(text, "http: TLS handshake error from ")
	remote, cause, _ := strings.Cut(rest, ": ")
	switch {
	case failed && (strings.Contains(cause, "client certificate: ") || strings.HasPrefix(cause, "tls: failed to verify certificate")):
		if silent, ok := h.turn(time.Now()); ok {
			h.tell("warn", "a client certificate was refused", "client.address", remote, "cause", cause, "gateway.untold", silent)
		}
	case h.next != nil:
		h.next.Print(text)
	default:
		log.Print(text)
	}
	return len(line), nil
}

// turn tells whether another may be told of now, and how many were not.
func (h *handshakes) turn(now time.Time) (silent int, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if now.Sub(h.since) >= tellEvery {
		h.since, h.told = now, 0
	}
	if h.told == toldAtOnce {
		h.silent++
		return 0, false
	}
	h.told++
	silent, h.silent = h.silent, 0
	return silent, true
}
