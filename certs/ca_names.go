package certs

import (
	"crypto/x509"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// nobody is what a CA without hosts permits: a list that permits nothing would
// be none, and then everything is permitted (RFC 5280 §4.2.1.10). No name below
// .invalid ever resolves (RFC 6761 §6.4).
const nobody = "no-routed-host.invalid"

// names are the hosts that are signed for. The zero value holds none.
type names struct {
	exact    map[string]bool
	suffixes []string // of wildcards, with their dot: ".contoso.com"; sorted, each once
	loopback bool     // 127.0.0.1 and ::1 beside them, in certificates of [CA.ServerCertificate] alone
}

func newNames(hosts []string) (names, error) {
	n := names{exact: map[string]bool{}}
	for _, h := range hosts {
		if isLoopback(h) {
			n.loopback = true
			continue
		}
		name, wildcard := strings.CutPrefix(h, "*.")
		if !isName(name) {
			return names{}, fmt.Errorf("%w: %q is no host name in lower case", ErrNotSigned, h)
		}
		if wildcard {
			n.suffixes = append(n.suffixes, "."+name)
		} else {
			n.exact[name] = true
		}
	}
	slices.Sort(n.suffixes)
	n.suffixes = slices.Compact(n.suffixes)
	return n, nil
}

// isName tells whether s is a DNS name such as a certificate may hold: labels of
// lower-case letters, digits and hyphens, and no address.
func isName(s string) bool {
	if s == "" || len(s) > 253 {
		return false
	}
	if _, err := netip.ParseAddr(s); err == nil {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for i := range len(label) {
			if c := label[i]; c != '-' && (c < '0' || c > '9') && (c < 'a' || c > 'z') {
				return false
			}
		}
	}
	// A resolver may read a name whose last label is a number as an address.
	last := s[strings.LastIndexByte(s, '.')+1:]
	return last[0] < '0' || last[0] > '9'
}

// loopbackAddresses are those that a CA may be asked to permit. Others it never
// does: who holds its key must not speak for other machines by their address.
func loopbackAddresses() []string { return []string{"127.0.0.1", "::1"} }

func isLoopback(s string) bool { return slices.Contains(loopbackAddresses(), s) }

// hold tells whether host is to be signed for.
func (n names) hold(host string) bool {
	if !isName(host) {
		return false
	}
	return n.exact[host] || slices.ContainsFunc(n.suffixes, func(s string) bool {
		return len(host) > len(s) && strings.HasSuffix(host, s)
	})
}

// within are the names that both hold.
func (n names) within(o names) names {
	both := names{exact: map[string]bool{}, loopback: n.loopback && o.loopback}
	for _, of := range [2][2]names{{n, o}, {o, n}} {
		for h := range of[0].exact {
			if of[1].hold(h) {
				both.exact[h] = true
			}
		}
		for _, s := range of[0].suffixes {
			if slices.ContainsFunc(of[1].suffixes, func(wider string) bool { return strings.HasSuffix(s, wider) }) {
				both.suffixes = append(both.suffixes, s)
			}
		}
	}
	slices.Sort(both.suffixes)
	both.suffixes = slices.Compact(both.suffixes)
	return both
}

func (n names) equal(o names) bool {
	if n.loopback != o.loopback || len(n.exact) != len(o.exact) || !slices.Equal(n.suffixes, o.suffixes) {
		return false
	}
	for h := range n.exact {
		if !o.exact[h] {
			return false
		}
	}
	return true
}

// constraints are what an issuing CA permits: DNS names, sorted, each with all
// names below it, and the addresses of loopback.
type constraints struct {
	dns      []string
	loopback bool
}

// constraints are the ones to permit. A certificate cannot say "below this name
// alone", so a wildcard's suffix is permitted itself too.
func (n names) constraints() constraints {
	var out []string
	for h := range n.exact {
		out = append(out, h)
	}
	for _, s := range n.suffixes {
		out = append(out, s[1:])
	}
	if len(out) == 0 {
		out = []string{nobody}
	}
	slices.Sort(out)
	return constraints{slices.Compact(out), n.loopback}
}

// permitted are the constraints of an issuing CA of ours.
func permitted(c *x509.Certificate) constraints {
	return constraints{c.PermittedDNSDomains, len(c.PermittedIPRanges) > 0}
}

func (c constraints) equal(o constraints) bool {
	return c.loopback == o.loopback && slices.Equal(c.dns, o.dns)
}

// permits tells whether host is below a permitted name, is one, or is an
// address of loopback where those are permitted.
func (c constraints) permits(host string) bool {
	if isLoopback(host) {
		return c.loopback
	}
	return slices.ContainsFunc(c.dns, func(d string) bool {
		rest, ok := strings.CutSuffix(host, d)
		return ok && (rest == "" || rest[len(rest)-1] == '.')
	})
}
