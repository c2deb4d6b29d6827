package gate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/seed-13b04e61/gateway/routes"
)

// tokenLeeway is how far an issuer's clock may be from this one.
const tokenLeeway = time.Minute

// tokenAlgorithms are those that need no shared secret (RFC 7518 §3.1, RFC 8037
// §3.1). None but these is ever taken, whatever a table says: with HS256 the
// public key would be the secret, and none signs nothing.
var tokenAlgorithms = []string{
	"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA",
}

// trust is an issuer with the callers whose tokens it signs.
type trust struct {
	issuer  *issuer
	callers []*routes.Caller
	algs    []string // that one of the callers takes
	parser  *jwt.Parser
}

func newTrust(s *issuer) *trust { return &trust{issuer: s} }

// add takes one more caller; it is not for concurrent use.
func (t *trust) add(c *routes.Caller) {
	t.callers = append(t.callers, c)
	for _, alg := range algorithms(c) {
		if !slices.Contains(t.algs, alg) {
			t.algs = append(t.algs, alg)
		}
	}
	t.parser = jwt.NewParser(
		jwt.WithValidMethods(append([]string{}, t.algs...)), // nil would take any
		jwt.WithIssuer(t.issuer.name),
		jwt.WithExpirationRequired(),
		jwt.WithLeeway(tokenLeeway),
		jwt.WithJSONNumber(),
		jwt.WithStrictDecoding(),
	)
}

// algorithms are those that c's tokens may be signed by.
func algorithms(c *routes.Caller) []string {
	if len(c.JWT.Algorithms) == 0 {
		return tokenAlgorithms
	}
	var algs []string
	for _, alg := range c.JWT.Algorithms {
		if slices.Contains(tokenAlgorithms, alg) {
			algs = append(algs, alg)
		}
	}
	return algs
}

// believed returns the caller of a token that was believed a while ago, known by
// its digest; else nil.
func (r *roster) believed(s *shown) *routes.Caller {
	if v, ok := r.verdicts.Get(s.digest); ok && time.Now().Before(v.until) {
		return v.caller
	}
	return nil
}

// proveToken finds the caller whom a JWT names (RFC 7519 §7.2), and remembers it.
func (i *Identifier) proveToken(ctx context.Context, r *roster, e *Evidence, s *shown) (*routes.Caller, *doubt) {
	if held := i.failures.wait(sourceOf(e)); held > 0 {
		return nil, &doubt{cause: "a JWT was not looked at, as its source is held off", held: held}
	}
	head, name, err := readToken(s.bearer)
	if err != nil {
		return nil, &doubt{cause: err.Error(), guess: true}
	}
	trusts := r.issuers[name]
	if len(trusts) == 0 {
		return nil, &doubt{cause: fmt.Sprintf("the JWT is of issuer %.128q, whom no caller names", name), guess: true}
	}
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout) // for all of them
	defer cancel()
	var why *doubt
	for _, t := range trusts {
		v, d := t.judge(ctx, s.bearer, head)
		if d == nil {
			if time.Now().Before(v.until) {
				r.verdicts.Add(s.digest, v)
			}
			return v.caller, nil
		}
		why = d
	}
	return nil, why
}

// judge verifies a token by its issuer's keys, and picks the first caller of the
// file whose words it says.
func (t *trust) judge(ctx context.Context, token string, head tokenHead) (verdict, *doubt) {
	guess := func(format string, args ...any) (verdict, *doubt) {
		return verdict{}, &doubt{cause: fmt.Sprintf("a JWT of issuer %q is not believed: ", t.issuer.name) + fmt.Sprintf(format, args...), guess: true}
	}
	if !slices.Contains(t.algs, head.alg) {
		return guess("its algorithm %.16q is not among those of its callers", head.alg)
	}
	set, err := t.issuer.keysFor(ctx, head.kid)
	if err != nil {
		// Not the source's fault, unless it invents keys.
		return verdict{}, &doubt{cause: err.Error(), guess: errors.Is(err, errUnknownKey)}
	}
	claims := jwt.MapClaims{}
	if _, err := t.parser.ParseWithClaims(token, claims, set.keyfunc(head)); err != nil {
		return guess("%s", tokenTrouble(err))
	}
	expires, err := claims.GetExpirationTime()
	if err != nil || expires == nil {
		return guess("it has no exp")
	}
	var reasons []string
	for _, c := range t.callers {
		reason := mismatch(c, claims, head.alg)
		if reason == "" {
			until := earliest(expires.Time, time.Now().Add(verdictLife), set.fetched.Add(keysLife))
			return verdict{caller: c, until: until}, nil
		}
		if len(reasons) < 3 {
			reasons = append(reasons, reason)
		}
	}
	return guess("%s", strings.Join(reasons, "; "))
}

func earliest(first time.Time, others ...time.Time) time.Time {
	for _, t := range others {
		if t.Before(first) {
			first = t
		}
	}
	return first
}

// tokenTrouble puts the library's error into words without the token's.
func tokenTrouble(err error) string {
	for _, known := range []struct {
		err   error
		words string
	}{
		{jwt.ErrTokenMalformed, "it is malformed"},
		{errWrongKey, errWrongKey.Error()},
		{jwt.ErrTokenSignatureInvalid, "its signature is not by the issuer's key"},
		{jwt.ErrTokenExpired, "it has expired"},
		{jwt.ErrTokenNotValidYet, "it is not valid yet (nbf); compare the clocks"},
		{jwt.ErrTokenRequiredClaimMissing, "it has no exp"},
	} {
		if errors.Is(err, known.err) {
			return known.words
		}
	}
	return "its registered claims are malformed"
}

// mismatch is what a verified token lacks to be c's; "" for nothing.
func mismatch(c *routes.Caller, claims jwt.MapClaims, alg string) string {
	if !slices.Contains(algorithms(c), alg) {
		return fmt.Sprintf("caller %q does not take algorithm %s", c.Name, alg)
	}
	audiences, err := claims.GetAudience()
	if err != nil || !slices.Contains(audiences, c.JWT.Audience) {
		return fmt.Sprintf("its audience %.128q is not %q of caller %q", []string(audiences), c.JWT.Audience, c.Name)
	}
	for _, rule := range c.JWT.Claims {
		if !holds(rule, claims[rule.Name]) {
			return fmt.Sprintf("claim %q is none of those of caller %q", rule.Name, c.Name)
		}
	}
	return ""
}

// holds tells whether value is one of the rule's, or a list with one of them. A
// list within a list says nothing, nor does an object.
func holds(rule routes.ClaimRule, value any) bool {
	if list, ok := value.([]any); ok {
		return slices.ContainsFunc(list, func(v any) bool { return holdsOne(rule, v) })
	}
	return holdsOne(rule, value)
}

// holdsOne compares strings as they are, numbers and truth values as JSON
// writes them.
func holdsOne(rule routes.ClaimRule, value any) bool {
	switch v := value.(type) {
	case string:
		return slices.Contains(rule.Values, v)
	case json.Number:
		return slices.Contains(rule.Values, v.String())
	case bool:
		return slices.Contains(rule.Values, fmt.Sprint(v))
	}
	return false
}
