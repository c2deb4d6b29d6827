package routes

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/idna"
)

// ErrAuthority is wrapped by every error of [ParseAuthority].
var ErrAuthority = errors.New("not a host")

// Authority is a canonical host and port: lower-case A-labels without a final
// dot, or an IP address as netip prints it; the port is always a number.
type Authority struct {
	Host string
	Port uint16
}

// HostPattern is an entry of a route's hosts: an exact host, or "*.suffix",
// which covers every name below suffix and not suffix itself.
type HostPattern struct {
	Host     string // canonical; without the "*." of a wildcard
	Wildcard bool
	Port     uint16 // 443 unless the file names one
}

// String returns host:port, an IPv6 address in brackets: "[::1]:443".
func (a Authority) String() string {
	b := make([]byte, 0, 80) // on the stack: calls are stamped with it
	if strings.IndexByte(a.Host, ':') >= 0 {
		b = append(append(append(b, '['), a.Host...), ']')
	} else {
		b = append(b, a.Host...)
	}
	return string(strconv.AppendUint(append(b, ':'), uint64(a.Port), 10))
}

// Loopback tells whether the host is a loopback address or the name localhost.
func (a Authority) Loopback() bool {
	if a.Host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(a.Host)
	return err == nil && ip.IsLoopback()
}

// Metadata tells whether the host is one that no call may reach: a link-local
// address, or another at which clouds tell a machine its own secrets.
func (a Authority) Metadata() bool { return metadata(a.Host) }

// Matches tells whether the pattern holds a.
func (p HostPattern) Matches(a Authority) bool {
	if p.Port != a.Port {
		return false
	}
	if !p.Wildcard {
		return p.Host == a.Host
	}
	rest, ok := strings.CutSuffix(a.Host, p.Host)
	return ok && len(rest) > 1 && rest[len(rest)-1] == '.'
}

// String returns the pattern as routes.yaml writes it, with its port.
func (p HostPattern) String() string {
	s := Authority{Host: p.Host, Port: p.Port}.String()
	if p.Wildcard {
		return "*." + s
	}
	return s
}

// ParseAuthority returns the one canonical form of host, host:port, address or
// [address]:port; defaultPort stands in for a port that is absent or empty, and
// may be 0 for callers who want to know that.
//
// Names become lower-case A-labels (UTS #46 as [idna.Lookup] does it) without
// their one final dot. An ASCII label may hold hyphens in its third and fourth
// place, which Lookup refuses and real hosts use. Refused: underscores, empty
// labels, anything that a resolver might read as an address though it is none
// in canonical form (127.1, 0x7f.1, 2130706433, octal), zones, user
// information, paths and escapes.
// Every error wraps [ErrAuthority]. It allocates only for names that change.
func ParseAuthority(hostport string, defaultPort uint16) (Authority, error) {
	if len(hostport) > maxHostPort {
		return Authority{}, fmt.Errorf("%w: longer than %d bytes", ErrAuthority, maxHostPort)
	}
	host, port, err := splitPort(hostport, defaultPort)
	if err != nil {
		return Authority{}, err
	}
	if strings.HasPrefix(host, "[") {
		host, err = canonicalIPv6(host)
	} else {
		host, err = canonicalHost(host)
	}
	if err != nil {
		return Authority{}, err
	}
	return Authority{Host: host, Port: port}, nil
}

// maxHostPort bounds what is looked at: 253 characters of a name (RFC 1035
// §2.3.4), each of which may have been up to four bytes before IDNA, and a port.
const maxHostPort = 4*253 + 8

// maxHost and maxLabel are RFC 1035 §2.3.4 without the root's own dot.
const (
	maxHost  = 253
	maxLabel = 63
)

func splitPort(s string, defaultPort uint16) (host string, port uint16, err error) {
	host, text := s, ""
	if i := strings.LastIndexByte(s, ':'); i >= 0 && i > strings.LastIndexByte(s, ']') {
		host, text = s[:i], s[i+1:]
	}
	if strings.Contains(host, ":") && !strings.HasPrefix(host, "[") {
		return "", 0, fmt.Errorf("%w: %q: an IPv6 address stands in brackets", ErrAuthority, s)
	}
	if text == "" {
		return host, defaultPort, nil
	}
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil || n == 0 || len(text) > 5 {
		return "", 0, fmt.Errorf("%w: %q: a port is a number from 1 to 65535", ErrAuthority, s)
	}
	return host, uint16(n), nil
}

func canonicalIPv6(host string) (string, error) {
	inner, ok := strings.CutSuffix(host[1:], "]")
	ip, err := netip.ParseAddr(inner)
	if !ok || err != nil || !ip.Is6() || ip.Zone() != "" {
		return "", fmt.Errorf("%w: %q: brackets hold an IPv6 address without a zone", ErrAuthority, host)
	}
	return ip.Unmap().String(), nil
}

func canonicalHost(host string) (string, error) {
	name, err := mapHost(host)
	if err != nil {
		return "", err
	}
	name = strings.TrimSuffix(name, ".")
	if name == "" || len(name) > maxHost {
		return "", fmt.Errorf("%w: %q: a name has 1 to %d characters", ErrAuthority, host, maxHost)
	}
	last := name[strings.LastIndexByte(name, '.')+1:]
	if !numeric(last) {
		return name, checkLabels(name)
	}
	// A name that ends in a number is an address or nothing (WHATWG URL,
	// "ends in a number"): inet_aton's short, hexadecimal and octal forms are
	// read by getaddrinfo and not by Go.
	ip, err := netip.ParseAddr(name)
	if err != nil || !ip.Is4() {
		return "", fmt.Errorf("%w: %q: an IPv4 address is four decimal numbers", ErrAuthority, host)
	}
	return name, nil
}

// mapHost lowers ASCII names and runs all others through IDNA.
func mapHost(host string) (string, error) {
	ascii, upper := true, false
	for i := range len(host) {
		c := host[i]
		ascii = ascii && c < utf8.RuneSelf
		upper = upper || 'A' <= c && c <= 'Z'
	}
	if upper && ascii {
		host = strings.ToLower(host)
	}
	if ascii && !strings.Contains(host, "xn--") {
		return host, nil
	}
	mapped, err := idna.Lookup.ToASCII(host)
	// IDNA turns broken UTF-8 into a replacement character, and that into a name.
	if err != nil || !utf8.ValidString(host) {
		return "", fmt.Errorf("%w: %q: no valid international name", ErrAuthority, host)
	}
	return mapped, nil
}

// checkLabels holds name to letters, digits and inner hyphens.
func checkLabels(name string) error {
	for label := range strings.SplitSeq(name, ".") {
		switch {
		case label == "":
			return fmt.Errorf("%w: %q has an empty label", ErrAuthority, name)
		case len(label) > maxLabel:
			return fmt.Errorf("%w: %q has a label of more than %d characters", ErrAuthority, name, maxLabel)
		case label[0] == '-' || label[len(label)-1] == '-':
			return fmt.Errorf("%w: %q: a label neither begins nor ends with a hyphen", ErrAuthority, name)
		}
	}
	for i := range len(name) {
		if c := name[i]; c != '.' && c != '-' && !lowerAlphanumeric(c) {
			return fmt.Errorf("%w: %q: %q may not stand in a host", ErrAuthority, name, c)
		}
	}
	return nil
}

func lowerAlphanumeric(c byte) bool {
	return 'a' <= c && c <= 'z' || '0' <= c && c <= '9'
}

// numeric tells whether a resolver might read label as the number that ends an
// address: all digits, or 0x and hexadecimal digits.
func numeric(label string) bool {
	digits := "0123456789"
	if strings.HasPrefix(label, "0x") {
		label, digits = label[2:], "0123456789abcdef"
		if label == "" {
			return true
		}
	}
	return label != "" && strings.Trim(label, digits) == ""
}

// parseOrigin returns the scheme and the canonical authority of an absolute
// http or https URL without user information and fragment. What its path and
// query may be is the caller's to say.
func parseOrigin(raw string) (*url.URL, Authority, error) {
	u, err := url.Parse(raw)
	if err != nil {
		// url.Error repeats the URL, which may hold a password.
		return nil, Authority{}, errors.New("is not a URL")
	}
	port := uint16(443)
	switch u.Scheme {
	case "https":
	case "http":
		port = 80
	default:
		return nil, Authority{}, errors.New("does not begin with https:// or http://")
	}
	if u.User != nil {
		return nil, Authority{}, errors.New("holds user information")
	}
	if u.Fragment != "" || strings.HasSuffix(raw, "#") {
		return nil, Authority{}, errors.New("holds a fragment")
	}
	a, err := ParseAuthority(u.Host, port)
	if err != nil {
		// Its text repeats the host, which may have come from a variable.
		return nil, Authority{}, errors.New("does not name a host")
	}
	return u, a, nil
}

// originHost is the host of a URL on a: the scheme's own port is left out.
func originHost(scheme string, a Authority) string {
	s := a.String()
	if scheme == "https" && a.Port == 443 || scheme == "http" && a.Port == 80 {
		return s[:strings.LastIndexByte(s, ':')]
	}
	return s
}
