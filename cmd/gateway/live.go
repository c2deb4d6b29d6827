package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/seed-13b04e61/gateway/authority"
	"github.com/seed-13b04e61/gateway/routes"
	"github.com/seed-13b04e61/gateway/tokens"
)

const (
	// liveTimeout is how long check --live and token wait for one token.
	liveTimeout = 40 * time.Second
	// liveAtOnce is how many tokens check --live gets at the same time: token
	// endpoints throttle, and nobody waits long for a few dozen.
	liveAtOnce = 4
)

// tokenJSON is one token that check --live got, or why not.
type tokenJSON struct {
	Credential  string    `json:"credential"`
	Scope       string    `json:"scope"`
	FallbackFor string    `json:"fallback_for,omitempty"` // the credential in whose place it would stand
	Routes      []string  `json:"routes"`
	OK          bool      `json:"ok"`
	Audience    []string  `json:"aud,omitempty"`
	Roles       []string  `json:"roles,omitempty"`
	Expires     time.Time `json:"expires,omitzero"`
	Remaining   int       `json:"remaining_seconds,omitempty"`
	Remark      string    `json:"remark,omitempty"`
	Error       string    `json:"error,omitempty"`
	Code        string    `json:"code,omitempty"` // the OAuth error
	AADSTS      int       `json:"aadsts,omitempty"`
	Detail      string    `json:"detail,omitempty"`
	Remedy      string    `json:"remedy,omitempty"`
	Correlation string    `json:"correlation_id,omitempty"`
	Trace       string    `json:"trace_id,omitempty"`
	Diagnosis   []string  `json:"diagnosis,omitempty"`

	long string // the error for a person, several lines
}

// question is one token that check --live asks for.
type question struct {
	credential  *routes.Credential // with no fallback: each answers for itself
	scope       string
	routes      []string // and SQL doors, that need the token
	fallbackFor string
	byRoles     bool // a route needs it: an API, which goes by the roles in it as a database does not
}

// String names the question for a person.
func (q question) String() string {
	return fmt.Sprintf("credential %s, scope %s", q.credential.Name, orDash(q.scope))
}

// questions are every credential and scope of t, each once, in the order of
// the routes and SQL doors: one's own, then those in line behind it.
func questions(t *routes.Table, each []*routes.Credential) []question {
	var list []question
	at := map[[2]string]int{}
	add := func(name, scope, route, instead string) {
		i, seen := at[[2]string{name, scope}]
		if !seen {
			i = len(list)
			at[[2]string{name, scope}] = i
			for _, c := range each {
				if c.Name == name {
					list = append(list, question{credential: c, scope: scope, fallbackFor: instead})
				}
			}
		}
		list[i].routes = append(list[i].routes, route)
		if instead == "" {
			list[i].fallbackFor = ""
		}
	}
	line := func(c *routes.Credential, scope, name string) {
		add(c.Name, scope, name, "")
		for c.Fallback != "" {
			next := t.Credential(c.Fallback)
			if next == nil {
				break
			}
			add(next.Name, scope, name, c.Name)
			c = next
		}
	}
	for _, r := range t.Routes {
		line(r.Credential, r.Scope, r.Name)
		if r.Second != nil && r.Second.Scope != r.Scope {
			line(r.Credential, r.Second.Scope, r.Name)
		}
	}
	for i := range list {
		list[i].byRoles = true
	}
	for _, d := range t.SQL {
		line(d.Credential, d.Scope, d.Name)
	}
	return list
}

// prober gets tokens outside of the engine's store, so that each credential
// of a chain answers for itself and nothing is remembered.
type prober struct {
	directory *authority.Directory
	questions []question
	diagnoses sync.Map // by name of credential: a func() []string that asks once
}

func newProber(e *engine) *prober {
	p := &prober{directory: authority.NewDirectory(authority.Options{Dialer: &e.hop, Version: version})}
	table := e.gate.Load().Table()
	var each []*routes.Credential
	for _, c := range table.Credentials {
		alone := *c
		alone.Fallback = ""
		each = append(each, &alone)
	}
	p.directory.Replace(each) // what it finds, the engine's own found before
	p.questions = questions(table, each)
	return p
}

// run asks all questions, a few at a time. began is called as each begins, from
// any goroutine; done in their order, from this one.
func (p *prober) run(ctx context.Context, began func(question), done func(question, tokenJSON)) {
	inTurn(p.questions, func(q question) tokenJSON {
		began(q)
		return p.ask(ctx, q)
	}, done)
}

// inTurn asks all questions, a few at a time, each in a goroutine of its own
// that ends with its answer. done is called in the order of the questions.
func inTurn[Q, A any](questions []Q, ask func(Q) A, done func(Q, A)) {
	turns := make(chan struct{}, liveAtOnce)
	answers := make([]chan A, len(questions))
	for i := range answers {
		answers[i] = make(chan A, 1)
	}
	go func() {
		for i, q := range questions {
			turns <- struct{}{}
			go func() {
				answers[i] <- ask(q)
				<-turns
			}()
		}
	}()
	for i, q := range questions {
		done(q, <-answers[i])
	}
}

// ask gets one token and describes it, or its refusal.
func (p *prober) ask(ctx context.Context, q question) tokenJSON {
	patience, cancel := context.WithTimeout(ctx, liveTimeout)
	defer cancel()
	row := tokenJSON{Credential: q.credential.Name, Scope: q.scope, FallbackFor: q.fallbackFor, Routes: q.routes}
	t, err := p.directory.Acquire(patience, p.directory.Key(q.credential, q.scope), "")
	if err != nil {
		if row.refused(err) {
			row.Diagnosis = p.diagnosis(ctx, q.credential.Name)
		}
		return row
	}
	row.granted(q, t)
	for _, c := range p.directory.Status() {
		if c.Name == q.credential.Name && c.Skew != 0 {
			row.Diagnosis = append(row.Diagnosis, skewed(c))
		}
	}
	return row
}

// diagnosis says what there is to compare of a credential that was refused. It
// is asked for once, since it may read documents of the login host.
func (p *prober) diagnosis(ctx context.Context, name string) []string {
	once, _ := p.diagnoses.LoadOrStore(name, sync.OnceValue(func() []string { return p.directory.Diagnose(ctx, name) }))
	return once.(func() []string)()
}

func (row *tokenJSON) granted(q question, t tokens.Token) {
	row.OK, row.Expires = true, t.Expires
	row.Remaining = int(time.Until(t.Expires).Seconds())
	if claims, err := authority.Claims(t.Access); err == nil {
		row.Audience, row.Roles = claims.Audience, claims.Roles
	}
	if q.byRoles {
		row.Remark = roleRemark(q.credential, t)
	}
}

// refused describes err in the words of the log, and tells whether there is
// something to compare: with nothing to be sent, err says all.
func (row *tokenJSON) refused(err error) (sent bool) {
	told := authority.Explain(err)
	row.Error, row.Remedy = told.Detail, told.Remedy
	answer, ok := errors.AsType[*authority.Error](err)
	if !ok {
		row.Error = err.Error()
		row.long = fmt.Sprintf(": %s\n  Do: %s", row.Error, row.Remedy)
		return false
	}
	full := *answer
	full.Remedy = told.Remedy
	row.long = full.Explain()
	row.Code, row.AADSTS, row.Detail = answer.Code, answer.AADSTS, answer.Detail
	row.Correlation, row.Trace = answer.CorrelationID, answer.TraceID
	return answer.Host != ""
}

// String is the row for a person: one line, and beneath a refusal what
// happened, what to do, and what support will ask for.
func (row tokenJSON) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "credential %s", row.Credential)
	if row.FallbackFor != "" {
		fmt.Fprintf(&b, " (fallback for %s)", row.FallbackFor)
	}
	fmt.Fprintf(&b, ", scope %s", orDash(row.Scope))
	if row.OK {
		fmt.Fprintf(&b, ": aud %s, roles %s, expires %s (in %s)\n", orDash(strings.Join(row.Audience, " ")), orDash(strings.Join(row.Roles, " ")),
			row.Expires.Format(time.RFC3339), time.Duration(row.Remaining)*time.Second)
	} else {
		// The credential is named already.
		fmt.Fprintf(&b, "%s\n", strings.ReplaceAll(strings.TrimPrefix(row.long, fmt.Sprintf("credential %q", row.Credential)), "\n", "\n  "))
	}
	if row.Remark != "" {
		fmt.Fprintf(&b, "    %s\n", row.Remark)
	}
	for _, line := range row.Diagnosis {
		fmt.Fprintf(&b, "    - %s\n", line)
	}
	return b.String()
}
