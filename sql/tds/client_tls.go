package tds

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"

	"github.com/seed-13b04e61/gateway/certs/alert"
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
		o.alert = alert.Bare(b[:n])
	}
	return n, err
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
	number, isAlert := alert.Sent(err)
	if !isAlert && a.wire.alert != 0 {
		number, isAlert = a.wire.alert, true
	}
	switch {
	case errors.Is(err, errNoCertificate):
		return err
	case isAlert && alert.Doubt(number) != "":
		return fmt.Errorf("client does not trust the door's certificate: it answered with the alert %s; %s: %w", alert.Doubt(number), trustRemedy, err)
	case !isAlert && a.wire.shown && alert.Ended(err):
		return fmt.Errorf("client left when it saw the door's certificate, as clients do that do not trust it: %s: %w", trustRemedy, err)
	}
	return fmt.Errorf("TLS handshake with the client: %w", err)
}
