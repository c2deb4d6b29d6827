package proxy

import (
	"net/http"
	"time"

	"github.com/seed-13b04e61/gateway/audit"
	"github.com/seed-13b04e61/gateway/routes"
)

// StandIn serves r as if the caller of that name had sent it inside a tunnel to
// the login host a, and tells whether it did.
func (h *Handler) StandIn(w http.ResponseWriter, r *http.Request, caller string, a routes.Authority) bool {
	p := &passage{Context: r.Context(), world: h.world.Load()}
	p.in.w = w
	if r.Body != nil && r.Body != http.NoBody && r.ContentLength != 0 {
		p.in.src = r.Body
	}
	p.meter = meter{ResponseWriter: w, in: &p.in, draining: &h.draining}
	h.running.Add(1)
	p.event.Start, p.event.RequestID = time.Now(), requestID()
	p.event.Door, p.event.Method, p.event.Host = audit.Tunnel, r.Method, a.String()
	p.event.Path, _ = escapedPath(r.RequestURI)
	p.caller = p.world.callers[caller]
	served := h.standIn(p, r, a)
	h.leave(p)
	h.cfg.Recorder.Record(p.end())
	return served
}
