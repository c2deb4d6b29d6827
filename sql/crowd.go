package sql

import (
	"net"
	"net/netip"
	"sync"
)

const (
	// unfinishedPerSeat bounds handshakes that are not done, in multiples of
	// max_connections.
	unfinishedPerSeat = 4
	// unfinishedPerSource bounds those of one source off this machine: it leaves
	// the greater part to others.
	unfinishedPerSource = 1
)

// crowd is the handshakes of a door that are not done. Its zero value is empty,
// and it is safe for concurrent use.
type crowd struct {
	mu  sync.Mutex // guards what follows
	all int
	of  map[netip.Prefix]int // those of each source
}

// enter takes conn in, if there is room at a door of so many seats; bound is how
// many there are otherwise.
func (c *crowd) enter(conn net.Conn, seats int) (bound int, ok bool) {
	source := bounded(conn)
	c.mu.Lock()
	defer c.mu.Unlock()
	if bound = unfinishedPerSeat * seats; c.all >= bound {
		return bound, false
	}
	if bound = unfinishedPerSource * seats; source.IsValid() && c.of[source] >= bound {
		return bound, false
	}
	c.all++
	if source.IsValid() {
		if c.of == nil {
			c.of = map[netip.Prefix]int{}
		}
		c.of[source]++
	}
	return 0, true
}

// leave is for a conn that was taken in, once.
func (c *crowd) leave(conn net.Conn) {
	source := bounded(conn)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.all--
	if n := c.of[source]; n > 1 {
		c.of[source] = n - 1
	} else {
		delete(c.of, source)
	}
}

// bounded is the source that conn counts for: its address, of IPv6 the network
// of 64 bits, any address of which may be one host's. It is zero for this machine,
// whose programs share their address.
func bounded(conn net.Conn) netip.Prefix {
	a := sourceOf(conn)
	if !a.IsValid() || near(conn) {
		return netip.Prefix{}
	}
	bits := a.BitLen()
	if a.Is6() {
		bits = 64
	}
	p, _ := a.Prefix(bits) // never fails for so many bits
	return p
}
