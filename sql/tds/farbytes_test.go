package tds_test

import (
	"encoding/binary"
	"fmt"
	"unicode/utf16"
)

// farLogin is LOGIN7 in plain words: the fixed part as bytes, texts, and the
// features in order.
type farLogin struct {
	bad                              string // what is wrong with it
	fixed                            [36]byte
	texts                            map[string]string
	sspi                             []byte
	features                         []farFeature
	version                          uint32
	flags1, flags2, typeFlag, flags3 byte
	clientID                         [6]byte
}

type farFeature struct {
	id   byte
	data []byte
}

func (l farLogin) feature(id byte) []byte {
	for _, f := range l.features {
		if f.id == id {
			return f.data
		}
	}
	return nil
}

func farDecode(b []byte) farLogin {
	l := farLogin{texts: map[string]string{}}
	if len(b) < 94 || int(binary.LittleEndian.Uint32(b)) != len(b) {
		l.bad = "length"
		return l
	}
	copy(l.fixed[:], b)
	copy(l.clientID[:], b[72:])
	l.version = binary.LittleEndian.Uint32(b[4:])
	l.flags1, l.flags2, l.typeFlag, l.flags3 = b[24], b[25], b[26], b[27]
	part := func(place, unit int) []byte {
		at, n := int(binary.LittleEndian.Uint16(b[place:])), int(binary.LittleEndian.Uint16(b[place+2:]))*unit
		if n == 0 {
			return nil
		}
		if at < 94 || at+n > len(b) {
			l.bad = fmt.Sprintf("field at %d", place)
			return nil
		}
		return b[at : at+n]
	}
	for name, place := range map[string]int{"host": 36, "user": 40, "password": 44, "app": 48, "server": 52, "library": 60,
		"language": 64, "database": 68, "attach": 82, "change": 86} {
		l.texts[name] = farText(part(place, 2))
	}
	l.sspi = part(78, 1)
	if l.flags3&0x10 == 0 {
		return l
	}
	pointer := part(56, 1)
	if len(pointer) < 4 {
		l.bad = "extension"
		return l
	}
	for p := int(binary.LittleEndian.Uint32(pointer)); ; {
		if p >= len(b) {
			l.bad = "feature list"
			return l
		}
		if b[p] == 0xff {
			if p != len(b)-1 {
				l.bad = "bytes after the features"
			}
			return l
		}
		n := int(binary.LittleEndian.Uint32(b[p+1:]))
		l.features = append(l.features, farFeature{b[p], b[p+5 : p+5+n]})
		p += 5 + n
	}
}

func farText(b []byte) string {
	units := make([]uint16, len(b)/2)
	for i := range units {
		units[i] = binary.LittleEndian.Uint16(b[2*i:])
	}
	return string(utf16.Decode(units))
}

func farUTF16(s string) []byte {
	var b []byte
	for _, u := range utf16.Encode([]rune(s)) {
		b = binary.LittleEndian.AppendUint16(b, u)
	}
	return b
}

// The tokens of answers, in bytes of their own.

func farJoin(tokens ...[]byte) []byte {
	var b []byte
	for _, t := range tokens {
		b = append(b, t...)
	}
	return b
}

func farShort(kind byte, body ...[]byte) []byte {
	b := farJoin(body...)
	return append([]byte{kind, byte(len(b)), byte(len(b) >> 8)}, b...)
}

func farBVar(s string) []byte {
	text := farUTF16(s)
	return append([]byte{byte(len(text) / 2)}, text...)
}

func farUSVar(s string) []byte {
	text := farUTF16(s)
	return append([]byte{byte(len(text) / 2), byte(len(text) / 2 >> 8)}, text...)
}

func farEnv(kind byte, now, old string) []byte {
	return farShort(0xe3, []byte{kind}, farBVar(now), farBVar(old))
}

func farCollation(c ...byte) []byte {
	return farShort(0xe3, []byte{7, byte(len(c))}, c, []byte{0})
}

func farAck(version uint32) []byte {
	return farShort(0xad, []byte{1}, binary.BigEndian.AppendUint32(nil, version), farBVar("Microsoft SQL Server"), []byte{12, 0, 7, 0xd0})
}

func farFeatures(features ...farFeature) []byte {
	b := []byte{0xae}
	for _, f := range features {
		b = append(binary.LittleEndian.AppendUint32(append(b, f.id), uint32(len(f.data))), f.data...)
	}
	return append(b, 0xff)
}

func farError(number int32, message string) []byte {
	return farShort(0xaa, binary.LittleEndian.AppendUint32(nil, uint32(number)), []byte{1, 14}, farUSVar(message), farBVar("far"),
		farBVar(""), []byte{1, 0, 0, 0})
}

func farInfo(message string) []byte {
	return farShort(0xab, []byte{0x45, 0x16, 0, 0, 2, 0}, farUSVar(message), farBVar("far"), farBVar(""), []byte{1, 0, 0, 0})
}

func farDone() []byte { return []byte{0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0} }

func farRouting(server string, port uint16) []byte {
	value := farJoin([]byte{0, byte(port), byte(port >> 8)}, farUSVar(server))
	return farShort(0xe3, []byte{20, byte(len(value)), byte(len(value) >> 8)}, value, []byte{0, 0})
}

func farEnhanced(server string, port uint16, database string) []byte {
	value := farJoin([]byte{0, byte(port), byte(port >> 8)}, farUSVar(server), farUSVar(database))
	return farShort(0xe3, []byte{21, byte(len(value)), byte(len(value) >> 8)}, value, []byte{0, 0})
}

// farWelcome is a whole welcome of TDS 7.4.
func farWelcome() []byte {
	return farJoin(farEnv(1, "ordersdb", "master"), farInfo("Changed database context to 'ordersdb'."),
		farCollation(9, 4, 0xd0, 0, 0x34), farAck(0x74000004), farEnv(4, "4096", "4096"),
		farFeatures(farFeature{2, nil}), farDone())
}
