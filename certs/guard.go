package certs

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"time"
)

// trustKey is where a connection's context keeps the trust in force when it
// was accepted.
type trustKey struct{}

// Secure has srv serve TLS by [http.Server.ServeTLS] with empty file names,
// HTTP/1.1 and HTTP/2, from what is in force. A connection outlives a change
// of what is trusted, but its client certificate does not: a call over it whose
// certificate is no longer good (revoked, expired, of a CA that was taken out)
// reaches srv's handler as one without a certificate, and the connection is
// closed after its answer. Call it before srv serves.
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
	inner := srv.ConnContext
	srv.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		if inner != nil {
			ctx = inner(ctx, c)
		}
		return context.WithValue(ctx, trustKey{}, k.trust.Load())
	}
	srv.Handler = k.guard(srv.Handler)
}

func (k *Keeper) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
			next.ServeHTTP(w, r)
			return
		}
		if err := k.stillGood(r, time.Now()); err != nil {
			k.cfg.Log("warn", "a call came over a connection whose client certificate is no longer good", "remote", r.RemoteAddr, "cause", err.Error())
			bare := *r.TLS
			bare.PeerCertificates, bare.VerifiedChains = nil, nil
			w.Header().Set("Connection", "close")
			r = r.WithContext(r.Context())
			r.TLS = &bare
		}
		next.ServeHTTP(w, r)
	})
}

// stillGood judges the certificate of r's connection as it would be in a new
// handshake. It is cheap while nothing changed.
func (k *Keeper) stillGood(r *http.Request, now time.Time) error {
	t := k.trust.Load()
	accepted, _ := r.Context().Value(trustKey{}).(*trust)
	if accepted != t || now.After(r.TLS.PeerCertificates[0].NotAfter) {
		return t.verify(r.TLS.PeerCertificates, now)
	}
	return t.check(r.TLS.VerifiedChains, now)
}
