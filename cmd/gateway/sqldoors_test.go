package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/seed-13b04e61/gateway/egress"
	"github.com/seed-13b04e61/gateway/sandbox"
	"github.com/seed-13b04e61/gateway/sql/tds"
)

// behind is a gateway with one SQL door, whose further keys are given, in front
// of a sandbox's server.
func behind(t *testing.T, keys, sections string) (*gateway, *logged, *sandbox.SQL) {
	t.Helper()
	world, credentials := sandboxed(t)
	db, err := sandbox.StartSQL(sandbox.SQLOptions{World: world})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, db.CAPEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	g, log := opened(t, doors{}, quietPorts+credentials+sections+fmt.Sprintf(
		"sql:\n  - {name: orders-db, listen: \"127.0.0.1:0\", server: %s, dial: %q, tls: {ca_file: %q}%s}\n", sandbox.SQLHost, db.Addr(), ca, keys))
	return g, log, db
}

// shows is the certificate that g's door shows to a client that wants TLS from
// the first byte.
func shows(t *testing.T, g *gateway) *x509.Certificate {
	t.Helper()
	conn, err := tls.Dial("tcp", g.shownSQL()["orders-db"], &tls.Config{InsecureSkipVerify: true, NextProtos: []string{tds.ALPN}})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0]
}

// ownPair writes a certificate of that name with its key into one file.
func ownPair(t *testing.T, path, name string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), DNSNames: []string{name}, NotAfter: time.Now().Add(365 * 24 * time.Hour)}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	b.Write(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}))
	b.Write(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestADoorShowsTheCertificateOfItsFileAsItIsNow(t *testing.T) {
	path := filepath.Join(t.TempDir(), "door.pem")
	ownPair(t, path, "first.contoso.com")
	g, log, _ := behind(t, fmt.Sprintf(", client_tls: required, certificate_file: %q", path), "")
	if got := shows(t, g).DNSNames; len(got) != 1 || got[0] != "first.contoso.com" {
		t.Errorf("the door shows a certificate for %q, want first.contoso.com", got)
	}
	ownPair(t, path, "second.contoso.com")
	if r := g.Reload(); !r.OK || len(r.Warnings) > 0 {
		t.Fatalf("Reload = %+v", r)
	}
	if got := shows(t, g).DNSNames; len(got) != 1 || got[0] != "second.contoso.com" {
		t.Errorf("the door shows a certificate for %q after its file changed, want second.contoso.com", got)
	}
	if err := os.WriteFile(path, []byte("damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	if r := g.Reload(); !r.OK || len(r.Warnings) != 1 || !strings.Contains(r.Warnings[0], "sql[0].certificate_file") {
		t.Errorf("Reload with a damaged file = %+v, want one warning that names sql[0].certificate_file", r)
	}
	if got := shows(t, g).DNSNames; got[0] != "second.contoso.com" {
		t.Errorf("the door shows a certificate for %q after its file was damaged, want the one before", got)
	}
	if !strings.Contains(log.String(), "what was in force before goes on") {
		t.Error("the log does not say that the certificate before goes on")
	}
}

func TestADoorWithoutAFileShowsOneOfTheCAOrOneOfItsOwn(t *testing.T) {
	g, _, _ := behind(t, "", "")
	own := shows(t, g)
	if own.VerifyHostname("localhost") != nil || own.CheckSignature(own.SignatureAlgorithm, own.RawTBSCertificate, own.Signature) != nil {
		t.Errorf("the door shows %q of %q, want one that it made itself for localhost", own.Subject, own.Issuer)
	}
	g, _, _ = behind(t, "", fmt.Sprintf("intercept: {ca_dir: %q}\n", filepath.Join(t.TempDir(), "ca")))
	roots := x509.NewCertPool()
	for _, r := range g.ca.Roots() {
		roots.AddCert(r)
	}
	for _, name := range []string{"localhost", sandbox.SQLHost} {
		conn, err := tls.Dial("tcp", g.shownSQL()["orders-db"], &tls.Config{RootCAs: roots, ServerName: name, NextProtos: []string{tds.ALPN}})
		if err != nil {
			t.Errorf("by the name %s: %v", name, err)
			continue
		}
		_ = conn.Close()
	}
}

func TestNobodyIsLedToTheGatewaysOwnDoors(t *testing.T) {
	g, _, db := behind(t, "", "")
	own := map[string]string{"proxy": shown(g.proxyL), "sql": g.shownSQL()["orders-db"]}
	dialled := func(addr string) error {
		conn, err := g.hop.DialContext(t.Context(), "tcp", addr)
		if err == nil {
			_ = conn.Close()
		}
		return err
	}
	for range 2 { // as it began, and after a reload
		for name, addr := range own {
			if err := dialled(addr); !errors.Is(err, egress.ErrForbidden) {
				t.Errorf("the %s door is dialled: %v", name, err)
			}
		}
		if err := dialled(db.Addr()); err != nil {
			t.Error(err)
		}
		if r := g.Reload(); !r.OK {
			t.Fatalf("Reload = %+v", r)
		}
	}
}

func TestADrainEndsWithTheSessionsOfDatabases(t *testing.T) {
	g, log, db := behind(t, "", "")
	conn, err := net.Dial("tcp", g.shownSQL()["orders-db"])
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	s, err := tds.Open(t.Context(), conn, checkLogin(), nil)
	if err != nil {
		t.Fatal(err)
	}
	asking, stop := context.WithCancel(t.Context())
	defer stop()
	done := make(chan error, 1)
	go func() { // ends when the drain cuts it off
		_, err := s.Query(asking, "WAITFOR DELAY '01:00:00'")
		done <- err
	}()
	for db.Counts().Requests == 0 {
		pause()
	}
	g.patience = 200 * time.Millisecond
	if err := g.drain(0); err == nil || !strings.Contains(err.Error(), "SQL sessions were still under way after 200ms and were cut off") {
		t.Errorf("drain = %v, want an error that tells of SQL sessions", err)
	}
	if err := <-done; err == nil {
		t.Error("the statement ended well although its session was cut off")
	}
	if !strings.Contains(log.String(), "SQL sessions were cut off") {
		t.Errorf("the log does not tell of the sessions:\n%s", log)
	}
	if c, err := net.DialTimeout("tcp", conn.RemoteAddr().String(), time.Second); err == nil {
		_, err = tds.Open(t.Context(), c, checkLogin(), nil)
		_ = c.Close()
		if err == nil {
			t.Error("a login was taken after the drain")
		}
	}
	if broken := db.Violations(); len(broken) > 0 {
		t.Errorf("violations: %q", broken)
	}
}

func TestReadinessCountsTheCredentialsOfSQLDoors(t *testing.T) {
	g, _, db := behind(t, "", "")
	for !g.Ready("", false).Ready {
		pause()
	}
	if r := g.Ready("orders-db", true); !r.Ready {
		t.Errorf("Ready(orders-db) = %+v, want ready", r)
	}
	if r := g.Ready("nosuch", false); r.Ready {
		t.Errorf("Ready(nosuch) = %+v, want not ready", r)
	}
	s := g.state()
	if len(s.Tokens) != 1 || !strings.HasPrefix(s.Tokens[0].Scope, "https://database.windows.net/") {
		t.Errorf("the gauges show the tokens %+v, want that of the SQL door", s.Tokens)
	}
	if n := db.Counts().Connections; n != 0 {
		t.Errorf("the server saw %d connections, want none before somebody logs in", n)
	}
}

func TestTheGatewayDoesNotDialItsOwnSQLDoors(t *testing.T) {
	g, _, _ := behind(t, "", "")
	conn, err := g.hop.DialContext(t.Context(), "tcp", g.shownSQL()["orders-db"])
	if err == nil {
		_ = conn.Close()
		t.Fatal("the gateway dialled its own SQL door")
	}
}
