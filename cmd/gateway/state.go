package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/seed-13b04e61/gateway/admin"
	"github.com/seed-13b04e61/gateway/authority"
	"github.com/seed-13b04e61/gateway/routes"
	"github.com/seed-13b04e61/gateway/secrets"
	"github.com/seed-13b04e61/gateway/tokens"
)

// Acquired implements [tokens.Observer]: it counts a token request and logs a
// failed one at length, since the callers are told less.
func (e *engine) Acquired(k tokens.Key, t tokens.Token, err error, took time.Duration, why string) {
	if err == nil {
		e.metrics.TokenRequest(k.Credential, "success", took)
		e.proven.Store(k.Credential, true)
		e.usage.Held(k, t)
		e.log.Debug("token acquired", "gateway.credential", k.Credential, "gateway.scope", k.Scope, "gateway.token.why", why, "gateway.token.expires", t.Expires)
		e.remarkRoles(k, t, why)
		return
	}
	if errors.Is(err, context.Canceled) { // nobody waits any more: a quick program of exec has ended
		e.log.Debug("token not waited for", "gateway.credential", k.Credential, "gateway.scope", k.Scope, "gateway.token.why", why)
		return
	}
	result, fields := "unavailable", []any{"gateway.credential", k.Credential, "gateway.scope", k.Scope, "gateway.token.why", why}
	var answer *authority.Error
	if errors.As(err, &answer) {
		switch {
		case answer.Refused():
			result = "refused"
		case answer.Nature == tokens.Throttled:
			result = "throttled"
		}
		fields = append(fields, "gateway.entra.correlation_id", answer.CorrelationID, "gateway.entra.trace_id", answer.TraceID)
	}
	told := authority.Explain(err)
	fields = append(fields, "cause", told.Cause, "remedy", told.Remedy)
	var panicked *tokens.Panicked
	if errors.As(err, &panicked) {
		fields = append(fields, "exception.stacktrace", string(panicked.Stack))
	}
	e.metrics.TokenRequest(k.Credential, result, took)
	e.log.Error("no token", fields...)
}

// remarkRoles warns of a first token that grants nothing to an API that goes
// by roles, long before the API answers 403.
func (e *engine) remarkRoles(k tokens.Key, t tokens.Token, why string) {
	// Azure's own services go by role assignments, which no token shows.
	if why != "miss" || !strings.Contains(k.Scope, "graph") && !strings.HasPrefix(k.Scope, "api://") {
		return
	}
	if remark := roleRemark(e.gate.Load().Table().Credential(k.Credential), t); remark != "" {
		e.log.Warn(remark, "gateway.credential", k.Credential, "gateway.scope", k.Scope)
	}
}

// roleRemark says what is odd about an Entra token without roles, or "".
func roleRemark(c *routes.Credential, t tokens.Token) string {
	if c == nil || !c.Entra() {
		return ""
	}
	claims, err := authority.Claims(t.Access)
	if err != nil {
		return ""
	}
	return claims.NoRoles()
}

// ailments are what is wrong with credentials that still work.
func (e *engine) ailments() []string {
	var list []string
	for _, c := range e.directory.Status() {
		if c.Fallback != "" {
			why := c.Reason
			if c.LastError != nil {
				why = withRemedy(c.LastError)
			}
			list = append(list, fmt.Sprintf("credential %s: the fallback %s is used in its place since %s: %s", c.Name, c.Fallback, c.Since.Format(time.RFC3339), why))
		}
		if c.Skew != 0 {
			list = append(list, fmt.Sprintf("credential %s: %s", c.Name, skewed(c)))
		}
	}
	return list
}

// skewed says how far this machine's clock is from the token endpoint's.
func skewed(c authority.Status) string {
	side := "ahead of"
	if c.Skew < 0 {
		side = "behind"
	}
	return fmt.Sprintf("this machine's clock is %s %s that of %s; turn on time synchronisation", c.Skew.Abs().Round(time.Second), side, c.Host)
}

// withRemedy is why there is no token, and what to do.
func withRemedy(err error) string {
	if err == nil {
		return firstLine(nil)
	}
	return firstLine(err) + "; " + authority.Explain(err).Remedy
}

func firstLine(err error) string {
	if err == nil {
		return "no token"
	}
	line, _, _ := strings.Cut(err.Error(), "\n")
	return line
}

// AdminKey implements [admin.Gateway].
func (e *engine) AdminKey() secrets.Secret {
	if key := e.adminKey.Load(); key != nil {
		return *key
	}
	return secrets.Secret{}
}

// Permissions implements [admin.Gateway].
func (e *engine) Permissions() admin.Permissions { return e.usage.Report(e.gate.Load().Table()) }

// Purge implements [admin.Gateway].
func (e *engine) Purge(s admin.Selection) admin.Purged {
	of := func(k tokens.Key) bool {
		return (s.Credential == "" || k.Credential == s.Credential) && (s.Tenant == "" || strings.EqualFold(k.Tenant, s.Tenant))
	}
	n := e.store.Purge(func(k tokens.Key) bool { return of(k) && (s.Scope == "" || k.Scope == s.Scope) })
	n += e.handler.Purge(of) // those of registries, whatever they were exchanged from
	e.log.Info("tokens purged", "gateway.purged", n, "gateway.credential", s.Credential, "gateway.tenant", s.Tenant, "gateway.scope", s.Scope)
	return admin.Purged{Tokens: n}
}
