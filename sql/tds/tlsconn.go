package tds

import (
	"context"
	"crypto/tls"
	"net"
)

// StartTLS does a handshake inside PRELOGIN packets (MS-TDS 2.2.6.5, 3.2.5.1)
// and returns the connection on which TLS records then travel bare. c is
// tls.Client or tls.Server. conf is changed on a copy: TLS 1.2 at most, as TLS
// 1.3 writes after the handshake what a peer no longer expects in packets, and
// records of full size, as SQL Server wants each packet in one.
func StartTLS(ctx context.Context, conn net.Conn, conf *tls.Config, c func(net.Conn, *tls.Config) *tls.Conn) (*tls.Conn, error) {
	panic("provisional")
}

// ALPN is the protocol name of TDS 8.0, whose TLS begins with the connection.
const ALPN = "tds/8.0"
