package sandbox

import (
	"encoding/binary"
	"fmt"
)

// assign is SELECT @x = …
func (q *sqlQuery) assign(e *sqlEnv, values []sqlDatum, none bool) error {
	for i, item := range q.items {
		if item.into == "" || none {
			continue
		}
		old, ok := e.vars[item.into]
		if !ok {
			return sqlFailure{number: 137, state: 1, class: 15, line: q.line, text: fmt.Sprintf("Must declare the scalar variable %q.", clip(item.into, 128))}
		}
		d, err := convertSQL(values[i], old.t, q.line)
		if err != nil {
			return err
		}
		e.vars[item.into] = d
	}
	return nil
}

// group is a SELECT of aggregates over all rows.
func (q *sqlQuery) group(e, inner *sqlEnv, rows sqlRows, extra int64) error {
	results := make([]sqlDatum, len(q.items))
	total, sums, nulls := extra, make([]int64, len(q.items)), make([]int64, len(q.items))
	for i := range results {
		results[i] = sqlNull(typeBigInt)
	}
	for row := rows(); row != nil && !e.request.stopped(); row = rows() {
		total++
		inner.row = row
		for i, item := range q.items {
			if item.expr == nil {
				continue
			}
			d, err := item.expr(inner)
			if err != nil {
				return err
			}
			n, _ := d.integer()
			sums[i] += n
			nulls[i] += int64(bit(d.null))
			old := results[i]
			if !d.null && (old.null || item.aggregate == "min" && compareSQL(d, old) < 0 || item.aggregate == "max" && compareSQL(d, old) > 0) {
				results[i] = d
			}
		}
	}
	columns := make([]sqlColumn, len(q.items))
	for i, item := range q.items {
		switch item.aggregate {
		case "count":
			results[i] = sqlDatum{t: typeInt, data: binary.LittleEndian.AppendUint32(nil, uint32(total-nulls[i]))}
		case "count_big":
			results[i] = sqlBigInt(total - nulls[i])
		case "sum":
			results[i] = sqlBigInt(sums[i])
		}
		columns[i] = sqlColumn{item.name, results[i].t}
	}
	if len(q.items) > 0 && q.items[0].into != "" {
		return q.assign(e, results, false)
	}
	e.request.token(columnMetadata(columns))
	if !e.request.formatOnly() {
		e.request.row(columns, results)
	}
	e.count = 1
	e.request.done(doneCount, 0xc1, 1)
	return nil
}

// columnMetadata is COLMETADATA (MS-TDS 2.2.7.4).
func columnMetadata(columns []sqlColumn) []byte {
	b := binary.LittleEndian.AppendUint16([]byte{tokColMetadata}, uint16(len(columns)))
	for _, c := range columns {
		b = binary.LittleEndian.AppendUint32(b, 0)
		flags := uint16(0x0009) // nullable, may be updatable
		if fixedSize(c.t.id()) >= 0 {
			flags = 0x0008
		}
		b = append(binary.LittleEndian.AppendUint16(b, flags), c.t...)
		b = bVarchar(b, c.name)
	}
	return b
}

// row sends a ROW, or an NBCROW where that is shorter (MS-TDS 2.2.7.14, .18).
func (r *sqlRequest) row(columns []sqlColumn, values []sqlDatum) {
	r.flushDone(doneMore)
	nulls := make([]byte, (len(values)+7)/8)
	some := 0
	for i, d := range values {
		if d.null {
			nulls[i/8] |= 1 << (i % 8)
			some++
		}
	}
	compressed := some > len(nulls)
	if compressed {
		r.out.b = append(append(r.out.b, tokNBCRow), nulls...)
	} else {
		r.out.b = append(r.out.b, tokRow)
	}
	for i, d := range values {
		if compressed && d.null {
			continue
		}
		if d.t != columns[i].t { // the first row made the type
			if c, err := convertSQL(d, columns[i].t, 1); err == nil {
				d = c
			} else {
				d = sqlNull(columns[i].t)
			}
		}
		r.out.b = d.appendTo(r.out.b)
	}
	r.out.spill()
}
