package main

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/seed-13b04e61/gateway/routes"
)

// exceptions are the entries of NO_PROXY: what a program calls without a proxy.
type exceptions []string

// exceptions are this machine's own names, the gateway itself, and those that
// were there before, none of them less.
func (r reach) exceptions() exceptions {
	out := exceptions{"localhost", "127.0.0.1", "::1"}
	if ip, err := netip.ParseAddr(r.proxy.Hostname()); err == nil && !slices.Contains(out, ip.String()) {
		out = append(out, ip.String())
	}
	for _, e := range inheritedExceptions(r.inherited) {
		if !slices.Contains(out, e) {
			out = append(out, e)
		}
	}
	return out
}

// inheritedExceptions are those of an environment, in whatever case.
func inheritedExceptions(env lookup) exceptions {
	var out exceptions
	for _, name := range []string{"no_proxy", "NO_PROXY"} {
		value, _ := env(name)
		for _, e := range strings.FieldsFunc(value, func(c rune) bool { return c == ',' || c == ' ' || c == '\t' }) {
			if !slices.Contains(out, e) {
				out = append(out, e)
			}
		}
	}
	return out
}

// doubled writes the entries so that those who read them differently mean the
// same: to .NET a name is that name alone, and .name the names below it; to
// others *.name is nothing.
func (x exceptions) doubled() []string {
	var out []string
	add := func(e string) {
		if !slices.Contains(out, e) {
			out = append(out, e)
		}
	}
	for _, e := range x {
		add(e)
		name, wildcard := strings.CutPrefix(e, "*.")
		if wildcard || plainName(e) && e != "localhost" {
			add("." + name)
		}
	}
	return out
}

// java writes them as http.nonProxyHosts has them, which the JVM uses for https
// too: with | between them and * at either end. It knows neither ports nor
// blocks of addresses but those that end at a dot.
func (x exceptions) java() string {
	out := []string{"localhost", "127.*", "[::1]"}
	add := func(entries ...string) {
		for _, e := range entries {
			if !slices.Contains(out, e) {
				out = append(out, e)
			}
		}
	}
	for _, e := range x {
		ip, ipErr := netip.ParseAddr(strings.Trim(e, "[]"))
		block, blockErr := netip.ParsePrefix(e)
		switch {
		case e == "*":
			add(e)
		case e == "localhost", ipErr == nil && ip.IsLoopback(): // they are there
		case ipErr == nil && ip.Is6():
			add("[" + ip.String() + "]")
		case ipErr == nil:
			add(ip.String())
		case blockErr == nil:
			if block.Addr().Is4() && block.Bits() > 0 && block.Bits()%8 == 0 {
				parts := strings.Split(block.Masked().Addr().String(), ".")
				add(strings.Join(parts[:block.Bits()/8], ".") + map[bool]string{true: ".*"}[block.Bits() < 32])
			}
		case strings.HasPrefix(e, "*."):
			add(e)
		case strings.HasPrefix(e, "."):
			add("*" + e)
		case plainName(e):
			add(e, "*."+e)
		}
	}
	return strings.Join(out, "|")
}

// plainName tells a name from addresses, blocks, wildcards, and from names with
// a port.
func plainName(e string) bool {
	if _, err := netip.ParseAddr(strings.Trim(e, "[]")); err == nil {
		return false
	}
	return e != "" && !strings.ContainsAny(e, "*/:[]") && e[0] != '.'
}

// bypassedBy tells whether some client would take entry for an exception of one of
// the hosts of h. It goes by the broadest reading of each form.
func bypassedBy(entry string, h routes.HostPattern) bool {
	entry = strings.ToLower(entry)
	if host, port, err := net.SplitHostPort(entry); err == nil {
		if port != fmt.Sprint(h.Port) {
			return false
		}
		entry = host
	}
	ip, ipErr := netip.ParseAddr(h.Host)
	if block, err := netip.ParsePrefix(entry); err == nil {
		return ipErr == nil && block.Contains(ip.Unmap())
	}
	if ipErr == nil {
		other, err := netip.ParseAddr(strings.Trim(entry, "[]"))
		return entry == "*" || err == nil && other.Unmap() == ip.Unmap()
	}
	if entry == "*" {
		return true
	}
	entry = strings.TrimSuffix(strings.TrimPrefix(strings.TrimPrefix(entry, "*"), "."), ".")
	switch {
	case entry == "":
		return false
	case entry == h.Host, strings.HasSuffix(h.Host, "."+entry):
		return true
	}
	return h.Wildcard && strings.HasSuffix(entry, "."+h.Host)
}

// bypasses says which of the table's hosts a program would call without the
// gateway, and so without a token.
func bypasses(x exceptions, t *routes.Table) []string {
	var out []string
	for _, e := range x {
		var hosts []string
		for _, r := range t.Routes {
			for _, h := range r.Hosts {
				if name := strings.TrimSuffix(h.String(), ":443"); bypassedBy(e, h) && !slices.Contains(hosts, name) {
					hosts = append(hosts, name)
				}
			}
		}
		if len(hosts) > 0 {
			out = append(out, fmt.Sprintf("NO_PROXY has %q, which covers %s of routes.yaml: calls there go past the gateway and get no token; take it out of NO_PROXY and no_proxy",
				clip(e), someOf(hosts)))
		}
	}
	return out
}

// someOf names a few.
func someOf(names []string) string {
	const most = 5
	if n := len(names) - most; n > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), n)
	}
	return strings.Join(names, ", ")
}

// clip bounds what an environment says.
func clip(s string) string {
	const most = 100
	if len(s) > most {
		return s[:most] + "…"
	}
	return s
}
