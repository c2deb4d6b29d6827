package sandbox

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"strings"
)

func readerOf(b []byte) io.Reader { return bytes.NewReader(b) }

// sqlParam is a parameter of a call.
type sqlParam struct {
	name   string
	output bool
	value  sqlDatum
}

// sqlCall is one call of a procedure.
type sqlCall struct {
	name   string
	params []sqlParam
}

// procedures by their number (MS-TDS 2.2.6.6).
func procedureName(id uint16) string {
	names := map[uint16]string{
		1: "sp_cursor", 2: "sp_cursoropen", 3: "sp_cursorprepare", 4: "sp_cursorexecute", 5: "sp_cursorprepexec", 6: "sp_cursorunprepare",
		7: "sp_cursorfetch", 8: "sp_cursoroption", 9: "sp_cursorclose", 10: "sp_executesql", 11: "sp_prepare", 12: "sp_execute",
		13: "sp_prepexec", 14: "sp_prepexecrpc", 15: "sp_unprepare",
	}
	return names[id]
}

// rpc serves a message of calls (MS-TDS 2.2.6.6).
func (s *sqlSession) rpc(r *sqlRequest, m *sqlMessage) error {
	b, err := m.whole()
	if err != nil {
		return err
	}
	if m.ignored {
		r.done(doneError, 0, 0)
		return nil
	}
	for len(b) > 0 {
		in := bytes.NewReader(b)
		call, err := s.readCall(in)
		if err != nil {
			s.srv.violate("2.2.6.6: a call that cannot be read: %v", err)
			r.fail(sqlFailure{number: 8009, state: 1, class: 16, line: 1, text: "The incoming tabular data stream (TDS) remote procedure call (RPC) protocol stream is incorrect."}, 0)
			return nil
		}
		b = b[len(b)-in.Len():]
		r.call(call)
		if r.stopped() {
			return nil
		}
	}
	return nil
}

// Bits of a parameter's status, and what stands between two calls.
const (
	paramByRef   = 0x01
	paramDefault = 0x02
	callEnd      = 0xff
	callNoExec   = 0xfe
)

// readCall reads one call and what separates it from the next.
func (s *sqlSession) readCall(b *bytes.Reader) (sqlCall, error) {
	in := &sqlReader{r: b}
	var c sqlCall
	if n := in.u16(); n == 0xffff {
		id := in.u16()
		if c.name = procedureName(id); c.name == "" && in.err == nil {
			return c, fmt.Errorf("%w: procedure %d", errSQLFraming, id)
		}
	} else {
		c.name = in.text(int(n))
		if i := strings.LastIndexAny(c.name, "."); i >= 0 {
			c.name = c.name[i+1:]
		}
		c.name = strings.ToLower(strings.Trim(c.name, "[]"))
	}
	in.u16() // options: recompile, metadata
	for in.err == nil && b.Len() > 0 {
		first := in.u8()
		if first == callEnd || first == callNoExec {
			break
		}
		p := sqlParam{name: strings.ToLower(in.text(int(first)))}
		p.output = in.u8()&paramByRef != 0
		t := in.typeInfo()
		if in.err != nil {
			break
		}
		p.value = in.datum(t, false)
		if c.params = append(c.params, p); len(c.params) > 2101 {
			return c, fmt.Errorf("%w: more than 2100 parameters", errSQLFraming)
		}
	}
	return c, in.err
}

// call runs one call and ends it by RETURNSTATUS, the values of its output
// parameters and DONEPROC.
func (r *sqlRequest) call(c sqlCall) {
	outer := r.proc
	r.proc, r.failed = true, false
	run := map[string]func(*sqlRequest, *sqlCall) error{
		"sp_executesql": (*sqlRequest).executeSQL, "sp_prepare": (*sqlRequest).prepare, "sp_prepexec": (*sqlRequest).prepareExecute,
		"sp_execute": (*sqlRequest).executePrepared, "sp_unprepare": (*sqlRequest).unprepare,
		"sp_reset_connection": (*sqlRequest).resetByName, "echo": (*sqlRequest).echo,
		"sp_tablecollations_100": (*sqlRequest).collations, "sp_tablecollations_90": (*sqlRequest).collations,
	}[c.name]
	status := int32(0)
	if run == nil {
		number, text := int32(2812), fmt.Sprintf("Could not find stored procedure '%s'.", clip(c.name, 128))
		if strings.HasPrefix(c.name, "sp_cursor") || c.name == "sp_prepexecrpc" {
			number, text = 40510, fmt.Sprintf("Statement '%s' is not supported in this version of SQL Server.", c.name)
		}
		r.fail(sqlFailure{number: number, state: 62, class: 16, line: 1, text: text}, 0)
	} else if err := run(r, &c); err != nil {
		r.fail(err, 0)
	}
	bits := uint16(0)
	if r.failed {
		bits, status = doneError, 1
	}
	r.token(append([]byte{tokReturnStatus}, binary.LittleEndian.AppendUint32(nil, uint32(status))...))
	for i, p := range c.params {
		if p.output && !r.failed {
			r.token(returnValue(i, p))
		}
	}
	r.pending = done(tokDoneProc, bits, 0xe0, 0)
	r.proc = outer
}

// returnValue is RETURNVALUE (MS-TDS 2.2.7.19).
func returnValue(i int, p sqlParam) []byte {
	b := binary.LittleEndian.AppendUint16([]byte{tokReturnValue}, uint16(i))
	b = bVarchar(b, p.name)
	b = append(b, 1, 0, 0, 0, 0, 0, 0) // output parameter, user type, flags
	return p.value.appendTo(append(b, p.value.t...))
}

// statementText is the value of a parameter that holds T-SQL.
func (c *sqlCall) statementText(i int) (string, error) {
	if i >= len(c.params) || !(c.params[i].value.t.isText() || c.params[i].value.t.isChar()) {
		return "", sqlFailure{number: 214, state: 2, class: 16, line: 1, text: "Procedure expects parameter '@statement' of type 'ntext/nchar/nvarchar'."}
	}
	return c.params[i].value.string(), nil
}

// executeSQL is sp_executesql text[, definitions, values…].
func (r *sqlRequest) executeSQL(c *sqlCall) error {
	text, err := c.statementText(0)
	if err != nil {
		return err
	}
	var names []string
	if len(c.params) > 1 {
		definitions, err := c.statementText(1)
		if err != nil {
			return err
		}
		if names, err = parameterNames(definitions); err != nil {
			return err
		}
	}
	return r.runWith(text, names, c.params[min(2, len(c.params)):])
}

// parameterNames are those of '@a int, @b nvarchar(10) OUTPUT'.
func parameterNames(definitions string) ([]string, error) {
	all, err := lexSQL(definitions)
	if err != nil {
		return nil, err
	}
	p := &sqlParser{all: all}
	var names []string
	for p.peek().kind != lexEnd {
		x := p.take()
		if x.kind != lexVar {
			return nil, p.near()
		}
		names = append(names, strings.ToLower(x.text))
		_ = p.accept("as")
		if _, err := p.typeName(); err != nil {
			return nil, err
		}
		_ = p.accept("output") || p.accept("out")
		if !p.accept(",") && p.peek().kind != lexEnd {
			return nil, p.near()
		}
	}
	return names, nil
}

// runWith runs text with values, by their names or in their order, and puts
// back what the text made of output parameters.
func (r *sqlRequest) runWith(text string, names []string, values []sqlParam) error {
	vars := map[string]sqlDatum{}
	slot := make([]string, len(values))
	for i, v := range values {
		name := v.name
		if name == "" && i < len(names) {
			name = names[i]
		}
		if !slices.Contains(names, name) {
			return sqlFailure{number: 8145, state: 1, class: 16, line: 1, text: fmt.Sprintf("%s is not a parameter for the statement.", clip(name, 128))}
		}
		vars[name], slot[i] = v.value, name
	}
	for _, n := range names {
		if _, ok := vars[n]; !ok {
			return sqlFailure{number: 8178, state: 1, class: 16, line: 1, text: fmt.Sprintf("The parameterized query expects the parameter '%s', which was not supplied.", clip(n, 128))}
		}
	}
	r.execute(text, vars)
	for i := range values {
		values[i].value = vars[slot[i]]
	}
	return nil
}

// maxPrepared bounds the prepared statements of a session.
const maxPrepared = 1000

// keep stores a statement and puts its handle into the first parameter.
func (r *sqlRequest) keep(c *sqlCall) (sqlPrepared, error) {
	if len(c.params) < 3 {
		return sqlPrepared{}, sqlFailure{number: 201, state: 4, class: 16, line: 1, text: "The procedure expects more parameters, which were not supplied."}
	}
	var prepared sqlPrepared
	var err error
	if !c.params[1].value.null {
		definitions, err := c.statementText(1)
		if err != nil {
			return prepared, err
		}
		if prepared.names, err = parameterNames(definitions); err != nil {
			return prepared, err
		}
	}
	if prepared.text, err = c.statementText(2); err != nil {
		return prepared, err
	}
	if _, err = parseSQL(prepared.text); err != nil {
		return prepared, err
	}
	s := r.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.prepared) >= maxPrepared {
		return prepared, sqlFailure{number: 701, state: 1, class: 17, line: 1, text: "There is insufficient memory for another prepared statement."}
	}
	s.handles++
	s.prepared[s.handles] = prepared
	c.params[0].value = sqlInt(int64(s.handles))
	return prepared, nil
}

func (r *sqlRequest) prepare(c *sqlCall) error {
	_, err := r.keep(c)
	return err
}

// prepareExecute is sp_prepexec handle OUTPUT, definitions, text[, values…].
func (r *sqlRequest) prepareExecute(c *sqlCall) error {
	prepared, err := r.keep(c)
	if err != nil {
		return err
	}
	return r.runWith(prepared.text, prepared.names, c.params[3:])
}

// handle takes the prepared statement that the first parameter names.
func (r *sqlRequest) handle(c *sqlCall, remove bool) (sqlPrepared, error) {
	n := int64(0)
	if len(c.params) > 0 {
		n, _ = c.params[0].value.integer()
	}
	r.s.mu.Lock()
	defer r.s.mu.Unlock()
	prepared, ok := r.s.prepared[int32(n)]
	if !ok {
		return prepared, sqlFailure{number: 8179, state: 4, class: 16, line: 1, text: fmt.Sprintf("Could not find prepared statement with handle %d.", n)}
	}
	if remove {
		delete(r.s.prepared, int32(n))
	}
	return prepared, nil
}

func (r *sqlRequest) executePrepared(c *sqlCall) error {
	prepared, err := r.handle(c, false)
	if err != nil {
		return err
	}
	return r.runWith(prepared.text, prepared.names, c.params[1:])
}

func (r *sqlRequest) unprepare(c *sqlCall) error {
	_, err := r.handle(c, true)
	return err
}

// resetByName is sp_reset_connection, called instead of RESETCONNECTION.
func (r *sqlRequest) resetByName(*sqlCall) error {
	r.proc = false
	defer func() { r.proc = true }()
	return r.s.reset(r, false)
}

// echo answers its parameters as one row, and output parameters with their own
// values.
func (r *sqlRequest) echo(c *sqlCall) error {
	columns, values := make([]sqlColumn, len(c.params)), make([]sqlDatum, len(c.params))
	for i, p := range c.params {
		columns[i], values[i] = sqlColumn{strings.TrimPrefix(p.name, "@"), p.value.t}, p.value
	}
	r.token(columnMetadata(columns))
	r.row(columns, values)
	r.done(doneCount, 0xc1, 1)
	return nil
}

// collations is what SqlClient asks for before a bulk load: the collation of each
// column of a table.
func (r *sqlRequest) collations(c *sqlCall) error {
	name, err := c.statementText(0)
	if err != nil {
		return err
	}
	name = strings.Trim(name[strings.LastIndex(name, ".")+1:], "[]")
	t, err := r.s.look(name, 1)
	if err != nil {
		return err
	}
	binary5 := sized(tyVarBin, len(sqlCollation))
	columns := []sqlColumn{{"colid", typeInt}, {"name", typeName}, {"tds_collation", binary5}, {"collation", typeName}}
	r.token(columnMetadata(columns))
	for i, column := range t.columns {
		row := []sqlDatum{sqlInt(int64(i + 1)), {t: typeName, data: textUTF16(column.name)}, sqlNull(binary5), sqlNull(typeName)}
		if column.t.isText() || column.t.isChar() {
			row[2] = sqlDatum{t: binary5, data: []byte(sqlCollation)}
			row[3] = sqlDatum{t: typeName, data: textUTF16("SQL_Latin1_General_CP1_CI_AS")}
		}
		r.row(columns, row)
	}
	r.done(doneCount, 0xc1, uint64(len(t.columns)))
	return nil
}

// execStatement is EXEC name [@p =] value [OUTPUT], …
func (p *sqlParser) execStatement() (sqlStatement, error) {
	name, err := p.name()
	if err != nil {
		return nil, err
	}
	var names []string
	var args []sqlExpr
	for x := p.peek(); x.kind == lexVar || x.kind == lexNumber || x.kind == lexString || x.kind == lexUnicode || x.is("null") || x.is("-"); x = p.peek() {
		arg := ""
		if x.kind == lexVar && p.ahead(1).is("=") {
			arg = strings.ToLower(x.text)
			p.pos += 2
		}
		value, err := p.term()
		if err != nil {
			return nil, err
		}
		_ = p.accept("output") || p.accept("out")
		names, args = append(names, arg), append(args, value)
		if !p.accept(",") {
			break
		}
	}
	return func(e *sqlEnv) error {
		c := sqlCall{name: strings.ToLower(name)}
		for i, a := range args {
			d, err := a(e)
			if err != nil {
				return err
			}
			c.params = append(c.params, sqlParam{name: names[i], value: d})
		}
		e.request.nested(c)
		return nil
	}, nil
}

// nested is a call from within a batch.
func (r *sqlRequest) nested(c sqlCall) {
	if r.depth++; r.depth > 32 {
		r.fail(sqlFailure{number: 217, state: 1, class: 16, line: 1, text: "Maximum stored procedure nesting level exceeded (limit 32)."}, 0)
		return
	}
	r.flushDone(doneMore)
	r.call(c)
	r.depth--
}
