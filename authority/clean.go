package authority

import (
	"encoding/json"
	"regexp"
	"slices"
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
	// helpLink leads to a page of Microsoft's that explains an error. Its path is
	// of plain words, so that nothing that was made at random fits.
	helpLink   = regexp.MustCompile(`https://(?:(?:learn|docs)\.microsoft\.com|aka\.ms)(?:/[a-z]{1,20}[0-9]{0,2}(?:-[a-z]{1,20}[0-9]{0,2})*)+/?`)
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
	text = maskRuns(text)
	text = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == utf8.RuneError || r == '\u2028' || r == '\u2029' || unicode.Is(unicode.Cf, r) {
			return ' '
		}
		return r
	}, text)
	return cut(strings.Join(strings.Fields(text), " "), limit)
}

// maskRuns masks what resembles a secret, but for Microsoft's links to help.
func maskRuns(text string) string {
	var links [][]int
	for _, link := range helpLink.FindAllStringIndex(text, -1) {
		if !goesOn(text[link[1]:]) {
			links = append(links, link)
		}
	}
	var b strings.Builder
	done := 0
	for _, at := range secretLike.FindAllStringIndex(text, -1) {
		run := text[at[0]:at[1]]
		linked := slices.ContainsFunc(links, func(link []int) bool { return link[0] <= at[0] && at[1] <= link[1] })
		if linked || thumbprint.MatchString(run) || len(run) == 36 && uuid.Validate(run) == nil {
			continue
		}
		b.WriteString(text[done:at[0]] + mask)
		done = at[1]
	}
	return b.String() + text[done:]
}

// goesOn tells whether rest, behind what looks like a link, is part of it: then
// it is another link, with a query or a word that may be a secret.
func goesOn(rest string) bool {
	r, _ := utf8.DecodeRuneInString(strings.TrimLeft(rest, "."))
	return rest != "" && (unicode.IsLetter(r) || unicode.IsDigit(r) || strings.ContainsRune("-_~/+=?#%&@:!$*", r))
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
