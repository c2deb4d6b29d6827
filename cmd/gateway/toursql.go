package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/seed-13b04e61/gateway/sandbox"
	"github.com/seed-13b04e61/gateway/sql/tds"
)

// sqlSteps are what a client of a database sees.
func sqlSteps() []step {
	return []step{
		{"a database client with no credential logs in through the SQL door, and is the app there", func(ctx context.Context, t *tourist) error {
			return t.isTheApp(ctx)
		}},
		{"the gateway followed the redirect to another node, which the client never heard of", func(_ context.Context, t *tourist) error {
			return t.redirected()
		}},
		{"a token that the database does not take is renewed once; the client sees rows", func(ctx context.Context, t *tourist) error {
			if err := t.settled(ctx); err != nil {
				return err
			}
			before := t.asked.of(sqlScope)
			t.node.Set(func(m *sandbox.SQLManners) { m.Refuse = &sandbox.SQLRefusal{Number: tds.NumberLoginFailed, Times: 1} })
			if err := t.isTheApp(ctx); err != nil {
				return err
			}
			if got := t.asked.of(sqlScope) - before; got != 1 {
				return fmt.Errorf("%d further token requests, want 1", got)
			}
			return nil
		}},
		{"no token came back to the client, and the SQL server saw nothing but good TDS", func(ctx context.Context, t *tourist) error {
			return errors.Join(t.isTheApp(ctx), t.wellBehaved())
		}},
	}
}

// isTheApp asks the database who the client is there. A token that came back to
// the client is an error of its own.
func (t *tourist) isTheApp(ctx context.Context) error {
	rows, err := t.query(ctx, "SELECT SUSER_SNAME(), DB_NAME()")
	if err != nil {
		return err
	}
	want := [2]string{sandbox.ClientID + "@" + sandbox.TenantID, sceneDatabase}
	if len(rows) != 1 || len(rows[0]) != 2 || [2]string(rows[0]) != want {
		return fmt.Errorf("the database says %q, want %q", rows, want)
	}
	return nil
}

// redirected sees that the front sent the last login on, and the node took it.
func (t *tourist) redirected() error {
	front, node := t.front.Logins(), t.node.Logins()
	if len(front) == 0 || len(node) == 0 {
		return fmt.Errorf("%d logins at the front, %d at the node", len(front), len(node))
	}
	if !front[len(front)-1].Routed || node[len(node)-1].ClientID != sandbox.ClientID {
		return fmt.Errorf("the front routed: %t; the node knows %q", front[len(front)-1].Routed, node[len(node)-1].ClientID)
	}
	return nil
}

// wellBehaved asks the servers whether the gateway kept to the protocol: a
// login's user or password beside the token would be against it too.
func (t *tourist) wellBehaved() error {
	for _, s := range t.servers() {
		if broken := s.Violations(); len(broken) > 0 {
			return fmt.Errorf("the server saw: %s", strings.Join(broken, "; "))
		}
	}
	return nil
}

// refusedBy logs in and wants the server's own error.
func (t *tourist) refusedBy(ctx context.Context, number int32, words string) error {
	_, err := t.query(ctx, "SELECT DB_NAME()")
	var refused *tds.ServerError
	if !errors.As(err, &refused) || refused.Number != number || !strings.Contains(refused.Message, words) {
		return fmt.Errorf("the client saw %v, want error %d with %q", err, number, words)
	}
	return nil
}

// remediedLive runs check --live's login and wants words in what it says to do.
func (t *tourist) remediedLive(ctx context.Context, words ...string) error {
	all := logins(t.gateway.gate.Load().Table())
	text := t.gateway.logIn(ctx, all[0]).String()
	for _, w := range words {
		if !strings.Contains(text, w) {
			return fmt.Errorf("check --live does not say %q:\n%s", w, text)
		}
	}
	return nil
}

// sqlDifficulties are those of the SQL server.
func sqlDifficulties() map[string]difficulty {
	healed := step{"when it is mended, logins work", func(ctx context.Context, t *tourist) error {
		t.recover()
		return t.isTheApp(ctx)
	}}
	return map[string]difficulty{
		troubleNoUser: {
			sql:    true,
			expect: "error 18456 from the server itself, as it is: Login failed for user '<token-identified principal>'",
			then:   "gateway check --live prints the CREATE USER statement that is missing; recover runs it",
			steps: []step{{"the server's own error 18456 reaches the client", func(ctx context.Context, t *tourist) error {
				return t.refusedBy(ctx, tds.NumberLoginFailed, "token-identified principal")
			}}, {"check --live names the app and the statements that are missing", func(ctx context.Context, t *tourist) error {
				return t.remediedLive(ctx, sandbox.ClientID, "CREATE USER ["+sandbox.AppName+"] FROM EXTERNAL PROVIDER;",
					"CREATE USER ["+sandbox.AppName+"] WITH SID = 0x11110000AAAA2222BBBB3333CCCC4444, TYPE = E;")
			}}, healed},
		},
		troubleFirewall: {
			sql:    true,
			expect: "error 40615 from the server itself, as it is, with the address that its firewall refused",
			then:   "gateway check --live prints the rule to add; recover adds it",
			steps: []step{{"the server's own error 40615 reaches the client", func(ctx context.Context, t *tourist) error {
				return t.refusedBy(ctx, numberFirewall, "is not allowed to access the server")
			}}, {"check --live names the address, and the rule to add", func(ctx context.Context, t *tourist) error {
				return t.remediedLive(ctx, "203.0.113.7", "az sql server firewall-rule create")
			}}, healed},
		},
	}
}
