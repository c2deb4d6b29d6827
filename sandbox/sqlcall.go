package sandbox

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
)

// call reads a function with its arguments.
func (p *sqlParser) call() (sqlExpr, error) {
	if err := p.nest(); err != nil {
		return nil, err
	}
	defer func() { p.depth-- }()
	x := p.take()
	name := strings.ToLower(x.text)
	p.take() // (
	switch name {
	case "cast":
		inner, err := p.expr()
		if err != nil {
			return nil, err
		}
		if err := p.expect("as"); err != nil {
			return nil, err
		}
		t, err := p.typeName()
		if err != nil {
			return nil, err
		}
		return converted(inner, t, x.line), p.expect(")")
	case "convert":
		t, err := p.typeName()
		if err != nil {
			return nil, err
		}
		if err := p.expect(","); err != nil {
			return nil, err
		}
		inner, err := p.expr()
		if err != nil {
			return nil, err
		}
		return converted(inner, t, x.line), p.expect(")")
	}
	args, err := p.arguments()
	if err != nil {
		return nil, err
	}
	return function(name, args, x.line)
}

// arguments reads up to the closing bracket.
func (p *sqlParser) arguments() ([]sqlExpr, error) {
	var args []sqlExpr
	if p.accept(")") {
		return nil, nil
	}
	for {
		a, err := p.expr()
		if err != nil {
			return nil, err
		}
		args = append(args, a)
		if !p.accept(",") {
			return args, p.expect(")")
		}
	}
}

func converted(inner sqlExpr, t sqlType, line int32) sqlExpr {
	return func(e *sqlEnv) (sqlDatum, error) {
		d, err := inner(e)
		if err != nil {
			return d, err
		}
		return convertSQL(d, t, line)
	}
}

// function is a call of the functions that this server has.
func function(name string, args []sqlExpr, line int32) (sqlExpr, error) {
	wrong := sqlFailure{number: 174, state: 1, class: 15, line: line, text: fmt.Sprintf("The %s function requires another number of arguments.", clip(name, 30))}
	if f := sessionFunction(name); f != nil {
		return f, nil
	}
	f, count := valueFunction(name)
	switch {
	case f == nil:
		return nil, sqlFailure{number: 195, state: 10, class: 15, line: line, text: fmt.Sprintf("'%s' is not a recognized built-in function name.", clip(name, 128))}
	case len(args) != count:
		return nil, wrong
	}
	return func(e *sqlEnv) (sqlDatum, error) {
		values := make([]sqlDatum, len(args))
		for i, a := range args {
			var err error
			if values[i], err = a(e); err != nil {
				return sqlDatum{}, err
			}
		}
		return f(values), nil
	}, nil
}

// sessionFunction is one that tells about the session, nil for others.
func sessionFunction(name string) sqlExpr {
	name128 := func(f func(s *sqlSession) string) sqlExpr {
		return func(e *sqlEnv) (sqlDatum, error) {
			return sqlDatum{t: typeName, data: textUTF16(f(e.request.s))}, nil
		}
	}
	switch name {
	case "suser_sname", "original_login", "suser_name", "system_user":
		return name128(func(s *sqlSession) string { return s.user.login() })
	case "user_name", "session_user", "current_user":
		return name128(func(s *sqlSession) string { return s.user.name })
	case "db_name":
		return name128(func(s *sqlSession) string {
			s.mu.Lock()
			defer s.mu.Unlock()
			return s.database
		})
	case "app_name":
		return name128(func(s *sqlSession) string { return s.app })
	case "host_name":
		return name128(func(s *sqlSession) string { return s.host })
	case "schema_name":
		return name128(func(*sqlSession) string { return "dbo" })
	case "xact_state":
		return func(e *sqlEnv) (sqlDatum, error) {
			e.request.s.mu.Lock()
			defer e.request.s.mu.Unlock()
			return sqlInt(int64(min(e.request.s.tran.depth, 1))), nil
		}
	case "scope_identity":
		return constant(sqlNull(sqlType([]byte{tyNumericN, 17, 38, 0})))
	}
	return nil
}

// valueFunction is one of its arguments alone, and how many it takes.
func valueFunction(name string) (func(a []sqlDatum) sqlDatum, int) {
	switch name {
	case "len":
		return func(a []sqlDatum) sqlDatum { return textLength(a[0]) }, 1
	case "datalength":
		return func(a []sqlDatum) sqlDatum {
			if a[0].null {
				return sqlNull(typeInt)
			}
			return sqlInt(int64(len(a[0].data)))
		}, 1
	case "upper":
		return func(a []sqlDatum) sqlDatum { return mapText(a[0], strings.ToUpper) }, 1
	case "lower":
		return func(a []sqlDatum) sqlDatum { return mapText(a[0], strings.ToLower) }, 1
	case "isnull", "coalesce":
		return func(a []sqlDatum) sqlDatum {
			if a[0].null {
				return a[1]
			}
			return a[0]
		}, 2
	case "replicate":
		return replicate, 2
	}
	return nil, 0
}

func textLength(d sqlDatum) sqlDatum {
	switch {
	case d.null:
		return sqlNull(typeInt)
	case d.t.isText():
		n := len(d.data) / 2
		for n > 0 && d.data[2*n-2] == ' ' && d.data[2*n-1] == 0 {
			n--
		}
		return sqlInt(int64(n))
	case d.t.isChar():
		return sqlInt(int64(len(bytes.TrimRight(d.data, " "))))
	case d.t.isBin():
		return sqlInt(int64(len(d.data)))
	}
	return sqlInt(int64(len(d.string())))
}

func mapText(d sqlDatum, f func(string) string) sqlDatum {
	if d.null {
		return d
	}
	out := sqlText(f(d.string()))
	if d.t.isMax() {
		out.t = typeMaxText
	}
	return out
}

// replicate repeats a text; up to 8000 bytes unless the text is of a max type.
func replicate(a []sqlDatum) sqlDatum {
	n, ok := a[1].integer()
	if a[0].null || !ok || n < 0 {
		return sqlNull(typeText)
	}
	t, limit := a[0].t, maxSQLValue
	if !t.isMax() {
		limit = 8000
		t = sized(t.id(), 8000)
	}
	if len(a[0].data) == 0 {
		return a[0]
	}
	n = min(n, int64(limit/len(a[0].data)))
	return sqlDatum{t: t, data: bytes.Repeat(a[0].data, int(n))}
}

// typeName reads the name of a type, with its length or scale.
func (p *sqlParser) typeName() (sqlType, error) {
	line := p.peek().line
	name, err := p.name()
	if err != nil {
		return "", err
	}
	var sizes []int
	if p.accept("(") {
		for {
			x := p.take()
			n, err := strconv.Atoi(x.text)
			switch {
			case x.is("max"):
				n = -1
			case err != nil:
				return "", p.near()
			}
			sizes = append(sizes, n)
			if !p.accept(",") {
				break
			}
		}
		if err := p.expect(")"); err != nil {
			return "", err
		}
	}
	t, ok := namedType(strings.ToLower(name), sizes)
	if !ok {
		return "", sqlFailure{number: 243, state: 1, class: 16, line: line, text: fmt.Sprintf("Type %s is not a defined system type.", clip(name, 128))}
	}
	return t, nil
}

// namedType is a type as T-SQL calls it.
func namedType(name string, sizes []int) (sqlType, bool) {
	first := func(fallback int) int {
		if len(sizes) > 0 {
			return sizes[0]
		}
		return fallback
	}
	byName := map[string]sqlType{
		"int": typeInt, "integer": typeInt, "bigint": typeBigInt, "smallint": typeSmallInt, "tinyint": typeTinyInt, "bit": typeBit,
		"float": typeFloat, "real": typeReal, "uniqueidentifier": typeGUID, "sysname": typeName, "date": "\x28",
		"datetime": "\x6f\x08", "smalldatetime": "\x6f\x04", "money": "\x6e\x08", "smallmoney": "\x6e\x04",
		"text": typeMaxChar, "ntext": typeMaxText, "image": typeMaxBin,
	}
	if t, ok := byName[name]; ok {
		return t, true
	}
	n := first(1)
	if n > 8000 {
		return "", false
	}
	switch name {
	case "nvarchar", "nchar":
		if n > 0 {
			n = min(2*n, 8000)
		}
		return sized(map[string]byte{"nvarchar": tyNVarChar, "nchar": tyNChar}[name], n), true
	case "varchar", "char":
		return sized(map[string]byte{"varchar": tyVarChar, "char": tyChar}[name], n), true
	case "varbinary", "binary":
		return sized(map[string]byte{"varbinary": tyVarBin, "binary": tyBinary}[name], n), true
	case "decimal", "numeric":
		scale := 0
		if len(sizes) > 1 {
			scale = sizes[1]
		}
		precision := first(18)
		if precision < 1 || precision > 38 || scale < 0 || scale > precision {
			return "", false
		}
		return sqlType([]byte{tyDecimalN, 17, byte(precision), byte(scale)}), true
	case "time", "datetime2", "datetimeoffset":
		id := map[string]byte{"time": tyTimeN, "datetime2": tyDateTime2N, "datetimeoffset": tyDateTimeOffsetN}[name]
		scale := first(7)
		return sqlType([]byte{id, byte(scale)}), scale >= 0 && scale <= 7
	}
	return "", false
}
