package sandbox

import (
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"net/url"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// assertionType is client_assertion_type of RFC 7523 §2.2.
const assertionType = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

// clockTolerance is how far in the future an assertion's nbf may lie.
const clockTolerance = 5 * time.Minute

// client is who a token request says it is, before anything is believed.
type client struct {
	id        string
	secret    string
	hasSecret bool // client_secret was there, be it empty
	assertion string
	twice     bool  // two ways of authentication at once, or two client IDs
	trouble   Fault // that is on: [ExpiredSecret], [WrongSecret], [NoConsent]
}

// strength is the claim appidacr: 1 for a secret, 2 for an assertion.
func (c client) strength() string {
	if c.assertion != "" {
		return "2"
	}
	return "1"
}

// client reads the client from the form and from Basic (RFC 6749 §2.3.1): both
// halves of Basic are form-encoded before base64.
func (x *exchange) client() client {
	c := client{
		id: x.form.Get("client_id"), secret: x.form.Get("client_secret"),
		hasSecret: x.form.Has("client_secret"), assertion: x.form.Get("client_assertion"),
	}
	if id, secret, ok := x.r.BasicAuth(); ok {
		id, errID := url.QueryUnescape(id)
		secret, errSecret := url.QueryUnescape(secret)
		if errID != nil || errSecret != nil {
			secret = "" // matches nothing
		}
		c.twice = c.hasSecret || (c.id != "" && c.id != id)
		c.id, c.secret, c.hasSecret = id, secret, true
	}
	c.twice = c.twice || (c.hasSecret && c.assertion != "")
	return c
}

// authenticate checks whatever credential the request shows for a.
func (e *Entra) authenticate(x *exchange, who client, a *app) *refusal {
	switch {
	case who.twice: // RFC 6749 §2.3: one method per request
		return malformed()
	case who.assertion != "":
		return e.checkAssertion(x, who, a)
	case x.form.Has("client_assertion") || (who.hasSecret && who.secret == ""):
		return refuse("invalid_client", 7000218,
			"The request body must contain the following parameter: 'client_assertion' or 'client_secret'.")
	case !who.hasSecret:
		return refuse("invalid_client", 7000216,
			"'client_assertion', 'client_secret' or 'request' is required for the 'client_credentials' grant type.")
	}
	for _, s := range a.secrets {
		if subtle.ConstantTimeCompare([]byte(s.Value), []byte(who.secret)) != 1 || who.trouble == WrongSecret {
			continue
		}
		if who.trouble == ExpiredSecret || !x.now.Before(s.Expires) {
			return refuse("invalid_client", 7000222,
				"The provided client secret keys for app '%s' are expired. Visit the Azure portal to create new keys for your app: "+
					"https://aka.ms/NewClientSecret, or consider using certificate credentials for added security: https://aka.ms/certCreds.", a.id)
		}
		return nil
	}
	return refuse("invalid_client", 7000215,
		"Invalid client secret provided. Ensure the secret being sent in the request is the client secret value, "+
			"not the client secret ID, for a secret added to app '%s'.", a.id)
}

// checkAssertion tells an assertion of the app's own from a federated one: its
// own names the app as issuer, or a certificate in its header.
func (e *Entra) checkAssertion(x *exchange, who client, a *app) *refusal {
	switch x.form.Get("client_assertion_type") {
	case assertionType:
	case "":
		return missing("client_assertion_type")
	default:
		return malformed()
	}
	claims := jwt.MapClaims{}
	t, _, err := jwt.NewParser(jwt.WithJSONNumber()).ParseUnverified(who.assertion, claims)
	if err != nil {
		return badJWT()
	}
	_, sha256Named := t.Header["x5t#S256"]
	_, sha1Named := t.Header["x5t"]
	own := strings.EqualFold(text(claims, "iss"), a.id)
	if own && !sha256Named && !sha1Named {
		return refuse("invalid_client", 5002723,
			"Invalid JWT token. No certificate SHA-1 thumbprint, certificate SHA-256 thumbprint, nor keyId specified in token header.")
	}
	// The keys of a federated issuer may carry x5t as well; only the issuer
	// decides then.
	if own || sha256Named || (sha1Named && !strings.Contains(text(claims, "iss"), "://")) {
		return e.checkCertificate(x, t, a)
	}
	return e.checkFederated(x, who.assertion, claims, a)
}

func badJWT() *refusal { return refuse("invalid_client", 50027, "JWT token is invalid or malformed.") }

// checkCertificate verifies an assertion of the app's own: PS256 under
// x5t#S256, or RS256 under x5t.
func (e *Entra) checkCertificate(x *exchange, t *jwt.Token, a *app) *refusal {
	claims, _ := t.Claims.(jwt.MapClaims)
	iss, sub := text(claims, "iss"), text(claims, "sub")
	switch {
	case iss != sub:
		return refuse("invalid_client", 50048, "Subject mismatches Issuer claim in the client assertion.")
	case !strings.EqualFold(sub, a.id):
		return refuse("invalid_client", 700021, "Client assertion application identifier doesn't match 'client_id' parameter.")
	}
	cert, no := namedCertificate(x, t, a)
	if no != nil {
		return no
	}
	if x.now.Before(cert.NotBefore) || x.now.After(cert.NotAfter) {
		return refuse("invalid_client", 1000502, "The provided certificate is not within its specified validity period.")
	}
	p := jwt.NewParser(jwt.WithValidMethods([]string{t.Method.Alg()}), jwt.WithoutClaimsValidation())
	if _, err := p.Parse(t.Raw, func(*jwt.Token) (any, error) { return keyOf(cert), nil }); err != nil {
		return badSignature("The provided signature value did not match the expected signature value.", cert)
	}
	// One string: a list is legal JWT, but no Microsoft library sends one, and
	// golang-jwt's default of writing one is the mistake to catch.
	if aud, ok := claims["aud"].(string); !ok || aud != x.endpoint() {
		return refuse("invalid_client", 700023, "Client assertion audience claim does not match Realm issuer. Review the documentation at "+
			"https://docs.microsoft.com/azure/active-directory/develop/active-directory-certificate-credentials .")
	}
	if no := checkTimes(x, claims); no != nil {
		return no
	}
	if no := e.checkReplay(x, claims, a); no != nil {
		return no
	}
	e.remember(t, claims, a)
	return nil
}

// namedCertificate returns the certificate that the header names, under the
// member that belongs to its algorithm: a registered one, or one that comes
// along in x5c and that the app lets in by subject and issuer. The thumbprint
// may be base64url or, as MSAL Go writes it, padded base64.
func namedCertificate(x *exchange, t *jwt.Token, a *app) (*x509.Certificate, *refusal) {
	member := map[string]string{"PS256": "x5t#S256", "RS256": "x5t"}[t.Method.Alg()]
	named, _ := t.Header[member].(string)
	if member == "" || named == "" {
		return nil, badJWT()
	}
	sum, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(strings.NewReplacer("+", "-", "/", "_").Replace(named), "="))
	if err != nil || (member == "x5t#S256") != (len(sum) == sha256.Size) {
		return nil, badJWT()
	}
	sent, no := chain(t, sum)
	if no != nil {
		return nil, no
	}
	cert := a.byThumbprint(sum)
	if cert == nil && sent != nil {
		return a.bySubject(x, sent)
	}
	if cert == nil {
		return nil, refuse("invalid_client", 700027,
			"The certificate with identifier used to sign the client assertion is not registered on application. "+
				"[Reason - The key was not found., Thumbprint of key used by client: '%s', Please visit the Azure Portal, Graph Explorer or "+
				"directly use MS Graph to see configured keys for app Id '%s'.]", strings.ToUpper(hex.EncodeToString(sum)), a.id)
	}
	return cert, nil
}

func badSignature(reason string, cert *x509.Certificate) *refusal {
	found := ""
	if cert != nil {
		const layout = "01/02/2006 15:04:05"
		found = ", Found key 'Start=" + cert.NotBefore.UTC().Format(layout) + ", End=" + cert.NotAfter.UTC().Format(layout) + "'"
	}
	return refuse("invalid_client", 700027, "Client assertion contains an invalid signature. [Reason - %s%s]", reason, found)
}

// checkTimes holds exp and nbf against the World's clock.
func checkTimes(x *exchange, claims jwt.MapClaims) *refusal {
	exp, ok := seconds(claims, "exp")
	if !ok {
		return badJWT()
	}
	nbf, ok := seconds(claims, "nbf")
	if !ok {
		nbf, _ = seconds(claims, "iat")
	}
	if x.now.Before(exp) && !nbf.After(x.now.Add(clockTolerance)) {
		return nil
	}
	const layout = "2006-01-02T15:04:05.0000000Z"
	return refuse("invalid_client", 700024,
		"Client assertion is not within its valid time range. Current time: %s, assertion valid from %s, expiry time of assertion %s. "+
			"Review the documentation at https://docs.microsoft.com/azure/active-directory/develop/active-directory-certificate-credentials .",
		x.now.UTC().Format(layout), nbf.UTC().Format(layout), exp.UTC().Format(layout))
}

// checkReplay refuses an assertion whose jti has been used (RFC 7523 §3 item
// 7). The real service may be more patient; clients must not count on it.
func (e *Entra) checkReplay(x *exchange, claims jwt.MapClaims, a *app) *refusal {
	jti := text(claims, "jti")
	if jti == "" || len(jti) > 256 {
		return badJWT()
	}
	exp, _ := seconds(claims, "exp")
	if !e.replays.first(a.id+" "+jti, exp, x.now) {
		return refuse("invalid_client", 50013, "Assertion is invalid. [Reason - An assertion with this jti was used before.]")
	}
	return nil
}
