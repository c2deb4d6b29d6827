package gate

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// ErrNoPeer is wrapped when the kernel does not say who a peer is.
var ErrNoPeer = errors.New("owner of the peer socket is unknown")

// The shapes of sock_diag(7) for one TCP socket.
const (
	sockDiagByFamily = 20
	diagRequestLen   = 56
	diagUIDOffset    = 64 // of idiag_uid in struct inet_diag_msg
	diagInodeOffset  = 68 // of idiag_inode
	diagMessageLen   = 72
	diagStateOffset  = 1 // of idiag_state
)

// connected are the states of a peer that has finished its handshake and may
// still be asked of; one that only just dials is the beginning of another
// connection between the same ports.
const connected = 1<<unix.BPF_TCP_ESTABLISHED | 1<<unix.BPF_TCP_FIN_WAIT1 | 1<<unix.BPF_TCP_FIN_WAIT2 | 1<<unix.BPF_TCP_CLOSE_WAIT

// PeerUID returns the user that owns the other end of conn, as the kernel
// attests it: of a unix socket by SO_PEERCRED, of a TCP connection within this
// network namespace by sock_diag(7). Anything else is an error wrapping
// [ErrNoPeer].
func PeerUID(conn net.Conn) (uint32, error) {
	switch c := conn.(type) {
	case *net.UnixConn:
		return unixPeer(c)
	case *net.TCPConn:
		remote, err1 := netip.ParseAddrPort(c.RemoteAddr().String())
		local, err2 := netip.ParseAddrPort(c.LocalAddr().String())
		if err := errors.Join(err1, err2); err != nil {
			return 0, fmt.Errorf("%w: %w", ErrNoPeer, err)
		}
		if !remote.Addr().Unmap().IsLoopback() {
			return 0, fmt.Errorf("%w: %s is not on this machine", ErrNoPeer, remote.Addr())
		}
		uid, err := tcpPeer(remote, local)
		if err == nil {
			err = stillOpen(c)
		}
		if err != nil {
			return 0, err
		}
		return uid, nil
	}
	return 0, fmt.Errorf("%w: %T", ErrNoPeer, conn)
}

func unixPeer(c *net.UnixConn) (uint32, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, fmt.Errorf("%w: %w", ErrNoPeer, err)
	}
	var cred *unix.Ucred
	var credErr error
	err = raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	if err := errors.Join(err, credErr); err != nil {
		return 0, fmt.Errorf("%w: %w", ErrNoPeer, err)
	}
	return cred.Uid, nil
}

// stillOpen sees that the connection was not reset before tcpPeer asked: what it
// had sent can be read all the same, and its ports may be another user's by now.
func stillOpen(c *net.TCPConn) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNoPeer, err)
	}
	var info *unix.TCPInfo
	var infoErr error
	err = raw.Control(func(fd uintptr) {
		info, infoErr = unix.GetsockoptTCPInfo(int(fd), unix.SOL_TCP, unix.TCP_INFO)
	})
	if err := errors.Join(err, infoErr); err != nil {
		return fmt.Errorf("%w: %w", ErrNoPeer, err)
	}
	if info.State == unix.BPF_TCP_CLOSE {
		return fmt.Errorf("%w: the peer has reset its connection", ErrNoPeer)
	}
	return nil
}

// tcpPeer asks for exactly one socket: the one whose own address is remote and
// whose peer is local.
func tcpPeer(remote, local netip.AddrPort) (uint32, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_INET_DIAG)
	if err != nil {
		return 0, fmt.Errorf("%w: %w", ErrNoPeer, err)
	}
	defer unix.Close(fd)
	timeout := unix.Timeval{Sec: 1}
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout); err != nil {
		return 0, fmt.Errorf("%w: %w", ErrNoPeer, err)
	}
	if err := unix.Sendto(fd, diagRequest(remote, local), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return 0, fmt.Errorf("%w: %w", ErrNoPeer, err)
	}
	buf := make([]byte, os.Getpagesize())
	n, _, err := unix.Recvfrom(fd, buf, 0)
	if err != nil {
		return 0, fmt.Errorf("%w: %w", ErrNoPeer, err)
	}
	msgs, err := syscall.ParseNetlinkMessage(buf[:n])
	if err != nil || len(msgs) == 0 {
		return 0, fmt.Errorf("%w: unreadable answer of the kernel", ErrNoPeer)
	}
	m := msgs[0]
	if m.Header.Type != sockDiagByFamily || len(m.Data) < diagMessageLen {
		return 0, fmt.Errorf("%w: no such socket in this network namespace", ErrNoPeer)
	}
	if 1<<m.Data[diagStateOffset]&connected == 0 {
		return 0, fmt.Errorf("%w: the peer's socket is not connected", ErrNoPeer)
	}
	// A socket that its process has closed belongs to nobody, and the kernel
	// shows its uid as 0: who sends a call and closes at once would be root.
	if binary.NativeEndian.Uint32(m.Data[diagInodeOffset:]) == 0 {
		return 0, fmt.Errorf("%w: the peer has closed its socket", ErrNoPeer)
	}
	return binary.NativeEndian.Uint32(m.Data[diagUIDOffset:]), nil
}

// diagRequest is a struct nlmsghdr with a struct inet_diag_req_v2.
func diagRequest(remote, local netip.AddrPort) []byte {
	src, dst := remote.Addr().Unmap(), local.Addr().Unmap()
	b := make([]byte, unix.SizeofNlMsghdr+diagRequestLen)
	binary.NativeEndian.PutUint32(b[0:], uint32(len(b)))
	binary.NativeEndian.PutUint16(b[4:], sockDiagByFamily)
	binary.NativeEndian.PutUint16(b[6:], unix.NLM_F_REQUEST)
	r := b[unix.SizeofNlMsghdr:]
	r[0] = unix.AF_INET
	if src.Is6() {
		r[0] = unix.AF_INET6
	}
	r[1] = unix.IPPROTO_TCP
	binary.NativeEndian.PutUint32(r[4:], 0xffffffff) // any state: it is looked at in the answer
	binary.BigEndian.PutUint16(r[8:], remote.Port())
	binary.BigEndian.PutUint16(r[10:], local.Port())
	copy(r[12:28], src.AsSlice())
	copy(r[28:44], dst.AsSlice())
	for i := 48; i < 56; i++ { // no cookie
		r[i] = 0xff
	}
	return b
}
