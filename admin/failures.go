package admin

import (
	"net"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"github.com/seed-13b04e61/gateway/gate"
)

const (
	// failuresAtOnce is how many wrong proofs a source may show at once;
	// failurePause is how long it waits for each further one.
	failuresAtOnce = 10
	failurePause   = time.Second
	// maxSources bounds the memory that sources take. Beyond it the oldest is
	// forgotten: to be forgotten takes more addresses than guesses are worth.
	maxSources = 4096
)

// failures holds off sources that show wrong proofs. It is safe for concurrent
// use.
type failures struct {
	mu   sync.Mutex
	seen map[string]time.Time // when the source's debt will be paid
}

// charge takes one try from source, or says how long to wait for one. Whoever
// turns out to be right gives it back by pay.
func (f *failures) charge(source string, now time.Time) (wait time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	paid, ok := f.seen[source]
	if !ok || paid.Before(now) {
		paid = now
	}
	if debt := paid.Sub(now); debt > (failuresAtOnce-1)*failurePause {
		return debt - (failuresAtOnce-1)*failurePause
	}
	if f.seen == nil {
		f.seen = map[string]time.Time{}
	}
	if !ok && len(f.seen) >= maxSources {
		f.forget(now)
	}
	f.seen[source] = paid.Add(failurePause)
	return 0
}

// pay gives a try back.
func (f *failures) pay(source string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if paid, ok := f.seen[source]; ok {
		f.seen[source] = paid.Add(-failurePause)
	}
}

// forget makes room: all whose debt is paid go, else the one who owes least.
func (f *failures) forget(now time.Time) {
	least := ""
	for source, paid := range f.seen {
		if !paid.After(now) {
			delete(f.seen, source)
		} else if least == "" || paid.Before(f.seen[least]) {
			least = source
		}
	}
	if len(f.seen) >= maxSources {
		delete(f.seen, least)
	}
}

// sourceOf is who is held off: the user, where the kernel attests one, so that
// a program on this machine cannot lock others out; else the address, and of
// IPv6 the /64 that a customer gets.
func sourceOf(conn net.Conn) string {
	if uid, err := gate.PeerUID(conn); err == nil {
		return "uid " + strconv.FormatUint(uint64(uid), 10)
	}
	at, err := netip.ParseAddrPort(conn.RemoteAddr().String())
	if err != nil {
		return conn.RemoteAddr().Network()
	}
	addr := at.Addr().Unmap()
	if addr.Is6() {
		if p, err := addr.WithZone("").Prefix(64); err == nil {
			return p.String()
		}
	}
	return addr.String()
}
