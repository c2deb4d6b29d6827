package routes

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"
)

// maxFile bounds routes.yaml, in bytes.
const maxFile = 4 << 20

// Parse understands src, or returns [Mistakes]: all of them at once. It opens
// no file. Relative paths stay as they are; see [Load].
func Parse(name string, src []byte, env Env) (*Table, error) {
	return parseIn("", name, src, env)
}

func parseIn(base, name string, src []byte, env Env) (*Table, error) {
	p := &parser{report: &report{src: newSource(name, string(src))}, env: env, base: base}
	root := p.tree(src)
	if root == nil {
		return nil, p.mistakes
	}
	t := &Table{Name: name}
	m := p.open(entry{at(root, ""), root}, "")
	p.version(m)
	p.listen(m, t)
	p.credentials(m, t)
	p.routes(m, t)
	p.egress(m, t)
	p.rest(m, t)
	if len(p.mistakes) > 0 {
		sortMistakes(p.mistakes)
		return nil, p.mistakes
	}
	sortMistakes(p.warnings)
	t.Warnings = p.warnings
	t.index = newIndex(t.Routes)
	t.path = name
	return t, nil
}

// yamlPlace finds the place in what the YAML library says of a mistake.
var yamlPlace = regexp.MustCompile(`line (\d+)(?:, column (\d+))?`)

// tree parses the YAML. Its library's words are not repeated: they may quote
// the text, and with it a secret.
func (p *parser) tree(src []byte) *yaml.Node {
	refuse := func(where place, message string) *yaml.Node {
		p.refuse(where, finding{message, "indent by two spaces, put a space behind each colon, and quote values that begin with a special character"})
		return nil
	}
	if len(src) > maxFile {
		return refuse(place{}, fmt.Sprintf("the file is larger than %d bytes", maxFile))
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(src, &doc); err != nil {
		where := place{line: 1, column: 1}
		if m := yamlPlace.FindStringSubmatch(err.Error()); m != nil {
			where.line, _ = strconv.Atoi(m[1])
			where.column = 1
			if m[2] != "" {
				where.column, _ = strconv.Atoi(m[2])
			}
		}
		return refuse(where, "this is not YAML")
	}
	if doc.Kind != yaml.DocumentNode || len(doc.Content) == 0 {
		return refuse(place{line: 1, column: 1}, "the file is empty")
	}
	root := resolve(doc.Content[0])
	p.src.hideSecrets(root)
	if root.Kind != yaml.MappingNode {
		p.refuse(at(root, ""), finding{"want a mapping with version and routes", "begin with version: 1"})
		return nil
	}
	return root
}

func (p *parser) version(m *mapping) {
	e, ok := m.items["version"]
	switch {
	case !ok:
		p.refuse(m.at, finding{"version is missing", "begin the file with version: 1"})
	case p.scalar(e) != "1":
		p.refuse(e.at, finding{"version " + quote(e.value.Value) + " is not known", "this release reads version 1"})
	}
}

func (p *parser) listen(m *mapping, t *Table) {
	l := p.open(m.items["listen"], "listen")
	t.Listen = Listen{
		Proxy: l.address("proxy", "127.0.0.1:8080", false), Admin: l.address("admin", "127.0.0.1:8081", true),
		Health: l.address("health", "", true), AdminKey: l.secret("admin_key"), Plain: l.flag("plain", false),
	}
	for _, e := range l.list("hosts") {
		host := p.scalar(e)
		a, err := ParseAuthority(host, 0)
		if err != nil {
			p.refuse(e.at, finding{quote(host) + " is no host", "write a name, with a port if only that is to match"})
			continue
		}
		if a.Port == 0 {
			host = a.Host
		} else {
			host = a.String()
		}
		t.Listen.Hosts = append(t.Listen.Hosts, host)
	}
}

func (m *mapping) address(key, def string, mayBeOff bool) string {
	e, ok := m.items[key]
	if !ok {
		return def
	}
	v := m.p.scalar(e)
	if v == "" && mayBeOff {
		return ""
	}
	if path, ok := strings.CutPrefix(v, "unix:"); ok && strings.HasPrefix(path, "/") {
		return v
	}
	_, port, err := net.SplitHostPort(v)
	n, err2 := strconv.ParseUint(port, 10, 16)
	if err != nil || err2 != nil || n > 65535 {
		m.p.refuse(e.at, finding{quote(v) + " is no address to listen on", "write host:port, such as 127.0.0.1:8080, or unix:/absolute/path"})
		return def
	}
	return v
}

func (p *parser) egress(m *mapping, t *Table) {
	e := p.open(m.items["egress"], "egress")
	e.only("default", "deny")
	e.only("deny_private", "true")
	item, ok := e.items["proxy"]
	if !ok {
		return
	}
	x := p.open(item, "proxy")
	hop := &EgressProxy{Username: x.text("username", ""), Password: x.secret("password")}
	for _, b := range x.list("bypass") {
		hop.Bypass = append(hop.Bypass, p.bypass(b))
	}
	raw, where := x.text("url", ""), x.items["url"].at
	if !x.items["url"].present() {
		where = item.at
	}
	u, _, err := parseOrigin(raw)
	switch {
	case err == nil && u.Path != "" && u.Path != "/":
		err = errors.New("holds a path")
	case err == nil:
		u.Path = ""
		hop.URL = u
	}
	if err != nil {
		p.refuse(where, finding{"the next hop's URL " + err.Error(), "write http://host:port, and its user under username and password"})
	}
	if hop.Username == "" && !hop.Password.IsZero() {
		p.refuse(item.at, finding{"password without username", "add username"})
	}
	t.Egress.Proxy = hop
}

func (p *parser) bypass(e entry) string {
	v := p.scalar(e)
	if _, err := netip.ParsePrefix(v); strings.Contains(v, "/") && err != nil || v == "" {
		p.refuse(e.at, finding{quote(v) + " is no host, .suffix, address or CIDR block", ""})
	}
	return v
}

// rest reads the small sections.
func (p *parser) rest(m *mapping, t *Table) {
	c := p.open(m.items["cache"], "cache")
	t.Cache = Cache{Entries: 100_000, Memory: c.size("memory", 512<<20, 1<<40)}
	if e, ok := c.items["entries"]; ok {
		n, err := strconv.Atoi(p.scalar(e))
		if err != nil || n < 1 || n > 100_000_000 {
			p.refuse(e.at, finding{"want a number of at least 1", ""})
		}
		t.Cache.Entries = n
	}
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
