package tds

// walker follows packet headers through a stream that may be cut anywhere.
type walker struct {
	head [HeaderSize]byte // of the packet at hand, or the last one
	have int              // bytes of head
	left int              // bytes of the packet still to come
}

// next takes from b what belongs to the packet at hand: n bytes. whole says
// that it ended with them.
func (w *walker) next(b []byte) (n int, whole bool, err error) {
	if w.have < HeaderSize {
		n = copy(w.head[w.have:], b)
		if w.have += n; w.have < HeaderSize {
			return n, false, nil
		}
		h, err := parseHeader(&w.head)
		if err != nil {
			return n, false, err
		}
		w.left = h.Length - HeaderSize
	}
	m := min(w.left, len(b)-n)
	w.left -= m
	if w.left > 0 {
		return n + m, false, nil
	}
	w.have = 0
	return n + m, true, nil
}

func (w *walker) kind() PacketType { return PacketType(w.head[0]) }
func (w *walker) last() bool       { return w.head[1]&EOM != 0 }
func (w *walker) midway() bool     { return w.have > 0 }

// talk is one conversation: requests, and a reply to each.
type talk struct {
	up, down  walker
	sending   bool // a request began and has not ended
	answering bool // a reply did
	pending   int  // requests begun whose reply has not ended
	attention bool // sent, and no reply has ended since
}

func (t *talk) busy() bool {
	return t.pending > 0 || t.attention || t.sending || t.up.midway() || t.midReply()
}

func (t *talk) midReply() bool { return t.answering || t.down.midway() }

// fromClient takes note of what the client sends, and returns how many requests
// ended in it.
func (t *talk) fromClient(b []byte) (requests int64, err error) {
	for len(b) > 0 {
		n, whole, err := t.up.next(b)
		if err != nil {
			return requests, err
		}
		b = b[n:]
		switch {
		case !whole:
		case t.up.kind() == Attention:
			t.attention = true
		default:
			if !t.sending {
				t.pending++
			}
			t.sending = !t.up.last()
			if t.up.last() {
				requests++
			}
		}
	}
	return requests, nil
}

// fromServer takes note of what the server sends; ended says that a reply did.
func (t *talk) fromServer(b []byte) (ended bool, err error) {
	for len(b) > 0 {
		n, whole, err := t.down.next(b)
		if err != nil {
			return ended, err
		}
		b = b[n:]
		if !whole {
			continue
		}
		t.answering = !t.down.last()
		if t.down.last() {
			ended = true
			t.answered()
		}
	}
	return ended, nil
}

// answered takes note of a reply's end. The acknowledgement of an attention may
// be the end of the reply that it cuts short, or a reply of its own (MS-TDS
// 2.2.1.6): whichever ends first ends both, as a client sends nothing before it
// has seen the acknowledgement.
func (t *talk) answered() {
	if t.attention {
		t.attention, t.pending = false, 0
		return
	}
	t.pending = max(0, t.pending-1)
}

// traffic is all of a session: one talk, or one in each lane of MARS.
type traffic struct {
	talk
	lanes *lanes // nil without MARS
}

func newTraffic(mars bool) traffic {
	if mars {
		return traffic{lanes: newLanes()}
	}
	return traffic{}
}

func (t *traffic) busy() bool {
	if t.lanes != nil {
		return t.lanes.busy()
	}
	return t.talk.busy()
}

// midReply tells that a message to the client cannot begin here.
func (t *traffic) midReply() bool { return t.lanes != nil || t.talk.midReply() }

func (t *traffic) fromClient(unit []byte) (requests int64, err error) {
	if t.lanes != nil {
		return t.lanes.fromClient(unit)
	}
	return t.talk.fromClient(unit)
}

func (t *traffic) fromServer(b []byte) (ended bool, err error) {
	if t.lanes != nil {
		return t.lanes.fromServer(b)
	}
	return t.talk.fromServer(b)
}
