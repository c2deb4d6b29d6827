package tds_test

import (
	"context"
	"fmt"
	"net"
	"time"

	"github.com/seed-13b04e61/gateway/secrets"
	"github.com/seed-13b04e61/gateway/sql/tds"
)

// A session: the client's half, the server's with a token, and then the relay.
func ExampleRelay() {
	session := func(ctx context.Context, conn net.Conn, token func() (secrets.Secret, time.Time)) error {
		client, err := tds.Accept(ctx, conn, tds.Front{})
		if err != nil {
			return err
		}
		target := tds.Target{Host: "orders.database.windows.net", Port: 1433, Dialer: &net.Dialer{}}
		var expires time.Time
		login := func(ctx context.Context) (*tds.Upstream, error) {
			var access secrets.Secret
			access, expires = token()
			return tds.Connect(ctx, target, client.Login(), client.Prelogin(), access)
		}
		server, err := login(ctx)
		if err != nil {
			client.Refuse(tds.Unavailable("the server cannot be reached"))
			return err
		}
		if err := client.Welcome(server); err != nil {
			return err
		}
		relay := &tds.Relay{
			Client: client, Upstream: server, Login: login,
			Due:  func() bool { return time.Until(expires) < 5*time.Minute },
			Over: func() bool { return time.Until(expires) <= 0 },
		}
		reason, err := relay.Run(ctx)
		fmt.Println(reason, relay.Stats().Requests)
		return err
	}
	_ = session
}
