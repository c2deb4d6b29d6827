package routes

import (
	"slices"
	"strings"
)

// Lines say where in the file keys of a route or a SQL door stand; 0 for one
// that is absent.
type Lines struct{ Hosts, Paths, Mount, Callers, Allow, Mode, Tenant int }

// linesOf are the lines of the keys of m.
func linesOf(m *mapping) Lines {
	line := func(key string) int { return m.items[key].at.line }
	return Lines{
		Hosts: line("hosts"), Paths: line("paths"), Mount: line("mount"), Callers: line("callers"),
		Allow: line("allow"), Mode: line("mode"), Tenant: line("tenant"),
	}
}

// remember notes the lines of sections, and of what stands under egress.
func (t *Table) remember(top, egress *mapping) {
	t.lines = map[string]int{}
	for key, e := range top.items {
		t.lines[key] = e.at.line
	}
	for key, e := range egress.items {
		t.lines["egress."+key] = e.at.line
	}
}

// LineOf is the line of a section, such as callers, of a key of egress, such as
// egress.default, or of an entry, as egress.allow[0]; 0 if the file has none.
func (t *Table) LineOf(key string) int { return t.lines[key] }

// Text is a line of the file as it may be shown: secrets masked, without the
// indentation, and cut if it is long; "" for a line that the file does not have.
func (t *Table) Text(line int) string {
	if t.src == nil || line < 1 || line > len(t.src.lines) {
		return ""
	}
	text, _ := t.src.excerpt(line, 1+len(t.src.lines[line-1])-len(strings.TrimLeft(t.src.lines[line-1], " \t")))
	return strings.TrimSpace(text)
}

// PassedBy tells what passes a host that no route names: the position of its
// entry under allow, or -1 for default: tunnel. ok is false if nothing does.
func (e *Egress) PassedBy(a Authority) (entry int, ok bool) {
	if e.Tunnel && (a.Port == 443 || a.Port == 80) {
		return -1, true
	}
	entry = slices.IndexFunc(e.Allow, func(h HostPattern) bool { return h.Matches(a) })
	return entry, entry >= 0
}

// Agrees is how many of the path's first segments the pattern holds, and whether
// it holds all of it. It is [Pattern.Match] for those who ask how near it came.
func (p Pattern) Agrees(path Path, ignoreCase bool) (segments int, all bool) {
	rest := path.text
	for _, want := range p.segments {
		if rest == "" {
			return segments, false
		}
		var got string
		got, rest = nextSegment(rest)
		if !want.holds(got, ignoreCase) {
			return segments, false
		}
		segments++
	}
	return segments, p.open || rest == ""
}

// holds tells whether the segment stands for got.
func (s patternSegment) holds(got string, ignoreCase bool) bool {
	switch {
	case s.any:
		return true
	case ignoreCase:
		return equalFolded(s.folded, got)
	}
	return s.literal == got
}
