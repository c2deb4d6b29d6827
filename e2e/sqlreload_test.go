package e2e

import (
	"database/sql"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/seed-13b04e61/gateway/sandbox"
)

func TestADoorOfIPv6KeepsItsPortAcrossReloads(t *testing.T) {
	t.Parallel()
	f := newSQLField(t, sqlSetup{listen: "[::1]:0"})
	at := f.g.sql[sqlDoor]
	if !strings.HasPrefix(at, "[::1]:") || strings.HasSuffix(at, ":0") {
		t.Fatalf("the door listens at %s", at)
	}
	old := sqlPool(t, at, "any", "any", "encrypt=disable")
	database := func() string {
		db := sqlPool(t, at, "any", "any", "encrypt=disable")
		defer db.Close()
		var name string
		_ = db.QueryRowContext(t.Context(), "SELECT DB_NAME()").Scan(&name)
		return name
	}
	if who, err := whoever(t.Context(), old); err != nil || who != sqlPrincipal || database() != "d1" {
		t.Fatalf("a session before the reload: %q, %v, database %q", who, err, database())
	}
	text, err := os.ReadFile(f.g.config)
	if err != nil {
		t.Fatal(err)
	}
	write(t, f.g.config, strings.Replace(string(text), "database: d1", "database: d2", 1))
	if err := f.g.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	eventually(t, "new logins get the new database at the old port", func() bool { return database() == "d2" })
	var name string
	if err := old.QueryRowContext(t.Context(), "SELECT DB_NAME()").Scan(&name); err != nil || name != "d1" {
		t.Errorf("the session from before the reload: %q, %v, want d1", name, err)
	}
}

func TestTwoDoorsToOneServerAreTwoPrincipals(t *testing.T) {
	t.Parallel()
	const other = "5f8d2c1a-0b7e-4a63-9c11-2d3e4f5a6b7c"
	s := sqlSetup{
		files:    map[string]string{},
		sections: fmt.Sprintf("  other: {tenant_id: %s, client_id: %s, client_secret: {file: other-secret}, authority_host: 'http://127.0.0.1:9'}\n", sandbox.TenantDomain, other),
	}
	s.before = func(f *sqlField) {
		entra := f.world.Entra
		if _, err := entra.RegisterApp(sandbox.App{ClientID: other, Name: "other", Tenants: []string{sandbox.TenantDomain}}); err != nil {
			t.Fatal(err)
		}
		secret, err := entra.AddSecret(other, sandbox.Secret{})
		if err != nil {
			t.Fatal(err)
		}
		s.files["other-secret"] = secret.Value
		f.far.CreateUser(other)
	}
	f := newSQLField(t, s)
	text, err := os.ReadFile(f.g.config)
	if err != nil {
		t.Fatal(err)
	}
	at := freePort(t)
	config := strings.Replace(string(text), "'http://127.0.0.1:9'", f.world.Entra.URL(), 1) + f.entry("second", at, ", credential: other")
	write(t, f.g.config, config)
	if err := f.g.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	first, second := sqlPool(t, f.g.sql[sqlDoor], "any", "any", "encrypt=disable"), sqlPool(t, at, "any", "any", "encrypt=disable")
	eventually(t, "the new door is open", func() bool { return second.PingContext(t.Context()) == nil })
	for range 3 {
		for want, db := range map[string]*sql.DB{sqlPrincipal: first, other + "@" + sandbox.TenantID: second} {
			if who, err := whoever(t.Context(), db); err != nil || who != want {
				t.Errorf("SUSER_SNAME() = %q, %v, want %s", who, err, want)
			}
		}
	}
}
