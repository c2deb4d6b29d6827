package alert_test

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"testing"

	"github.com/seed-13b04e61/gateway/certs"
	"github.com/seed-13b04e61/gateway/certs/alert"
)

// refused is the server's error of a handshake whose client trusts nobody.
func refused(t *testing.T, version uint16) error {
	t.Helper()
	certificate, err := certs.SelfMade()
	if err != nil {
		t.Fatal(err)
	}
	here, there := net.Pipe()
	defer here.Close()
	go func() {
		defer there.Close()
		_ = tls.Client(there, &tls.Config{ServerName: "localhost", MinVersion: version, MaxVersion: version}).Handshake()
	}()
	return tls.Server(here, &tls.Config{Certificates: []tls.Certificate{*certificate}}).Handshake()
}

func TestPeersThatDoNotBelieveACertificateAreKnownByTheirAlert(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		err := refused(t, version)
		number, ok := alert.Sent(err)
		if !ok || alert.Doubt(number) != "bad_certificate" {
			t.Errorf("%s: %v is alert %d, want bad_certificate", tls.VersionName(version), err, number)
		}
	}
}

func TestOtherErrorsAreNoAlerts(t *testing.T) {
	for _, err := range []error{nil, io.EOF, &net.OpError{Op: "remote error"}, &net.OpError{Op: "remote error", Err: io.EOF}, &net.OpError{Op: "read", Err: io.EOF}} {
		if number, ok := alert.Sent(err); ok {
			t.Errorf("%v is taken for alert %d", err, number)
		}
	}
	for _, number := range []uint8{0, 10, 40, 44, 47, 70, 80, 120} { // close_notify, handshake_failure, certificate_revoked, …
		if said := alert.Doubt(number); said != "" {
			t.Errorf("alert %d is taken for %s", number, said)
		}
	}
}

func TestUnsealedAlertsAreSeenAtTheEndOfWhatCame(t *testing.T) {
	record := []byte{21, 3, 3, 0, 2, 2, 48}
	for name, test := range map[string]struct {
		b    []byte
		want uint8
	}{
		"alone":            {record, 48},
		"behind others":    {append([]byte{20, 3, 3, 0, 1, 1}, record...), 48},
		"cut short":        {record[:6], 0},
		"before others":    {append(append([]byte{}, record...), 20), 0},
		"of another type":  {[]byte{22, 3, 3, 0, 2, 2, 48}, 0},
		"of another level": {[]byte{21, 3, 3, 0, 2, 3, 48}, 0},
		"sealed":           {[]byte{21, 3, 3, 0, 19, 2, 48}, 0},
		"nothing":          {nil, 0},
	} {
		if got := alert.Bare(test.b); got != test.want {
			t.Errorf("%s: alert %d, want %d", name, got, test.want)
		}
	}
}

func TestPeersThatJustLeaveAreKnownToo(t *testing.T) {
	for _, err := range []error{io.EOF, io.ErrUnexpectedEOF, syscall.ECONNRESET, fmt.Errorf("write: %w", syscall.EPIPE)} {
		if !alert.Ended(err) {
			t.Errorf("%v: want it to be the peer's end", err)
		}
	}
	for _, err := range []error{nil, errors.New("tls: bad record"), net.ErrClosed} {
		if alert.Ended(err) {
			t.Errorf("%v is taken for the peer's end", err)
		}
	}
}
