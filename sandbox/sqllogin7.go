package sandbox

import (
	"encoding/binary"
	"fmt"
	"unicode/utf16"
)

// Sizes and flags of LOGIN7 (MS-TDS 2.2.6.4).
const (
	maxLogin7     = 128<<10 - 1
	login7Fixed   = 94
	tds74         = 0x74000004
	tds80         = 0x08000000
	featRecovery  = 0x01
	featFedAuth   = 0x02
	featAzure     = 0x08
	featUTF8      = 0x0a
	featDNSCache  = 0x0b
	featEnd       = 0xff
	login7Units   = 128 // of most names, in UTF-16 code units
	flagIntegrity = 0x80
	flagExtension = 0x10
)

// sqlLogin7 is a LOGIN7 as far as the server looks into it.
type sqlLogin7 struct {
	version, packetSize                               uint32
	flags1, flags2, typeFlags, flags3                 byte
	host, user, app, server, library, language, dbase string
	password, changePassword, sspi, attach, sspiLong  int // lengths; their bytes are of no interest
	features                                          []sqlOption
	fedAuth                                           []byte
	hasFedAuth                                        bool
}

// parseLogin7 reads a LOGIN7 and records what is wrong with it; an error means
// that it cannot be read on.
func (s *SQL) parseLogin7(b []byte) (*sqlLogin7, error) {
	if len(b) < login7Fixed {
		s.violate("2.2.6.4: LOGIN7 has %d bytes, its fixed part has %d", len(b), login7Fixed)
		return nil, fmt.Errorf("%w: LOGIN7", errSQLFraming)
	}
	if n := binary.LittleEndian.Uint32(b); int(n) != len(b) {
		s.violate("2.2.6.4: LOGIN7's Length is %d, it has %d bytes", n, len(b))
	}
	l := &sqlLogin7{
		version: binary.LittleEndian.Uint32(b[4:]), packetSize: binary.LittleEndian.Uint32(b[8:]),
		flags1: b[24], flags2: b[25], typeFlags: b[26], flags3: b[27],
		sspiLong: int(binary.LittleEndian.Uint32(b[90:])),
	}
	if off := binary.LittleEndian.Uint16(b[36:]); off != login7Fixed {
		s.violate("2.2.6.4: LOGIN7's ibHostName is %d, not %d", off, login7Fixed)
	}
	fields := []struct {
		at, unit, limit int
		name            string
		text            *string
		size            *int
	}{
		{36, 2, login7Units, "HostName", &l.host, nil}, {40, 2, login7Units, "UserName", &l.user, nil},
		{44, 2, login7Units, "Password", nil, &l.password}, {48, 2, login7Units, "AppName", &l.app, nil},
		{52, 2, login7Units, "ServerName", &l.server, nil}, {60, 2, login7Units, "CltIntName", &l.library, nil},
		{64, 2, login7Units, "Language", &l.language, nil}, {68, 2, login7Units, "Database", &l.dbase, nil},
		{78, 1, 65535, "SSPI", nil, &l.sspi}, {82, 2, 260, "AtchDBFile", nil, &l.attach},
		{86, 2, login7Units, "ChangePassword", nil, &l.changePassword},
	}
	for _, f := range fields {
		data, err := s.loginField(b, f.at, f.unit, f.name)
		if err != nil {
			return nil, err
		}
		if units := len(data) / f.unit; units > f.limit {
			s.violate("2.2.6.4: LOGIN7's %s has %d units, at most %d are allowed", f.name, units, f.limit)
		}
		if f.text != nil {
			*f.text = utf16Text(data)
		} else {
			*f.size = len(data)
		}
	}
	return l, s.parseFeatures(l, b)
}

// loginField returns the bytes that the offset and the length at b[at:] mean.
func (s *SQL) loginField(b []byte, at, unit int, name string) ([]byte, error) {
	off, n := int(binary.LittleEndian.Uint16(b[at:])), unit*int(binary.LittleEndian.Uint16(b[at+2:]))
	if n == 0 {
		return nil, nil // the offset means nothing then
	}
	if off < login7Fixed || off+n > len(b) {
		s.violate("2.2.6.4: LOGIN7's %s is at %d to %d of %d bytes", name, off, off+n, len(b))
		return nil, fmt.Errorf("%w: LOGIN7", errSQLFraming)
	}
	return b[off : off+n], nil
}

// parseFeatures reads the FeatureExt block, which has to end the message.
func (s *SQL) parseFeatures(l *sqlLogin7, b []byte) error {
	ext, err := s.loginField(b, 56, 1, "Extension")
	if err != nil {
		return err
	}
	if l.flags3&flagExtension == 0 {
		if len(ext) > 0 {
			s.violate("2.2.6.4: LOGIN7 has an Extension but not fExtension")
		}
		return nil
	}
	if len(ext) < 4 {
		s.violate("2.2.6.4: LOGIN7 has fExtension and an Extension of %d bytes", len(ext))
		return fmt.Errorf("%w: LOGIN7", errSQLFraming)
	}
	at := int(binary.LittleEndian.Uint32(ext))
	if at < login7Fixed || at >= len(b) {
		s.violate("2.2.6.4: LOGIN7's FeatureExt is at %d of %d bytes", at, len(b))
		return fmt.Errorf("%w: LOGIN7", errSQLFraming)
	}
	return s.features(l, b[at:])
}

// features reads the list itself.
func (s *SQL) features(l *sqlLogin7, b []byte) error {
	seen := map[byte]bool{}
	for len(b) > 0 && b[0] != featEnd {
		if len(b) < 5 || uint64(binary.LittleEndian.Uint32(b[1:])) > uint64(len(b)-5) {
			s.violate("2.2.6.4: LOGIN7's feature %#02x ends beyond the message", b[0])
			return fmt.Errorf("%w: FeatureExt", errSQLFraming)
		}
		n := 5 + int(binary.LittleEndian.Uint32(b[1:]))
		f := sqlOption{token: b[0], data: b[5:n]}
		if seen[f.token] {
			s.violate("2.2.6.4: LOGIN7 has the feature %#02x twice", f.token)
		}
		seen[f.token] = true
		if f.token == featFedAuth {
			l.fedAuth, l.hasFedAuth = f.data, true
		}
		l.features = append(l.features, f)
		b = b[n:]
	}
	if len(b) != 1 {
		s.violate("2.2.6.4: %d bytes where LOGIN7's FeatureExt and with it the message has to end by 0xff", len(b))
	}
	return nil
}

// utf16Text decodes UTF-16LE.
func utf16Text(b []byte) string {
	units := make([]uint16, len(b)/2)
	for i := range units {
		units[i] = binary.LittleEndian.Uint16(b[2*i:])
	}
	return string(utf16.Decode(units))
}

// textUTF16 encodes UTF-16LE.
func textUTF16(s string) []byte {
	var b []byte
	for _, u := range utf16.Encode([]rune(s)) {
		b = binary.LittleEndian.AppendUint16(b, u)
	}
	return b
}
