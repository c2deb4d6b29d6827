package gate

import (
	"context"

	"github.com/seed-13b04e61/gateway/routes"
	"github.com/seed-13b04e61/gateway/tokens"
)

// SQL decides whether caller, as [Identifier.Identify] found it, may use the
// SQL door d of the gate's table, and returns the key of its token. It stamps
// the event in ctx. The error is a *[Refusal] of code caller_forbidden.
func (g *Gate) SQL(ctx context.Context, d *routes.SQL, caller *routes.Caller) (tokens.Key, error) {
	panic("provisional")
}
