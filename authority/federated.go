package authority

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/seed-13b04e61/gateway/secrets"
)

// assertionLimit bounds a federated token, in bytes.
const assertionLimit = 64 << 10

// federatedProver shows a token that another issuer wrote into a file. It
// reads the file for every request: whoever rotates it does so when it likes,
// and a request is rare.
type federatedProver struct {
	clientID string
	file     string
}

// loadFederated never fails: the file may yet come, and is read anew anyway.
// Its path stands for it in the fingerprint, so that rotation, which changes
// nothing about who the client is, drops no tokens.
func (id *identity) loadFederated(now time.Time) []Finding {
	c := &id.credential
	p := federatedProver{clientID: c.ClientID, file: c.FederatedToken.File}
	id.kind, id.prover = kindFederated, p
	id.fingerprint = id.fingerprintOf(c.FederatedToken.File)
	if _, _, err := p.read(now); err != nil {
		id.state.note(id.local(err))
		return []Finding{{Credential: c.Name, Message: err.Error(), Remedy: remedyOf(err)}}
	}
	return nil
}

func (p federatedProver) prove(context.Context, target) (proof, error) {
	assertion, facts, err := p.read(time.Now())
	if err != nil {
		return proof{}, err
	}
	return assertionProof(p.clientID, assertion.Reveal(), facts), nil
}

// read returns the file's token and what the portal's entry must match in it.
// The signature is not verified: that is Entra's part.
func (p federatedProver) read(now time.Time) (assertion secrets.Secret, facts string, err error) {
	assertion, err = secrets.Ref{File: p.file}.Read()
	if err != nil {
		return secrets.Secret{}, "", &trouble{
			what:   "federated token file cannot be read",
			remedy: "check that the token is projected into this container, and the path",
			cause:  err,
		}
	}
	claims, err := decodeJWT(assertion)
	if err != nil {
		return secrets.Secret{}, "", &trouble{
			what:   "federated token file " + p.file + " does not hold a JWT",
			remedy: "the file must hold the issuer's token alone, as header.payload.signature",
			cause:  err,
		}
	}
	if exp, ok := instant(claims["exp"]); ok && !now.Before(exp) {
		return secrets.Secret{}, "", &trouble{
			what:   fmt.Sprintf("federated token file is stale: expired %s ago", brief(now.Sub(exp))),
			remedy: "find out why " + p.file + " is no longer renewed; if it is, check this machine's clock",
		}
	}
	facts = fmt.Sprintf("federated token sent: issuer %q, subject %q, audience %q; the entry under Federated credentials must have the very same, case and final slashes included",
		clip(claims["iss"]), clip(claims["sub"]), strings.Join(audiences(claims["aud"]), " "))
	return assertion, facts, nil
}

// errNotJWT says that a string is not a signed JWT.
var errNotJWT = errors.New("not three base64url parts around a JSON object")

// decodeJWT returns the claims of a compact JWS (RFC 7515 §7.1), unverified.
func decodeJWT(token secrets.Secret) (map[string]any, error) {
	text := token.Reveal()
	if len(text) > assertionLimit {
		return nil, fmt.Errorf("larger than %d bytes", assertionLimit)
	}
	parts := strings.Split(text, ".")
	if len(parts) != 3 {
		return nil, errNotJWT
	}
	var payload []byte
	for i, part := range parts {
		decoded, err := base64.RawURLEncoding.DecodeString(part)
		if err != nil || strings.ContainsAny(part, "\r\n") {
			return nil, errNotJWT
		}
		if i == 1 {
			payload = decoded
		}
	}
	var claims map[string]any
	if err := json.Unmarshal(payload, &claims); err != nil || claims == nil {
		return nil, errNotJWT
	}
	return claims, nil
}

// instant reads a NumericDate (RFC 7519 §2), as a number or as digits.
func instant(v any) (time.Time, bool) {
	var seconds float64
	switch n := v.(type) {
	case float64:
		seconds = n
	case string:
		if err := json.Unmarshal([]byte(n), &seconds); err != nil {
			return time.Time{}, false
		}
	default:
		return time.Time{}, false
	}
	if math.Abs(seconds) > 1<<40 { // far beyond any calendar, and safe to convert
		return time.Time{}, false
	}
	return time.Unix(int64(seconds), 0), true
}

// audiences reads aud, which is a string or several (RFC 7519 §4.1.3).
func audiences(v any) []string {
	if list, ok := v.([]any); ok {
		return texts(list)
	}
	return texts([]any{v})
}

func texts(list []any) []string {
	var out []string
	for _, v := range list {
		if s := clip(v); s != "" {
			out = append(out, s)
		}
	}
	return out
}

// clip returns a claim that is a string, fit for a message.
func clip(v any) string {
	s, _ := v.(string)
	return clean(s, nil, 256)
}
