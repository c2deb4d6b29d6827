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

func TestUnknownPeerIsRefused(t *testing.T) {
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	if uid, err := gate.PeerUID(a); !errors.Is(err, gate.ErrNoPeer) {
		t.Errorf("PeerUID(pipe) = %d, %v, want ErrNoPeer", uid, err)
	}
}
