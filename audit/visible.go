package audit

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// visible is s with everything that a terminal would obey or hide percent-encoded:
// control characters of Unicode too, of which JSON escapes the first 32 alone,
// marks of direction, line separators, and what is no UTF-8. Paths and hosts
// come from outside.
func visible(s string) string {
	if strings.IndexFunc(s, hidden) < 0 {
		return s
	}
	const digits = "0123456789ABCDEF"
	var b strings.Builder
	for i := 0; i < len(s); {
		r, size := utf8.DecodeRuneInString(s[i:])
		if !hidden(r) {
			b.WriteString(s[i : i+size])
		} else {
			for _, c := range []byte(s[i : i+size]) {
				b.Write([]byte{'%', digits[c>>4], digits[c&15]})
			}
		}
		i += size
	}
	return b.String()
}

func hidden(r rune) bool { return r == utf8.RuneError || !unicode.IsPrint(r) }
