package sandbox

import (
	"context"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"
)

// An Issuer is a small identity provider of the kind that Entra federates
// with, as a Kubernetes cluster is one: discovery, keys, and tokens by method.
type Issuer struct {
	clock *clock
	srv   *server
	keys  func() (*signer, error) // made at first need
}

func startIssuer(env *surroundings) (*Issuer, error) {
	i := &Issuer{clock: env.clock, keys: sync.OnceValues(func() (*signer, error) {
		return newSigner("sandbox federated issuer", env.clock.now())
	})}
	var err error
	if i.srv, err = serve("issuer", env, http.HandlerFunc(i.route)); err != nil {
		return nil, err
	}
	return i, nil
}

// URL is the issuer identifier: what iss says and what [Federated] needs.
func (i *Issuer) URL() string { return i.srv.url }

// Token returns a signed token; see [World.FederatedToken].
func (i *Issuer) Token(sub, aud string, ttl time.Duration) (string, error) {
	keys, err := i.keys()
	if err != nil {
		return "", fmt.Errorf("sandbox: federated token: %w", err)
	}
	now := i.clock.now()
	return keys.sign(jwt.MapClaims{
		// A list, as Kubernetes writes it.
		"iss": i.URL(), "sub": sub, "aud": []string{aud}, "jti": uuid.NewString(),
		"iat": now.Unix(), "nbf": min(now.Unix(), now.Add(ttl).Unix()), "exp": now.Add(ttl).Unix(),
	})
}

func (i *Issuer) route(w http.ResponseWriter, r *http.Request) {
	if !onlyGET(w, r) {
		return
	}
	switch r.URL.Path {
	case "/.well-known/openid-configuration":
		writeJSON(w, http.StatusOK, map[string]any{
			"issuer": i.URL(), "jwks_uri": i.URL() + "/keys",
			"response_types_supported":              []string{"id_token"},
			"subject_types_supported":               []string{"public"},
			"id_token_signing_alg_values_supported": []string{"RS256"},
		})
	case "/keys":
		keys, err := i.keys()
		if err != nil {
			http.Error(w, "no key", http.StatusInternalServerError)
			return
		}
		writeJSON(w, http.StatusOK, keys.published(""))
	default:
		http.NotFound(w, r)
	}
}

// checkFederated verifies a token of another issuer against the app's
// federated credentials: signature, exp, and iss, sub, aud letter by letter.
func (e *Entra) checkFederated(x *exchange, raw string, claims jwt.MapClaims, a *app) *refusal {
	if no := matchFederated(claims, a.federated); no != nil {
		return no
	}
	keys, err := e.issuerKeys(x.r.Context(), text(claims, "iss"))
	if err != nil {
		return refuse("invalid_request", 50166, "Request to External OIDC endpoint failed.")
	}
	if _, err := verifyRS256(raw, keys); err != nil {
		return badSignature("The key was not found or the signature did not match.", nil)
	}
	if no := e.checkExchange(claims, a); no != nil {
		return no
	}
	return checkTimes(x, claims)
}

// checkExchange judges a token of this Entra itself as a federated assertion:
// it has to be an app's, and the app and the identity have to be of one tenant.
func (e *Entra) checkExchange(claims jwt.MapClaims, a *app) *refusal {
	iss := text(claims, "iss")
	switch {
	case !strings.HasPrefix(iss, e.URL()+"/"):
		return nil
	case text(claims, "idtyp") != "app":
		return refuse("invalid_client", 700229, "Only app-only tokens can be used as Federated Identity Credentials for AAD issuer.")
	case text(claims, "tid") != a.home:
		return refuse("invalid_client", 700236, "Entra ID tokens issued by issuer '%s' may not be used for federated identity credential flows "+
			"for applications or managed identities registered in this tenant.", clip(iss, 255))
	}
	return nil
}

// matchFederated finds out which of the three values is wrong, in the order
// issuer, subject, audience.
func matchFederated(claims jwt.MapClaims, creds []Federated) *refusal {
	iss, sub, aud := text(claims, "iss"), text(claims, "sub"), audiences(claims)
	const see = "Check your federated identity credential Subject, Audience and Issuer against the presented assertion. " +
		"https://learn.microsoft.com/entra/workload-id/workload-identity-federation"
	no := func(code int, what, value, why string) *refusal {
		return refuse("invalid_client", code, "No matching federated identity record found for presented assertion %s '%s'.%s %s",
			what, clip(value, 255), why, see)
	}
	if len(creds) == 0 {
		return refuse("invalid_client", 70021,
			"No matching federated identity record found for presented assertion. Assertion Issuer: '%s'. Assertion Subject: '%s'. Assertion Audience: '%s'. %s",
			clip(iss, 255), clip(sub, 255), clip(strings.Join(aud, " "), 255), see)
	}
	steps := []struct {
		what          string
		value         string
		code, caseful int
		of            func(Federated) string
	}{
		{"issuer", iss, 700211, 7002137, func(f Federated) string { return f.Issuer }},
		{"subject", sub, 700213, 7002138, func(f Federated) string { return f.Subject }},
	}
	for _, s := range steps {
		left := slices.DeleteFunc(slices.Clone(creds), func(f Federated) bool { return s.of(f) != s.value })
		if len(left) > 0 {
			creds = left
			continue
		}
		if slices.ContainsFunc(creds, func(f Federated) bool { return strings.EqualFold(s.of(f), s.value) }) {
			return no(s.caseful, s.what, s.value,
				" The "+s.what+" matches with case-insensitive comparison, but not with case-sensitive comparison.")
		}
		return no(s.code, s.what, s.value, "")
	}
	if !slices.ContainsFunc(creds, func(f Federated) bool { return slices.Contains(aud, f.Audience) }) {
		return no(700212, "audience", strings.Join(aud, " "), "")
	}
	return nil
}

// audiences returns aud, which may be a string or a list.
func audiences(claims jwt.MapClaims) []string {
	switch v := claims["aud"].(type) {
	case string:
		return []string{v}
	case []any:
		var out []string
		for _, one := range v {
			if s, ok := one.(string); ok {
				out = append(out, s)
			}
		}
		return out
	}
	return nil
}

// issuerClient fetches issuers' documents: no proxy, no redirects, nothing
// kept open.
func issuerClient(caPEM []byte) *http.Client {
	t := &http.Transport{DisableKeepAlives: true}
	if caPEM != nil {
		pool, err := x509.SystemCertPool()
		if err != nil {
			pool = x509.NewCertPool()
		}
		pool.AppendCertsFromPEM(caPEM)
		t.TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	}
	return &http.Client{
		Transport: t, Timeout: 5 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

var errIssuer = errors.New("issuer's documents are not usable")

// issuerKeys fetches the keys of an issuer that a registered credential names.
func (e *Entra) issuerKeys(ctx context.Context, issuer string) (map[string]*rsa.PublicKey, error) {
	doc, err := e.fetch(ctx, strings.TrimSuffix(issuer, "/")+"/.well-known/openid-configuration")
	if err != nil {
		return nil, err
	}
	var meta struct {
		Issuer  string `json:"issuer"`
		JWKSURI string `json:"jwks_uri"`
	}
	if err := json.Unmarshal(doc, &meta); err != nil || meta.Issuer != issuer {
		return nil, errIssuer
	}
	if doc, err = e.fetch(ctx, meta.JWKSURI); err != nil {
		return nil, err
	}
	return parseKeySet(doc)
}

func (e *Entra) fetch(ctx context.Context, url string) ([]byte, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	resp, err := e.web.Do(r)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%w: status %d", errIssuer, resp.StatusCode)
	}
	return io.ReadAll(io.LimitReader(resp.Body, maxForm))
}
