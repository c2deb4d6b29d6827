package egress

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
)

// forbidden are the addresses that no call may reach, routed or not, beyond
// link-local (which holds 169.254.169.254), multicast and unspecified ones. A
// private address is allowed: Azure's Private Endpoints have them.
var forbidden = []netip.Addr{
	netip.MustParseAddr("168.63.129.16"),   // Azure's platform address, the wire server
	netip.MustParseAddr("fd00:ec2::254"),   // EC2's metadata over IPv6
	netip.MustParseAddr("100.100.100.200"), // Alibaba's metadata
	netip.MustParseAddr("255.255.255.255"),
}

// embedding are the blocks whose addresses carry an IPv4 address that a
// translator on the way would dial (RFC 6052, RFC 8215, RFC 3056, RFC 4380).
var embedding = []netip.Prefix{
	netip.MustParsePrefix("64:ff9b::/96"),
	netip.MustParsePrefix("64:ff9b:1::/48"),
	netip.MustParsePrefix("2002::/16"),
	netip.MustParsePrefix("2001::/32"),
	netip.MustParsePrefix("::/96"),
}

// judge says why ap may not be dialled, or nil.
func (d *Dialer) judge(ap netip.AddrPort) error {
	addr := ap.Addr().Unmap().WithZone("")
	if d.identity.Load().holds(netip.AddrPortFrom(addr, ap.Port())) {
		return fmt.Errorf("%w: %s is a managed identity endpoint", ErrForbidden, ap)
	}
	switch {
	case !addr.IsValid(), addr.IsUnspecified():
		return fmt.Errorf("%w: %s is unspecified", ErrForbidden, ap)
	case addr.IsLinkLocalUnicast():
		return fmt.Errorf("%w: %s is link-local, as metadata services are", ErrForbidden, ap)
	case addr.IsMulticast(), addr.IsInterfaceLocalMulticast(), addr.IsLinkLocalMulticast():
		return fmt.Errorf("%w: %s is multicast", ErrForbidden, ap)
	}
	for _, f := range forbidden {
		if addr == f {
			return fmt.Errorf("%w: %s belongs to the platform", ErrForbidden, ap)
		}
	}
	for _, p := range embedding {
		if p.Contains(addr) && !addr.IsLoopback() {
			return fmt.Errorf("%w: %s embeds another address", ErrForbidden, ap)
		}
	}
	if d.isOwn(netip.AddrPortFrom(addr, ap.Port())) {
		return fmt.Errorf("%w: %s is a listener of this gateway", ErrForbidden, ap)
	}
	return nil
}

// judgeHop is judge for the next hop, which may be anywhere but here: each
// connection would lead to one more.
func (d *Dialer) judgeHop(ap netip.AddrPort) error {
	if d.isOwn(netip.AddrPortFrom(ap.Addr().Unmap().WithZone(""), ap.Port())) {
		return fmt.Errorf("%w: the next hop %s is a listener of this gateway", ErrForbidden, ap)
	}
	return nil
}

// isOwn tells whether ap is one of the gateway's listeners; one on the
// unspecified address listens on every address of this machine.
func (d *Dialer) isOwn(ap netip.AddrPort) bool {
	own := d.own.Load()
	if own == nil {
		return false
	}
	for _, l := range *own {
		if l.Port() != ap.Port() {
			continue
		}
		if l.Addr().Unmap() == ap.Addr() || l.Addr().IsUnspecified() && isLocal(ap.Addr()) {
			return true
		}
	}
	return false
}

// isLocal fails closed: when the interfaces cannot be listed, every address
// counts as one of this machine's.
func isLocal(addr netip.Addr) bool {
	if addr.IsLoopback() {
		return true
	}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return true
	}
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Unmap() == addr {
			return true
		}
	}
	return false
}

// bypass is what is dialled directly although there is a next hop.
type bypass struct {
	hosts    map[string]bool // exact, lower case
	suffixes []string        // with the leading dot
	prefixes []netip.Prefix
}

func parseBypass(entries []string) (bypass, error) {
	b := bypass{hosts: map[string]bool{}}
	for _, e := range entries {
		e = strings.ToLower(strings.TrimSuffix(strings.TrimSpace(e), "."))
		switch p, err := netip.ParsePrefix(e); {
		case err == nil:
			b.prefixes = append(b.prefixes, p.Masked())
		case strings.Contains(e, "/"):
			return bypass{}, fmt.Errorf("bypass %q: want a host, .suffix, address or CIDR block", e)
		case strings.HasPrefix(e, "*."):
			b.suffixes = append(b.suffixes, e[1:])
		case strings.HasPrefix(e, "."):
			b.suffixes = append(b.suffixes, e)
		case e == "":
			return bypass{}, fmt.Errorf("bypass: empty entry; want a host, .suffix, address or CIDR block")
		default:
			b.hosts[e] = true
		}
	}
	return b, nil
}

// matches judges names by name and addresses by address; it resolves nothing.
func (b bypass) matches(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return false
	}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if ip, err := netip.ParseAddr(host); err == nil {
		ip = ip.Unmap()
		if ip.IsLoopback() || b.hosts[host] {
			return true
		}
		for _, p := range b.prefixes {
			if p.Contains(ip) {
				return true
			}
		}
		return false
	}
	if host == "localhost" || strings.HasSuffix(host, ".localhost") || b.hosts[host] {
		return true
	}
	for _, s := range b.suffixes {
		if strings.HasSuffix(host, s) {
			return true
		}
	}
	return false
}
