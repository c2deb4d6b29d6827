package authority

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/url"
	"strings"
)

const (
	// maxClaims bounds the claims of a challenge, in bytes of JSON.
	maxClaims = 8 << 10
	// maxChallenge bounds what is read of WWW-Authenticate altogether, in bytes.
	maxChallenge = 64 << 10
)

// errChallenge is wrapped when a claims challenge was meant and is unreadable.
var errChallenge = errors.New("unreadable claims challenge")

// Challenge is a claims challenge of an API (OpenID Connect Core §5.5, as
// Microsoft's continuous access evaluation uses it).
type Challenge struct {
	Claims string // JSON text of an object; "" when no claims are asked for
}

// ParseChallenge reads the lines of WWW-Authenticate. Several challenges may
// share one line (RFC 9110 §11.6.1); the first Bearer or PoP challenge that asks
// for claims counts, if its error is insufficient_claims or it has none. Names
// are read in any case, values quoted or bare, claims in any base64,
// percent-encoded, or plain. What cannot be read asks for nothing; claims that
// cannot are an error besides.
func ParseChallenge(lines []string) (Challenge, error) {
	for _, line := range lines {
		if len(line) > maxChallenge {
			return Challenge{}, errChallenge
		}
		for _, c := range challenges(line) {
			claims, ok := c.params["claims"]
			if c.scheme != "bearer" && c.scheme != "pop" {
				continue
			}
			if reason := c.params["error"]; !ok || reason != "" && !strings.EqualFold(reason, "insufficient_claims") {
				continue
			}
			text, err := decodeClaims(claims)
			return Challenge{Claims: text}, err
		}
	}
	return Challenge{}, nil
}

// schemed is one challenge: its scheme, and its parameters by name, all names
// in lower case. The first of several parameters of one name counts.
type schemed struct {
	scheme string
	params map[string]string
}

// challenges cuts a line into its challenges. It is tolerant: a word followed
// by another word begins a challenge, a word followed by = is a parameter, and
// values may be bare although they hold : / or =. A quotation that is never
// closed takes the challenge it stands in with it: it was cut off.
func challenges(line string) []schemed {
	var all []schemed
	rest := line
	for {
		rest = strings.TrimLeft(rest, " \t,")
		if rest == "" {
			return all
		}
		end := strings.IndexAny(rest, " \t,=\"")
		if end < 0 {
			end = len(rest)
		}
		word := strings.ToLower(rest[:end])
		rest = rest[end:]
		after := strings.TrimLeft(rest, " \t")
		switch {
		case word == "" && rest[0] != '=': // a stray quote
			rest = rest[1:]
		case strings.HasPrefix(after, "="):
			var value string
			var closed bool
			value, rest, closed = paramValue(strings.TrimLeft(after[1:], " \t"))
			if len(all) == 0 { // before any scheme
				all = append(all, schemed{params: map[string]string{}})
			}
			if !closed {
				return all[:len(all)-1]
			}
			params := all[len(all)-1].params
			if _, twice := params[word]; word != "" && !twice {
				params[word] = value
			}
		default: // a scheme
			all = append(all, schemed{word, map[string]string{}})
		}
	}
}

// paramValue reads a quoted string or a bare value off the front of s. closed
// is false for a quoted string without its end.
func paramValue(s string) (value, rest string, closed bool) {
	if !strings.HasPrefix(s, `"`) {
		end := strings.IndexAny(s, " \t,")
		if end < 0 {
			end = len(s)
		}
		return s[:end], s[end:], true
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '\\':
			if i++; i < len(s) {
				b.WriteByte(s[i])
			}
		case '"':
			return b.String(), s[i+1:], true
		default:
			b.WriteByte(s[i])
		}
	}
	return "", "", false
}

// decodeClaims returns the JSON text of an object.
func decodeClaims(s string) (string, error) {
	if s = strings.TrimSpace(s); strings.Contains(s, "%") && !strings.HasPrefix(s, "{") {
		plain, err := url.PathUnescape(s)
		if err != nil {
			return "", errChallenge
		}
		s = plain
	}
	text := []byte(s)
	if !strings.HasPrefix(s, "{") {
		s = strings.NewReplacer("-", "+", "_", "/").Replace(strings.TrimRight(s, "="))
		var err error
		if text, err = base64.RawStdEncoding.DecodeString(s); err != nil {
			return "", errChallenge
		}
	}
	text = bytes.TrimSpace(text)
	var object map[string]json.RawMessage
	if len(text) > maxClaims || json.Unmarshal(text, &object) != nil || object == nil {
		return "", errChallenge
	}
	return string(text), nil
}
