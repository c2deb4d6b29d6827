package sql

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/seed-13b04e61/gateway/routes"
	"github.com/seed-13b04e61/gateway/secrets"
	"github.com/seed-13b04e61/gateway/sql/tds"
)

// mssql is the wire of SQL Server and its kin.
type mssql struct{}

func (mssql) accept(ctx context.Context, conn net.Conn, f front) (client, error) {
	modes := map[routes.ClientTLS]tds.ClientTLS{routes.ClientTLSOff: tds.TLSOff, routes.ClientTLSOptional: tds.TLSOptional}
	mode, ok := modes[f.mode]
	if !ok {
		mode = tds.TLSRequired
	}
	c, err := tds.Accept(ctx, conn, tds.Front{TLS: mode, Passwords: f.passwords, Plain: f.plain, Certificate: f.certificate, Session: f.session})
	var fault *tds.Fault
	switch {
	case errors.As(err, &fault):
		return nil, &toldError{fault.Number, fault.Message}
	case errors.Is(err, tds.ErrSilent):
		return nil, fmt.Errorf("%w: %w", errSilent, err)
	case err != nil:
		return nil, err
	}
	return &mssqlClient{c}, nil
}

type mssqlClient struct{ c *tds.Client }

func (m *mssqlClient) asks() ask {
	l := m.c.Login()
	return ask{
		server: m.c.ServerName(), database: l.Database.String(), readOnly: l.ReadOnlyIntent(), mars: m.c.Prelogin().MARS(),
		app: l.AppName.String(), host: l.HostName.String(), library: l.Library.String(),
		version: tds.VersionName(l.Version), encrypted: m.c.TLS(), traceID: m.c.TraceID(),
	}
}

func (m *mssqlClient) credential() (user, password string) {
	l := m.c.Login()
	return l.UserName.String(), l.Password.String()
}

func (m *mssqlClient) wipe() { m.c.Login().Wipe() }

func (m *mssqlClient) refuse(r *refusal) { m.c.Refuse(faultOf(r.kind, r.message())) }

func (m *mssqlClient) number(k refusalKind) int32 { return faultOf(k, "").Number }

func faultOf(k refusalKind, message string) *tds.Fault {
	switch k {
	case unproven:
		return tds.BadPassword(message)
	case transient:
		return tds.Unavailable(message)
	case crowded:
		return tds.TooMany(message)
	}
	return tds.LoginFailed(message)
}

func (m *mssqlClient) passOn(e *loginError, hint string) {
	tokens, _ := e.words.([]tds.Token)
	m.c.RefuseAs(tokens, hint)
}

func (m *mssqlClient) login(ctx context.Context, t target, token secrets.Secret) (upstream, error) {
	d := t.door
	u, err := tds.Connect(ctx, tds.Target{
		Host: t.server.Host, Port: t.server.Port, Dial: d.Dial, Strict: d.Strict, Roots: t.roots, Dialer: t.dialer,
		Database: d.Database, ForceDatabase: d.ForceDatabase, ReadOnly: d.ReadOnly, AppNameSuffix: d.AppNameSuffix,
		RedirectSuffixes: d.RedirectSuffixes,
	}, m.c.Login(), m.c.Prelogin(), token)
	if err != nil {
		return nil, mssqlError(err)
	}
	return mssqlUpstream{u}, nil
}

// mssqlError tells the frame what it needs to know of a failed login.
func mssqlError(err error) *loginError {
	var failed *tds.LoginError
	if !errors.As(err, &failed) {
		return &loginError{err: err, text: err.Error()}
	}
	e := &loginError{
		facts: facts{phases: phasesOf(failed.Timings)}, phase: string(failed.Phase), server: failed.Server, hops: failed.Hops,
		err: failed.Err, text: failed.Cause(), reason: failed.Reason(), remedy: failed.Remedy(),
	}
	if len(failed.Refused) == 0 {
		e.err, e.lasting = cmp.Or(e.err, err), errors.Is(err, tds.ErrNoMARS)
		if errors.Is(e.err, tds.ErrReflected) {
			e.err = fmt.Errorf("%w: %w", errReflected, e.err)
		}
		return e
	}
	e.err, e.words, e.number = nil, failed.Tokens, failed.Number()
	for _, said := range failed.Refused {
		e.badToken = e.badToken || said.Number == tds.NumberLoginFailed
		e.expired = e.expired || said.Number == tds.NumberLoginFailed && strings.Contains(said.Message, "Token is expired")
	}
	return e
}

func phasesOf(timings []tds.Timing) map[string]time.Duration {
	phases := make(map[string]time.Duration, len(timings)+1)
	for _, t := range timings {
		phases[string(t.Phase)] += t.Took
	}
	return phases
}

func (m *mssqlClient) welcome(u upstream) error { return m.c.Welcome(u.(mssqlUpstream).u) }

func (m *mssqlClient) relay(u upstream, c course) relay {
	return mssqlRelay{&tds.Relay{
		Client: m.c, Upstream: u.(mssqlUpstream).u, Due: c.due, Over: c.over, MaxAge: c.maxAge, Relogged: c.relogged,
		Login: func(ctx context.Context) (*tds.Upstream, error) {
			u, err := c.login(ctx)
			if err != nil {
				return nil, err
			}
			return u.(mssqlUpstream).u, nil
		},
	}}
}

type mssqlUpstream struct{ u *tds.Upstream }

func (m mssqlUpstream) facts() facts {
	return facts{route: m.u.Route, phases: phasesOf(m.u.Timings), spid: m.u.SPID}
}

func (m mssqlUpstream) close() { _ = m.u.Close() }

type mssqlRelay struct{ r *tds.Relay }

func (m mssqlRelay) run(ctx context.Context) (string, error) { return m.r.Run(ctx) }

func (m mssqlRelay) drain(grace time.Duration) { m.r.Drain(grace) }

func (m mssqlRelay) stats() stats {
	s := m.r.Stats()
	return stats{s.BytesIn, s.BytesOut, s.Requests, s.Relogins}
}
