package proxy

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/seed-13b04e61/gateway/gate"
	"github.com/seed-13b04e61/gateway/routes"
)

const (
	// maxLogin bounds the form of a login, in bytes. The longest that SDKs send
	// holds an assertion with a chain of certificates, of some 10 KiB.
	maxLogin = 64 << 10
	// placeholderLife is how long a placeholder lives, and announcedLife what is
	// said of it: Entra's tokens most often have these seconds.
	placeholderLife = time.Hour
	announcedLife   = 3599
	// maxEcho bounds what of a login's own words is said back, in bytes.
	maxEcho = 256
)

// handsOut is the part of [gate.Gate] that stand-in logins need.
type handsOut interface {
	HandOut(ctx context.Context, caller *routes.Caller, l gate.Login) (*routes.Route, gate.Placeholder, error)
	LoginsAt(caller *routes.Caller, host routes.Authority) []*routes.Route
}

// login is a call to a login host that the gateway stands in for.
type login struct {
	h     *Handler
	p     *passage
	r     *http.Request
	judge handsOut
	host  routes.Authority
	// tenant is as the path has it, lower case; at servers other than Entra the
	// endpoint or issuer, see [gate.Login].
	tenant string
	base   string // https://host of an Entra
	style  style
}

// style is the dialect of a token endpoint.
type style int

const (
	entraV2   style = iota // scope; numbers are numbers
	entraV1                // resource; numbers are strings
	plainAuth              // RFC 6749 alone
)

// standIn answers a call inside a tunnel to a login host, in the place of its
// token endpoint: client credentials get a placeholder, and SDKs the documents
// that they read before. It tells whether it did; what it leaves is left whole,
// for whoever comes next. The caller was identified before.
//
// The proof that a login shows is not looked at, and no user's sign-in is
// answered: every other grant is forwarded where egress passes the host, and
// else refused.
func (h *Handler) standIn(p *passage, r *http.Request, a routes.Authority) (served bool) {
	judge, ok := p.world.gate.(handsOut)
	if !ok || h.cfg.Sealer == nil {
		return false
	}
	at := judge.LoginsAt(p.caller, a)
	if len(at) == 0 {
		return false
	}
	l := &login{h: h, p: p, r: r, judge: judge, host: a}
	path, _ := escapedPath(r.RequestURI)
	if serve := l.desk(path, at); serve == nil || !serve() {
		p.event.Template = ""
		return false
	}
	return true
}

// desk finds who serves the path, or nil.
func (l *login) desk(path string, at []*routes.Route) func() bool {
	for _, r := range at {
		var serve func() bool
		if r.Credential.Entra() {
			serve = l.entraDesk(strings.ToLower(path), r.Credential)
		} else {
			serve = l.plainDesk(path, r.Credential)
		}
		if serve != nil {
			return serve
		}
	}
	return nil
}

// entraDesk knows Entra's paths, which have no case. path is in lower case.
func (l *login) entraDesk(path string, c *routes.Credential) func() bool {
	l.base = c.AuthorityHost
	if path == "/common/discovery/instance" {
		l.p.event.Template = path
		return l.reading(l.instance)
	}
	tenant, rest, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	if !tenantShaped(tenant) {
		return nil
	}
	l.tenant, l.p.event.Template = tenant, "/{tenant}/"+rest
	switch rest {
	case "oauth2/v2.0/token":
		l.style = entraV2
		return l.posting(l.token)
	case "oauth2/token":
		l.style = entraV1
		return l.posting(l.token)
	case "v2.0/.well-known/openid-configuration":
		l.style = entraV2
		return l.reading(l.configuration)
	case ".well-known/openid-configuration":
		l.style = entraV1
		return l.reading(l.configuration)
	}
	return nil
}

// reading and posting leave other methods to whoever comes next.
func (l *login) reading(serve func() bool) func() bool {
	if l.r.Method != http.MethodGet && l.r.Method != http.MethodHead {
		return nil
	}
	return serve
}

func (l *login) posting(serve func() bool) func() bool {
	if l.r.Method != http.MethodPost {
		return nil
	}
	return serve
}

// tenantShaped tells whether s has the characters of a GUID, a domain or one of
// the words such as common.
func tenantShaped(s string) bool {
	other := func(c rune) bool { return (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '.' && c != '-' }
	return s != "" && len(s) <= 253 && !strings.ContainsFunc(s, other)
}

// token answers a login, or leaves it if it is another grant than client
// credentials and may go on to the real token endpoint.
func (l *login) token() bool {
	form, body, trouble := l.form()
	if trouble != nil {
		l.complain(trouble)
		return true
	}
	if grant := form.Get("grant_type"); grant != "client_credentials" {
		if grant != "" && l.p.world.gate.Table().Egress.Passes(l.host) {
			l.putBack(body)
			return false
		}
		l.complain(wrongGrant(grant))
		return true
	}
	scopes := form["scope"]
	if resource := form.Get("resource"); resource != "" && (l.style == entraV1 || len(scopes) == 0) {
		scopes = scopesOf(resource)
	}
	asked := gate.Login{Host: l.host, Tenant: l.tenant, Scopes: scopes, ClientID: l.client(form)}
	if l.style == plainAuth && len(scopes) == 0 {
		asked.Scopes = []string{""} // a route may want none (RFC 6749 §3.3)
	}
	_, sealed, err := l.judge.HandOut(l.p, l.p.caller, asked)
	if err != nil {
		l.complain(l.denied(err, strings.Join(scopes[:min(1, len(scopes))], "")))
		return true
	}
	sealed.Expires = time.Now().Add(placeholderLife)
	text, err := l.h.cfg.Sealer.Seal(sealed)
	if err != nil {
		l.h.refuse(&l.p.meter, l.p, unsealed(err))
		return true
	}
	l.answer(http.StatusOK, l.success(text, form.Get("resource"), sealed.Expires))
	return true
}

func unsealed(err error) *refusal {
	return &refusal{code: Internal, detail: "no placeholder could be made", cause: err.Error(),
		remedy: "shorten the scope of the route: a placeholder has room for 2048 bytes of it"}
}

// client is the client that the login is for: it picks among credentials, and
// proves nothing.
func (l *login) client(form url.Values) string {
	if id, _, ok := l.r.BasicAuth(); ok {
		if plain, err := url.QueryUnescape(id); err == nil { // RFC 6749 §2.3.1
			return plain
		}
	}
	return form.Get("client_id")
}

// scopesOf are the scopes that a resource may stand for. SDKs disagree about its
// final slash, so that with it and without it are tried, as it came first.
func scopesOf(resource string) []string {
	other, had := strings.CutSuffix(resource, "/")
	if !had {
		other += "/"
	}
	return []string{resource + "/.default", other + "/.default", resource}
}

// form reads a login's body. The bytes are returned too, so that another may
// read them.
func (l *login) form() (url.Values, []byte, *trouble) {
	kind, _, err := mime.ParseMediaType(l.r.Header.Get("Content-Type"))
	if err != nil || kind != "application/x-www-form-urlencoded" || l.r.Header["Content-Encoding"] != nil {
		return nil, nil, malformed("The request body must be application/x-www-form-urlencoded.")
	}
	if l.r.ContentLength > maxLogin {
		return nil, nil, &trouble{refusal: loginTooLarge()}
	}
	var body []byte
	if l.p.in.src != nil {
		body, err = io.ReadAll(io.LimitReader(&l.p.in, maxLogin+1))
		switch cut := l.p.in.verdict(); {
		case cut != nil:
			return nil, nil, &trouble{refusal: cut}
		case err != nil:
			return nil, nil, &trouble{refusal: &refusal{code: BadRequest, detail: "the request's body broke off", cause: err.Error(), remedy: "see whether the client or a proxy before the gateway gave up, and send it again"}}
		case len(body) > maxLogin:
			return nil, nil, &trouble{refusal: loginTooLarge()}
		}
	}
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return nil, nil, malformed("The request body is not a well-formed form.") // err would hold part of a secret
	}
	for _, name := range []string{"grant_type", "scope", "resource", "client_id"} {
		if len(form[name]) > 1 { // RFC 6749 §3.2
			return nil, nil, malformed("The parameter '" + name + "' stands there more than once.")
		}
	}
	return form, body, nil
}

func loginTooLarge() *refusal {
	return &refusal{code: TooLarge, detail: "a login may have 64 KiB", remedy: "send the parameters of a token request alone"}
}

// putBack lets the rest of the gateway see the call as it came.
func (l *login) putBack(body []byte) {
	l.r.Body, l.r.ContentLength, l.r.TransferEncoding, l.r.Trailer = io.NopCloser(bytes.NewReader(body)), int64(len(body)), nil, nil
	l.p.in.src = nil // nothing more comes from the caller
}

// answer writes a document of the stand-in's.
func (l *login) answer(status int, doc any) { writeAnswer(l.p, status, doc) }

// writeAnswer ends a call that the gateway answers by itself.
func writeAnswer(p *passage, status int, doc any) {
	body, err := json.Marshal(doc)
	if err != nil { // nothing here can fail to encode
		status, body = http.StatusInternalServerError, []byte("{}")
	}
	head := p.meter.Header()
	if head.Get("Content-Type") == "" {
		head.Set("Content-Type", "application/json; charset=utf-8")
	}
	head.Set("Content-Length", fmt.Sprint(len(body)))
	head.Set("Cache-Control", "no-store") // RFC 6749 §5.1
	head.Set("Pragma", "no-cache")
	head.Set("X-Content-Type-Options", "nosniff")
	head.Set("Gateway-Request-Id", p.event.RequestID)
	if p.world.debug() {
		debugHeaders(head, &p.event)
	}
	p.event.Status = status
	p.meter.WriteHeader(status)
	_, _ = p.meter.Write(body)
}
