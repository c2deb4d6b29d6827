package egress

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
)

// ErrPrivate is wrapped, beside [ErrForbidden], when an address may be dialled
// for a route and not for what no route names: one that only this machine, its
// network, or nobody at all has.
var ErrPrivate = errors.New("address is not public")

// privateError is a refusal that egress.deny_private is the reason for.
type privateError struct{ addr, why string }

func (e *privateError) Error() string {
	return fmt.Sprintf("%v: %s is %s; a host that has to be private can have a route, or egress.deny_private: false lets all of them pass", ErrForbidden, e.addr, e.why)
}

// Unwrap has errors.Is find both sentinels.
func (e *privateError) Unwrap() []error { return []error{ErrForbidden, ErrPrivate} }

// block is one of addresses that are not of the internet.
type block struct {
	prefix netip.Prefix
	why    string
}

// internet is all that is given out of IPv6 for the internet (RFC 4291 §2.4, IANA).
var internet = netip.MustParsePrefix("2000::/3")

// blocks are the special purposes of RFC 6890 and of IANA's registries after it,
// beyond what has a method in netip. Those of IPv6 lie within [internet].
var blocks = []block{
	{netip.MustParsePrefix("0.0.0.0/8"), "of this network (RFC 1122)"},
	{netip.MustParsePrefix("100.64.0.0/10"), "of a provider's own network (RFC 6598)"},
	{netip.MustParsePrefix("192.0.0.0/24"), "kept for protocols (RFC 6890)"},
	{netip.MustParsePrefix("192.0.2.0/24"), "kept for documentation (RFC 5737)"},
	{netip.MustParsePrefix("192.88.99.0/24"), "of a 6to4 relay (RFC 7526)"},
	{netip.MustParsePrefix("198.18.0.0/15"), "kept for measurements (RFC 2544)"},
	{netip.MustParsePrefix("198.51.100.0/24"), "kept for documentation (RFC 5737)"},
	{netip.MustParsePrefix("203.0.113.0/24"), "kept for documentation (RFC 5737)"},
	{netip.MustParsePrefix("240.0.0.0/4"), "reserved (RFC 1112)"},
	{netip.MustParsePrefix("2001::/23"), "kept for protocols (RFC 2928)"},
	{netip.MustParsePrefix("2001:db8::/32"), "kept for documentation (RFC 3849)"},
	{netip.MustParsePrefix("3fff::/20"), "kept for documentation (RFC 9637)"},
}

// DialPublic is DialContext for what no route names: private addresses are
// refused too, loopback among them, as they are dialled. The next hop resolves
// names itself; of what goes through it only addresses can be judged.
// Errors wrap [ErrForbidden], and [ErrPrivate] too where a route might dial.
func (d *Dialer) DialPublic(ctx context.Context, network, addr string) (net.Conn, error) {
	if err := d.judgeName(ctx, addr); err != nil {
		return nil, err
	}
	if err := d.judgePublicName(addr); err != nil {
		return nil, err
	}
	if d.cfg.Proxy == nil || d.bypass.matches(addr) {
		return d.public.DialContext(ctx, network, addr)
	}
	return d.tunnel(ctx, addr)
}

// judgePublicName says why addr, a host and port, is not public whatever the
// host resolves to, or nil.
func (d *Dialer) judgePublicName(addr string) error {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrForbidden, err)
	}
	host = canonicalName(host)
	if isLocalhost(host) {
		return &privateError{addr, "a name of this machine"}
	}
	if ip, ok := literal(host); ok {
		return private(ip, addr)
	}
	return nil
}

// judgePublic is judge for what no route names.
func (d *Dialer) judgePublic(ap netip.AddrPort) error {
	if err := d.judge(ap); err != nil {
		return err
	}
	return private(ap.Addr().Unmap().WithZone(""), ap.String())
}

// private says why ip, neither mapped nor zoned, is not public, or nil. The
// error names shown.
func private(ip netip.Addr, shown string) error {
	switch {
	case ip.IsLoopback():
		return &privateError{shown, "an address of this machine"}
	case ip.IsPrivate():
		return &privateError{shown, "a private address"}
	case !ip.IsGlobalUnicast() || ip.Is6() && !internet.Contains(ip):
		return &privateError{shown, "no address of the internet"}
	}
	for _, b := range blocks {
		if b.prefix.Contains(ip) {
			return &privateError{shown, b.why}
		}
	}
	return nil
}
