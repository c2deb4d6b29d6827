package sandbox

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/subtle"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// maxAssertionLife is how far ahead the exp of an assertion may lie.
const maxAssertionLife = 10 * time.Minute

// assertionAlgs are the algorithms of assertions.
func assertionAlgs() []string {
	return []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}
}

// oauthError is an error answer of RFC 6749 §5.2.
type oauthError struct {
	status     int
	code, text string
	challenge  bool // the client used Authorization, so WWW-Authenticate answers it
}

func oauthBad(code, text string) *oauthError {
	return &oauthError{status: http.StatusBadRequest, code: code, text: text}
}

func oauthStranger(text string) *oauthError {
	return &oauthError{status: http.StatusUnauthorized, code: "invalid_client", text: text}
}

// serveToken answers the token endpoint.
func (o *OAuth) serveToken(w http.ResponseWriter, r *http.Request) {
	form, no := o.readForm(w, r)
	o.mu.Lock()
	o.requests++
	seen := o.observe
	o.mu.Unlock()
	if seen != nil {
		seen(TokenRequest{URL: o.TokenURL(), Header: r.Header.Clone(), Form: cloneForm(form)})
	}
	f := o.failing.meet()
	if !f.wait(r.Context()) {
		panic(http.ErrAbortHandler) // the client has left
	}
	if f.Kind == Redirect {
		http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
		return
	}
	if f.answer(w, o.clock.now()) {
		return
	}
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Pragma", "no-cache")
	var answer map[string]any
	if no == nil {
		answer, no = o.issue(r, form, f.Kind)
	}
	if no != nil {
		if no.challenge {
			w.Header().Set("WWW-Authenticate", `Basic realm="sandbox"`)
		}
		writeJSON(w, no.status, map[string]string{"error": no.code, "error_description": no.text})
		return
	}
	f.spoil(answer)
	writeJSON(w, http.StatusOK, answer)
}

// readForm returns the parameters of the body. Those of RFC 6749 may come
// once, and none of them in the URL.
func (o *OAuth) readForm(w http.ResponseWriter, r *http.Request) (url.Values, *oauthError) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxForm))
	if err != nil {
		return nil, oauthBad("invalid_request", "the body is too long or broke off")
	}
	if r.Method != http.MethodPost {
		return nil, &oauthError{status: http.StatusMethodNotAllowed, code: "invalid_request", text: "only POST is allowed"}
	}
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || kind != "application/x-www-form-urlencoded" {
		return nil, oauthBad("invalid_request", "the body is no form")
	}
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return nil, oauthBad("invalid_request", "the form is malformed")
	}
	for name, values := range form {
		if len(values) > 1 && name != "resource" && name != "audience" {
			return form, oauthBad("invalid_request", "the parameter "+clip(name, 64)+" came twice")
		}
	}
	for name := range r.URL.Query() {
		if strings.HasPrefix(name, "client_") {
			return form, oauthBad("invalid_request", "credentials must not be in the URL")
		}
	}
	return form, nil
}

// issue judges a request and returns the answer's members.
func (o *OAuth) issue(r *http.Request, form url.Values, trouble Fault) (map[string]any, *oauthError) {
	c, method, no := o.authenticate(r, form)
	if no == nil && trouble == WrongSecret {
		no = oauthStranger("client authentication failed")
	}
	if no != nil {
		no.challenge = no.code == "invalid_client" && r.Header.Get("Authorization") != ""
		return nil, no
	}
	switch form.Get("grant_type") {
	case "client_credentials":
	case "":
		return nil, oauthBad("invalid_request", "the parameter grant_type is missing")
	default:
		return nil, oauthBad("unsupported_grant_type", "only client_credentials is supported")
	}
	scopes, no := o.scopes(strings.Fields(form.Get("scope")), c)
	if no != nil {
		return nil, no
	}
	aud, no := o.audience(form)
	if no != nil {
		return nil, no
	}
	now := o.clock.now()
	token, err := o.grant(Grant{ClientID: c.ID, Method: method, Scopes: scopes, Audience: aud, Issued: now, Expires: now.Add(o.opts.Lifetime)})
	if err != nil {
		return nil, &oauthError{status: http.StatusInternalServerError, code: "server_error", text: "the token could not be signed"}
	}
	answer := map[string]any{"access_token": token, "token_type": "Bearer", "expires_in": int64(o.opts.Lifetime.Seconds())}
	if len(scopes) > 0 {
		answer["scope"] = strings.Join(scopes, " ")
	}
	return answer, nil
}

func (o *OAuth) scopes(asked []string, c OAuthClient) ([]string, *oauthError) {
	for _, s := range asked {
		for _, known := range [][]string{o.opts.Scopes, c.Scopes} {
			if len(known) > 0 && !slices.Contains(known, s) {
				return nil, oauthBad("invalid_scope", "the scope "+clip(s, 64)+" is unknown or not this client's")
			}
		}
	}
	if len(asked) == 0 {
		return c.Scopes, nil
	}
	return asked, nil
}

func (o *OAuth) audience(form url.Values) ([]string, *oauthError) {
	aud := append(slices.Clone(form["audience"]), form["resource"]...)
	for _, r := range form["resource"] {
		if u, err := url.Parse(r); err != nil || !u.IsAbs() || u.Fragment != "" {
			return nil, oauthBad("invalid_target", "a resource is an absolute URI without fragment")
		}
	}
	for _, a := range aud {
		if len(o.opts.Audiences) > 0 && !slices.Contains(o.opts.Audiences, a) {
			return nil, oauthBad("invalid_target", "the audience "+clip(a, 128)+" is unknown")
		}
	}
	if len(aud) == 0 {
		return []string{o.Issuer()}, nil
	}
	return aud, nil
}

// authenticate finds the client and by which method it proved itself.
func (o *OAuth) authenticate(r *http.Request, form url.Values) (c OAuthClient, method string, no *oauthError) {
	user, password, basic := r.BasicAuth()
	ways := 0
	for _, has := range []bool{r.Header.Get("Authorization") != "", form.Has("client_secret"), form.Has("client_assertion")} {
		if has {
			ways++
		}
	}
	id := form.Get("client_id")
	switch {
	case ways > 1:
		return c, "", oauthBad("invalid_request", "more than one way of client authentication")
	case form.Has("client_assertion"):
		return o.byAssertion(form)
	case basic:
		method = SecretBasic
		var errID, errSecret error
		user, errID = url.QueryUnescape(user)
		password, errSecret = url.QueryUnescape(password)
		if errID != nil || errSecret != nil || (id != "" && id != user) {
			return c, "", oauthStranger("client authentication failed")
		}
		id = user
	case form.Has("client_secret"):
		method, password = SecretPost, form.Get("client_secret")
	default:
		return c, "", oauthStranger("no client authentication")
	}
	c, ok := o.client(id)
	if !ok || (c.Method != "" && c.Method != method) {
		return c, "", oauthStranger("client authentication failed")
	}
	for _, s := range c.Secrets {
		if subtle.ConstantTimeCompare([]byte(s), []byte(password)) == 1 {
			return c, method, nil
		}
	}
	return c, "", oauthStranger("client authentication failed")
}

func (o *OAuth) client(id string) (OAuthClient, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	c, ok := o.clients[id]
	return c, ok
}

// byAssertion verifies a private_key_jwt (RFC 7523 §3, OpenID Connect Core §9).
func (o *OAuth) byAssertion(form url.Values) (c OAuthClient, method string, no *oauthError) {
	if form.Get("client_assertion_type") != assertionType {
		return c, "", oauthBad("invalid_request", "the client_assertion_type is not "+assertionType)
	}
	algs := o.opts.Algs
	if len(algs) == 0 {
		algs = assertionAlgs()
	}
	claims := jwt.MapClaims{}
	p := jwt.NewParser(jwt.WithValidMethods(algs), jwt.WithoutClaimsValidation(), jwt.WithJSONNumber())
	_, err := p.ParseWithClaims(form.Get("client_assertion"), claims, func(t *jwt.Token) (any, error) {
		var ok bool
		if c, ok = o.client(text(claims, "sub")); !ok {
			return nil, errNoKey
		}
		return c.key(t)
	})
	if err != nil {
		return c, "", oauthStranger("the assertion is not signed by a key of the client")
	}
	now := o.clock.now()
	exp, okExp := seconds(claims, "exp")
	nbf, _ := seconds(claims, "nbf")
	iat, _ := seconds(claims, "iat")
	jti := text(claims, "jti")
	id := form.Get("client_id")
	switch {
	case text(claims, "iss") != c.ID || (id != "" && id != c.ID):
		return c, "", oauthStranger("iss, sub and client_id of the assertion are not one")
	case c.Method != "" && c.Method != PrivateKey:
		return c, "", oauthStranger("the client may not use " + PrivateKey)
	case !slices.ContainsFunc(audiences(claims), func(a string) bool { return a == o.TokenURL() || a == o.Issuer() }):
		return c, "", oauthStranger("the assertion is for another audience")
	case !okExp || !now.Before(exp) || exp.After(now.Add(maxAssertionLife)):
		return c, "", oauthStranger("the assertion has expired, or lives too long")
	case nbf.After(now.Add(time.Minute)) || iat.After(now.Add(time.Minute)):
		return c, "", oauthStranger("the assertion is from the future")
	case jti == "" || len(jti) > 256 || !o.replays.first(c.ID+" "+jti, exp, now):
		return c, "", oauthStranger("the assertion has no jti, or one that was used before")
	}
	return c, PrivateKey, nil
}

// key returns the client's key for t: the one that its kid names, or, without
// kid, the only one. It has to be of the algorithm's kind.
func (c OAuthClient) key(t *jwt.Token) (crypto.PublicKey, error) {
	kid, named := t.Header["kid"].(string)
	key, ok := c.Keys[kid]
	if !named && len(c.Keys) == 1 {
		for _, key = range c.Keys {
			ok = true
		}
	}
	alg := t.Method.Alg()
	fits := false
	switch k := key.(type) {
	case *rsa.PublicKey:
		fits = alg[:2] == "RS" || alg[:2] == "PS"
	case *ecdsa.PublicKey:
		fits = alg == map[int]string{256: "ES256", 384: "ES384", 521: "ES512"}[k.Params().BitSize]
	case ed25519.PublicKey:
		fits = alg == "EdDSA"
	}
	if !ok || !fits {
		return nil, errNoKey
	}
	return key, nil
}

// replays remembers assertions that were used, until they expire. The zero
// value remembers none.
type replays struct {
	mu   sync.Mutex // guards seen
	seen map[string]time.Time
}

// maxReplayed bounds the assertions that are remembered.
const maxReplayed = 50_000

// first reports whether key has not been used, and notes it.
func (p *replays) first(key string, exp, now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, ok := p.seen[key]; ok {
		return false
	}
	if p.seen == nil {
		p.seen = map[string]time.Time{}
	}
	if len(p.seen) >= maxReplayed {
		for k, until := range p.seen {
			if until.Before(now) {
				delete(p.seen, k)
			}
		}
	}
	if len(p.seen) < maxReplayed {
		p.seen[key] = exp
	}
	return true
}
