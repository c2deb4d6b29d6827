package sandbox

import (
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// principal is the app behind a verified token.
type principal struct {
	appID, tenantID string
	roles           []string
}

func (p principal) has(role string) bool { return slices.Contains(p.roles, role) }

// revocation tells which tokens have been revoked.
type revocation struct {
	upTo   uint64    // serial of the last one; 0: none
	before time.Time // iat of the first good one; zero: no limit
}

// RevokeTokens makes Graph refuse every token issued so far, with 401 and no
// claims challenge. Tokens issued later are good, in the same second too.
func (g *Graph) RevokeTokens() { g.revokeUpTo(g.entra.serial.Load()) }

func (g *Graph) revokeUpTo(serial uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.revoked.upTo = max(g.revoked.upTo, serial)
}

// RevokeBefore makes Graph refuse tokens whose iat lies before t, in whole
// seconds; the zero time ends that.
func (g *Graph) RevokeBefore(t time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.revoked.before = t
}

// authenticate verifies the bearer token of r.
func (g *Graph) authenticate(r *http.Request) (principal, *denial) {
	lines := r.Header.Values("Authorization")
	scheme, raw, _ := strings.Cut(strings.Join(lines, ","), " ")
	if len(lines) == 0 || raw == "" {
		return principal{}, unauthorized("Access token is empty.")
	}
	if !strings.EqualFold(scheme, "Bearer") || len(lines) > 1 {
		return principal{}, unauthorized("Access token validation failure.")
	}
	claims, err := verifyRS256(raw, g.keys)
	switch {
	case errors.Is(err, jwt.ErrTokenMalformed):
		return principal{}, unauthorized("IDX14100: JWT is not well formed, there are no dots (.).")
	case err != nil:
		return principal{}, unauthorized("Access token validation failure. Invalid signature.")
	}
	if no := g.checkClaims(claims); no != nil {
		return principal{}, no
	}
	p := principal{appID: text(claims, "appid"), tenantID: text(claims, "tid")}
	roles, _ := claims["roles"].([]any)
	for _, one := range roles {
		if s, ok := one.(string); ok {
			p.roles = append(p.roles, s)
		}
	}
	return p, nil
}

// checkClaims judges a token whose signature is good.
func (g *Graph) checkClaims(claims jwt.MapClaims) *denial {
	switch g.entra.flaw(claims) {
	case "":
	case badLifetime:
		return unauthorized("Lifetime validation failed, the token is expired.")
	case badIssuer:
		return unauthorized("Access token validation failure. Invalid issuer.")
	default:
		return unauthorized("Access token validation failure.")
	}
	aud := strings.TrimSuffix(text(claims, "aud"), "/")
	if aud != GraphResource && aud != GraphAppID {
		return unauthorized("Access token validation failure. Invalid audience.")
	}
	iat, _ := seconds(claims, "iat")
	from, err := decodeProvenance(text(claims, "aio"))
	if err != nil {
		return unauthorized("Access token validation failure.")
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if from.Serial <= g.revoked.upTo || iat.Unix() < g.revoked.before.Unix() {
		return unauthorized("The access token has been revoked.")
	}
	switch {
	case g.challenge == nil:
	case !g.challenge.met(from.Asked):
		return g.challenge.denial()
	case g.challenge.Once:
		g.challenge = nil
	}
	return nil
}

// A flaw is what is wrong with a token whose signature is good.
type flaw string

const (
	badDates    flaw = "no dates"
	badLifetime flaw = "lifetime"
	badIssuer   flaw = "issuer"
)

// flaw judges times and issuer of a v1.0 token, "" if they are right. The
// audience is for each API to judge.
func (e *Entra) flaw(claims jwt.MapClaims) flaw {
	now, tid := e.clock.now(), text(claims, "tid")
	exp, okExp := seconds(claims, "exp")
	nbf, okNbf := seconds(claims, "nbf")
	_, okIat := seconds(claims, "iat")
	switch {
	case !okExp || !okNbf || !okIat:
		return badDates
	case !now.Before(exp) || nbf.After(now.Add(clockTolerance)):
		return badLifetime
	case text(claims, "iss") != "https://sts.windows.net/"+tid+"/" || !e.knowsTenant(tid):
		return badIssuer
	}
	return ""
}

// knowsTenant reports whether id is the GUID of a tenant.
func (e *Entra) knowsTenant(id string) bool {
	e.mu.RLock()
	defer e.mu.RUnlock()
	t, ok := e.dir.tenants[id]
	return ok && t.id == id
}

// plainChallenge is the WWW-Authenticate of a 401 that asks for no claims.
const plainChallenge = `Bearer realm="", authorization_uri="https://login.microsoftonline.com/common/oauth2/authorize", client_id="` + GraphAppID + `"`

func unauthorized(message string) *denial {
	return &denial{
		status: http.StatusUnauthorized, code: "InvalidAuthenticationToken", message: message,
		header: http.Header{"Www-Authenticate": {plainChallenge}},
	}
}

// met reports whether a token that was asked with these claims satisfies p.
func (p *posed) met(asked map[string]string) bool {
	if p.Always {
		return false
	}
	for name, sum := range p.wanted {
		if asked[name] != sum {
			return false
		}
	}
	return true
}

// accessTokenMembers returns the access_token object of a claims request.
func accessTokenMembers(claims string) (map[string]json.RawMessage, error) {
	var doc struct {
		AccessToken map[string]json.RawMessage `json:"access_token"`
	}
	err := json.Unmarshal([]byte(claims), &doc)
	return doc.AccessToken, err
}
