package certs

import (
	"crypto/tls"
	"io"
	"log"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/certmagic"
)

// challengeProtocol is the one that a directory offers alone when it validates
// a name by TLS-ALPN-01 (RFC 8737 §4).
const challengeProtocol = "acme-tls/1"

// challenged tells whether hello is a TLS-ALPN-01 challenge for one of our
// names. Everybody can send one; there is something to see only while an order
// is under way, and a connection for it carries no call.
func (m *manager) challenged(hello *tls.ClientHelloInfo) bool {
	return m.cfg.HTTP == "" && len(hello.SupportedProtos) == 1 && hello.SupportedProtos[0] == challengeProtocol &&
		slices.Contains(m.cfg.Domains, strings.ToLower(hello.ServerName))
}

// newResponder makes the server for HTTP-01 challenges of domains, which
// answers nothing else.
func newResponder(domains []string, issuer *certmagic.ACMEIssuer) *http.Server {
	srv := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			name := r.Host
			if h, _, err := net.SplitHostPort(name); err == nil {
				name = h
			}
			if r.Method == http.MethodGet && slices.Contains(domains, strings.ToLower(name)) && issuer.HandleHTTPChallenge(w, r) {
				return
			}
			http.NotFound(w, r)
		}),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       5 * time.Second,
		WriteTimeout:      5 * time.Second,
		MaxHeaderBytes:    8 << 10,
		ErrorLog:          log.New(io.Discard, "", 0), // what strangers send to port 80
	}
	srv.SetKeepAlivesEnabled(false)
	return srv
}
