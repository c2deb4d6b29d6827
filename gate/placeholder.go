package gate

import (
	"context"
	"errors"
	"time"

	"github.com/seed-13b04e61/gateway/routes"
)

// Placeholder is what a stand-in login hands out in a token's place: whom for,
// and for which tenant and scope.
type Placeholder struct {
	Caller  string // "" when the table has no callers
	Tenant  string // as the caller asked for it, lower case; "" at servers other than Entra
	Scope   string
	Expires time.Time
}

// Sealer makes placeholders that nobody else can read or make. It is safe for
// concurrent use.
type Sealer struct{ keys [][]byte }

// NewSealer takes keys of 32 bytes: the first seals, all open. Without any, a
// random one serves for the life of the process.
func NewSealer(keys ...[]byte) (*Sealer, error) { return &Sealer{keys: keys}, nil }

// Seal returns an opaque text of the alphabet of RFC 6750 b64token, with a
// prefix that scanners of leaks can know.
func (s *Sealer) Seal(p Placeholder) (string, error) { return "", errors.New("no placeholders yet") }

// Open reads what Seal made with one of the keys; ok is false for anything
// else, and for what has expired.
func (s *Sealer) Open(text string) (p Placeholder, ok bool) { return Placeholder{}, false }

// Why a stand-in login hands nothing out.
var (
	ErrNoTenant = errors.New("no route of this caller hands out placeholders for this tenant")
	ErrNoScope  = errors.New("no route of this caller hands out placeholders for this scope in this tenant")
)

// HandOut finds the route by which caller may have a placeholder of tenant and
// scope: the first of the table that admits the caller, hands out placeholders,
// has the scope verbatim, and whose token would be of the tenant. login is the
// host that was asked; zero asks the routes of every login host, for whatever
// tenant each has, as a managed identity endpoint does. The error wraps
// ErrNoTenant or ErrNoScope.
func (g *Gate) HandOut(ctx context.Context, caller *routes.Caller, login routes.Authority, tenant, scope string) (*routes.Route, error) {
	return nil, ErrNoScope
}
