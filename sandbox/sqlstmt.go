package sandbox

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// A sqlStatement runs within a batch.
type sqlStatement func(e *sqlEnv) error

// starters are the words that statements begin with; an option of SET ends
// before one.
func starters() []string {
	return []string{
		"select", "insert", "delete", "update", "create", "drop", "truncate", "begin", "commit", "rollback", "save", "use", "set",
		"print", "raiserror", "throw", "waitfor", "if", "declare", "exec", "execute",
	}
}

// keyword reports whether word cannot be an alias.
func keyword(word string) bool {
	w := strings.ToLower(word)
	return slices.Contains(starters(), w) || slices.Contains([]string{
		"from", "where", "order", "and", "or", "is", "as", "with", "end", "else", "values", "go", "union", "group", "into", "asc", "desc", "on",
	}, w)
}

// parseSQL reads a batch. A syntax error anywhere in it stops all of it, as in
// SQL Server.
// What it knows is listed at [SQL].
func parseSQL(text string) ([]sqlStatement, error) {
	all, err := lexSQL(text)
	if err != nil {
		return nil, err
	}
	p := &sqlParser{all: all}
	var statements []sqlStatement
	for {
		for p.accept(";") {
			continue
		}
		if p.peek().kind == lexEnd {
			return statements, nil
		}
		s, err := p.statement()
		if err != nil {
			return nil, err
		}
		statements = append(statements, s)
	}
}

// statement reads one statement.
func (p *sqlParser) statement() (sqlStatement, error) {
	if err := p.nest(); err != nil {
		return nil, err
	}
	defer func() { p.depth-- }()
	x := p.peek()
	read := map[string]func() (sqlStatement, error){
		"select": p.selectStatement, "insert": p.insertStatement, "delete": p.deleteStatement, "update": p.updateStatement,
		"create": p.createStatement, "drop": p.dropStatement, "truncate": p.truncateStatement, "begin": p.beginStatement,
		"commit": p.commitStatement, "rollback": p.rollbackStatement, "save": p.saveStatement, "use": p.useStatement,
		"set": p.setStatement, "print": p.printStatement, "raiserror": p.raiseStatement, "throw": p.throwStatement,
		"waitfor": p.waitStatement, "if": p.ifStatement, "declare": p.declareStatement, "exec": p.execStatement, "execute": p.execStatement,
	}[strings.ToLower(x.text)]
	switch {
	case x.kind != lexWord:
		return nil, p.near()
	case read != nil:
		p.take()
		return read()
	case slices.Contains([]string{"alter", "grant", "revoke", "deny", "merge", "dbcc", "backup", "restore", "kill", "while", "with", "bulk", "open", "fetch", "close"}, strings.ToLower(x.text)):
		return nil, sqlFailure{number: 40510, state: 1, class: 15, line: x.line, text: fmt.Sprintf("Statement '%s' is not supported in this version of SQL Server.", strings.ToUpper(x.text))}
	case p.ahead(1).kind == lexEnd || p.ahead(1).kind == lexVar || p.ahead(1).kind == lexUnicode || p.ahead(1).kind == lexString:
		return p.execStatement() // a procedure may be called without EXEC
	}
	return nil, p.near()
}

func (p *sqlParser) useStatement() (sqlStatement, error) {
	line := p.peek().line
	name, err := p.name()
	return func(e *sqlEnv) error {
		s := e.request.s
		if !s.srv.hasDatabase(name) {
			return sqlFailure{number: 911, state: 1, class: 16, line: line, text: fmt.Sprintf("Database '%s' does not exist. Make sure that the name is entered correctly.", clip(name, 128))}
		}
		s.mu.Lock()
		before := s.database
		s.database = name
		s.mu.Unlock()
		e.request.token(envText(envDatabase, name, before))
		e.request.token(sqlError{number: 5701, state: 2, text: "Changed database context to '" + name + "'.", line: line}.message(tokInfo))
		e.request.done(0, 0xe3, 0)
		return nil
	}, err
}

// setStatement is SET @x = … or SET with an option, of which FMTONLY alone
// does something.
func (p *sqlParser) setStatement() (sqlStatement, error) {
	if x := p.peek(); x.kind == lexVar && p.ahead(1).is("=") {
		p.pos += 2
		value, err := p.expr()
		return assignment(strings.ToLower(x.text), value, x.line), err
	}
	if p.accept("fmtonly") {
		on := p.take()
		if !on.is("on") && !on.is("off") {
			return nil, p.near()
		}
		return func(e *sqlEnv) error {
			e.request.s.mu.Lock()
			e.request.s.fmtOnly = on.is("on")
			e.request.s.mu.Unlock()
			e.request.done(0, 0xf9, 0)
			return nil
		}, nil
	}
	if p.peek().kind != lexWord {
		return nil, p.near()
	}
	first := true
	for x := p.peek(); x.kind != lexEnd && !x.is(";") && (first || !slices.Contains(starters(), strings.ToLower(x.text))) && !x.is("end"); x = p.peek() {
		p.take()
		first = false
	}
	return func(e *sqlEnv) error {
		e.request.done(0, 0xf9, 0)
		return nil
	}, nil
}

func assignment(name string, value sqlExpr, line int32) sqlStatement {
	return func(e *sqlEnv) error {
		old, ok := e.vars[name]
		if !ok {
			return sqlFailure{number: 137, state: 1, class: 15, line: line, text: fmt.Sprintf("Must declare the scalar variable %q.", clip(name, 128))}
		}
		d, err := value(e)
		if err != nil {
			return err
		}
		if d, err = convertSQL(d, old.t, line); err == nil {
			e.vars[name] = d
		}
		return err
	}
}

func (p *sqlParser) declareStatement() (sqlStatement, error) {
	var all []sqlStatement
	for {
		x := p.take()
		if x.kind != lexVar {
			return nil, p.near()
		}
		_ = p.accept("as")
		t, err := p.typeName()
		if err != nil {
			return nil, err
		}
		name := strings.ToLower(x.text)
		all = append(all, func(e *sqlEnv) error {
			e.vars[name] = sqlNull(t)
			return nil
		})
		if p.accept("=") {
			value, err := p.expr()
			if err != nil {
				return nil, err
			}
			all = append(all, assignment(name, value, x.line))
		}
		if !p.accept(",") {
			return inTurn(all), nil
		}
	}
}

// inTurn runs statements until one fails or the request is over.
func inTurn(all []sqlStatement) sqlStatement {
	return func(e *sqlEnv) error {
		for _, run := range all {
			if e.request.stopped() || e.request.failed {
				return nil
			}
			if err := run(e); err != nil {
				return err
			}
		}
		return nil
	}
}

func (p *sqlParser) ifStatement() (sqlStatement, error) {
	test, err := p.condition()
	if err != nil {
		return nil, err
	}
	then, err := p.statement()
	if err != nil {
		return nil, err
	}
	for p.peek().is(";") && p.ahead(1).is("else") {
		p.take()
	}
	otherwise := sqlStatement(func(*sqlEnv) error { return nil })
	if p.accept("else") {
		if otherwise, err = p.statement(); err != nil {
			return nil, err
		}
	}
	return func(e *sqlEnv) error {
		d, err := test(e)
		switch {
		case err != nil:
			return err
		case d.truth():
			return then(e)
		}
		return otherwise(e)
	}, nil
}

func (p *sqlParser) printStatement() (sqlStatement, error) {
	line := p.peek().line
	value, err := p.expr()
	return func(e *sqlEnv) error {
		d, err := value(e)
		if err != nil {
			return err
		}
		e.request.token(sqlError{state: 1, text: d.string(), line: line}.message(tokInfo))
		e.request.done(0, 0xf7, 0)
		return nil
	}, err
}

// raiseStatement is RAISERROR(text, severity, state[, …]) [WITH …]. The batch
// goes on after it.
func (p *sqlParser) raiseStatement() (sqlStatement, error) {
	line := p.peek().line
	if err := p.expect("("); err != nil {
		return nil, err
	}
	args, err := p.arguments()
	if err != nil || len(args) < 3 {
		return nil, p.near()
	}
	if p.accept("with") {
		for p.take(); p.accept(","); p.take() {
			continue
		}
	}
	return func(e *sqlEnv) error {
		var v [3]sqlDatum
		for i := range v {
			if v[i], err = args[i](e); err != nil {
				return err
			}
		}
		class, _ := v[1].integer()
		state, _ := v[2].integer()
		raised := sqlError{number: 50000, state: byte(state), class: byte(min(max(class, 0), 25)), text: v[0].string(), line: line}
		if raised.class <= 10 {
			e.request.token(raised.message(tokInfo))
			e.request.done(0, 0, 0)
			return nil
		}
		e.request.fail(sqlFailure(raised), 0)
		e.request.failed = raised.class >= 20
		return nil
	}, nil
}

// throwStatement is THROW number, text, state. It ends the batch.
func (p *sqlParser) throwStatement() (sqlStatement, error) {
	line := p.peek().line
	var args [3]sqlExpr
	for i := range args {
		var err error
		if i > 0 && !p.accept(",") {
			return nil, p.near()
		}
		if args[i], err = p.expr(); err != nil {
			return nil, err
		}
	}
	return func(e *sqlEnv) error {
		var v [3]sqlDatum
		for i := range v {
			var err error
			if v[i], err = args[i](e); err != nil {
				return err
			}
		}
		number, _ := v[0].integer()
		state, _ := v[2].integer()
		return sqlFailure{number: int32(number), state: byte(state), class: 16, line: line, text: v[1].string()}
	}, nil
}

// waitStatement is WAITFOR DELAY 'hh:mm:ss[.fff]', which an attention ends.
func (p *sqlParser) waitStatement() (sqlStatement, error) {
	if err := p.expect("delay"); err != nil {
		return nil, err
	}
	line := p.peek().line
	value, err := p.term()
	return func(e *sqlEnv) error {
		d, err := value(e)
		if err != nil {
			return err
		}
		var h, m int
		var s float64
		if _, err := fmt.Sscanf(d.string(), "%d:%d:%f", &h, &m, &s); err != nil || h < 0 || h > 23 || m < 0 || m > 59 || s < 0 || s >= 60 {
			return sqlFailure{number: 148, state: 1, class: 15, line: line, text: fmt.Sprintf("Incorrect time syntax in time string '%s' used with WAITFOR.", clip(d.string(), 40))}
		}
		r := e.request
		t := time.NewTimer(time.Duration(h)*time.Hour + time.Duration(m)*time.Minute + time.Duration(s*float64(time.Second)))
		defer t.Stop()
		select {
		case <-t.C:
			r.done(0, 0xd3, 0)
		case <-r.lane.cancelled():
		case <-r.lane.over:
		case <-r.s.srv.closing:
		}
		return nil
	}, err
}
