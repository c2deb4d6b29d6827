package routes

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Mistake is one thing wrong in a routes.yaml, or one warning about it. It
// never holds a byte of a secret: what stands under a key such as
// client_secret is masked in Excerpt and never quoted in Message.
type Mistake struct {
	File    string
	Line    int // from 1; 0 when the mistake has no place in the file
	Column  int // from 1, in characters
	Field   string
	Message string
	Excerpt string // the line, masked; "" when there is none
	Caret   int    // characters of Excerpt before the column
	Remedy  string
}

// Error returns the mistake as the operator sees it: where, what, the line
// with a caret under the column, and the remedy.
func (m Mistake) Error() string {
	var b strings.Builder
	b.WriteString(m.File)
	if m.Line > 0 {
		fmt.Fprintf(&b, ":%d:%d", m.Line, m.Column)
	}
	b.WriteString(": ")
	if m.Field != "" {
		b.WriteString(m.Field + ": ")
	}
	b.WriteString(m.Message)
	if m.Excerpt != "" {
		gutter := fmt.Sprintf(" %d ", m.Line)
		fmt.Fprintf(&b, "\n   |%s| %s", gutter, m.Excerpt)
		fmt.Fprintf(&b, "\n   |%s^", strings.Repeat(" ", len(gutter)+2+m.Caret))
	}
	if m.Remedy != "" {
		b.WriteString("\n   " + m.Remedy)
	}
	return b.String()
}

// Mistakes are all that is wrong in one file, in the order of the file. It is
// never empty when it is an error.
type Mistakes []Mistake

// Error returns every mistake and a last line that counts them.
func (ms Mistakes) Error() string {
	var b strings.Builder
	for _, m := range ms {
		b.WriteString(m.Error() + "\n")
	}
	if len(ms) == 1 {
		b.WriteString("1 mistake")
	} else {
		fmt.Fprintf(&b, "%d mistakes", len(ms))
	}
	return b.String()
}

func sortMistakes(ms []Mistake) {
	slices.SortStableFunc(ms, func(a, b Mistake) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
}

// place is where something stands in the file: line and column from 1, and the
// name of the field. The zero place is nowhere.
type place struct {
	line, column int
	field        string
}

// report collects what is wrong with one file.
type report struct {
	src      *source
	mistakes Mistakes
	warnings []Mistake
	broken   map[place]bool // values that could not be read; what follows from that is no news
}

// finding is a message and what to do about it.
type finding struct{ message, remedy string }

// maxMistakes bounds what one file can make us print.
const maxMistakes = 200

func (r *report) refuse(at place, f finding) {
	if len(r.mistakes) < maxMistakes && !r.broken[at] {
		r.mistakes = append(r.mistakes, r.src.mistake(at, f))
	}
}

// breaks refuses a value as unreadable: nothing further is said about it.
func (r *report) breaks(at place, f finding) {
	r.refuse(at, f)
	r.broken[at] = true
}

func (r *report) warn(at place, f finding) {
	if len(r.warnings) < maxMistakes {
		r.warnings = append(r.warnings, r.src.mistake(at, f))
	}
}
