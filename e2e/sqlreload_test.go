package e2e

import (
	"os"
	"strings"
	"syscall"
	"testing"
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

