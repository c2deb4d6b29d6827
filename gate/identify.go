package gate

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed-13b04e61/gateway/audit"
	"github.com/seed-13b04e61/gateway/routes"
)

// Dialer opens the connections to the issuers of callers' tokens.
type Dialer interface {
	DialContext(ctx context.Context, network, addr string) (net.Conn, error)
}

// IdentifierOptions are what an [Identifier] needs of the house.
type IdentifierOptions struct {
	Dialer Dialer // nil dials directly
	// Log takes what happens apart from any call: an issuer's keys that cannot
	// be had, with pairs of name and value. It must not block; nil drops it.
	Log func(msg string, kv ...any)
}

// Identifier tells who calls. It is safe for concurrent use; its zero value is
// not usable, see [NewIdentifier]. It holds no goroutine while nothing is
// fetched.
type Identifier struct {
	dialer   Dialer
	log      func(msg string, kv ...any)
	failures *failures

	changing sync.Mutex // one Use at a time
	roster   atomic.Pointer[roster]
}

// NewIdentifier returns an identifier that knows nobody, and refuses every call
// until [Identifier.Use].
func NewIdentifier(o IdentifierOptions) *Identifier {
	i := &Identifier{dialer: o.Dialer, log: o.Log, failures: newFailures()}
	if i.dialer == nil {
		i.dialer = &net.Dialer{Timeout: fetchTimeout}
	}
	if i.log == nil {
		i.log = func(string, ...any) {}
	}
	return i
}

// Use puts the table's callers in force, all or nothing: beside an error those
// before stay, and where there were none every call is refused. The keys of
// issuers that did not change stay known, and so do the tokens that were
// believed when no caller did.
func (i *Identifier) Use(t *routes.Table) []error {
	i.changing.Lock()
	defer i.changing.Unlock()
	next, errs := i.newRoster(t, i.roster.Load())
	if len(errs) > 0 {
		return errs
	}
	i.roster.Store(next)
	return nil
}

// Identify returns the caller that the evidence proves, nil when the table has
// no callers: then anyone may call. It stamps the event in ctx. A credential in
// a header field decides alone, else a client certificate does, else the owner
// of the peer's socket. On the door sql the password of a user who is a caller
// with keys decides alone, else the owner of the peer's socket. The error is a
// [*Refusal], of code caller_unknown or rate_limited, whose Detail and Remedy are the same whatever was wrong.
//
// It waits for the network only where a token's issuer was not asked yet or the
// token names an unknown key, and then no longer than 10 seconds.
func (i *Identifier) Identify(ctx context.Context, e Evidence) (*routes.Caller, error) {
	event := audit.From(ctx)
	event.Caller, event.CallerHow, event.Asked = "", "", false
	r := i.roster.Load()
	if r == nil {
		return nil, i.refuse(&e, &doubt{cause: "no table is in force yet"})
	}
	if r.open {
		return nil, nil
	}
	caller, how, doubt := i.prove(ctx, r, &e)
	if doubt != nil {
		event.Asked = doubt.asked
		return nil, i.refuse(&e, doubt)
	}
	event.Caller, event.CallerHow = caller.Name, how
	return caller, nil
}

// The words of [audit.Event.CallerHow].
const (
	byAPIKey      = "api_key"
	byCertificate = "client_certificate"
	byJWT         = "jwt"
	byUID         = "uid"
)

// doubt is why a proof is not believed.
type doubt struct {
	cause string // for the operator; holds no secret
	// guess: it may be one of many tries, and counts against its source.
	guess bool
	// asked: nothing was shown, so the answer is the question for it.
	asked bool
	// held is how long the source has to wait already; nothing was looked at.
	held time.Duration
}

// errNothingShown is not counted as a failure: clients ask without a credential
// first, and show theirs when they are challenged (RFC 9110 §11.3).
var errNothingShown = errors.New("the call shows no credential")

func (i *Identifier) prove(ctx context.Context, r *roster, e *Evidence) (*routes.Caller, string, *doubt) {
	if e.Door == audit.SQL {
		return i.proveSQL(r, e)
	}
	value, present, err := e.credential()
	switch {
	case err != nil:
		return nil, "", &doubt{cause: err.Error(), guess: true}
	case present:
		return i.proveCredential(ctx, r, e, value)
	case e.TLS != nil && (len(e.TLS.VerifiedChains) > 0 || len(e.TLS.PeerCertificates) > 0):
		caller, err := r.certificates.find(e.TLS)
		return caller, byCertificate, doubtful(err)
	case e.UID != nil && len(r.uids) > 0:
		caller, err := r.owner(e)
		if err != nil {
			return nil, "", &doubt{cause: err.Error(), asked: true}
		}
		return caller, byUID, nil
	}
	return nil, "", &doubt{cause: errNothingShown.Error(), asked: true}
}

func doubtful(err error) *doubt {
	if err == nil {
		return nil
	}
	return &doubt{cause: err.Error()}
}

// proveCredential tries keys first, whatever the source did before: that is
// cheap, and nobody can lock out a caller who shares an address. Tokens cost an
// issuer's attention, so they wait.
func (i *Identifier) proveCredential(ctx context.Context, r *roster, e *Evidence, value string) (*routes.Caller, string, *doubt) {
	s, err := readCredential(value)
	if err != nil {
		return nil, "", &doubt{cause: err.Error(), guess: true}
	}
	if s.jwt() {
		if caller := r.believed(&s); caller != nil {
			return caller, byJWT, nil
		}
	}
	if err := s.check(); err != nil {
		return nil, "", &doubt{cause: err.Error(), guess: true}
	}
	if caller := r.keys.find(&s); caller != nil {
		return caller, byAPIKey, nil
	}
	switch {
	case s.jwt():
		caller, doubt := i.proveToken(ctx, r, e, &s)
		return caller, byJWT, doubt
	case s.named:
		name := "(no caller has that name)" // which may be a key in the wrong place
		if r.names[s.user] {
			name = s.user
		}
		return nil, "", &doubt{cause: fmt.Sprintf("the API key shown is not that of caller %q", name), guess: true}
	}
	return nil, "", &doubt{cause: "the bearer credential is no caller's API key, and no JWT", guess: true}
}

// refuse counts guesses, and makes the answer.
func (i *Identifier) refuse(e *Evidence, d *doubt) *Refusal {
	held := d.held
	if d.guess {
		held = i.failures.count(sourceOf(e))
	}
	if e.Door == audit.SQL {
		return refuseSQL(d, held)
	}
	if held == 0 {
		return unknown(e, d.cause)
	}
	return &Refusal{
		Code:       RateLimited,
		Detail:     "too many credentials from this source were not believed",
		Remedy:     "wait as long as Retry-After says, and then show the right one",
		Cause:      d.cause,
		RetryAfter: held,
	}
}

// unknown has one answer for each door; the cause is for the log.
func unknown(e *Evidence, cause string) *Refusal {
	remedy := "show the caller's credential in Proxy-Authorization: Basic with its name and API key (http://NAME:KEY@host:port as the proxy's URL), or Bearer with the key or a JWT"
	if e.Door == audit.Reverse {
		remedy = "show the caller's credential in X-Gateway-Authorization: Basic with its name and API key, or Bearer with the key or a JWT; Basic in Authorization does as well"
	}
	return &Refusal{
		Code:   CallerUnknown,
		Detail: "no caller could be recognised from this call",
		Remedy: remedy,
		Cause:  cause,
	}
}
