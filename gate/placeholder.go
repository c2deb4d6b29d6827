package gate

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Placeholder is what a stand-in login hands out in a token's place: whom for,
// and for which tenant and scope.
type Placeholder struct {
	Caller string // "" when the table has no callers
	// Tenant is as the caller asked for it, lower case; "" at servers other than
	// Entra, and where a call of the route names it later.
	Tenant  string
	Scope   string    // as the route has it
	Expires time.Time // in whole seconds
}

// PlaceholderPrefix begins every placeholder, so that scanners of leaks can tell
// them from tokens. It has no dot, and neither has what follows: nobody takes a
// placeholder for a JWT.
const PlaceholderPrefix = "gwp_"

const (
	placeholderVersion = 1
	placeholderKey     = 32 // bytes of a key: AES-256
	// Bounds of what is sealed, in bytes. A caller's name has 64 by the table.
	maxSealedCaller = 64
	maxSealedScope  = 2048
	// maxPlaceholder bounds a text before anything is made of it.
	maxPlaceholder = 4096
)

// Sealer makes placeholders that nobody else can read or make. It is safe for
// concurrent use.
type Sealer struct{ ciphers []cipher.AEAD } // the first seals, all open

// NewSealer takes keys of 32 bytes: the first seals, all open. Without any, a
// random one serves for the life of the process.
func NewSealer(keys ...[]byte) (*Sealer, error) {
	if len(keys) == 0 {
		random := make([]byte, placeholderKey)
		_, _ = rand.Read(random) // never fails, says crypto/rand
		keys = [][]byte{random}
	}
	s := &Sealer{}
	for i, key := range keys {
		if len(key) != placeholderKey {
			return nil, fmt.Errorf("placeholder key %d has %d bytes, want %d", i+1, len(key), placeholderKey)
		}
		block, err := aes.NewCipher(key)
		if err != nil {
			return nil, fmt.Errorf("placeholder key %d: %w", i+1, err)
		}
		aead, err := cipher.NewGCMWithRandomNonce(block)
		if err != nil {
			return nil, fmt.Errorf("placeholder key %d: %w", i+1, err)
		}
		s.ciphers = append(s.ciphers, aead)
	}
	return s, nil
}

// placeholderText is the alphabet of RFC 6750 b64token, without padding, and
// with one spelling for each value.
var placeholderText = base64.RawURLEncoding.Strict()

// sealedHead is bound into each placeholder: what was sealed as one version is
// not opened as another.
func sealedHead() []byte { return append([]byte(PlaceholderPrefix), placeholderVersion) }

// Seal returns an opaque text of the alphabet of RFC 6750 b64token, with a
// prefix that scanners of leaks can know. Two of the same placeholder differ.
func (s *Sealer) Seal(p Placeholder) (string, error) {
	switch {
	case len(p.Caller) > maxSealedCaller:
		return "", fmt.Errorf("placeholder: the caller's name has %d bytes, want at most %d", len(p.Caller), maxSealedCaller)
	case len(p.Tenant) > maxTenant:
		return "", fmt.Errorf("placeholder: the tenant has %d bytes, want at most %d", len(p.Tenant), maxTenant)
	case len(p.Scope) > maxSealedScope:
		return "", fmt.Errorf("placeholder: the scope has %d bytes, want at most %d", len(p.Scope), maxSealedScope)
	case len(s.ciphers) == 0:
		return "", errors.New("placeholder: the sealer has no key")
	}
	plain := binary.BigEndian.AppendUint64(nil, uint64(p.Expires.Unix()))
	for _, field := range []string{p.Caller, p.Tenant, p.Scope} {
		plain = binary.BigEndian.AppendUint16(plain, uint16(len(field)))
		plain = append(plain, field...)
	}
	sealed := s.ciphers[0].Seal([]byte{placeholderVersion}, nil, plain, sealedHead())
	return PlaceholderPrefix + placeholderText.EncodeToString(sealed), nil
}

// Open reads what Seal made with one of the keys; ok is false for anything
// else, and for what has expired. It does not tell which.
func (s *Sealer) Open(text string) (p Placeholder, ok bool) {
	encoded, ours := strings.CutPrefix(text, PlaceholderPrefix)
	if !ours || len(text) > maxPlaceholder || strings.ContainsAny(encoded, "\r\n") { // which a decoder skips
		return Placeholder{}, false
	}
	sealed, err := placeholderText.DecodeString(encoded)
	if err != nil || len(sealed) == 0 || sealed[0] != placeholderVersion {
		return Placeholder{}, false
	}
	for _, c := range s.ciphers {
		plain, err := c.Open(nil, nil, sealed[1:], sealedHead())
		if err != nil {
			continue
		}
		p, ok = readPlaceholder(plain)
		if !ok || !time.Now().Before(p.Expires) {
			return Placeholder{}, false
		}
		return p, true
	}
	return Placeholder{}, false
}

// readPlaceholder takes apart what one of the keys vouches for.
func readPlaceholder(plain []byte) (p Placeholder, ok bool) {
	if len(plain) < 8 {
		return Placeholder{}, false
	}
	p.Expires = time.Unix(int64(binary.BigEndian.Uint64(plain)), 0)
	plain = plain[8:]
	for _, field := range []*string{&p.Caller, &p.Tenant, &p.Scope} {
		if len(plain) < 2 {
			return Placeholder{}, false
		}
		n := int(binary.BigEndian.Uint16(plain))
		if plain = plain[2:]; len(plain) < n {
			return Placeholder{}, false
		}
		*field, plain = string(plain[:n]), plain[n:]
	}
	return p, len(plain) == 0
}
