package sandbox

import (
	"crypto/rsa"
	"encoding/json"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
)

// Graph is a small Microsoft Graph. It believes no token before the signature,
// aud, exp, nbf, iss and tid have been verified by the keys that its [Entra]
// publishes, and asks for the application permissions that the real one asks
// for. A list of what it serves is in [Graph.Paths].
type Graph struct {
	clock *clock
	srv   *server
	entra *Entra
	keys  map[string]*rsa.PublicKey

	mu        sync.Mutex // guards everything below
	users     []entity
	groups    []entity
	revoked   revocation
	challenge *posed
	throttle  throttle
	signIn    bool // every call is sent to the sign-in page
	seen      []Sighting
	counts    Counts
}

func startGraph(env *surroundings, e *Entra) (*Graph, error) {
	doc, err := json.Marshal(e.keys.published(e.URL()))
	if err != nil {
		return nil, err
	}
	keys, err := parseKeySet(doc)
	if err != nil {
		return nil, err
	}
	g := &Graph{clock: env.clock, entra: e, keys: keys, users: newcomers(), groups: teams()}
	if g.srv, err = serve("graph", env, http.HandlerFunc(g.serve)); err != nil {
		return nil, err
	}
	return g, nil
}

// URL returns where this Graph listens, with no slash and no version at the
// end. Called under another name, as a proxy does that keeps the Host, it
// writes its links with that name and https.
func (g *Graph) URL() string { return g.srv.url }

// call is one request on its way through.
type call struct {
	g    *Graph
	w    http.ResponseWriter
	r    *http.Request
	base string // origin for links
	vars []string
	id   string // request-id
	from string // client-request-id

	sight Sighting
	who   principal
}

// endpoint is one thing that Graph serves.
type endpoint struct {
	method string
	path   string // segments; {} is any one, a last ** is any number
	roles  []string
	serve  func(*call)
}

// endpoints returns the table, in order of precedence. The roles are those of
// the real API, any one suffices, none means that a token is enough.
func endpoints() []endpoint {
	readUsers := []string{"User.Read.All", "User.ReadWrite.All", "Directory.Read.All", "Directory.ReadWrite.All"}
	writeUsers := []string{"User.ReadWrite.All", "Directory.ReadWrite.All"}
	readGroups := []string{"Group.Read.All", "Group.ReadWrite.All", "GroupMember.Read.All", "Directory.Read.All"}
	files := []string{"Files.ReadWrite.All", "Sites.ReadWrite.All"}
	return []endpoint{
		{"", "v1.0/$echo/**", nil, (*call).echo},
		{"GET", "v1.0/users", readUsers, (*call).listUsers},
		{"POST", "v1.0/users", writeUsers, (*call).createUser},
		{"GET", "v1.0/users/{}", readUsers, (*call).getUser},
		{"PATCH", "v1.0/users/{}", writeUsers, (*call).updateUser},
		{"DELETE", "v1.0/users/{}", writeUsers, (*call).deleteUser},
		{"POST", "v1.0/users/{}/sendMail", []string{"Mail.Send"}, (*call).sendMail},
		{"GET", "v1.0/groups", readGroups, (*call).listGroups},
		{"GET", "v1.0/groups/{}", readGroups, (*call).getGroup},
		{"GET", "v1.0/groups/{}/members", readGroups, (*call).listMembers},
		{"GET", "v1.0/organization", append([]string{"Organization.Read.All"}, readUsers...), (*call).organization},
		{"GET", "v1.0/reports/**", []string{"Reports.Read.All"}, (*call).report},
		{"PUT", "v1.0/drive/items/{}/content", files, (*call).upload},
	}
}

// Paths returns what this Graph serves, as "METHOD /path" lines; the method *
// stands for any.
func (g *Graph) Paths() []string {
	var out []string
	for _, e := range endpoints() {
		method := e.method
		if method == "" {
			method = "*"
		}
		out = append(out, method+" /"+strings.ReplaceAll(e.path, "{}", "{id}"))
	}
	return out
}

// match returns the values of {} if segments fit the endpoint's path.
func (e endpoint) match(segments []string) (vars []string, ok bool) {
	want := strings.Split(e.path, "/")
	for i, s := range want {
		switch {
		case s == "**":
			return vars, true
		case i >= len(segments):
			return nil, false
		case s == "{}" && segments[i] != "":
			vars = append(vars, segments[i])
		case !strings.EqualFold(s, segments[i]):
			return nil, false
		}
	}
	return vars, len(segments) == len(want)
}

// serve judges the token, then finds the endpoint, then the permission: an
// unauthenticated call learns nothing of what exists.
func (g *Graph) serve(w http.ResponseWriter, r *http.Request) {
	c := &call{g: g, r: r, base: g.srv.publicURL(r), id: uuid.NewString(), from: r.Header.Get("client-request-id")}
	if uuid.Validate(c.from) != nil {
		c.from = c.id
	}
	rec := &recorder{ResponseWriter: w, status: http.StatusOK}
	c.w = rec
	c.sight = g.sight(r)
	defer func() {
		c.sight.Status = rec.status
		g.record(c.sight)
	}()
	c.dress()
	if g.wantsSignIn() {
		redirectToSignIn(rec, g.entra.URL(), c.base+r.URL.EscapedPath())
		return
	}
	who, no := g.authenticate(r)
	c.who, c.sight.ClientID = who, who.appID
	if no == nil {
		no = g.throttled()
	}
	if no != nil {
		c.deny(no)
		return
	}
	c.dispatch()
}

// dispatch finds the endpoint and runs it if the token's roles suffice.
func (c *call) dispatch() {
	segments, ok := split(c.r.URL.EscapedPath())
	pathKnown := false
	for _, e := range endpoints() {
		vars, match := e.match(segments)
		if !ok || !match {
			continue
		}
		pathKnown = true
		if e.method != "" && e.method != c.r.Method && (e.method != http.MethodGet || c.r.Method != http.MethodHead) {
			continue
		}
		if len(e.roles) > 0 && !slices.ContainsFunc(e.roles, c.who.has) {
			c.fail(http.StatusForbidden, "Authorization_RequestDenied", "Insufficient privileges to complete the operation.")
			return
		}
		c.vars = vars
		e.serve(c)
		return
	}
	if pathKnown {
		c.fail(http.StatusMethodNotAllowed, "Request_BadRequest", "Specified HTTP method is not allowed for the request target.")
		return
	}
	c.fail(http.StatusBadRequest, "BadRequest",
		fmt.Sprintf("Resource not found for the segment '%s'.", clip(segments[len(segments)-1], 100)))
}

// split returns the decoded segments of an escaped path, at least one.
func split(escaped string) (segments []string, ok bool) {
	ok = true
	for s := range strings.SplitSeq(strings.TrimPrefix(escaped, "/"), "/") {
		decoded, err := url.PathUnescape(s)
		ok = ok && err == nil
		segments = append(segments, decoded)
	}
	return segments, ok
}

// dress sets the headers that every answer of Graph has.
func (c *call) dress() {
	h := c.w.Header()
	h.Set("request-id", c.id)
	h.Set("client-request-id", c.from)
	h.Set("Cache-Control", "no-cache")
	h.Set("x-ms-ags-diagnostic", `{"ServerInfo":{"DataCenter":"Sandbox","Slice":"E","Ring":"1","ScaleUnit":"000","RoleInstance":"SANDBOX"}}`)
}

// reply answers with v as OData JSON.
func (c *call) reply(status int, v any) {
	h := c.w.Header()
	h.Set("OData-Version", "4.0")
	h.Set("Content-Type", "application/json;odata.metadata=minimal;odata.streaming=true;IEEE754Compatible=false;charset=utf-8")
	writeJSON(c.w, status, v)
}

// denial is an answer before any endpoint is reached.
type denial struct {
	status  int
	code    string
	message string
	header  http.Header
}

func (c *call) deny(d *denial) {
	for name, values := range d.header {
		c.w.Header()[name] = values
	}
	c.fail(d.status, d.code, d.message)
}

// fail answers with an error in Graph's shape.
func (c *call) fail(status int, code, message string) {
	type inner struct {
		Date   string `json:"date"`
		ID     string `json:"request-id"`
		Client string `json:"client-request-id"`
	}
	type body struct {
		Code    string `json:"code"`
		Message string `json:"message"`
		Inner   inner  `json:"innerError"`
	}
	c.w.Header().Set("Content-Type", "application/json")
	writeJSON(c.w, status, map[string]body{"error": {code, message, inner{
		Date: c.g.clock.now().UTC().Format("2006-01-02T15:04:05"), ID: c.id, Client: c.from,
	}}})
}

// SignIn makes Graph send every call to a sign-in page with 302, whatever its
// token, as Azure DevOps does with those that it does not believe; false ends
// that.
func (g *Graph) SignIn(on bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.signIn = on
}

func (g *Graph) wantsSignIn() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.signIn
}

// redirectToSignIn answers as an API whose users are people with browsers.
func redirectToSignIn(w http.ResponseWriter, login, back string) {
	to := login + "/common/oauth2/authorize?client_id=" + devOpsAppID + "&response_mode=form_post&response_type=code+id_token&redirect_uri=" +
		url.QueryEscape("https://spsprodweu1.vssps.visualstudio.com/_signedin") + "&state=" + url.QueryEscape(clip(back, 1024))
	w.Header().Set("Location", to)
	w.Header().Set("Content-Type", htmlType)
	w.WriteHeader(http.StatusFound)
	_, _ = io.WriteString(w, `<html><head><title>Object moved</title></head><body><h2>Object moved to <a href="`+
		html.EscapeString(to)+`">here</a>.</h2></body></html>`)
}

// throttle is how many more calls get a 429, and what Retry-After says.
type throttle struct {
	left  int
	after time.Duration
}

// Throttle answers the next n authenticated calls with 429. Below zero n means
// all calls, until Throttle(0, 0). With retryAfter 0 the header is left out,
// as some of the real workloads do.
func (g *Graph) Throttle(n int, retryAfter time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.throttle = throttle{left: n, after: retryAfter}
}

func (g *Graph) throttled() *denial {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.throttle.left == 0 {
		return nil
	}
	if g.throttle.left > 0 {
		g.throttle.left--
	}
	d := &denial{status: http.StatusTooManyRequests, code: "TooManyRequests", message: "Too Many Requests", header: http.Header{}}
	if g.throttle.after > 0 {
		d.header.Set("Retry-After", fmt.Sprint(int(g.throttle.after.Seconds())))
	}
	return d
}
