package sandbox

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"strconv"
)

// Types of values (MS-TDS 2.2.5.4).
const (
	tyNull, tyInt1, tyBit, tyInt2, tyInt4, tyInt8           = 0x1f, 0x30, 0x32, 0x34, 0x38, 0x7f
	tyDateTim4, tyFlt4, tyMoney, tyDateTime, tyFlt8, tyMny4 = 0x3a, 0x3b, 0x3c, 0x3d, 0x3e, 0x7a
	tyGUID, tyIntN, tyBitN, tyDecimalN, tyNumericN          = 0x24, 0x26, 0x68, 0x6a, 0x6c
	tyFltN, tyMoneyN, tyDateTimeN                           = 0x6d, 0x6e, 0x6f
	tyDateN, tyTimeN, tyDateTime2N, tyDateTimeOffsetN       = 0x28, 0x29, 0x2a, 0x2b
	tyVarBin, tyVarChar, tyBinary, tyChar                   = 0xa5, 0xa7, 0xad, 0xaf
	tyNVarChar, tyNChar                                     = 0xe7, 0xef
	tyImage, tyText, tyNText                                = 0x22, 0x23, 0x63
)

// maxSQLValue bounds one value.
const maxSQLValue = 64 << 20

// A sqlType is a TYPE_INFO as it stands on the wire.
type sqlType string

func (t sqlType) id() byte { return t[0] }

// The types that the server makes itself.
const (
	typeInt      sqlType = "\x26\x04"
	typeBigInt   sqlType = "\x26\x08"
	typeSmallInt sqlType = "\x26\x02"
	typeTinyInt  sqlType = "\x26\x01"
	typeBit      sqlType = "\x68\x01"
	typeFloat    sqlType = "\x6d\x08"
	typeReal     sqlType = "\x6d\x04"
	typeGUID     sqlType = "\x24\x10"
	typeText     sqlType = "\xe7\x40\x1f" + sqlCollation // nvarchar(4000)
	typeMaxText  sqlType = "\xe7\xff\xff" + sqlCollation
	typeName     sqlType = "\xe7\x00\x01" + sqlCollation // nvarchar(128)
	typeMaxChar  sqlType = "\xa7\xff\xff" + sqlCollation
	typeMaxBin   sqlType = "\xa5\xff\xff"
)

// sized is a type of characters or bytes of at most n bytes; n < 0: max.
func sized(id byte, n int) sqlType {
	b := []byte{id, 0xff, 0xff}
	if n >= 0 {
		binary.LittleEndian.PutUint16(b[1:], uint16(n))
	}
	if id != tyVarBin && id != tyBinary {
		b = append(b, sqlCollation...)
	}
	return sqlType(b)
}

// isMax reports whether values go as PLP, in chunks.
func (t sqlType) isMax() bool {
	switch t.id() {
	case tyVarBin, tyVarChar, tyNVarChar:
		return t[1:3] == "\xff\xff"
	}
	return false
}

func (t sqlType) isText() bool { return t.id() == tyNVarChar || t.id() == tyNChar }
func (t sqlType) isChar() bool { return t.id() == tyVarChar || t.id() == tyChar }
func (t sqlType) isBin() bool  { return t.id() == tyVarBin || t.id() == tyBinary }

// A sqlDatum is one value: its type and its bytes on the wire, lengths apart.
type sqlDatum struct {
	t    sqlType
	null bool
	data []byte
}

// fixedSize is the size of a type without a length, -1 for all others.
func fixedSize(id byte) int {
	switch id {
	case tyNull:
		return 0
	case tyInt1, tyBit:
		return 1
	case tyInt2:
		return 2
	case tyInt4, tyDateTim4, tyFlt4, tyMny4:
		return 4
	case tyInt8, tyMoney, tyDateTime, tyFlt8:
		return 8
	}
	return -1
}

// sqlReader reads what a client encoded. After an error it returns zeros.
type sqlReader struct {
	r   io.Reader
	err error
}

func (r *sqlReader) take(n int) []byte {
	if r.err == nil && (n < 0 || n > maxSQLValue) {
		r.err = fmt.Errorf("%w: a value of %d bytes", errSQLFraming, n)
	}
	if r.err != nil {
		return make([]byte, min(max(n, 0), 16))
	}
	if n <= 64<<10 {
		b := make([]byte, n)
		_, r.err = io.ReadFull(r.r, b)
		return b
	}
	var all bytes.Buffer // grows with what comes, not with what was announced
	_, r.err = io.CopyN(&all, r.r, int64(n))
	return all.Bytes()
}

func (r *sqlReader) u8() byte    { return r.take(1)[0] }
func (r *sqlReader) u16() uint16 { return binary.LittleEndian.Uint16(r.take(2)) }
func (r *sqlReader) u32() uint32 { return binary.LittleEndian.Uint32(r.take(4)) }
func (r *sqlReader) u64() uint64 { return binary.LittleEndian.Uint64(r.take(8)) }

// text reads a string of n UTF-16 code units.
func (r *sqlReader) text(n int) string {
	b := r.take(2 * n)
	if r.err != nil {
		return ""
	}
	return utf16Text(b)
}

// typeInfo reads a TYPE_INFO (MS-TDS 2.2.5.6).
func (r *sqlReader) typeInfo() sqlType {
	id := r.u8()
	more := 0
	switch id {
	case tyDateN:
	case tyGUID, tyIntN, tyBitN, tyFltN, tyMoneyN, tyDateTimeN, tyTimeN, tyDateTime2N, tyDateTimeOffsetN:
		more = 1
	case tyDecimalN, tyNumericN:
		more = 3
	case tyVarBin, tyBinary:
		more = 2
	case tyVarChar, tyChar, tyNVarChar, tyNChar:
		more = 2 + len(sqlCollation)
	case tyText, tyNText:
		more = 4 + len(sqlCollation)
	case tyImage:
		more = 4
	default:
		if fixedSize(id) < 0 && r.err == nil {
			r.err = fmt.Errorf("%w: values of type %#02x are not known here", errSQLFraming, id)
		}
	}
	return sqlType(append([]byte{id}, r.take(more)...))
}

// datum reads a value of type t, in a parameter, or in a row of a bulk load if
// row is set. The old text types become those of today.
func (r *sqlReader) datum(t sqlType, row bool) sqlDatum {
	switch id := t.id(); id {
	case tyNull:
		return sqlDatum{t: typeInt, null: true}
	case tyText, tyNText, tyImage:
		return r.longDatum(t, row)
	case tyVarBin, tyVarChar, tyBinary, tyChar, tyNVarChar, tyNChar:
		if t.isMax() {
			return r.chunked(t)
		}
		n := r.u16()
		if n == 0xffff {
			return sqlDatum{t: t, null: true}
		}
		return sqlDatum{t: t, data: r.take(int(n))}
	default:
		if n := fixedSize(id); n >= 0 {
			return sqlDatum{t: t, data: r.take(n)}
		}
		n := r.u8()
		return sqlDatum{t: t, null: n == 0, data: r.take(int(n))}
	}
}

// longDatum reads text, ntext or image.
func (r *sqlReader) longDatum(t sqlType, row bool) sqlDatum {
	now := map[byte]sqlType{tyText: typeMaxChar, tyNText: typeMaxText, tyImage: typeMaxBin}[t.id()]
	if row {
		n := r.u8() // of the text pointer
		if n == 0 {
			return sqlDatum{t: now, null: true}
		}
		r.take(int(n) + 8)
	}
	n := r.u32()
	if n == math.MaxUint32 {
		return sqlDatum{t: now, null: true}
	}
	return sqlDatum{t: now, data: r.take(int(n))}
}

// chunked reads a PLP value (MS-TDS 2.2.5.2.3).
func (r *sqlReader) chunked(t sqlType) sqlDatum {
	total := r.u64()
	if total == math.MaxUint64 {
		return sqlDatum{t: t, null: true}
	}
	data := []byte{}
	for r.err == nil {
		n := int(r.u32())
		if n == 0 {
			break
		}
		if len(data)+n > maxSQLValue {
			r.err = fmt.Errorf("%w: a value of more than %d bytes", errSQLFraming, maxSQLValue)
			break
		}
		data = append(data, r.take(n)...)
	}
	if total != math.MaxUint64-1 && total != uint64(len(data)) && r.err == nil {
		r.err = fmt.Errorf("%w: a PLP value of %d bytes announced %d", errSQLFraming, len(data), total)
	}
	return sqlDatum{t: t, data: data}
}

// appendTo writes the value as a row or a return value has it.
func (d sqlDatum) appendTo(b []byte) []byte {
	id := d.t.id()
	switch {
	case d.t.isMax() && d.null:
		return binary.LittleEndian.AppendUint64(b, math.MaxUint64)
	case d.t.isMax():
		b = binary.LittleEndian.AppendUint64(b, uint64(len(d.data)))
		if len(d.data) > 0 {
			b = append(binary.LittleEndian.AppendUint32(b, uint32(len(d.data))), d.data...)
		}
		return binary.LittleEndian.AppendUint32(b, 0)
	case d.t.isText() || d.t.isChar() || d.t.isBin():
		if d.null {
			return append(b, 0xff, 0xff)
		}
		return append(binary.LittleEndian.AppendUint16(b, uint16(len(d.data))), d.data...)
	case fixedSize(id) >= 0:
		return append(b, d.data...)
	case d.null:
		return append(b, 0)
	default:
		return append(append(b, byte(len(d.data))), d.data...)
	}
}

// What the server makes of its own values.
func sqlInt(n int64) sqlDatum {
	if n == int64(int32(n)) {
		return sqlDatum{t: typeInt, data: binary.LittleEndian.AppendUint32(nil, uint32(n))}
	}
	return sqlBigInt(n)
}

func sqlBigInt(n int64) sqlDatum {
	return sqlDatum{t: typeBigInt, data: binary.LittleEndian.AppendUint64(nil, uint64(n))}
}

func sqlText(s string) sqlDatum {
	d := sqlDatum{t: typeText, data: textUTF16(s)}
	if len(d.data) > 8000 {
		d.t = typeMaxText
	}
	return d
}

func sqlNull(t sqlType) sqlDatum { return sqlDatum{t: t, null: true} }

// integer is the value of an integer, a bit, or a text that is one.
func (d sqlDatum) integer() (int64, bool) {
	switch {
	case d.null:
		return 0, false
	case d.t.isText() || d.t.isChar():
		n, err := strconv.ParseInt(d.string(), 10, 64)
		return n, err == nil
	case d.fractional():
		f, ok := d.float()
		return int64(f), ok
	}
	if !d.isInteger() {
		return 0, false
	}
	switch len(d.data) {
	case 1:
		return int64(d.data[0]), true
	case 2:
		return int64(int16(binary.LittleEndian.Uint16(d.data))), true
	case 4:
		return int64(int32(binary.LittleEndian.Uint32(d.data))), true
	case 8:
		return int64(binary.LittleEndian.Uint64(d.data)), true
	}
	return 0, false
}

func (d sqlDatum) isInteger() bool {
	switch d.t.id() {
	case tyIntN, tyBitN, tyInt1, tyBit, tyInt2, tyInt4, tyInt8:
		return true
	}
	return false
}

func (d sqlDatum) float() (float64, bool) {
	switch id := d.t.id(); {
	case !d.null && (d.isDecimal() || d.t.isText() || d.t.isChar()):
		r, ok := d.rational()
		if !ok {
			return 0, false
		}
		f, _ := r.Float64()
		return f, true
	case d.null || (id != tyFltN && id != tyFlt8 && id != tyFlt4):
		n, ok := d.integer()
		return float64(n), ok
	case len(d.data) == 4:
		return float64(math.Float32frombits(binary.LittleEndian.Uint32(d.data))), true
	default:
		return math.Float64frombits(binary.LittleEndian.Uint64(d.data)), true
	}
}
