package sql_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/seed-13b04e61/gateway/audit"
	"github.com/seed-13b04e61/gateway/egress"
	"github.com/seed-13b04e61/gateway/gate"
	"github.com/seed-13b04e61/gateway/routes"
	"github.com/seed-13b04e61/gateway/secrets"
	"github.com/seed-13b04e61/gateway/sql"
	"github.com/seed-13b04e61/gateway/tokens"
)

// one is a directory of one token.
type one struct{}

func (one) Key(c *routes.Credential, scope string) tokens.Key {
	return tokens.Key{Credential: c.Name, Scope: scope}
}

func (one) Token(context.Context, tokens.Key) (tokens.Token, tokens.Origin, error) {
	return tokens.Token{Access: secrets.New("…"), Expires: time.Now().Add(time.Hour)}, tokens.FromCache, nil
}

func (one) Renew(context.Context, tokens.Key, tokens.Token, string) (tokens.Token, tokens.Origin, error) {
	return tokens.Token{}, "", tokens.ErrSameToken
}

func ExampleServer() {
	log, err := audit.NewLog(os.Stderr, audit.LogConfig{Level: "error", Format: "json"})
	if err != nil {
		fmt.Println(err)
		return
	}
	server := sql.New(sql.Config{
		Tokens: one{}, Recorder: log, Log: log,
		Listen:      func(addr string) (net.Listener, error) { return net.Listen("tcp", addr) },
		Certificate: func(*routes.SQL, string) (*tls.Certificate, error) { return nil, os.ErrNotExist },
	})
	defer server.Close()
	table := &routes.Table{SQL: []*routes.SQL{{
		Name: "orders", Kind: "mssql", Listen: "127.0.0.1:0", ClientTLS: routes.ClientTLSOff,
		Servers:    []routes.Authority{{Host: "orders.database.windows.net", Port: 1433}},
		Credential: &routes.Credential{Name: "default"}, Scope: "https://database.windows.net//.default",
	}}}
	commit, _, err := server.Open(table)
	if err != nil {
		fmt.Println(err)
		return
	}
	dialer, err := egress.New(egress.Config{})
	if err != nil {
		fmt.Println(err)
		return
	}
	alarms := commit(gate.New(table, one{}), dialer)
	fmt.Println(len(server.Addrs()), "door,", len(alarms), "alarms,", server.Sessions(), "sessions")
	// Output: 1 door, 0 alarms, 0 sessions
}
