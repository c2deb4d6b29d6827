// Package tokens keeps app-only access tokens: cached by [Key], acquired once
// for all who wait, refreshed before they expire, renewed when an upstream
// refuses them. It knows neither HTTP nor OAuth; an [Acquirer] does.
package tokens

import (
	"context"
	"time"

	"github.com/seed-13b04e61/gateway/secrets"
)

// Key tells one token from another. It is comparable and built once per route
// and tenant, never per call. Nothing in it is secret.
type Key struct {
	Authority   string // token endpoint, an absolute URL, host in lower case
	Tenant      string // GUID or domain in lower case; "" for a server without tenants
	Credential  string // the credential's name in routes.yaml
	Fingerprint string // of the credential's proof, so that rotation takes effect
	Scope       string // exactly as sent; may be "" for servers other than Entra
	CAE         bool   // cp1 was declared: long-lived, revocable
}

// Token is one access token. RefreshAt is when a new one should be had ahead
// of need; its zero value leaves that to the [Store].
type Token struct {
	Access    secrets.Secret
	Expires   time.Time
	RefreshAt time.Time
}

// Acquirer gets a token from a token endpoint. claims is the JSON text of a
// claims challenge to be answered, or "". The error may implement [Failer].
// Acquire honours ctx and may be called from many goroutines.
type Acquirer interface {
	Acquire(ctx context.Context, k Key, claims string) (Token, error)
}

// Origin tells where a token that was handed out came from. Its values are
// those of the header Gateway-Token-Source and of gateway_token_lookups_total.
type Origin string

// The origins.
const (
	FromCache            Origin = "cache"
	FromIdentityProvider Origin = "identity_provider"
	FromSharedCache      Origin = "shared_cache"
	// FromStale is the cache while the endpoint fails: the token is past the
	// time at which it should have been refreshed, and still valid.
	FromStale Origin = "stale"
)

// Nature classes a failed acquisition by what may cure it.
type Nature int

const (
	// Transient: network, TLS, timeout, 5xx. Cured by trying again.
	Transient Nature = iota
	// Throttled: the endpoint asked for quiet, for Failure.Wait.
	Throttled
	// Refused: the same request would be refused again until someone mends
	// the configuration, here or there.
	Refused
	// Propagating: refused, and may heal by itself within minutes, as a
	// change spreads through the directory.
	Propagating
)

// Reach is how much else a failure speaks for.
type Reach int

const (
	// ReachKey: this very token request.
	ReachKey Reach = iota
	// ReachCredential: every scope of the same authority, tenant, credential
	// and fingerprint.
	ReachCredential
)

// Failure is what the [Store] needs to know of a failed acquisition. Wait
// matters with Throttled only; 0 there means the store's default.
type Failure struct {
	Nature Nature
	Reach  Reach
	Wait   time.Duration
}

// Failer is implemented by an [Acquirer]'s errors that know their nature.
// Any other error is taken for Transient with ReachKey.
type Failer interface {
	error
	Failure() Failure
}
