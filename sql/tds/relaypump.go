package tds

import (
	"context"
	"fmt"
	"net"
	"sync"
	"time"
)

// relayBuffer holds a packet of any size, or a frame of SMP with one in it.
const relayBuffer = 32<<10 + smpHeaderSize

// relayBuffers lends buffers to those who have something to pass.
var relayBuffers = sync.Pool{New: func() any { return new([relayBuffer]byte) }}

// inbox cuts what a client sends into packets, or frames of SMP. What it reads
// ahead is bounded by its buffer, which is a small one while nothing comes.
type inbox struct {
	conn       net.Conn
	mars       bool
	rest       [relaySmall]byte
	big        *[relayBuffer]byte // nil while rest is in use
	start, end int                // of what was read and not taken
}

func (in *inbox) buf() []byte {
	if in.big != nil {
		return in.big[:]
	}
	return in.rest[:]
}

// next returns the next packet or frame, whole; it is good until the next call.
// more says that the message goes on after what was taken last. Bytes that are
// no packet are a *[brokenError]; the end within one is io.ErrUnexpectedEOF.
func (in *inbox) next(more bool) ([]byte, error) {
	if in.start == in.end {
		in.start, in.end = 0, 0
		if !more {
			in.release()
		}
	}
	for {
		have := in.buf()[in.start:in.end]
		size, err := in.size(have)
		if err != nil {
			return nil, &brokenError{err}
		}
		if size > 0 && len(have) >= size {
			in.start += size
			return have[:size:size], nil
		}
		in.makeRoom(size)
		n, err := in.conn.Read(in.buf()[in.end:])
		in.end += n
		if n > 0 || err == nil {
			continue // an error comes again
		}
		if len(have) > 0 {
			err = unexpected(err)
		}
		return nil, err
	}
}

// makeRoom has the buffer hold size bytes from start, and at least one more
// than it has now.
func (in *inbox) makeRoom(size int) {
	if in.start+max(size, in.end-in.start+1) <= len(in.buf()) {
		return
	}
	to := in.buf()
	if in.big == nil && size > relaySmall {
		big := relayBuffers.Get().(*[relayBuffer]byte)
		to = big[:]
		copy(to, in.rest[in.start:in.end])
		in.big = big
	} else {
		copy(to, to[in.start:in.end])
	}
	in.start, in.end = 0, in.end-in.start
}

// size is that of the packet or frame that b begins with, 0 if b is too short
// to tell.
func (in *inbox) size(b []byte) (int, error) {
	if in.mars {
		if len(b) < smpHeaderSize {
			return 0, nil
		}
		h, err := parseSMPHeader((*[smpHeaderSize]byte)(b))
		if err == nil && h.length > smpMaxFrame {
			err = fmt.Errorf("SMP frame of %d bytes, want at most %d", h.length, smpMaxFrame)
		}
		return h.length, err
	}
	if len(b) < HeaderSize {
		return 0, nil
	}
	h, err := parseHeader((*[HeaderSize]byte)(b))
	if err != nil {
		return 0, err
	}
	switch h.Type {
	case Batch, RPC, Attention, Bulk, TransactionManager:
		return h.Length, nil
	}
	return 0, fmt.Errorf("packet of type %#02x after the login", byte(h.Type))
}

func (in *inbox) release() {
	if in.big != nil {
		relayBuffers.Put(in.big)
		in.big = nil
	}
}

// upload passes on what the client sends, each packet in one Write, until one
// side ends, and returns why.
func (r *Relay) upload(ctx context.Context, client net.Conn) *ending {
	in := &inbox{conn: client, mars: r.Upstream.MARS}
	defer in.release()
	for more := false; ; {
		unit, err := in.next(more)
		if err != nil {
			return r.clientEnded(err)
		}
		if r.resets(unit) {
			if e := r.atReset(ctx); e != nil {
				return e
			}
		}
		var l *link
		l, more, err = r.admit(unit)
		if err != nil {
			return &ending{reason: "client broke the protocol", err: err}
		}
		if l == nil {
			return &ending{} // there is a reason already
		}
		n, err := l.conn.Write(unit)
		r.in.Add(int64(n))
		if err != nil {
			return &ending{reason: "server lost", err: err, deliver: true, linger: true}
		}
	}
}

// admit takes note of a packet that is to be sent, and returns where to; nil if
// the session ends. more says that the message goes on.
func (r *Relay) admit(unit []byte) (l *link, more bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.end != nil {
		return nil, false, nil
	}
	requests, err := r.traffic.fromClient(unit)
	r.requests.Add(requests)
	r.since = time.Now()
	return r.link, r.traffic.sending, err
}

// download passes on what the server of l sends, as it comes, until one side
// ends or another link takes l's place.
func (r *Relay) download(client net.Conn, l *link) {
	defer close(l.done)
	ahead := aheadUnder(l.conn)
	if ahead != nil {
		ahead.rest() // after the login
	}
	out := &outbox{small: make([]byte, relaySmaller)}
	defer out.release()
	for {
		buf := out.buf()
		n, err := l.conn.Read(buf)
		if n > 0 && err == nil && ahead != nil && out.big != nil {
			n, err = ahead.gather(l.conn, buf, n)
		}
		rests := false
		if n > 0 {
			var e *ending
			if rests, e = r.pass(client, l, buf[:n]); e != nil {
				r.ended(client, l, e)
				return
			}
		}
		switch {
		case err != nil:
			r.ended(client, l, r.serverEnded(err))
			return
		case rests:
			out.release()
			if ahead != nil {
				ahead.rest()
			}
		case n == relaySmaller:
			out.grow()
		}
	}
}

// outbox is the buffer for what a server sends: a small one while it rests.
type outbox struct {
	small []byte
	big   *[relayBuffer]byte // nil while small is in use
}

func (o *outbox) buf() []byte {
	if o.big != nil {
		return o.big[:]
	}
	return o.small
}

func (o *outbox) grow() {
	if o.big == nil {
		o.big = relayBuffers.Get().(*[relayBuffer]byte)
	}
}

func (o *outbox) release() {
	if o.big != nil {
		relayBuffers.Put(o.big)
		o.big = nil
	}
}

// pass passes b on to the client. rests says that no reply is due after it.
func (r *Relay) pass(client net.Conn, l *link, b []byte) (rests bool, e *ending) {
	r.mu.Lock()
	if r.link != l {
		r.mu.Unlock()
		return false, &ending{} // another's turn
	}
	ended, err := r.traffic.fromServer(b)
	r.writing = true
	r.mu.Unlock()
	if err != nil {
		return false, &ending{reason: "server broke the protocol", err: err, linger: true}
	}
	n, err := client.Write(b)
	r.out.Add(int64(n))
	r.mu.Lock()
	defer r.mu.Unlock()
	r.writing = false
	rests = ended && !r.traffic.busy()
	if ended {
		r.since = time.Now()
	}
	if rests && r.end == nil && (r.draining || r.MaxAge > 0) {
		r.arm()
	}
	switch {
	case err != nil && r.end != nil:
		return rests, r.end
	case err != nil:
		return rests, &ending{reason: "client lost", err: err}
	case r.end != nil && rests:
		return rests, r.end // the client has left, and now it has its reply
	}
	return rests, nil
}

// ended is told by the reader of l why it ends. It has a say only if l is in
// use, and no login in its place is under way.
func (r *Relay) ended(client net.Conn, l *link, e *ending) {
	r.mu.Lock()
	current, held := r.link == l, r.held
	if current && held {
		l.left = e
	}
	r.mu.Unlock()
	if !current || held {
		return
	}
	r.finish(client, e)
	_ = l.up.Close() // whoever writes to it stops
}
