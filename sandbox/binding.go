package sandbox

import (
	"bytes"
	"crypto/rsa"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// BindingAudience is the audience of the tokens that a Kubernetes cluster
// issues for the token proxy of AKS identity bindings.
const BindingAudience = "api://AKSIdentityBinding"

// BindingOptions shape a [Binding].
type BindingOptions struct {
	World *World
	// ServerName is the SNI that the proxy wants; "" is a name like AKS's.
	ServerName string
	// Path is where below its address the proxy serves; "" is the root.
	Path string
	// Dir gets the CA as a file. Without it the CA is handed over in a
	// variable.
	Dir string
}

// A Binding is the cluster-local token proxy of AKS identity bindings: HTTPS
// under a CA of its own, found by SNI. It takes token requests as Entra does,
// with a token of the World's [Issuer] for [BindingAudience] as assertion, and
// passes them on to Entra with the assertion that Entra wants. The identity
// needs a federated credential for that issuer and subject, and the usual
// audience; the cluster's token is worth nothing to Entra directly.
type Binding struct {
	opts BindingOptions
	srv  *server
	keys map[string]*rsa.PublicKey
	ca   atomic.Pointer[ca]

	failing outbreak
	strays  atomic.Int64

	mu       sync.Mutex // guards everything below
	requests int
	refused  int
}

var errServerName = errors.New("no such server name")

// StartBinding opens a token proxy on loopback, port 0. Close it, or the World.
func StartBinding(opts BindingOptions) (*Binding, error) {
	if opts.World == nil || (opts.Path != "" && !strings.HasPrefix(opts.Path, "/")) {
		return nil, fmt.Errorf("%w: binding at %q", ErrOptions, opts.Path)
	}
	if opts.ServerName == "" {
		opts.ServerName = "0123456789abcdef.ests.aks"
	}
	opts.Path = strings.TrimSuffix(opts.Path, "/")
	b := &Binding{opts: opts}
	signing, err := opts.World.Issuer.keys()
	if err != nil {
		return nil, fmt.Errorf("sandbox: %w", err)
	}
	doc, err := json.Marshal(signing.published(""))
	if err != nil {
		return nil, fmt.Errorf("sandbox: %w", err)
	}
	if b.keys, err = parseKeySet(doc); err != nil {
		return nil, fmt.Errorf("sandbox: %w", err)
	}
	if err := b.Rotate(); err != nil {
		return nil, err
	}
	env := &surroundings{clock: opts.World.clock, log: opts.World.env.log}
	env.tls = &tls.Config{MinVersion: tls.VersionTLS12, GetConfigForClient: b.greet}
	if b.srv, err = serve("binding", env, http.HandlerFunc(b.serve)); err != nil {
		return nil, fmt.Errorf("sandbox: %w", err)
	}
	opts.World.join(b.srv)
	return b, nil
}

// Close ends the proxy and the calls in it. It may be called more than once.
func (b *Binding) Close() { b.srv.close() }

// URL returns the address that token requests go below.
func (b *Binding) URL() string { return b.srv.url + b.opts.Path }

// CAPEM returns the certificate that clients have to trust, in PEM.
func (b *Binding) CAPEM() []byte { return slices.Clone(b.ca.Load().pem) }

// Rotate makes a new CA, writes its file, and shows certificates of the new one
// alone from now on.
func (b *Binding) Rotate() error {
	made, err := newCA([]string{b.opts.ServerName}, time.Now())
	if err != nil {
		return fmt.Errorf("sandbox: certificates: %w", err)
	}
	if b.opts.Dir != "" {
		if err := os.WriteFile(b.caFile(), made.pem, 0o600); err != nil {
			return fmt.Errorf("sandbox: %w", err)
		}
	}
	b.ca.Store(made)
	return nil
}

func (b *Binding) caFile() string { return filepath.Join(b.opts.Dir, "ca.crt") }

// Environ returns the variables that the workload identity webhook would set
// for this proxy, as NAME=value.
func (b *Binding) Environ() []string {
	out := []string{"AZURE_KUBERNETES_TOKEN_PROXY=" + b.URL(), "AZURE_KUBERNETES_SNI_NAME=" + b.opts.ServerName}
	if b.opts.Dir != "" {
		return append(out, "AZURE_KUBERNETES_CA_FILE="+b.caFile())
	}
	return append(out, "AZURE_KUBERNETES_CA_DATA="+string(b.CAPEM()))
}

// FailWith makes the proxy misbehave, as [Host.FailWith] does a host.
func (b *Binding) FailWith(f Failure) {
	b.failing.begin(f)
	b.srv.door.shut.Store(f.Kind == Refuse)
}

// Recover ends the failure.
func (b *Binding) Recover() {
	b.failing.end()
	b.srv.door.shut.Store(false)
}

// Requests returns how many calls came, refused ones included.
func (b *Binding) Requests() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.requests
}

// Refused returns how many of [Binding.Requests] the proxy itself refused.
func (b *Binding) Refused() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.refused
}

// Strays returns how many handshakes asked for another server name, or none.
func (b *Binding) Strays() int { return int(b.strays.Load()) }

// greet lets a handshake go on for the right name alone.
func (b *Binding) greet(hello *tls.ClientHelloInfo) (*tls.Config, error) {
	if hello.ServerName != b.opts.ServerName {
		b.strays.Add(1)
		return nil, errServerName
	}
	return b.ca.Load().server, nil
}

// serve judges one token request and passes it on.
func (b *Binding) serve(w http.ResponseWriter, r *http.Request) {
	b.count(&b.requests)
	e := b.opts.World.Entra
	f := b.failing.meet()
	if !f.wait(r.Context()) {
		panic(http.ErrAbortHandler) // the client has left
	}
	if f.answer(w, b.srv.env.clock.now()) {
		return
	}
	rest, below := strings.CutPrefix(r.URL.Path, b.opts.Path+"/")
	tenant, last, _ := strings.Cut(rest, "/")
	x := newExchange(e, r, tenant)
	if !below || last != "oauth2/v2.0/token" || r.URL.RawQuery != "" {
		b.count(&b.refused)
		http.NotFound(w, r)
		return
	}
	var no *refusal
	if x.form, no = readForm(w, r); no == nil {
		no = b.exchange(x)
	}
	if no == nil {
		no = b.forward(w, x)
	}
	if no != nil {
		b.count(&b.refused)
		no.write(w, x)
	}
}

func (b *Binding) count(n *int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	*n++
}

// exchange verifies the cluster's token in x and puts the one that Entra wants
// in its place.
func (b *Binding) exchange(x *exchange) *refusal {
	if x.form.Get("client_assertion_type") != assertionType || x.form.Has("client_secret") || x.r.Header.Get("Authorization") != "" {
		return missing("client_assertion_type")
	}
	claims, err := verifyRS256(x.form.Get("client_assertion"), b.keys)
	if err != nil {
		return badSignature("The assertion is not a token of this cluster.", nil)
	}
	issuer := b.opts.World.Issuer
	if text(claims, "iss") != issuer.URL() {
		return refuse("invalid_client", 700211, "No matching federated identity record found for presented assertion issuer '%s'.", clip(text(claims, "iss"), 255))
	}
	if aud := audiences(claims); len(aud) != 1 || aud[0] != BindingAudience {
		return refuse("invalid_client", 700212, "No matching federated identity record found for presented assertion audience '%s'. The token proxy takes %s.",
			clip(strings.Join(aud, " "), 255), BindingAudience)
	}
	if no := checkTimes(x, claims); no != nil {
		return no
	}
	token, err := issuer.Token(text(claims, "sub"), TokenExchangeAudience, 10*time.Minute)
	if err != nil {
		return unsigned()
	}
	x.form.Set("client_assertion", token)
	return nil
}

// forward sends the request on to Entra and its answer back.
func (b *Binding) forward(w http.ResponseWriter, x *exchange) *refusal {
	e := b.opts.World.Entra
	r, err := http.NewRequestWithContext(x.r.Context(), http.MethodPost, e.TokenURL(x.tenant), strings.NewReader(x.form.Encode()))
	if err != nil {
		return malformed()
	}
	r.Header = x.r.Header.Clone()
	r.Header.Del("Accept-Encoding") // the answer is read here
	resp, err := e.web.Do(r)
	if err != nil {
		return &refusal{status: http.StatusBadGateway, oauth: "temporarily_unavailable", code: 90033, text: "A transient error has occurred. Please try again."}
	}
	defer resp.Body.Close()
	var body bytes.Buffer
	if _, err := io.Copy(&body, io.LimitReader(resp.Body, 8*maxForm)); err != nil {
		panic(http.ErrAbortHandler) // cut off there, cut off here
	}
	for name, values := range resp.Header {
		if name != "Content-Length" && name != "Connection" {
			w.Header()[name] = values
		}
	}
	w.WriteHeader(resp.StatusCode)
	_, _ = w.Write(body.Bytes())
	return nil
}
