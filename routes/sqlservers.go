package routes

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/net/publicsuffix"
)

// sqlPort is where SQL Server listens.
const sqlPort = 1433

// sqlServers reads where a door leads to, and how its servers are reached.
func (p *parser) sqlServers(d *SQL, m *mapping, where place) {
	if len(m.present("server", "servers")) != 1 {
		p.refuse(where, finding{"want exactly one of server and servers", "write server: orders-srv.database.windows.net, or servers: with a list from which the client's own name of the server chooses"})
	}
	if e, ok := m.items["server"]; ok {
		if a, ok := p.sqlServer(e, d); ok {
			d.Servers = []Authority{a}
		}
	}
	if e, ok := m.items["servers"]; ok {
		d.ByName = true
		list := m.list("servers")
		if len(list) == 0 {
			p.refuse(e.at, finding{"names no server", "name one, such as orders-srv.database.windows.net"})
		}
		list = p.atMost(e, list, maxServers)
		for _, x := range list {
			a, ok := p.sqlServer(x, d)
			switch {
			case !ok:
			case slices.ContainsFunc(d.Servers, func(b Authority) bool { return b.Host == a.Host }):
				p.refuse(x.at, finding{x.shown() + " stands twice: the client's name of the server chooses, whatever the port", "keep one of the two, or make a door for each"})
			default:
				d.Servers = append(d.Servers, a)
			}
		}
	}
	d.Dial = p.sqlDial(m)
	d.Strict = m.choice("upstream_tls", "mandatory", "mandatory", "strict") == "strict"
	d.CAFile = p.open(m.items["tls"], "sql.tls").path("ca_file")
	d.RedirectSuffixes = p.redirects(m)
}

// sqlServer reads host or host:port. Drivers write servers in ways of their
// own, and what is meant is said where it can be told.
func (p *parser) sqlServer(e entry, d *SQL) (Authority, bool) {
	raw := p.scalar(e)
	a, err := ParseAuthority(raw, sqlPort)
	refuse := func(message, remedy string) (Authority, bool) {
		p.refuse(e.at, finding{e.shown() + " " + message, remedy})
		return Authority{}, false
	}
	switch {
	case err != nil && strings.Contains(raw, "*"):
		return refuse("is no server: a login goes to one", "name each server, under servers")
	case err != nil && strings.ContainsAny(raw, ";="):
		return refuse("is no server, but a connection string", "write the server's name alone")
	case err != nil:
		return refuse(driverForm(raw)+", and no host", intended(e.value.Value))
	case metadata(a.Host):
		return refuse("is an address that no call may reach", "name the server itself")
	}
	if why := closed(a.Host); why != "" {
		return refuse(why, "name the server in the cloud that you moved to")
	}
	cloud := named(d.Credential.Cloud)
	owners, home := ownersOf(a.Host, cloud)
	switch {
	case len(owners) > 0 && owners[0].kind != "sql":
		return refuse("is no SQL Server: it belongs to "+owners[0].name, "name a server such as orders-srv.database.windows.net")
	case home != "" && home != cloud && d.Credential.Entra() && d.Credential.Name != "":
		p.warn(e.at, finding{fmt.Sprintf("%s belongs to the cloud %s, and the credential's cloud is %s", a.Host, home, cloud), "name a credential with cloud: " + home})
	}
	return a, true
}

// driverForm says how a server is written that is no host.
func driverForm(raw string) string {
	lower := strings.ToLower(raw)
	switch {
	case strings.Contains(raw, "://"):
		return "is a URL"
	case strings.HasPrefix(lower, "tcp:"), strings.HasPrefix(lower, "admin:"), strings.HasPrefix(lower, "np:"), strings.HasPrefix(lower, "lpc:"):
		return "begins with a driver's word for the network"
	case strings.Contains(raw, `\`):
		return "names an instance, whose port only UDP 1434 knows"
	case strings.Contains(raw, ","):
		return "has its port behind a comma"
	}
	return "is written in no form that is known"
}

// intended is the remedy for a server in a driver's form: what to write, as far
// as that can be told. It is made of what the file says, never of a variable.
func intended(text string) string {
	const general = "write host or host:port, such as orders-srv.database.windows.net"
	instance := strings.Contains(text, `\`)
	if i := strings.Index(text, "://"); i >= 0 {
		text = text[i+len("://"):]
		text = text[strings.LastIndexByte(text, '@')+1:]
	}
	for _, prefix := range []string{"tcp:", "admin:"} {
		if len(text) > len(prefix) && strings.EqualFold(text[:len(prefix)], prefix) {
			text = text[len(prefix):]
		}
	}
	if i := strings.IndexAny(text, "/;?"); i >= 0 {
		text = text[:i]
	}
	host, port, comma := strings.Cut(text, ",")
	host, _, _ = strings.Cut(host, `\`)
	if comma {
		host += ":" + strings.TrimSpace(port)
	}
	a, err := ParseAuthority(host, sqlPort)
	switch {
	case err != nil || strings.Contains(text, "$"):
		return general
	case instance && !comma:
		return "write " + a.Host + ":port, with the port of the instance"
	case a.Port == sqlPort:
		return "write " + strings.TrimSuffix(a.String(), ":1433")
	}
	return "write " + a.String()
}

// sqlDial reads where the servers are reached; "" for themselves.
func (p *parser) sqlDial(m *mapping) string {
	e, ok := m.items["dial"]
	if !ok {
		return ""
	}
	raw := p.scalar(e)
	a, err := ParseAuthority(raw, 0)
	switch {
	case raw == "":
		return ""
	case err != nil || a.Port == 0:
		p.refuse(e.at, finding{e.shown() + " is nothing to dial", "write host:port, such as 10.0.0.7:1433; the server's certificate is still checked for its own name"})
	case metadata(a.Host):
		p.refuse(e.at, finding{e.shown() + " is an address that no call may reach", "name the private endpoint or the tunnel"})
	default:
		return a.String()
	}
	return ""
}

// redirects reads where servers may send the gateway; nil for the defaults.
func (p *parser) redirects(m *mapping) []string {
	e, ok := m.items["redirect_suffixes"]
	if !ok {
		return nil
	}
	list := m.list("redirect_suffixes")
	if len(list) == 0 {
		p.refuse(e.at, finding{"names no suffix", "write one such as .database.windows.net, or leave the key out for the server's own domain and Azure's"})
	}
	list = p.atMost(e, list, maxServers)
	var out []string
	for _, x := range list {
		s, ok := p.redirect(x)
		switch {
		case !ok:
		case slices.Contains(out, s):
			p.refuse(x.at, finding{x.shown() + " stands twice", "keep one of the two"})
		default:
			out = append(out, s)
		}
	}
	return out
}

// atMost is list, or nothing of one that is longer than n, which is refused.
func (p *parser) atMost(e entry, list []entry, n int) []entry {
	if len(list) <= n {
		return list
	}
	p.refuse(e.at, finding{fmt.Sprintf("has more than %d entries", n), "make several doors"})
	return nil
}

// redirect reads one suffix, with its dot, or an exact name. The token goes
// wherever it leads.
func (p *parser) redirect(e entry) (string, bool) {
	raw := p.scalar(e)
	refuse := func(message, remedy string) (string, bool) {
		p.refuse(e.at, finding{e.shown() + " " + message, remedy})
		return "", false
	}
	name, below := strings.CutPrefix(raw, ".")
	a, err := ParseAuthority(name, 0)
	switch {
	case strings.HasPrefix(raw, "*."):
		remedy := "write it with a dot in front, and no star"
		if !strings.Contains(e.value.Value, "$") {
			remedy = "write " + quote(strings.TrimPrefix(e.value.Value, "*"))
		}
		return refuse("has a star, which no suffix needs", remedy)
	case err != nil || a.Port != 0 || below && isAddress(a.Host):
		return refuse("is no suffix", "write .database.windows.net for all below, or one exact name; no port")
	case metadata(a.Host):
		return refuse("is an address that no call may reach", "remove it")
	case !below:
		return a.Host, true
	}
	if why := tooWide(a.Host); why != "" {
		return refuse(why, "write a narrower one, such as .database.windows.net, or exact names")
	}
	return "." + a.Host, true
}

// tooWide says why a token must not follow wherever below suffix a server
// leads, or "". Suffixes of databases are for Azure alone to give names below.
func tooWide(suffix string) string {
	if !strings.Contains(suffix, ".") {
		return "covers a whole top-level domain"
	}
	for list := strings.Fields(customerRun + providerRun); len(list) > 0; list = list[1:] {
		if list[0] == suffix || strings.HasSuffix(list[0], "."+suffix) {
			return "covers servers of all kinds, which would get the token"
		}
	}
	if anybodys(suffix) {
		return "covers servers that anybody can run, who would get the token"
	}
	if ps, _ := publicsuffix.PublicSuffix(suffix); ps == suffix {
		return "covers a public suffix, below which anybody can have a name"
	}
	return ""
}

// doors are the addresses that are listened at, by whom.
type doors struct{ held []door }

type door struct{ addr, by string }

func newDoors(l Listen) *doors {
	d := &doors{}
	d.add(l.Proxy, "listen.proxy")
	d.add(l.Admin, "listen.admin")
	d.add(l.Health, "listen.health")
	if l.TLS != nil && l.TLS.ACME != nil {
		d.add(l.TLS.ACME.HTTP, "acme.http")
	}
	return d
}

// add notes who listens at addr, and tells who does already.
func (d *doors) add(addr, by string) (before string, twice bool) {
	if addr == "" || strings.HasSuffix(addr, ":0") {
		return "", false
	}
	for _, x := range d.held {
		if collide(x.addr, addr) {
			return x.by, true
		}
	}
	d.held = append(d.held, door{addr, by})
	return "", false
}

// collide tells whether nobody can listen at both addresses, as far as the file
// tells: an unspecified address holds those of its kind, and :: those of IPv4
// too.
func collide(a, b string) bool {
	hostA, portA, errA := net.SplitHostPort(a)
	hostB, portB, errB := net.SplitHostPort(b)
	if errA != nil || errB != nil || strings.HasPrefix(a, "unix:") || strings.HasPrefix(b, "unix:") {
		return a == b
	}
	if strings.TrimLeft(portA, "0") != strings.TrimLeft(portB, "0") {
		return false
	}
	ipA, knownA := listenedAt(hostA)
	ipB, knownB := listenedAt(hostB)
	if !knownA || !knownB {
		return strings.EqualFold(hostA, hostB)
	}
	holds := func(any, other netip.Addr) bool { return any.IsUnspecified() && (any.Is6() || other.Is4()) }
	return ipA == ipB || holds(ipA, ipB) || holds(ipB, ipA)
}

// listenedAt is the address that a listener's host stands for.
func listenedAt(host string) (netip.Addr, bool) {
	if strings.EqualFold(host, "localhost") {
		host = "127.0.0.1"
	}
	ip, err := netip.ParseAddr(host)
	return ip.Unmap(), err == nil
}
