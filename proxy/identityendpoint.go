package proxy

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/seed-13b04e61/gateway/gate"
)

// identityPath is where the reverse door speaks the managed identity protocol
// of App Service: what apps get as IDENTITY_ENDPOINT.
const identityPath = "/.gateway/identity/token"

// identityVersions are the versions of the protocol that SDKs ask for. In that
// of 2017 the key is shown as Secret (Azure Machine Learning).
var identityVersions = [...]string{"2019-08-01", "2017-09-01", "2025-03-30"}

// identityError is the body of a refusal in that protocol.
type identityError struct {
	StatusCode int    `json:"statusCode"`
	Message    string `json:"message"`
}

// identityRefusal is a refusal as every door words it, with what SDKs read of
// one in this protocol: without it they only say that they got no token.
type identityRefusal struct {
	problem
	identityError
}

// identityToken is the answer of that protocol.
type identityToken struct {
	Access    string `json:"access_token"`
	ExpiresOn string `json:"expires_on"` // Unix seconds
	Resource  string `json:"resource"`
	Type      string `json:"token_type"`
	ClientID  string `json:"client_id,omitempty"`
}

// identityEndpoint hands out a placeholder for a resource, of whatever tenant the
// route has. Host and the marks of browsers were looked at by the door.
//
// X-IDENTITY-HEADER is the caller's credential here, and no other counts. It has
// to be there even if the table has no callers and nobody judges it: a server
// that is tricked into fetching a URL sends no such field.
func (h *Handler) identityEndpoint(p *passage, r *http.Request) http.Handler {
	return http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		if refused := h.identityCall(p, r); refused != nil {
			h.refuseIdentity(p, refused)
		}
	})
}

// identityCall answers, or says why not in the words of every other refusal.
func (h *Handler) identityCall(p *passage, r *http.Request) *refusal {
	p.event.Template = identityPath
	if r.Method != http.MethodGet {
		p.meter.Header().Set("Allow", http.MethodGet)
		identityTrouble(p, http.StatusMethodNotAllowed, &trouble{text: "the managed identity endpoint takes GET alone", code: MethodRefused,
			remedy: "ask as App Service's protocol of 2019-08-01 has it"})
		return nil
	}
	shown := r.Header["X-Identity-Header"]
	if len(shown) == 0 {
		shown = r.Header["Secret"]
	}
	if len(shown) == 0 || shown[0] == "" {
		identityTrouble(p, http.StatusBadRequest, &trouble{text: "the field X-IDENTITY-HEADER is missing", code: BadRequest,
			remedy: "set IDENTITY_HEADER to the caller's key, or, if there are no callers, to any word"})
		return nil
	}
	proof := make([]string, len(shown))
	for i, key := range shown {
		proof[i] = "Bearer " + key
	}
	r.Header = http.Header{"X-Gateway-Authorization": proof}
	if refused := h.identify(p, r); refused != nil {
		return refused
	}
	return h.identityToken(p, r)
}

// identityToken answers a caller that is known.
func (h *Handler) identityToken(p *passage, r *http.Request) *refusal {
	query, err := url.ParseQuery(r.URL.RawQuery)
	resource := query.Get("resource")
	switch {
	case err != nil || len(query["resource"]) > 1 || len(query["api-version"]) > 1:
		identityTrouble(p, http.StatusBadRequest, &trouble{text: "the query is malformed", code: BadRequest,
			remedy: "name api-version and resource once each"})
		return nil
	case !slices.Contains(identityVersions[:], query.Get("api-version")):
		identityTrouble(p, http.StatusBadRequest, &trouble{text: "api-version has to be 2019-08-01", code: BadRequest,
			remedy: "ask as App Service's protocol of 2019-08-01 has it"})
		return nil
	case resource == "":
		identityTrouble(p, http.StatusBadRequest, &trouble{text: "the parameter resource is missing", code: BadRequest,
			remedy: "name the resource: the scope of a route without /.default"})
		return nil
	}
	judge, ok := p.world.gate.(handsOut)
	if !ok || h.cfg.Sealer == nil {
		return &refusal{code: NotSupported, detail: "no placeholders are handed out here",
			remedy: "set hand_out: placeholder on the route whose tokens the program asks for"}
	}
	client := query.Get("client_id") + query.Get("clientid") // the latter of 2017
	route, sealed, err := judge.HandOut(p, p.caller, gate.Login{Scopes: scopesOf(resource), ClientID: client})
	if err != nil {
		identityTrouble(p, http.StatusBadRequest, identityDenied(err, resource))
		return nil
	}
	sealed.Expires = time.Now().Add(placeholderLife)
	text, err := h.cfg.Sealer.Seal(sealed)
	if err != nil {
		return unsealed(err)
	}
	if client == "" {
		client = route.Credential.ClientID
	}
	writeAnswer(p, http.StatusOK, identityToken{Access: text, ExpiresOn: strconv.FormatInt(sealed.Expires.Unix(), 10),
		Resource: resource, Type: "Bearer", ClientID: client})
	return nil
}

func identityDenied(err error, resource string) *trouble {
	t := &trouble{code: gate.CallerForbidden, cause: fmt.Sprintf("%v; it asked for the resource %q", err, clean(resource, maxEcho)),
		text:   "no route of this caller hands out placeholders for this resource",
		remedy: "name the scope of a route without /.default, and see that the route has hand_out: placeholder and admits the caller"}
	if errors.Is(err, gate.ErrNoTenant) {
		t.text, t.cause = "no route of this caller hands out placeholders", err.Error()
		t.remedy = "write hand_out: placeholder to a route that admits the caller"
	}
	return t
}

// refuseIdentity is [Handler.refuse] in this protocol.
func (h *Handler) refuseIdentity(p *passage, r *refusal) {
	a, ok := h.answers[r.code]
	if !ok {
		a = h.answers[Internal]
	}
	r = a.whole(r)
	status, remedy, head := cmp.Or(a.Reverse, a.Status), r.remedy, p.meter.Header()
	if r.code == gate.CallerUnknown {
		remedy = "set IDENTITY_HEADER to the caller's key"
		invite(head, p.event.Door)
	}
	if r.retryAfter > 0 {
		head.Set("Retry-After", strconv.Itoa(int(math.Ceil(r.retryAfter.Seconds()))))
	}
	head.Set("Gateway-Error", string(r.code))
	head.Set("Proxy-Status", fmt.Sprintf("gateway; error=%s; details=%q", a.ProxyStatus, r.code))
	head.Set("Content-Type", "application/problem+json")
	note(p, &trouble{text: r.detail, code: r.code, cause: r.cause, remedy: remedy})
	writeAnswer(p, status, identityRefusal{
		problem{Type: errorsPage + string(r.code), Title: a.Title, Status: status, Detail: r.detail, Code: r.code,
			Route: p.event.Route, RequestID: p.event.RequestID, Remedy: remedy},
		identityError{status, fmt.Sprintf("%s: %s; %s", r.code, r.detail, remedy)},
	})
}

func identityTrouble(p *passage, status int, t *trouble) {
	note(p, t)
	writeAnswer(p, status, identityError{status, t.text + "; " + t.remedy})
}

// foreignPlaceholder refuses a call that shows a placeholder of another caller
// than its own. What does not open or has expired is replaced as any other
// Authorization is, and so is what was handed out while the table had no
// callers.
func (h *Handler) foreignPlaceholder(p *passage, r *http.Request) *refusal {
	if h.cfg.Sealer == nil || p.caller == nil {
		return nil
	}
	for _, value := range r.Header["Authorization"] {
		_, text, _ := strings.Cut(value, " ")
		held, ok := h.cfg.Sealer.Open(strings.TrimLeft(text, " "))
		if !ok || held.Caller == "" || held.Caller == p.caller.Name {
			continue
		}
		return &refusal{code: gate.CallerForbidden, detail: "the placeholder in Authorization was handed out to another caller",
			cause:  fmt.Sprintf("caller %s shows a placeholder that was handed out to caller %s", p.caller.Name, held.Caller),
			remedy: "let each caller log in by itself; look for a token cache that two apps share"}
	}
	return nil
}
