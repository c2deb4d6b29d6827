package e2e

import (
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed-13b04e61/gateway/sandbox"
)

// tooSlow is over the threshold of the alerts on waiting.
const tooSlow = 6 * time.Second

func callTroubles() []trouble {
	return []trouble{
		{name: "errors", fires: []string{"GatewayUpstreamErrors api"}, begin: func(t *testing.T) place {
			return upstreamScene(t, 4, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) })
		}},
		{name: "unreachable", fires: []string{"GatewayUpstreamUnreachable upstream_unreachable", "GatewayUpstreamUnreachable upstream_tls",
			"GatewayUpstreamUnreachable upstream_proxy", "GatewayUpstreamUnreachable timeout"}, begin: unreachableScene},
		{name: "slow", fires: []string{"GatewayUpstreamSlow api"}, begin: func(t *testing.T) place {
			return upstreamScene(t, 8, func(_ http.ResponseWriter, r *http.Request) {
				select {
				case <-time.After(tooSlow):
				case <-r.Context().Done():
				}
			})
		}},
		{name: "not-taken", fires: []string{"GatewayTokensNotTaken api"}, begin: func(t *testing.T) place {
			return upstreamScene(t, 2, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("WWW-Authenticate", `Bearer error="invalid_token"`)
				w.WriteHeader(http.StatusUnauthorized)
			})
		}},
		{name: "sign-in", fires: []string{"GatewayTokensNotTaken azuredevops"}, begin: signInScene},
		{name: "reflected", fires: []string{"GatewayTokenReflected token_reflected"}, begin: func(t *testing.T) place {
			return upstreamScene(t, 1, func(w http.ResponseWriter, r *http.Request) { _, _ = fmt.Fprint(w, r.Header.Get("Authorization")) })
		}},
		{name: "sql-callers", fires: []string{"GatewaySQLLoginsFail caller_unknown"}, also: []string{"GatewaySQLLoginsFail rate_limited"}, begin: sqlCallersScene},
		{name: "sql-full", fires: []string{"GatewaySQLLoginsFail overloaded"}, begin: sqlFullScene},
		{name: "sql-down", fires: []string{"GatewaySQLLoginsFail upstream_unreachable"}, begin: sqlDownScene},
		{name: "sql-user", fires: []string{"GatewaySQLServerRefuses 18456"}, begin: sqlUserScene},
		{name: "sql-firewall", fires: []string{"GatewaySQLServerRefuses 40615"}, begin: func(t *testing.T) place {
			return sqlMannersScene(t, 1, sandbox.SQLManners{Refuse: &sandbox.SQLRefusal{Number: 40615}})
		}},
		{name: "sql-outlive", fires: []string{"GatewaySQLSessionsOutliveTokens failed"}, begin: sqlOutliveScene},
		{name: "sql-slow", fires: []string{"GatewaySQLLoginsSlow login"}, begin: func(t *testing.T) place {
			return sqlMannersScene(t, 4, sandbox.SQLManners{Slow: tooSlow})
		}},
	}
}

// upstreamScene has callers at a route whose API is well until it misbehaves.
func upstreamScene(t *testing.T, callers int, misbehave http.HandlerFunc) place {
	var bad atomic.Bool
	up := serveHTTP(t, func(w http.ResponseWriter, r *http.Request) {
		if bad.Load() {
			misbehave(w, r)
		}
	})
	w := newWorld(t, sandbox.Options{})
	g := gatewayOf(t, w, fmt.Sprintf("  - {name: api, hosts: [api.example.com], scope: %s, upstream: %q}\n", graphScope, up.URL), "")
	for range callers {
		keep(t, 900*time.Millisecond, g.asks("/api/things"))
	}
	return place{g: g,
		wreck: func(*testing.T) { bad.Store(true) },
		mend:  func(*testing.T) { bad.Store(false) }}
}

// unreachableScene has four routes, each with another reason why its API is not
// reached. The calls are too few for an alert on 5xx.
func unreachableScene(t *testing.T) place {
	well := serveHTTP(t, func(http.ResponseWriter, *http.Request) {})
	foreign := httptest.NewTLSServer(http.NotFoundHandler())
	foreign.Config.ErrorLog = log.New(io.Discard, "", 0) // of handshakes that fail
	t.Cleanup(foreign.Close)
	silent := serveHTTP(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	hop := startSQLHop(t)
	hop.now(says("HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n"))
	dead := "http://" + freePort(t)
	w := newWorld(t, sandbox.Options{})
	s := graphSetup(w, "")
	route := func(name, upstream string) string {
		return fmt.Sprintf("  - {name: %s, hosts: [%s.example.com], scope: %s, timeouts: {response_header: 500ms}, upstream: %q}\n", name, name, graphScope, upstream)
	}
	egress := fmt.Sprintf("egress: {proxy: {url: %q, bypass: [127.0.0.0/8]}}\n", "http://"+hop.addr)
	s.Config += route("dead", well.URL) + route("foreign", well.URL) + route("silent", well.URL) + route("hop", well.URL) + egress
	g := start(t, s)
	g.ready(t)
	broken := strings.NewReplacer(route("dead", well.URL), route("dead", dead), route("foreign", well.URL), route("foreign", foreign.URL),
		route("silent", well.URL), route("silent", silent.URL), route("hop", well.URL), route("hop", "https://far.example.com")).Replace(s.Config)
	for _, path := range []string{"/dead/", "/foreign/", "/silent/", "/hop/"} {
		keep(t, time.Second, g.asks(path))
	}
	return place{g: g,
		wreck: func(t *testing.T) { write(t, g.config, broken) },
		mend:  func(t *testing.T) { write(t, g.config, s.Config) }}
}

// signInScene is Azure DevOps that shows its sign-in page in place of an answer.
func signInScene(t *testing.T) place {
	w := newWorld(t, sandbox.Options{})
	api, err := sandbox.StartAPI(sandbox.APIOptions{World: w, Kind: sandbox.DevOps})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(api.Close)
	apis := map[sandbox.APIKind]*sandbox.API{sandbox.DevOps: api}
	good := apiSetup(w, apis, nil)
	bad := apiSetup(w, apis, map[sandbox.APIKind]string{
		sandbox.DevOps: `, scope: "https://graph.microsoft.com/.default", set_headers: {X-TFS-FedAuthRedirect: ""}`,
	})
	g := start(t, good)
	keep(t, 300*time.Millisecond, g.asks("/azuredevops/contoso/_apis/projects"))
	return place{g: g,
		wreck: func(t *testing.T) { write(t, g.config, bad.Config) },
		mend:  func(t *testing.T) { write(t, g.config, good.Config) }}
}

// purge has a gateway forget its tokens.
func (g *gateway) purge(t testing.TB) {
	t.Helper()
	if out, code := g.command(t, "purge", "--admin", g.admin); code != 0 {
		t.Errorf("gateway purge: exit %d with %s", code, out)
	}
}

// logins opens sessions one after the other, and has each say who it is.
func (a *sqlArena) logins(user, password string) func(ctx context.Context) {
	return func(ctx context.Context) {
		db, err := openSQL(a.addr, user, password, "encrypt=disable")
		if err != nil {
			return
		}
		defer db.Close()
		_, _ = whoever(ctx, db)
	}
}

// sqlMannersScene has a server with bad manners, and that many pools.
func sqlMannersScene(t *testing.T, pools int, bad sandbox.SQLManners) place {
	a := startSQLArena(t, "", "")
	for range pools {
		keep(t, 400*time.Millisecond, a.logins("any", "any"))
	}
	return place{g: a.gateway,
		wreck: func(*testing.T) { a.far.Set(func(m *sandbox.SQLManners) { *m = bad }) },
		mend:  func(*testing.T) { a.far.Set(func(m *sandbox.SQLManners) { *m = sandbox.SQLManners{} }) }}
}

// sqlCallersScene has apps with a key that is not theirs. Each waits a second
// for its refusal.
func sqlCallersScene(t *testing.T) place {
	section, _ := sqlKey(t, "reports")
	a := startSQLArena(t, "", section)
	var tr *traffic
	return place{g: a.gateway,
		wreck: func(*testing.T) {
			wrong := a.logins("reports", "wrong")
			tr = keep(t, 100*time.Millisecond, wrong, wrong, wrong)
		},
		mend: func(*testing.T) { tr.halt() }}
}

// sqlFullScene has one pool more than the door takes.
func sqlFullScene(t *testing.T) place {
	a := startSQLArena(t, "    max_connections: 1\n", "")
	var holder, others *traffic
	return place{g: a.gateway,
		wreck: func(inner *testing.T) {
			holder = keep(t, time.Minute, func(ctx context.Context) {
				db, err := openSQL(a.addr, "any", "any", "encrypt=disable")
				if err != nil {
					return
				}
				defer db.Close()
				_, _ = whoever(ctx, db)
				<-ctx.Done()
			})
			eventually(inner, "the door is full", func() bool { return a.metric(inner, "gateway_sql_sessions") == 1 })
			others = keep(t, 400*time.Millisecond, a.logins("any", "any"))
		},
		mend: func(inner *testing.T) {
			holder.halt()
			eventually(inner, "there is room", func() bool { return a.metric(inner, "gateway_sql_logins_total", `result="success"`) > 1 })
			others.halt()
		}}
}

func sqlDownScene(t *testing.T) place {
	a := startSQLArena(t, "", "")
	keep(t, 400*time.Millisecond, a.logins("any", "any"))
	text, err := os.ReadFile(a.config)
	if err != nil {
		t.Fatal(err)
	}
	return place{g: a.gateway,
		wreck: func(t *testing.T) {
			write(t, a.config, strings.Replace(string(text), "dial: "+a.far.Addr(), "dial: "+freePort(t), 1))
		},
		mend: func(t *testing.T) { write(t, a.config, string(text)) }}
}

// sqlUserScene has a database that does not know the application.
func sqlUserScene(t *testing.T) place {
	a := startSQLArena(t, "", "")
	keep(t, 400*time.Millisecond, a.logins("any", "any"))
	return place{g: a.gateway,
		wreck: func(*testing.T) { a.far.DropUser(sandbox.ClientID) },
		mend:  func(*testing.T) { a.far.CreateUser(sandbox.ClientID) }}
}

// sqlOutliveScene has a pool keep a session past the end of its token, with a
// login behind it that fails.
func sqlOutliveScene(t *testing.T) place {
	a := startSQLArena(t, "", "")
	a.world.Entra.SetLifetime(sqlLife)
	a.purge(t)
	db := sqlPool(t, a.addr, "any", "any", "encrypt=disable")
	return place{g: a.gateway,
		wreck: func(inner *testing.T) {
			if _, err := whoever(inner.Context(), db); err != nil {
				inner.Fatal(err)
			}
			a.far.DropUser(sandbox.ClientID)
			eventually(inner, "the session's token is over", func() bool {
				logins := a.far.Logins()
				return len(logins) > 0 && time.Now().After(logins[len(logins)-1].Expires.Add(time.Second))
			})
			if _, err := whoever(inner.Context(), db); err == nil {
				inner.Error("the session goes on without a token")
			}
		},
		mend: func(inner *testing.T) {
			a.far.CreateUser(sandbox.ClientID)
			a.world.Entra.SetLifetime(0)
			a.purge(inner)
			if _, err := whoever(inner.Context(), db); err != nil {
				inner.Error(err)
			}
		}}
}
