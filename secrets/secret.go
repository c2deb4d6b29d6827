// Package secrets holds what must not be seen: the [Secret] type, the
// references by which routes.yaml names a secret, and the watcher that notices
// when a file behind one changes.
package secrets

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"fmt"
)

// redacted is how every Secret shows itself.
const redacted = "[redacted]"

// Secret is a string that no formatting verb, encoder or logger shows.
// The zero value is the absent secret.
type Secret struct{ s string }

// New wraps s.
func New(s string) Secret { return Secret{s} }

// Reveal returns the secret itself. It is called where bytes leave the
// process for their rightful receiver; the house test counts its callers.
func (s Secret) Reveal() string { return s.s }

// IsZero tells whether there is no secret at all.
func (s Secret) IsZero() bool { return s.s == "" }

// Equal compares in time that depends on the lengths alone.
func (s Secret) Equal(o Secret) bool {
	return len(s.s) == len(o.s) && subtle.ConstantTimeCompare([]byte(s.s), []byte(o.s)) == 1
}

// Fingerprint is the first 8 bytes of the secret's SHA-256 in hex: enough to
// tell two values apart in a log, useless for finding either.
func (s Secret) Fingerprint() string {
	sum := sha256.Sum256([]byte(s.s))
	return hex.EncodeToString(sum[:8])
}

// String returns a fixed placeholder.
func (Secret) String() string { return redacted }

// GoString returns a fixed placeholder for %#v.
func (Secret) GoString() string { return redacted }

// Format writes a fixed placeholder under every verb and flag.
func (Secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(redacted)) }

// MarshalText encodes a fixed placeholder for text encoders (JSON, YAML, XML).
func (Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }
