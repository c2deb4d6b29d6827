package tokens

import (
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"time"
)

// What [Store.Renew] and a closed [Store] answer; test with [errors.Is].
var (
	// ErrRenewedAlready: the refused token is itself the fruit of a renewal
	// less than 30 s old, so another would not help. Pass the 401 on.
	ErrRenewedAlready = errors.New("token was renewed moments ago and refused again")
	// ErrSameToken: the endpoint answered with the very token that was
	// refused, as managed identities do. Pass the 401 on.
	ErrSameToken = errors.New("token endpoint returned the refused token again")
	// ErrClosed: the store is closed; it hands out what it holds and asks for
	// nothing new. It comes wrapped in [Unavailable].
	ErrClosed = errors.New("token store is closed")
)

// What is wrong with an answer that the [Acquirer] took for a token. Each
// counts as a Transient failure.
var (
	errEmpty    = errors.New("token endpoint answered without a token")
	errExpired  = errors.New("token endpoint answered with a token that has expired already; compare this machine's clock with the endpoint's")
	errLongLife = errors.New("token endpoint answered with a token that expires in more than ten years")
	errNoAnswer = errors.New("acquisition ended without an answer")
)

// Unavailable is the error of every call that got no token because an
// acquisition failed, now or a moment ago. It unwraps to the [Acquirer]'s
// error, which may wrap a context error of its own: so look for Unavailable
// before looking for the caller's context errors, which come bare.
type Unavailable struct {
	Key   Key       // the token that was asked for
	Until time.Time // when the store will ask again, for Retry-After; zero: with the next call
	Err   error     // the acquirer's error; never nil
}

// Error names credential, scope and cause. It holds no secret if Err holds none.
func (u *Unavailable) Error() string {
	return fmt.Sprintf("no token for scope %q with credential %q: %v", u.Key.Scope, u.Key.Credential, u.Err)
}

// Unwrap returns Err.
func (u *Unavailable) Unwrap() error { return u.Err }

// Panicked is the error of an acquisition that panicked: a defect, not an
// outage. Its text gives the panic's value for run-time errors alone, since
// other values may hold anything, a secret included.
type Panicked struct {
	Stack []byte // of the goroutine that panicked, for the log

	text string
}

// newPanicked is to be called by the deferred function that recovered v.
func newPanicked(v any) *Panicked {
	text := fmt.Sprintf("acquisition panicked with a value of type %T", v)
	if e, ok := v.(runtime.Error); ok {
		text = "acquisition panicked: " + e.Error()
	}
	return &Panicked{Stack: debug.Stack(), text: text}
}

// Error tells that the acquisition panicked.
func (p *Panicked) Error() string { return p.text }
