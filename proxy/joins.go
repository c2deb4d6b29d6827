package proxy

import (
	"crypto/sha256"
	"encoding/hex"
	"net/http"

	"github.com/seed-13b04e61/gateway/authority"
	"github.com/seed-13b04e61/gateway/tokens"
)

const (
	maxTokenID         = 64  // bytes of a uti, which has 22 at Entra
	maxUpstreamRequest = 128 // bytes of an upstream's request-id
)

// tokenID is by what a call can be found in the token endpoint's own log: the
// claim uti, which Entra's sign-in log shows as the unique token identifier, or
// else the first 8 bytes of the token's SHA-256 in hex.
func tokenID(t tokens.Token, access string) string {
	if claims, err := authority.Claims(t.Access); err == nil {
		if uti, ok := claims.Raw["uti"].(string); ok && clean(uti, maxTokenID) != "" {
			return uti
		}
	}
	sum := sha256.Sum256([]byte(access))
	return hex.EncodeToString(sum[:8])
}

// upstreamRequest is by what a call can be found in the upstream's log: the
// first of the fields that Microsoft's APIs and others use.
func upstreamRequest(h http.Header) string {
	for _, name := range [...]string{"Request-Id", "X-Ms-Request-Id", "X-Ms-Correlation-Request-Id", "X-Request-Id"} {
		if v := h[name]; len(v) > 0 {
			if id := clean(v[0], maxUpstreamRequest); id != "" {
				return id
			}
		}
	}
	return ""
}
