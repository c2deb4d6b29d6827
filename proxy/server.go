package proxy

import (
	"log"
	"net/http"
	"time"
)

// NewServer wraps h in a server with the limits of the proxy port. There is no
// limit on the length of a call: uploads and streams may take hours.
func (h *Handler) NewServer() *http.Server {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       120 * time.Second,
		MaxHeaderBytes:    64 << 10,
		Protocols:         protocols,
		// net/http would answer OPTIONS * by itself, whoever asks.
		DisableGeneralOptionsHandler: true,
		ErrorLog:                     log.New(proxyLog{h.cfg.Log}, "", 0),
	}
}
