package tds

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// DefaultRedirectSuffixes are where Azure redirects to.
func DefaultRedirectSuffixes() []string {
	return []string{
		".database.windows.net",
		".database.usgovcloudapi.net",
		".database.chinacloudapi.cn",
		".sql.azuresynapse.net",
		".pbidedicated.windows.net",
		".fabric.microsoft.com",
	}
}

// redirectError is a redirect that is not followed.
type redirectError struct{ reason, remedy string }

func (e *redirectError) Error() string { return e.reason }

// follow makes the next hop of a routing, which replaces the host, the port and,
// in enhanced routing, the database (MS-TDS 2.2.7.9). The token is good for
// whoever gets it, so it goes to names only that are allowed. The instance stays in
// LOGIN7's ServerName: Fabric's warehouses hang up without it.
func (j *journey) follow(r Routing) (hop, error) {
	host, ok := canonical(r.Host)
	if !ok {
		return hop{}, &LoginError{Phase: PhaseLogin, Err: &redirectError{
			"the server redirects to what is no host name", "ask the server's operator"}}
	}
	if !allowed(host, j.target) {
		return hop{}, &LoginError{Phase: PhaseLogin, Err: &redirectError{
			fmt.Sprintf("the server redirects to %s, which redirect_suffixes do not allow", host),
			"if the token may go there, add the name, or its domain with a dot before it, to redirect_suffixes of the entry"}}
	}
	if len(j.route) >= maxHops {
		return hop{}, &LoginError{Phase: PhaseLogin, Err: &redirectError{
			fmt.Sprintf("the servers redirect without end: %s", strings.Join(lastOf(append(slices.Clone(j.route), hostPort(host, r.Port)), 4), ", ")),
			"try again later; if it stays so, ask the servers' operator"}}
	}
	h := hop{host: host, server: hostPort(host, r.Port), name: r.Host, database: r.Database}
	h.dial = h.server
	if r.Instance != "" {
		h.name += `\` + r.Instance
	}
	if full := fmt.Sprintf("%s,%d", h.name, r.Port); NewUTF16(full).Units() <= maxUnits {
		h.name = full
	}
	return h, nil
}

func lastOf(all []string, n int) []string { return all[max(0, len(all)-n):] }

// canonical is host in lower case without the root's dot. What could not be a
// host name or an address is refused: the name is dialled, maybe by way of a
// next hop that reads lines.
func canonical(host string) (string, bool) {
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	if _, err := netip.ParseAddr(host); err == nil {
		return host, true
	}
	if host == "" || len(host) > 253 {
		return "", false
	}
	for label := range strings.SplitSeq(host, ".") {
		if label == "" || strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
			return "", false
		}
	}
	return host, true
}

// allowed tells whether a redirect may lead to host, which is canonical.
func allowed(host string, t Target) bool {
	if host == t.Host || isLoopback(host) && isLoopback(t.Host) {
		return true
	}
	suffixes := t.RedirectSuffixes
	if suffixes == nil {
		suffixes = append(DefaultRedirectSuffixes(), ownDomain(t.Host)...)
	}
	_, err := netip.ParseAddr(host)
	isIP := err == nil
	return slices.ContainsFunc(suffixes, func(s string) bool {
		s = strings.ToLower(s)
		return host == s || !isIP && strings.HasPrefix(s, ".") && len(host) > len(s) && strings.HasSuffix(host, s)
	})
}

// ownDomain is the domain of a server, ".database.windows.net" for any name right
// below; none for an address, and none for what looks like a registry's own domain
// (com, co.uk), where strangers live side by side.
func ownDomain(host string) []string {
	if _, err := netip.ParseAddr(host); err == nil {
		return nil
	}
	_, domain, _ := strings.Cut(host, ".")
	labels := strings.Split(domain, ".")
	if len(labels) < 2 || len(labels) == 2 && len(labels[0]) <= 3 && len(labels[1]) == 2 {
		return nil
	}
	return []string{"." + domain}
}

// isLoopback tells whether host is this machine by any of its names.
func isLoopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.Unmap().IsLoopback()
}
