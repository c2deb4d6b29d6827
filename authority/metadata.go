package authority

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/seed-13b04e61/gateway/tokens"
)

const (
	// metadataLife is how long an issuer's metadata is believed.
	metadataLife = 24 * time.Hour
	// metadataPause lies at least between two fetches because of age, as long as
	// there is something to work with.
	metadataPause = 5 * time.Minute
	// doubtPause lies at least between a fetch and one because the token endpoint
	// does not do what one does, or the methods do not fit: a server that moved,
	// or was mended, is found within a minute.
	doubtPause = 30 * time.Second
	// metadataTimeout bounds one fetch, of either document.
	metadataTimeout = 10 * time.Second
)

// metadata is what an issuer says of its token endpoint (RFC 8414 §2).
type metadata struct {
	endpoint string
	host     string
	methods  []string // how clients may prove themselves there
	algs     []string // what they may sign with; nil: not said
	fetched  time.Time
}

// same compares all that a token request depends on.
func (m *metadata) same(o *metadata) bool {
	return m.endpoint == o.endpoint && slices.Equal(m.methods, o.methods) && slices.Equal(m.algs, o.algs)
}

// discovery holds the metadata of one issuer. Whoever needs it while it is
// fetched waits for the one fetch.
type discovery struct {
	issuer string // verbatim, as metadata must repeat it

	mu    sync.Mutex // guards what follows
	known *metadata  // nil until it was fetched once
	tried time.Time  // when the latest fetch began
	under *fetching  // nil while none is under way
}

// fetching is one fetch under way. The results are set before done is closed.
type fetching struct {
	done  chan struct{}
	found *metadata
	err   *Error
}

// host is that of the token endpoint, or "" as long as that is not known.
func (s *discovery) host() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.known == nil {
		return ""
	}
	return s.known.host
}

// get returns the metadata, fetched if it is a day old. What is older is used
// all the same when it cannot be had anew.
func (s *discovery) get(ctx context.Context, d *Directory, id *identity) (*metadata, *Error) {
	s.mu.Lock()
	known, now := s.known, time.Now()
	if known != nil && (now.Sub(known.fetched) < metadataLife || now.Sub(s.tried) < metadataPause) {
		s.mu.Unlock()
		return known, nil
	}
	f := s.fetch(d, id, now)
	s.mu.Unlock()
	found, e := f.wait(ctx, id)
	if e != nil && known != nil {
		return known, nil
	}
	return found, e
}

// moved fetches the metadata again, as a request that was made by used failed
// in a way that may come of its age, and tells whether it says something else
// by now. It does so at most every half a minute.
func (s *discovery) moved(ctx context.Context, d *Directory, id *identity, used *metadata) bool {
	s.mu.Lock()
	now := time.Now()
	if s.known != used {
		other := !s.known.same(used)
		s.mu.Unlock()
		return other
	}
	if s.under == nil && now.Sub(s.tried) < doubtPause {
		s.mu.Unlock()
		return false
	}
	f := s.fetch(d, id, now)
	s.mu.Unlock()
	found, e := f.wait(ctx, id)
	return e == nil && !found.same(used)
}

// fetch returns the fetch under way, or begins one, apart from any caller's
// context; its goroutine ends within metadataTimeout. s.mu is held.
func (s *discovery) fetch(d *Directory, id *identity, now time.Time) *fetching {
	if s.under != nil {
		return s.under
	}
	f := &fetching{done: make(chan struct{})}
	s.under, s.tried = f, now
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), metadataTimeout)
		defer cancel()
		found, e := d.discover(ctx, id)
		s.mu.Lock()
		f.found, f.err = found, e
		if e == nil {
			s.known = found
		}
		s.under = nil
		s.mu.Unlock()
		close(f.done)
	}()
	return f
}

// wait returns the outcome, a copy of the error as many may wait for it.
func (f *fetching) wait(ctx context.Context, id *identity) (*metadata, *Error) {
	select {
	case <-f.done:
	case <-ctx.Done():
		e := id.unreachable(ctx.Err(), proof{})
		e.Hint = "its metadata was waited for: " + e.Hint
		return nil, e
	}
	if f.err != nil {
		e := *f.err
		return nil, &e
	}
	return f.found, nil
}

// metadataURLs are where an issuer's metadata may be: RFC 8414 §3.1 puts the
// well-known part before the issuer's path, OpenID Connect Discovery §4 behind.
func metadataURLs(issuer string) ([2]string, error) {
	u, err := url.Parse(issuer)
	if err != nil {
		return [2]string{}, err
	}
	before, behind := *u, *u
	path := strings.TrimSuffix(u.EscapedPath(), "/")
	var unescaped string
	if unescaped, err = url.PathUnescape(path); err != nil {
		return [2]string{}, err
	}
	before.Path, before.RawPath = "/.well-known/oauth-authorization-server"+unescaped, "/.well-known/oauth-authorization-server"+path
	behind.Path, behind.RawPath = unescaped+"/.well-known/openid-configuration", path+"/.well-known/openid-configuration"
	return [2]string{before.String(), behind.String()}, nil
}

// discover fetches the metadata and judges it. The second document is asked
// for when there is none at the first address. No credential is sent.
func (d *Directory) discover(ctx context.Context, id *identity) (*metadata, *Error) {
	addresses, err := metadataURLs(id.credential.Issuer)
	if err != nil {
		return nil, id.undiscovered(tokens.Refused, "the issuer is no URL", "write issuer as https://host/path", "")
	}
	var details []string
	passing := false
	for _, address := range addresses {
		doc, status, err := d.fetchJSON(ctx, id.transport, address)
		if err == nil {
			return id.believe(doc)
		}
		if status == 0 {
			e := id.unreachable(err, proof{})
			e.Hint = "its metadata cannot be fetched: " + e.Hint
			return nil, e
		}
		passing = passing || status >= 500 || status == http.StatusTooManyRequests
		details = append(details, fmt.Sprintf("%s: status %d, %v", address, status, err))
	}
	nature := tokens.Propagating
	if passing {
		nature = tokens.Transient
	}
	return nil, id.undiscovered(nature, "the issuer publishes no metadata",
		"check issuer; if the server has no metadata (RFC 8414), name its token_endpoint instead", strings.Join(details, "\n"))
}

// fetchJSON gets a public document. The status is 0 if nobody answered.
func (d *Directory) fetchJSON(ctx context.Context, way http.RoundTripper, address string) (members, int, error) {
	doc, resp, err := d.fetch(ctx, way, address)
	if resp == nil {
		return nil, 0, err
	}
	return doc, resp.StatusCode, err
}

// fetch is fetchJSON with the answer's head, whose body is closed. It follows
// no redirect. What stands in an answer is in no error.
func (d *Directory) fetch(ctx context.Context, way http.RoundTripper, address string) (members, *http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, nil, err
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", "gateway/"+d.version)
	resp, err := way.RoundTrip(req)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, answerLimit+1))
	if err != nil {
		return nil, nil, err
	}
	if len(body) > answerLimit {
		return nil, resp, fmt.Errorf("the answer is larger than %d bytes", answerLimit)
	}
	doc, err := parseObject(body)
	if resp.StatusCode != http.StatusOK {
		return doc, resp, fmt.Errorf("not %d", http.StatusOK)
	}
	return doc, resp, err
}

// believe judges an issuer's metadata. The issuer is compared as RFC 8414
// §3.3 has it, byte by byte, lest another server's address be taken.
func (id *identity) believe(doc members) (*metadata, *Error) {
	refuse := func(hint, remedy string) (*metadata, *Error) {
		return nil, id.undiscovered(tokens.Refused, hint, remedy, "")
	}
	if got := doc.text("issuer"); got != id.credential.Issuer {
		return refuse(fmt.Sprintf("the metadata is of the issuer %q, and not of %q", cut(got, 256), id.credential.Issuer),
			"write issuer exactly as the server's metadata has it, its final slash included, if that is the server you mean")
	}
	address := doc.text("token_endpoint")
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.User != nil || u.Fragment != "" || len(address) > 2048 {
		return refuse("the metadata names no usable token_endpoint", "look into the server's metadata, or name its token_endpoint instead of issuer")
	}
	if !secure(u) {
		return refuse(fmt.Sprintf("the metadata names a token_endpoint that is not https, at %q", u.Host),
			"have the server publish an https address; http is for loopback addresses alone")
	}
	if grants, told := doc.list("grant_types_supported"); told && !slices.Contains(grants, "client_credentials") {
		return refuse("the server does not take client credentials; its metadata lists "+among(grants),
			"allow the grant type client_credentials at the server")
	}
	m := &metadata{endpoint: canonicalEndpoint(address), host: strings.ToLower(u.Host), fetched: time.Now()}
	var told bool
	if m.methods, told = doc.list("token_endpoint_auth_methods_supported"); !told {
		m.methods = []string{basicMethod} // RFC 8414 §2
	}
	m.algs, _ = doc.list("token_endpoint_auth_signing_alg_values_supported")
	return m, nil
}

// The methods of RFC 7591 §2 that are spoken here.
const (
	basicMethod = "client_secret_basic"
	postMethod  = "client_secret_post"
	keyMethod   = "private_key_jwt"
)

// at returns id as it is towards the endpoint that m names. Where routes.yaml
// leaves the method open, m decides; what routes.yaml says is done.
func (id *identity) at(m *metadata) (*identity, *Error) {
	there := *id
	there.endpoint, there.host, there.algs = m.endpoint, m.host, m.algs
	if id.credential.AuthMethod != "" {
		return &there, nil
	}
	takes := func(method string) bool { return slices.Contains(m.methods, method) }
	p, secret := id.prover.(secretProver)
	switch {
	case secret && takes(basicMethod):
		p.basic = true
		there.prover = p
	case secret && takes(postMethod):
		p.basic = false
		there.prover = p
	case !secret && takes(keyMethod):
	default:
		fits := keyMethod
		if secret {
			fits = basicMethod + " or " + postMethod
		}
		return nil, id.undiscovered(tokens.Refused, fmt.Sprintf("the server takes %s, and a %s can do %s", among(m.methods), id.kind, fits),
			"allow the method for this client at the server, or give the credential what the server takes; token_endpoint_auth_method overrules its metadata", "")
	}
	return &there, nil
}

// undiscovered is trouble with an issuer's metadata, before anything was sent
// to a token endpoint.
func (id *identity) undiscovered(nature tokens.Nature, hint, remedy, detail string) *Error {
	return &Error{
		Credential: id.credential.Name,
		Host:       id.host,
		Nature:     nature,
		Reach:      tokens.ReachCredential,
		RetryAfter: localWait,
		Hint:       hint,
		Remedy:     remedy,
		Detail:     detail,
	}
}

// list returns an array of strings; told is false if there is none.
func (m members) list(name string) (list []string, told bool) {
	if err := json.Unmarshal(m[name], &list); err != nil || list == nil {
		return nil, false
	}
	return list[:min(len(list), 64)], true
}

// among writes what a server lists, fit for a message.
func among(list []string) string {
	var names []string
	for _, s := range list {
		if s = identifier(s, nil); s != "" {
			names = append(names, s)
		}
	}
	if len(names) == 0 {
		return "nothing"
	}
	return strings.Join(names, ", ")
}
