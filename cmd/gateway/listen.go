package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"
)

// socketMode lets owner and group of a unix socket connect.
const socketMode = 0o660

// listen opens addr: host:port, or unix: and a path.
func listen(addr string) (net.Listener, error) {
	path, isUnix := strings.CutPrefix(addr, "unix:")
	if !isUnix {
		l, err := net.Listen("tcp", addr)
		if err != nil {
			return nil, fmt.Errorf("cannot listen on %s: %w; choose another address, or port 0 to let the system choose", addr, err)
		}
		return l, nil
	}
	if err := removeStale(path); err != nil {
		return nil, err
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("cannot listen on %s: %w; make its folder, and let the gateway's user write there", addr, err)
	}
	if err := os.Chmod(path, socketMode); err != nil {
		return nil, errors.Join(fmt.Errorf("cannot listen on %s: %w", addr, err), l.Close())
	}
	return l, nil
}

// removeStale removes a socket that nobody listens on any more, as a process
// that was killed leaves behind.
func removeStale(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode()&fs.ModeSocket == 0 {
		return fmt.Errorf("cannot listen on unix:%s: there is a file that is no socket; remove it, or choose another path", path)
	}
	conn, err := net.DialTimeout("unix", path, time.Second)
	if err == nil {
		_ = conn.Close()
		return fmt.Errorf("cannot listen on unix:%s: another process does; end it, or choose another path", path)
	}
	return os.Remove(path)
}

// shown is l's address as routes.yaml and the ready file write it.
func shown(l net.Listener) string {
	if l == nil {
		return ""
	}
	return shownAddr(l.Addr())
}

func shownAddr(a net.Addr) string {
	if a.Network() == "unix" {
		return "unix:" + a.String()
	}
	return a.String()
}

// pageAt is where a browser on this machine finds the live page of an admin
// listener, "" where none can.
func pageAt(l net.Listener) string {
	if l == nil {
		return ""
	}
	a, ok := l.Addr().(*net.TCPAddr)
	if !ok {
		return ""
	}
	host := a.IP.String()
	if a.IP.IsUnspecified() {
		host = "127.0.0.1"
	}
	return "http://" + net.JoinHostPort(host, strconv.Itoa(a.Port)) + "/"
}

// tcpAddresses are those of all that can be dialled by tcp.
func tcpAddresses(all ...net.Addr) []netip.AddrPort {
	var out []netip.AddrPort
	for _, a := range all {
		if a, ok := a.(*net.TCPAddr); ok {
			ap := a.AddrPort()
			out = append(out, netip.AddrPortFrom(ap.Addr().Unmap().WithZone(""), ap.Port()))
		}
	}
	return out
}

// offLoopback tells whether strangers may reach addr. A name other than
// localhost counts, whatever it resolves to today.
func offLoopback(addr string) bool {
	if addr == "" || strings.HasPrefix(addr, "unix:") {
		return false
	}
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return true
	}
	if host == "localhost" {
		return false
	}
	ip, err := netip.ParseAddr(host)
	return err != nil || !ip.Unmap().IsLoopback()
}
