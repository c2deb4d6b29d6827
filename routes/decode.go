package routes

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/seed-13b04e61/gateway/secrets"
	"go.yaml.in/yaml/v4"
)

// Env looks up an environment variable, as os.LookupEnv does.
type Env func(name string) (value string, ok bool)

// parser turns a tree into a Table, noting every mistake on the way.
type parser struct {
	*report
	env  Env
	base string // folder that relative paths are relative to; "" leaves them
}

// entry is a key with its value; the zero entry is an absent key.
type entry struct {
	at    place // of the key
	value *yaml.Node
}

func (e entry) present() bool { return e.value != nil }

// mapping is one mapping of the file with its known keys.
type mapping struct {
	p     *parser
	at    place
	items map[string]entry
}

func join(field, key string) string {
	if field == "" {
		return key
	}
	return field + "." + key
}

func at(n *yaml.Node, field string) place { return place{n.Line, n.Column, field} }

// pairs lists the keys of a mapping, merged ones behind its own, and refuses
// duplicates.
func (p *parser) pairs(n *yaml.Node, in place) ([]string, map[string]entry) {
	var order []string
	items := map[string]entry{}
	if n.Kind != yaml.MappingNode {
		p.refuse(in, finding{"want a mapping of keys and values", "write it as key: value lines, or {key: value}"})
		return nil, items
	}
	var merged []*yaml.Node
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := resolve(n.Content[i]), resolve(n.Content[i+1])
		if k.Tag == "!!merge" || k.Value == "<<" && k.Style == 0 {
			merged = append(merged, v)
			continue
		}
		here := at(n.Content[i], join(in.field, k.Value))
		if k.Kind != yaml.ScalarNode {
			p.refuse(at(n.Content[i], in.field), finding{"a key must be plain text", ""})
			continue
		}
		if _, twice := items[k.Value]; twice {
			p.refuse(here, finding{"this key stands twice", "keep one of the two"})
			continue
		}
		order = append(order, k.Value)
		items[k.Value] = entry{here, v}
	}
	for _, m := range merged {
		if m.Kind != yaml.MappingNode {
			p.refuse(at(m, in.field), finding{"<< wants one mapping", "merge one anchor, as in <<: *name"})
			continue
		}
		for i := 0; i+1 < len(m.Content); i += 2 {
			k := resolve(m.Content[i])
			if _, own := items[k.Value]; !own && k.Kind == yaml.ScalarNode && k.Value != "<<" {
				order = append(order, k.Value)
				items[k.Value] = entry{at(m.Content[i], join(in.field, k.Value)), resolve(m.Content[i+1])}
			}
		}
	}
	return order, items
}

// open reads a mapping whose keys are those of a section of the schema.
func (p *parser) open(e entry, name string) *mapping {
	m := &mapping{p: p, at: e.at, items: map[string]entry{}}
	if !e.present() {
		return m
	}
	known := section(name)
	order, items := p.pairs(e.value, e.at)
	for _, key := range order {
		item := items[key]
		if name == "" && strings.HasPrefix(key, "x-") {
			continue // free, for anchors
		}
		found := false
		for _, f := range known {
			if f.Key != key {
				continue
			}
			found = true
			if f.Later {
				p.refuse(item.at, finding{"not yet supported by this release", "remove it, or wait for the release that supports it"})
			} else {
				m.items[key] = item
			}
		}
		if !found {
			p.unknown(item.at, key, known)
		}
	}
	return m
}

func (p *parser) unknown(where place, key string, known []Field) {
	var names []string
	for _, f := range known {
		names = append(names, f.Key)
	}
	remedy := "known here are " + strings.Join(names, ", ")
	if n := nearest(key, known); n != "" {
		remedy = fmt.Sprintf("did you mean %q?", n)
	}
	p.refuse(where, finding{"unknown key " + quote(key), remedy})
}

// text returns a string, with variables replaced; def when the key is absent.
func (m *mapping) text(key, def string) string {
	e, ok := m.items[key]
	if !ok {
		return def
	}
	return m.p.scalar(e)
}

func (p *parser) scalar(e entry) string {
	if e.value.Kind != yaml.ScalarNode || e.value.Tag == "!!null" {
		p.refuse(e.at, finding{"want plain text", "write one value behind the colon"})
		return ""
	}
	return p.expand(e)
}

// variable is ${NAME}, or ${NAME:-default}.
var variable = regexp.MustCompile(`\$\{([A-Za-z_][A-Za-z0-9_]*)(:-[^}]*)?\}`)

// expand replaces variables, once: what they hold is not looked at again.
func (p *parser) expand(e entry) string {
	return variable.ReplaceAllStringFunc(e.value.Value, func(ref string) string {
		parts := variable.FindStringSubmatch(ref)
		if v, ok := p.env(parts[1]); ok {
			return v
		}
		if parts[2] != "" {
			return parts[2][2:]
		}
		p.refuse(e.at, finding{"environment variable " + parts[1] + " is not set", "set it, or write ${" + parts[1] + ":-default}"})
		return ""
	})
}

func (m *mapping) choice(key, def string, allowed ...string) string {
	v := m.text(key, def)
	for _, a := range allowed {
		if v == a {
			return v
		}
	}
	if e, ok := m.items[key]; ok {
		remedy := "write " + strings.Join(allowed, " or ")
		for _, a := range allowed {
			if distance(v, a) <= 2 {
				remedy = fmt.Sprintf("did you mean %q?", a)
			}
		}
		m.p.refuse(e.at, finding{fmt.Sprintf("%s is not one of %s", quote(v), strings.Join(allowed, ", ")), remedy})
	}
	return def
}

// only accepts one value of a key whose others are not yet supported.
func (m *mapping) only(key, value string) {
	if e, ok := m.items[key]; ok && m.p.scalar(e) != value {
		m.p.refuse(e.at, finding{quote(e.value.Value) + " is not yet supported by this release", "write " + value + ", or leave the key out"})
	}
}

func (m *mapping) flag(key string, def bool) bool {
	e, ok := m.items[key]
	if !ok {
		return def
	}
	v, err := strconv.ParseBool(m.p.scalar(e))
	if err != nil {
		m.p.refuse(e.at, finding{"want true or false", ""})
		return def
	}
	return v
}

// list returns the entries of a sequence; a single value counts as one.
func (m *mapping) list(key string) []entry {
	e, ok := m.items[key]
	if !ok {
		return nil
	}
	if e.value.Kind != yaml.SequenceNode {
		m.p.refuse(e.at, finding{"want a list", "write it as [one, two]"})
		return nil
	}
	var out []entry
	for i, n := range e.value.Content {
		out = append(out, entry{at(n, fmt.Sprintf("%s[%d]", e.at.field, i)), resolve(n)})
	}
	return out
}

// params returns a mapping of free keys to text, in the file's order.
func (m *mapping) params(key string) []Param {
	e, ok := m.items[key]
	if !ok {
		return nil
	}
	order, items := m.p.pairs(e.value, e.at)
	var out []Param
	for _, k := range order {
		out = append(out, Param{k, m.p.scalar(items[k])})
	}
	return out
}

// path returns a file's name, relative to the folder of routes.yaml.
func (m *mapping) path(key string) string {
	e, ok := m.items[key]
	if !ok {
		return ""
	}
	v := m.p.scalar(e)
	if v == "" {
		m.p.refuse(e.at, finding{"want the name of a file", ""})
	}
	return m.p.resolvePath(v)
}

// secret returns a reference; a literal is refused and never repeated.
func (m *mapping) secret(key string) secrets.Ref {
	e, ok := m.items[key]
	if !ok {
		return secrets.Ref{}
	}
	if e.value.Kind != yaml.MappingNode {
		m.p.refuse(e.at, finding{"want a reference, and never the secret itself", "write {file: /run/secrets/name} or {env: NAME}; change the secret if this file was shared"})
		return secrets.Ref{}
	}
	_, items := m.p.pairs(e.value, e.at)
	var r secrets.Ref
	for k, item := range items {
		if item.value.Kind != yaml.ScalarNode && k != "exec" {
			m.p.refuse(item.at, finding{"want a name", ""})
			continue
		}
		switch k {
		case "env":
			r.Env = item.value.Value
		case "file":
			r.File = m.p.resolvePath(item.value.Value)
		case "exec":
			m.p.refuse(item.at, finding{"not yet supported by this release", "use {file:} or {env:}"})
			r.Env = "-"
		default:
			m.p.refuse(item.at, finding{"unknown key " + quote(k), "known here are env, file"})
			r.Env = "-"
		}
	}
	if (r.Env == "") == (r.File == "") {
		m.p.refuse(e.at, finding{"want exactly one of env and file", "write {file: /run/secrets/name} or {env: NAME}"})
	}
	return r
}

var errSize = errors.New("want a size, such as 64KiB or 1MiB")

// parseSize reads bytes with an optional unit of powers of 1024 or 1000.
func parseSize(s string) (int64, error) {
	units := []struct {
		name string
		n    int64
	}{{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"kB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"B", 1}, {"", 1}}
	for _, u := range units {
		digits, ok := strings.CutSuffix(s, u.name)
		if !ok {
			continue
		}
		n, err := strconv.ParseInt(strings.TrimSpace(digits), 10, 64)
		if err != nil || n < 0 || n > 1<<50/u.n {
			continue
		}
		return n * u.n, nil
	}
	return 0, errSize
}

func (m *mapping) size(key string, def, most int64) int64 {
	e, ok := m.items[key]
	if !ok {
		return def
	}
	n, err := parseSize(m.p.scalar(e))
	if err != nil || n < 1 || n > most {
		m.p.refuse(e.at, finding{errSize.Error(), fmt.Sprintf("at least 1 byte and at most %d", most)})
		return def
	}
	return n
}

func (m *mapping) duration(key string, def time.Duration) time.Duration {
	e, ok := m.items[key]
	if !ok {
		return def
	}
	d, err := time.ParseDuration(m.p.scalar(e))
	if err != nil || d <= 0 || d > 24*time.Hour {
		m.p.refuse(e.at, finding{"want a duration", "write it with a unit, such as 120s or 2m, up to 24h"})
		return def
	}
	return d
}
