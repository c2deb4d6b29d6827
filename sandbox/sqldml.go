package sandbox

import (
	"fmt"
	"slices"
	"strings"
)

func (p *sqlParser) createStatement() (sqlStatement, error) {
	if err := p.expect("table"); err != nil {
		return nil, err
	}
	line := p.peek().line
	name, err := p.name()
	if err != nil {
		return nil, err
	}
	columns, err := p.columnList()
	if err != nil {
		return nil, err
	}
	return func(e *sqlEnv) error {
		if err := e.request.s.create(name, columns, line); err != nil {
			return err
		}
		e.request.done(0, 0xc6, 0)
		return nil
	}, nil
}

// columnList reads (name type [NOT NULL …], …).
func (p *sqlParser) columnList() ([]sqlColumn, error) {
	if err := p.expect("("); err != nil {
		return nil, err
	}
	var columns []sqlColumn
	for {
		name, err := p.name()
		if err != nil {
			return nil, err
		}
		t, err := p.typeName()
		if err != nil {
			return nil, err
		}
		if columns = append(columns, sqlColumn{name, t}); len(columns) > 1024 {
			return nil, p.near()
		}
		for p.accept("not") || p.accept("null") || p.accept("primary") || p.accept("key") {
			continue // accepted, not enforced
		}
		if p.accept("collate") {
			p.take()
		}
		if !p.accept(",") {
			return columns, p.expect(")")
		}
	}
}

func (p *sqlParser) dropStatement() (sqlStatement, error) {
	if err := p.expect("table"); err != nil {
		return nil, err
	}
	ifExists := p.accept("if", "exists")
	line := p.peek().line
	name, err := p.name()
	return func(e *sqlEnv) error {
		if err := e.request.s.drop(name, ifExists, line); err != nil {
			return err
		}
		e.request.done(0, 0xc7, 0)
		return nil
	}, err
}

func (p *sqlParser) truncateStatement() (sqlStatement, error) {
	if err := p.expect("table"); err != nil {
		return nil, err
	}
	line := p.peek().line
	name, err := p.name()
	return func(e *sqlEnv) error {
		err := e.request.s.change(name, line, func(t *sqlTable) error {
			t.rows, t.extra, t.bytes = nil, 0, 0
			return nil
		})
		if err == nil {
			e.request.done(0, 0x146, 0)
		}
		return err
	}, err
}

// insertStatement is INSERT [INTO] t [(…)] VALUES (…), … or SELECT …, and
// INSERT BULK, which announces what comes as a bulk load.
func (p *sqlParser) insertStatement() (sqlStatement, error) {
	if p.peek().is("bulk") {
		p.take()
		return p.bulkStatement()
	}
	_ = p.accept("into")
	line := p.peek().line
	name, err := p.name()
	if err != nil {
		return nil, err
	}
	var into []string
	if p.accept("(") {
		for {
			column, err := p.name()
			if err != nil {
				return nil, err
			}
			into = append(into, column)
			if !p.accept(",") {
				break
			}
		}
		if err := p.expect(")"); err != nil {
			return nil, err
		}
	}
	rows, err := p.insertRows()
	if err != nil {
		return nil, err
	}
	return func(e *sqlEnv) error {
		values, err := rows(e)
		if err != nil {
			return err
		}
		return e.insert(name, into, values, line)
	}, nil
}

// insertRows reads VALUES or SELECT.
func (p *sqlParser) insertRows() (func(e *sqlEnv) ([][]sqlDatum, error), error) {
	if p.peek().is("select") {
		p.take()
		return p.insertSelect()
	}
	if err := p.expect("values"); err != nil {
		return nil, err
	}
	var rows [][]sqlExpr
	for {
		if err := p.expect("("); err != nil {
			return nil, err
		}
		row, err := p.arguments()
		if err != nil {
			return nil, err
		}
		rows = append(rows, row)
		if !p.accept(",") {
			break
		}
	}
	return func(e *sqlEnv) ([][]sqlDatum, error) {
		out := make([][]sqlDatum, len(rows))
		for i, row := range rows {
			for _, expr := range row {
				d, err := expr(e)
				if err != nil {
					return nil, err
				}
				out[i] = append(out[i], d)
			}
		}
		return out, nil
	}, nil
}

// insertSelect reads a SELECT whose rows are kept instead of sent.
func (p *sqlParser) insertSelect() (func(e *sqlEnv) ([][]sqlDatum, error), error) {
	q, err := p.query()
	if err != nil {
		return nil, err
	}
	return func(e *sqlEnv) ([][]sqlDatum, error) {
		columns, rows, _, err := q.open(e)
		if err != nil {
			return nil, err
		}
		inner := &sqlEnv{request: e.request, vars: e.vars, columns: columns}
		var out [][]sqlDatum
		for row := rows(); row != nil && !e.request.stopped(); row = rows() {
			inner.row = row
			_, values, err := q.values(inner)
			if err != nil {
				return nil, err
			}
			if out = append(out, values); len(out) > maxSorted {
				return nil, sqlFailure{number: 1105, state: 2, class: 17, line: q.line, text: "This server inserts no more than 100000 rows at once."}
			}
		}
		return out, nil
	}, nil
}

// insert adds rows to a table, in the order of its columns or of into.
func (e *sqlEnv) insert(name string, into []string, values [][]sqlDatum, line int32) error {
	err := e.request.s.change(name, line, func(t *sqlTable) error {
		at, err := t.positions(into, line)
		if err != nil {
			return err
		}
		var made [][]sqlDatum
		for _, row := range values {
			if len(row) != len(at) {
				return sqlFailure{number: 213, state: 1, class: 16, line: line, text: "Column name or number of supplied values does not match table definition."}
			}
			full := make([]sqlDatum, len(t.columns))
			for i, c := range t.columns {
				full[i] = sqlNull(c.t)
			}
			for i, d := range row {
				if full[at[i]], err = convertSQL(d, t.columns[at[i]].t, line); err != nil {
					return err
				}
			}
			made = append(made, full)
		}
		for _, row := range made {
			t.add(row)
		}
		return nil
	})
	if err != nil {
		return err
	}
	e.count = int64(len(values))
	e.request.done(doneCount, 0xc3, uint64(len(values)))
	return nil
}

// positions are the places of the columns in into; none means all in order.
func (t *sqlTable) positions(into []string, line int32) ([]int, error) {
	var at []int
	if into == nil {
		for i := range t.columns {
			at = append(at, i)
		}
		return at, nil
	}
	for _, name := range into {
		i := slices.IndexFunc(t.columns, func(c sqlColumn) bool { return sameName(c.name, name) })
		if i < 0 {
			return nil, sqlFailure{number: 207, state: 1, class: 16, line: line, text: fmt.Sprintf("Invalid column name '%s'.", clip(name, 128))}
		}
		at = append(at, i)
	}
	return at, nil
}

func (p *sqlParser) where() (sqlExpr, error) {
	if !p.accept("where") {
		return constant(sqlInt(1)), nil
	}
	return p.condition()
}

// rewrite makes each row that where picks what with returns, nil takes it away.
func (e *sqlEnv) rewrite(name string, line int32, where sqlExpr, with func(inner *sqlEnv, row []sqlDatum) ([]sqlDatum, error)) (count int64, err error) {
	err = e.request.s.change(name, line, func(t *sqlTable) error {
		inner := &sqlEnv{request: e.request, vars: e.vars, columns: t.columns}
		var kept [][]sqlDatum
		for _, row := range t.rows {
			inner.row = row
			d, err := where(inner)
			if err != nil {
				return err
			}
			if d.truth() {
				count++
				if row, err = with(inner, row); err != nil {
					return err
				}
			}
			if row != nil {
				kept = append(kept, row)
			}
		}
		t.rows = kept
		return nil
	})
	e.count = count
	return count, err
}

func (p *sqlParser) deleteStatement() (sqlStatement, error) {
	_ = p.accept("from")
	line := p.peek().line
	name, err := p.name()
	if err != nil {
		return nil, err
	}
	where, err := p.where()
	return func(e *sqlEnv) error {
		n, err := e.rewrite(name, line, where, func(*sqlEnv, []sqlDatum) ([]sqlDatum, error) { return nil, nil })
		if err == nil {
			e.request.done(doneCount, 0xc4, uint64(n))
		}
		return err
	}, err
}

// updateStatement is UPDATE t SET c = expr, … [WHERE …].
func (p *sqlParser) updateStatement() (sqlStatement, error) {
	line := p.peek().line
	name, err := p.name()
	if err != nil {
		return nil, err
	}
	if err := p.expect("set"); err != nil {
		return nil, err
	}
	values := map[string]sqlExpr{}
	for {
		column, err := p.name()
		if err != nil {
			return nil, err
		}
		if err := p.expect("="); err != nil {
			return nil, err
		}
		if values[strings.ToLower(column)], err = p.expr(); err != nil {
			return nil, err
		}
		if !p.accept(",") {
			break
		}
	}
	where, err := p.where()
	return func(e *sqlEnv) error {
		n, err := e.rewrite(name, line, where, func(inner *sqlEnv, row []sqlDatum) ([]sqlDatum, error) {
			next := slices.Clone(row)
			for i, c := range inner.columns {
				value, ok := values[strings.ToLower(c.name)]
				if !ok {
					continue
				}
				d, err := value(inner)
				if err != nil {
					return nil, err
				}
				if next[i], err = convertSQL(d, c.t, line); err != nil {
					return nil, err
				}
			}
			return next, nil
		})
		if err == nil {
			e.request.done(doneCount, 0xc5, uint64(n))
		}
		return err
	}, err
}

// beginStatement is BEGIN TRAN, or BEGIN … END.
func (p *sqlParser) beginStatement() (sqlStatement, error) {
	if !p.accept("tran") && !p.accept("transaction") {
		var all []sqlStatement
		for !p.accept("end") {
			if p.accept(";") {
				continue
			}
			s, err := p.statement()
			if err != nil {
				return nil, err
			}
			all = append(all, s)
		}
		return inTurn(all), nil
	}
	p.tranName()
	return func(e *sqlEnv) error {
		if env := e.request.s.begin(); env != nil {
			e.request.token(env)
		}
		e.request.done(0, 0xd4, 0)
		return nil
	}, nil
}

// tranName takes the name of a transaction or savepoint, "" if there is none.
func (p *sqlParser) tranName() string {
	if x := p.peek(); x.kind == lexName || x.kind == lexWord && !keyword(x.text) {
		p.take()
		return x.text
	}
	return ""
}

func (p *sqlParser) commitStatement() (sqlStatement, error) {
	line := p.peek().line
	if p.accept("tran") || p.accept("transaction") || p.accept("work") {
		p.tranName()
	}
	return func(e *sqlEnv) error {
		env, err := e.request.s.commit(line)
		if env != nil {
			e.request.token(env)
		}
		if err == nil {
			e.request.done(0, 0xd5, 0)
		}
		return err
	}, nil
}

func (p *sqlParser) rollbackStatement() (sqlStatement, error) {
	line, name := p.peek().line, ""
	if p.accept("tran") || p.accept("transaction") || p.accept("work") {
		name = p.tranName()
	}
	return func(e *sqlEnv) error {
		env, err := e.request.s.rollbackTo(name, line)
		if env != nil {
			e.request.token(env)
		}
		if err == nil {
			e.request.done(0, 0xd2, 0)
		}
		return err
	}, nil
}

func (p *sqlParser) saveStatement() (sqlStatement, error) {
	if !p.accept("tran") && !p.accept("transaction") {
		return nil, p.near()
	}
	line, name := p.peek().line, p.tranName()
	if name == "" {
		return nil, p.near()
	}
	return func(e *sqlEnv) error {
		if err := e.request.s.save(name, line); err != nil {
			return err
		}
		e.request.done(0, 0xd6, 0)
		return nil
	}, nil
}
