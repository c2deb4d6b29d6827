package main

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"unicode"

	"github.com/seed-13b04e61/gateway/routes"
)

// draft is a routes.yaml in the making. What it holds is written as it stands:
// values must come from [scalar], comments are made safe by the writer.
type draft struct {
	origin      string   // what it was made from, for the first lines
	identity    []string // comments on the credentials as a whole
	credentials []item
	routes      []item
	doors       []item // of sql
}

// item is one credential or route.
type item struct {
	name     string   // of a credential; "" for a route
	comments []string // above it
	pairs    []pair
	off      bool // commented out, as something is missing that only the reader knows
}

// pair is one line.
type pair struct{ key, value, comment string }

// value returns the value of a key, or "".
func (it item) value(key string) string {
	for _, p := range it.pairs {
		if p.key == key {
			return p.value
		}
	}
	return ""
}

// schemaURL is where editors find the schema when no file is near.
const schemaURL = "https://raw.githubusercontent.com/seed-13b04e61/gateway/main/docs/reference/routes.schema.json"

// text is the whole file. schema is what editors are pointed to.
func (d *draft) text(schema string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# yaml-language-server: $schema=%s\n", schema)
	comment(&b, "", "Written by gateway init from "+d.origin+".")
	comment(&b, "", "Next: gateway check, then gateway check --live, then gateway serve.")
	b.WriteString("version: 1\n")
	b.WriteString("\n# Where the gateway listens; these are the defaults.\n# listen: {proxy: 127.0.0.1:8080, admin: 127.0.0.1:8081}\n")
	b.WriteString("\n# Who the gateway is. Secrets are named here and never written.\n")
	for _, c := range d.identity {
		comment(&b, "", c)
	}
	if len(d.credentials) > 0 {
		b.WriteString("credentials:\n")
	}
	for _, c := range d.credentials {
		for _, text := range c.comments {
			comment(&b, "  ", text)
		}
		fmt.Fprintf(&b, "  %s:\n", c.name)
		for _, p := range c.pairs {
			b.WriteString("    " + p.String() + "\n")
		}
	}
	if len(d.routes) > 0 {
		b.WriteString("\n# Which calls get which token; the first route that matches decides.\nroutes:\n")
	}
	for _, r := range d.routes {
		writeRoute(&b, r)
	}
	if len(d.doors) > 0 {
		b.WriteString("\n# Where drivers of databases connect, and which servers the gateway logs in to for them.\nsql:\n")
	}
	for _, r := range d.doors {
		writeRoute(&b, r)
	}
	return b.String()
}

// writeRoute writes an entry of routes or of sql.
func writeRoute(b *strings.Builder, r item) {
	for _, text := range r.comments {
		comment(b, "  ", text)
	}
	lead := "  "
	if r.off {
		lead = "  # "
	}
	for i, p := range r.pairs {
		dash := "  "
		if i == 0 {
			dash = "- "
		}
		b.WriteString(lead + dash + p.String() + "\n")
	}
}

func (p pair) String() string {
	line := p.key + ": " + p.value
	if p.comment != "" {
		line += "   # " + harmless(p.comment)
	}
	return line
}

// commentWidth is where comments are wrapped, in bytes.
const commentWidth = 92

// comment writes text as comment lines.
func comment(b *strings.Builder, indent, text string) {
	line := ""
	for _, word := range strings.Fields(harmless(text)) {
		if line != "" && len(line)+1+len(word) > commentWidth {
			b.WriteString(indent + "#" + line + "\n")
			line = ""
		}
		line += " " + word
	}
	b.WriteString(indent + "#" + line + "\n")
}

// harmless is text that cannot end the comment that it stands in.
func harmless(text string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) || r == '\u2028' || r == '\u2029' || r == unicode.ReplacementChar {
			return ' '
		}
		return r
	}, text)
}

// plainScalar is what YAML takes for the same text without quotes, unless it
// is a number or a word such as true.
var plainScalar = regexp.MustCompile(`^[A-Za-z0-9/]([A-Za-z0-9/._:@+-]*[A-Za-z0-9/._@+-])?$`)

// scalar writes a value as YAML. A double-quoted string of JSON is one of YAML.
func scalar(value string) string {
	_, notNumber := strconv.ParseFloat(value, 64)
	switch strings.ToLower(value) {
	case "true", "false", "null", "yes", "no", "on", "off", "y", "n":
		notNumber = nil
	}
	if plainScalar.MatchString(value) && notNumber != nil && !(value[0] >= '0' && value[0] <= '9' && strings.ContainsAny(value, ":")) {
		return value
	}
	return strconv.QuoteToGraphic(value)
}

// list writes values as one line of YAML.
func list(values []string) string {
	var out []string
	for _, v := range values {
		out = append(out, scalar(v))
	}
	return "[" + strings.Join(out, ", ") + "]"
}

// complete adds what every file needs, and reads the whole as serve would. The
// error is for the operator.
func (d *draft) complete(name, schema string, env routes.Env) (string, error) {
	active := len(d.doors) > 0
	for _, r := range d.routes {
		active = active || !r.off
	}
	if !active {
		d.routes = append(d.routes, item{
			comments: []string{"Microsoft Graph, as an example: on the reverse door it is /graph."},
			pairs:    []pair{{key: "preset", value: "graph"}},
		})
	}
	text := d.text(schema)
	if strings.Contains(text, "${") {
		return "", fmt.Errorf("%s holds ${, which routes.yaml would take for a variable; write that part by hand", d.origin)
	}
	if _, err := routes.Parse(name, []byte(text), env); err != nil {
		return "", fmt.Errorf("nothing was written, as routes.yaml would have mistakes:\n%w\nmend %s, or write that part by hand", err, d.origin)
	}
	return text, nil
}
