package sandbox

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"
)

// maxClaims bounds the form field claims, and maxAsked the members of its
// access_token object.
const (
	maxClaims = 8 << 10
	maxAsked  = 16
)

// longLife is the lifetime of a token for a client that declared cp1.
const longLife = 24 * time.Hour

// serveToken answers POST /{tenant}/oauth2/v2.0/token.
func (e *Entra) serveToken(w http.ResponseWriter, x *exchange) {
	form, no := readForm(w, x.r)
	x.form = form
	who := x.client()
	f := e.failing.meet()
	e.note(TokenRequest{URL: x.endpoint(), Header: x.r.Header.Clone(), Form: cloneForm(form)}, who.id)
	if !f.wait(x.r.Context()) {
		panic(http.ErrAbortHandler) // the client has left
	}
	if f.replace(w, x) {
		return
	}
	var answer map[string]any
	if no == nil {
		who.trouble = f.Kind
		if no = e.orderedRefusal(x, who.id); no == nil {
			answer, no = e.issue(x, who)
		}
	}
	if no != nil {
		no.write(w, x)
		return
	}
	f.spoil(answer)
	x.dress(w)
	writeJSON(w, http.StatusOK, answer)
}

// endpoint is the address that the client used, which an assertion's aud has
// to repeat.
func (x *exchange) endpoint() string { return x.origin + x.r.URL.EscapedPath() }

func cloneForm(f url.Values) url.Values { return url.Values(http.Header(f).Clone()) }

// readForm returns the parameters of the body; those of the URL do not count
// (RFC 6749 §3.2). Each may come once.
func readForm(w http.ResponseWriter, r *http.Request) (url.Values, *refusal) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxForm))
	if err != nil {
		return nil, malformed()
	}
	if r.Method != http.MethodPost {
		return nil, refuse("invalid_request", 900561,
			"The endpoint only accepts POST requests. Received a %s request.", clip(r.Method, 16))
	}
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || kind != "application/x-www-form-urlencoded" {
		return nil, missing("grant_type") // the body is not looked at
	}
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return nil, malformed()
	}
	for _, values := range form {
		if len(values) > 1 {
			return form, malformed()
		}
	}
	return form, nil
}

// issue judges a token request and returns the answer's members.
func (e *Entra) issue(x *exchange, who client) (map[string]any, *refusal) {
	t, no := e.findTenant(x)
	if no != nil {
		return nil, no
	}
	if no := e.wrongCloud(t); no != nil {
		return nil, no
	}
	aud, no := x.audience(who)
	if no != nil {
		return nil, no
	}
	a, no := e.findApp(who.id, t)
	if no != nil {
		return nil, no
	}
	if no := e.authenticate(x, who, a); no != nil {
		return nil, no
	}
	e.mu.RLock()
	resource := e.dir.resource(aud, "")
	e.mu.RUnlock()
	if resource == "" {
		return nil, noResource(aud, t)
	}
	asked, no := parseClaims(x.form.Get("claims"))
	if no != nil {
		return nil, no
	}
	return e.mint(mintage{tenant: t, app: a, who: who, aud: aud, resource: resource, asked: asked})
}

func noResource(aud string, t *tenant) *refusal {
	return refuse("invalid_resource", 500011,
		"The resource principal named %s was not found in the tenant named %s. This can happen if the application has not been "+
			"installed by the administrator of the tenant or consented to by any user in the tenant. "+
			"You might have sent your authentication request to the wrong tenant.", clip(aud, 255), t.name())
}

// unsigned is the answer when a token could not be signed.
func unsigned() *refusal {
	return &refusal{status: http.StatusInternalServerError, oauth: "server_error", code: 50000, text: "There was an error issuing a token."}
}

func (t *tenant) name() string {
	if t.domain != "" {
		return t.domain
	}
	return t.id
}

// findApp returns a copy of the app if it has a service principal in t.
func (e *Entra) findApp(id string, t *tenant) (*app, *refusal) {
	e.mu.RLock()
	defer e.mu.RUnlock()
	a, ok := e.dir.apps[strings.ToLower(id)]
	if !ok || a.principals[t.id] == "" {
		return nil, refuse("unauthorized_client", 700016,
			"Application with identifier '%s' was not found in the directory '%s'. This can happen if the application has not been "+
				"installed by the administrator of the tenant or consented to by any user in the tenant. "+
				"You may have sent your authentication request to the wrong tenant.", clip(id, 64), t.name())
	}
	return a.clone(), nil
}

// audience checks the parameters of the grant and returns the audience that
// scope asks for: everything before its last slash.
func (x *exchange) audience(who client) (string, *refusal) {
	switch grant := x.form.Get("grant_type"); {
	case grant == "":
		return "", missing("grant_type")
	case grant != "client_credentials":
		return "", refuse("unsupported_grant_type", 70003, "The app requested an unsupported grant type '%s'.", clip(grant, 64))
	case who.id == "":
		return "", missing("client_id")
	case x.form.Has("resource"):
		return "", refuse("invalid_request", 901002, "The 'resource' request parameter is not supported.")
	}
	whole := clip(x.form.Get("scope"), 512)
	scopes := slices.DeleteFunc(strings.Fields(x.form.Get("scope")), func(s string) bool {
		// MSAL Go sends these along; they mean nothing here and are let pass.
		return s == "openid" || s == "profile" || s == "offline_access"
	})
	if len(scopes) == 0 {
		return "", missing("scope")
	}
	for _, s := range scopes {
		if !strings.HasSuffix(s, "/.default") {
			return "", refuse("invalid_scope", 1002012,
				"The provided value for scope %s is not valid. Client credential flows must have a scope value with /.default "+
					"suffixed to the resource identifier (application ID URI).", whole)
		}
		if s != scopes[0] {
			return "", refuse("invalid_scope", 28000,
				"Provided value for the input parameter scope is not valid because it contains more than one resource. Scope %s is not valid.", whole)
		}
	}
	aud := strings.TrimSuffix(scopes[0], "/.default")
	if aud == "" || len(scopes) > 1 {
		return "", refuse("invalid_scope", 70011,
			"The provided request must include a 'scope' input parameter. The provided value for the input parameter 'scope' "+
				"is not valid. The scope %s is not valid.", whole)
	}
	return aud, nil
}

// asked is what the form field claims wanted of the token.
type asked struct {
	cp1     bool
	members map[string]string // of access_token, without xms_cc, each as its fingerprint
}

// parseClaims reads the form field claims: JSON text, not base64.
func parseClaims(field string) (asked, *refusal) {
	if field == "" {
		return asked{}, nil
	}
	var doc struct {
		AccessToken map[string]json.RawMessage `json:"access_token"`
	}
	if len(field) > maxClaims || json.Unmarshal([]byte(field), &doc) != nil || len(doc.AccessToken) > maxAsked {
		return asked{}, malformed()
	}
	var cc struct {
		Values []string `json:"values"`
	}
	if raw, ok := doc.AccessToken["xms_cc"]; ok && json.Unmarshal(raw, &cc) != nil {
		return asked{}, malformed()
	}
	a := asked{cp1: slices.ContainsFunc(cc.Values, func(v string) bool { return strings.EqualFold(v, "cp1") })}
	delete(doc.AccessToken, "xms_cc")
	a.members = fingerprints(doc.AccessToken)
	return a, nil
}

// fingerprints returns a short hash of each value, equal for equal JSON
// whatever its spacing.
func fingerprints(members map[string]json.RawMessage) map[string]string {
	out := map[string]string{}
	for name, raw := range members {
		var v any
		if json.Unmarshal(raw, &v) != nil {
			continue
		}
		canonical, _ := json.Marshal(v) // it has just been JSON
		sum := sha256.Sum256(canonical)
		out[name] = hex.EncodeToString(sum[:8])
	}
	return out
}

// provenance travels in the claim aio, which in real tokens too is opaque and
// for the service's own use: by it Graph knows the order of issue, which whole
// seconds of iat would blur, and the claims that were asked.
type provenance struct {
	Serial uint64            `json:"n"`
	Asked  map[string]string `json:"c,omitempty"`
}

func (p provenance) encode() string {
	raw, _ := json.Marshal(p) // numbers and strings only
	return base64.RawURLEncoding.EncodeToString(raw)
}

func decodeProvenance(aio string) (p provenance, err error) {
	raw, err := base64.RawURLEncoding.DecodeString(aio)
	if err != nil {
		return p, err
	}
	return p, json.Unmarshal(raw, &p)
}

// mintage is everything that goes into one token.
type mintage struct {
	tenant   *tenant
	app      *app
	who      client
	aud      string
	resource string
	asked    asked
}

// mint signs a v1.0 access token and returns the answer that carries it.
func (e *Entra) mint(m mintage) (map[string]any, *refusal) {
	now := e.clock.now() // not the exchange's: a slow one began long ago
	e.mu.RLock()
	life, refresh := e.lifetime, e.refreshIn
	e.mu.RUnlock()
	if life == 0 {
		life = DefaultLifetime
		if m.asked.cp1 && m.resource == GraphResource {
			life = longLife
			if refresh == 0 {
				refresh = longLife / 2
			}
		}
	}
	token, err := e.keys.sign(e.claims(m, now, life))
	if err != nil {
		return nil, unsigned()
	}
	answer := map[string]any{
		"token_type": "Bearer", "access_token": token,
		"expires_in": int64(life.Seconds()), "ext_expires_in": int64(life.Seconds()),
	}
	if refresh > 0 {
		answer["refresh_in"] = int64(refresh.Seconds())
	}
	return answer, nil
}

// claims returns those of a v1.0 app-only token, and counts it as issued.
func (e *Entra) claims(m mintage, now time.Time, life time.Duration) jwt.MapClaims {
	issuer, principal := "https://sts.windows.net/"+m.tenant.id+"/", m.app.principals[m.tenant.id]
	claims := jwt.MapClaims{
		"aud": m.aud, "iss": issuer, "idp": issuer, "tid": m.tenant.id, "ver": "1.0",
		"iat": now.Unix(), "nbf": now.Unix(), "exp": now.Add(life).Unix(),
		"appid": m.app.id, "app_displayname": m.app.name, "appidacr": m.who.strength(),
		"oid": principal, "sub": principal, "idtyp": "app",
		"uti": base64.RawURLEncoding.EncodeToString(newUTI()),
		"aio": provenance{Serial: e.serial.Add(1), Asked: m.asked.members}.encode(),
	}
	if roles := m.app.grants[m.resource]; len(roles) > 0 && m.who.trouble != NoConsent {
		claims["roles"] = roles
	}
	if m.asked.cp1 {
		claims["xms_cc"] = []string{"cp1"}
	}
	return claims
}

// newUTI returns 16 random bytes: the token's unique identifier.
func newUTI() []byte {
	id := uuid.New()
	return id[:]
}
