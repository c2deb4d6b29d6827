package routes

import (
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/seed-13b04e61/gateway/secrets"
	"go.yaml.in/yaml/v4"
)

// secret returns a reference; a literal is refused and never repeated.
func (m *mapping) secret(key string) secrets.Ref {
	e, ok := m.items[key]
	if !ok {
		return secrets.Ref{}
	}
	if e.value.Kind != yaml.MappingNode {
		m.p.refuse(e.at, finding{"want a reference, and never the secret itself", secretRemedy + "; change the secret if this file was shared"})
		return secrets.Ref{}
	}
	order, items := m.p.pairs(e.value, e.at)
	if len(order) != 1 {
		m.p.refuse(e.at, finding{"want exactly one of env, file and exec", secretRemedy})
		return secrets.Ref{}
	}
	return m.p.reference(order[0], items[order[0]], e.at)
}

const secretRemedy = "write {file: /run/secrets/name} or {env: NAME}"

// reference reads what stands in a secret's braces. Neither key nor value is
// ever repeated: either may be the secret, written in the wrong place.
func (p *parser) reference(kind string, e entry, where place) secrets.Ref {
	refuse := func(message string) secrets.Ref {
		p.refuse(where, finding{message, secretRemedy})
		return secrets.Ref{}
	}
	v := e.value.Value
	switch {
	case kind == "exec":
		return p.command(e, where)
	case kind != "env" && kind != "file":
		return refuse("want env, file or exec in the braces")
	case e.value.Kind != yaml.ScalarNode || e.value.Tag == "!!null" || v == "":
		return refuse(kind + " wants a name")
	case strings.Contains(v, "${") || strings.ContainsFunc(v, control):
		return refuse("variables and control characters have no place in a secret's reference")
	case kind == "file":
		return secrets.Ref{File: p.resolvePath(v)}
	case !variableName.MatchString(v):
		return refuse("env wants the name of a variable: letters, digits and _")
	}
	if !slices.Contains(p.variables, v) {
		p.variables = append(p.variables, v)
	}
	return secrets.Ref{Env: v}
}

var variableName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// maxWords bounds a command and its arguments.
const maxWords = 64

// command reads a command that prints a secret: a list of its absolute path
// and its arguments, or the path alone. No word of it is ever repeated, as
// arguments may hold secrets, and none is changed: no shell sees them.
func (p *parser) command(e entry, where place) secrets.Ref {
	refuse := func(message string) secrets.Ref {
		p.refuse(where, finding{message, "write exec: [/usr/local/bin/command, argument]; no shell and no PATH is used"})
		return secrets.Ref{}
	}
	nodes := []*yaml.Node{e.value}
	if e.value.Kind == yaml.SequenceNode {
		nodes = e.value.Content
	}
	if len(nodes) > maxWords {
		return refuse("the command has more words than a command needs")
	}
	var words []string
	for _, n := range nodes {
		n = resolve(n)
		if n.Kind != yaml.ScalarNode || n.Tag == "!!null" || strings.ContainsRune(n.Value, 0) {
			return refuse("exec wants a list of plain words")
		}
		words = append(words, n.Value)
	}
	switch {
	case len(words) == 0 || words[0] == "":
		return refuse("exec names no command")
	case strings.Contains(words[0], "${") || strings.ContainsFunc(words[0], control):
		return refuse("variables and control characters have no place in the command's name")
	case e.value.Kind == yaml.ScalarNode && strings.ContainsAny(words[0], " \t"):
		return refuse("a command with arguments is written as a list")
	case !filepath.IsAbs(words[0]):
		return refuse("the command is no absolute path")
	}
	if !p.allowExec {
		p.warn(where, finding{"this command is not run without serve --allow-exec", "start the gateway with it, or keep the secret in a file: {file: /run/secrets/name}"})
	}
	return secrets.Ref{Exec: words, MayRun: p.allowExec}
}
