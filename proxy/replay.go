package proxy

import (
	"errors"
	"io"
	"sync"
	"sync/atomic"
)

var (
	errNotReplayable = errors.New("request body can no longer be sent from its beginning")
	errAttemptClosed = errors.New("this attempt to send the request is over")
)

// recordStep is the first size of a record; it doubles up to the limit. Records
// of this size are lent by recordPool, since most bodies fit.
const recordStep = 32 << 10

// recordPool lends *[recordStep]byte.
var recordPool sync.Pool

func newRecord(size int) []byte {
	if size != recordStep {
		return make([]byte, 0, size)
	}
	if p, ok := recordPool.Get().(*[recordStep]byte); ok {
		return p[:0]
	}
	return make([]byte, 0, recordStep)
}

// giveBack must be called when nobody reads rec any more: attempts copy what
// they hand out, with the body's lock held.
func giveBack(rec []byte) {
	if cap(rec) == recordStep {
		recordPool.Put((*[recordStep]byte)(rec[:recordStep]))
	}
}

// budget caps the bytes that all calls together keep for a second try.
type budget struct {
	limit int64
	used  atomic.Int64
}

func (b *budget) take(n int) bool {
	if b.used.Add(int64(n)) <= b.limit {
		return true
	}
	b.give(n)
	return false
}

func (b *budget) give(n int) { b.used.Add(-int64(n)) }

// body streams a request body to the first attempt while recording its
// beginning, so that a second attempt can read the record and then the rest,
// even while the client is still sending. One attempt is live at a time.
//
// A Read that an abandoned attempt still has in flight cannot be recalled; what
// it brings goes into the record, so that the live attempt misses nothing.
type body struct {
	src    io.Reader
	limit  int // bytes to keep at most, beyond one read in flight
	budget *budget

	mu      sync.Mutex // guards what follows; never held while src is read
	cond    *sync.Cond // busy ended, an attempt was closed, or all is over
	rec     []byte     // src[base : base+len(rec)]
	base    int64
	off     int64 // bytes taken from src
	err     error // how src ended, io.EOF included
	busy    bool  // a src.Read is in flight
	frozen  bool  // no second attempt any more
	over    bool  // released: nothing is kept any more
	charged int   // taken from budget
	live    *attempt
}

func newBody(src io.Reader, limit int64, length int64, b *budget) *body {
	r := &body{src: src, limit: int(limit), budget: b}
	if length >= 0 && length < limit {
		r.limit = int(length) // a record never grows beyond what can come
	}
	r.cond = sync.NewCond(&r.mu)
	// A body that is known not to fit is not begun to be kept.
	r.frozen = length > limit || limit == 0
	return r
}

// replayable tells whether a second attempt would see every byte: they are kept,
// or none was asked for yet, as when a call that expects 100 is refused.
func (r *body) replayable() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return !r.frozen || r.off == 0
}

// abandon ends the live attempt for the sake of another, and tells whether that
// would still see every byte.
func (r *body) abandon() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.frozen && r.off > 0 {
		return false
	}
	if r.live != nil {
		r.live.closed = true
		r.cond.Broadcast()
	}
	return true
}

// freeze ends the recording once the answer is decided. What the live attempt
// has not read yet of the record stays until it has.
func (r *body) freeze() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.frozen = true
	if r.live == nil || r.live.pos >= r.off {
		r.drop()
	}
}

// release ends the exchange: the memory goes back, and whoever still reads
// gets an error.
func (r *body) release() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.frozen, r.over = true, true
	r.drop()
	if r.err == nil {
		r.err = errAttemptClosed
	}
	r.cond.Broadcast()
}

// drop forgets the record. r.mu is held.
func (r *body) drop() {
	giveBack(r.rec)
	r.rec, r.base = nil, r.off
	r.budget.give(r.charged)
	r.charged = 0
}

// keep adds p, which begins at r.off, to the record. Bytes that an abandoned
// attempt read are kept in any case: at most one read buffer above the limit.
// r.mu is held.
func (r *body) keep(p []byte, abandoned bool) {
	need := len(r.rec) + len(p)
	if !abandoned && need > r.limit {
		r.frozen = true
		r.drop()
		return
	}
	if need > cap(r.rec) {
		size := max(2*cap(r.rec), recordStep, need)
		if !abandoned {
			size = min(size, r.limit)
		}
		size = max(size, need, recordStep)
		more := size - cap(r.rec)
		if abandoned {
			r.budget.used.Add(int64(more))
		} else if !r.budget.take(more) {
			r.frozen = true
			r.drop()
			return
		}
		r.charged += more
		grown := append(newRecord(size), r.rec...)
		giveBack(r.rec)
		r.rec = grown
	}
	if len(r.rec) == 0 {
		r.base = r.off
	}
	r.rec = append(r.rec, p...)
}

// attempt is one reading of a body from its first byte.
type attempt struct {
	body   *body
	pos    int64
	closed bool
}

// attempt begins a reading and abandons the one before.
func (r *body) attempt() (*attempt, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.frozen && r.off > 0 {
		return nil, errNotReplayable
	}
	if r.live != nil {
		r.live.closed = true
		r.cond.Broadcast()
	}
	r.live = &attempt{body: r}
	return r.live, nil
}

// Close abandons the attempt; the body itself stays open for the next.
func (a *attempt) Close() error {
	a.body.mu.Lock()
	defer a.body.mu.Unlock()
	a.closed = true
	a.body.cond.Broadcast()
	return nil
}

// Read implements io.Reader.
func (a *attempt) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	r := a.body
	r.mu.Lock()
	defer r.mu.Unlock()
	for {
		switch {
		case a.closed:
			return 0, errAttemptClosed
		case a.pos < r.base:
			return 0, errNotReplayable
		case a.pos < r.base+int64(len(r.rec)):
			n := copy(p, r.rec[a.pos-r.base:])
			a.pos += int64(n)
			if r.frozen && a.pos == r.off && !r.busy {
				r.drop()
			}
			return n, nil
		case a.pos < r.off:
			return 0, errNotReplayable
		case r.err != nil:
			return 0, r.err
		case !r.busy:
			return a.readThrough(p)
		}
		r.cond.Wait() // for what an abandoned attempt is reading
	}
}

// readThrough reads from the client. r.mu is held on entry and on return, and
// not in between.
func (a *attempt) readThrough(p []byte) (int, error) {
	r := a.body
	r.busy = true
	r.mu.Unlock()
	n, err := r.src.Read(p)
	r.mu.Lock()
	r.busy = false
	if n > 0 && !r.over && (!r.frozen || a.closed) {
		r.keep(p[:n], a.closed)
	}
	r.off += int64(n)
	if len(r.rec) == 0 {
		r.base = r.off
	}
	if err != nil && r.err == nil {
		r.err = err
	}
	r.cond.Broadcast()
	if a.closed {
		return 0, errAttemptClosed
	}
	a.pos += int64(n)
	if n > 0 {
		return n, nil // the end is told by the next Read
	}
	return n, err
}
