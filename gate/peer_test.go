//go:build linux

package gate_test

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/seed-13b04e61/gateway/gate"
)

func TestKernelAttestsTheOwnerOfALocalPeer(t *testing.T) {
	for _, where := range []struct{ network, addr string }{
		{"tcp", "127.0.0.1:0"},
		{"tcp", "[::1]:0"},
		{"unix", filepath.Join(t.TempDir(), "s")},
	} {
		t.Run(where.network+" "+where.addr, func(t *testing.T) {
			l, err := net.Listen(where.network, where.addr)
			if err != nil && where.addr == "[::1]:0" {
				t.Logf("no IPv6 loopback: %v", err)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			client, err := net.Dial(where.network, l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			served, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			defer served.Close()
			uid, err := gate.PeerUID(served)
			if err != nil {
				t.Fatal(err)
			}
			if want := uint32(os.Getuid()); uid != want {
				t.Errorf("PeerUID = %d, want %d", uid, want)
			}
		})
	}
}

// The kernel shows a socket without a process as root's: whoever sends a call
// and closes at once must not pass for root.
func TestClosedPeerIsNobodyAndNotRoot(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	client, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	served, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer served.Close()
	if err := client.Close(); err != nil {
		t.Fatal(err)
	}
	if n, err := served.Read(make([]byte, 1)); n != 0 || err == nil { // until the close has arrived
		t.Fatalf("Read = %d, %v, want the end", n, err)
	}
	if uid, err := gate.PeerUID(served); !errors.Is(err, gate.ErrNoPeer) {
		t.Errorf("PeerUID = %d, %v, want ErrNoPeer", uid, err)
	}
}

// What a peer had sent before it reset its connection can still be read, and by
// then its port may be somebody else's.
func TestPeerThatResetItsConnectionIsNotTheNextOneFromItsPort(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	// An address that no other process dials from, so that the port stays free.
	from := &net.TCPAddr{IP: net.IPv4(127, 91, 17, 3)}
	first, err := (&net.Dialer{LocalAddr: from}).Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	served, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer served.Close()
	if err := errors.Join(first.(*net.TCPConn).SetLinger(0), first.Close()); err != nil {
		t.Fatal(err)
	}
	next, err := (&net.Dialer{LocalAddr: first.LocalAddr()}).Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer next.Close()
	if uid, err := gate.PeerUID(served); !errors.Is(err, gate.ErrNoPeer) {
		t.Errorf("PeerUID(the one that was reset) = %d, %v, want ErrNoPeer", uid, err)
	}
	servedNext, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer servedNext.Close()
	if uid, err := gate.PeerUID(servedNext); err != nil || uid != uint32(os.Getuid()) {
		t.Errorf("PeerUID(the next) = %d, %v, want %d", uid, err, os.Getuid())
	}
}

func TestPeerThatHasSaidAllIsKnown(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	client, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	served, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer served.Close()
	if err := client.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if n, err := served.Read(make([]byte, 1)); n != 0 || err == nil {
		t.Fatalf("Read = %d, %v, want the end", n, err)
	}
	if uid, err := gate.PeerUID(served); err != nil || uid != uint32(os.Getuid()) {
		t.Errorf("PeerUID = %d, %v, want %d", uid, err, os.Getuid())
	}
}

func TestUnknownPeerIsRefused(t *testing.T) {
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	if uid, err := gate.PeerUID(a); !errors.Is(err, gate.ErrNoPeer) {
		t.Errorf("PeerUID(pipe) = %d, %v, want ErrNoPeer", uid, err)
	}
}
