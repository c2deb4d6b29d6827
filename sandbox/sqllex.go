package sandbox

import (
	"fmt"
	"strings"
	"unicode"
)

// sqlTokenKind is what a piece of T-SQL is.
type sqlTokenKind int

const (
	lexEnd     sqlTokenKind = iota
	lexWord                 // a bare name or keyword
	lexName                 // a [quoted] or "quoted" name
	lexVar                  // @x or @@x
	lexNumber               // digits, with a point or not
	lexString               // 'x'
	lexUnicode              // N'x'
	lexBinary               // 0x…
	lexSign                 // anything else, one or two characters
)

// sqlLexeme is one piece of T-SQL and the line it stands in.
type sqlLexeme struct {
	kind sqlTokenKind
	text string
	line int32
}

// is reports whether the lexeme is that keyword or sign.
func (x sqlLexeme) is(word string) bool {
	return (x.kind == lexWord || x.kind == lexSign) && strings.EqualFold(x.text, word)
}

// sqlLexer cuts T-SQL into pieces.
type sqlLexer struct {
	src  []rune
	pos  int
	line int32
}

// maxSQLLexemes bounds a batch.
const maxSQLLexemes = 1 << 20

// lexSQL returns the pieces of text, without comments, and an end.
func lexSQL(text string) ([]sqlLexeme, error) {
	l := &sqlLexer{src: []rune(text), line: 1}
	var all []sqlLexeme
	for len(all) < maxSQLLexemes {
		x, err := l.next()
		if err != nil {
			return nil, err
		}
		all = append(all, x)
		if x.kind == lexEnd {
			return all, nil
		}
	}
	return nil, sqlFailure{number: 191, state: 1, class: 15, line: l.line, text: "Some part of your SQL statement is nested too deeply. Rewrite the query or break it up into smaller queries."}
}

// at returns the character n further on, 0 beyond the end.
func (l *sqlLexer) at(n int) rune {
	if l.pos+n < len(l.src) {
		return l.src[l.pos+n]
	}
	return 0
}

func (l *sqlLexer) skipSpace() {
	for l.pos < len(l.src) {
		switch c := l.at(0); {
		case c == '\n':
			l.line++
			l.pos++
		case unicode.IsSpace(c):
			l.pos++
		case c == '-' && l.at(1) == '-':
			for l.pos < len(l.src) && l.at(0) != '\n' {
				l.pos++
			}
		case c == '/' && l.at(1) == '*':
			l.pos += 2
			for l.pos < len(l.src) && (l.at(0) != '*' || l.at(1) != '/') {
				if l.at(0) == '\n' {
					l.line++
				}
				l.pos++
			}
			l.pos = min(l.pos+2, len(l.src))
		default:
			return
		}
	}
}

func (l *sqlLexer) next() (sqlLexeme, error) {
	l.skipSpace()
	x := sqlLexeme{line: l.line}
	switch c := l.at(0); {
	case l.pos >= len(l.src):
		return x, nil
	case c == 'N' && l.at(1) == '\'' || c == 'n' && l.at(1) == '\'':
		l.pos++
		x.kind = lexUnicode
		return l.quoted(x, '\'')
	case c == '\'':
		x.kind = lexString
		return l.quoted(x, '\'')
	case c == '[':
		x.kind = lexName
		return l.quoted(x, ']')
	case c == '"':
		x.kind = lexName
		return l.quoted(x, '"')
	case c == '@':
		x.kind, x.text = lexVar, l.run(nameRune)
	case c == '0' && (l.at(1) == 'x' || l.at(1) == 'X'):
		l.pos += 2
		x.kind, x.text = lexBinary, l.run(func(c rune) bool { return strings.ContainsRune("0123456789abcdefABCDEF", c) })
	case c >= '0' && c <= '9':
		x.kind, x.text = lexNumber, l.run(func(c rune) bool { return c == '.' || c >= '0' && c <= '9' })
	case nameRune(c):
		x.kind, x.text = lexWord, l.run(nameRune)
	default:
		x.kind, x.text = lexSign, string(c)
		l.pos++
		if two := x.text + string(l.at(0)); two == "<>" || two == "!=" || two == "<=" || two == ">=" {
			x.text = two
			l.pos++
		}
	}
	return x, nil
}

func nameRune(c rune) bool {
	return c == '_' || c == '#' || c == '@' || c == '$' || unicode.IsLetter(c) || unicode.IsDigit(c)
}

func (l *sqlLexer) run(in func(rune) bool) string {
	start := l.pos
	for l.pos < len(l.src) && in(l.src[l.pos]) {
		l.pos++
	}
	return string(l.src[start:l.pos])
}

// quoted reads up to the quote end, which is doubled to stand for itself.
func (l *sqlLexer) quoted(x sqlLexeme, end rune) (sqlLexeme, error) {
	var b strings.Builder
	for l.pos++; l.pos < len(l.src); l.pos++ {
		c := l.at(0)
		if c == end {
			if l.at(1) != end {
				l.pos++
				x.text = b.String()
				return x, nil
			}
			l.pos++
		}
		if c == '\n' {
			l.line++
		}
		b.WriteRune(c)
	}
	return x, sqlFailure{number: 105, state: 1, class: 15, line: x.line,
		text: "Unclosed quotation mark after the character string."}
}

// sqlParser reads statements from lexemes.
type sqlParser struct {
	all   []sqlLexeme
	pos   int
	depth int
}

func (p *sqlParser) peek() sqlLexeme { return p.all[p.pos] }

// ahead looks n lexemes further; beyond the end is the end.
func (p *sqlParser) ahead(n int) sqlLexeme { return p.all[min(p.pos+n, len(p.all)-1)] }

func (p *sqlParser) take() sqlLexeme {
	x := p.all[p.pos]
	if x.kind != lexEnd {
		p.pos++
	}
	return x
}

// accept takes the words if they come next, all of them.
func (p *sqlParser) accept(words ...string) bool {
	for i, w := range words {
		if !p.ahead(i).is(w) {
			return false
		}
	}
	p.pos += len(words)
	return true
}

// expect takes a word or fails.
func (p *sqlParser) expect(word string) error {
	if p.accept(word) {
		return nil
	}
	return p.near()
}

// near is the syntax error at the next lexeme (class 15, as SQL Server has it).
func (p *sqlParser) near() error {
	x := p.peek()
	text := clip(x.text, 30)
	if x.kind == lexEnd {
		text = "end of batch"
	}
	return sqlFailure{number: 102, state: 1, class: 15, line: x.line, text: fmt.Sprintf("Incorrect syntax near '%s'.", text)}
}

// name takes a name, of which the last part counts: dbo.t is t.
func (p *sqlParser) name() (string, error) {
	for {
		x := p.peek()
		if x.kind != lexWord && x.kind != lexName {
			return "", p.near()
		}
		p.take()
		if !p.accept(".") {
			return x.text, nil
		}
		for p.accept(".") { // tempdb..#t
			continue
		}
	}
}
