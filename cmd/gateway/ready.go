package main

import (
	"fmt"
	"slices"

	"github.com/seed-13b04e61/gateway/admin"
	"github.com/seed-13b04e61/gateway/audit"
	"github.com/seed-13b04e61/gateway/gate"
	"github.com/seed-13b04e61/gateway/routes"
	"github.com/seed-13b04e61/gateway/tokens"
)

// service is what an app may use: a route or a SQL door. Both have their names
// from one namespace.
type service struct {
	what, name string // "route" or "sql door"
	credential string
	keys       []tokens.Key // of the tokens that it needs
}

// served are the routes and SQL doors of the table in force.
func (e *engine) served() []service {
	g := e.gate.Load()
	var all []service
	for _, r := range g.Table().Routes {
		all = append(all, service{"route", r.Name, r.Credential.Name, keys(g, r)})
	}
	for _, d := range g.Table().SQL {
		all = append(all, service{"sql door", d.Name, d.Credential.Name, []tokens.Key{e.directory.Key(d.Credential, d.Scope)}})
	}
	return all
}

// keys are those of the tokens that a call of r needs.
func keys(g *gate.Gate, r *routes.Route) []tokens.Key {
	all := []tokens.Key{g.Key(r)}
	if second, ok := g.SecondKey(r); ok {
		all = append(all, second)
	}
	return all
}

// state is what the gauges show.
func (e *engine) state() audit.State {
	entries, bytes := e.store.Stats()
	s := audit.State{CacheEntries: entries, CacheBytes: bytes, Tunnels: e.handler.InFlight().Tunnels}
	if e.sql != nil {
		s.SQLSessions = e.sql.server.Sessions()
		s.SQLBytesIn, s.SQLBytesOut = e.sql.server.Bytes()
	}
	seen := map[audit.TokenState]bool{}
	for _, sv := range e.served() {
		for _, k := range sv.keys {
			label := audit.TokenState{Credential: k.Credential, Scope: k.Scope}
			if info, ok := e.store.Peek(k); ok && info.Cached && !seen[label] {
				seen[label] = true
				label.Expires = info.Expires
				s.Tokens = append(s.Tokens, label)
			}
		}
	}
	for _, c := range e.directory.Status() {
		s.Credentials = append(s.Credentials, audit.CredentialState{Name: c.Name, Ready: c.Usable(), Expires: c.Expires, Fallback: c.Fallback != ""})
	}
	return s
}

// Ready implements [admin.Gateway]. A route or SQL door works unless the last
// attempt to get its token failed and none is left: an idle one whose token has
// run out gets another with its next call. No database is asked.
func (e *engine) Ready(route string, strict bool) admin.Readiness {
	if e.draining.Load() {
		return admin.Readiness{Degraded: []string{"draining"}}
	}
	var r admin.Readiness
	working, total, found := 0, 0, route == ""
	unproven := false
	for _, s := range e.served() {
		_, proven := e.proven.Load(s.credential)
		unproven = unproven || !proven
		if route != "" && s.name != route {
			continue
		}
		found = true
		total++
		works, why := e.works(s, proven)
		if works {
			working++
		}
		if why != "" {
			r.Degraded = append(r.Degraded, fmt.Sprintf("%s %s: %s", s.what, s.name, why))
		}
	}
	r.Degraded = append(r.Degraded, e.ailments()...)
	if e.broken.Load() {
		r.Degraded = append(r.Degraded, "routes.yaml has mistakes; the table before it is in force; gateway check prints them")
	}
	switch {
	case !found:
		r.Degraded = []string{fmt.Sprintf("there is no route %q", route)}
	case route != "":
		r.Ready = working == total
	case strict:
		r.Ready = working == total && len(r.Degraded) == 0
	default:
		r.Ready = !unproven && (working > 0 || total == 0)
	}
	slices.Sort(r.Degraded)
	return r
}

// works tells whether s has a token or is likely to get one, and what is wrong
// with it, "" for nothing; proven: its credential has once got one.
func (e *engine) works(s service, proven bool) (works bool, why string) {
	var stale *tokens.Info
	for _, k := range s.keys {
		switch info, _ := e.store.Peek(k); {
		case info.Failing && !info.Usable:
			return false, withRemedy(info.Err)
		case info.Failing:
			stale = &info
		}
	}
	switch {
	case !proven:
		return false, fmt.Sprintf("credential %s has got no token yet; wait a moment, or see gateway check --live", s.credential)
	case stale != nil:
		return true, "served with a token that cannot be refreshed now: " + withRemedy(stale.Err)
	}
	return true, ""
}
