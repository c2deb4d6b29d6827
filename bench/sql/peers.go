package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/seed-13b04e61/gateway/secrets"
	"github.com/seed-13b04e61/gateway/sql/tds"
)

// server answers every login, and each batch with as many bytes as it asks for.
type server struct {
	addr, certFile string // the file holds its key too, for those who show it in its place
	roots          *x509.CertPool
	packet         int
	zeros          []byte
}

func newServer(dir string, o options) (*server, error) {
	s := &server{certFile: filepath.Join(dir, "server.pem"), packet: o.packet, zeros: make([]byte, o.packet)}
	if err := newCertificate(s.certFile); err != nil {
		return nil, err
	}
	cert, roots, err := certificate(s.certFile)
	if err != nil {
		return nil, err
	}
	s.roots = roots
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s.addr = l.Addr().String()
	conf := &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{tds.ALPN}, DynamicRecordSizingDisabled: true}
	go each(l, func(conn net.Conn) error { return s.serve(tls.Server(conn, conf)) }) // until the process ends
	return s, nil
}

// each serves connections until l fails.
func each(l net.Listener, serve func(net.Conn) error) error {
	for {
		conn, err := l.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer conn.Close()
			if err := serve(conn); err != nil && !errors.Is(err, io.EOF) {
				fmt.Fprintln(os.Stderr, err)
			}
		}()
	}
}

// serve answers one client, each packet in one record, as SQL Server does.
func (s *server) serve(conn net.Conn) error {
	answers := map[tds.PacketType][]byte{
		tds.PreLogin: tds.Options{{Token: tds.OptVersion, Data: make([]byte, 6)}, {Token: tds.OptEncryption, Data: []byte{byte(tds.EncryptOn)}}}.Bytes(),
		tds.Login7:   s.welcome(),
	}
	packet := make([]byte, s.packet)
	for {
		h, payload, err := tds.ReadMessage(conn, tds.MaxLoginBytes, tds.PreLogin, tds.Login7, tds.Batch)
		if err != nil {
			return err
		}
		if h.Type != tds.Batch {
			if err := tds.WriteMessage(conn, tds.Header{Type: tds.Reply, SPID: 51}, answers[h.Type], tds.LoginPacket); err != nil {
				return err
			}
			continue
		}
		for left := int(binary.BigEndian.Uint64(payload)); left > 0; {
			n := min(left, s.packet-tds.HeaderSize)
			left -= n
			packet[0], packet[1] = byte(tds.Reply), 0
			if left == 0 {
				packet[1] = tds.EOM
			}
			binary.BigEndian.PutUint16(packet[2:], uint16(n+tds.HeaderSize))
			if _, err := conn.Write(packet[:n+tds.HeaderSize]); err != nil {
				return err
			}
		}
	}
}

// welcome is the answer to a login: LOGINACK, the packet size, FEDAUTH's
// acknowledgement and DONE (MS-TDS 2.2.7).
func (s *server) welcome() []byte {
	text := func(v string) []byte { return append([]byte{byte(len(v))}, tds.NewUTF16(v)...) }
	short := func(kind byte, data []byte) []byte {
		return append(binary.LittleEndian.AppendUint16([]byte{kind}, uint16(len(data))), data...)
	}
	ack := append([]byte{1, 0x74, 0, 0, 4}, text("bench")...)
	size := append(append([]byte{tds.EnvPacketSize}, text(strconv.Itoa(s.packet))...), text("4096")...)
	b := append(short(tds.TokenLoginAck, append(ack, 12, 0, 7, 0xd0)), short(tds.TokenEnvChange, size)...)
	b = append(b, tds.BuildFeatureExtAck([]tds.Feature{{ID: tds.FeatureFedAuth}})...)
	return append(b, append([]byte{tds.TokenDone}, make([]byte, 12)...)...)
}

// relay runs a contender until the process is ended.
func relay(kind, addr, certFile string) error {
	cert, roots, err := certificate(certFile)
	if err != nil {
		return err
	}
	toServer := &tls.Config{RootCAs: roots, ServerName: "localhost", NextProtos: []string{tds.ALPN}, DynamicRecordSizingDisabled: true}
	toClient := &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{tds.ALPN}, DynamicRecordSizingDisabled: true}
	serve, known := map[string]func(net.Conn) error{
		"relay":     func(conn net.Conn) error { return gateway(conn, addr, roots, cert) },
		"relay-tls": func(conn net.Conn) error { return gateway(conn, addr, roots, cert) },
		"plain":     func(conn net.Conn) error { return between(conn, addr, nil) },
		"hop":       func(conn net.Conn) error { return between(conn, addr, toServer) },
		"hops":      func(conn net.Conn) error { return between(tls.Server(conn, toClient), addr, toServer) },
	}[kind]
	if !known {
		return fmt.Errorf("no such relay: %q", kind)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(l.Addr())
	return each(l, serve)
}

// between copies bytes, under TLS to the server if conf is not nil.
func between(client net.Conn, addr string, conf *tls.Config) error {
	server, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	if conf != nil {
		server = tls.Client(server, conf)
	}
	go func() {
		_, _ = io.Copy(server, client)
		_ = server.Close()
	}()
	_, _ = io.Copy(client, server)
	return nil
}

// gateway is the SQL door's way of a session, without its frame.
func gateway(conn net.Conn, addr string, roots *x509.CertPool, cert tls.Certificate) error {
	ctx := context.Background()
	client, err := tds.Accept(ctx, conn, tds.Front{TLS: tds.TLSOptional, Certificate: func(string) (*tls.Certificate, error) { return &cert, nil }})
	if err != nil {
		return err
	}
	target := tds.Target{Host: "localhost", Port: 1433, Dial: addr, Strict: true, Roots: roots, Dialer: &net.Dialer{}}
	server, err := tds.Connect(ctx, target, client.Login(), client.Prelogin(), secrets.New("of-the-benchmark"))
	if err != nil {
		return err
	}
	if err := client.Welcome(server); err != nil {
		return err
	}
	_, err = (&tds.Relay{Client: client, Upstream: server}).Run(ctx)
	return err
}

// newCertificate writes a certificate for localhost, and its key.
func newCertificate(file string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "of one run"}, DNSNames: []string{"localhost"},
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	b := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	b = append(b, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})...)
	return os.WriteFile(file, b, 0o600)
}

func certificate(file string) (tls.Certificate, *x509.CertPool, error) {
	cert, err := tls.LoadX509KeyPair(file, file)
	if err != nil {
		return cert, nil, err
	}
	roots := x509.NewCertPool()
	roots.AddCert(cert.Leaf)
	return cert, roots, nil
}
