package proxy

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/seed-13b04e61/gateway/audit"
	"github.com/seed-13b04e61/gateway/authority"
	"github.com/seed-13b04e61/gateway/tokens"
)

// TokenSource is the part of [tokens.Store] that the proxy needs.
type TokenSource interface {
	Token(ctx context.Context, k tokens.Key) (tokens.Token, tokens.Origin, error)
	Renew(ctx context.Context, k tokens.Key, rejected tokens.Token, claims string) (tokens.Token, tokens.Origin, error)
	RenewBehind(k tokens.Key, rejected tokens.Token, claims string)
}

const (
	// drainBytes and drainTime bound the reading of a 401's body, which is
	// done to keep its connection for the second try.
	drainBytes = 64 << 10
	drainTime  = 100 * time.Millisecond
)

// tokenError marks a failure to get a token, as opposed to one of the upstream.
type tokenError struct{ err error }

func (e *tokenError) Error() string { return e.err.Error() }
func (e *tokenError) Unwrap() error { return e.err }

// secondTry sends a call with its token, and once more with another when the
// upstream answers 401: such a request was not applied for want of valid
// credentials (RFC 9110 §15.5.2), so any method may be sent again.
type secondTry struct {
	tokens     TokenSource
	registries *registries
}

// RoundTrip implements http.RoundTripper for requests whose context is a
// passage.
func (t secondTry) RoundTrip(req *http.Request) (*http.Response, error) {
	p := passageOf(req.Context())
	began := time.Now()
	err := t.fetch(req, p)
	p.event.TokenWait = time.Since(began)
	p.asked(began, audit.Lookup{}, err)
	if err != nil {
		return nil, &tokenError{err}
	}
	resp, err := p.send(req)
	if err != nil || !unauthorized(resp) {
		p.settle()
		return resp, err
	}
	return t.again(req, resp)
}

// fetch gets what the call goes out with: without its second token a route is
// as little served as without its first. The source on record is the first's.
func (t secondTry) fetch(req *http.Request, p *passage) error {
	ctx := req.Context()
	p.source, p.key = t.tokens, p.pass.Key
	if p.pass.Route.Registry {
		p.source, p.key = t.registries.store, p.registryKey(req)
	}
	token, origin, err := p.source.Token(ctx, p.key)
	if err != nil {
		return err
	}
	p.token, p.event.TokenSource = token, string(origin)
	if p.pass.Route.Second == nil {
		return nil
	}
	second, _, err := t.tokens.Token(ctx, p.pass.SecondKey)
	p.second = &second
	return err
}

// unauthorized tells whether resp refuses the token. gRPC says so in a status of
// its own, 16, which stands in the header when nothing else is answered.
func unauthorized(resp *http.Response) bool {
	if resp.StatusCode != http.StatusOK {
		return resp.StatusCode == http.StatusUnauthorized
	}
	status := resp.Header["Grpc-Status"]
	return len(status) == 1 && status[0] == "16" && strings.HasPrefix(resp.Header.Get("Content-Type"), "application/grpc")
}

// again answers a 401: the same request with another token, or the 401 itself
// when there is no other, none would be taken, or the body is gone.
func (t secondTry) again(req *http.Request, refused *http.Response) (*http.Response, error) {
	p := passageOf(req.Context())
	claims := challenge(refused)
	if claims == "" && p.mismatched(refused) {
		p.event.Retry = audit.Mismatch
		p.settle()
		return refused, nil
	}
	if p.pass.Route.Replay == 0 || p.body != nil && !p.body.replayable() {
		t.renewBehind(p, claims)
		p.event.Retry = audit.NotReplayable
		p.settle()
		return refused, nil
	}
	began := time.Now()
	renewed, err := t.renew(req.Context(), p, claims)
	p.event.TokenWait += time.Since(began)
	p.asked(began, audit.Lookup{Renewal: true, Vain: !renewed}, err)
	switch {
	case err != nil:
		_ = refused.Body.Close()
		p.event.Retry = audit.HeldBack
		return nil, &tokenError{err}
	case !renewed:
		p.event.Retry = audit.HeldBack
		p.settle()
		return refused, nil
	case p.body != nil && !p.body.abandon(): // the rest went out meanwhile
		p.event.Retry = audit.NotReplayable
		p.settle()
		return refused, nil
	}
	drain(refused.Body)
	resp, err := p.send(req.Clone(req.Context()))
	p.settle()
	if err == nil {
		p.event.Retry = audit.Recovered
		if unauthorized(resp) {
			p.event.Retry = audit.RefusedAgain
		}
	}
	return resp, err
}

// renew replaces the refused tokens and tells whether there is now another to
// try with. A plain 401 does not say which of two tokens it means, so both are
// renewed, each at most as often as its own key allows; a claims challenge is
// about the first. The second's failure is no error: it is still valid, and the
// first may have been all there was to mend.
func (t secondTry) renew(ctx context.Context, p *passage, claims string) (renewed bool, err error) {
	token, origin, err := p.source.Renew(ctx, p.key, p.token, claims)
	switch {
	case err == nil:
		p.token, p.event.TokenSource, renewed = token, string(origin), true
	case !errors.Is(err, tokens.ErrRenewedAlready) && !errors.Is(err, tokens.ErrSameToken):
		return false, err
	}
	if p.pass.Route.Second == nil || claims != "" {
		return renewed, nil
	}
	if second, _, err := t.tokens.Renew(ctx, p.pass.SecondKey, *p.second, ""); err == nil {
		p.second, renewed = &second, true
	}
	return renewed, nil
}

// renewBehind makes the same decisions for a call that cannot be sent again.
func (t secondTry) renewBehind(p *passage, claims string) {
	p.source.RenewBehind(p.key, p.token, claims)
	if p.pass.Route.Second != nil && claims == "" {
		t.tokens.RenewBehind(p.pass.SecondKey, *p.second, "")
	}
}

// closedIdle is what net/http's transport says when the upstream closed a kept
// connection before this call was written to it: it was closed on this side
// first, under the lock with which calls are counted, so that nothing of the
// call can have left. The transport repeats safe methods alone then
// (golang/go#19943). Its error is not exported.
const closedIdle = "http: server closed idle connection"

// staleTries bounds how many such connections one call may meet.
const staleTries = 16

// send sends req with the passage's tokens and its body from the first byte, and
// does so again where nothing was sent.
func (p *passage) send(req *http.Request) (*http.Response, error) {
	try := p.try(req)
	if try != nil {
		try.Propagate(req.Header)
	}
	resp, err := p.sendOften(req)
	tried(try, resp, err)
	return resp, err
}

func (p *passage) sendOften(req *http.Request) (*http.Response, error) {
	resp, err := p.sendOnce(req)
	for tries := 1; err != nil && err.Error() == closedIdle && tries < staleTries; tries++ {
		again, errAgain := p.sendOnce(req)
		if errors.Is(errAgain, errNotReplayable) {
			break
		}
		resp, err = again, errAgain
	}
	return resp, err
}

func (p *passage) sendOnce(req *http.Request) (*http.Response, error) {
	p.inject(req.Header)
	if p.body != nil {
		first, err := p.body.attempt()
		if err != nil {
			return nil, err
		}
		req.Body = first
		// With GetBody the transport itself repeats what was provably not
		// processed: a dead idle connection, REFUSED_STREAM, GOAWAY.
		req.GetBody = func() (io.ReadCloser, error) { return p.body.attempt() }
	}
	began := time.Now()
	resp, err := p.up.transport.RoundTrip(req)
	p.event.Upstream += time.Since(began)
	return resp, err
}

// settle ends the recording: the answer is decided.
func (p *passage) settle() {
	if p.body != nil {
		p.body.freeze()
	}
}

// challenge returns the claims that a 401 asks for, or "". A challenge that
// cannot be read asks for nothing.
func challenge(resp *http.Response) string {
	c, err := authority.ParseChallenge(resp.Header["Www-Authenticate"])
	if err != nil {
		return ""
	}
	return c.Claims
}

// drain reads what little is left of an answer that nobody wants.
func drain(b io.ReadCloser) {
	stop := time.AfterFunc(drainTime, func() { _ = b.Close() })
	defer stop.Stop()
	_, _ = io.CopyN(io.Discard, b, drainBytes)
	_ = b.Close()
}
