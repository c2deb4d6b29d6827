package proxy

import (
	"log"
	"net"
	"net/http"
	"net/netip"
	"time"
)

// NewServer wraps h in a server with the limits of the proxy port. There is no
// limit on the length of a call: uploads and streams may take hours.
//
// It is run by Serve, on a listener of [Handler.Listener]; or by ServeTLS on
// such a listener once TLSConfig is set, and then speaks HTTP/2 too. Its MinVersion
// must not be below TLS 1.2, which is Go's own default.
func (h *Handler) NewServer() *http.Server {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	srv := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 10 * time.Second, // of the TLS handshake too
		IdleTimeout:       120 * time.Second,
		MaxHeaderBytes:    maxServerHeader,
		Protocols:         protocols,
		// net/http would answer OPTIONS * by itself, whoever asks.
		DisableGeneralOptionsHandler: true,
		ConnContext:                  connContext,
		ErrorLog:                     log.New(proxyLog{h.cfg.Log}, "", 0),
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams:          100,
			MaxReadFrameSize:              256 << 10, // what fits the next: who is told more may send more
			MaxReceiveBufferPerStream:     256 << 10,
			MaxReceiveBufferPerConnection: 1 << 20,
			SendPingTimeout:               30 * time.Second,
			PingTimeout:                   15 * time.Second,
			WriteByteTimeout:              30 * time.Second,
		},
	}
	srv.RegisterOnShutdown(h.switches.leave) // Shutdown knows nothing of them
	return srv
}

// AllowPlainHTTP2 has srv speak HTTP/2 without TLS too, to clients that know
// beforehand (RFC 9113 §3.3), as gRPC's do: at a unix socket or a loopback
// address, where nobody listens in. An upgrade to it is never taken.
func AllowPlainHTTP2(srv *http.Server, at net.Addr) {
	_, isUnix := at.(*net.UnixAddr)
	ap, err := netip.ParseAddrPort(at.String())
	if srv.TLSConfig == nil && (isUnix || err == nil && ap.Addr().Unmap().IsLoopback()) {
		srv.Protocols.SetUnencryptedHTTP2(true)
	}
}
