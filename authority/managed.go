package authority

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/seed-13b04e61/gateway/routes"
	"github.com/seed-13b04e61/gateway/tokens"
)

const (
	// managedTimeout bounds one acquisition from the host: IMDS may be away for
	// 70 s while it is updated, and the answers take their time.
	managedTimeout = 2 * time.Minute
	// tryTimeout bounds one request; the Azure SDKs wait as long.
	tryTimeout = time.Minute
	// probeTimeout is within what a host's own IMDS answers. Elsewhere the
	// address often swallows packets.
	probeTimeout = time.Second
	// longLife is from what on a token is renewed at half of its life.
	longLife = 2 * time.Hour
)

// imdsSlots are the requests that this process may have under way to IMDS,
// which throttles a whole machine at little more.
var imdsSlots = make(chan struct{}, 5)

// managedIdentity asks the host that this process runs on for its tokens. It
// is safe for concurrent use.
//
// The host keeps each token for up to a day and hands out the same one until
// it nears its end, and nothing here can force another: a renewal after a 401
// gets the very token that was refused, which the token store notices, and a
// claims challenge goes unanswered. App Service (api-version 2025-03-30) and
// newer Service Fabric take xms_cc=cp1 and the digest of the refused token
// (token_sha256_to_refresh), which an Acquirer is not told; neither is sent.
type managedIdentity struct {
	credential string // name in routes.yaml, for messages
	host       *host
	parameter  string // of the query, that picks one identity; "" for the host's default
	value      string // of parameter
	asked      string // which identity, in words
	transport  http.RoundTripper
	met        atomic.Bool // IMDS has answered; false again after it did not
}

// loadManaged finds the host's kind. It asks nothing of the host, so that one
// that is not there yet is no error; a Cloud Shell is one, and so is an
// identity that this kind of host cannot pick.
func (id *identity) loadManaged() ([]Finding, error) {
	s := here()
	m, err := newManagedIdentity(id.credential.Name, id.credential.ManagedIdentity, s)
	if err != nil {
		return nil, err
	}
	id.kind, id.managed, id.host = kindManaged, m, m.host.name
	id.fingerprint = id.fingerprintOf(m.host.name + " " + m.parameter + " " + m.value)
	if remark := s.odd(m.host); remark != "" {
		return []Finding{id.warning(remark, "if this is App Service, Functions or Container Apps, assign an identity and restart the app, so that both variables are set")}, nil
	}
	return nil, nil
}

// newManagedIdentity finds the host in s and picks one of its identities, for
// the credential of that name. The error is a [trouble].
func newManagedIdentity(credential string, want *routes.ManagedIdentity, s surroundings) (*managedIdentity, error) {
	h, err := s.detect()
	if err != nil {
		return nil, err
	}
	m := &managedIdentity{credential: credential, host: h, asked: "the default identity", transport: h.transport()}
	if err := m.pick(*want); err != nil {
		return nil, err
	}
	return m, nil
}

// pick chooses the query's parameter for the identity that is wanted.
func (m *managedIdentity) pick(want routes.ManagedIdentity) error {
	for i, id := range [...]struct{ key, value string }{
		{"client_id", want.ClientID}, {"object_id", want.ObjectID}, {"resource_id", want.ResourceID},
	} {
		if id.value == "" {
			continue
		}
		m.parameter, m.value = m.host.params[i], id.value
		m.asked = id.key + " " + cut(id.value, 512)
		if m.parameter == "" {
			return &trouble{
				what:   "managed_identity names " + id.key + ", but this is " + m.host.title + ": " + m.host.refusal,
				remedy: m.host.instead,
			}
		}
	}
	return nil
}

// bound is how long an acquisition for id may take.
func (id *identity) bound() time.Duration {
	if id.managed != nil {
		return managedTimeout
	}
	return requestTimeout
}

// acquire gets a token for q from the host. id is for the error's sake.
// Claims are not asked for: no host answers a challenge.
func (m *managedIdentity) acquire(ctx context.Context, id *identity, q question) (tokens.Token, *Error) {
	token, e := m.token(ctx, resourceOf(q.scope))
	if e != nil {
		e.Credential, e.Scope = id.credential.Name, q.scope
	}
	return token, e
}

// resourceOf is the scope's audience as hosts want it: without /.default, and
// with the final slash if it has one, as that of Azure SQL does.
func resourceOf(scope string) string { return strings.TrimSuffix(scope, "/.default") }

// token gets a token for resource, an audience such as https://vault.azure.net
// or api://AzureADTokenExchange. It tries again as its kind of host asks for,
// while ctx lasts.
func (m *managedIdentity) token(ctx context.Context, resource string) (tokens.Token, *Error) {
	if resource == "" || strings.ContainsAny(resource, " \t\r\n") {
		return tokens.Token{}, m.misasked(resource)
	}
	if e := m.meet(ctx); e != nil {
		return tokens.Token{}, e
	}
	var so patience
	for {
		a, p, e := m.ask(ctx, resource)
		if e != nil {
			return tokens.Token{}, e
		}
		token, e := m.read(a, p, resource)
		if e == nil {
			return token, nil
		}
		wait, again := so.next(m.host, a)
		if !again {
			return tokens.Token{}, e
		}
		switch err := pause(ctx, wait); {
		case errors.Is(err, context.Canceled):
			return tokens.Token{}, m.silent(err, p)
		case err != nil:
			return tokens.Token{}, e // no time left; what the host said tells more
		}
	}
}

// meet finds out, once, whether there is an IMDS at all. That it is absent is
// never remembered: the network of a container may come up after it.
func (m *managedIdentity) meet(ctx context.Context) *Error {
	if !m.host.imds() || m.met.Load() {
		return nil
	}
	a, err := m.send(ctx, call{url: m.host.endpoint.String(), timeout: probeTimeout})
	switch {
	case ctx.Err() != nil:
		return m.silent(ctx.Err(), proof{})
	case err != nil:
		return m.absent(m.host.endpoint.Host+" gives no answer", err)
	}
	if other := impostor(a); other != "" {
		return m.absent(other, nil)
	}
	m.met.Store(true)
	return nil
}

// ask makes one request, or with Azure Arc the two that make one, and returns
// the answer with what it may not repeat.
func (m *managedIdentity) ask(ctx context.Context, resource string) (answer, proof, *Error) {
	h := m.host
	c := call{url: m.address(resource), header: http.Header{"Accept": {"application/json"}}, timeout: tryTimeout}
	var p proof
	if h.metadata {
		c.header.Set("Metadata", "true")
	}
	if h.secretHeader != "" {
		secret := h.secret.Reveal()
		c.header.Set(h.secretHeader, secret)
		p.hidden = []string{secret}
	}
	a, err := m.send(ctx, c)
	if err == nil && h.keyDir != "" && a.status/100 == 2 {
		return a, p, m.misled()
	}
	if err == nil && h.keyDir != "" && a.status == http.StatusUnauthorized {
		key, trouble := h.key(a.header)
		if trouble != nil {
			return a, p, m.local(trouble)
		}
		p.hidden = []string{key}
		c.header.Set("Authorization", "Basic "+key)
		a, err = m.send(ctx, c)
	}
	if err != nil {
		m.met.Store(false)
		return a, p, m.silent(err, p)
	}
	return a, p, nil
}

// address is the endpoint with its query.
func (m *managedIdentity) address(resource string) string {
	u := *m.host.endpoint
	q := u.Query()
	q.Set("api-version", m.host.version)
	q.Set("resource", resource)
	switch {
	case m.parameter != "":
		q.Set(m.parameter, m.value)
	case m.host.fallback != "":
		q.Set(m.host.params[0], m.host.fallback)
	}
	u.RawQuery = q.Encode()
	return u.String()
}

// call is one GET.
type call struct {
	url     string
	header  http.Header
	timeout time.Duration // from when it may be sent
}

// send makes c and reads its answer. It follows no redirect, keeps no cookie
// and goes through no proxy: what it carries is for this host alone.
func (m *managedIdentity) send(ctx context.Context, c call) (answer, error) {
	if m.host.imds() {
		select {
		case imdsSlots <- struct{}{}:
			defer func() { <-imdsSlots }()
		case <-ctx.Done():
			return answer{}, ctx.Err()
		}
	}
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.url, nil)
	if err != nil {
		return answer{}, err
	}
	if c.header != nil {
		req.Header = c.header.Clone()
	}
	req.Header.Set("User-Agent", "gateway")
	sent := time.Now()
	resp, err := m.transport.RoundTrip(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	a := answer{status: resp.StatusCode, header: resp.Header, sent: sent, received: time.Now()}
	if date, err := http.ParseTime(resp.Header.Get("Date")); err == nil {
		a.date = date
	}
	a.body, err = io.ReadAll(io.LimitReader(resp.Body, answerLimit+1))
	return a, err
}
