package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/elazarl/goproxy"
)

// token is as long as those of Entra are.
func token() string { return strings.Repeat("t", 1600) }

// upstream answers every call that carries the token, and gives tokens.
func upstream(addr string) error {
	token := token()
	return serve(addr, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		switch {
		case r.URL.Path == "/token":
			_ = json.NewEncoder(w).Encode(map[string]any{"access_token": token, "token_type": "Bearer", "expires_in": 3600})
		case r.Header.Get("Authorization") != "Bearer "+token:
			http.Error(w, "no token", http.StatusUnauthorized)
		default:
			_, _ = io.WriteString(w, `{"displayName":"Adele Vance","id":"87d349ed-44d7-43e1-9a83-5f2406dee5bd"}`)
		}
	}))
}

// serve listens until the process is ended.
func serve(addr string, h http.Handler) error {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	return (&http.Server{Handler: h, ReadHeaderTimeout: time.Minute}).Serve(l)
}

// rival is goproxy with what its documents offer for speed: certificates are
// kept, and connections to the upstream too.
func rival(addr, origin, caFile string) error {
	ca, err := newCA(caFile)
	if err != nil {
		return err
	}
	p := goproxy.NewProxyHttpServer()
	p.Logger = log.New(io.Discard, "", 0)
	p.Tr = &http.Transport{MaxIdleConnsPerHost: 256, DisableCompression: true, IdleConnTimeout: time.Minute}
	p.CertStore = &kept{certs: map[string]*tls.Certificate{}}
	value := []string{"Bearer " + token()}
	mitm := &goproxy.ConnectAction{Action: goproxy.ConnectMitm, TLSConfig: goproxy.TLSConfigFromCA(ca)}
	p.OnRequest().HandleConnect(goproxy.FuncHttpsHandler(func(host string, _ *goproxy.ProxyCtx) (*goproxy.ConnectAction, string) {
		return mitm, host
	}))
	p.OnRequest().DoFunc(func(r *http.Request, _ *goproxy.ProxyCtx) (*http.Request, *http.Response) {
		r.Header["Authorization"] = value
		r.URL.Scheme, r.URL.Host = "http", origin
		return r, nil
	})
	return serve(addr, p)
}

// kept are the certificates that goproxy made, each once.
type kept struct {
	mu    sync.Mutex // guards certs
	certs map[string]*tls.Certificate
}

// Fetch implements goproxy.CertStorage.
func (k *kept) Fetch(host string, make func() (*tls.Certificate, error)) (*tls.Certificate, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if c := k.certs[host]; c != nil {
		return c, nil
	}
	c, err := make()
	if err == nil {
		k.certs[host] = c
	}
	return c, err
}

// newCA makes a CA for the run, of the kind of key that the gateway's has, and
// writes its certificate to file.
func newCA(file string) (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "CA of one run"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, nil
}

// child runs what the driver starts of this program.
func child(args []string) error {
	switch {
	case len(args) == 2 && args[0] == "upstream":
		return upstream(args[1])
	case len(args) == 4 && args[0] == "goproxy":
		return rival(args[1], args[2], args[3])
	case len(args) == 4 && args[0] == "bare":
		return bare(args[1], args[2], args[3])
	}
	return fmt.Errorf("no such part: %q", args)
}
