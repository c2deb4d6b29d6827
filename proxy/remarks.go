package proxy

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/seed-13b04e61/gateway/audit"
	"github.com/seed-13b04e61/gateway/authority"
	"github.com/seed-13b04e61/gateway/routes"
	"github.com/seed-13b04e61/gateway/tokens"
)

// remarkInterval is how long a route's remarks of one kind stay out of the log,
// the access lines aside, after one was written.
const remarkInterval = time.Minute

// topic is what a remark is about.
type topic int

const (
	aboutSignIn       topic = iota // a sign-in page instead of a 401
	aboutMismatch                  // a 401 that names another tenant or audience
	aboutUnauthorized              // any other 401
	aboutDenied                    // a 403
	aboutReflection                // an answer that contains our token
	topics
)

// notes is what a route remembers of its remarks. It is safe for concurrent
// use, and kept at a reload.
type notes struct {
	written [topics]atomic.Int64 // when the log was last written to, Unix time in ns; 0: never
	denied  atomic.Pointer[denied]
}

// denied is what is known of a token that got a 403, read once per token.
type denied struct {
	token tokens.Token
	known authority.Denial
}

// due tells whether a remark about t may be written to the log now, and notes
// that it was.
func (n *notes) due(t topic, now time.Time) bool {
	last := n.written[t].Load()
	since := time.Duration(now.UnixNano() - last)
	if last != 0 && since >= 0 && since < remarkInterval {
		return false
	}
	return n.written[t].CompareAndSwap(last, now.UnixNano())
}

// remark says for the operator what an answer means that a program cannot tell
// from others of its kind. The answer passes as it is.
func (h *Handler) remark(resp *http.Response, p *passage) {
	e := &p.event
	about := aboutMismatch
	switch resp.StatusCode {
	case http.StatusUnauthorized:
		if e.Remark == "" && !p.pass.Route.Registry { // else it was judged to be certain, or asks for a login
			e.Remark, e.Remedy = p.unauthorized()
			about = aboutUnauthorized
		}
	case http.StatusForbidden:
		about = aboutDenied
		e.Remark, e.Remedy = p.up.notes.deny(p)
	case http.StatusNonAuthoritativeInfo, http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther,
		http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		about = aboutSignIn
		page := p.signInPage(resp)
		if page == "" {
			return
		}
		e.Remark = fmt.Sprintf("not authenticated: the upstream answered %d with %s instead of 401", resp.StatusCode, page)
		e.Remedy = "see that scope and tenant_id fit this upstream, and that it knows the application as a user (in Azure DevOps: Organization settings, Users)"
		if id := p.pass.Route.Credential.ClientID; id != "" {
			e.Remedy += "; its client_id is " + id
		}
		if e.Retry == "" {
			e.Retry = audit.SignInPage
		} else {
			e.Retry = audit.RefusedAgain
		}
	}
	if e.Remark != "" && p.up.notes.due(about, time.Now()) {
		h.cfg.Log.Warn(e.Remark, "gateway.route", e.Route, "gateway.credential", e.Credential,
			"gateway.request_id", e.RequestID, "remedy", e.Remedy)
	}
}

// deny remarks on the permissions of the call's token.
func (n *notes) deny(p *passage) (remark, remedy string) {
	if p.pass.Route.Registry {
		return "the registry answered 403", "see that the application has the role AcrPull, AcrPush or AcrDelete on the registry"
	}
	last := n.denied.Load()
	if last == nil || last.token.Access != p.token.Access {
		last = &denied{p.token, authority.Denied(p.pass.Route.Credential, p.token.Access)}
		n.denied.Store(last)
	}
	remark, remedy = last.known.Of(p.event.Method, p.pass.Path)
	if remark == "" {
		return "", ""
	}
	return "the upstream answered 403; " + remark, remedy
}

// unauthorized remarks on a 401 that does not say what is wrong.
func (p *passage) unauthorized() (remark, remedy string) {
	remark = "the upstream answered 401 to the token"
	switch p.event.Retry {
	case audit.RefusedAgain:
		remark = "the upstream answered 401 to the token, and to a fresh one as well"
	case audit.HeldBack:
		remark = "the upstream answered 401 to a token that had just been renewed, or that cannot be renewed now"
	case audit.NotReplayable:
		remark = "the upstream answered 401 to the token; the body is larger than the route keeps, so the call was not sent again"
	}
	return remark, fmt.Sprintf("compare aud and tid of gateway token %s with what the API wants, and scope with its documentation; see that the API knows the application", p.pass.Route.Name)
}

// mismatched tells whether a 401 says for certain that no token of this route
// will do, so that a renewal would only load the token endpoint, and remarks
// on it.
func (p *passage) mismatched(resp *http.Response) bool {
	hints := authority.Hints(resp.Header["Www-Authenticate"])
	r := p.pass.Route
	p.event.Remark, p.event.Remedy = hints.Mismatch(r.Credential, r.Scope, p.pass.Authority.Host, p.token.Access)
	return p.event.Remark != ""
}

// signInPage names the page to sign in at that stands where a 401 should, or
// returns "". A 203 is one on routes whose API is known for it.
func (p *passage) signInPage(resp *http.Response) string {
	if resp.StatusCode == http.StatusNonAuthoritativeInfo {
		if p.pass.Route.SignIn {
			return "a sign-in page"
		}
		return ""
	}
	u, err := url.Parse(resp.Header.Get("Location"))
	if err != nil {
		return ""
	}
	at := p.pass.Authority
	if u.Host != "" {
		if at, err = authorityOf(u); err != nil {
			return ""
		}
	}
	if loginHost(at.Host) || at != p.pass.Authority && at == tokenHost(p.pass.Route.Credential) || p.signInPath(at.Host, u.Path) {
		return "a redirect to the sign-in page at " + at.Host
	}
	return ""
}

// signInPath knows the page of Azure DevOps: /_signin or /{organization}/_signin,
// at one of its hosts or wherever an API that is known for it leads.
func (p *passage) signInPath(host, path string) bool {
	if !p.pass.Route.SignIn && host != "dev.azure.com" && !strings.HasSuffix(host, ".visualstudio.com") {
		return false
	}
	for segment := range strings.SplitSeq(path, "/") {
		if strings.EqualFold(segment, "_signin") {
			return true
		}
	}
	return false
}

func authorityOf(u *url.URL) (routes.Authority, error) {
	if u.Scheme == "http" {
		return routes.ParseAuthority(u.Host, 80)
	}
	return routes.ParseAuthority(u.Host, 443)
}

// tokenHost is where c's tokens come from; zero for a managed identity.
func tokenHost(c *routes.Credential) routes.Authority {
	raw := c.Endpoint()
	if raw == "" {
		raw = c.Issuer
	}
	u, err := url.Parse(raw)
	if err != nil {
		return routes.Authority{}
	}
	a, err := authorityOf(u)
	if err != nil {
		return routes.Authority{}
	}
	return a
}

// loginHost knows the hosts of Microsoft where people sign in, in every cloud
// (entra reference §2.1, §2.5). Names are canonical.
func loginHost(host string) bool {
	switch host {
	case "login.microsoftonline.com", "login.windows.net", "login.microsoft.com", "sts.windows.net", "login.live.com",
		"login.microsoftonline.us", "login-us.microsoftonline.com", "login.usgovcloudapi.net",
		"login.partner.microsoftonline.cn", "login.chinacloudapi.cn", "login.microsoftonline.de",
		"login.sovcloud-identity.fr", "login.sovcloud-identity.de", "login.sovcloud-identity.sg",
		"login.microsoftonline.eaglex.ic.gov", "login.microsoftonline.microsoft.scloud":
		return true
	}
	for _, suffix := range []string{".login.microsoft.com", ".b2clogin.com", ".ciamlogin.com"} {
		if strings.HasSuffix(host, suffix) {
			return true
		}
	}
	return false
}
