package routes

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"
)

// maxFile bounds routes.yaml, in bytes.
const maxFile = 4 << 20

// maxEntries is more tokens than any machine has room for.
const maxEntries = 100_000_000

// Parse understands src, or returns [Mistakes]: all of them at once. It opens
// no file. Relative paths stay as they are; see [Load].
func Parse(name string, src []byte, env Env) (*Table, error) {
	return parseIn(input{name: name, text: src}, env, nil)
}

// input is a file's content. base is the folder that its relative paths are
// relative to; "" leaves them.
type input struct {
	base, name string
	text       []byte
}

func parseIn(in input, env Env, opts []Option) (*Table, error) {
	p := &parser{report: &report{src: newSource(in.name, string(in.text)), broken: map[place]bool{}}, env: env, base: in.base, declared: map[*Credential]place{}, named: map[*Caller]place{}, byName: map[string]*Caller{}}
	for _, opt := range opts {
		opt(p)
	}
	root := p.tree(in.text)
	if root == nil {
		return nil, p.mistakes
	}
	t := &Table{Name: in.name}
	m := p.open(entry{at(root, ""), root}, "")
	p.version(m)
	p.listen(m, t)
	p.credentials(m, t)
	p.callers(m, t)
	p.intercept(m, t)
	p.routes(m, t)
	p.sql(m, t)
	p.unused(t)
	p.idle(t)
	p.egress(m, t)
	p.rest(m, t)
	if len(p.mistakes) > 0 {
		sortMistakes(p.mistakes)
		return nil, p.mistakes
	}
	sortMistakes(p.warnings)
	t.Warnings = p.warnings
	t.index = newIndex(t.Routes)
	t.src = p.src
	t.path, t.variables = in.name, p.variables
	return t, nil
}

// tree parses the YAML. The library's own words are repeated only where they
// are known not to quote the text, and with it a secret.
func (p *parser) tree(src []byte) *yaml.Node {
	if len(src) > maxFile {
		p.refuse(place{}, finding{fmt.Sprintf("the file is larger than %d bytes", maxFile), "name the routes by wildcards, or run several gateways"})
		return nil
	}
	if where, bad := p.src.unreadable(); bad {
		p.refuse(where, finding{"a character that has no place in this file", "write UTF-8 without control characters, with lines that end in a line feed"})
		return nil
	}
	var doc yaml.Node
	if err := yaml.Load([]byte(strings.Join(p.src.lines, "\n")), &doc); err != nil {
		p.refuse(p.yamlError(err))
		return nil
	}
	if doc.Kind != yaml.DocumentNode || len(doc.Content) == 0 {
		p.refuse(place{line: 1, column: 1}, emptyFile())
		return nil
	}
	root := resolve(doc.Content[0])
	p.src.hideSecrets(root)
	if root.Kind != yaml.MappingNode {
		p.refuse(at(root, ""), finding{"want a mapping with version and routes", "begin with version: 1"})
		return nil
	}
	return root
}

func emptyFile() finding { return finding{"the file is empty", "begin with version: 1"} }

// yamlError is where and what the YAML library complains about.
func (p *parser) yamlError(err error) (place, finding) {
	where := place{line: 1, column: 1}
	f := finding{"this is not YAML", "indent by two spaces, put a space behind each colon, and quote values that begin with a special character"}
	var one *yaml.LoadError
	if !errors.As(err, &one) {
		return where, f
	}
	if one.Mark.Line > 0 {
		where.line, where.column = one.Mark.Line, max(one.Mark.Column, 1)
	}
	switch {
	case strings.Contains(one.Message, "no documents"):
		return where, emptyFile()
	case strings.Contains(one.Message, "found multiple"):
		return p.src.secondDocument(), finding{"the file holds more than one document", "keep one; --- and ... separate documents"}
	}
	for _, known := range []string{
		"mapping values are not allowed", "found character that cannot start any token", "unknown anchor", "unknown escape",
		"unexpected end of stream", "could not find expected ':'", "did not find expected", "block sequence entries are not allowed",
	} {
		if strings.Contains(one.Message, known) {
			f.message += ": " + known
			break
		}
	}
	return where, f
}

func (p *parser) version(m *mapping) {
	e, ok := m.items["version"]
	switch {
	case !ok:
		p.refuse(m.at, finding{"version is missing", "begin the file with version: 1"})
	case p.scalar(e) != "1":
		p.refuse(e.at, finding{"version " + e.shown() + " is not known", "this release reads version 1"})
	}
}

func (p *parser) listen(m *mapping, t *Table) {
	l := p.open(m.items["listen"], "listen")
	t.Listen = Listen{
		Proxy: l.address("proxy", "127.0.0.1:8080", false), Admin: l.address("admin", "127.0.0.1:8081", true),
		Health: l.address("health", "", true), AdminKey: l.secret("admin_key"), Plain: l.flag("plain", false), TLS: p.listenTLS(l),
	}
	for _, e := range l.list("hosts") {
		host := p.scalar(e)
		a, err := ParseAuthority(host, 0)
		if err != nil {
			p.refuse(e.at, finding{e.shown() + " is no host", "write a name, with a port if only that is to match"})
			continue
		}
		t.Listen.Hosts = append(t.Listen.Hosts, strings.TrimSuffix(a.String(), ":0"))
	}
	p.doors(l, t.Listen, m.has("callers"))
}

// doors compares the listeners with one another.
func (p *parser) doors(m *mapping, l Listen, callers bool) {
	port := func(addr string) bool { return addr != "" && !strings.HasSuffix(addr, ":0") }
	switch {
	case port(l.Admin) && l.Admin == l.Proxy:
		p.refuse(m.where("admin"), finding{"the proxy listens at this address too", "give each a port of its own"})
	case port(l.Health) && (l.Health == l.Proxy || l.Health == l.Admin):
		p.refuse(m.where("health"), finding{"another door listens at this address too", "give each a port of its own"})
	case l.TLS != nil && l.TLS.ACME != nil && port(l.TLS.ACME.HTTP) && slices.Contains([]string{l.Proxy, l.Admin, l.Health}, l.TLS.ACME.HTTP):
		p.refuse(m.where("tls"), finding{"acme.http is an address where another door listens", "give each a port of its own"})
	}
	if l.ProxyOffLoopback() {
		p.strangers(m, l, callers)
	}
	if l.AdminOffLoopback() && !m.has("admin_key") {
		p.warn(m.where("admin"), finding{"serve refuses an admin port off loopback without admin_key", "add admin_key, or offer health and metrics alone by listen.health"})
	}
}

// strangers warns of a proxy port that others than this machine can reach.
func (p *parser) strangers(m *mapping, l Listen, callers bool) {
	if !callers {
		p.warn(m.where("proxy"), finding{"others than this machine can reach the proxy port, and there are no callers", "say under callers who may call, or listen on 127.0.0.1 or a unix socket"})
		if len(l.Hosts) > 0 {
			p.warn(m.where("hosts"), finding{"by these names whoever reaches the reverse door calls the routes' hosts with the gateway's tokens", "say under callers who may call, or leave hosts out"})
		}
	}
	if l.TLS == nil && !l.Plain {
		p.warn(m.where("proxy"), finding{"serve refuses a proxy port off loopback without tls: keys and answers would cross the network in clear text", "add listen.tls, or say by listen.plain: true that this is meant"})
	}
}

// ProxyOffLoopback tells whether others than this machine can reach the proxy port.
func (l Listen) ProxyOffLoopback() bool { return offLoopback(l.Proxy) }

// AdminOffLoopback tells whether others than this machine can reach the admin port.
func (l Listen) AdminOffLoopback() bool { return offLoopback(l.Admin) }

func offLoopback(addr string) bool {
	if addr == "" || strings.HasPrefix(addr, "unix:") {
		return false
	}
	host, _, err := net.SplitHostPort(addr)
	ip, ipErr := netip.ParseAddr(host)
	return err != nil || host != "localhost" && (ipErr != nil || !ip.Unmap().IsLoopback())
}

func (m *mapping) address(key, def string, mayBeOff bool) string {
	e, ok := m.items[key]
	if !ok {
		return def
	}
	v, example := m.p.scalar(e), "127.0.0.1:8080"
	if key == "listen" { // of a SQL door
		example = "127.0.0.1:1433"
	}
	if v == "" && mayBeOff {
		return ""
	}
	if path, ok := strings.CutPrefix(v, "unix:"); ok && strings.HasPrefix(path, "/") {
		return v
	}
	host, port, err := net.SplitHostPort(v)
	_, portErr := strconv.ParseUint(port, 10, 16)
	if err == nil && portErr == nil && host != "" {
		_, err = ParseAuthority(net.JoinHostPort(host, "1"), 0)
	}
	if err != nil || portErr != nil {
		m.p.refuse(e.at, finding{e.shown() + " is no address to listen on", "write host:port, such as " + example + ", or unix:/absolute/path"})
		return def
	}
	return v
}

// rest reads the small sections.
func (p *parser) rest(m *mapping, t *Table) {
	c := p.open(m.items["cache"], "cache")
	t.Cache = Cache{Entries: 100_000, Memory: c.size("memory", 512<<20, 1<<40)}
	if e, ok := c.items["entries"]; ok {
		n, err := strconv.Atoi(p.scalar(e))
		if err != nil || n < 1 || n > maxEntries {
			p.refuse(e.at, finding{"want a whole number of entries", fmt.Sprintf("at least 1 and at most %d", maxEntries)})
		}
		t.Cache.Entries = n
	}
	t.Audit = p.audit(m)
	l := p.open(m.items["log"], "log")
	t.Log = Log{
		Level:  l.choice("level", "info", "trace", "debug", "info", "warn", "error"),
		Format: l.choice("format", "json", "json", "console"),
		Access: l.flag("access", true), DebugHeaders: l.flag("debug_headers", false),
	}
}

// resolvePath makes a relative path one of the file's own folder.
func (p *parser) resolvePath(path string) string {
	if p.base == "" || path == "" || filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(p.base, path)
}
