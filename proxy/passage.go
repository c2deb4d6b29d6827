package proxy

import (
	"context"
	"io"
	"time"

	"github.com/seed-13b04e61/gateway/audit"
	"github.com/seed-13b04e61/gateway/gate"
	"github.com/seed-13b04e61/gateway/routes"
	"github.com/seed-13b04e61/gateway/tokens"
)

// passage is one call on its way through the hall. It is the call's context
// too, which spares an allocation for each value that the stages share: it
// answers to [audit.Key] with its event and to passageKey with itself.
//
// Only the goroutine that serves the call touches it.
type passage struct {
	context.Context
	event   audit.Event
	span    audit.Span // nil: traces are off
	tries   int        // at the upstream, while traces are on
	meter   meter
	in      inflow
	world   *world         // the table that the call began with
	tunnel  *tunnel        // that the call came by; nil at the other doors
	caller  *routes.Caller // nil: the table has none
	places  [2]*quota      // taken of the caller's and the route's
	pass    gate.Pass
	up      *upstream
	body    *body       // nil when the call has none
	whole   io.Reader   // the body, where it was read before it is sent; nil otherwise
	kept    int         // bytes taken of the handler's budget, beside the body's
	stream  bool        // the answer has no announced end
	hangUp  bool        // a refusal closes the connection
	source  TokenSource // of token, which it keeps under key
	key     tokens.Key
	token   tokens.Token
	second  *tokens.Token // nil unless the route wants a second token
	sent    sent          // tokens so far
	dated   bool          // each attempt gets the time of its sending
	upgrade string        // what the call is to switch to; "": nothing
	out     outflow       // the answer's body
	sentTo  string        // scheme and authority that the caller knows the gateway by, the scheme alone on the forward door; for Location
}

type passageKey struct{}

func (p *passage) Value(key any) any {
	switch key {
	case passageKey{}:
		return p
	case audit.Key:
		return &p.event
	}
	return p.Context.Value(key)
}

func passageOf(ctx context.Context) *passage {
	p, _ := ctx.Value(passageKey{}).(*passage)
	return p
}

// end closes the books on the call.
func (p *passage) end() *audit.Event {
	p.event.Duration = time.Since(p.event.Start)
	p.event.BytesOut = p.meter.bytes
	if p.event.Status == 0 {
		p.event.Status = p.meter.status
	}
	p.event.BytesIn = p.in.bytes()
	if p.meter.switched != nil {
		p.meter.switched.end(&p.event)
	}
	if p.body != nil {
		p.body.release()
	}
	return &p.event
}
