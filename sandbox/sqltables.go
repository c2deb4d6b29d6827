package sandbox

import (
	"fmt"
	"strings"
	"sync"
)

// maxSQLTable bounds the bytes that one table holds, maxSQLTables their number.
// What is loaded beyond is counted, no more.
const (
	maxSQLTable  = 16 << 20
	maxSQLTables = 1000
)

// sqlColumn is a column of a table or a result.
type sqlColumn struct {
	name string
	t    sqlType
}

// sqlTable is a small table. Rows are never changed in place, so that a copy of
// the struct is a snapshot.
type sqlTable struct {
	columns []sqlColumn
	rows    [][]sqlDatum
	extra   int64 // rows that were counted but not held
	bytes   int
}

// add takes a row, or counts it if there is no room.
func (t *sqlTable) add(row []sqlDatum) {
	n := 0
	for _, d := range row {
		n += len(d.data) + 64
	}
	if t.bytes+n > maxSQLTable {
		t.extra++
		return
	}
	t.bytes += n
	t.rows = append(t.rows, row)
}

// sqlTables are the tables of a session or of the server.
type sqlTables struct {
	mu     sync.Mutex // guards byName and the tables in it
	byName map[string]*sqlTable
}

func newSQLTables() *sqlTables { return &sqlTables{byName: map[string]*sqlTable{}} }

// snapshot returns a table as it is now, nil if there is none.
func (t *sqlTables) snapshot(name string) *sqlTable {
	t.mu.Lock()
	defer t.mu.Unlock()
	if found, ok := t.byName[name]; ok {
		c := *found
		c.rows = c.rows[:len(c.rows):len(c.rows)]
		return &c
	}
	return nil
}

// put makes a table what it was, or is to be; nil takes it away. It reports
// whether there was room.
func (t *sqlTables) put(name string, table *sqlTable) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if table == nil {
		delete(t.byName, name)
		return true
	}
	if _, known := t.byName[name]; !known && len(t.byName) >= maxSQLTables {
		return false
	}
	t.byName[name] = table
	return true
}

// sqlPlace is a table's name and where it lives.
type sqlPlace struct {
	in   *sqlTables
	name string
}

// place finds where a table of that name lives: with a # in the session.
func (s *sqlSession) place(name string) sqlPlace {
	name = strings.ToLower(name)
	if strings.HasPrefix(name, "#") {
		s.mu.Lock()
		defer s.mu.Unlock()
		return sqlPlace{s.temp, name}
	}
	return sqlPlace{s.srv.tables, name}
}

// look returns a table as it is now, or error 208.
func (s *sqlSession) look(name string, line int32) (*sqlTable, error) {
	p := s.place(name)
	if t := p.in.snapshot(p.name); t != nil {
		return t, nil
	}
	return nil, sqlFailure{number: 208, state: 0, class: 16, line: line, text: fmt.Sprintf("Invalid object name '%s'.", clip(name, 128))}
}

// change runs f on a table and keeps what the transaction needs to undo it.
func (s *sqlSession) change(name string, line int32, f func(*sqlTable) error) error {
	p := s.place(name)
	s.mu.Lock()
	s.tran.remember(p)
	s.mu.Unlock()
	p.in.mu.Lock()
	defer p.in.mu.Unlock()
	t, ok := p.in.byName[p.name]
	if !ok {
		return sqlFailure{number: 208, state: 0, class: 16, line: line, text: fmt.Sprintf("Invalid object name '%s'.", clip(name, 128))}
	}
	return f(t)
}

// create makes a table.
func (s *sqlSession) create(name string, columns []sqlColumn, line int32) error {
	p := s.place(name)
	if p.in.snapshot(p.name) != nil {
		return sqlFailure{number: 2714, state: 6, class: 16, line: line, text: fmt.Sprintf("There is already an object named '%s' in the database.", clip(name, 128))}
	}
	s.mu.Lock()
	s.tran.remember(p)
	s.mu.Unlock()
	if !p.in.put(p.name, &sqlTable{columns: columns}) {
		return sqlFailure{number: 1105, state: 2, class: 17, line: line, text: "Could not allocate space for another table."}
	}
	return nil
}

// drop takes a table away.
func (s *sqlSession) drop(name string, ifExists bool, line int32) error {
	p := s.place(name)
	if p.in.snapshot(p.name) == nil {
		if ifExists {
			return nil
		}
		return sqlFailure{number: 3701, state: 5, class: 11, line: line, text: fmt.Sprintf("Cannot drop the table '%s', because it does not exist or you do not have permission.", clip(name, 128))}
	}
	s.mu.Lock()
	s.tran.remember(p)
	s.mu.Unlock()
	p.in.put(p.name, nil)
	return nil
}
