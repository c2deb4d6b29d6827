package gate

import (
	"context"
	"crypto/tls"
	"net/http"
	"net/netip"

	"github.com/seed-13b04e61/gateway/audit"
	"github.com/seed-13b04e61/gateway/routes"
)

// Evidence is what a door noted of a call, and judged nothing of.
type Evidence struct {
	Door   audit.Door
	Source netip.Addr // of the peer; the zero Addr for a unix socket
	// Header is read only. Proxy-Authorization counts on the forward door and
	// the tunnel, X-Gateway-Authorization and Basic in Authorization on the
	// reverse door.
	Header http.Header
	TLS    *tls.ConnectionState // nil without
	// UID asks the kernel who owns the peer's socket, once per connection; nil
	// where that cannot be asked.
	UID func() (uint32, error)
}

// Identifier tells who calls. It is safe for concurrent use.
type Identifier struct {
	callers []*routes.Caller
}

// Identify returns the caller that the evidence proves, nil when the table has
// no callers. The error is a [*Refusal], of code caller_unknown.
func (i *Identifier) Identify(_ context.Context, _ Evidence) (*routes.Caller, error) {
	if i.callers == nil {
		return nil, nil
	}
	return nil, &Refusal{Code: CallerUnknown, Detail: "no caller is known"}
}
