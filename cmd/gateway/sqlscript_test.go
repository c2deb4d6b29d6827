package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/seed-13b04e61/gateway/sandbox"
	"github.com/seed-13b04e61/gateway/sql/tds"
)

// database is a SQL server for the scripts: $SQLSERVER and $SQLPORT are where it
// listens, sql-ca.pem vouches for it.
func database(env *testscript.Env, world *sandbox.World) error {
	db, err := sandbox.StartSQL(sandbox.SQLOptions{World: world, Databases: []string{"orders"}})
	if err != nil {
		return err
	}
	env.Values["sql"] = db
	env.Setenv("SQLSERVER", db.Addr())
	_, port, err := net.SplitHostPort(db.Addr())
	if err != nil {
		return err
	}
	env.Setenv("SQLPORT", port)
	return os.WriteFile(env.WorkDir+"/sql-ca.pem", db.CAPEM(), 0o600)
}

// troubleSQL begins a trouble of the script's SQL server, if it is one.
func troubleSQL(db *sandbox.SQL, name string) (known bool) {
	switch name {
	case troubleNoUser:
		db.DropUser(sandbox.ClientID)
	case troubleFirewall:
		db.Set(func(m *sandbox.SQLManners) {
			m.Refuse = &sandbox.SQLRefusal{Number: numberFirewall, BeforeToken: true}
		})
	default:
		return false
	}
	return true
}

// logInAs is login READYFILE DOOR USER:PASSWORD WANT: it logs in through a door,
// and compares who the database says it is, or the number of the error, or
// "closed" when nobody listens there any more. It tries for a while, since a
// reload takes a moment.
func logInAs(ts *testscript.TestScript, _ bool, args []string) {
	var ready struct{ SQL map[string]string }
	ts.Check(json.Unmarshal([]byte(ts.ReadFile(args[0])), &ready))
	user, password, _ := strings.Cut(args[2], ":")
	got := ""
	for range 50 {
		if got = loggedIn(ready.SQL[args[1]], user, password); got == args[3] {
			return
		}
		pause()
	}
	ts.Fatalf("login at %s as %s: got %s, want %s", args[1], user, got, args[3])
}

func loggedIn(addr, user, password string) string {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return "closed"
	}
	defer conn.Close()
	login := checkLogin()
	login.UserName, login.Password = tds.NewUTF16(user), tds.NewUTF16(password)
	s, err := tds.Open(ctx, conn, login, nil)
	var refused *tds.ServerError
	if errors.As(err, &refused) {
		return fmt.Sprint(refused.Number)
	}
	if err != nil {
		return err.Error()
	}
	rows, err := s.Query(ctx, "SELECT SUSER_SNAME()")
	if err != nil || len(rows) != 1 || len(rows[0]) != 1 {
		return fmt.Sprintf("%q, %v", rows, err)
	}
	return rows[0][0]
}
