package main

import (
	"cmp"
	"context"
	"errors"
	"math"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/seed-13b04e61/gateway/admin"
	"github.com/seed-13b04e61/gateway/audit"
	"github.com/seed-13b04e61/gateway/authority"
	"github.com/seed-13b04e61/gateway/routes"
	"github.com/seed-13b04e61/gateway/tokens"
)

// memory is what an engine remembers for the admin port.
type memory struct {
	started  time.Time
	calls    *audit.Calls
	sessions *audit.Sessions
	handed   atomic.Int64 // tokens handed out
	cached   atomic.Int64 // and those among them that nobody had to wait for
	reading  atomic.Pointer[admin.Reading]
}

func newMemory() *memory {
	m := &memory{started: time.Now(), calls: audit.NewCalls(), sessions: audit.NewSessions()}
	m.read(admin.Reading{OK: true})
	return m
}

// lookup counts a token that was handed out.
func (m *memory) lookup(o tokens.Origin) {
	m.handed.Add(1)
	if o != tokens.FromIdentityProvider {
		m.cached.Add(1)
	}
}

// read notes what came of a reading of routes.yaml.
func (m *memory) read(r admin.Reading) {
	r.At = time.Now()
	m.reading.Store(&r)
}

// warningsOf are the words of notices.
func warningsOf(notices []notice) (list []string) {
	for _, n := range notices {
		list = append(list, n.String())
	}
	return list
}

// Calls implements [admin.Window].
func (e *engine) Calls() *audit.Calls { return e.memory.calls }

// Sessions implements [admin.Window].
func (e *engine) Sessions() *audit.Sessions { return e.memory.sessions }

// Routes implements [admin.Window].
func (e *engine) Routes() admin.Routes {
	table, at := e.gate.Load().Table(), e.shownSQL()
	all := admin.Routes{Routes: []admin.Route{}, SQL: []admin.Door{}}
	for _, r := range table.Routes {
		t := e.memory.calls.Route(r.Name)
		all.Routes = append(all.Routes, admin.Route{
			Name: r.Name, Line: r.Line, Preset: r.Preset, Hosts: hostsOf(r), Mount: r.Mount, Scope: r.Scope,
			Credential: r.Credential.Name, Callers: callerNames(r.Callers),
			Requests: t.Requests, Refusals: t.Refusals, Errors: t.Errors, Rate: t.Rate, Last: t.Last,
			P50: admin.Milliseconds(t.P50), P99: admin.Milliseconds(t.P99),
		})
	}
	for _, d := range table.SQL {
		t := e.memory.sessions.Door(d.Name)
		all.SQL = append(all.SQL, admin.Door{
			Name: d.Name, Line: d.Line, Listen: cmp.Or(at[d.Name], d.Listen), Server: strings.Join(authorities(d), " "),
			Credential: d.Credential.Name, Callers: callerNames(d.Callers),
			Sessions: t.Sessions, Logins: t.Logins, Failures: t.Failures, Last: t.Last,
		})
	}
	return all
}

// hostsOf are r's hosts, without the port that https has anyway.
func hostsOf(r *routes.Route) (hosts []string) {
	for _, h := range r.Hosts {
		hosts = append(hosts, strings.TrimSuffix(h.String(), ":443"))
	}
	return hosts
}

// callerNames are the names of callers; nil stays nil.
func callerNames(callers []*routes.Caller) (names []string) {
	for _, c := range callers {
		names = append(names, c.Name)
	}
	return names
}

// Credentials implements [admin.Window].
func (e *engine) Credentials() []admin.Credential {
	all := []admin.Credential{}
	for _, c := range e.directory.Status() {
		shown := admin.Credential{
			Name: c.Name, Kind: c.Kind, Ready: c.Usable(), Reason: c.Reason, Remedy: c.Remedy, Fallback: c.Fallback,
			Expires: c.Expires, Skew: c.Skew.Seconds(),
		}
		switch {
		case c.LastError != nil:
			told := authority.Explain(c.LastError)
			shown.Reason, shown.Remedy = told.Detail, told.Remedy
		case c.Reason == "" && c.Skew != 0:
			shown.Reason = skewed(c)
		}
		if !c.Expires.IsZero() {
			days := int(math.Floor(time.Until(c.Expires).Hours() / 24))
			shown.DaysLeft = &days
		}
		all = append(all, shown)
	}
	return all
}

// Tokens implements [admin.Window].
func (e *engine) Tokens(limit int) (list []admin.Token, more int) {
	seen := map[tokens.Key]bool{}
	var keys []tokens.Key
	for _, s := range e.served() {
		for _, k := range s.keys {
			if !seen[k] {
				seen[k] = true
				keys = append(keys, k)
			}
		}
	}
	others := e.store.Keys()
	slices.SortFunc(others, func(a, b tokens.Key) int {
		return cmp.Or(strings.Compare(a.Credential, b.Credential), strings.Compare(a.Tenant, b.Tenant), strings.Compare(a.Scope, b.Scope))
	})
	for _, k := range others {
		if !seen[k] {
			keys = append(keys, k)
		}
	}
	list = []admin.Token{}
	for _, k := range keys[:min(limit, len(keys))] {
		info, _ := e.store.Peek(k)
		t := admin.Token{
			Credential: k.Credential, Tenant: k.Tenant, Scope: k.Scope, SHA256: info.Fingerprint, Source: string(info.Origin),
			Obtained: info.Obtained, RefreshAt: info.RefreshAt, Expires: info.Expires, Usable: info.Usable, Failing: info.Failing,
		}
		if info.Err != nil {
			told := authority.Explain(info.Err)
			t.Error, t.Remedy = told.Detail, told.Remedy
		}
		list = append(list, t)
	}
	return list, len(keys) - len(list)
}

// Status implements [admin.Window].
func (e *engine) Status() admin.Status {
	m := e.memory
	ready := e.Ready("", false)
	s := admin.Status{
		Version: version, Started: m.started, Config: e.gate.Load().Table().Name, Reload: *m.reading.Load(),
		Ready: ready.Ready, Degraded: append([]string{}, ready.Degraded...), Requests: m.calls.Total().Requests,
	}
	if handed := m.handed.Load(); handed > 0 {
		rate := float64(min(m.cached.Load(), handed)) / float64(handed)
		s.HitRate = &rate
	}
	return s
}

// Explain implements [admin.Window], for the table in force and the door that
// is open.
func (g *gateway) Explain(ctx context.Context, method, target, caller string) (admin.Explanation, error) {
	if method == "" || target == "" {
		return admin.Explanation{}, errors.New("explain wants method and url; method LOGIN, and the name of a SQL door for url")
	}
	in := g.gate.Load()
	listen := in.Table().Listen
	listen.Proxy = shown(g.proxyL)
	f := explainFlags{method: strings.ToUpper(method), as: caller, listen: &listen}
	if err := f.read(target); err != nil {
		return admin.Explanation{}, err
	}
	judge := decide
	if f.method == methodLogin {
		judge = decideLogin
	}
	return judge(ctx, in, f)
}
