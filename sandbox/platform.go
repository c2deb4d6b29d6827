package sandbox

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
)

// A PlatformKind is a place that hands out ID tokens of its own issuer, which
// Entra can federate with.
type PlatformKind string

// The kinds: a job of GitHub Actions, and a machine of Google Cloud.
const (
	GitHub PlatformKind = "github"
	GCP    PlatformKind = "gcp"
)

// PlatformOptions shape a [Platform].
type PlatformOptions struct {
	World *World
	Kind  PlatformKind
	// Subject of the tokens; "" is one of the platform's usual shape.
	Subject string
	// Lifetime of the tokens; 0 is five minutes for GitHub, an hour for GCP.
	Lifetime time.Duration
}

// A Platform hands out tokens of the World's [Issuer] over the platform's own
// protocol. Each call gets a new one, for the audience that it asks for.
type Platform struct {
	opts    PlatformOptions
	srv     *server
	secret  string
	path    string
	failing outbreak

	mu       sync.Mutex // guards everything below
	requests int
	refused  int
}

// StartPlatform opens the token endpoint of a platform on loopback, port 0.
// Close it, or the World.
func StartPlatform(opts PlatformOptions) (*Platform, error) {
	p := &Platform{secret: strings.ReplaceAll(uuid.NewString(), "-", "")}
	env := opts.World.environment()
	subject, life := "", time.Duration(0)
	switch {
	case env == nil:
		return nil, fmt.Errorf("%w: a platform needs a World", ErrOptions)
	case opts.Kind == GitHub:
		subject, life = "repo:contoso/app:ref:refs/heads/main", 5*time.Minute
		p.path = "/contoso/_apis/distributedtask/hubs/Actions/plans/1/jobs/2/idtoken"
	case opts.Kind == GCP:
		subject, life = "112233445566778899001", time.Hour
		p.path = "/computeMetadata/v1/instance/service-accounts/default/identity"
		env.tls = nil // a metadata server never speaks TLS
	default:
		return nil, fmt.Errorf("%w: kind %q", ErrOptions, opts.Kind)
	}
	if opts.Subject == "" {
		opts.Subject = subject
	}
	if opts.Lifetime == 0 {
		opts.Lifetime = life
	}
	p.opts = opts
	var err error
	if p.srv, err = serve(string(opts.Kind), env, http.HandlerFunc(p.serve)); err != nil {
		return nil, fmt.Errorf("sandbox: %w", err)
	}
	opts.World.join(p.srv)
	return p, nil
}

// environment returns a copy of what the World's servers share, nil without a
// World.
func (w *World) environment() *surroundings {
	if w == nil {
		return nil
	}
	env := *w.env
	return &env
}

// Close ends the platform and the calls in it. It may be called more than once.
func (p *Platform) Close() { p.srv.close() }

// URL returns the address of the token endpoint without the audience. GitHub's
// has a query already.
func (p *Platform) URL() string {
	if p.opts.Kind == GitHub {
		return p.srv.url + p.path + "?api-version=2.0"
	}
	return p.srv.url + p.path
}

// Subject is that of the tokens, for [Entra.AddFederated].
func (p *Platform) Subject() string { return p.opts.Subject }

// Environ returns the variables that a process there would have, as
// NAME=value.
func (p *Platform) Environ() []string {
	if p.opts.Kind == GitHub {
		return []string{"ACTIONS_ID_TOKEN_REQUEST_URL=" + p.URL(), "ACTIONS_ID_TOKEN_REQUEST_TOKEN=" + p.secret}
	}
	return []string{"GCE_METADATA_HOST=" + strings.TrimPrefix(p.srv.url, "http://")}
}

// FailWith makes the platform misbehave, as [Host.FailWith] does a host.
func (p *Platform) FailWith(f Failure) {
	p.failing.begin(f)
	p.srv.door.shut.Store(f.Kind == Refuse)
}

// Recover ends the failure.
func (p *Platform) Recover() {
	p.failing.end()
	p.srv.door.shut.Store(false)
}

// Requests returns how many calls came, refused ones included.
func (p *Platform) Requests() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.requests
}

// Refused returns how many of [Platform.Requests] the platform found fault
// with.
func (p *Platform) Refused() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.refused
}

func (p *Platform) serve(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	p.requests++
	p.mu.Unlock()
	f := p.failing.meet()
	if !f.wait(r.Context()) {
		panic(http.ErrAbortHandler) // the client has left
	}
	if p.opts.Kind == GCP {
		w.Header().Set("Metadata-Flavor", "Google")
		w.Header().Set("Server", "Metadata Server for VM")
	}
	if f.answer(w, p.srv.env.clock.now()) {
		return
	}
	status, aud, why := p.judge(r)
	if why != "" {
		p.mu.Lock()
		p.refused++
		p.mu.Unlock()
		p.complain(w, status, why)
		return
	}
	token, err := p.opts.World.Issuer.Token(p.opts.Subject, aud, p.opts.Lifetime)
	if err != nil {
		p.complain(w, http.StatusInternalServerError, "the token could not be signed")
		return
	}
	if p.opts.Kind == GCP {
		w.Header().Set("Content-Type", "text/html")
		_, _ = io.WriteString(w, token)
		return
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8; api-version=2.0")
	answer := map[string]any{"count": len(token), "value": token}
	if f.Kind == NoToken {
		delete(answer, "value")
	}
	writeJSON(w, http.StatusOK, answer)
}

// judge holds a request against the platform's protocol, and returns the
// audience that it asks for.
func (p *Platform) judge(r *http.Request) (status int, aud, why string) {
	q, err := url.ParseQuery(r.URL.RawQuery)
	switch {
	case r.URL.Path != p.path:
		return http.StatusNotFound, "", "no such address"
	case r.Method != http.MethodGet:
		return http.StatusMethodNotAllowed, "", "only GET is allowed"
	case err != nil:
		return http.StatusBadRequest, "", "the query is malformed"
	}
	known := map[string]bool{"audience": true, "api-version": p.opts.Kind == GitHub, "format": p.opts.Kind == GCP, "licenses": p.opts.Kind == GCP}
	for name, values := range q {
		if !known[name] || len(values) != 1 {
			return http.StatusBadRequest, "", "the parameter " + clip(name, 64) + " is unknown or came twice"
		}
	}
	if p.opts.Kind == GCP {
		return p.judgeGCP(r, q.Get("audience"))
	}
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	switch {
	case !strings.EqualFold(scheme, "Bearer") || token != p.secret || len(r.Header.Values("Authorization")) != 1:
		return http.StatusUnauthorized, "", "the request token is missing or not this job's"
	case q.Get("api-version") != "2.0":
		return http.StatusBadRequest, "", "the api-version is missing: the address has a query that must be kept"
	case !q.Has("audience"):
		return 0, "https://github.com/contoso", ""
	}
	return 0, q.Get("audience"), ""
}

func (p *Platform) judgeGCP(r *http.Request, aud string) (status int, audience, why string) {
	switch {
	case r.Header.Get("Metadata-Flavor") != "Google":
		return http.StatusForbidden, "", "Missing Metadata-Flavor:Google header."
	case hopped(r):
		return http.StatusForbidden, "", "The request came through a proxy."
	case aud == "":
		return http.StatusBadRequest, "", "non-empty audience parameter required"
	}
	return 0, aud, ""
}

// complain answers in the platform's shape of error.
func (p *Platform) complain(w http.ResponseWriter, status int, why string) {
	if p.opts.Kind == GCP {
		http.Error(w, why, status)
		return
	}
	writeJSON(w, status, map[string]any{
		"$id": "1", "innerException": nil, "message": why, "typeKey": "VssServiceException", "errorCode": 0,
	})
}
