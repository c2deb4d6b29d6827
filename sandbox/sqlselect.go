package sandbox

import (
	"math"
	"slices"
	"strings"
)

// sqlItem is one of what SELECT asks for.
type sqlItem struct {
	all       bool // *
	name      string
	expr      sqlExpr
	into      string // @x = expr
	aggregate string // count, sum, min, max
}

// sqlRows are rows one by one; nil is the end.
type sqlRows func() []sqlDatum

// sqlSource opens what FROM names.
type sqlSource func(e *sqlEnv) (columns []sqlColumn, rows sqlRows, extra int64, err error)

// sqlQuery is a SELECT.
type sqlQuery struct {
	line   int32
	top    sqlExpr
	items  []sqlItem
	from   sqlSource // nil: one row without columns
	where  sqlExpr
	order  sqlExpr
	desc   bool
	groups bool // all items are aggregates
}

// selectStatement reads a SELECT, behind its keyword.
func (p *sqlParser) selectStatement() (sqlStatement, error) {
	q, err := p.query()
	if err != nil {
		return nil, err
	}
	return q.run, nil
}

func (p *sqlParser) query() (*sqlQuery, error) {
	q := &sqlQuery{line: p.peek().line}
	_ = p.accept("all")
	if p.accept("top") {
		var err error
		if p.accept("(") {
			if q.top, err = p.expr(); err == nil {
				err = p.expect(")")
			}
		} else {
			q.top, err = p.term()
		}
		if err != nil {
			return nil, err
		}
	}
	for {
		if err := p.item(q); err != nil {
			return nil, err
		}
		if !p.accept(",") {
			break
		}
	}
	for _, i := range q.items {
		if q.groups != (i.aggregate != "") {
			return nil, sqlFailure{number: 8120, state: 1, class: 16, line: q.line, text: "A column is invalid in the select list because it is not contained in an aggregate function."}
		}
	}
	return q, p.clauses(q)
}

// item reads one of the select list.
func (p *sqlParser) item(q *sqlQuery) error {
	i := sqlItem{}
	x := p.peek()
	switch {
	case p.accept("*"):
		q.items = append(q.items, sqlItem{all: true})
		return nil
	case x.kind == lexVar && p.ahead(1).is("="):
		i.into = strings.ToLower(p.take().text)
		p.take()
	case (x.kind == lexWord || x.kind == lexName) && p.ahead(1).is("="):
		i.name = p.take().text
		p.take()
	}
	x = p.peek()
	var err error
	if name := strings.ToLower(x.text); x.kind == lexWord && p.ahead(1).is("(") && slices.Contains([]string{"count", "count_big", "sum", "min", "max"}, name) {
		i.aggregate = name
		p.pos += 2
		if !p.accept("*") {
			if i.expr, err = p.expr(); err != nil {
				return err
			}
		}
		if err = p.expect(")"); err != nil {
			return err
		}
		q.groups = true
	} else {
		if i.expr, err = p.condition(); err != nil {
			return err
		}
		if (x.kind == lexWord || x.kind == lexName) && i.name == "" && p.all[p.pos-1] == x {
			i.name = x.text // a bare column
		}
	}
	if p.accept("as") || p.peek().kind == lexName || p.peek().kind == lexString || p.peek().kind == lexWord && !keyword(p.peek().text) {
		i.name = p.take().text
	}
	q.items = append(q.items, i)
	return nil
}

// clauses reads FROM, WHERE and ORDER BY.
func (p *sqlParser) clauses(q *sqlQuery) (err error) {
	if p.accept("from") {
		if q.from, err = p.source(); err != nil {
			return err
		}
		_ = p.accept("as")
		if x := p.peek(); x.kind == lexName || x.kind == lexWord && !keyword(x.text) {
			p.take()
		}
		if p.accept("with") { // hints
			for !p.accept(")") {
				if p.take().kind == lexEnd {
					return p.near()
				}
			}
		}
	}
	if p.accept("where") {
		if q.where, err = p.condition(); err != nil {
			return err
		}
	}
	if p.accept("order", "by") {
		if q.order, err = p.expr(); err != nil {
			return err
		}
		q.desc = p.accept("desc")
		_ = p.accept("asc")
	}
	return nil
}

// source reads numbers(ROWS[, WIDTH]) or the name of a table.
func (p *sqlParser) source() (sqlSource, error) {
	if p.peek().is("numbers") && p.ahead(1).is("(") {
		p.pos += 2
		args, err := p.arguments()
		if err != nil || len(args) < 1 || len(args) > 2 {
			return nil, p.near()
		}
		return numbers(args), nil
	}
	line := p.peek().line
	name, err := p.name()
	if err != nil {
		return nil, err
	}
	return func(e *sqlEnv) ([]sqlColumn, sqlRows, int64, error) {
		t, err := e.request.s.look(name, line)
		if err != nil {
			return nil, nil, 0, err
		}
		at := 0
		return t.columns, func() []sqlDatum {
			if at == len(t.rows) {
				return nil
			}
			at++
			return t.rows[at-1]
		}, t.extra, nil
	}, nil
}

// nothing is the source of a SELECT without FROM: one row without columns.
func nothing(*sqlEnv) ([]sqlColumn, sqlRows, int64, error) {
	row := []sqlDatum{}
	return nil, func() []sqlDatum {
		r := row
		row = nil
		return r
	}, 0, nil
}

// numbers is the table of n from 1 on, and with a width of pad, so many
// characters: rows are made as they are sent.
func numbers(args []sqlExpr) sqlSource {
	return func(e *sqlEnv) ([]sqlColumn, sqlRows, int64, error) {
		sizes := []int64{0, 0}
		for i, a := range args {
			d, err := a(e)
			if err != nil {
				return nil, nil, 0, err
			}
			sizes[i], _ = d.integer()
		}
		columns, pad := []sqlColumn{{"n", typeBigInt}}, sqlDatum{}
		if len(args) > 1 {
			width := int(max(min(sizes[1], 1<<20), 0))
			pad = sqlDatum{t: sized(tyNVarChar, 8000), data: textUTF16(strings.Repeat("x", width))}
			if width > 4000 {
				pad.t = typeMaxText
			}
			columns = append(columns, sqlColumn{"pad", pad.t})
		}
		n := int64(0)
		return columns, func() []sqlDatum {
			if n >= sizes[0] {
				return nil
			}
			n++
			if len(args) > 1 {
				return []sqlDatum{sqlBigInt(n), pad}
			}
			return []sqlDatum{sqlBigInt(n)}
		}, 0, nil
	}
}

// run answers a SELECT.
func (q *sqlQuery) run(e *sqlEnv) error {
	columns, rows, extra, err := q.open(e)
	if err != nil {
		return err
	}
	inner := &sqlEnv{request: e.request, vars: e.vars, columns: columns, count: e.count}
	if q.groups {
		if q.where != nil {
			extra = 0
		}
		return q.group(e, inner, rows, extra)
	}
	limit := int64(math.MaxInt64)
	if q.top != nil {
		d, err := q.top(e)
		if err != nil {
			return err
		}
		limit, _ = d.integer()
	}
	return q.stream(e, inner, rows, limit)
}

// open opens the source, filtered and in order.
func (q *sqlQuery) open(e *sqlEnv) ([]sqlColumn, sqlRows, int64, error) {
	from := q.from
	if from == nil {
		from = nothing
	}
	columns, rows, extra, err := from(e)
	if err != nil || (q.where == nil && q.order == nil) {
		return columns, rows, extra, err
	}
	inner := &sqlEnv{request: e.request, vars: e.vars, columns: columns}
	var failed error
	kept := rows
	if q.where != nil {
		kept = func() []sqlDatum {
			for row := rows(); row != nil && failed == nil && !e.request.stopped(); row = rows() {
				inner.row = row
				var d sqlDatum
				if d, failed = q.where(inner); d.truth() {
					return row
				}
			}
			return nil
		}
	}
	if q.order == nil {
		first := kept() // an error of WHERE shows at the first row
		return columns, func() []sqlDatum {
			row := first
			if row != nil {
				first = kept()
			}
			return row
		}, extra, failed
	}
	sorted, err := q.sorted(inner, kept)
	if failed != nil {
		err = failed
	}
	return columns, sorted, extra, err
}

// maxSorted bounds the rows that ORDER BY holds.
const maxSorted = 100_000

// sorted puts rows in order.
func (q *sqlQuery) sorted(inner *sqlEnv, rows sqlRows) (sqlRows, error) {
	type keyed struct {
		key sqlDatum
		row []sqlDatum
	}
	var all []keyed
	for row := rows(); row != nil; row = rows() {
		inner.row = row
		d, err := q.order(inner)
		if err != nil {
			return nil, err
		}
		if all = append(all, keyed{d, row}); len(all) > maxSorted {
			return nil, sqlFailure{number: 1105, state: 2, class: 17, line: q.line, text: "This server sorts no more than 100000 rows."}
		}
	}
	slices.SortStableFunc(all, func(a, b keyed) int {
		c := compareSQL(a.key, b.key)
		if q.desc {
			return -c
		}
		return c
	})
	return func() []sqlDatum {
		if len(all) == 0 {
			return nil
		}
		row := all[0].row
		all = all[1:]
		return row
	}, nil
}

// values evaluates the select list on the row at hand.
func (q *sqlQuery) values(e *sqlEnv) (names []string, values []sqlDatum, err error) {
	for _, i := range q.items {
		if i.all {
			for n, c := range e.columns {
				names, values = append(names, c.name), append(values, e.row[n])
			}
			continue
		}
		d, err := i.expr(e)
		if err != nil {
			return nil, nil, err
		}
		names, values = append(names, i.name), append(values, d)
	}
	return names, values, nil
}

// stream sends the result row by row.
func (q *sqlQuery) stream(e, inner *sqlEnv, rows sqlRows, limit int64) error {
	r := e.request
	var row []sqlDatum
	if limit > 0 && !r.formatOnly() {
		row = rows()
	}
	none := row == nil
	if inner.row = row; none { // the types alone count then
		for _, c := range inner.columns {
			inner.row = append(inner.row, sqlNull(c.t))
		}
	}
	names, values, err := q.values(inner)
	if err != nil {
		return err
	}
	if len(q.items) > 0 && q.items[0].into != "" {
		return q.assign(e, values, none)
	}
	columns := make([]sqlColumn, len(values))
	for i, d := range values {
		columns[i] = sqlColumn{names[i], d.t}
	}
	r.token(columnMetadata(columns))
	count := int64(0)
	for !none && !r.stopped() {
		r.row(columns, values)
		if count++; count >= limit {
			break
		}
		if inner.row = rows(); inner.row == nil {
			break
		}
		if _, values, err = q.values(inner); err != nil {
			return err
		}
	}
	e.count = count
	r.done(doneCount, 0xc1, uint64(count))
	return nil
}

// formatOnly reports whether results have no rows (SET FMTONLY ON).
func (r *sqlRequest) formatOnly() bool {
	r.s.mu.Lock()
	defer r.s.mu.Unlock()
	return r.s.fmtOnly
}
