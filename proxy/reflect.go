package proxy

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"
)

// The reflection guard keeps an upstream from handing the caller a token that the
// gateway sent: an endpoint that echoes its request, an error page for developers.
// It looks for the end of a token, which for a JWT is its signature and without
// which the rest is worth nothing: in all fields and trailers, and in bodies that
// are not encoded, as far as reflectedBytes. It does not see a token that was
// compressed, percent-encoded or put into base64, nor one within WebSocket.
const (
	needleLength = 43 // the last characters of a token: 256 bits of base64url
	// leastNeedle is how long a token must be to be looked for: a shorter one
	// might stand anywhere by chance, and could be guessed anyway.
	leastNeedle = 16
	// wholeBody is how long a body of known length may be, in bytes, to be looked
	// through before the answer begins.
	wholeBody = 64 << 10
	// reflectedBytes is how much is looked through of any other.
	reflectedBytes = 1 << 20
)

// needleOf is what is looked for of a token; "" for one too short.
func needleOf(access string) string {
	if len(access) < leastNeedle {
		return ""
	}
	return strings.Clone(access[max(0, len(access)-needleLength):])
}

// sent are the tokens that went to the upstream of one call, of both tries.
type sent struct {
	list [4]*stamped
	n    int
}

func (s *sent) add(t *stamped) {
	for _, known := range s.list[:s.n] {
		if known.end == t.end { // made anew for the same token, when another took its slot
			return
		}
	}
	if s.n < len(s.list) && t.end != "" {
		s.list[s.n] = t
		s.n++
	}
}

// within tells whether one of the tokens stands in b.
func (s *sent) within(b []byte) bool {
	for _, t := range s.list[:s.n] {
		if bytes.Contains(b, t.needle) {
			return true
		}
	}
	return false
}

// withinFields is within for the values of h.
func (s *sent) withinFields(h http.Header) bool {
	for _, values := range h {
		for _, v := range values {
			for _, t := range s.list[:s.n] {
				if len(v) >= len(t.end) && strings.Contains(v, t.end) {
					return true
				}
			}
		}
	}
	return false
}

// begun is how many bytes at the end of b may be the beginning of a token.
func (s *sent) begun(b []byte) int {
	most := 0
	for _, t := range s.list[:s.n] {
		most = max(most, begun(b, t.needle))
	}
	return most
}

// begun is the length of the longest end of b that needle begins with, short
// of all of it.
func begun(b, needle []byte) int {
	for n := min(len(b), len(needle)-1); n > 0; n-- {
		if b[len(b)-n] == needle[0] && bytes.HasPrefix(needle, b[len(b)-n:]) {
			return n
		}
	}
	return 0
}

// errReflected cuts an answer off that had begun.
var errReflected = errors.New("the answer contained our token")

// reflected notes that the upstream sent a token back; the log is told once in a
// while.
func (h *Handler) reflected(p *passage) *refusal {
	r := &refusal{code: TokenReflected, detail: "the upstream's answer contained the token that the gateway had sent with the call",
		remedy: "this endpoint of the upstream echoes what it is sent: do not route it (allow of the route), or have its owner mend it"}
	p.event.Code, p.event.Cause, p.event.Remedy = string(r.code), r.detail, r.remedy
	if p.up.notes.due(aboutReflection, time.Now()) {
		h.cfg.Log.Warn("an upstream sent back the token that it had been sent", "gateway.route", p.event.Route,
			"gateway.request_id", p.event.RequestID, "remedy", r.remedy)
	}
	return r
}

// outflow is an answer's body on its way back. Read is for buffers of more than
// needleLength bytes.
type outflow struct {
	h     *Handler
	p     *passage
	resp  *http.Response
	src   io.ReadCloser
	whole []byte           // read ahead, and harmless
	lent  *[wholeBody]byte // what whole is in; nil: nothing lent
	err   error            // how src ended, when that is known before whole was read
	left  int64            // bytes that are to be looked through yet
	held  int              // of carry: what may be the beginning of a token
	carry [needleLength]byte
}

// wholePool lends *[wholeBody]byte.
type wholePool struct{ pool sync.Pool }

func (w *wholePool) get() *[wholeBody]byte {
	if b, ok := w.pool.Get().(*[wholeBody]byte); ok {
		return b
	}
	return new([wholeBody]byte)
}

// watch puts p.out between the upstream and the caller, and looks through what
// is small before anything of the answer goes out.
func (h *Handler) watch(resp *http.Response, p *passage) *refusal {
	o := &p.out
	*o = outflow{h: h, p: p, resp: resp, src: resp.Body}
	resp.Body = o
	if p.sent.n == 0 || o.src == http.NoBody || encoded(resp.Header) {
		return nil
	}
	o.left = reflectedBytes
	if resp.ContentLength <= 0 || resp.ContentLength > wholeBody || resp.Request.Method == http.MethodHead || bodiless(resp.StatusCode) {
		return nil
	}
	o.left = 0
	o.lent = h.wholes.get()
	var n int
	n, o.err = io.ReadFull(o.src, o.lent[:resp.ContentLength])
	o.whole = o.lent[:n]
	if p.sent.within(o.whole) {
		return h.reflected(p)
	}
	return nil
}

// bodiless tells the statuses whose length is not that of a body (RFC 9110
// §6.4.1).
func bodiless(status int) bool {
	return status == http.StatusNoContent || status == http.StatusNotModified
}

func encoded(h http.Header) bool {
	for coding := range listed(h["Content-Encoding"]) {
		if coding != "identity" {
			return true
		}
	}
	return false
}

// Read implements io.Reader.
func (o *outflow) Read(b []byte) (int, error) {
	if len(o.whole) > 0 {
		n := copy(b, o.whole)
		o.whole = o.whole[n:]
		return n, nil
	}
	if o.err != nil {
		return 0, o.err
	}
	n, err := o.look(b)
	if errors.Is(err, io.EOF) {
		cleanTrailer(o.resp.Trailer)
		if o.p.sent.withinFields(o.resp.Trailer) {
			err = errReflected
		}
	}
	if errors.Is(err, errReflected) {
		o.err = err
		o.h.reflected(o.p)
		return 0, err
	}
	return n, err
}

// look reads on. It keeps back what may be the beginning of a token, and nothing
// else: streams are not to be held up.
func (o *outflow) look(b []byte) (int, error) {
	for {
		if o.left <= 0 && o.held == 0 {
			return o.src.Read(b)
		}
		if len(b) <= o.held {
			return 0, io.ErrShortBuffer
		}
		n := copy(b, o.carry[:o.held])
		k, err := o.src.Read(b[n:])
		n += k
		o.left -= int64(k)
		o.held = 0
		if o.p.sent.within(b[:n]) {
			return 0, errReflected
		}
		if err == nil && o.left > 0 {
			o.held = copy(o.carry[:], b[n-o.p.sent.begun(b[:n]):n])
			n -= o.held
		}
		if n > 0 || err != nil {
			return n, err
		}
	}
}

// Close implements io.Closer.
func (o *outflow) Close() error {
	if o.lent != nil {
		o.h.wholes.pool.Put(o.lent)
		o.lent, o.whole, o.err = nil, nil, errAttemptClosed
	}
	return o.src.Close()
}
