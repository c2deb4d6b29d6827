package routes

import (
	"regexp"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"
)

// mask stands for what must not be shown. Its length says nothing.
const mask = "•••"

// source is the text of a routes.yaml, from which excerpts are cut. It knows
// which of its characters are secrets.
type source struct {
	file   string
	lines  []string
	hidden []span
	// secrets are the literal values found where only a reference may stand,
	// so that they are masked wherever else they appear.
	secrets []string
	// unparsed is set while the text has no tree that could say what is secret.
	unparsed bool
}

// span is a range of characters that belong to a secret, the end exclusive.
type span struct{ fromLine, fromColumn, toLine, toColumn int }

// newSource splits text into lines, ended by LF or CRLF, without the byte order
// mark that some editors write.
func newSource(file, text string) *source {
	text = strings.TrimPrefix(text, "\ufeff")
	return &source{file: file, lines: strings.Split(strings.ReplaceAll(text, "\r\n", "\n"), "\n"), unparsed: true}
}

// unreadable finds what YAML does not allow, or what it takes for a line end
// where this source does not: then excerpts and masks would be of other lines.
func (s *source) unreadable() (place, bool) {
	for i, line := range s.lines {
		column := 1
		for _, r := range line {
			if r == '\u2028' || r == '\u2029' || r == utf8.RuneError || r == '\ufeff' || unicode.IsControl(r) && r != '\t' {
				return place{line: i + 1, column: column}, true
			}
			column++
		}
	}
	return place{}, false
}

// secondDocument is where a further document seems to begin.
func (s *source) secondDocument() place {
	content := false
	for i, line := range s.lines {
		begin := strings.HasPrefix(line, "---") || strings.HasPrefix(line, "...")
		if begin && content {
			return place{line: i + 1, column: 1}
		}
		trimmed := strings.TrimSpace(line)
		content = content || !begin && trimmed != "" && trimmed[0] != '#' && trimmed[0] != '%'
	}
	return place{line: 1, column: 1}
}

// mistake makes a Mistake with the excerpt of its line.
func (s *source) mistake(at place, f finding) Mistake {
	m := Mistake{
		File: s.file, Line: at.line, Column: at.column, Field: at.field,
		Message: s.scrub(f.message), Remedy: s.scrub(f.remedy),
	}
	if at.line >= 1 && at.line <= len(s.lines) {
		m.Excerpt, m.Caret = s.excerpt(at.line, at.column)
	}
	return m
}

// excerptWidth is how many characters of a line are shown.
const excerptWidth = 120

// excerpt returns line number n, masked, and the offset of column in it.
func (s *source) excerpt(n, column int) (text string, caret int) {
	line := []rune(s.lines[n-1])
	hidden := s.hiddenColumns(n, line)
	out := make([]rune, 0, len(line))
	caret = -1
	for i, r := range line {
		if hidden[i] && i > 0 && hidden[i-1] {
			continue
		}
		if i >= column-1 && caret < 0 {
			caret = len(out)
		}
		switch {
		case hidden[i]:
			out = append(out, []rune(mask)...)
		case r == '\t':
			out = append(out, ' ')
		case !unicode.IsPrint(r):
			out = append(out, '�')
		default:
			out = append(out, r)
		}
	}
	if caret < 0 {
		caret = len(out)
	}
	return window(out, caret)
}

// window cuts line to excerptWidth characters around caret.
func window(line []rune, caret int) (string, int) {
	if len(line) <= excerptWidth {
		return strings.TrimRight(string(line), " "), caret
	}
	from := max(0, min(caret-excerptWidth/2, len(line)-excerptWidth))
	cut := line[from : from+excerptWidth]
	text, caret := string(cut), caret-from
	if from > 0 {
		text, caret = "…"+text, caret+1
	}
	if from+excerptWidth < len(line) {
		text += "…"
	}
	return text, caret
}

// hiddenColumns says for each character of line number n whether it is secret.
func (s *source) hiddenColumns(n int, line []rune) []bool {
	hidden := make([]bool, len(line))
	hide := func(from, to int) {
		for i := max(from, 0); i < min(to, len(hidden)); i++ {
			hidden[i] = true
		}
	}
	for _, h := range s.hidden {
		if n < h.fromLine || n > h.toLine {
			continue
		}
		from, to := 0, len(line)
		if n == h.fromLine {
			from = h.fromColumn - 1
		}
		if n == h.toLine {
			to = h.toColumn - 1
			if n > h.fromLine && strings.Trim(string(line[:min(to, len(line))]), " -") == "" {
				continue // the indentation of what follows
			}
		}
		hide(from, to)
	}
	text := string(line)
	runes := func(byteOffset int) int { return len([]rune(text[:byteOffset])) }
	for _, r := range s.secretRanges(n, text) {
		hide(runes(r[0]), runes(r[1]))
	}
	return hidden
}

var (
	// userinfo is what stands between the slashes and the last @ of a URL's
	// authority, or of whatever follows a colon there that begins no port: a
	// password may hold a slash that should have been encoded.
	userinfo = regexp.MustCompile(`//(?:[^/\s"']*|[^/\s"':@]*:[0-9]*[^0-9/\s"'][^\s"']*)@`)
	// keyed is a word that a colon or an equals sign makes a key.
	keyed = regexp.MustCompile(`([\pL\pN_.\-]+)["']?\s*[:=]`)
	// leadingKey is the key that a line begins with, after its indentation.
	leadingKey = regexp.MustCompile(`^[ ]*(?:- +)*([a-z_]+):(?: |$)`)
	// suspicious is whatever might lead up to a secret in a text without a tree:
	// a telling word, an anchor, an escape that could spell a telling word.
	suspicious = regexp.MustCompile(`(?i)secre|passw|pwd|passphrase|token|key|assertion|[&\\]`)
)

// secretRanges returns the byte ranges of line number n that are secret by
// their look alone, whatever the tree says.
func (s *source) secretRanges(n int, line string) [][]int {
	var ranges [][]int
	for _, m := range userinfo.FindAllStringIndex(line, -1) {
		ranges = append(ranges, []int{m[0] + 2, m[1] - 1})
	}
	for _, m := range keyed.FindAllStringSubmatchIndex(line, -1) {
		if secretKey(line[m[2]:m[3]]) {
			ranges = append(ranges, []int{m[1], len(line)})
			break
		}
	}
	for _, secret := range s.secrets {
		for from := 0; ; {
			i := strings.Index(line[from:], secret)
			if i < 0 {
				break
			}
			ranges = append(ranges, []int{from + i, from + i + len(secret)})
			from += i + len(secret)
		}
	}
	if s.unparsed && s.suspect(n) {
		from := len(line) - len(strings.TrimLeft(line, " "))
		if m := leadingKey.FindStringSubmatchIndex(line); m != nil && vocabulary(line[m[2]:m[3]]) {
			from = m[1]
		}
		ranges = append(ranges, []int{from, len(line)})
	}
	return ranges
}

// suspect tells whether line number n could be part of a secret, judged by
// what stands in it and above: a value never stands before its key.
func (s *source) suspect(n int) bool {
	for _, line := range s.lines[:n] {
		if suspicious.MatchString(line) {
			return true
		}
	}
	return false
}

// scrub masks what looks secret in a message.
func (s *source) scrub(text string) string {
	for _, secret := range s.secrets {
		text = strings.ReplaceAll(text, secret, mask)
	}
	return text
}

// quoteWidth is how many characters of a value a message repeats.
const quoteWidth = 100

// quote returns text for a message, in quotes: masked if it may hold a secret,
// cut if it is long.
func quote(text string) string {
	for _, m := range keyed.FindAllStringSubmatch(text, -1) {
		if secretKey(m[1]) {
			return strconv.Quote(mask)
		}
	}
	text = userinfo.ReplaceAllString(text, "//"+mask+"@")
	if r := []rune(text); len(r) > quoteWidth {
		text = string(r[:quoteWidth]) + "…"
	}
	return strconv.Quote(text)
}

// secretKey tells whether what stands under a key of this name is to be kept
// out of sight: by the words of the name, or because it is one slip of the
// finger away from such a name. A path or an address beside a secret is none.
func secretKey(name string) bool {
	lower := strings.ToLower(name)
	words := strings.FieldsFunc(lower, func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsNumber(r) })
	if len(words) == 0 {
		return false
	}
	switch words[len(words)-1] {
	case "file", "endpoint", "method", "params", "claims", "dir", "id", "name", "url":
		return false
	}
	for _, part := range []string{"secret", "passw", "pwd", "passphrase", "apikey", "assertion"} {
		if strings.Contains(lower, part) {
			return true
		}
	}
	for _, word := range words {
		switch word {
		case "key", "keys", "token", "tokens", "sas", "pass", "exec":
			return true
		}
	}
	for _, known := range []string{"client_secret", "password", "admin_key"} {
		if distance(lower, known) <= 2 {
			return true
		}
	}
	return false
}

// hideSecrets marks every value under a secret-bearing key of the tree, also
// where an alias leads elsewhere, and ends the time of blanket masking.
func (s *source) hideSecrets(root *yaml.Node) {
	h := hider{src: s, index: map[*yaml.Node]int{}, done: map[int]bool{}}
	h.flatten(root)
	for _, n := range h.nodes {
		if n.Kind != yaml.MappingNode {
			continue
		}
		for j := 0; j+1 < len(n.Content); j += 2 {
			switch key := resolve(n.Content[j]).Value; {
			case secretKey(key):
				h.hide(h.index[n.Content[j+1]], true)
			case key == "set_headers":
				h.hideFields(n.Content[j+1])
			}
		}
	}
	s.unparsed = false
}

// hider walks the nodes of a tree in the order of the file.
type hider struct {
	src   *source
	nodes []*yaml.Node
	ends  []int // index behind the last node below the node
	index map[*yaml.Node]int
	done  map[int]bool
}

func (h *hider) flatten(n *yaml.Node) {
	i := len(h.nodes)
	h.nodes, h.ends = append(h.nodes, n), append(h.ends, 0)
	h.index[n] = i
	for _, c := range n.Content {
		h.flatten(c)
	}
	h.ends[i] = len(h.nodes)
}

// hideFields marks the values of header fields, which are often keys, and leaves
// their names.
func (h *hider) hideFields(n *yaml.Node) {
	if n = resolve(n); n.Kind != yaml.MappingNode {
		return
	}
	for j := 1; j < len(n.Content); j += 2 {
		h.hide(h.index[n.Content[j]], false)
	}
}

// hide marks everything from node i to the next node that is not below it. With
// elsewhere its literals are masked wherever else they appear, too.
func (h *hider) hide(i int, elsewhere bool) {
	if h.done[i] {
		return
	}
	h.done[i] = true
	n := h.nodes[i]
	to := span{n.Line, n.Column, len(h.src.lines) + 1, 1}
	for _, next := range h.nodes[h.ends[i]:] {
		if next.Line > n.Line || next.Line == n.Line && next.Column > n.Column {
			to.toLine, to.toColumn = next.Line, next.Column
			break
		}
	}
	if !elsewhere && to.toLine == n.Line {
		before := []rune(h.src.lines[n.Line-1])[:to.toColumn-1]
		to.toColumn = 1 + len([]rune(strings.TrimRight(string(before), ", "))) // the next name stands apart
	}
	h.src.hidden = append(h.src.hidden, to)
	for j := i; j < h.ends[i]; j++ {
		if target := h.nodes[j].Alias; target != nil {
			h.hide(h.index[target], elsewhere)
		}
	}
	if elsewhere {
		h.remember(n)
	}
}

// literalLength is how long a literal must be to be looked for elsewhere: the
// short ones would mask ordinary words.
const literalLength = 8

// remember keeps a literal where a reference should stand.
func (h *hider) remember(n *yaml.Node) {
	switch n.Kind {
	case yaml.ScalarNode:
		if len(n.Value) >= literalLength {
			h.src.secrets = append(h.src.secrets, n.Value)
		}
	case yaml.SequenceNode:
		for _, c := range n.Content {
			h.remember(c)
		}
	}
}

// resolve follows an alias to what it stands for.
func resolve(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode && n.Alias != nil {
		return n.Alias
	}
	return n
}
