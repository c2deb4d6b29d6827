package sandbox

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

// A ChallengeStyle is one of the shapes in which claims challenges have been
// seen, or could be sent by RFC 9110 §11.6.1.
type ChallengeStyle string

// The styles. Garbage has a claims value that is no base64, Oversized one of
// 20 KB: clients have to treat both as a 401 without challenge.
const (
	Quoted    ChallengeStyle = "quoted"     // every value in quotes; the default
	Bare      ChallengeStyle = "bare"       // authorization_uri and error without quotes
	Several   ChallengeStyle = "several"    // a Basic and a PoP challenge before it in the line
	TwoLines  ChallengeStyle = "two-lines"  // another challenge in a header line before it
	URLSafe   ChallengeStyle = "url-safe"   // base64url without padding
	Escaped   ChallengeStyle = "escaped"    // base64, percent-encoded
	LowerCase ChallengeStyle = "lower-case" // scheme and parameter names in odd case
	Garbage   ChallengeStyle = "garbage"
	Oversized ChallengeStyle = "oversized"
)

// A Challenge is what Graph wants of tokens before it serves again.
type Challenge struct {
	Style ChallengeStyle
	// Claims is the JSON to ask for; "" is an nbf of now, as after a change of
	// policy, which is what the real service sends most.
	Claims string
	// Always repeats the challenge whatever the token.
	Always bool
	// Once ends the challenge with the first token that meets it.
	Once bool
}

// posed is a Challenge at work.
type posed struct {
	Challenge
	wanted map[string]string // members of access_token and their fingerprints
}

// ErrClaims is the refusal of a [Challenge] whose Claims are no claims request.
var ErrClaims = errors.New("sandbox: claims are no JSON object with access_token")

// RequireClaims makes Graph answer 401 with a claims challenge (error
// insufficient_claims) to every token that was not asked with the claims that
// the challenge holds. Declaring cp1 does not matter to it.
func (g *Graph) RequireClaims(c Challenge) error {
	if c.Claims == "" {
		c.Claims = fmt.Sprintf(`{"access_token":{"nbf":{"essential":true, "value":"%d"}}}`, g.clock.now().Unix())
	}
	members, err := accessTokenMembers(c.Claims)
	if err != nil || len(members) == 0 || len(c.Claims) > maxClaims {
		return ErrClaims
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.challenge = &posed{Challenge: c, wanted: fingerprints(members)}
	return nil
}

// RequireNothing ends [Graph.RequireClaims].
func (g *Graph) RequireNothing() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.challenge = nil
}

// denial returns the 401 that poses the challenge.
func (p *posed) denial() *denial {
	return &denial{
		status: http.StatusUnauthorized, code: "InvalidAuthenticationToken",
		message: "Continuous access evaluation resulted in challenge with result: InteractionRequired and code: TokenCreatedWithOutdatedPolicies",
		header:  http.Header{"Www-Authenticate": p.header()},
	}
}

// header returns the values of WWW-Authenticate.
func (p *posed) header() []string {
	const uri = "https://login.microsoftonline.com/common/oauth2/authorize"
	const description = "Continuous access evaluation resulted in challenge with result: InteractionRequired and code: TokenCreatedWithOutdatedPolicies"
	format := `Bearer realm="", authorization_uri="%s", client_id="%s", error="insufficient_claims", claims="%s", errorDescription="%s"`
	claims := base64.StdEncoding.EncodeToString([]byte(p.Claims))
	before := ""
	switch p.Style {
	case Bare:
		format = `Bearer realm="", authorization_uri=%s, client_id="%s", error=insufficient_claims, claims=%s, errorDescription="%s"`
	case LowerCase:
		format = `bearer Realm="", Authorization_Uri="%s", CLIENT_ID="%s", Error="insufficient_claims", Claims="%s", errordescription="%s"`
	case Several:
		before = `Basic realm="a \"quoted\", realm", PoP authorization_uri="` + uri + `", nonce="eyJ=, x", `
	case URLSafe:
		claims = base64.RawURLEncoding.EncodeToString([]byte(p.Claims))
	case Escaped:
		claims = url.QueryEscape(claims)
	case Garbage:
		claims = "!!this is not base64!!"
	case Oversized:
		claims = base64.StdEncoding.EncodeToString([]byte(`{"access_token":{"nbf":{"essential":true,"value":"` + strings.Repeat("1", 20<<10) + `"}}}`))
	}
	line := before + fmt.Sprintf(format, uri, GraphAppID, claims, description)
	if p.Style == TwoLines {
		return []string{`PoP authorization_uri="` + uri + `", nonce="n"`, line}
	}
	return []string{line}
}
