package tds

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// The fixed part of LOGIN7 (MS-TDS 2.2.6.4).
const (
	loginFixed    = 94
	loginFixedOld = 86 // before 7.2: no ChangePassword, no cbSSPILong
	loginClientID = 72
	loginExtAt    = 56
	loginSSPIAt   = 78
	loginSSPILong = 90
)

// Limits of what is read and, in UTF-16 units, of what is written (MS-TDS
// 2.2.6.4). More is read than is written, as a password is never passed on.
const (
	maxReadUnits   = 4096
	maxUnits       = 128
	maxAttachUnits = 260
	maxUint16      = 1<<16 - 1
)

// loginText is a text of LOGIN7 and the place of its offset and length.
type loginText struct {
	at        int
	name      string
	text      *UTF16
	max       int
	scrambled bool
}

// texts are the texts before the extension, between it and SSPI, and after.
func (l *Login) texts() (first, second, third []loginText) {
	first = []loginText{
		{36, "HostName", &l.HostName, maxUnits, false},
		{40, "UserName", &l.UserName, maxUnits, false},
		{44, "Password", &l.Password, maxUnits, true},
		{48, "AppName", &l.AppName, maxUnits, false},
		{52, "ServerName", &l.ServerName, maxUnits, false},
	}
	second = []loginText{
		{60, "CltIntName", &l.Library, maxUnits, false},
		{64, "Language", &l.Language, maxUnits, false},
		{68, "Database", &l.Database, maxUnits, false},
	}
	third = []loginText{
		{82, "AtchDBFile", &l.AttachDBFile, maxAttachUnits, false},
		{86, "ChangePassword", &l.ChangePassword, maxUnits, true},
	}
	return first, second, third
}

// ParseLogin reads a LOGIN7's payload, of 7.0 to 8.0. Every offset is checked.
// A feature list is bounded by the payload, ends with its terminator and has no
// feature twice. The error never quotes the payload. The login shares no memory
// with the payload, which the caller wipes.
func ParseLogin(payload []byte) (*Login, error) {
	if len(payload) < loginFixedOld {
		return nil, fmt.Errorf("LOGIN7 has %d bytes, want %d at least", len(payload), loginFixedOld)
	}
	l := &Login{Version: binary.LittleEndian.Uint32(payload[4:])}
	fixed := loginFixed
	if before72(l.Version) {
		fixed = loginFixedOld
	}
	length := binary.LittleEndian.Uint32(payload)
	if uint64(length) > uint64(len(payload)) || length < uint32(fixed) {
		return nil, fmt.Errorf("LOGIN7 of %d bytes says that it has %d, want %d at least", len(payload), length, fixed)
	}
	payload = payload[:length]
	l.parseFixed(payload)
	first, second, third := l.texts()
	for _, texts := range [][]loginText{first, second, third} {
		for _, t := range texts {
			if t.at >= fixed {
				continue
			}
			if err := t.parse(payload); err != nil {
				l.Wipe()
				return nil, err
			}
		}
	}
	if err := l.parseRest(payload, fixed); err != nil {
		l.Wipe()
		return nil, err
	}
	return l, nil
}

func (l *Login) parseFixed(b []byte) {
	for i, field := range l.numbers() {
		*field = binary.LittleEndian.Uint32(b[8+4*i:])
	}
	l.OptionFlags1, l.OptionFlags2, l.TypeFlags, l.OptionFlags3 = b[24], b[25], b[26], b[27]
	l.TimeZone = binary.LittleEndian.Uint32(b[28:])
	l.LCID = binary.LittleEndian.Uint32(b[32:])
	copy(l.ClientID[:], b[loginClientID:])
}

// numbers are the fields from offset 8 on.
func (l *Login) numbers() []*uint32 {
	return []*uint32{&l.PacketSize, &l.ClientProgVer, &l.ClientPID, &l.ConnectionID}
}

func (t loginText) parse(payload []byte) error {
	units := int(binary.LittleEndian.Uint16(payload[t.at+2:]))
	if units > maxReadUnits {
		return fmt.Errorf("LOGIN7's %s has %d characters, want %d at most", t.name, units, maxReadUnits)
	}
	data, err := loginField(payload, t.at, 2*units)
	if err != nil {
		return fmt.Errorf("LOGIN7's %s: %w", t.name, err)
	}
	if t.scrambled {
		unscramble(data)
	}
	*t.text = data
	return nil
}

var errBeyond = errors.New("ends beyond the message")

// loginField copies n bytes from the offset that stands at a place. Without
// bytes the offset means nothing, and the copy is nil.
func loginField(payload []byte, at, n int) ([]byte, error) {
	if n == 0 {
		return nil, nil
	}
	offset := int(binary.LittleEndian.Uint16(payload[at:]))
	if offset+n > len(payload) {
		return nil, errBeyond
	}
	return append(make([]byte, 0, n), payload[offset:offset+n]...), nil
}

// parseRest reads what is counted in bytes: SSPI and the features.
func (l *Login) parseRest(payload []byte, fixed int) error {
	n := int(binary.LittleEndian.Uint16(payload[loginSSPIAt+2:]))
	if n == maxUint16 && fixed == loginFixed {
		if long := binary.LittleEndian.Uint32(payload[loginSSPILong:]); long > MaxLoginBytes {
			return fmt.Errorf("LOGIN7's SSPI: %w", errBeyond)
		} else if long > 0 {
			n = int(long)
		}
	}
	var err error
	if l.SSPI, err = loginField(payload, loginSSPIAt, n); err != nil {
		return fmt.Errorf("LOGIN7's SSPI: %w", err)
	}
	if fixed != loginFixed || l.OptionFlags3&flagExtension == 0 {
		return nil
	}
	n = int(binary.LittleEndian.Uint16(payload[loginExtAt+2:]))
	if n == 0 {
		l.OptionFlags3 &^= flagExtension
		return nil
	}
	if n < 4 {
		return fmt.Errorf("LOGIN7's extension has %d bytes, want 4 at least", n)
	}
	pointer, err := loginField(payload, loginExtAt, n)
	if err != nil {
		return fmt.Errorf("LOGIN7's extension: %w", err)
	}
	offset := binary.LittleEndian.Uint32(pointer)
	if uint64(offset) >= uint64(len(payload)) {
		return fmt.Errorf("LOGIN7's features: %w", errBeyond)
	}
	l.Features, _, err = parseFeatures(payload[offset:])
	if err != nil {
		return fmt.Errorf("LOGIN7's features: %w", err)
	}
	return nil
}

const (
	featureTerminator = 0xff
	featureHeader     = 5 // ID, length
)

// parseFeatures copies a list of features with its terminator (MS-TDS 2.2.6.4,
// 2.2.7.11), none twice, and returns how many bytes it has. It is never nil.
func parseFeatures(b []byte) (features []Feature, size int, err error) {
	features = []Feature{}
	var seen [256]bool
	for {
		rest := b[size:]
		switch {
		case len(rest) == 0:
			return nil, 0, errors.New("no terminator")
		case rest[0] == featureTerminator:
			return features, size + 1, nil
		case len(rest) < featureHeader:
			return nil, 0, errBeyond
		case seen[rest[0]]:
			return nil, 0, fmt.Errorf("feature %#02x stands twice", rest[0])
		}
		seen[rest[0]] = true
		n := uint64(binary.LittleEndian.Uint32(rest[1:]))
		if n > uint64(len(rest)-featureHeader) {
			return nil, 0, fmt.Errorf("feature %#02x: %w", rest[0], errBeyond)
		}
		end := featureHeader + int(n)
		data := append(make([]byte, 0, n), rest[featureHeader:end]...)
		features = append(features, Feature{rest[0], data})
		size += end
	}
}

func appendFeatures(b []byte, features []Feature) []byte {
	for _, f := range features {
		b = append(b, f.ID)
		b = binary.LittleEndian.AppendUint32(b, uint32(len(f.Data)))
		b = append(b, f.Data...)
	}
	return append(b, featureTerminator)
}

// Bytes is the payload of a LOGIN7 of version 7.2 or later, the features last.
// A field that is longer than its limit (128 units; MS-TDS 2.2.6.4) is an error.
// The caller wipes it once it is sent.
func (l *Login) Bytes() ([]byte, error) {
	if before72(l.Version) {
		return nil, fmt.Errorf("LOGIN7 of TDS %#08x cannot be written, want 7.2 at least", l.Version)
	}
	size := l.size()
	if size > MaxLoginBytes {
		return nil, fmt.Errorf("LOGIN7: %w: more than %d bytes", ErrTooLong, MaxLoginBytes)
	}
	w := loginWriter{b: make([]byte, loginFixed, size)}
	l.putFixed(w.b, size)
	first, second, third := l.texts()
	w.texts(first)
	pointer := len(w.b)
	if l.Features != nil {
		w.field(loginExtAt, 4, []byte{0, 0, 0, 0})
	} else {
		w.field(loginExtAt, 0, nil)
	}
	w.texts(second)
	w.field(loginSSPIAt, min(len(l.SSPI), maxUint16), l.SSPI)
	if len(l.SSPI) >= maxUint16 {
		putUint32(w.b[loginSSPILong:], len(l.SSPI))
	}
	w.texts(third)
	if w.err != nil {
		clear(w.b)
		return nil, w.err
	}
	if l.Features != nil {
		putUint32(w.b[pointer:], len(w.b))
		w.b = appendFeatures(w.b, l.Features)
	}
	return w.b, nil
}

// size is that of the payload, so that it is never moved while it grows.
func (l *Login) size() int {
	size := loginFixed + len(l.SSPI)
	first, second, third := l.texts()
	for _, texts := range [][]loginText{first, second, third} {
		for _, t := range texts {
			size += 2 * t.text.Units()
		}
	}
	if l.Features == nil {
		return size
	}
	size += 4 + 1
	for _, f := range l.Features {
		size += featureHeader + len(f.Data)
	}
	return size
}

func (l *Login) putFixed(b []byte, size int) {
	putUint32(b, size)
	binary.LittleEndian.PutUint32(b[4:], l.Version)
	for i, field := range l.numbers() {
		binary.LittleEndian.PutUint32(b[8+4*i:], *field)
	}
	b[24], b[25], b[26], b[27] = l.OptionFlags1, l.OptionFlags2, l.TypeFlags, l.OptionFlags3&^flagExtension
	if l.Features != nil {
		b[27] |= flagExtension
	}
	binary.LittleEndian.PutUint32(b[28:], l.TimeZone)
	binary.LittleEndian.PutUint32(b[32:], l.LCID)
	copy(b[loginClientID:], l.ClientID[:])
}

// loginWriter puts the variable data one after the other.
type loginWriter struct {
	b   []byte
	err error
}

func (w *loginWriter) texts(texts []loginText) {
	for _, t := range texts {
		units := t.text.Units()
		if units > t.max && w.err == nil {
			w.err = fmt.Errorf("%s has %d characters, and LOGIN7 holds %d at most", t.name, units, t.max)
		}
		start := len(w.b)
		w.field(t.at, units, (*t.text)[:2*units])
		if t.scrambled {
			scramble(w.b[start:])
		}
	}
}

func (w *loginWriter) field(at, count int, data []byte) {
	if len(w.b) > maxUint16 && w.err == nil {
		w.err = fmt.Errorf("LOGIN7: %w: a field begins beyond %d bytes", ErrTooLong, maxUint16)
	}
	binary.LittleEndian.PutUint16(w.b[at:], uint16(len(w.b)))
	binary.LittleEndian.PutUint16(w.b[at+2:], uint16(count))
	w.b = append(w.b, data...)
}

func putUint32(b []byte, n int) { binary.LittleEndian.PutUint32(b, uint32(n)) }

// scramble hides a password from a glance (MS-TDS 2.2.6.4): halves of each byte
// swapped, then XOR.
func scramble(b []byte) {
	for i, c := range b {
		b[i] = (c<<4 | c>>4) ^ 0xa5
	}
}

func unscramble(b []byte) {
	for i, c := range b {
		c ^= 0xa5
		b[i] = c<<4 | c>>4
	}
}
