//go:build !linux

package gate

import (
	"errors"
	"fmt"
	"net"
)

// ErrNoPeer is wrapped when the kernel does not say who a peer is.
var ErrNoPeer = errors.New("owner of the peer socket is unknown")

// PeerUID knows no way here to have the kernel attest a peer, so it refuses.
func PeerUID(conn net.Conn) (uint32, error) {
	return 0, fmt.Errorf("%w: not available on this system", ErrNoPeer)
}
