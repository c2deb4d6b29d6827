package gate

import (
	"context"

	"github.com/seed-13b04e61/gateway/routes"
)

// Way is what becomes of a tunnel.
type Way int

// The ways.
const (
	Intercepted Way = iota + 1 // its calls are served and judged one by one
	Through                    // it is passed through untouched
)

// Tunnel decides where a CONNECT to t.Authority leads for t.Caller, and returns
// the authority that its calls are for: a routed host's port 80 stands for its
// port 443, as Node's fetch asks for tunnels to plain URLs. Routes win over
// egress. It stamps the event in ctx; the error is a [*Refusal].
func (g *Gate) Tunnel(ctx context.Context, t Target) (Way, routes.Authority, error) {
	return 0, t.Authority, &Refusal{Code: EgressDenied, Detail: "no tunnels yet"}
}

// Through returns nil if a call for t.Authority, which no route of the table
// names, is passed through untouched; else a [*Refusal].
func (g *Gate) Through(ctx context.Context, t Target) error {
	return &Refusal{Code: EgressDenied, Detail: "nothing is passed through yet"}
}
