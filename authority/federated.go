package authority

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/seed-13b04e61/gateway/routes"
	"github.com/seed-13b04e61/gateway/secrets"
)

// assertionLimit bounds a federated token, in bytes.
const assertionLimit = 64 << 10

// federatedProver shows a token of another issuer. It asks the source for
// every request: whoever rotates the token does so when it likes, and a
// request is rare.
type federatedProver struct {
	clientID string
	source   source
}

// loadFederated asks a file only, and even that may yet come: it fails for what
// the configuration or the environment has wrong. The configuration stands for
// the token in the fingerprint, so that rotation, which changes nothing about
// who the client is, drops no tokens.
func (id *identity) loadFederated(now time.Time) ([]Finding, error) {
	c := &id.credential
	id.kind = kindFederated
	from, err := id.newSource(os.LookupEnv)
	if err != nil {
		return nil, err
	}
	var findings []Finding
	if c.FederatedToken.IdentityBinding {
		if id.binding, err = newTokenProxy(os.LookupEnv); err != nil {
			return nil, err
		}
		id.host = id.binding.address.Host
		if c.CAFile != "" {
			findings = append(findings, id.warning("ca_file is not used: requests go to the token proxy of AKS, whose CA "+caFileVariable+" names",
				"take ca_file out of the credential"))
		}
	}
	p := federatedProver{clientID: c.ClientID, source: from}
	id.prover = p
	id.fingerprint = id.fingerprintOf(describeSource(c.FederatedToken))
	if _, ok := from.(fileSource); !ok {
		return findings, nil
	}
	token, _, err := p.read(context.Background(), now)
	if err != nil {
		id.state.note(id.local(err))
		return append(findings, Finding{Credential: c.Name, Message: err.Error(), Remedy: remedyOf(err)}), nil
	}
	claims, err := decodeJWT(token)
	if err == nil && id.binding == nil && slices.Contains(audiences(claims["aud"]), bindingAudience) {
		findings = append(findings, id.warning("the federated token is for an identity binding of AKS, and Entra itself will refuse it (AADSTS700211 or 700212)",
			"set identity_binding: true beside the file"))
	}
	return findings, nil
}

// describeSource is the configuration of f as one text, to tell it from another.
func describeSource(f *routes.FederatedToken) string {
	if f.File != "" && !f.IdentityBinding {
		return f.File
	}
	text := fmt.Sprintf("%q %t %q %q %q", f.File, f.IdentityBinding, f.Audience, f.Exec.Env+f.Exec.File, f.Exec.Exec)
	if u := f.URL; u != nil {
		text += fmt.Sprintf(" url %q %q %q %q %q", u.Address, u.Header, u.Format, u.Secret.String(), u.Member)
	}
	if f.GCP != nil {
		text += fmt.Sprintf(" gcp %q", f.GCP.ServiceAccount)
	}
	if m := f.ManagedIdentity; m != nil {
		text += fmt.Sprintf(" managed %q %q %q", m.ClientID, m.ObjectID, m.ResourceID)
	}
	return text
}

func (p federatedProver) prove(ctx context.Context, _ target) (proof, error) {
	assertion, facts, err := p.read(ctx, time.Now())
	if err != nil {
		return proof{}, err
	}
	return assertionProof(p.clientID, assertion.Reveal(), facts), nil
}

// read returns the source's token and what the portal's entry must match in
// it. The signature is not verified: that is Entra's part.
func (p federatedProver) read(ctx context.Context, now time.Time) (assertion secrets.Secret, facts string, err error) {
	assertion, err = p.source.assertion(ctx)
	if err != nil {
		return secrets.Secret{}, "", err
	}
	claims, err := decodeJWT(assertion)
	if err != nil {
		return secrets.Secret{}, "", &trouble{
			what:   "the federated token from " + p.source.String() + " is no JWT",
			remedy: "there must be the issuer's token alone, as header.payload.signature",
			cause:  err,
		}
	}
	if exp, ok := instant(claims["exp"]); ok && !now.Before(exp) {
		return secrets.Secret{}, "", p.stale(now.Sub(exp))
	}
	facts = fmt.Sprintf("federated token sent: issuer %q, subject %q, audience %q; the entry under Federated credentials must have the very same, case and final slashes included",
		clip(claims["iss"]), clip(claims["sub"]), strings.Join(audiences(claims["aud"]), " "))
	return assertion, facts, nil
}

// stale is a token that expired so long ago.
func (p federatedProver) stale(ago time.Duration) error {
	if f, ok := p.source.(fileSource); ok {
		return &trouble{
			what:   "federated token file is stale: expired " + brief(ago) + " ago",
			remedy: "find out why " + f.path + " is no longer renewed; if it is, check this machine's clock",
		}
	}
	return &trouble{
		what:   "the federated token from " + p.source.String() + " is stale: expired " + brief(ago) + " ago",
		remedy: "find out why there is no newer one; if there is, check this machine's clock",
	}
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
