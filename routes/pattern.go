package routes

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

// ErrPattern is wrapped by every error of [ParsePattern].
var ErrPattern = errors.New("no pattern of a path")

// Pattern is a path of the file: segments that stand for themselves, "*" or
// "{name}" for any one, and "**" at the end for any number of them, none among
// them. The zero value covers the root alone.
type Pattern struct {
	text     string
	segments []patternSegment
	open     bool // "**" follows
}

// patternSegment stands for any one segment, or for itself.
type patternSegment struct {
	any             bool
	literal, folded string
}

// String returns the pattern as the file has it.
func (p Pattern) String() string { return p.text }

// maxPattern bounds a pattern, in bytes: that of the longest paths which
// servers take.
const maxPattern = 2048

// placeholder is a {name}.
var placeholder = regexp.MustCompile(`^\{[A-Za-z_][A-Za-z0-9_-]*\}$`)

// ParsePattern reads a pattern. Its characters stand for themselves, decoded:
// escapes have no place in it, nor has a query. A slash at its end makes no
// difference. Errors wrap [ErrPattern] and say what to write instead.
func ParsePattern(text string) (Pattern, error) {
	fail := func(why string) (Pattern, error) { return Pattern{}, fmt.Errorf("%w: %s", ErrPattern, why) }
	switch {
	case !strings.HasPrefix(text, "/"):
		return fail("it has to begin with a slash")
	case len(text) > maxPattern:
		return fail(fmt.Sprintf("it has at most %d bytes", maxPattern))
	case strings.Contains(text, "?"):
		return fail("a query is no part of it")
	case strings.ContainsAny(text, `\#`) || strings.ContainsFunc(text, unicode.IsControl) || !utf8.ValidString(text):
		return fail("no path may hold a backslash, a number sign or a control character")
	case holdsEscape(text):
		return fail("it holds an escape, and is compared with decoded paths")
	}
	if badSegment(text) != "" {
		return fail("it holds an empty or a dot segment, which no path may")
	}
	p := Pattern{text: text}
	for rest := strings.TrimSuffix(text, "/"); rest != ""; {
		var s string
		s, rest = nextSegment(rest)
		switch {
		case p.open:
			return fail("** has its place at the end alone")
		case s == "**":
			p.open = true
		case s == "*" || placeholder.MatchString(s):
			p.segments = append(p.segments, patternSegment{any: true})
		case strings.ContainsAny(s, "*{}"):
			return fail("* and {name} stand for a whole segment, ** for all the rest")
		default:
			p.segments = append(p.segments, patternSegment{literal: s, folded: fold(s)})
		}
	}
	return p, nil
}

// Match tells whether the pattern covers the path, segment by segment. With
// ignoreCase, upper and lower case are the same, as they are to some servers.
// It allocates nothing.
func (p Pattern) Match(path Path, ignoreCase bool) bool {
	_, all := p.Agrees(path, ignoreCase)
	return all
}

// fold is s in lower case, letter by letter. A letter that merely shares its
// lower case with another stays as it is: servers take the Kelvin sign for no K.
func fold(s string) string { return strings.Map(foldRune, s) }

func foldRune(r rune) rune {
	if r < utf8.RuneSelf {
		if 'A' <= r && r <= 'Z' {
			r |= 0x20
		}
		return r
	}
	if lower := unicode.ToLower(r); unicode.ToUpper(lower) == r {
		return lower
	}
	return r
}

// equalFolded tells whether fold(s) is folded.
func equalFolded(folded, s string) bool {
	if s == folded {
		return true
	}
	for _, r := range s {
		want, size := utf8.DecodeRuneInString(folded)
		if size == 0 || foldRune(r) != want {
			return false
		}
		folded = folded[size:]
	}
	return folded == ""
}

// covers tells whether every path of other is one of p's.
func (p Pattern) covers(other Pattern, ignoreCase bool) bool {
	if other.open && !p.open || len(p.segments) > len(other.segments) || len(p.segments) < len(other.segments) && !p.open {
		return false
	}
	for i, s := range p.segments {
		if o := other.segments[i]; !s.any && (o.any || !s.same(o, ignoreCase)) {
			return false
		}
	}
	return true
}

// meets tells whether some path is both p's and other's.
func (p Pattern) meets(other Pattern, ignoreCase bool) bool {
	if len(p.segments) > len(other.segments) && !other.open || len(p.segments) < len(other.segments) && !p.open {
		return false
	}
	for i := range min(len(p.segments), len(other.segments)) {
		if s, o := p.segments[i], other.segments[i]; !s.any && !o.any && !s.same(o, ignoreCase) {
			return false
		}
	}
	return true
}

func (s patternSegment) same(other patternSegment, ignoreCase bool) bool {
	return s.literal == other.literal || ignoreCase && s.folded == other.folded
}
