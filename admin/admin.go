// Package admin is the operator's window: health, readiness and metrics for
// anybody who can reach it; and what the gateway does, reload and purge for
// those who show the admin key or, on this machine, run as the gateway's own
// user or as root. It has listeners of its own and is never reached through the
// proxy.
package admin

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"fmt"
	"log"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed-13b04e61/gateway/audit"
	"github.com/seed-13b04e61/gateway/gate"
	"github.com/seed-13b04e61/gateway/routes"
	"github.com/seed-13b04e61/gateway/secrets"
)

// Readiness answers /readyz.
type Readiness struct {
	Ready    bool     `json:"ready"`
	Degraded []string `json:"degraded,omitempty"` // what does not work, in words
}

// Reloaded answers POST /api/reload.
type Reloaded struct {
	OK       bool     `json:"ok"`
	Routes   int      `json:"routes"`             // in the table now in force
	SQL      int      `json:"sql,omitempty"`      // SQL doors in it
	Mistakes string   `json:"mistakes,omitempty"` // as gateway check prints them
	Warnings []string `json:"warnings,omitempty"`
}

// Purged answers POST /api/purge.
type Purged struct {
	Tokens int `json:"tokens"` // forgotten
}

// Selection narrows a purge; empty fields match everything.
type Selection struct{ Credential, Tenant, Scope string }

// Gateway is what the admin port shows and steers.
type Gateway interface {
	// Ready judges one route, or all for "". strict makes any trouble count.
	Ready(route string, strict bool) Readiness
	Reload() Reloaded
	Purge(Selection) Purged
	// AdminKey is the key in force; the zero secret when there is none.
	AdminKey() secrets.Secret
	Window
}

// Window is what the admin port shows of a gateway.
type Window interface {
	Routes() Routes
	Credentials() []Credential
	// Tokens lists at most limit tokens, those of static routes first, and says
	// how many more there are.
	Tokens(limit int) (list []Token, more int)
	Status() Status
	Permissions() Permissions
	// Explain says what gateway explain says of a call; caller is the name of
	// the one that makes it, "" for none. An error means that it was not asked
	// rightly.
	Explain(ctx context.Context, method, target, caller string) (Explanation, error)
	Calls() *audit.Calls
	Sessions() *audit.Sessions
}

// Admin serves the admin and health listeners.
type Admin struct {
	gateway Gateway
	metrics http.Handler
	logs    func(detail string)
	wrong   failures
	streams atomic.Int32  // that are open
	ending  chan struct{} // closed when the server stops
	end     func()
}

// maxTokens bounds what /api/tokens lists.
const maxTokens = 1000

// New makes the admin plane of g. logs takes the server's own complaints.
func New(g Gateway, metrics http.Handler, logs func(detail string)) *Admin {
	ending := make(chan struct{})
	return &Admin{gateway: g, metrics: metrics, logs: logs, ending: ending, end: sync.OnceFunc(func() { close(ending) })}
}

// HealthServer serves /healthz, /readyz and /metrics and nothing else.
func (a *Admin) HealthServer() *http.Server { return a.server(a.open()) }

// Server serves the whole admin port.
func (a *Admin) Server() *http.Server {
	mux := a.open()
	mux.Handle("POST /api/reload", a.guarded(func(w http.ResponseWriter, _ *http.Request) {
		done := a.gateway.Reload()
		status := http.StatusOK
		if !done.OK {
			status = http.StatusUnprocessableEntity
		}
		reply(w, status, done)
	}))
	mux.Handle("POST /api/purge", a.guarded(func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		reply(w, http.StatusOK, a.gateway.Purge(Selection{q.Get("credential"), q.Get("tenant"), q.Get("scope")}))
	}))
	a.window(mux)
	page := Page()
	mux.Handle("GET /{$}", page)
	mux.Handle("GET /page/", page)
	srv := a.server(mux)
	srv.RegisterOnShutdown(a.end) // which would wait for streams
	return srv
}

// window shows what the gateway does.
func (a *Admin) window(mux *http.ServeMux) {
	g := a.gateway
	show := func(what func() any) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { reply(w, http.StatusOK, what()) }
	}
	mux.Handle("GET /api/routes", a.readable(show(func() any { return g.Routes() })))
	mux.Handle("GET /api/credentials", a.readable(show(func() any { return g.Credentials() })))
	mux.Handle("GET /api/status", a.readable(show(func() any { return g.Status() })))
	mux.Handle("GET /api/requests", a.readable(recent(a, requests(g.Calls()))))
	mux.Handle("GET /api/sessions", a.readable(recent(a, sessions(g.Sessions()))))
	mux.Handle("GET /api/tokens", a.readable(func(w http.ResponseWriter, _ *http.Request) {
		list, more := g.Tokens(maxTokens)
		w.Header().Set("Gateway-Left-Out", strconv.Itoa(more))
		reply(w, http.StatusOK, list)
	}))
	mux.Handle("GET /api/permissions", a.readable(show(func() any { return g.Permissions() })))
	mux.Handle("GET /api/explain", a.readable(func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		x, err := g.Explain(r.Context(), q.Get("method"), q.Get("url"), q.Get("caller"))
		if err != nil {
			deny(w, http.StatusBadRequest, err.Error())
			return
		}
		reply(w, http.StatusOK, x)
	}))
}

func (a *Admin) open() *http.ServeMux {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		reply(w, http.StatusOK, map[string]string{"status": "up"})
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		ready := a.gateway.Ready(q.Get("route"), q.Has("strict"))
		status := http.StatusOK
		if !ready.Ready {
			status = http.StatusServiceUnavailable
		}
		reply(w, status, ready)
	})
	mux.Handle("GET /metrics", a.metrics)
	return mux
}

type connKey struct{}

func (a *Admin) server(h http.Handler) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       30 * time.Second,
		WriteTimeout:      60 * time.Second,
		IdleTimeout:       120 * time.Second,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          log.New(complaints(a.logs), "", 0),
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, connKey{}, c)
		},
	}
}

type complaints func(string)

func (c complaints) Write(b []byte) (int, error) { c(strings.TrimSpace(string(b))); return len(b), nil }

// guarded lets the operator in and nobody else: not a page in the operator's
// browser, nor an app that merely shares the loopback.
func (a *Admin) guarded(next http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case !ownHost(r):
			deny(w, http.StatusMisdirectedRequest, "the Host field names neither loopback nor this listener's address")
		case ofAPage(r.Header):
			deny(w, http.StatusForbidden, "the request came from a page in a browser")
		default:
			a.judge(w, r, next)
		}
	})
}

// readable lets in whom guarded does, and the gateway's own page besides.
func (a *Admin) readable(next http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case !ownHost(r):
			deny(w, http.StatusMisdirectedRequest, "the Host field names neither loopback nor this listener's address")
		case ofAPage(r.Header) && !ofOwnPage(r):
			deny(w, http.StatusForbidden, "the request came from another page in a browser")
		default:
			a.judge(w, r, next)
		}
	})
}

// ofOwnPage tells whether a page of this very listener sent r. Browsers send
// Origin only with what may change something, or leads elsewhere.
func ofOwnPage(r *http.Request) bool {
	sites, origins := r.Header["Sec-Fetch-Site"], r.Header["Origin"]
	return len(sites) == 1 && sites[0] == "same-origin" &&
		(len(origins) == 0 || len(origins) == 1 && origins[0] == "http://"+r.Host)
}

// ofAPage tells whether a page in a browser sent this: every line counts, as
// another server may have read another one.
func ofAPage(h http.Header) bool {
	return h["Origin"] != nil || slices.ContainsFunc(h["Sec-Fetch-Site"], func(site string) bool { return site != "" && site != "none" })
}

// judge lets the operator in, and holds off who guesses.
func (a *Admin) judge(w http.ResponseWriter, r *http.Request, next http.HandlerFunc) {
	conn, ok := r.Context().Value(connKey{}).(net.Conn)
	if !ok {
		deny(w, http.StatusUnauthorized, "the connection is unknown")
		return
	}
	source := sourceOf(conn)
	if wait := a.wrong.charge(source, time.Now()); wait > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(wait/time.Second)+1))
		deny(w, http.StatusTooManyRequests, "too many wrong credentials came from here; wait and try again")
		return
	}
	if why := a.stranger(r, conn); why != "" {
		w.Header().Set("WWW-Authenticate", `Bearer realm="gateway admin"`)
		deny(w, http.StatusUnauthorized, why)
		return
	}
	a.wrong.pay(source)
	next(w, r)
}

// stranger says why the sender of r is not the operator, or "".
func (a *Admin) stranger(r *http.Request, conn net.Conn) string {
	if fields := r.Header["Authorization"]; fields != nil {
		scheme, shown, _ := strings.Cut(fields[0], " ")
		if len(fields) > 1 || !strings.EqualFold(scheme, "Bearer") {
			return "send one Authorization field: Bearer and the admin key"
		}
		key := a.gateway.AdminKey()
		got, want := sha256.Sum256([]byte(shown)), sha256.Sum256([]byte(key.Reveal()))
		same := subtle.ConstantTimeCompare(got[:], want[:]) == 1
		if same && !key.IsZero() {
			return ""
		}
		return "the admin key is wrong"
	}
	uid, err := gate.PeerUID(conn)
	if err != nil {
		return "send the admin key as a Bearer credential: " + err.Error()
	}
	if uid != 0 && uid != uint32(os.Getuid()) { //nolint:gosec // a uid fits
		return fmt.Sprintf("user %d is neither the gateway's own nor root; send the admin key as a Bearer credential", uid)
	}
	return ""
}

// ownHost tells whether Host is a loopback name or the very address that the
// request was sent to, so that no name rebound to it is obeyed.
func ownHost(r *http.Request) bool {
	local, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	if ok && local.Network() == "unix" {
		return true // no browser speaks to a unix socket
	}
	a, err := routes.ParseAuthority(r.Host, 80)
	if err != nil {
		return false
	}
	ip, err := netip.ParseAddr(a.Host)
	if err != nil {
		return a.Host == "localhost"
	}
	if ip.IsLoopback() {
		return true
	}
	if !ok {
		return false
	}
	at, err := netip.ParseAddrPort(local.String())
	return err == nil && at.Addr().Unmap() == ip
}

func deny(w http.ResponseWriter, status int, why string) {
	reply(w, status, map[string]string{"error": why})
}

func reply(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // the caller has left if this fails
}
