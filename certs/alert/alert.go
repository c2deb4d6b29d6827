// Package alert reads from the end of a TLS handshake what the peer thinks of
// the certificate that it was shown. It is apart from certs, so that doors need
// none of what makes certificates.
package alert

import (
	"errors"
	"io"
	"net"
	"reflect"
	"syscall"
)

// Sent is the alert (RFC 8446 §6) that the peer sent, if err is of one. crypto/tls
// has no exported type for it: a number beneath a [net.OpError].
func Sent(err error) (number uint8, ok bool) {
	var op *net.OpError
	if !errors.As(err, &op) || op.Op != "remote error" || op.Err == nil {
		return 0, false
	}
	v := reflect.ValueOf(op.Err)
	if v.Kind() != reflect.Uint8 {
		return 0, false
	}
	return uint8(v.Uint()), true
}

// Bare is the alert record that b, as it was read from the peer, ends in; 0 if it
// ends in none. OpenSSL (curl, ODBC, Python) refuses a certificate of TLS 1.3
// before it has its keys for writing in use, and so unsealed; drivers of SQL
// Server send it outside of PRELOGIN packets. Both are no alert to crypto/tls.
func Bare(b []byte) uint8 {
	const size = 7 // type, version, length, level, description
	if len(b) < size {
		return 0
	}
	if b = b[len(b)-size:]; b[0] != 21 || b[1] != 3 || b[3] != 0 || b[4] != 2 || b[5] > 2 {
		return 0
	}
	return b[6]
}

// Doubt names the alerts by which peers say that they do not believe a
// certificate; "" for any other.
func Doubt(number uint8) string {
	switch number {
	case 42:
		return "bad_certificate"
	case 43:
		return "unsupported_certificate"
	case 45:
		return "certificate_expired"
	case 46:
		return "certificate_unknown"
	case 48:
		return "unknown_ca"
	}
	return ""
}

// Ended tells whether err is that the peer ended the connection, as those do
// that do not believe a certificate and send no alert.
func Ended(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}
