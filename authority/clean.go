package authority

import (
	"encoding/json"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"
)

// mask stands where something was taken out of a text.
const mask = "[redacted]"

// detailLimit bounds the words of an endpoint that are kept, in bytes.
const detailLimit = 800

var (
	// jwtLike is a compact JWS or JWE, or the beginning of one.
	jwtLike = regexp.MustCompile(`eyJ[A-Za-z0-9_-]{6,}(\.[A-Za-z0-9_-]*)*`)
	// secretLike is a long run of the characters that secrets and encoded
	// keys are made of, with or without a tilde, as Entra's secrets have one.
	secretLike = regexp.MustCompile(`[A-Za-z0-9_~+/=-]{32,}|[A-Za-z0-9_.~-]*~[A-Za-z0-9_.~-]{20,}`)
	// assignment is a form field or a member that should not be in prose.
	assignment = regexp.MustCompile(`(?i)\b((?:client_)?(?:secret|assertion)|password|access_token|refresh_token)(["']?\s*[=:]\s*["']?)[^\s"'&,;]+`)
	thumbprint = regexp.MustCompile(`^[0-9A-Fa-f]{40}$`)
	codeLike   = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,64}$`)
)

// clean makes words from outside fit for a log: one line, at most limit
// bytes, hidden texts and whatever resembles a secret masked. GUIDs and SHA-1
// thumbprints stay, as they are what an operator searches for.
func clean(text string, hidden []string, limit int) string {
	// Cut generously first, so that the work is bounded; a secret across the
	// cut is masked below as the long run that it is.
	text = cut(text, answerLimit)
	for _, h := range hidden {
		if h != "" {
			text = strings.ReplaceAll(text, h, mask)
		}
	}
	text = jwtLike.ReplaceAllString(text, mask)
	text = assignment.ReplaceAllString(text, "$1$2"+mask)
	text = secretLike.ReplaceAllStringFunc(text, func(run string) string {
		if thumbprint.MatchString(run) || len(run) == 36 && uuid.Validate(run) == nil {
			return run
		}
		return mask
	})
	text = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == utf8.RuneError || r == '\u2028' || r == '\u2029' || unicode.Is(unicode.Cf, r) {
			return ' '
		}
		return r
	}, text)
	return cut(strings.Join(strings.Fields(text), " "), limit)
}

// cut shortens text to limit bytes, at a rune's edge.
func cut(text string, limit int) string {
	if len(text) <= limit {
		return text
	}
	for limit > 0 && !utf8.RuneStart(text[limit]) {
		limit--
	}
	return text[:limit]
}

// identifier returns s if it has the shape of an error code or an ID and
// holds nothing hidden, else "".
func identifier(s string, hidden []string) string {
	if !codeLike.MatchString(s) || clean(s, hidden, len(s)) != s {
		return ""
	}
	return s
}

// firstElement returns the first element of a JSON array, or nil.
func firstElement(list json.RawMessage) json.RawMessage {
	var elements []json.RawMessage
	if json.Unmarshal(list, &elements) != nil || len(elements) == 0 {
		return nil
	}
	return elements[0]
}
