package main

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/seed-13b04e61/gateway/routes"
)

// dialect is how one kind of program reads the list of hosts that it calls
// without the proxy.
type dialect struct {
	who    string
	vars   []string // the first that is set and not empty counts; nil: Java's property
	sep    string   // characters that part entries
	covers func(entry, host string, port uint16) bool
}

// dialects are those of reference and source: Go's httpproxy, CPython's
// proxy_bypass_environment, requests' should_bypass_proxies, httpx's
// URLPattern, curl 7.86's noproxy.c, wget's sufmatch, HttpEnvironmentProxy of
// .NET, undici's EnvHttpProxyAgent and Node's own agent, DefaultProxySelector.
// Where versions differ the entry counts: what may go around the proxy will.
func dialects() []dialect {
	low, up := []string{"no_proxy", "NO_PROXY"}, []string{"NO_PROXY", "no_proxy"}
	return []dialect{
		{"Go", up, ",", goCovers},
		{"Python urllib", low, ",", pythonCovers},
		{"Python requests", low, ",", requestsCovers},
		{"Python httpx", low, ",", httpxCovers},
		{"curl", low, ", ", curlCovers},
		{"wget", []string{"no_proxy"}, ",", wgetCovers},
		{"git", low, ", ", curlCovers},
		{".NET", low, ",", dotnetCovers},
		{"Node", low, ", ", nodeCovers},
		{"Java", nil, "|", javaCovers},
	}
}

// below tells whether host is a name under domain.
func below(host, domain string) bool { return strings.HasSuffix(host, "."+domain) }

// inBlock tells whether entry is host's address or a CIDR block that holds it.
func inBlock(entry, host string) bool {
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return false
	}
	if block, err := netip.ParsePrefix(entry); err == nil {
		return block.Contains(ip)
	}
	other, err := netip.ParseAddr(strings.Trim(entry, "[]"))
	return err == nil && other.Unmap() == ip.Unmap()
}

func goCovers(entry, host string, port uint16) bool {
	if entry == "*" || inBlock(entry, host) {
		return true
	}
	if name, p, ok := strings.Cut(entry, ":"); ok {
		if p != fmt.Sprint(port) {
			return false
		}
		entry = name
	}
	if domain, ok := strings.CutPrefix(strings.TrimPrefix(entry, "*"), "."); ok {
		return below(host, domain)
	}
	return host == entry || below(host, entry)
}

func pythonCovers(entry, host string, _ uint16) bool {
	entry = strings.TrimLeft(entry, ".")
	return entry == "*" || host == entry || below(host, entry)
}

// requestsCovers: a bare suffix, so that x.com covers ax.com too.
func requestsCovers(entry, host string, port uint16) bool {
	return pythonCovers(entry, host, port) || inBlock(entry, host) || strings.HasSuffix(host, entry) ||
		strings.HasSuffix(fmt.Sprintf("%s:%d", host, port), entry)
}

func httpxCovers(entry, host string, _ uint16) bool {
	if entry == "*" || inBlock(entry, host) {
		return true
	}
	if domain, ok := strings.CutPrefix(entry, "."); ok {
		return below(host, domain)
	}
	return host == entry || below(host, entry)
}

func curlCovers(entry, host string, _ uint16) bool {
	if entry == "*" || inBlock(entry, host) {
		return true
	}
	entry = strings.TrimSuffix(strings.TrimPrefix(entry, "."), ".")
	return host == entry || below(host, entry)
}

func wgetCovers(entry, host string, _ uint16) bool {
	if domain, ok := strings.CutPrefix(entry, "."); ok {
		return below(host, domain)
	}
	return host == entry || below(host, entry)
}

// dotnetCovers: a name covers itself alone; with a dot before it, itself and
// what is below.
func dotnetCovers(entry, host string, _ uint16) bool {
	if domain, ok := strings.CutPrefix(entry, "."); ok {
		return host == domain || below(host, domain)
	}
	return host == entry
}

func nodeCovers(entry, host string, port uint16) bool {
	if name, p, ok := strings.Cut(entry, ":"); ok && !strings.Contains(p, ":") {
		if p != fmt.Sprint(port) {
			return false
		}
		entry = name
	}
	if entry == "*" || inBlock(entry, host) {
		return true
	}
	if suffix, ok := strings.CutPrefix(entry, "*"); ok && !strings.HasPrefix(suffix, ".") {
		return strings.HasSuffix(host, suffix)
	}
	entry = strings.TrimPrefix(strings.TrimPrefix(entry, "*"), ".")
	return host == entry || below(host, entry)
}

// javaCovers: a wildcard at either end.
func javaCovers(entry, host string, _ uint16) bool {
	head, tail := strings.HasPrefix(entry, "*"), strings.HasSuffix(entry, "*")
	inner := strings.Trim(entry, "*")
	switch {
	case head && tail:
		return strings.Contains(host, inner)
	case head:
		return strings.HasSuffix(host, inner)
	case tail:
		return strings.HasPrefix(host, inner)
	}
	return host == entry
}

// bypass is an entry that keeps calls for a host from the proxy.
type bypass struct{ variable, entry string }

// bypasses says for each entry that covers a which dialects it affects.
func (d *doctor) bypasses(a routes.Authority) (order []bypass, who map[bypass][]string) {
	who = map[bypass][]string{}
	for _, in := range dialects() {
		variable, list := d.bypassList(in)
		split := func(r rune) bool { return strings.ContainsRune(in.sep, r) }
		for _, entry := range strings.FieldsFunc(strings.ToLower(list), split) {
			entry = strings.TrimSpace(entry)
			if entry == "" || !in.covers(entry, a.Host, a.Port) {
				continue
			}
			b := bypass{variable, entry}
			if who[b] == nil {
				order = append(order, b)
			}
			if !slices.Contains(who[b], in.who) {
				who[b] = append(who[b], in.who)
			}
		}
	}
	return order, who
}

// bypassList is the variable that in reads, and what it holds.
func (d *doctor) bypassList(in dialect) (variable, list string) {
	if in.vars == nil {
		list, variable = d.javaProperty("http.nonProxyHosts")
		return variable, list
	}
	for _, name := range in.vars {
		if v := d.value(name); v != "" {
			return name, v
		}
	}
	return "", ""
}

// checkBypass finds hosts that programs call without the proxy.
func (d *doctor) checkBypass() {
	var through []string
	for _, a := range d.hosts {
		name := shortAuthority(a)
		order, who := d.bypasses(a)
		for _, b := range order {
			d.no(checkBypass, name, fmt.Sprintf("the entry %q of %s leads %s around the proxy, so the call gets no token", b.entry, bypassName(b), listed(who[b])),
				"take the entry out, or write the names that it is meant for one by one")
		}
		switch {
		case len(order) == 0 && a.Loopback():
			d.warn(checkBypass, name, "Go and Java never call loopback names through a proxy, whatever the variables say", "call it by another name, or through the reverse door")
		case len(order) == 0:
			through = append(through, name)
		}
	}
	if len(through) > 0 {
		d.ok(checkBypass, "", "no entry of NO_PROXY, no_proxy or http.nonProxyHosts covers "+listed(through))
	}
}

// bypassName is where an entry stands.
func bypassName(b bypass) string {
	if slices.Contains(javaVars(), b.variable) {
		return "http.nonProxyHosts in " + b.variable
	}
	return b.variable
}

// listed joins words as prose does.
func listed(words []string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	last := len(words) - 1
	return strings.Join(words[:last], ", ") + " and " + words[last]
}
