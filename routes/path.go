package routes

import (
	"errors"
	"fmt"
	"iter"
	"strings"
	"unicode/utf8"
)

// ErrPath is wrapped by every error of [ParsePath].
var ErrPath = errors.New("ambiguous path")

// Path is a path of one reading alone: decoded once, and none of its segments
// holds a slash. The zero value is the root.
type Path struct {
	text string // "/a/b": without a slash at the end, so "" for the root
}

// Segments yields the decoded segments; none for the root.
func (p Path) Segments() iter.Seq[string] {
	return func(yield func(string) bool) {
		for rest := p.text; rest != ""; {
			var segment string
			if segment, rest = nextSegment(rest); !yield(segment) {
				return
			}
		}
	}
}

// Last is the last segment, decoded; "" for the root.
func (p Path) Last() string { return p.text[strings.LastIndexByte(p.text, '/')+1:] }

// nextSegment cuts the first segment off a text that begins with a slash; rest
// begins with the next one, or is empty.
func nextSegment(text string) (segment, rest string) {
	text = text[1:]
	if i := strings.IndexByte(text, '/'); i >= 0 {
		return text[:i], text[i:]
	}
	return text, ""
}

// ParsePath reads an escaped path, as url.URL.EscapedPath returns it, and
// refuses whatever two servers might read in two ways. Escapes are decoded
// once; one slash at the end makes no difference. Refused are: backslashes,
// control characters, '#' and '?', plain and escaped; a plain space; an escaped
// slash; what would be an escape again once it is decoded; escapes that are
// none; invalid UTF-8; empty segments; dot segments; and both also where
// something follows behind a ';', which servers of servlets cut off.
//
// The error says which of these, and repeats nothing of the path. It is for
// judging: what is sent upstream are the bytes that came.
func ParsePath(escaped string) (Path, error) {
	if escaped == "" || escaped[0] != '/' {
		return Path{}, fmt.Errorf("%w: it does not begin with a slash", ErrPath)
	}
	text, why := decodePath(escaped)
	if why == "" {
		why = badSegment(text)
	}
	if why != "" {
		return Path{}, fmt.Errorf("%w: %s", ErrPath, why)
	}
	return Path{strings.TrimSuffix(text, "/")}, nil
}

// decodePath decodes escapes once, or says why a path cannot be read.
func decodePath(escaped string) (text, why string) {
	ascii, escapes := true, false
	for i := range len(escaped) {
		c := escaped[i]
		if c <= ' ' {
			return "", "it holds a plain space or control character"
		}
		if why := forbidden(c); why != "" {
			return "", why
		}
		ascii = ascii && c < utf8.RuneSelf
		escapes = escapes || c == '%'
	}
	text = escaped
	if escapes {
		if text, why = unescape(escaped); why != "" {
			return "", why
		}
		ascii = false
	}
	if !ascii && !utf8.ValidString(text) {
		return "", "it is not UTF-8"
	}
	return text, ""
}

// forbidden says why a byte has no place in a path, be it escaped or not; "" if
// it has.
func forbidden(c byte) string {
	switch {
	case c < ' ' || c == 0x7f:
		return "it holds a control character"
	case c == '\\':
		return "it holds a backslash"
	case c == '#':
		return "it holds a number sign"
	case c == '?':
		return "it holds a question mark"
	}
	return ""
}

func unescape(escaped string) (text, why string) {
	var out strings.Builder
	out.Grow(len(escaped))
	percent := false
	for i := 0; i < len(escaped); i++ {
		c := escaped[i]
		if c == '%' {
			if i+2 >= len(escaped) || !isHex(escaped[i+1]) || !isHex(escaped[i+2]) {
				return "", "it holds an escape that is none"
			}
			c = unhex(escaped[i+1])<<4 | unhex(escaped[i+2])
			i += 2
			if why := forbidden(c); why != "" {
				return "", why
			}
			if c == '/' {
				return "", "it holds an escaped slash"
			}
			percent = percent || c == '%'
		}
		out.WriteByte(c)
	}
	if percent && holdsEscape(out.String()) {
		return "", "it is escaped twice"
	}
	return out.String(), ""
}

// holdsEscape tells whether a percent sign and two hexadecimal digits follow
// each other.
func holdsEscape(s string) bool {
	for i := 0; i+2 < len(s); i++ {
		if s[i] == '%' && isHex(s[i+1]) && isHex(s[i+2]) {
			return true
		}
	}
	return false
}

func isHex(c byte) bool { return '0' <= c && c <= '9' || 'a' <= c|0x20 && c|0x20 <= 'f' }

// unhex is the value of a hexadecimal digit.
func unhex(c byte) byte {
	if c <= '9' {
		return c - '0'
	}
	return c | 0x20 - 'a' + 10
}

// badSegment says which segment of a decoded path has two readings, or "".
func badSegment(text string) string {
	for rest := text; rest != ""; {
		var segment string
		segment, rest = nextSegment(rest)
		if segment == "" && rest == "" {
			return "" // a slash at the end
		}
		name, _, _ := strings.Cut(segment, ";")
		switch name {
		case "":
			return "it holds an empty segment"
		case ".", "..":
			return "it holds a dot segment"
		}
	}
	return ""
}
