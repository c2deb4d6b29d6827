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

	"github.com/seed-13b04e61/gateway/secrets"
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
	// longLived is from what lifetime on a revocable token is one (entra.md §1.8).
	longLived = 2 * time.Hour
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
// the JSON text of a claims challenge, or "". A credential that is refused as
// invalid_client, or cannot be shown at all, is read anew from its source and
// tried once more if that changed; then its fallbacks are tried, in order. Each
// takes 30 s at most, a managed identity 2 min, and no redirect is followed. The error is an [*Error].
func (d *Directory) Acquire(ctx context.Context, k tokens.Key, claims string) (tokens.Token, error) {
	s := d.current.Load()
	id := s.find(k)
	if id != nil && k.Tenant != id.credential.TenantID {
		id = id.in(k.Tenant)
	}
	if id == nil || id.authority != k.Authority {
		return tokens.Token{}, &Error{
			Credential: k.Credential,
			Scope:      k.Scope,
			Nature:     tokens.Propagating,
			Reach:      tokens.ReachCredential,
			RetryAfter: localWait,
			Hint:       notLoaded(k, s.find(k)),
			Remedy:     "check the credential's name in routes.yaml and reload",
		}
	}
	asked, err := claimsOf(k.CAE, claims)
	if err != nil {
		e := id.local(err)
		e.Scope, e.Nature, e.Reach = k.Scope, tokens.Refused, tokens.ReachKey
		return tokens.Token{}, e
	}
	token, e := d.acquireFrom(ctx, s.chainOf(id), question{scope: k.Scope, claims: asked})
	if e != nil {
		return tokens.Token{}, e.of(id)
	}
	if k.CAE {
		token = revocable(token, time.Now())
	}
	return token, nil
}

// revocable has a long-lived token refreshed at half of its life at the
// latest, unless its answer says when, so that a change of policy is noticed
// although no API challenges it (entra.md §6.7).
func revocable(t tokens.Token, now time.Time) tokens.Token {
	if life := t.Expires.Sub(now); t.RefreshAt.IsZero() && life >= longLived {
		t.RefreshAt = now.Add(life / 2)
	}
	return t
}

// question is what is asked of an endpoint, apart from who asks.
type question struct{ scope, claims string }

// attempt asks as id, and once more if what it shows has changed meanwhile,
// or where it is shown.
func (d *Directory) attempt(ctx context.Context, id *identity, q question) (tokens.Token, *Error) {
	ctx, cancel := context.WithTimeout(ctx, id.bound())
	defer cancel()
	proved := time.Now()
	t := d.try(ctx, id, q, nil)
	if again := d.another(ctx, t, proved); again != nil {
		if second := d.try(ctx, again, q, &t); second.sent {
			t = second
		}
	}
	if t.err != nil {
		t.err.Scope = q.scope
	}
	if t.err == nil || !errors.Is(t.err, context.Canceled) { // a caller who left says nothing about the credential
		t.id.state.note(t.err) // which is not written to any more
	}
	return t.token, t.err
}

// another returns the identity for a second try after t, or nil.
func (d *Directory) another(ctx context.Context, t try, proved time.Time) *identity {
	switch {
	case t.err == nil, t.err.policy, t.id.managed != nil:
		return nil
	case !t.id.usable(), t.err.ofCredential() && t.err.Refused():
		if fresh := d.reread(ctx, t.id.atHome(), proved); fresh != nil {
			return fresh.as(t.id)
		}
	case !t.err.noTokenEndpoint():
		return nil
	}
	if t.id.discovery != nil && t.found != nil && t.id.discovery.moved(ctx, d, t.id, t.found) {
		return t.id
	}
	return nil
}

// noTokenEndpoint tells whether what answered, or did not, need not be a token
// endpoint any more: it said nothing that one says.
func (e *Error) noTokenEndpoint() bool {
	return e.Code == "" && e.AADSTS == 0 && e.Nature != tokens.Throttled && !errors.Is(e, context.Canceled)
}

// try is one request for a token and what came of it.
type try struct {
	id        *identity
	found     *metadata // where it was sent to; nil without an issuer
	assertion string    // of another issuer, that was shown
	sent      bool      // there is an answer to speak of
	token     tokens.Token
	err       *Error
}

// try proves id and asks. With the try before, which was refused, nothing is
// sent if there is nothing else to show.
func (d *Directory) try(ctx context.Context, id *identity, q question, before *try) try {
	t := try{id: id}
	if id.managed != nil {
		t.sent = true
		t.token, t.err = id.managed.acquire(ctx, id, q)
		return t
	}
	if id.prover == nil {
		t.err = id.local(&trouble{what: id.reason, remedy: id.remedy})
		return t
	}
	at := id
	if id.discovery != nil {
		if t.found, t.err = id.discovery.get(ctx, d, id); t.err != nil {
			return t
		}
		if at, t.err = id.at(t.found); t.err != nil {
			return t
		}
	}
	p, err := at.prove(ctx)
	if err != nil {
		t.err = id.local(err)
		return t
	}
	if id.kind == kindFederated {
		t.assertion = p.form.Get("client_assertion")
		moved := before != nil && before.found != t.found
		if before != nil && !moved && before.assertion == t.assertion {
			return t
		}
	}
	t.sent = true
	t.token, t.err = d.exchange(ctx, at, p, at.cosmos(q))
	if t.err != nil && t.err.AADSTS == noSuchResource {
		t.token, t.err = d.askCosmos(ctx, at, q, t.err)
	}
	return t
}

// prove makes a proof for id's endpoint, and notes when that expires.
func (id *identity) prove(ctx context.Context) (proof, error) {
	p, err := id.prover.prove(ctx, target{endpoint: id.endpoint, algs: id.algs})
	if f := id.credential.FederatedToken; err == nil && f != nil && f.File != "" {
		id.atHome().noteExpiry(secrets.New(p.form.Get("client_assertion")))
	}
	return p, err
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
