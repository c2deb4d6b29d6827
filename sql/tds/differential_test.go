package tds_test

import (
	"bytes"
	"context"
	"database/sql/driver"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	mssql "github.com/microsoft/go-mssqldb"

	"github.com/seed-13b04e61/gateway/secrets"
	"github.com/seed-13b04e61/gateway/sql/tds"
)

// go-mssqldb logs in with a token; then with a password, and what it sent goes
// through the gateway's half with the same token. Both have to look the same to
// a server.
func TestLoginIsThatOfADriverWithTheTokenItself(t *testing.T) {
	trust := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(trust, farTrust().pem, 0o600); err != nil {
		t.Fatal(err)
	}
	long := strings.Repeat("eyJ0eXAi.", 500)
	for _, c := range []struct {
		encrypt, token, more string
		fedAuth              int // no NONCEOPT here: the driver does not heed it
	}{
		{"true", "abc", "", 1},
		{"true", long, "", 1},
		{"true", long, ";packet size=16383;ApplicationIntent=ReadOnly", 0},
		{"strict", long, ";columnEncryption=true", 1},
		{"strict", "abc", "", -1},
	} {
		t.Run(fmt.Sprintf("%s %d %s", c.encrypt, c.fedAuth, c.more), func(t *testing.T) {
			f := newFar()
			f.strict, f.fedAuth = c.encrypt == "strict", c.fedAuth
			f.answer = func(v farVisit) []byte {
				ack := farAck(v.login.version)
				if v.login.feature(2) == nil {
					return farJoin(ack, farDone())
				}
				return farJoin(ack, farFeatures(farFeature{2, nil}), farDone())
			}
			f.start(t)
			_, port, _ := net.SplitHostPort(f.addr)
			dsn := fmt.Sprintf("server=127.0.0.1;port=%s;protocol=tcp;database=ordersdb;app name=reports;workstation id=ws1;dial timeout=20;"+
				"encrypt=%s;certificate=%s;hostNameInCertificate=localhost%s", port, c.encrypt, trust, c.more)
			withToken, err := mssql.NewAccessTokenConnector(dsn, func() (string, error) { return c.token, nil })
			if err != nil {
				t.Fatal(err)
			}
			openDriver(t, withToken)
			withPassword, err := mssql.NewConnector(dsn + ";user id=any;password=any")
			if err != nil {
				t.Fatal(err)
			}
			openDriver(t, withPassword)

			placeholder := f.seen()[1]
			login, err := tds.ParseLogin(placeholder.payload)
			if err != nil {
				t.Fatal(err)
			}
			var options tds.Options
			for _, token := range placeholder.order {
				options = append(options, tds.Option{Token: token, Data: placeholder.options[token]})
			}
			target := tds.Target{Host: "127.0.0.1", Strict: f.strict, Roots: farTrust().pool,
				Dialer: &farDialer{to: map[string]*farServer{"127.0.0.1:1433": f}}}
			u, err := tds.Connect(t.Context(), target, login, options, secrets.New(c.token))
			if err != nil {
				t.Fatal(err)
			}
			defer u.Close()
			visits := f.seen()
			compareLogins(t, visits[2], visits[0])
		})
	}
}

func openDriver(t *testing.T, connector driver.Connector) {
	t.Helper()
	conn, err := connector.Connect(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.Close()
}

// compareLogins compares what the gateway sent with what the driver did.
func compareLogins(t *testing.T, ours, theirs farVisit) {
	t.Helper()
	for _, token := range []byte{0, 2, 3, 4, 6} {
		if !bytes.Equal(ours.options[token], theirs.options[token]) {
			t.Errorf("PRELOGIN option %d = %x, the driver's is %x", token, ours.options[token], theirs.options[token])
		}
	}
	// Inside PRELOGIN the driver takes TLS 1.3 as well; the gateway does not.
	if ours.alpn != theirs.alpn || ours.alpn != "" && ours.version != theirs.version {
		t.Errorf("TLS %#x %q, the driver's is %#x %q", ours.version, ours.alpn, theirs.version, theirs.alpn)
	}
	if ours.login.bad != "" || theirs.login.bad != "" {
		t.Fatalf("broken: ours %q, the driver's %q", ours.login.bad, theirs.login.bad)
	}
	if ours.login.fixed != theirs.login.fixed {
		t.Errorf("fixed part = %x, the driver's is %x", ours.login.fixed, theirs.login.fixed)
	}
	if !reflect.DeepEqual(ours.login.texts, theirs.login.texts) || ours.login.clientID != theirs.login.clientID {
		t.Errorf("texts = %v, the driver's are %v", ours.login.texts, theirs.login.texts)
	}
	// The driver keeps its features in a map: their order means nothing.
	byID := func(a, b farFeature) int { return int(a.id) - int(b.id) }
	mine, its := slices.SortedFunc(slices.Values(ours.login.features), byID), slices.SortedFunc(slices.Values(theirs.login.features), byID)
	if len(mine) != len(its) {
		t.Fatalf("%d features, the driver has %d", len(mine), len(its))
	}
	for i := range mine {
		if !reflect.DeepEqual(mine[i], its[i]) {
			t.Errorf("feature %d of %d bytes, the driver's is %d of %d", mine[i].id, len(mine[i].data), its[i].id, len(its[i].data))
		}
	}
}
