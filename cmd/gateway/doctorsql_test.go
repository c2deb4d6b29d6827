package main

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestDoctorDoesNotAskForProxyVariablesWhereThereAreSQLDoorsAlone(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = gone.Close()
	for _, c := range []struct {
		at, want string
		code     int
	}{
		{l.Addr().String(), "ok       sql        orders-db: something listens at", exitFine},
		{gone.Addr().String(), "NO       sql        orders-db: nothing can be reached at", exitNo},
		{"127.0.0.1:0", "warning  sql        orders-db: its port is chosen anew", exitFine},
		{"unix:" + filepath.Join(t.TempDir(), "none.sock"), "NO       sql        orders-db: nothing can be reached at", exitNo},
	} {
		dir := t.TempDir()
		text := "version: 1\nsql:\n  - {name: orders-db, listen: \"" + c.at + "\", server: orders-srv.database.windows.net}\n"
		if err := os.WriteFile(filepath.Join(dir, "routes.yaml"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		vars := map[string]string{"AZURE_TENANT_ID": "contoso.onmicrosoft.com", "AZURE_CLIENT_ID": "00001111-aaaa-2222-bbbb-3333cccc4444", "AZURE_CLIENT_SECRET": "x"}
		out, code := doctorRun(t, dir, vars)
		if !strings.Contains(out, c.want) || code != c.code {
			t.Errorf("doctor with a door at %s: exit code %d, want %d, and %q:\n%s", c.at, code, c.code, c.want, out)
		}
		if strings.Contains(out, "proxy") || strings.Contains(out, "graph.microsoft.com") {
			t.Errorf("the report speaks of proxies, which drivers of databases do not use:\n%s", out)
		}
	}
}
