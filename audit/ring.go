package audit

import (
	"sync"
	"time"
)

// ring keeps the newest of what was put into it, numbered one by one. Followers
// read it at their own pace, so that none holds up who writes, and each learns
// what it has missed. It is safe for concurrent use.
type ring[T any] struct {
	size  int
	first uint64 // number of the very first

	mu        sync.Mutex // guards all that follows
	slots     []T        // made with the first record; the one numbered n is at n % size
	next      uint64     // number of the next
	followers map[chan struct{}]struct{}
}

// newRing begins to number with the time, in microseconds: so a number that
// was read from an earlier process is smaller than any of this one.
func newRing[T any](size int) *ring[T] {
	now := uint64(time.Now().UnixMicro()) //nolint:gosec // after 1970
	return &ring[T]{size: size, first: now, next: now, followers: map[chan struct{}]struct{}{}}
}

// slot is where the next record goes; mu must be held until done is called.
func (r *ring[T]) slot() *T {
	if r.slots == nil {
		r.slots = make([]T, r.size)
	}
	return &r.slots[r.next%uint64(r.size)] //nolint:gosec // size is positive
}

// done counts what was written to slot, and wakes the followers.
func (r *ring[T]) done() {
	r.next++
	for wake := range r.followers {
		select {
		case wake <- struct{}{}:
		default: // it has not looked since it was woken before
		}
	}
}

// oldest is the number of the oldest that is kept; mu must be held.
func (r *ring[T]) oldest() uint64 {
	if kept := uint64(r.size); r.next-r.first > kept { //nolint:gosec // size is positive
		return r.next - kept
	}
	return r.first
}

// after visits what came after the record numbered n, at most limit of them,
// oldest first. lost is how many more there were that are gone; those of an
// earlier process are not known, and count as none.
func (r *ring[T]) after(n uint64, limit int, visit func(n uint64, record *T)) (lost uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	begin := r.oldest()
	switch {
	case n+1 < r.first: // of an earlier process
	case n+1 < begin:
		lost = begin - (n + 1)
	default:
		begin = n + 1
	}
	for ; begin < r.next && limit > 0; begin++ {
		visit(begin, &r.slots[begin%uint64(r.size)]) //nolint:gosec // size is positive
		limit--
	}
	return lost
}

// latest visits what is kept, newest first, until visit returns false.
func (r *ring[T]) latest(visit func(n uint64, record *T) bool) (newest uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for n := r.next; n > r.oldest(); n-- {
		if !visit(n-1, &r.slots[(n-1)%uint64(r.size)]) { //nolint:gosec // size is positive
			break
		}
	}
	return r.next - 1
}

// follow returns a channel that has something to read after each record, until
// stop is called.
func (r *ring[T]) follow() (wake <-chan struct{}, stop func()) {
	ch := make(chan struct{}, 1)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.followers[ch] = struct{}{}
	return ch, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.followers, ch)
	}
}

// known tells whether n was given to a record of this process, or is the one
// before its first.
func (r *ring[T]) known(n uint64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.first <= n+1 && n < r.next
}
