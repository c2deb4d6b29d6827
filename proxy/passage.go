package proxy

import (
	"context"
	"net/http"
	"time"

	"github.com/seed-13b04e61/gateway/audit"
	"github.com/seed-13b04e61/gateway/gate"
	"github.com/seed-13b04e61/gateway/tokens"
)

// passage is one call on its way through the hall. It is the call's context
// too, which spares an allocation for each value that the stages share: it
// answers to [audit.Key] with its event and to passageKey with itself.
//
// Only the goroutine that serves the call touches it.
type passage struct {
	context.Context
	event  audit.Event
	meter  meter
	world  *world // the table that the call began with
	pass   gate.Pass
	up     *upstream
	body   *body       // nil when the call has none
	source TokenSource // of token, which it keeps under key
	key    tokens.Key
	token  tokens.Token
	second *tokens.Token // nil unless the route wants a second token
	dated  bool          // each attempt gets the time of its sending
	sentTo string        // scheme and authority that the caller knows the gateway by; for Location
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

// meter counts what goes back to the caller.
type meter struct {
	http.ResponseWriter
	status int
	bytes  int64
}

func (m *meter) WriteHeader(status int) {
	if status >= 200 || status == http.StatusSwitchingProtocols {
		m.status = status
	}
	m.ResponseWriter.WriteHeader(status)
}

func (m *meter) Write(b []byte) (int, error) {
	if m.status == 0 {
		m.status = http.StatusOK
	}
	n, err := m.ResponseWriter.Write(b)
	m.bytes += int64(n)
	return n, err
}

// Unwrap lets http.ResponseController reach flushing, deadlines and hijacking.
func (m *meter) Unwrap() http.ResponseWriter { return m.ResponseWriter }

// end closes the books on the call.
func (p *passage) end() *audit.Event {
	p.event.Duration = time.Since(p.event.Start)
	p.event.BytesOut = p.meter.bytes
	if p.event.Status == 0 {
		p.event.Status = p.meter.status
	}
	if p.body != nil {
		p.event.BytesIn = p.body.taken()
		p.body.release()
	}
	return &p.event
}
