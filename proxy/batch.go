package proxy

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/seed-13b04e61/gateway/gate"
	"github.com/seed-13b04e61/gateway/routes"
)

const (
	// maxBatch bounds a batch that is read as a whole, in bytes; Graph takes
	// no more either.
	maxBatch = 4 << 20
	// batchStep is the first size of the memory for it, which doubles.
	batchStep = 32 << 10
)

// batchJudge is the part of [gate.Gate] that judges the calls in a batch. What
// it returns is what it judged, written anew, and is sent instead of the body.
type batchJudge interface {
	AdmitBatch(ctx context.Context, pass gate.Pass, caller *routes.Caller, body []byte) ([]byte, error)
}

// judgeBatch reads the call's body whole, has each call in it judged, and puts
// what was judged in its place. What is encoded cannot be judged; with mode
// report the judge notes that, and the call goes on as it is.
func (h *Handler) judgeBatch(p *passage, r *http.Request) *refusal {
	judge, ok := p.world.gate.(batchJudge)
	if !ok {
		return &refusal{code: NotSupported, detail: "batches cannot be judged here",
			remedy: "send the calls one by one"}
	}
	for _, coding := range r.Header["Content-Encoding"] {
		if !strings.EqualFold(strings.TrimSpace(coding), "identity") && !p.pass.Route.Report {
			return &refusal{code: BadRequest, detail: "a batch whose content is encoded cannot be judged",
				remedy: "send it without Content-Encoding"}
		}
	}
	limit := int64(maxBatch)
	if most := p.pass.Route.Limits.MaxBody; most > 0 {
		limit = min(limit, most)
	}
	var body []byte
	if p.in.src != nil {
		if r.ContentLength > limit {
			return batchTooLarge()
		}
		var refused *refusal
		if body, refused = h.readBatch(p, int(limit)); refused != nil {
			return refused
		}
	}
	judged, err := judge.AdmitBatch(p, p.pass, p.caller, body)
	if err != nil {
		return explain(err)
	}
	// The rest of the gateway sees a request that came like this.
	r.Body, r.ContentLength, r.TransferEncoding, r.Trailer = io.NopCloser(bytes.NewReader(judged)), int64(len(judged)), nil, nil
	r.Header["Content-Length"] = []string{strconv.Itoa(len(judged))}
	p.body = newBody(r.Body, p.pass.Route.Replay, r.ContentLength, h.budget)
	return nil
}

// readBatch counts what it keeps towards the handler's budget, until the call
// ends.
func (h *Handler) readBatch(p *passage, limit int) ([]byte, *refusal) {
	var body []byte
	for {
		if len(body) == cap(body) {
			size := min(max(2*cap(body), batchStep), limit+1)
			if !h.budget.take(size - cap(body)) {
				return nil, &refusal{code: Overloaded, detail: "too many batches are under way", retryAfter: busyWait,
					remedy: "call again after Retry-After"}
			}
			p.kept += size - cap(body)
			body = append(make([]byte, 0, size), body...)
		}
		n, err := p.in.Read(body[len(body):cap(body)])
		body = body[:len(body)+n]
		switch {
		case len(body) > limit:
			return nil, batchTooLarge()
		case errors.Is(err, io.EOF):
			return body, nil
		case err != nil:
			if cut := p.in.verdict(); cut != nil {
				return nil, cut
			}
			return nil, &refusal{code: BadRequest, detail: "the request's body broke off", cause: err.Error(), remedy: "see whether the client or a proxy before the gateway gave up, and send it again"}
		}
	}
}

func batchTooLarge() *refusal {
	return &refusal{code: TooLarge, detail: "a batch may have 4 MiB, or what limits.max_body of the route says if that is less",
		remedy: "send fewer calls at once"}
}
