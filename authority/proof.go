package authority

import (
	"context"
	"encoding/base64"
	"maps"
	"net/url"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/seed-13b04e61/gateway/secrets"
)

// assertionType says that client_assertion is a JWT (RFC 7523 §2.2).
const assertionType = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

// A prover proves to a token endpoint who the client is.
type prover interface {
	// prove makes the proof for one request. An error is a [trouble], found
	// before anything was sent, or the [*Error] of whoever was asked for it.
	prove(ctx context.Context, to target) (proof, error)
}

// target is whom a proof is for.
type target struct {
	endpoint string   // the token endpoint's URL, which an assertion names as its audience
	algs     []string // signing algorithms that it is known to take; nil: unknown
}

// proof is what one request carries of the credential.
type proof struct {
	form          url.Values // client_id and what goes with it
	authorization string     // the header of that name; "" for none
	hidden        []string   // what no error text may repeat, should the server echo it
	facts         string     // for the operator, when this proof is refused
}

// secretProver is client_secret_post or client_secret_basic.
type secretProver struct {
	clientID string
	secret   secrets.Secret
	basic    bool
}

// loadSecret reads the secret and tells what looks wrong with it. The value
// and its ID lie side by side in the portal, and the ID is easily the one copied.
func (id *identity) loadSecret() ([]Finding, error) {
	c := &id.credential
	id.kind = kindSecret
	secret, err := c.ClientSecret.Read()
	if err != nil {
		return nil, &trouble{
			what:   "client_secret",
			remedy: supply("the secret's value", c.ClientSecret),
			cause:  err,
		}
	}
	id.prover = secretProver{clientID: c.ClientID, secret: secret, basic: c.AuthMethod == "client_secret_basic"}
	id.fingerprint = id.fingerprintOf(secret.Fingerprint())

	var findings []Finding
	value := secret.Reveal()
	if c.Entra() && len(value) == 36 && uuid.Validate(value) == nil {
		id.guid = true
		findings = append(findings, id.warning(
			"the client secret from "+c.ClientSecret.String()+" has the shape of a GUID: it is likely the secret's ID and not its value",
			"create a secret under Certificates & secrets and copy the column Value"))
	}
	if strings.TrimSpace(value) != value {
		findings = append(findings, id.warning(
			"the client secret from "+c.ClientSecret.String()+" begins or ends with white space, which is sent as it is",
			"take the white space out if the secret does not have it"))
	}
	return findings, nil
}

// supply says how what, which cannot be read from ref, gets there.
func supply(what string, ref secrets.Ref) string {
	switch {
	case ref.Env != "":
		return "set " + ref.Env + " to " + what + " where the gateway is started, and start it anew; {file: PATH} instead needs no restart"
	case len(ref.Exec) > 0:
		return "run the command by hand as the gateway's user: it must print " + what + " alone, within 10 s; serve, check and token need --allow-exec"
	}
	return "put " + what + " into " + ref.String() + ", readable for the gateway's user; it is read again at once"
}

// prove puts the secret into the body, or into a Basic header, for which both
// halves are form-encoded first (RFC 6749 §2.3.1).
func (p secretProver) prove(context.Context, target) (proof, error) {
	secret := p.secret.Reveal()
	encoded := url.QueryEscape(secret)
	if !p.basic {
		return proof{
			form:   url.Values{"client_id": {p.clientID}, "client_secret": {secret}},
			hidden: []string{secret, encoded},
		}, nil
	}
	both := base64.StdEncoding.EncodeToString([]byte(url.QueryEscape(p.clientID) + ":" + encoded))
	return proof{
		form:          url.Values{},
		authorization: "Basic " + both,
		hidden:        []string{secret, encoded, both},
	}, nil
}

// lifetime is from when on an assertion may be used, and for how long.
type lifetime struct {
	from time.Time
	of   time.Duration
}

// assertionClaims are what a client says of itself (RFC 7523 §3) beside extra,
// over which its own always win. aud is a plain string on purpose, which every
// server understands; jwt.RegisteredClaims would write an array.
func assertionClaims(clientID, endpoint string, extra map[string]any, life lifetime) map[string]any {
	claims := map[string]any{}
	maps.Copy(claims, extra)
	maps.Copy(claims, map[string]any{
		"aud": endpoint,
		"iss": clientID,
		"sub": clientID,
		"jti": uuid.NewString(),
		"nbf": life.from.Unix(),
		"iat": life.from.Unix(),
		"exp": life.from.Add(life.of).Unix(),
	})
	return claims
}

// assertionProof carries a JWT that stands for the client.
func assertionProof(clientID, assertion, facts string) proof {
	return proof{
		form: url.Values{
			"client_id":             {clientID},
			"client_assertion_type": {assertionType},
			"client_assertion":      {assertion},
		},
		hidden: []string{assertion},
		facts:  facts,
	}
}
