package authority

import (
	"context"
	"net/http"
	"time"
)

const (
	// retries is how often a request is repeated for a passing failure.
	retries = 3
	// goneRetries and goneWait are IMDS's own: it answers 410 while it is
	// updated, which takes 70 s at most.
	goneRetries = 7
	goneWait    = 10 * time.Second
	// firstWait comes before the first repetition. IMDS is asked after twice
	// as long each time, others at this pace.
	firstWait = time.Second
	// longestWait is what a host may ask for within one acquisition. Beyond, the
	// token store does the waiting, as it has tokens to hand out meanwhile.
	longestWait = 10 * time.Second
)

// patience counts the repetitions within one acquisition.
type patience struct{ gone, others int }

// next tells whether a, which is no success, is worth asking again, and after
// how long. A 400 never is: it stays until someone assigns an identity or
// mends the resource.
func (p *patience) next(h *host, a answer) (time.Duration, bool) {
	if a.status/100 == 2 || !h.passing(a.status) {
		return 0, false
	}
	if h.imds() && a.status == http.StatusGone {
		p.gone++
		return goneWait, p.gone <= goneRetries
	}
	wait := firstWait
	if h.imds() {
		wait <<= p.others
	}
	if asked, ok := retryAfter(a); ok {
		wait = asked
	}
	p.others++
	return wait, p.others <= retries && wait <= longestWait
}

// passing tells whether a status may go away by itself.
func (h *host) passing(status int) bool {
	switch status {
	case http.StatusNotFound, http.StatusRequestTimeout, http.StatusTooManyRequests, http.StatusInternalServerError,
		http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return h.imds() && (status == http.StatusGone || status >= 500)
}

// pause waits, unless ctx would end before: then it returns at once, with the
// error that ctx has or will have.
func pause(ctx context.Context, d time.Duration) error {
	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) <= d {
		return context.DeadlineExceeded
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
