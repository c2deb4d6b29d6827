package tds

import (
	"encoding/binary"
	"fmt"
	"strings"
)

// canonicalServer is the host of a server as clients write it, in ServerName
// or SNI: "tcp:Orders.Database.Windows.net\inst,1433" is
// "orders.database.windows.net". What clients put there is not checked.
func canonicalServer(s string) string {
	s = strings.ToLower(strings.TrimSpace(s))
	s = strings.TrimPrefix(s, "admin:")
	s = strings.TrimPrefix(s, "tcp:")
	s, _, _ = strings.Cut(s, ",")
	s, _, _ = strings.Cut(s, `\`)
	return strings.TrimSuffix(strings.TrimSpace(s), ".")
}

// traceID is the connection ID in a TRACEID option: 16 bytes of it, then 20 of
// an activity (MS-TDS 2.2.6.5). The text is as SqlClient and Azure's support
// write it, the first three groups little-endian. Zeros are none.
func traceID(data []byte) string {
	const size = 36
	if len(data) != size || [16]byte(data) == [16]byte{} {
		return ""
	}
	le := binary.LittleEndian
	return fmt.Sprintf("%08x-%04x-%04x-%x-%x", le.Uint32(data), le.Uint16(data[4:]), le.Uint16(data[6:]), data[8:10], data[10:16])
}

// VersionName is a TDSVersion in words, as in 7.3B.
func VersionName(version uint32) string {
	switch version {
	case TDS70:
		return "7.0"
	case TDS71, TDS711:
		return "7.1"
	case TDS72:
		return "7.2"
	case TDS73A:
		return "7.3A"
	case TDS73B:
		return "7.3B"
	case TDS74:
		return "7.4"
	case TDS80:
		return "8.0"
	}
	return fmt.Sprintf("0x%08x", version)
}
