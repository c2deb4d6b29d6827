package gate

import (
	"context"
	"crypto/sha256"
	"fmt"
	"time"

	"github.com/seed-13b04e61/gateway/audit"
	"github.com/seed-13b04e61/gateway/routes"
	"github.com/seed-13b04e61/gateway/tokens"
)

// sqlPlan is what was worked out of a SQL door beforehand.
type sqlPlan struct {
	key     tokens.Key
	callers callerSet // nil: whoever the table knows
}

func (p *sqlPlan) admits(who ordinal) bool {
	if p.callers == nil {
		return who != stranger
	}
	return p.callers.holds(who)
}

// sqlPlans are those of the table's SQL doors, by name: a session may have
// begun at the door of a table before this one.
func (g *Gate) sqlPlans(keys Keys) map[string]*sqlPlan {
	plans := make(map[string]*sqlPlan, len(g.table.SQL))
	for _, d := range g.table.SQL {
		plans[d.Name] = &sqlPlan{key: keys.Key(d.Credential, d.Scope), callers: g.setOf(d.Callers)}
	}
	return plans
}

// SQL decides whether caller, as [Identifier.Identify] found it, may use the
// SQL door d of the gate's table, known by its name, and returns the key of its
// token. It stamps the event in ctx. The error is a *[Refusal] of code
// caller_forbidden, also for a door that the table does not have.
func (g *Gate) SQL(ctx context.Context, d *routes.SQL, caller *routes.Caller) (tokens.Key, error) {
	key, refusal := g.login(ctx, d, caller)
	if refusal != nil {
		return tokens.Key{}, refusal
	}
	return key, nil
}

func (g *Gate) login(ctx context.Context, d *routes.SQL, caller *routes.Caller) (tokens.Key, *Refusal) {
	event := audit.From(ctx)
	event.Route, event.Credential = d.Name, d.Credential.Name
	p := g.sql[d.Name]
	if p == nil {
		return tokens.Key{}, &Refusal{
			Code:   CallerForbidden,
			Detail: fmt.Sprintf("the door %s is not open any more", d.Name),
			Remedy: "see sql in routes.yaml",
		}
	}
	if p.admits(g.recognise(caller)) {
		return p.key, nil
	}
	return tokens.Key{}, &Refusal{
		Code:   CallerForbidden,
		Detail: fmt.Sprintf("the door %s may not be used by %s", d.Name, nameOf(caller)),
		Remedy: "if it should, add it to callers of the door",
		Cause:  fmt.Sprintf("the door %s is for %s", d.Name, whom(d.Callers)),
		ground: Ground{g.closedAt(d.Lines.Callers), fmt.Sprintf("the door %s is for %s", d.Name, whom(d.Callers))},
	}
}

// proveSQL believes the password of a user who is a caller with keys, and no
// other: a driver that insists on some user sends any, and then the owner of the
// peer's socket decides. A password that was shown in vain may be a guess, whoever
// the user is: what counts against a source must not tell who is a caller.
func (i *Identifier) proveSQL(r *roster, e *Evidence) (*routes.Caller, string, *doubt) {
	s := shown{named: true, user: e.User, digest: sha256.Sum256([]byte(e.Password))}
	if caller := r.keys.find(&s); caller != nil && e.Password != "" {
		return caller, byAPIKey, nil
	}
	if _, keyed := r.keys.byName[e.User]; keyed {
		return nil, "", &doubt{cause: fmt.Sprintf("the password shown is no API key of caller %q", e.User), guess: e.Password != ""}
	}
	cause := "the user shown is no caller with an API key"
	if e.UID != nil && len(r.uids) > 0 {
		uid, err := e.UID()
		caller := r.uids[uid]
		switch {
		case err != nil:
			cause = fmt.Sprintf("%s, and the peer's owner is not known: %v", cause, err)
		case caller != nil:
			return caller, byUID, nil
		default:
			cause = fmt.Sprintf("%s, and uid %d is no caller's", cause, uid)
		}
	}
	return nil, "", &doubt{cause: cause, guess: e.Password != "", asked: e.User == "" && e.Password == ""}
}

// refuseSQL has the words of a door that knows no header fields.
func refuseSQL(d *doubt, held time.Duration) *Refusal {
	if held > 0 {
		return &Refusal{
			Code:       RateLimited,
			Detail:     "too many passwords from this source were not believed",
			Remedy:     fmt.Sprintf("wait %s, and then show the right one", held),
			Cause:      d.cause,
			RetryAfter: held,
		}
	}
	return &Refusal{
		Code:   CallerUnknown,
		Detail: "no caller could be recognised from this login",
		Remedy: "log in with the caller's name as user and its API key as password, or run the app as the operating system's user that is the caller",
		Cause:  d.cause,
	}
}
