package sandbox

import (
	"bytes"
	"cmp"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
)

// sqlEnv is what a statement sees while it runs.
type sqlEnv struct {
	request *sqlRequest
	vars    map[string]sqlDatum
	columns []sqlColumn // of the row at hand
	row     []sqlDatum
	count   int64 // @@ROWCOUNT
}

// A sqlExpr is an expression, ready to be evaluated.
type sqlExpr func(e *sqlEnv) (sqlDatum, error)

// maxSQLDepth bounds how deep expressions and statements nest.
const maxSQLDepth = 50

func (p *sqlParser) nest() error {
	if p.depth++; p.depth > maxSQLDepth {
		return sqlFailure{number: 191, state: 1, class: 15, line: p.peek().line, text: "Some part of your SQL statement is nested too deeply. Rewrite the query or break it up into smaller queries."}
	}
	return nil
}

// condition reads a AND b OR c, where each is a comparison. AND and OR bind
// alike, from the left.
func (p *sqlParser) condition() (sqlExpr, error) {
	left, err := p.comparison()
	for err == nil && (p.peek().is("and") || p.peek().is("or")) {
		or := p.take().is("or")
		a := left
		var b sqlExpr
		if b, err = p.comparison(); err != nil {
			break
		}
		left = func(e *sqlEnv) (sqlDatum, error) {
			x, err := a(e)
			if err != nil || x.truth() == or {
				return x, err
			}
			return b(e)
		}
	}
	return left, err
}

func (d sqlDatum) truth() bool {
	n, ok := d.integer()
	return ok && n != 0
}

// comparison reads a, a = b, a IS [NOT] NULL.
func (p *sqlParser) comparison() (sqlExpr, error) {
	a, err := p.expr()
	if err != nil {
		return nil, err
	}
	if p.accept("is") {
		not := p.accept("not")
		if err := p.expect("null"); err != nil {
			return nil, err
		}
		return func(e *sqlEnv) (sqlDatum, error) {
			x, err := a(e)
			return sqlInt(int64(bit(x.null != not))), err
		}, nil
	}
	op := p.peek().text
	verdict := map[string]func(int) bool{
		"=": func(c int) bool { return c == 0 }, "<>": func(c int) bool { return c != 0 }, "!=": func(c int) bool { return c != 0 },
		"<": func(c int) bool { return c < 0 }, "<=": func(c int) bool { return c <= 0 },
		">": func(c int) bool { return c > 0 }, ">=": func(c int) bool { return c >= 0 },
	}[op]
	if p.peek().kind != lexSign || verdict == nil {
		return a, nil
	}
	p.take()
	b, err := p.expr()
	if err != nil {
		return nil, err
	}
	return func(e *sqlEnv) (sqlDatum, error) {
		x, err := a(e)
		if err != nil {
			return x, err
		}
		y, err := b(e)
		if err != nil || x.null || y.null {
			return sqlInt(0), err
		}
		return sqlInt(int64(bit(verdict(compareSQL(x, y))))), nil
	}, nil
}

// compareSQL orders two values that are not NULL: as numbers if both are, as
// text without regard to case if one is text, else by their bytes.
func compareSQL(x, y sqlDatum) int {
	a, okA := x.float()
	b, okB := y.float()
	texts := (x.t.isText() || x.t.isChar()) && (y.t.isText() || y.t.isChar())
	switch {
	case okA && okB && !texts:
		if x.isInteger() && y.isInteger() {
			m, _ := x.integer()
			n, _ := y.integer()
			return cmp.Compare(m, n)
		}
		return cmp.Compare(a, b)
	case x.t.isText() || x.t.isChar() || y.t.isText() || y.t.isChar():
		return strings.Compare(strings.ToLower(strings.TrimRight(x.string(), " ")), strings.ToLower(strings.TrimRight(y.string(), " ")))
	}
	return bytes.Compare(x.data, y.data)
}

// expr reads terms joined by + and -, * and / and %, all of one rank.
func (p *sqlParser) expr() (sqlExpr, error) {
	if err := p.nest(); err != nil {
		return nil, err
	}
	defer func() { p.depth-- }()
	left, err := p.term()
	for err == nil && p.peek().kind == lexSign && len(p.peek().text) == 1 && strings.Contains("+-*/%", p.peek().text) {
		line, op := p.peek().line, p.take().text[0]
		a := left
		var b sqlExpr
		if b, err = p.term(); err != nil {
			break
		}
		left = func(e *sqlEnv) (sqlDatum, error) {
			x, err := a(e)
			if err != nil {
				return x, err
			}
			y, err := b(e)
			if err != nil {
				return y, err
			}
			return arithmetic(op, x, y, line)
		}
	}
	return left, err
}

// arithmetic joins two values; texts by + alone.
func arithmetic(op byte, x, y sqlDatum, line int32) (sqlDatum, error) {
	if op == '+' && (x.t.isText() || x.t.isChar()) && (y.t.isText() || y.t.isChar()) {
		if x.null || y.null {
			return sqlNull(typeText), nil
		}
		d := sqlText(x.string() + y.string())
		if x.t.isMax() || y.t.isMax() {
			d.t = typeMaxText
		} else if d.t.isMax() {
			d.t, d.data = typeText, d.data[:8000]
		}
		return d, nil
	}
	if op == '+' && x.t.isBin() && y.t.isBin() {
		return sqlDatum{t: typeMaxBin, data: append(bytes.Clone(x.data), y.data...)}, nil
	}
	if x.null || y.null {
		return sqlNull(typeInt), nil
	}
	if x.fractional() || y.fractional() {
		return fractions(op, x, y, line)
	}
	a, okA := x.integer()
	b, okB := y.integer()
	if !okA || !okB {
		return sqlDatum{}, sqlFailure{number: 8117, state: 1, class: 16, line: line, text: "Operand data type is invalid for this operator."}
	}
	switch {
	case op == '+':
		a += b
	case op == '-':
		a -= b
	case op == '*':
		a *= b
	case b == 0:
		return sqlDatum{}, sqlFailure{number: 8134, state: 1, class: 16, line: line, text: "Divide by zero error encountered."}
	case op == '/':
		a /= b
	default:
		a %= b
	}
	if x.t == typeBigInt || y.t == typeBigInt {
		return sqlBigInt(a), nil
	}
	return sqlInt(a), nil
}

func (d sqlDatum) fractional() bool {
	return d.isDecimal() || d.t.id() == tyFltN || d.t.id() == tyFlt8 || d.t.id() == tyFlt4
}

// fractions is arithmetic on floats, which decimals become here.
func fractions(op byte, x, y sqlDatum, line int32) (sqlDatum, error) {
	a, okA := x.float()
	b, okB := y.float()
	switch {
	case !okA || !okB || op == '%':
		return sqlDatum{}, sqlFailure{number: 8117, state: 1, class: 16, line: line, text: "Operand data type is invalid for this operator."}
	case op == '+':
		a += b
	case op == '-':
		a -= b
	case op == '*':
		a *= b
	case b == 0:
		return sqlDatum{}, sqlFailure{number: 8134, state: 1, class: 16, line: line, text: "Divide by zero error encountered."}
	default:
		a /= b
	}
	return floatOf(a, typeFloat), nil
}

func constant(d sqlDatum) sqlExpr { return func(*sqlEnv) (sqlDatum, error) { return d, nil } }

// term reads a literal, a variable, a column, a call or a bracket.
func (p *sqlParser) term() (sqlExpr, error) {
	x := p.peek()
	switch x.kind {
	case lexNumber, lexString, lexUnicode, lexBinary:
		p.take()
		d, err := literal(x)
		return constant(d), err
	case lexVar:
		p.take()
		return variable(x), nil
	case lexSign:
		switch {
		case p.accept("-"):
			inner, err := p.term()
			return func(e *sqlEnv) (sqlDatum, error) {
				d, err := inner(e)
				if err != nil {
					return d, err
				}
				return arithmetic('-', sqlInt(0), d, x.line)
			}, err
		case p.accept("("):
			inner, err := p.condition()
			if err != nil {
				return nil, err
			}
			return inner, p.expect(")")
		}
	case lexWord:
		switch {
		case p.accept("null"):
			return constant(sqlNull(typeInt)), nil
		case p.ahead(1).is("("):
			return p.call()
		}
		return p.column()
	case lexName:
		return p.column()
	}
	return nil, p.near()
}

func (p *sqlParser) column() (sqlExpr, error) {
	line := p.peek().line
	name, err := p.name()
	if err != nil {
		return nil, err
	}
	return func(e *sqlEnv) (sqlDatum, error) {
		for i, c := range e.columns {
			if sameName(c.name, name) {
				return e.row[i], nil
			}
		}
		return sqlDatum{}, sqlFailure{number: 207, state: 1, class: 16, line: line, text: fmt.Sprintf("Invalid column name '%s'.", clip(name, 128))}
	}, nil
}

// literal is the value of a number, a string or bytes.
func literal(x sqlLexeme) (sqlDatum, error) {
	switch x.kind {
	case lexUnicode:
		data := textUTF16(x.text)
		if len(data) > 8000 {
			return sqlDatum{t: typeMaxText, data: data}, nil
		}
		return sqlDatum{t: sized(tyNVarChar, max(len(data), 2)), data: data}, nil
	case lexString:
		data := []byte(x.text)
		if len(data) > 8000 {
			return sqlDatum{t: typeMaxChar, data: data}, nil
		}
		return sqlDatum{t: sized(tyVarChar, max(len(data), 1)), data: data}, nil
	case lexBinary:
		data, err := hex.DecodeString(strings.Repeat("0", len(x.text)%2) + x.text)
		if err != nil || len(data) > 8000 {
			return sqlDatum{t: typeMaxBin, data: data}, err
		}
		return sqlDatum{t: sized(tyVarBin, max(len(data), 1)), data: data}, nil
	}
	if whole, fraction, point := strings.Cut(x.text, "."); point {
		return decimalLiteral(whole+fraction, len(fraction), x.line)
	}
	n, err := strconv.ParseInt(x.text, 10, 64)
	if err != nil {
		return decimalLiteral(x.text, 0, x.line)
	}
	return sqlInt(n), nil
}

// variable is @x of the batch, or @@x of the session.
func variable(x sqlLexeme) sqlExpr {
	name := strings.ToLower(x.text)
	if strings.HasPrefix(name, "@@") {
		return global(name, x.line)
	}
	return func(e *sqlEnv) (sqlDatum, error) {
		if d, ok := e.vars[name]; ok {
			return d, nil
		}
		return sqlDatum{}, sqlFailure{number: 137, state: 2, class: 15, line: x.line, text: fmt.Sprintf("Must declare the scalar variable %q.", clip(x.text, 128))}
	}
}

const sqlVersionText = "Microsoft SQL Azure (RTM) - 12.0.2000.8 \n\tNov 25 2026 00:00:00 \n\tthe sandbox of an authenticating gateway\n"

// global is the value of @@x.
func global(name string, line int32) sqlExpr {
	return func(e *sqlEnv) (sqlDatum, error) {
		s := e.request.s
		switch name {
		case "@@version":
			return sqlText(sqlVersionText), nil
		case "@@spid":
			return sqlInt(int64(s.spid)), nil
		case "@@trancount":
			s.mu.Lock()
			defer s.mu.Unlock()
			return sqlInt(int64(s.tran.depth)), nil
		case "@@rowcount":
			return sqlInt(e.count), nil
		case "@@error", "@@options", "@@lock_timeout", "@@nestlevel":
			return sqlInt(0), nil
		case "@@max_precision":
			return sqlInt(38), nil
		case "@@servername":
			return sqlText(sqlServerName), nil
		case "@@language":
			return sqlText("us_english"), nil
		case "@@identity":
			return sqlNull(sqlType([]byte{tyNumericN, 17, 38, 0})), nil
		}
		return sqlDatum{}, sqlFailure{number: 137, state: 2, class: 15, line: line, text: fmt.Sprintf("Must declare the scalar variable %q.", clip(name, 128))}
	}
}
