package authority

import (
	"bytes"
	"crypto/x509"
	"fmt"
	"github.com/seed-13b04e61/gateway/secrets"
	"net"
	"net/http"
	"net/url"
	"sync"
)

// The variables that AKS sets in a pod with an identity binding. Their meaning
// is that of Azure's SDKs (azidentity, customtokenproxy).
const (
	proxyVariable  = "AZURE_KUBERNETES_TOKEN_PROXY"
	sniVariable    = "AZURE_KUBERNETES_SNI_NAME"
	caFileVariable = "AZURE_KUBERNETES_CA_FILE"
	caDataVariable = "AZURE_KUBERNETES_CA_DATA"
)

// bindingAudience is what tokens are for that only the token proxy takes.
const bindingAudience = "api://AKSIdentityBinding"

// tokenProxy is the way to Entra through the cluster: token requests as ever,
// their path below that of the proxy, whose name in TLS and whose CA are the
// cluster's affair. It is inside of the cluster, so no egress proxy leads
// there. Safe for concurrent use.
type tokenProxy struct {
	address *url.URL
	name    string // for TLS; "" is that of address
	caFile  string // "" when the CA cannot change

	mu        sync.Mutex // guards what follows
	ca        []byte
	transport *http.Transport
}

func newTokenProxy(env environment) (*tokenProxy, error) {
	address, err := proxyAddress(env.get(proxyVariable))
	if err != nil {
		return nil, err
	}
	p := &tokenProxy{address: address, name: env.get(sniVariable), caFile: env.get(caFileVariable)}
	data := env.get(caDataVariable)
	switch {
	case p.caFile != "" && data != "":
		return nil, &trouble{
			what:   caFileVariable + " and " + caDataVariable + " are both set",
			remedy: "set one of them; AKS sets " + caFileVariable,
		}
	case p.caFile != "":
		if err := p.reload(); err != nil {
			return nil, &trouble{what: caFileVariable, remedy: "see that the webhook of AKS mounts the CA's certificates there, as PEM", cause: err}
		}
	case data != "":
		if err := p.trust([]byte(data)); err != nil {
			return nil, &trouble{what: caDataVariable, remedy: "put the CA's certificates there, as PEM", cause: err}
		}
	default:
		p.transport = p.newTransport(nil)
	}
	return p, nil
}

// proxyAddress never repeats the variable's value, which may hold a password.
func proxyAddress(value string) (*url.URL, error) {
	wrong := func(what string) error {
		return &trouble{
			what:   proxyVariable + " " + what,
			remedy: "write it as https://host[:port][/path]; AKS sets it in pods labelled azure.workload.identity/use: \"true\" that use an identity binding",
		}
	}
	if value == "" {
		return nil, wrong("is not set, though federated_token has identity_binding")
	}
	u, err := url.Parse(value)
	switch {
	case err != nil || u.Host == "":
		return nil, wrong("is not an absolute URL")
	case u.Scheme != "https":
		return nil, wrong("is not https")
	case u.User != nil:
		return nil, wrong("has a user name in it")
	case u.RawQuery != "" || u.ForceQuery:
		return nil, wrong("has a query")
	case u.EscapedFragment() != "":
		return nil, wrong("has a fragment")
	}
	if u.Path == "" {
		u.Path = "/"
	}
	return u, nil
}

func (p *tokenProxy) newTransport(roots *x509.CertPool) *http.Transport {
	t := newTransport(&net.Dialer{Timeout: connectTimeout}, roots)
	t.TLSClientConfig.ServerName = p.name
	t.DisableKeepAlives = true // an identity that a reload retires leaves nothing open
	return t
}

// reload reads the CA's file. p.mu is held, or p is not yet known to others.
func (p *tokenProxy) reload() error {
	content, err := secrets.ReadFile(p.caFile)
	if err != nil {
		return err
	}
	if p.transport != nil && bytes.Equal(content, p.ca) {
		return nil
	}
	return p.trust(content)
}

// trust makes the certificates in bundle the only roots.
func (p *tokenProxy) trust(bundle []byte) error {
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(bundle) {
		return fmt.Errorf("no certificate in %d bytes", len(bundle))
	}
	p.ca, p.transport = bundle, p.newTransport(roots)
	return nil
}

// RoundTrip sends a request that was made for Entra to the proxy. Host stays
// Entra's, as in Azure's SDK for Go. A CA file that is empty or unreadable for
// the moment, as during its rotation, leaves the trust as it was.
func (p *tokenProxy) RoundTrip(req *http.Request) (*http.Response, error) {
	p.mu.Lock()
	var stale error
	if p.caFile != "" {
		stale = p.reload()
	}
	transport := p.transport
	p.mu.Unlock()

	out := req.Clone(req.Context())
	out.URL = p.address.JoinPath(req.URL.EscapedPath())
	out.URL.RawQuery = req.URL.RawQuery
	resp, err := transport.RoundTrip(out)
	switch {
	case err != nil && stale != nil:
		return nil, fmt.Errorf("the token proxy of %s (and %s cannot be used: %w): %w", proxyVariable, caFileVariable, stale, err)
	case err != nil:
		return nil, fmt.Errorf("the token proxy of %s: %w", proxyVariable, err)
	}
	return resp, nil
}

// roundTrip sends a token request on its way.
func (id *identity) roundTrip(req *http.Request) (*http.Response, error) {
	if id.binding != nil {
		return id.binding.RoundTrip(req)
	}
	return id.transport.RoundTrip(req)
}
