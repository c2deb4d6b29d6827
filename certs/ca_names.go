package certs

import (
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
}

func newNames(hosts []string) (names, error) {
	n := names{exact: map[string]bool{}}
	for _, h := range hosts {
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
	both := names{exact: map[string]bool{}}
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
	if len(n.exact) != len(o.exact) || !slices.Equal(n.suffixes, o.suffixes) {
		return false
	}
	for h := range n.exact {
		if !o.exact[h] {
			return false
		}
	}
	return true
}

// constraints are the DNS names to permit, sorted. A certificate cannot say
// "below this name alone", so a wildcard's suffix is permitted itself too.
func (n names) constraints() []string {
	var out []string
	for h := range n.exact {
		out = append(out, h)
	}
	for _, s := range n.suffixes {
		out = append(out, s[1:])
	}
	if len(out) == 0 {
		return []string{nobody}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// permits tells whether host is below a name of constraints, or is one.
func permits(constraints []string, host string) bool {
	return slices.ContainsFunc(constraints, func(c string) bool {
		rest, ok := strings.CutSuffix(host, c)
		return ok && (rest == "" || rest[len(rest)-1] == '.')
	})
}
