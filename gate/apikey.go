package gate

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"strings"

	"github.com/seed-13b04e61/gateway/routes"
)

// credentialLimit is how long a credential may be, in bytes. Entra's tokens
// with many groups have some 8 KiB.
const credentialLimit = 16 << 10

// What can be wrong with a credential before it is compared with anything.
var (
	errTooLong   = errors.New("the credential is longer than 16 KiB")
	errScheme    = errors.New("the credential's scheme is neither Basic nor Bearer")
	errMalformed = errors.New("the credential is malformed")
)

// strictBase64 has one spelling for each value: padded, and no stray bits.
var strictBase64 = base64.StdEncoding.Strict()

// shown is a credential taken apart and believed in nothing. A key is not kept:
// only its digest is.
type shown struct {
	named  bool // Basic: it is for user alone
	user   string
	digest [sha256.Size]byte // of the key or the token
	bearer string            // as it stands; "" for Basic. Its form is not checked yet
}

// jwt tells whether a bearer credential has a JWT's three parts.
func (s *shown) jwt() bool { return strings.Count(s.bearer, ".") == 2 }

// readCredential reads credentials = auth-scheme 1*SP token68 (RFC 7235 §2.1),
// of the schemes Basic (RFC 7617 §2) and Bearer (RFC 6750 §2.1). A bearer's
// form is left to [shown.check], since a token that was believed before had it.
// No error holds any of the value.
func readCredential(value string) (shown, error) {
	if len(value) > credentialLimit {
		return shown{}, errTooLong
	}
	scheme, rest, found := strings.Cut(value, " ")
	rest = strings.TrimLeft(rest, " ")
	scheme = lowerASCII(scheme) // EqualFold takes a long s for an s
	switch {
	case !found || rest == "":
		return shown{}, errMalformed
	case scheme == "basic":
		return readBasic(rest)
	case scheme == "bearer":
		return shown{digest: sha256.Sum256([]byte(rest)), bearer: rest}, nil
	}
	return shown{}, errScheme
}

// check completes what readCredential left out.
func (s *shown) check() error {
	if !s.named && !isToken68(s.bearer) {
		return errMalformed
	}
	return nil
}

func readBasic(encoded string) (shown, error) {
	if !isToken68(encoded) { // a decoder skips line breaks
		return shown{}, errMalformed
	}
	pair, err := strictBase64.DecodeString(encoded)
	if err != nil {
		return shown{}, errMalformed
	}
	colon := -1
	for i, c := range pair {
		if c < 0x20 || c == 0x7f { // RFC 7617 §2: no control characters
			return shown{}, errMalformed
		}
		if c == ':' && colon < 0 {
			colon = i
		}
	}
	if colon <= 0 || colon == len(pair)-1 {
		return shown{}, errMalformed
	}
	return shown{named: true, user: string(pair[:colon]), digest: sha256.Sum256(pair[colon+1:])}, nil
}

// isToken68 tells whether s is 1*( ALPHA / DIGIT / "-._~+/" ) *"=".
func isToken68(s string) bool {
	body := strings.TrimRight(s, "=")
	for i := range len(body) {
		if !isToken68Byte(body[i]) {
			return false
		}
	}
	return body != ""
}

// isToken68Byte looks c up in a bit for each, as tokens are long and read on
// every call.
func isToken68Byte(c byte) bool {
	const (
		low  = 0x3ff<<'0' | 1<<'-' | 1<<'.' | 1<<'+' | 1<<'/'
		high = 0x3ffffff<<('A'-64) | 0x3ffffff<<('a'-64) | 1<<('_'-64) | 1<<('~'-64)
	)
	if c < 64 {
		return low>>c&1 == 1
	}
	return c < 128 && uint64(high)>>(c-64)&1 == 1
}

// keyring compares API keys. It is immutable.
type keyring struct {
	byName map[string]holder
	// byPrefix finds a key that was shown without a name by the first bytes of
	// its digest. What that lookup's time tells of a digest is of no use to who
	// wants the key: it has 256 random bits.
	byPrefix map[uint64]holder
	nobody   holder // for the names of nobody, and for callers without a key
}

// holder is a caller with digests, as many as any other of its keyring has.
type holder struct {
	caller  *routes.Caller // nil for nobody
	digests [][sha256.Size]byte
}

// newKeyring pads each holder with digests of nothing that anybody knows, so
// that each comparison does the same work.
func newKeyring(callers []*routes.Caller) *keyring {
	width, keys := 1, 0
	for _, c := range callers {
		width, keys = max(width, len(c.APIKeys)), keys+len(c.APIKeys)
	}
	r := &keyring{
		byName:   make(map[string]holder, len(callers)),
		byPrefix: make(map[uint64]holder, keys),
		nobody:   pad(holder{}, width),
	}
	for _, c := range callers {
		if len(c.APIKeys) == 0 {
			continue
		}
		h := pad(holder{caller: c, digests: c.APIKeys}, width)
		r.byName[c.Name] = h
		for _, d := range c.APIKeys {
			r.byPrefix[prefix(d)] = h
		}
	}
	return r
}

func pad(h holder, width int) holder {
	digests := make([][sha256.Size]byte, width)
	for i := copy(digests, h.digests); i < width; i++ {
		_, _ = rand.Read(digests[i][:]) // never fails, says crypto/rand
	}
	return holder{caller: h.caller, digests: digests}
}

func prefix(digest [sha256.Size]byte) uint64 { return binary.NativeEndian.Uint64(digest[:]) }

// find returns whose key s is, nil for nobody's. An unknown name, a name without
// a key and a wrong key take the same steps.
func (r *keyring) find(s *shown) *routes.Caller {
	var h holder
	var known bool
	if s.named {
		h, known = r.byName[s.user]
	} else {
		h, known = r.byPrefix[prefix(s.digest)]
	}
	if !known {
		h = r.nobody
	}
	same := 0
	for i := range h.digests {
		same |= subtle.ConstantTimeCompare(h.digests[i][:], s.digest[:])
	}
	if same != 1 {
		return nil
	}
	return h.caller
}
