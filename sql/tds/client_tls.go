package tds

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"reflect"
	"syscall"
)

// opening is a client's connection whose first byte was looked at. During a
// handshake it keeps an eye on alerts that crypto/tls takes for something else.
type opening struct {
	net.Conn
	first    byte
	held     bool // first is still to be read
	watching bool
	alert    uint8 // the last one that came unsealed; 0: none
	shown    bool  // the client was sent a certificate
}

// NetConn is the connection beneath, for TCP's half close.
func (o *opening) NetConn() net.Conn { return o.Conn }

// CloseWrite ends the half beneath, if there is one to end.
func (o *opening) CloseWrite() error { return closeWrite(o.Conn) }

// peek is the first byte, which the next Read returns again.
func (o *opening) peek() (byte, error) {
	var b [1]byte
	if _, err := io.ReadFull(o.Conn, b[:]); err != nil {
		return 0, err
	}
	o.first, o.held = b[0], true
	return o.first, nil
}

// Read implements [net.Conn].
func (o *opening) Read(b []byte) (int, error) {
	if o.held && len(b) > 0 {
		b[0], o.held = o.first, false
		return 1, nil
	}
	n, err := o.Conn.Read(b)
	if o.watching {
		o.alert = bareAlert(b[:n])
	}
	return n, err
}

// bareAlert is the fatal alert that b ends in, 0 if it ends in none. OpenSSL
// (ODBC, Python) refuses a certificate of TLS 1.3 before it has its keys for
// writing in use, and so unsealed; others send it outside of PRELOGIN packets.
// Both are no alert to crypto/tls.
func bareAlert(b []byte) uint8 {
	const size = 7 // type, version, length, level, description
	if len(b) < size {
		return 0
	}
	if b = b[len(b)-size:]; b[0] != 21 || b[1] != 3 || b[3] != 0 || b[4] != 2 || b[5] != 2 {
		return 0
	}
	return b[6]
}

// config is the door's TLS but for versions above 1.2 inside TDS, which
// [StartTLS] rules out.
func (a *arrival) config() *tls.Config {
	return &tls.Config{
		MinVersion:                  tls.VersionTLS12,
		SessionTicketsDisabled:      true,
		DynamicRecordSizingDisabled: true,
		GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			a.sni = canonicalServer(hello.ServerName)
			if a.front.Certificate == nil {
				return nil, errNoCertificate
			}
			certificate, err := a.front.Certificate(hello.ServerName)
			if err != nil {
				return nil, fmt.Errorf("%w: %w", errNoCertificate, err)
			}
			a.wire.shown = true
			return certificate, nil
		},
	}
}

var errNoCertificate = errors.New("the door has no certificate to show to clients")

// trustRemedy is for clients of every kind.
const trustRemedy = "have the client trust the CA of certificate_file, or the gateway's own, which gateway ca export prints, and connect by a name that is in the certificate; " +
	"or set TrustServerCertificate=True in its connection string, which Encrypt=Strict ignores"

// handshake does a handshake, whose error says what it means.
func (a *arrival) handshake(do func() error) error {
	a.wire.watching = true
	err := do()
	a.wire.watching = false
	if err == nil {
		return nil
	}
	alert, isAlert := alertOf(err)
	if !isAlert && a.wire.alert != 0 {
		alert, isAlert = a.wire.alert, true
	}
	switch {
	case errors.Is(err, errNoCertificate):
		return err
	case isAlert && doubts(alert) != "":
		return fmt.Errorf("client does not trust the door's certificate: it answered with the alert %s; %s: %w", doubts(alert), trustRemedy, err)
	case !isAlert && a.wire.shown && endedByPeer(err):
		return fmt.Errorf("client left when it saw the door's certificate, as clients do that do not trust it: %s: %w", trustRemedy, err)
	}
	return fmt.Errorf("TLS handshake with the client: %w", err)
}

// doubts names the alerts (RFC 8446 §6.2) by which clients say that they do not
// believe a certificate; "" for any other.
func doubts(alert uint8) string {
	switch alert {
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

// alertOf is the alert that the peer sent. crypto/tls has no exported type for
// it: a number beneath a [net.OpError].
func alertOf(err error) (uint8, bool) {
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

func endedByPeer(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}
