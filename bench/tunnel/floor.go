package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"sync"
	"time"
)

// bare is the floor for a program that is built on Go's own http.Server and
// ReverseProxy: one certificate, a fixed header, and nothing else.
func bare(addr, origin, caFile string) error {
	ca, err := newCA(caFile)
	if err != nil {
		return err
	}
	leaf, err := leafOf(ca)
	if err != nil {
		return err
	}
	value := []string{"Bearer " + token()}
	inside := &channel{conns: make(chan net.Conn)}
	inner := &http.Server{ReadHeaderTimeout: time.Minute, Handler: &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&url.URL{Scheme: "http", Host: origin})
			r.Out.Header["Authorization"] = value
		},
		BufferPool: &pool{},
		Transport:  &http.Transport{MaxIdleConnsPerHost: 256, DisableCompression: true, IdleConnTimeout: time.Minute},
	}}
	go func() { _ = inner.Serve(inside) }() // until the process is ended
	conf := &tls.Config{Certificates: []tls.Certificate{*leaf}, NextProtos: []string{"h2", "http/1.1"}}
	return serve(addr, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil || r.Method != http.MethodConnect {
			return
		}
		if _, err := io.WriteString(conn, "HTTP/1.1 200 Connection Established\r\n\r\n"); err != nil {
			_ = conn.Close()
			return
		}
		inside.conns <- tls.Server(conn, conf)
	}))
}

// leafOf signs a certificate for the host that is called.
func leafOf(ca *tls.Certificate) (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), DNSNames: []string{"api.example.com"}, NotBefore: ca.Leaf.NotBefore, NotAfter: ca.Leaf.NotAfter,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, ca.Leaf, key.Public(), ca.PrivateKey)
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: [][]byte{der, ca.Certificate[0]}, PrivateKey: key}, nil
}

// channel is a listener to whom connections are handed. It never ends.
type channel struct{ conns chan net.Conn }

func (c *channel) Accept() (net.Conn, error) { return <-c.conns, nil }
func (c *channel) Close() error              { return nil }
func (c *channel) Addr() net.Addr            { return &net.TCPAddr{} }

type pool struct{ sync.Pool }

func (p *pool) Get() []byte {
	if v, ok := p.Pool.Get().(*[]byte); ok {
		return *v
	}
	return make([]byte, 32<<10)
}

func (p *pool) Put(b []byte) { p.Pool.Put(&b) }
