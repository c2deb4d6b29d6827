package authority

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/seed-13b04e61/gateway/tokens"
)

const (
	// requestTimeout bounds one acquisition, from the proof to the last byte.
	requestTimeout = 30 * time.Second
	// connectTimeout bounds one attempt of the default dialer.
	connectTimeout = 5 * time.Second
	// answerLimit bounds an answer's body, in bytes. Real ones have a few KiB.
	answerLimit = 1 << 20
	// headerLimit bounds an answer's header, in bytes.
	headerLimit = 64 << 10
	// skewLimit is how far the clocks may differ before it is worth a word.
	skewLimit = time.Minute
	// localWait is after how long a credential that could not even be proven
	// is worth another look: a file may have appeared.
	localWait = 5 * time.Second
)

// newTransport returns the way to token endpoints. It is its own, so that
// HTTP_PROXY, which may well point at this gateway, has no say.
func newTransport(dialer Dialer, roots *x509.CertPool) *http.Transport {
	// A Transport dials apart from the request that asked for it, so that a
	// dial without a bound of its own could hold one of MaxConnsPerHost for ever.
	dial := func(ctx context.Context, network, addr string) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(ctx, requestTimeout)
		defer cancel()
		return dialer.DialContext(ctx, network, addr)
	}
	return &http.Transport{
		Proxy:                  nil,
		DialContext:            dial,
		TLSClientConfig:        &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:    10 * time.Second,
		MaxConnsPerHost:        16,
		IdleConnTimeout:        90 * time.Second,
		MaxResponseHeaderBytes: headerLimit,
		DisableCompression:     true,
		ForceAttemptHTTP2:      true,
		// A connection that died silently is noticed before a request hangs on it.
		HTTP2: &http.HTTP2Config{SendPingTimeout: 15 * time.Second, PingTimeout: 5 * time.Second},
	}
}

// Acquire gets a token for k, which must come from [Directory.Key]. claims is
// the JSON text of a claims challenge, or "". It takes 30 s at most, from a
// managed identity 2 min, and follows no redirect. The error is an [*Error].
func (d *Directory) Acquire(ctx context.Context, k tokens.Key, claims string) (tokens.Token, error) {
	id := d.current.Load().find(k)
	if id == nil || (id.prover != nil && id.endpoint != k.Authority) {
		return tokens.Token{}, &Error{
			Credential: k.Credential,
			Scope:      k.Scope,
			Nature:     tokens.Propagating,
			Reach:      tokens.ReachCredential,
			RetryAfter: localWait,
			Hint:       "it is not loaded, or no longer",
			Remedy:     "check the credential's name in routes.yaml and reload",
		}
	}
	ctx, cancel := context.WithTimeout(ctx, id.bound())
	defer cancel()
	token, e := d.acquire(ctx, id, question{scope: k.Scope, claims: claims})
	if e != nil {
		e.Scope = k.Scope
	}
	if e == nil || !errors.Is(e, context.Canceled) { // a caller who left says nothing about the credential
		id.state.note(e)
	}
	if e != nil {
		return tokens.Token{}, e
	}
	return token, nil
}

// question is what is asked of an endpoint, apart from who asks.
type question struct{ scope, claims string }

func (d *Directory) acquire(ctx context.Context, id *identity, q question) (tokens.Token, *Error) {
	if id.managed != nil {
		return id.managed.acquire(ctx, id, q)
	}
	if id.prover == nil {
		return tokens.Token{}, id.local(&trouble{what: id.reason, remedy: id.remedy})
	}
	to := target{endpoint: id.endpoint}
	p, err := id.prover.prove(ctx, to)
	if err != nil {
		return tokens.Token{}, id.unproven(err)
	}
	token, e := d.exchange(ctx, id, p, q)
	if e == nil || e.Code != "invalid_client" || id.kind != kindFederated {
		return token, e
	}
	// The file may have been rotated between reading and refusal.
	again, err := id.prover.prove(ctx, to)
	if err != nil || again.form.Get("client_assertion") == p.form.Get("client_assertion") {
		return token, e
	}
	return d.exchange(ctx, id, again, q)
}

// exchange makes one request and reads its answer.
func (d *Directory) exchange(ctx context.Context, id *identity, p proof, q question) (tokens.Token, *Error) {
	req, err := d.request(ctx, id, p, q)
	if err != nil {
		return tokens.Token{}, id.local(&trouble{what: "the token request cannot be made", remedy: "check the token endpoint's address", cause: err})
	}
	sent := time.Now()
	resp, err := id.roundTrip(req) // not a Client: no redirects, no cookies
	if err != nil {
		return tokens.Token{}, id.unreachable(err, p)
	}
	defer resp.Body.Close()
	a := answer{
		status:    resp.StatusCode,
		header:    resp.Header,
		sent:      sent,
		received:  time.Now(),
		requestID: req.Header.Get("client-request-id"),
	}
	if date, err := http.ParseTime(resp.Header.Get("Date")); err == nil {
		a.date = date
		id.state.setSkew(skew(a.received.Sub(date)))
	}
	a.body, err = io.ReadAll(io.LimitReader(resp.Body, answerLimit+1))
	if err != nil {
		return tokens.Token{}, id.unreachable(err, p)
	}
	return id.read(a, p)
}

// skew is how far this clock is ahead, or 0 if that may be chance: a Date has
// whole seconds, and the answer took its time.
func skew(d time.Duration) time.Duration {
	if d.Abs() <= skewLimit {
		return 0
	}
	return d.Round(time.Second)
}

// request builds the POST of RFC 6749 §4.4.2. Only Entra gets the headers by
// which Microsoft's support finds a request, and by which its token service
// learns that a 429 is understood here.
func (d *Directory) request(ctx context.Context, id *identity, p proof, q question) (*http.Request, error) {
	form := url.Values{"grant_type": {"client_credentials"}}
	for name, values := range p.form {
		form[name] = values
	}
	if q.scope != "" {
		form.Set("scope", q.scope)
	}
	if q.claims != "" {
		form.Set("claims", q.claims)
	}
	for _, param := range id.credential.TokenParams {
		form.Add(param.Name, param.Value)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, id.endpoint, strings.NewReader(form.Encode()))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", "gateway/"+d.version)
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if p.authorization != "" {
		req.Header.Set("Authorization", p.authorization)
	}
	if id.credential.Entra() {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded;charset=utf-8")
		req.Header.Set("client-request-id", uuid.NewString())
		req.Header.Set("return-client-request-id", "true")
		req.Header.Set("x-client-SKU", "gateway")
		req.Header.Set("x-client-Ver", d.version)
		req.Header.Set("x-ms-lib-capability", "retry-after, h429")
	}
	return req, nil
}
