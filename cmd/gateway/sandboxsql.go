package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/seed-13b04e61/gateway/sandbox"
	"github.com/seed-13b04e61/gateway/sql/tds"
)

// The SQL door of the scene.
const (
	sceneDoor     = "orders-db"
	sceneDatabase = "orders"
)

// The troubles of the scene's SQL server.
const (
	troubleNoUser   = "no-user"
	troubleFirewall = "firewall"
)

// troubles are all that the scene can be in.
func troubles() []string { return append(sandbox.Troubles(), troubleNoUser, troubleFirewall) }

// startSQL starts the scene's SQL servers: a front and the node to which it
// sends every login on, as Azure's does, both of which want the right name in
// the login.
func (sc *scene) startSQL() error {
	var err error
	for _, into := range []**sandbox.SQL{&sc.front, &sc.node} {
		if *into, err = sandbox.StartSQL(sandbox.SQLOptions{World: sc.world, Databases: []string{sceneDatabase}}); err != nil {
			return err
		}
		(*into).Set(func(m *sandbox.SQLManners) { m.CheckServerName = true })
	}
	_, text, err := net.SplitHostPort(sc.node.Addr())
	if err != nil {
		return err
	}
	port, err := strconv.Atoi(text)
	if err != nil {
		return err
	}
	sc.front.Set(func(m *sandbox.SQLManners) { m.Redirect = &sandbox.SQLRedirect{Host: "localhost", Port: port} })
	return nil
}

// sqlSection is the scene's section sql.
func (sc *scene) sqlSection(listen string) string {
	return fmt.Sprintf(`sql:
  - name: %s
    listen: %q
    server: %s
    dial: %s
    redirect_suffixes: [localhost]
    database: %s
    tls: {ca_file: sql-ca.pem}
`, sceneDoor, listen, sandbox.SQLHost, sc.front.Addr(), sceneDatabase)
}

// trouble begins a trouble of the world, or of its SQL server.
func (sc *scene) trouble(name string) error {
	switch name {
	case troubleNoUser:
		for _, s := range sc.servers() {
			s.DropUser(sandbox.ClientID)
		}
	case troubleFirewall:
		sc.front.Set(func(m *sandbox.SQLManners) { m.Refuse = &sandbox.SQLRefusal{Number: numberFirewall, BeforeToken: true} })
	default:
		if !slices.Contains(troubles(), name) {
			return fmt.Errorf("unknown trouble %q; known are %q", name, troubles())
		}
		return sc.world.Trouble(name)
	}
	return nil
}

// recover ends every trouble.
func (sc *scene) recover() {
	sc.world.Recover()
	for _, s := range sc.servers() {
		s.CreateUser(sandbox.ClientID)
		s.Set(func(m *sandbox.SQLManners) { m.Refuse = nil })
	}
}

func (sc *scene) servers() []*sandbox.SQL { return []*sandbox.SQL{sc.front, sc.node} }

// sqlAt is where the scene's SQL door listens.
func (sc *scene) sqlAt() string { return sc.gateway.shownSQL()[sceneDoor] }

// eavesdrop is a connection that keeps what comes from its other end.
type eavesdrop struct {
	net.Conn

	mu  sync.Mutex // guards got
	got bytes.Buffer
}

func (o *eavesdrop) Read(b []byte) (int, error) {
	n, err := o.Conn.Read(b)
	o.mu.Lock()
	defer o.mu.Unlock()
	o.got.Write(b[:n])
	return n, err
}

// token tells whether a JWT, as text or in UTF-16, is among what came.
func (o *eavesdrop) token() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return bytes.Contains(o.got.Bytes(), []byte("eyJ")) || bytes.Contains(o.got.Bytes(), tds.NewUTF16("eyJ"))
}

// query logs in through the SQL door as an app would that knows no credential,
// and asks one thing.
func (t *tourist) query(ctx context.Context, statement string) ([][]string, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", t.sqlAt())
	if err != nil {
		return nil, err
	}
	client := &eavesdrop{Conn: conn}
	defer client.Close()
	login := checkLogin()
	login.AppName, login.UserName, login.Password = tds.NewUTF16("tour"), tds.NewUTF16("any"), tds.NewUTF16("any")
	s, err := tds.Open(ctx, client, login, nil)
	var rows [][]string
	if err == nil {
		rows, err = s.Query(ctx, statement)
	}
	if client.token() {
		return nil, errors.New("the client was sent a token")
	}
	return rows, err
}

// asked is how many token requests there were for a resource, given by a part of
// its scope.
type asked struct {
	mu     sync.Mutex // guards counts
	counts map[string]int
}

func (a *asked) note(r sandbox.TokenRequest) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.counts == nil {
		a.counts = map[string]int{}
	}
	a.counts[r.Form.Get("scope")]++
}

func (a *asked) of(scope string) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.counts[scope]
}

// The scopes of the scene's tokens.
const (
	graphScope = "https://graph.microsoft.com/.default"
	sqlScope   = "https://database.windows.net//.default"
)

// settled waits until the token that was asked for when the gateway began has
// come, so that it is not counted among a step's own.
func (t *tourist) settled(ctx context.Context) error {
	look := time.NewTicker(drainLook)
	defer look.Stop()
	for {
		for _, s := range t.gateway.served() {
			if s.name != sceneDoor {
				continue
			}
			if info, ok := t.gateway.store.Peek(s.keys[0]); ok && (info.Cached || info.Failing) {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-look.C:
		}
	}
}
