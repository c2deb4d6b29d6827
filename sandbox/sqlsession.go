package sandbox

import (
	"encoding/binary"
	"errors"
	"strings"
	"sync"
	"time"
)

// A sqlSession is what the server knows of a client that is logged in. With
// MARS its lanes share it.
type sqlSession struct {
	srv             *SQL
	spid            uint16
	user            sqlUser
	host, app, home string
	size            int // of packets
	mars            bool

	mu       sync.Mutex // guards what follows, never held while a reply is sent
	database string
	tran     sqlTran
	serial   uint64 // of transactions
	temp     *sqlTables
	prepared map[int32]sqlPrepared
	handles  int32
	fmtOnly  bool
	loading  *sqlLoad // INSERT BULK has announced it
}

// sqlPrepared is a statement with its parameters' names.
type sqlPrepared struct {
	text  string
	names []string
}

// start makes the session, with what was agreed at login.
func (c *sqlConn) start(l *sqlLogin7, u sqlUser) {
	s := &sqlSession{
		srv: c.srv, spid: c.spid, user: u, host: l.host, app: l.app, home: homeDatabase(l),
		size: c.granted(l), mars: c.hello.mars, temp: newSQLTables(), prepared: map[int32]sqlPrepared{},
	}
	s.database = s.home
	c.session, c.wire.size = s, s.size
}

// run serves the session until the client leaves or the server closes.
func (c *sqlConn) run() {
	c.srv.counts.open.Add(1)
	defer c.srv.counts.open.Add(-1)
	defer c.session.leave()
	if c.session.mars {
		c.runMARS()
		return
	}
	lane := newSQLLane(c.session, c.wire.write)
	var reading sync.WaitGroup
	reading.Go(func() { // ends with the connection
		defer lane.end()
		for {
			p, err := c.wire.readPacket()
			if err != nil || !lane.deliver(p, c.srv.closing) {
				return
			}
		}
	})
	lane.run()
	lane.end()
	c.drainThen(&reading)
}

// drainThen is drain while the reader still reads.
func (c *sqlConn) drainThen(reading *sync.WaitGroup) {
	_ = c.raw.SetDeadline(time.Now().Add(time.Second))
	if t, ok := c.wire.conn.(interface{ CloseWrite() error }); ok {
		_ = t.CloseWrite()
	}
	reading.Wait()
	_ = c.raw.Close()
}

// leave undoes an open transaction.
func (s *sqlSession) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rollback()
}

// reset makes the session as it was after login (MS-TDS 2.2.3.1.2). A token
// that has expired ends it instead.
func (s *sqlSession) reset(r *sqlRequest, keepTran bool) error {
	s.srv.counts.resets.Add(1)
	if !s.srv.current().KeepExpired && !s.srv.world.clock.now().Before(s.user.expires) {
		expired := TokenIsExpired()
		e := expired.error(&sqlLogin7{})
		r.token(e.message(tokError))
		r.token(done(tokDone, doneError, 0, 0))
		return errSQLOver
	}
	s.mu.Lock()
	if !keepTran {
		s.rollback()
	}
	s.database, s.temp, s.prepared, s.fmtOnly, s.loading = s.home, newSQLTables(), map[int32]sqlPrepared{}, false, nil
	s.mu.Unlock()
	r.token(envBytes(envReset, "", ""))
	return nil
}

// checkDescriptor records a request that names a transaction that is not its
// own (MS-TDS 2.2.5.3.2).
func (s *sqlSession) checkDescriptor(descriptor uint64, outstanding uint32) {
	s.mu.Lock()
	now := s.tran.descriptor
	s.mu.Unlock()
	if descriptor != now && (!s.mars || descriptor != 0) {
		s.srv.violate("2.2.5.3.2: the transaction descriptor is %#x, the session's is %#x", descriptor, now)
	}
	if outstanding == 0 {
		s.srv.violate("2.2.5.3.2: OutstandingRequestCount is 0")
	}
}

// A sqlRequest is one request while its reply is made.
type sqlRequest struct {
	s       *sqlSession
	lane    *sqlLane
	out     *sqlWriter
	proc    bool   // within an RPC, whose statements end by DONEINPROC
	pending []byte // a DONE that waits to know whether more follows
	failed  bool   // the last error ends what runs
	depth   int    // of calls within calls
}

func (s *sqlSession) newRequest(l *sqlLane) *sqlRequest {
	return &sqlRequest{s: s, lane: l, out: newSQLWriter(l.send, s.spid, s.size)}
}

// token adds a token to the reply, and what waited before it.
func (r *sqlRequest) token(b []byte) {
	r.flushDone(doneMore)
	r.out.b = append(r.out.b, b...)
	r.out.spill()
}

// flushDone writes the DONE that waits, with more bits.
func (r *sqlRequest) flushDone(bits uint16) {
	if r.pending == nil {
		return
	}
	status := binary.LittleEndian.Uint16(r.pending[1:]) | bits
	binary.LittleEndian.PutUint16(r.pending[1:], status)
	r.out.b = append(r.out.b, r.pending...)
	r.pending = nil
}

// done ends a statement.
func (r *sqlRequest) done(status, command uint16, count uint64) {
	if r.proc {
		r.token(done(tokDoneInProc, status|doneMore, command, count))
		return
	}
	r.flushDone(doneMore)
	r.pending = done(tokDone, status, command, count)
}

// fail reports an error and ends the statement with it.
func (r *sqlRequest) fail(err error, command uint16) {
	var e sqlFailure
	if !errors.As(err, &e) {
		e = sqlFailure{number: 50000, state: 1, class: 16, text: err.Error(), line: 1}
	}
	r.token(sqlError(e).message(tokError))
	r.done(doneError, command, 0)
	r.failed = true
}

// finish ends the reply. If an attention has interrupted it, what was begun ends
// as a message of its own, and the acknowledgement is the next one: tedious, for
// one, waits for both.
func (r *sqlRequest) finish() error {
	interrupted := r.lane.settle()
	switch {
	case r.pending != nil:
	case interrupted:
		r.pending = done(tokDone, doneError, 0, 0)
	default:
		r.pending = done(tokDone, 0, 0, 0)
	}
	r.flushDone(0)
	if err := r.out.finish(); err != nil || !interrupted {
		return err
	}
	r.out.b = append(r.out.b, done(tokDone, doneAttn, 0, 0)...)
	return r.out.finish()
}

// stopped reports whether the request has to end early: by an attention, or as
// nobody waits for it any more.
func (r *sqlRequest) stopped() bool {
	if r.out.err != nil {
		return true
	}
	select {
	case <-r.lane.cancelled():
	case <-r.lane.over:
	case <-r.s.srv.closing:
	default:
		return false
	}
	return true
}

// sqlFailure is a sqlError as an error.
type sqlFailure sqlError

// Error is the text.
func (e sqlFailure) Error() string { return e.text }

// batch runs a SQL batch (MS-TDS 2.2.6.7).
func (s *sqlSession) batch(r *sqlRequest, m *sqlMessage) error {
	b, err := m.whole()
	if err != nil {
		return err
	}
	if m.ignored {
		r.done(doneError, 0, 0)
		return nil
	}
	if len(b)%2 != 0 {
		s.srv.violate("2.2.6.7: a SQL batch of %d bytes: it is UTF-16", len(b))
	}
	r.execute(utf16Text(b), map[string]sqlDatum{})
	return nil
}

// execute parses a batch, then runs its statements.
func (r *sqlRequest) execute(text string, vars map[string]sqlDatum) {
	statements, err := parseSQL(text)
	if err != nil {
		r.fail(err, 0)
		return
	}
	env := &sqlEnv{request: r, vars: vars}
	for _, run := range statements {
		if r.stopped() || r.failed {
			return
		}
		if err := run(env); err != nil {
			r.fail(err, 0)
			return
		}
	}
}

// sameName compares names as the server's collation does.
func sameName(a, b string) bool { return strings.EqualFold(a, b) }
