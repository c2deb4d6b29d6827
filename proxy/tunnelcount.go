package proxy

import (
	"sync"

	"github.com/seed-13b04e61/gateway/gate"
)

// tunnels are those that are open, and those that are about to be. It is safe
// for concurrent use.
type tunnels struct {
	mu      sync.Mutex // guards what follows
	wanted  int64      // those of open, and those whose CONNECT is not answered yet
	through int64      // of open: those that are passed through
	open    map[*tunnel]struct{}
	held    map[string]int64 // of wanted, by the names of callers
	closed  bool
}

// reserve takes a place for a caller, "" for anyone, and tells whether there was
// one. No named caller holds more than half of all, or silent tunnels of one
// would keep the others out.
func (ts *tunnels) reserve(caller string, limit int64) bool {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if ts.closed || ts.wanted >= limit || caller != "" && ts.held[caller] >= (limit+1)/2 {
		return false
	}
	ts.wanted++
	if caller != "" {
		ts.held[caller]++
	}
	return true
}

// release gives back a caller's place that no tunnel came to.
func (ts *tunnels) release(caller string) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	ts.giveBack(caller)
}

// giveBack is release for who holds mu.
func (ts *tunnels) giveBack(caller string) {
	ts.wanted--
	if caller == "" {
		return
	}
	if ts.held[caller]--; ts.held[caller] == 0 {
		delete(ts.held, caller)
	}
}

// enter notes a tunnel that has a place. It is false once all are cut.
func (ts *tunnels) enter(t *tunnel) bool {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if ts.closed {
		return false
	}
	ts.open[t] = struct{}{}
	if t.way == gate.Through {
		ts.through++
	}
	return true
}

// leave forgets a tunnel, and gives its place back.
func (ts *tunnels) leave(t *tunnel) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	ts.giveBack(t.holder)
	if _, ok := ts.open[t]; ok {
		delete(ts.open, t)
		if t.way == gate.Through {
			ts.through--
		}
	}
}

// count is how many are open, and how many of those are passed through.
func (ts *tunnels) count() (open, through int64) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	return int64(len(ts.open)), ts.through
}

// cut ends all tunnels; with closed, for ever.
func (ts *tunnels) cut(closed bool) {
	ts.mu.Lock()
	ts.closed = ts.closed || closed
	all := make([]*tunnel, 0, len(ts.open))
	for t := range ts.open {
		all = append(all, t)
	}
	ts.mu.Unlock()
	for _, t := range all {
		t.end("the gateway stopped")
	}
}
