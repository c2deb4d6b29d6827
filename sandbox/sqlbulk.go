package sandbox

import (
	"errors"
	"fmt"
	"io"
	"strings"
)

// sqlLoad is what INSERT BULK has announced.
type sqlLoad struct {
	table   string
	columns []sqlColumn
}

// bulkStatement is INSERT BULK t (name type, …) [WITH (…)].
func (p *sqlParser) bulkStatement() (sqlStatement, error) {
	line := p.peek().line
	name, err := p.name()
	if err != nil {
		return nil, err
	}
	columns, err := p.columnList()
	if err != nil {
		return nil, err
	}
	if p.accept("with") {
		depth := 0
		for first := true; first || depth > 0; first = false {
			switch x := p.take(); {
			case x.is("("):
				depth++
			case x.is(")"):
				depth--
			case x.kind == lexEnd:
				return nil, p.near()
			}
		}
	}
	return func(e *sqlEnv) error {
		s := e.request.s
		t, err := s.look(name, line)
		if err != nil {
			return err
		}
		var names []string
		for _, c := range columns {
			names = append(names, c.name)
		}
		if _, err := t.positions(names, line); err != nil {
			return err
		}
		s.mu.Lock()
		s.loading = &sqlLoad{table: name, columns: columns}
		s.mu.Unlock()
		e.request.done(0, 0xf0, 0)
		return nil
	}, nil
}

// bulk takes a bulk load (MS-TDS 2.2.6.1), row by row as it comes.
func (s *sqlSession) bulk(r *sqlRequest, m *sqlMessage) error {
	s.mu.Lock()
	load := s.loading
	s.loading = nil
	s.mu.Unlock()
	if load == nil {
		s.srv.violate("2.2.6.1: a bulk load that no INSERT BULK has announced")
		return errSQLOver
	}
	in := &sqlReader{r: m}
	count, err := s.loadRows(in, load)
	m.discard()
	switch {
	case m.broken != nil:
		return m.broken
	case m.ignored:
		r.done(doneError, 0, 0)
		return nil
	case in.err != nil:
		s.srv.violate("2.2.6.1: a bulk load that cannot be read: %v", in.err)
		err = sqlFailure{number: 4804, state: 1, class: 16, line: 1, text: "While reading current row from host, a premature end-of-message was encountered."}
	}
	if err != nil {
		r.fail(err, 0xf0)
		return nil
	}
	r.done(doneCount, 0xf0, uint64(count))
	return nil
}

// loadRows reads COLMETADATA and the rows.
func (s *sqlSession) loadRows(in *sqlReader, load *sqlLoad) (int64, error) {
	columns, err := s.loadColumns(in, load)
	if err != nil || in.err != nil {
		return 0, err
	}
	t, err := s.look(load.table, 1)
	if err != nil {
		return 0, err
	}
	var names []string
	for _, c := range load.columns {
		names = append(names, c.name)
	}
	at, err := t.positions(names, 1)
	if err != nil {
		return 0, err
	}
	var count int64
	for {
		switch token := in.u8(); {
		case errors.Is(in.err, io.EOF): // FreeTDS sends no DONE
			in.err = nil
			return count, nil
		case in.err != nil:
			return count, nil
		case token >= tokDone: // DONE, and the end
			// SqlClient's has a count of four bytes, as before TDS 7.2.
			if rest, err := io.ReadAll(io.LimitReader(in.r, 13)); err == nil && len(rest) != 8 && len(rest) != 12 {
				s.srv.violate("2.2.6.1: a bulk load whose DONE has %d bytes", len(rest))
			}
			return count, nil
		case token != tokRow:
			in.err = fmt.Errorf("%w: token %#02x in a bulk load", errSQLFraming, token)
			return count, nil
		}
		full := make([]sqlDatum, len(t.columns))
		for i, c := range t.columns {
			full[i] = sqlNull(c.t)
		}
		for i, c := range columns {
			d := in.datum(c.t, true)
			if in.err != nil {
				return count, nil
			}
			s.srv.counts.bulkBytes.Add(int64(len(d.data)))
			if full[at[i]], err = convertSQL(d, t.columns[at[i]].t, 1); err != nil {
				return count, err
			}
		}
		count++
		s.srv.counts.bulkRows.Add(1)
		if err := s.change(load.table, 1, func(t *sqlTable) error { t.add(full); return nil }); err != nil {
			return count, err
		}
	}
}

// loadColumns reads a bulk load's COLMETADATA.
func (s *sqlSession) loadColumns(in *sqlReader, load *sqlLoad) ([]sqlColumn, error) {
	if token := in.u8(); in.err == nil && token != tokColMetadata {
		in.err = fmt.Errorf("%w: a bulk load begins with token %#02x", errSQLFraming, token)
		return nil, nil
	}
	n := int(in.u16())
	if in.err == nil && n != len(load.columns) {
		in.err = fmt.Errorf("%w: a bulk load of %d columns, INSERT BULK announced %d", errSQLFraming, n, len(load.columns))
		return nil, nil
	}
	var columns []sqlColumn
	for range n {
		in.u32() // user type
		in.u16() // flags
		t := in.typeInfo()
		if in.err != nil {
			return nil, nil
		}
		switch t.id() {
		case tyText, tyNText, tyImage: // these have the table's name
			in.text(int(in.u16()))
		}
		columns = append(columns, sqlColumn{strings.ToLower(in.text(int(in.u8()))), t})
	}
	return columns, nil
}
