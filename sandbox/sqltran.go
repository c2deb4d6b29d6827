package sandbox

import (
	"encoding/binary"
	"fmt"
)

// sqlTran is the transaction of a session. Its writes are seen by others at
// once; undoing them puts back the tables as they were.
type sqlTran struct {
	descriptor uint64 // 0: none
	depth      int    // @@TRANCOUNT
	marks      []sqlMark
}

// sqlMark is a point to go back to: the transaction's begin, or a savepoint.
type sqlMark struct {
	name  string
	saved map[sqlPlace]*sqlTable // nil: it was not there
}

// maxSQLMarks bounds savepoints.
const maxSQLMarks = 100

// remember keeps a table as it is, for every mark that has not yet seen it.
func (t *sqlTran) remember(p sqlPlace) {
	for _, m := range t.marks {
		if _, known := m.saved[p]; !known {
			m.saved[p] = p.in.snapshot(p.name)
		}
	}
}

// undo puts back what the marks from number i on have kept, and forgets those
// after it.
func (t *sqlTran) undo(i int) {
	for place, table := range t.marks[i].saved {
		place.in.put(place.name, table)
	}
	clear(t.marks[i].saved)
	t.marks = t.marks[:i+1]
}

// begin opens a transaction or one more level of it, and returns the ENVCHANGE.
func (s *sqlSession) begin() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tran.depth++
	if s.tran.depth > 1 {
		return nil
	}
	s.serial++
	s.tran.descriptor = uint64(s.spid)<<32 | s.serial
	s.tran.marks = []sqlMark{{saved: map[sqlPlace]*sqlTable{}}}
	return envBytes(envBegin, s.tran.bytes(), "")
}

func (t *sqlTran) bytes() string {
	return string(binary.LittleEndian.AppendUint64(nil, t.descriptor))
}

// commit closes a level, and the transaction with the last one.
func (s *sqlSession) commit(line int32) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch s.tran.depth {
	case 0:
		return nil, sqlFailure{number: 3902, state: 1, class: 16, line: line, text: "The COMMIT TRANSACTION request has no corresponding BEGIN TRANSACTION."}
	case 1:
		was := s.tran.bytes()
		s.tran = sqlTran{}
		return envBytes(envCommit, "", was), nil
	}
	s.tran.depth--
	return nil, nil
}

// rollback undoes the transaction, if there is one. The caller holds s.mu.
func (s *sqlSession) rollback() []byte {
	if s.tran.depth == 0 {
		return nil
	}
	was := s.tran.bytes()
	s.tran.undo(0)
	s.tran = sqlTran{}
	return envBytes(envRollback, "", was)
}

// rollbackTo undoes the transaction, or with the name of a savepoint what came
// after that.
func (s *sqlSession) rollbackTo(name string, line int32) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.tran.depth == 0 {
		return nil, sqlFailure{number: 3903, state: 1, class: 16, line: line, text: "The ROLLBACK TRANSACTION request has no corresponding BEGIN TRANSACTION."}
	}
	for i := len(s.tran.marks) - 1; i > 0 && name != ""; i-- {
		if sameName(s.tran.marks[i].name, name) {
			s.tran.undo(i)
			return nil, nil
		}
	}
	return s.rollback(), nil
}

// save marks a point to go back to.
func (s *sqlSession) save(name string, line int32) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.tran.depth == 0 || len(s.tran.marks) >= maxSQLMarks {
		return sqlFailure{number: 628, state: 0, class: 16, line: line, text: "Cannot issue SAVE TRANSACTION when there is no active transaction."}
	}
	s.tran.marks = append(s.tran.marks, sqlMark{name: name, saved: map[sqlPlace]*sqlTable{}})
	return nil
}

// Requests to the transaction manager (MS-TDS 2.2.6.9).
const (
	tmBegin    = 5
	tmCommit   = 7
	tmRollback = 8
	tmSave     = 9
)

// transaction serves a transaction manager request.
func (s *sqlSession) transaction(r *sqlRequest, m *sqlMessage) error {
	b, err := m.whole()
	if err != nil {
		return err
	}
	in := &sqlReader{r: readerOf(b)}
	var env []byte
	switch kind := in.u16(); kind {
	case tmBegin:
		in.u8() // isolation level
		in.take(int(in.u8()))
		env = s.begin()
	case tmCommit, tmRollback:
		name := utf16Text(in.take(int(in.u8())))
		again := in.u8()&1 != 0
		if kind == tmCommit {
			env, err = s.commit(1)
		} else {
			env, err = s.rollbackTo(name, 1)
		}
		if err == nil && again {
			in.u8()
			in.take(int(in.u8()))
			env = append(env, s.begin()...)
		}
	case tmSave:
		err = s.save(utf16Text(in.take(int(in.u8()))), 1)
	default:
		err = sqlFailure{number: 8525, state: 1, class: 16, line: 1, text: fmt.Sprintf("Transaction manager request %d is not supported.", kind)}
	}
	if in.err != nil {
		s.srv.violate("2.2.6.9: a transaction manager request that ends too soon")
		return errSQLOver
	}
	if err != nil {
		r.fail(err, 0)
		return nil
	}
	if env != nil {
		r.token(env)
	}
	r.done(0, 0, 0)
	return nil
}
