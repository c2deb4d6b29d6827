package sandbox

import (
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
)

// A HostKind is a platform that gives its processes a managed identity.
type HostKind string

// The kinds. Container Apps speaks the protocol of App Service; Cloud Shell
// gives tokens of a person.
const (
	IMDS          HostKind = "imds"
	AppService    HostKind = "app_service"
	ContainerApps HostKind = "container_apps"
	ServiceFabric HostKind = "service_fabric"
	AzureML       HostKind = "azure_ml"
	CloudShell    HostKind = "cloud_shell"
	Arc           HostKind = "arc"
)

// An ExpiryFormat is one of the ways in which platforms write expires_on.
type ExpiryFormat string

// The formats. "" is the platform's usual one: a number for Service Fabric,
// a string of Unix seconds for all others.
const (
	ExpiryUnix    ExpiryFormat = "unix"    // "1586984735"
	ExpiryNumber  ExpiryFormat = "number"  // 1586984735
	ExpiryDate    ExpiryFormat = "date"    // "04/15/2020 21:05:35 +00:00"
	ExpiryRFC3339 ExpiryFormat = "rfc3339" // "2020-04-15T21:05:35Z"
	ExpiryAbsent  ExpiryFormat = "absent"  // no expires_on, only expires_in
)

// HostOptions shape a [Host].
type HostOptions struct {
	World *World
	Kind  HostKind
	// Identities are those assigned to the host, as [Entra.AddManagedIdentity]
	// returned them; at most one is system-assigned.
	Identities []ManagedIdentity
	Expiry     ExpiryFormat
	// Lifetime of tokens; 0 is [DefaultManagedLifetime].
	Lifetime time.Duration
	// RefreshIn puts refresh_in into answers; 0 leaves it out.
	RefreshIn time.Duration
	// TokenDir is where Arc writes its key files; Arc needs one.
	TokenDir string
	// Realm makes Arc's challenge name this path instead of its key file's;
	// KeySize makes the key that long instead of 64 bytes. Both are attacks
	// that a client has to notice.
	Realm   string
	KeySize int
}

// nearExpiry is how long before its end a platform replaces a token that it
// holds. Until then it returns the same one, and there is no way to force it.
const nearExpiry = 5 * time.Minute

// A Host is the identity endpoint of one platform, strict: whatever the
// platform's documentation does not have is refused, and so is a request
// without what it does have.
type Host struct {
	opts   HostOptions
	proto  protocol
	entra  *Entra
	clock  *clock
	srv    *server
	header string // the secret of this host; "" where there is none
	thumb  string // of the certificate, Service Fabric alone

	failing outbreak

	mu       sync.Mutex // guards everything below
	held     map[string]managedToken
	keys     map[string]string // Arc: key files and what they hold
	requests int
	probes   int
	refused  int
}

// ErrOptions is the refusal of options that make no [Host], [Binding],
// [Platform] or [API].
var ErrOptions = errors.New("sandbox: unusable options")

// StartHost opens the identity endpoint of a platform on loopback, port 0.
// Close it, or the World.
func StartHost(opts HostOptions) (*Host, error) {
	proto, ok := protocolOf(opts.Kind)
	switch {
	case opts.World == nil || !ok:
		return nil, fmt.Errorf("%w: kind %q", ErrOptions, opts.Kind)
	case opts.Kind == Arc && opts.TokenDir == "":
		return nil, fmt.Errorf("%w: arc needs a directory for its keys", ErrOptions)
	case opts.KeySize < 0 || opts.KeySize > maxForm:
		return nil, fmt.Errorf("%w: a key of %d bytes", ErrOptions, opts.KeySize)
	}
	system := 0
	for _, m := range opts.Identities {
		if m.SystemAssigned {
			system++
		}
	}
	if system > 1 {
		return nil, fmt.Errorf("%w: %d system-assigned identities", ErrOptions, system)
	}
	if opts.Lifetime == 0 {
		opts.Lifetime = DefaultManagedLifetime
	}
	h := &Host{
		opts: opts, proto: proto, entra: opts.World.Entra, clock: opts.World.clock,
		held: map[string]managedToken{}, keys: map[string]string{},
	}
	if proto.secret != "" {
		h.header = strings.ToUpper(strings.ReplaceAll(uuid.NewString(), "-", ""))
	}
	env := &surroundings{clock: h.clock, log: opts.World.env.log}
	if opts.Kind == ServiceFabric {
		cert, thumb, err := selfSigned(time.Now())
		if err != nil {
			return nil, fmt.Errorf("sandbox: certificate: %w", err)
		}
		h.thumb, env.tls = thumb, &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{cert}}
	}
	var err error
	if h.srv, err = serve(string(opts.Kind), env, http.HandlerFunc(h.serve)); err != nil {
		return nil, fmt.Errorf("sandbox: %w", err)
	}
	opts.World.join(h.srv)
	return h, nil
}

// Close ends the host and the calls in it, and takes its key files away. It
// may be called more than once.
func (h *Host) Close() {
	h.srv.close()
	h.mu.Lock()
	defer h.mu.Unlock()
	for path := range h.keys {
		_ = os.Remove(path)
	}
	clear(h.keys)
}

// URL returns scheme, host and port, with no slash at the end.
func (h *Host) URL() string { return h.srv.url }

// Endpoint returns the address that token requests go to.
func (h *Host) Endpoint() string { return h.srv.url + h.proto.path }

// Environ returns the variables that a process on this host would have, as
// NAME=value. A process in a virtual machine has none; AZURE_POD_IDENTITY_
// AUTHORITY_HOST, by which clients let themselves be sent elsewhere, stands in.
func (h *Host) Environ() []string {
	endpoint := "IDENTITY_ENDPOINT=" + h.Endpoint()
	switch h.opts.Kind {
	case AppService, ContainerApps:
		return []string{endpoint, "IDENTITY_HEADER=" + h.header}
	case ServiceFabric:
		return []string{endpoint, "IDENTITY_HEADER=" + h.header, "IDENTITY_SERVER_THUMBPRINT=" + h.thumb}
	case Arc:
		return []string{endpoint, "IMDS_ENDPOINT=" + h.URL()}
	case CloudShell:
		return []string{"MSI_ENDPOINT=" + h.Endpoint()}
	case AzureML:
		out := []string{"MSI_ENDPOINT=" + h.Endpoint(), "MSI_SECRET=" + h.header}
		for _, m := range h.opts.Identities {
			if !m.SystemAssigned {
				return append(out, "DEFAULT_IDENTITY_CLIENT_ID="+m.ClientID)
			}
		}
		return out
	default:
		return []string{"AZURE_POD_IDENTITY_AUTHORITY_HOST=" + h.URL()}
	}
}

// Fail starts a fault with its defaults; see [Host.FailWith].
func (h *Host) Fail(kind Fault) { h.FailWith(Failure{Kind: kind}) }

// FailWith makes the host misbehave until [Host.Recover], until the next
// failure, or for f.Times token requests. [Throttle], [Outage], [NotFound],
// [Gone], [ServerError], [Unreachable], [Slow], [Hang], [Refuse], [Redirect]
// and the faults that spoil an answer work here. A probe meets only those that
// last: [Unreachable] and [Hang].
func (h *Host) FailWith(f Failure) {
	h.failing.begin(f)
	h.srv.door.shut.Store(f.Kind == Refuse)
}

// Recover ends the failure. Calls that hang get their answer.
func (h *Host) Recover() {
	h.failing.end()
	h.srv.door.shut.Store(false)
}

// Requests returns how often a token was asked for, refused and failed calls
// included; each step of Arc's handshake counts.
func (h *Host) Requests() int { return h.count(&h.requests) }

// Refused returns how many of [Host.Requests] the host found fault with. Arc's
// challenge is no refusal.
func (h *Host) Refused() int { return h.count(&h.refused) }

// Probes returns how often somebody only looked whether this is a platform:
// they called without the header Metadata, where the platform wants it.
func (h *Host) Probes() int { return h.count(&h.probes) }

func (h *Host) count(n *int) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return *n
}

// serve answers one call.
func (h *Host) serve(w http.ResponseWriter, r *http.Request) {
	if h.proto.secret == "" && len(r.Header.Values("Metadata")) == 0 && r.URL.Path == h.proto.path {
		h.probed(w, r)
		return
	}
	h.mu.Lock()
	h.requests++
	h.mu.Unlock()
	f := h.failing.meet()
	if !f.wait(r.Context()) {
		panic(http.ErrAbortHandler) // the client has left
	}
	if f.Kind == Redirect {
		http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
		return
	}
	if f.answer(w, h.clock.now()) {
		return
	}
	asked, why := h.judge(r)
	if why == "" && h.opts.Kind == Arc && h.challenge(w, r) {
		return
	}
	var token managedToken
	var no *refusal
	if why == "" {
		token, no = h.token(asked)
	}
	if why != "" || no != nil {
		h.mu.Lock()
		h.refused++
		h.mu.Unlock()
		h.complain(w, why, no)
		return
	}
	answer := h.answer(token, asked)
	f.spoil(answer)
	writeJSON(w, http.StatusOK, answer)
}

// probed answers a call that only looks whether there is a platform here.
func (h *Host) probed(w http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	h.probes++
	h.mu.Unlock()
	f := h.failing.look()
	if f.Kind != Unreachable && f.Kind != Hang {
		h.complain(w, noMetadata, nil)
		return
	}
	if !f.wait(r.Context()) {
		panic(http.ErrAbortHandler)
	}
	if !f.answer(w, h.clock.now()) {
		h.complain(w, noMetadata, nil)
	}
}

// token returns the one that the platform holds for this identity and
// resource, or a new one if that is near its end.
func (h *Host) token(a asking) (managedToken, *refusal) {
	h.mu.Lock()
	defer h.mu.Unlock()
	key := a.identity.ClientID + " " + a.resource
	if t, ok := h.held[key]; ok && h.clock.now().Add(nearExpiry).Before(t.expires) {
		return t, nil
	}
	var t managedToken
	var no *refusal
	if h.opts.Kind == CloudShell {
		t, no = h.entra.issueUser(a.resource, h.opts.Lifetime)
	} else {
		t, no = h.entra.issueManaged(a.identity.ClientID, a.resource, h.opts.Lifetime)
	}
	if no == nil {
		h.held[key] = t // bounded by the resources that Entra knows
	}
	return t, no
}

// maxKeys bounds the keys of Arc that nobody came back with.
const maxKeys = 64

// challenge takes the key of an Arc request, or answers with the challenge that
// names a new one, and reports whether it answered. A key is good once.
func (h *Host) challenge(w http.ResponseWriter, r *http.Request) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if given, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Basic "); ok {
		for path, key := range h.keys {
			if given == key {
				_ = os.Remove(path)
				delete(h.keys, path)
				return false
			}
		}
		h.refused++
		h.complain(w, wrongKey, nil)
		return true
	}
	path, err := h.writeKey()
	if err != nil {
		http.Error(w, "the key could not be written", http.StatusInternalServerError)
		return true
	}
	if h.opts.Realm != "" {
		path = h.opts.Realm
	}
	w.Header().Set("WWW-Authenticate", "Basic realm="+path)
	h.complain(w, noKey, nil)
	return true
}

// writeKey makes a key file. The lock must be held.
func (h *Host) writeKey() (path string, err error) {
	size := h.opts.KeySize
	if size == 0 {
		size = 64
	}
	raw := make([]byte, size/2+1)
	_, _ = rand.Read(raw) // never fails, crypto/rand.Read
	path = strings.TrimSuffix(h.opts.TokenDir, "/") + "/" + uuid.NewString() + ".key"
	key := hex.EncodeToString(raw)[:size]
	if err := os.WriteFile(path, []byte(key), 0o600); err != nil {
		return "", err
	}
	for old := range h.keys {
		if len(h.keys) < maxKeys {
			break
		}
		_ = os.Remove(old)
		delete(h.keys, old)
	}
	h.keys[path] = key
	return path, nil
}
