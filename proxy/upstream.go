package proxy

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"time"

	"github.com/seed-13b04e61/gateway/routes"
)

// Dialer opens connections to upstreams, as an egress.Dialer does.
type Dialer interface {
	DialContext(ctx context.Context, network, addr string) (net.Conn, error)
}

// PublicDialer is what a [Dialer] has to be too for what egress.deny_private
// holds for; nothing is passed through by one that is not.
type PublicDialer interface {
	DialPublic(ctx context.Context, network, addr string) (net.Conn, error)
}

// maxTLSFile bounds a CA bundle, certificate or key, in bytes.
const maxTLSFile = 4 << 20

// upstream is what a route sends through. Each route has connections of its
// own, since an upstream may bind what it knows of a caller to a connection.
type upstream struct {
	identity  identity
	scheme    string
	transport *http.Transport // also that of the table before, when nothing about it changed
	err       error           // why the route cannot be served: its TLS files cannot be used
	injection *injection
	notes     *notes
}

// identity tells whether an upstream's connections can be kept at a reload.
type identity struct {
	route, upstream string
	tls             routes.TLS
	timeout         time.Duration
	files           [sha256.Size]byte // content of the TLS files
	dialer          Dialer
}

// newUpstream prepares what r sends through, keeping the connections of old,
// the route's upstream in the table before, when nothing about them changed.
// The error says that TLS files cannot be used; the upstream is usable all the
// same if old, of the same files, still was.
func newUpstream(r *routes.Route, dialer Dialer, old *upstream) (*upstream, error) {
	u := &upstream{scheme: "https", injection: newInjection(r), notes: &notes{}, identity: identity{
		route: r.Name, tls: r.TLS, timeout: r.ResponseHeaderTimeout, dialer: dialer,
	}}
	if r.Upstream != nil {
		u.scheme, u.identity.upstream = r.Upstream.Scheme, r.Upstream.String()
	}
	if old != nil {
		u.notes = old.notes
	}
	conf, sum, err := tlsConfig(r.TLS)
	if err != nil {
		if old != nil && old.err == nil && old.identity.tls == r.TLS && old.identity.upstream == u.identity.upstream {
			u.identity, u.transport = old.identity, old.transport
			return u, fmt.Errorf("route %q keeps the TLS files it read before: %w", r.Name, err)
		}
		u.err = err
		return u, fmt.Errorf("route %q: %w", r.Name, err)
	}
	u.identity.files = sum
	if old != nil && old.err == nil && old.identity == u.identity {
		u.transport = old.transport
		return u, nil
	}
	u.transport = newTransport(conf, dialTarget(r.Upstream), u.identity)
	return u, nil
}

// newTransport dials target, or the request's own host when target is "".
func newTransport(conf *tls.Config, target string, id identity) *http.Transport {
	return &http.Transport{
		Proxy: nil, // the next hop is the dialer's affair, never the environment's
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			if target != "" {
				addr = target
			}
			return id.dialer.DialContext(ctx, network, addr)
		},
		ForceAttemptHTTP2:      true, // a dialer of one's own would turn HTTP/2 off
		TLSClientConfig:        conf,
		TLSHandshakeTimeout:    10 * time.Second,
		ResponseHeaderTimeout:  id.timeout,
		ExpectContinueTimeout:  time.Second,
		MaxIdleConnsPerHost:    256,
		IdleConnTimeout:        90 * time.Second,
		DisableCompression:     true, // what the upstream encodes, the caller gets
		MaxResponseHeaderBytes: 256 << 10,
		WriteBufferSize:        32 << 10,
		ReadBufferSize:         32 << 10,
		HTTP2: &http.HTTP2Config{
			SendPingTimeout: 15 * time.Second, PingTimeout: 10 * time.Second, WriteByteTimeout: 30 * time.Second,
		},
	}
}

func dialTarget(u *url.URL) string {
	if u == nil {
		return ""
	}
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return net.JoinHostPort(u.Hostname(), port)
}

// tlsConfig reads the files of t and returns the sum of their content.
func tlsConfig(t routes.TLS) (*tls.Config, [sha256.Size]byte, error) {
	conf := &tls.Config{
		MinVersion:         tls.VersionTLS12,
		ServerName:         t.ServerName, // "": the request's host
		ClientSessionCache: tls.NewLRUClientSessionCache(256),
	}
	hash := sha256.New()
	read := func(path string) ([]byte, error) {
		b, err := readTLSFile(path)
		fmt.Fprintf(hash, "%d\n%s", len(b), b)
		return b, err
	}
	if t.CAFile != "" {
		pem, err := read(t.CAFile)
		if err != nil {
			return nil, [sha256.Size]byte{}, fmt.Errorf("tls.ca_file: %w", err)
		}
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM(pem) {
			return nil, [sha256.Size]byte{}, fmt.Errorf("tls.ca_file: %s holds no PEM certificate", t.CAFile)
		}
	}
	if t.ClientCertificateFile != "" {
		key := t.ClientKeyFile
		if key == "" {
			key = t.ClientCertificateFile
		}
		certPEM, err1 := read(t.ClientCertificateFile)
		keyPEM, err2 := read(key)
		if err := errors.Join(err1, err2); err != nil {
			return nil, [sha256.Size]byte{}, fmt.Errorf("tls.client_certificate_file: %w", err)
		}
		pair, err := tls.X509KeyPair(certPEM, keyPEM)
		if err != nil {
			return nil, [sha256.Size]byte{}, fmt.Errorf("tls.client_certificate_file %s: %w", t.ClientCertificateFile, err)
		}
		conf.Certificates = []tls.Certificate{pair}
	}
	return conf, [sha256.Size]byte(hash.Sum(nil)), nil
}

func readTLSFile(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() { // a pipe would be waited for
		return nil, fmt.Errorf("%s is no regular file", path)
	}
	if info.Size() > maxTLSFile {
		return nil, fmt.Errorf("%s is larger than %d bytes", path, maxTLSFile)
	}
	return os.ReadFile(path)
}
