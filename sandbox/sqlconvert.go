package sandbox

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"time"
)

// convertSQL makes d a value of type t: between numbers, texts and dates, and of
// texts and bytes. All else has to be of t's kind already.
func convertSQL(d sqlDatum, t sqlType, line int32) (sqlDatum, error) {
	id := t.id()
	switch {
	case d.null:
		return sqlNull(t), nil
	case d.t == t:
		return d, nil
	case id == tyIntN || id == tyBitN:
		if n, ok := d.integer(); ok {
			return intOf(n, t, line)
		}
	case id == tyFltN:
		if f, ok := d.float(); ok {
			return floatOf(f, t), nil
		}
	case t.isText():
		return fitted(textUTF16(d.string()), t), nil
	case t.isChar():
		if d.t.isChar() {
			return fitted(d.data, t), nil
		}
		return fitted([]byte(d.string()), t), nil
	case t.isBin():
		return fitted(d.data, t), nil
	case id == tyDecimalN || id == tyNumericN:
		if r, ok := d.rational(); ok {
			return decimalOf(r, t, line)
		}
	case isDate(id):
		if at, ok := d.time(); ok {
			return dateOf(at, t), nil
		}
	}
	if d.t.id() == id && len(d.t) == len(t) && (len(t) < 2 || d.t[1] == t[1]) {
		return sqlDatum{t: t, data: d.data}, nil
	}
	return sqlDatum{}, sqlFailure{number: 8114, state: 5, class: 16, line: line, text: "Error converting data type."}
}

// intOf is n as an integer or a bit of t's size.
func intOf(n int64, t sqlType, line int32) (sqlDatum, error) {
	if t == typeBit {
		return sqlDatum{t: t, data: []byte{bit(n != 0)}}, nil
	}
	limits := map[byte][2]int64{1: {0, 255}, 2: {math.MinInt16, math.MaxInt16}, 4: {math.MinInt32, math.MaxInt32}, 8: {math.MinInt64, math.MaxInt64}}
	if l := limits[t[1]]; n < l[0] || n > l[1] {
		return sqlDatum{}, overflow(line)
	}
	return sqlDatum{t: t, data: binary.LittleEndian.AppendUint64(nil, uint64(n))[:t[1]]}, nil
}

func overflow(line int32) error {
	return sqlFailure{number: 8115, state: 2, class: 16, line: line, text: "Arithmetic overflow error converting expression to data type."}
}

func floatOf(f float64, t sqlType) sqlDatum {
	if t[1] == 4 {
		return sqlDatum{t: t, data: binary.LittleEndian.AppendUint32(nil, math.Float32bits(float32(f)))}
	}
	return sqlDatum{t: t, data: binary.LittleEndian.AppendUint64(nil, math.Float64bits(f))}
}

// fitted cuts data to what t holds, as a cast does.
func fitted(data []byte, t sqlType) sqlDatum {
	if !t.isMax() {
		data = data[:min(len(data), int(binary.LittleEndian.Uint16([]byte(t[1:3]))))]
	}
	return sqlDatum{t: t, data: data}
}

func (d sqlDatum) isDecimal() bool { return d.t.id() == tyDecimalN || d.t.id() == tyNumericN }

// rational is the value of any number, or of a text that is one.
func (d sqlDatum) rational() (*big.Rat, bool) {
	switch {
	case d.null:
		return nil, false
	case d.isDecimal() && len(d.data) > 1:
		be := slices.Clone(d.data[1:])
		slices.Reverse(be)
		r := new(big.Rat).SetFrac(new(big.Int).SetBytes(be), powerOfTen(int(d.t[3])))
		if d.data[0] == 0 {
			r.Neg(r)
		}
		return r, true
	case d.isInteger():
		n, ok := d.integer()
		return new(big.Rat).SetInt64(n), ok
	case d.t.isText() || d.t.isChar():
		text := strings.TrimSpace(d.string())
		if len(text) > 50 || strings.ContainsAny(text, "/eExXpP_") {
			return nil, false
		}
		return new(big.Rat).SetString(text)
	}
	f, ok := d.float()
	if !ok || math.IsInf(f, 0) || math.IsNaN(f) {
		return nil, false
	}
	return new(big.Rat).SetFloat64(f), true
}

func powerOfTen(n int) *big.Int { return new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(n)), nil) }

// decimalOf is r as a decimal of t's scale, rounded.
func decimalOf(r *big.Rat, t sqlType, line int32) (sqlDatum, error) {
	scaled, ok := new(big.Rat).SetString(r.FloatString(int(t[3])))
	if !ok {
		return sqlDatum{}, overflow(line)
	}
	n := scaled.Mul(scaled, new(big.Rat).SetInt(powerOfTen(int(t[3])))).Num()
	if n.CmpAbs(powerOfTen(int(t[2]))) >= 0 {
		return sqlDatum{}, overflow(line)
	}
	return sqlDatum{t: t, data: decimalBytes(n)}, nil
}

// decimalBytes is a decimal's sign and magnitude, in 4, 8, 12 or 16 bytes.
func decimalBytes(n *big.Int) []byte {
	size := 4
	for size*8 < n.BitLen() {
		size += 4
	}
	be := n.FillBytes(make([]byte, size))
	slices.Reverse(be)
	return append([]byte{bit(n.Sign() >= 0)}, be...)
}

// decimalLiteral is a decimal of these digits, scale of them behind the point.
func decimalLiteral(digits string, scale int, line int32) (sqlDatum, error) {
	n, ok := new(big.Int).SetString(digits, 10)
	if !ok || len(digits) > 38 {
		return sqlDatum{}, sqlFailure{number: 1007, state: 1, class: 15, line: line, text: "The number is out of the range for numeric representation (maximum precision 38)."}
	}
	// Precision 38 has room for any of them, and 17 bytes for its values.
	return sqlDatum{t: sqlType([]byte{tyNumericN, 17, 38, byte(scale)}), data: decimalBytes(n)}, nil
}

func isDate(id byte) bool {
	switch id {
	case tyDateN, tyTimeN, tyDateTime2N, tyDateTimeOffsetN, tyDateTimeN:
		return true
	}
	return false
}

// time is the value of a date of the newer types, or of a text that is one.
func (d sqlDatum) time() (time.Time, bool) {
	if d.null {
		return time.Time{}, false
	}
	if !d.t.isText() && !d.t.isChar() {
		return d.newerDate()
	}
	text := strings.Replace(strings.TrimSpace(d.string()), "T", " ", 1)
	for _, layout := range []string{
		"2006-01-02 15:04:05.9999999", "2006-01-02", "20060102", "20060102 15:04:05.9999999", "2006-01-02 15:04",
		"2006-01-02 15:04:05.9999999 -07:00", "2006-01-02 15:04:05.9999999-07:00", "2006-01-02 15:04:05.9999999Z", "15:04:05.9999999",
	} {
		if at, err := time.Parse(layout, text); err == nil {
			return at, true
		}
	}
	return time.Time{}, false
}

// newerDate reads date, time, datetime2, datetimeoffset, datetime and
// smalldatetime (MS-TDS 2.2.5.5.1.8, .9).
func (d sqlDatum) newerDate() (time.Time, bool) {
	whole := func(b []byte) int64 {
		var v [8]byte
		copy(v[:], b)
		return int64(binary.LittleEndian.Uint64(v[:]))
	}
	days := func(b []byte) time.Time { return time.Date(1, 1, 1+int(whole(b)), 0, 0, 0, 0, time.UTC) }
	ticks := func(b []byte) time.Duration {
		return time.Duration(whole(b) * powerOfTen(9-int(d.t[1])).Int64())
	}
	n, id := len(d.data), d.t.id()
	switch {
	case id == tyDateN && n == 3:
		return days(d.data), true
	case id == tyTimeN && n >= 3 && n <= 5 && d.t[1] <= 7:
		return time.Date(1900, 1, 1, 0, 0, 0, 0, time.UTC).Add(ticks(d.data)), true
	case id == tyDateTime2N && n >= 6 && n <= 8 && d.t[1] <= 7:
		return days(d.data[n-3:]).Add(ticks(d.data[:n-3])), true
	case id == tyDateTimeOffsetN && n >= 8 && n <= 10 && d.t[1] <= 7:
		zone := time.FixedZone("", 60*int(int16(binary.LittleEndian.Uint16(d.data[n-2:]))))
		return days(d.data[n-5 : n-2]).Add(ticks(d.data[:n-5])).In(zone), true
	case (id == tyDateTimeN || id == tyDateTime) && n == 8:
		at := time.Date(1900, 1, 1+int(int32(binary.LittleEndian.Uint32(d.data))), 0, 0, 0, 0, time.UTC)
		return at.Add(time.Duration(binary.LittleEndian.Uint32(d.data[4:])) * time.Second / 300), true
	case (id == tyDateTimeN || id == tyDateTim4) && n == 4:
		at := time.Date(1900, 1, 1+int(binary.LittleEndian.Uint16(d.data)), 0, 0, 0, 0, time.UTC)
		return at.Add(time.Duration(binary.LittleEndian.Uint16(d.data[2:])) * time.Minute), true
	}
	return time.Time{}, false
}

// dateOf is at as a value of one of the types that [isDate] knows.
func dateOf(at time.Time, t sqlType) sqlDatum {
	utc := at.UTC()
	if t.id() != tyDateTimeOffsetN { // the others hold what the clock on the wall says
		utc = time.Date(at.Year(), at.Month(), at.Day(), at.Hour(), at.Minute(), at.Second(), at.Nanosecond(), time.UTC)
	}
	midnight := time.Date(utc.Year(), utc.Month(), utc.Day(), 0, 0, 0, 0, time.UTC)
	days := func(since time.Time) uint64 { return uint64((midnight.Unix() - since.Unix()) / 86400) }
	first := days(time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC))
	date := binary.LittleEndian.AppendUint64(nil, first)[:3]
	var clock []byte
	if t.id() != tyDateN && t.id() != tyDateTimeN {
		size := map[bool]int{true: 5, false: 4}[t[1] > 4]
		if t[1] <= 2 {
			size = 3
		}
		clock = binary.LittleEndian.AppendUint64(nil, uint64(int64(utc.Sub(midnight))/powerOfTen(9-int(t[1])).Int64()))[:size]
	}
	switch t.id() {
	case tyDateN:
		return sqlDatum{t: t, data: date}
	case tyTimeN:
		return sqlDatum{t: t, data: clock}
	case tyDateTime2N:
		return sqlDatum{t: t, data: append(clock, date...)}
	case tyDateTimeOffsetN:
		_, zone := at.Zone()
		return sqlDatum{t: t, data: binary.LittleEndian.AppendUint16(append(clock, date...), uint16(int16(zone/60)))}
	}
	old := days(time.Date(1900, 1, 1, 0, 0, 0, 0, time.UTC))
	if t[1] == 4 {
		b := binary.LittleEndian.AppendUint16(nil, uint16(old))
		return sqlDatum{t: t, data: binary.LittleEndian.AppendUint16(b, uint16(utc.Sub(midnight)/time.Minute))}
	}
	b := binary.LittleEndian.AppendUint32(nil, uint32(old))
	return sqlDatum{t: t, data: binary.LittleEndian.AppendUint32(b, uint32(utc.Sub(midnight)*300/time.Second))}
}

// string is the value of a text, or of a number, a date or bytes in words.
func (d sqlDatum) string() string {
	switch {
	case d.null:
		return ""
	case d.t.isText():
		return utf16Text(d.data)
	case d.t.isChar():
		return string(d.data) // good for ASCII and UTF-8
	case d.isInteger():
		n, _ := d.integer()
		return strconv.FormatInt(n, 10)
	case d.isDecimal():
		if r, ok := d.rational(); ok {
			return r.FloatString(int(d.t[3]))
		}
	case d.t.id() == tyDateN:
		if at, ok := d.time(); ok {
			return at.Format("2006-01-02")
		}
	case isDate(d.t.id()) || d.t.id() == tyDateTime || d.t.id() == tyDateTim4:
		if at, ok := d.time(); ok {
			return at.Format("2006-01-02 15:04:05.0000000")
		}
	}
	if f, ok := d.float(); ok {
		return strconv.FormatFloat(f, 'g', -1, 64)
	}
	return fmt.Sprintf("0x%s", strings.ToUpper(hex.EncodeToString(d.data)))
}
