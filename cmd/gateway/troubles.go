package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"time"
)

// difficulty is one of the sandbox's troubles as the app and the operator meet
// it.
type difficulty struct {
	try    string // a path to ask for, on the reverse door
	sql    bool   // tried by a login at the SQL door instead
	expect string // what comes of it
	then   string // what to do about it, or to look at
	steps  []step // the tour of --fail
}

// usersPath is what most troubles are tried with.
const usersPath = "/graph/v1.0/users"

// difficulties are the sandbox's troubles by name.
func difficulties() map[string]difficulty {
	all := entraDifficulties()
	maps.Copy(all, graphDifficulties())
	maps.Copy(all, sqlDifficulties())
	return all
}

// entraDifficulties are those of the token endpoint.
func entraDifficulties() map[string]difficulty {
	return map[string]difficulty{
		"expired-secret": {
			try:    usersPath,
			expect: "502 token_refused: AADSTS7000222, the secret has expired, and what to do",
			then:   "recover, then gateway purge: the next call works",
			steps:  refusedSteps("an expired secret", 7000222),
		},
		"wrong-secret": {
			try:    usersPath,
			expect: "502 token_refused: AADSTS7000215, the secret is wrong, and what to do",
			then:   "recover, then gateway purge: the next call works",
			steps:  refusedSteps("a wrong secret", 7000215),
		},
		"throttle": {
			try:    usersPath,
			expect: "503 token_unavailable with Retry-After; with a token in hand, 200 until it runs out",
			then:   "the gateway leaves Entra alone for as long as it asked; gateway purge forgets that",
			steps: []step{{"a throttled token endpoint answers 503 with Retry-After", func(ctx context.Context, t *tourist) error {
				return t.unavailable(ctx)
			}}, {"and is left alone meanwhile", func(ctx context.Context, t *tourist) error {
				if err := t.unavailable(ctx); err != nil {
					return err
				}
				return t.counted(1)
			}}},
		},
		"outage": {
			try:    usersPath,
			expect: "503 token_unavailable; with a token in hand, 200 until it runs out",
			then:   "recover: calls work again by themselves",
			steps: []step{{"a token endpoint that is down answers 503", func(ctx context.Context, t *tourist) error {
				return t.unavailable(ctx)
			}}},
		},
		"clock": {
			try:    usersPath,
			expect: "200: a secret has no clock, but a certificate's assertion would be refused",
			then:   "gateway health and gateway check --live tell how far the clocks are apart",
			steps: []step{{"calls with a secret go on although the clocks are apart", func(ctx context.Context, t *tourist) error {
				return t.users(ctx, usersPath)
			}}, {"and readiness says how far", func(_ context.Context, t *tourist) error {
				return t.degraded("clock")
			}}},
		},
	}
}

// graphDifficulties are those of the API.
func graphDifficulties() map[string]difficulty {
	return map[string]difficulty{
		"revoked": {
			try:    usersPath,
			expect: "200, with Gateway-Retry: 1: the 401 was healed by one forced refresh",
			then:   "the next call takes the new token from the cache",
			steps: []step{{"a revoked token is renewed and the call succeeds", func(ctx context.Context, t *tourist) error {
				return t.healed(ctx, 2)
			}}},
		},
		"claims": {
			try:    usersPath,
			expect: "200, with Gateway-Retry: 1: the claims challenge was answered with a new token",
			then:   "the next call takes that token from the cache",
			steps: []step{{"a claims challenge is answered and the call succeeds, body and all", func(ctx context.Context, t *tourist) error {
				return t.healed(ctx, 2)
			}}},
		},
		"no-consent": {
			try:    usersPath,
			expect: "403 from Graph itself, as it is: the token carries no roles",
			then:   "the log says which permission the call wants and how to grant it; gateway token graph shows the roles of a token",
			steps:  noConsentSteps(),
		},
		"sign-in": {
			try:    usersPath,
			expect: "302 to a sign-in page, as it is; the log says that the call was not authenticated",
			then:   "an API that does so wants its own preset, such as azuredevops",
			steps: []step{{"a sign-in page passes as it is, and costs no second token", func(ctx context.Context, t *tourist) error {
				a, err := t.expect(ctx, usersPath, http.StatusFound, "")
				if err != nil {
					return err
				}
				if a.header.Get("Location") == "" {
					return fmt.Errorf("no Location")
				}
				return t.counted(1)
			}}},
		},
	}
}

// refusedSteps are the tour of a secret that Entra refuses.
func refusedSteps(what string, aadsts int) []step {
	return []step{{what + " answers 502 with Entra's number and what to do", func(ctx context.Context, t *tourist) error {
		a, err := t.expect(ctx, usersPath, http.StatusBadGateway, "token_refused")
		if err != nil {
			return err
		}
		return remedied(a, aadsts)
	}}, {"and readiness names it", func(_ context.Context, t *tourist) error {
		return t.degraded(fmt.Sprintf("AADSTS%d", aadsts))
	}}}
}

func noConsentSteps() []step {
	return []step{{"Graph's 403 passes as it is, and costs no second token", func(ctx context.Context, t *tourist) error {
		a, err := t.expect(ctx, usersPath, http.StatusForbidden, "")
		if err != nil {
			return err
		}
		if !bytes.Contains(a.body, []byte("Authorization_RequestDenied")) {
			return fmt.Errorf("the answer is not Graph's own")
		}
		return t.counted(1)
	}}, {"gateway token tells that there are no roles, and where to consent", func(ctx context.Context, t *tourist) error {
		g := t.gateway.gate.Load()
		r := g.Table().Routes[0]
		tok, _, err := t.gateway.store.Token(ctx, g.Key(r))
		if err != nil {
			return err
		}
		if remark := roleRemark(r.Credential, tok); !strings.Contains(remark, "/adminconsent?client_id=") {
			return fmt.Errorf("the remark is %q, without the link", remark)
		}
		return nil
	}}, {"gateway permissions names what is missing and the command that grants it", func(ctx context.Context, t *tourist) error {
		return t.lacks(ctx)
	}}}
}

// lacks waits until the call's books are closed, which is after its answer.
func (t *tourist) lacks(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for ctx.Err() == nil {
		for _, api := range t.gateway.Permissions().APIs {
			if len(api.Denied) > 0 && api.Denied[0].Missing != "" && strings.Contains(api.Denied[0].Remedy, api.Denied[0].ID+"=Role") {
				return nil
			}
		}
		select {
		case <-ctx.Done():
		case <-time.After(10 * time.Millisecond):
		}
	}
	return errors.New("it names nothing")
}

// lines are what the greeting and the prompt say of the trouble.
func (sc *scene) lines(name string) string {
	d := difficulties()[name]
	try := fmt.Sprintf("curl -si http://%s%s", shown(sc.gateway.proxyL), d.try)
	if d.sql {
		try = sc.tsql()
	}
	return fmt.Sprintf("Trouble: %s\n  try     %s\n  expect  %s\n  then    %s\n", name, try, d.expect, d.then)
}

// unavailable checks what an app sees while no token can be had for now.
func (t *tourist) unavailable(ctx context.Context) error {
	a, err := t.expect(ctx, usersPath, http.StatusServiceUnavailable, "token_unavailable")
	if err == nil && a.header.Get("Retry-After") == "" {
		err = fmt.Errorf("no Retry-After")
	}
	return err
}

// degraded looks for word in what readiness says.
func (t *tourist) degraded(word string) error {
	ready := t.gateway.Ready("", false)
	if text := strings.Join(ready.Degraded, "\n"); !strings.Contains(text, word) {
		said, _ := json.Marshal(ready) // plain data
		return fmt.Errorf("readiness does not name %s: %s", word, said)
	}
	return nil
}
