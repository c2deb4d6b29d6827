package egress

import (
	"context"
	"fmt"
	"math"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// endpoints are where a host hands out tokens of its managed identity to
// whoever asks from the right place: a gateway that forwards there lends that
// place to every caller. It is immutable.
type endpoints struct {
	addrs []netip.AddrPort        // port 0 is any
	names map[string]map[int]bool // ports by host in lower case; port 0 is any
}

// ForbidHosts names the managed identity endpoints of this host, beyond
// 169.254.169.254, metadata.google.internal and port 40342 of this machine
// (Azure Arc's agent), which are always forbidden. An entry is host:port, or a
// host for all its ports. Names are refused before they are resolved, addresses
// in every spelling and behind every name. A loopback entry stands for all
// addresses of this machine. Each call replaces the entries of the one before.
func (d *Dialer) ForbidHosts(entries []string) { d.identity.Store(newEndpoints(entries)) }

func newEndpoints(entries []string) *endpoints {
	e := &endpoints{names: map[string]map[int]bool{}}
	e.add("169.254.169.254")
	e.add("127.0.0.1:40342")
	e.add("metadata.google.internal")
	for _, entry := range entries {
		e.add(entry)
	}
	return e
}

func (e *endpoints) add(entry string) {
	host, port := entry, 0
	if h, p, err := net.SplitHostPort(entry); err == nil {
		host = h
		// A port that is none forbids them all.
		if port, err = net.LookupPort("tcp", p); err != nil {
			port = 0
		}
	}
	host = canonicalName(strings.Trim(host, "[]"))
	addr, ok := literal(host)
	if isLocalhost(host) {
		addr, ok = loopback(), true
	}
	if ok {
		e.addrs = append(e.addrs, netip.AddrPortFrom(addr, uint16(port)))
		return
	}
	if e.names[host] == nil {
		e.names[host] = map[int]bool{}
	}
	e.names[host][port] = true
}

// holds judges an address that is neither mapped nor zoned.
func (e *endpoints) holds(ap netip.AddrPort) bool {
	for _, f := range e.addrs {
		if f.Port() != 0 && f.Port() != ap.Port() {
			continue
		}
		if f.Addr() == ap.Addr() || f.Addr().IsLoopback() && isLocal(ap.Addr()) {
			return true
		}
	}
	return false
}

// judgeName says why addr, a host and port, may not be dialled whatever the
// host resolves to, or nil. A host that a resolver might read as an address is
// judged as that address.
func (d *Dialer) judgeName(ctx context.Context, addr string) error {
	host, service, err := net.SplitHostPort(addr)
	if err != nil {
		return nil // the dialer says what is wrong with it
	}
	port, err := net.DefaultResolver.LookupPort(ctx, "tcp", service)
	if err != nil {
		return nil
	}
	host = canonicalName(host)
	if ip, ok := literal(host); ok {
		return d.judge(netip.AddrPortFrom(ip, uint16(port)))
	}
	e := d.identity.Load()
	ports := e.names[host]
	if ports[port] || ports[0] || isLocalhost(host) && e.holds(netip.AddrPortFrom(loopback(), uint16(port))) {
		return fmt.Errorf("%w: %s is a managed identity endpoint", ErrForbidden, addr)
	}
	return nil
}

func canonicalName(host string) string { return strings.ToLower(strings.TrimRight(host, ".")) }

// isLocalhost tells the names that stand for loopback (RFC 6761 §6.3).
func isLocalhost(host string) bool {
	return host == "localhost" || strings.HasSuffix(host, ".localhost")
}

func loopback() netip.Addr { return netip.AddrFrom4([4]byte{127, 0, 0, 1}) }

// literal reads host, in lower case, as an address in any form that a resolver
// takes for one: what netip reads, and the short, decimal, octal and
// hexadecimal forms of inet_aton(3).
func literal(host string) (netip.Addr, bool) {
	if ip, err := netip.ParseAddr(host); err == nil {
		return ip.Unmap().WithZone(""), true
	}
	parts := strings.Split(host, ".")
	if len(parts) > 4 {
		return netip.Addr{}, false
	}
	var value uint64
	for i, part := range parts {
		if strings.ContainsAny(part, "_+-ob") && !strings.HasPrefix(part, "0x") {
			return netip.Addr{}, false // ParseUint knows more forms than inet_aton
		}
		n, err := strconv.ParseUint(part, 0, 64)
		limit := uint64(math.MaxUint8)
		if i == len(parts)-1 {
			limit = math.MaxUint32 >> (8 * i) // the last fills what is left
		}
		if err != nil || n > limit {
			return netip.Addr{}, false
		}
		if i == len(parts)-1 {
			value = value<<(8*(4-i)) | n
			break
		}
		value = value<<8 | n
	}
	return netip.AddrFrom4([4]byte{byte(value >> 24), byte(value >> 16), byte(value >> 8), byte(value)}), true
}
