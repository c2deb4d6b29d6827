package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/seed-13b04e61/gateway/authority"
	"github.com/seed-13b04e61/gateway/tokens"
)

// TestCheckLiveHasTheWordsOfTheLog has trouble of every nature: what the log says
// of it as cause and remedy stands in the line of check --live, and in its JSON.
func TestCheckLiveHasTheWordsOfTheLog(t *testing.T) {
	for name, err := range map[string]error{
		"transient":          &authority.Error{Credential: "a", Host: "login.example", Nature: tokens.Transient, Hint: "it refuses the connection", Detail: "dial tcp", Remedy: "see that it is up"},
		"propagating":        &authority.Error{Credential: "a", Nature: tokens.Propagating, Hint: "a.secret: no such file", Remedy: "put the secret's value there"},
		"throttled":          &authority.Error{Credential: "a", Host: "login.example", Nature: tokens.Throttled, Status: 429, RetryAfter: time.Minute, Hint: "too many token requests", Remedy: "find out who asks"},
		"refused":            &authority.Error{Credential: "a", Host: "login.example", Entra: true, Nature: tokens.Refused, Status: 401, AADSTS: 7000215, Code: "invalid_client", Hint: "the client secret is wrong", Detail: "Invalid client secret", Remedy: "copy the Value"},
		"without remedy":     &authority.Error{Credential: "a", Host: "login.example", Hint: "the request was given up"},
		"held back":          &tokens.Unavailable{Until: time.Now().Add(time.Minute), Err: &authority.Error{Credential: "a", Host: "login.example", Status: 503, Hint: "a passing failure", Remedy: "see the status page"}},
		"late":               fmt.Errorf("credential \"a\": %w", context.DeadlineExceeded),
		"of no known nature": errors.New("something else"),
	} {
		t.Run(name, func(t *testing.T) {
			told, row := authority.Explain(err), tokenJSON{Credential: "a", Scope: "s"}
			row.refused(err)
			line := strings.Join(strings.Fields(row.String()), " ")
			for _, part := range strings.Split(strings.TrimPrefix(told.Cause, `credential "a"`), "; ") {
				if !strings.Contains(line, strings.TrimPrefix(part, ": ")) {
					t.Errorf("check --live says %q, and the log %q", line, told.Cause)
				}
			}
			if !strings.Contains(line, "Do: "+told.Remedy) || row.Remedy != told.Remedy || row.Remedy == "" {
				t.Errorf("check --live says %q, with remedy %q; the log has %q", line, row.Remedy, told.Remedy)
			}
		})
	}
}
