package routes

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"go.yaml.in/yaml/v4"
)

// Env looks up an environment variable, as os.LookupEnv does.
type Env func(name string) (value string, ok bool)

// lookup is e(name); a nil Env holds nothing.
func (e Env) lookup(name string) (string, bool) {
	if e == nil {
		return "", false
	}
	return e(name)
}

// parser turns a tree into a Table, noting every mistake on the way.
type parser struct {
	*report
	env  Env
	base string // folder that relative paths are relative to; "" leaves them

	allowExec bool // {exec: …} references may be run

	declared map[*Credential]place // where each credential of the file stands
	named    map[*Caller]place     // where each caller does
	byName   map[string]*Caller
	clientCA place // of listen.tls.client_ca_file
	spent    int   // comparisons made for remarks, see maxSpent

	merged int // keys that << has brought in so far, see maxMerged

	variables []string // that secrets are read from, each once
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
	later map[string]bool // keys that were refused as not yet supported
}

// join names key below field. A key that is no plain word is quoted: it is the
// operator's text, and a terminal may obey what it holds.
func join(field, key string) string {
	switch {
	case !plainWord(key):
		return field + "[" + quote(key) + "]"
	case field == "":
		return key
	}
	return field + "." + key
}

// plainWord tells whether a key can stand in a message as it is.
func plainWord(key string) bool {
	for _, r := range key {
		if r > 'z' || !lowerAlphanumeric(byte(r)|0x20) && !strings.ContainsRune("_-.", r) {
			return false
		}
	}
	return key != "" && len(key) <= maxLabel
}

func at(n *yaml.Node, field string) place { return place{n.Line, n.Column, field} }

// pairs lists the keys of a mapping, merged ones behind its own, and refuses
// duplicates.
func (p *parser) pairs(n *yaml.Node, in place) ([]string, map[string]entry) {
	var order []string
	items := map[string]entry{}
	if n.Kind != yaml.MappingNode {
		p.breaks(in, finding{"want a mapping of keys and values", "write it as key: value lines, or {key: value}"})
		return nil, items
	}
	var merged []*yaml.Node
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := resolve(n.Content[i]), resolve(n.Content[i+1])
		if k.Kind != yaml.ScalarNode {
			p.refuse(at(n.Content[i], in.field), finding{"a key must be plain text", "write a word before the colon"})
			continue
		}
		if k.Tag == "!!merge" {
			merged = append(merged, v)
			continue
		}
		if _, twice := items[k.Value]; twice {
			where := at(n.Content[i], join(in.field, k.Value))
			if hushed(in.field) && !vocabulary(k.Value) {
				where.field = in.field
			}
			p.refuse(where, finding{"this key stands twice", "keep one of the two"})
			continue
		}
		order = append(order, k.Value)
		items[k.Value] = entry{at(n.Content[i], join(in.field, k.Value)), v}
	}
	for _, m := range merged {
		order = p.merge(m, in, 0, order, items)
	}
	return order, items
}

// maxMerged and maxMergeDepth bound what << may bring in: a few anchors that
// merge each other could stand for any number of keys, one that merges itself
// for endlessly many.
const (
	maxMerged     = 100_000
	maxMergeDepth = 16
)

// merge adds to items the keys of m, a mapping or a list of them, that are not
// there yet; m may merge others in turn. It returns order with the new keys.
func (p *parser) merge(m *yaml.Node, in place, depth int, order []string, items map[string]entry) []string {
	sources := []*yaml.Node{m}
	if m.Kind == yaml.SequenceNode {
		sources = m.Content
	}
	for _, source := range sources {
		source = resolve(source)
		if p.merged++; source.Kind != yaml.MappingNode || depth > maxMergeDepth || p.merged > maxMerged {
			p.refuse(at(source, in.field), finding{"<< wants mappings, and not without end", "merge anchors, as in <<: *name or <<: [*one, *two]"})
			return order
		}
		var deeper []*yaml.Node
		for i := 0; i+1 < len(source.Content); i += 2 {
			p.merged++
			k, v := resolve(source.Content[i]), resolve(source.Content[i+1])
			switch _, own := items[k.Value]; {
			case k.Tag == "!!merge":
				deeper = append(deeper, v)
			case !own && k.Kind == yaml.ScalarNode:
				order = append(order, k.Value)
				items[k.Value] = entry{at(source.Content[i], join(in.field, k.Value)), v}
			}
		}
		for _, d := range deeper {
			order = p.merge(d, in, depth+1, order, items)
		}
	}
	return order
}

// open reads a mapping whose keys are those of a section of the schema.
func (p *parser) open(e entry, name string) *mapping {
	m := &mapping{p: p, at: e.at, items: map[string]entry{}, later: map[string]bool{}}
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
				m.later[key] = true
				p.refuse(item.at, finding{"not yet supported by this release", "remove it, or wait for the release that supports it"})
			} else {
				m.items[key] = item
			}
		}
		if found {
			continue
		}
		if f, known := stray(name, key); known {
			p.refuse(item.at, f)
			continue
		}
		p.unknown(item.at, m.at.field, key, known)
	}
	return m
}

// unknown refuses a key of the mapping in. Where a secret may have been written
// in a key's place, the key is not repeated.
func (p *parser) unknown(where place, in, key string, known []Field) {
	var names []string
	for _, f := range known {
		if !f.Later {
			names = append(names, f.Key)
		}
	}
	message, remedy := "unknown key "+quote(key), "known here are "+strings.Join(names, ", ")
	near := nearest(key, known)
	if near != "" {
		remedy = fmt.Sprintf("did you mean %q?", near)
	}
	if near == "" && hushed(in) {
		message, where.field = "unknown key", in
	}
	p.refuse(where, finding{message, remedy})
}

// hushed tells whether a key of the mapping in may be a secret in the wrong
// place: the mapping, or the one around it, is about one.
func hushed(in string) bool {
	parts := strings.Split(in, ".")
	return slices.ContainsFunc(parts[max(0, len(parts)-2):], secretKey)
}

// where is the place of a key, or of the mapping that lacks it.
func (m *mapping) where(key string) place {
	if e, ok := m.items[key]; ok {
		return e.at
	}
	return m.at
}

// has tells whether the file has the key, be it refused or not.
func (m *mapping) has(key string) bool { return m.items[key].present() || m.later[key] }

// text returns a string, with variables replaced; def when the key is absent.
func (m *mapping) text(key, def string) string {
	e, ok := m.items[key]
	if !ok {
		return def
	}
	return m.p.scalar(e)
}

// scalar returns one value, variables replaced; "" beside a mistake.
func (p *parser) scalar(e entry) string {
	if e.value.Kind != yaml.ScalarNode {
		p.breaks(e.at, finding{"want plain text", "write one value behind the colon"})
		return ""
	}
	switch e.value.Tag {
	case "!!str", "!!int", "!!float", "!!bool", "!!timestamp":
	case "!!null":
		p.breaks(e.at, finding{"has no value", "write one behind the colon, or leave the key out"})
		return ""
	default:
		p.breaks(e.at, finding{"has a tag that is not known here", "leave the tag out"})
		return ""
	}
	v := p.expand(e)
	if strings.ContainsFunc(v, control) {
		p.breaks(e.at, finding{"holds a line end or another control character", "write the value on one line"})
		return ""
	}
	return v
}

// control tells whether r has no place in a value; a tab has.
func control(r rune) bool { return unicode.IsControl(r) && r != '\t' }

// shown is the value for a message: as the file has it, since what a variable
// holds may be a secret.
func (e entry) shown() string { return quote(e.value.Value) }

// variable is ${NAME}, or ${NAME:-default}, or what looks like the beginning of one.
var variable = regexp.MustCompile(`\$\{(?:([A-Za-z_][A-Za-z0-9_]*)(:-[^}]*)?\})?`)

// expand replaces variables, once: what they hold is not looked at again. As in
// a shell, a default serves a variable that is unset or empty.
func (p *parser) expand(e entry) string {
	return variable.ReplaceAllStringFunc(e.value.Value, func(ref string) string {
		parts := variable.FindStringSubmatch(ref)
		name, fallback := parts[1], parts[2]
		if name == "" {
			p.breaks(e.at, finding{"${ begins no variable", "write ${NAME} or ${NAME:-default}"})
			return ""
		}
		v, ok := p.env.lookup(name)
		switch {
		case fallback != "" && v == "":
			return fallback[2:]
		case !ok:
			p.breaks(e.at, finding{"environment variable " + name + " is not set", "set it, or write ${" + name + ":-default}"})
		}
		return v
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
		m.p.refuse(e.at, finding{fmt.Sprintf("%s is not one of %s", e.shown(), strings.Join(allowed, ", ")), remedy})
	}
	return def
}

func (m *mapping) flag(key string, def bool) bool {
	e, ok := m.items[key]
	if !ok {
		return def
	}
	switch m.p.scalar(e) {
	case "true":
		return true
	case "false":
		return false
	}
	m.p.refuse(e.at, finding{"want true or false", "write one of them, without quotes"})
	return def
}

// list returns the entries of a sequence.
func (m *mapping) list(key string) []entry {
	e, ok := m.items[key]
	if !ok {
		return nil
	}
	return m.p.entries(e)
}

func (p *parser) entries(e entry) []entry {
	if e.value.Kind != yaml.SequenceNode {
		p.breaks(e.at, finding{"want a list", "write it as [one, two]"})
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
		m.p.refuse(e.at, finding{"want the name of a file", "write its path"})
	}
	return m.p.resolvePath(v)
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
