package routes_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/seed-13b04e61/gateway/routes"
)

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestABadFileKeepsTheTableBeforeIt(t *testing.T) {
	path := filepath.Join(t.TempDir(), "routes.yaml")
	write(t, path, idp+"routes: [{name: a, hosts: [a.example]}]\n")
	f, err := routes.Open(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	first := f.Table()
	write(t, path, idp+"routes: [{name: B, hosts: [a.example]}]\n")
	if _, err := f.Reload(); err == nil || f.Table() != first {
		t.Errorf("Reload() of a bad file = %v, and the table changed: %t", err, f.Table() != first)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Reload(); !errors.Is(err, os.ErrNotExist) || f.Table() != first {
		t.Errorf("Reload() of no file = %v, and the table changed: %t", err, f.Table() != first)
	}
	write(t, path, idp+"routes: [{name: c, hosts: [a.example]}]\n")
	next, err := f.Reload()
	if err != nil || f.Table() != next || next.Routes[0].Name != "c" {
		t.Errorf("Reload() of a good file = %v, %v", next, err)
	}
}

func TestAFileThatOthersMayWriteIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "routes.yaml")
	write(t, path, idp+"routes: [{name: a, hosts: [a.example]}]\n")
	for mode, refused := range map[os.FileMode]bool{0o600: false, 0o644: false, 0o640: false, 0o660: true, 0o602: true, 0o666: true} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		_, err := routes.Load(path, nil)
		if (err != nil) != refused {
			t.Errorf("Load() of a file of mode %04o = %v, want refusal %t", mode, err, refused)
		}
		if refused && !strings.Contains(err.Error(), "chmod go-w "+path) {
			t.Errorf("Load() error = %v, want the chmod that helps", err)
		}
	}
}

func TestRelativePathsAreOfTheFilesOwnFolder(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "routes.yaml")
	write(t, path, `version: 1
credentials:
  default: {tenant_id: a.b, client_id: c, client_certificate: {file: certs/app.pem, key_file: /keys/app.key}, ca_file: ca.pem}
  other: {token_endpoint: https://a.b/t, client_id: c, client_secret: {file: ../secret}}
routes: [{preset: graph, tls: {ca_file: ca.pem}}, {name: o, hosts: [o.example], credential: other}]
`)
	table, err := routes.Load(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{path, filepath.Join(dir, "ca.pem"), filepath.Join(dir, "certs/app.pem"), "/keys/app.key", filepath.Join(filepath.Dir(dir), "secret")}
	if got := table.Files(); !slices.Equal(got, want) {
		t.Errorf("Files() = %q, want %q, each once", got, want)
	}
}

func TestOversizedFilesAreNotRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "routes.yaml")
	write(t, path, "version: 1\n#"+strings.Repeat("x", 4<<20))
	if _, err := routes.Load(path, nil); err == nil || !strings.Contains(err.Error(), "larger") {
		t.Errorf("Load() error = %.200v, want one about the size", err)
	}
}

func TestTheFileIsFoundInTheContractsOrder(t *testing.T) {
	t.Chdir(t.TempDir())
	env := environment("GATEWAY_CONFIG=/from/env.yaml\n")
	if got := routes.FindFile("/from/flag.yaml", env); got != "/from/flag.yaml" {
		t.Errorf("FindFile with a flag = %s", got)
	}
	if got := routes.FindFile("", env); got != "/from/env.yaml" {
		t.Errorf("FindFile with GATEWAY_CONFIG = %s", got)
	}
	write(t, "routes.yaml", "version: 1\n")
	if got := routes.FindFile("", nil); got != "routes.yaml" {
		t.Errorf("FindFile beside a routes.yaml = %s", got)
	}
}

func TestTheExampleAtTheTopLoadsWithoutAnEnvironment(t *testing.T) {
	src, err := os.ReadFile("../routes.yaml")
	if err != nil {
		t.Fatal(err)
	}
	table, err := routes.Parse("routes.yaml", src, nil)
	if err != nil || len(table.Routes) != 1 || table.Credential("environment") == nil || table.Credential("environment").Missing == "" {
		t.Errorf("Parse() of the example = %+v, %v", table, err)
	}
}

func TestListenersOffLoopbackAreKnown(t *testing.T) {
	for addr, want := range map[string]bool{
		"127.0.0.1:1": false, "[::1]:1": false, "localhost:1": false, "unix:/run/x.sock": false,
		"0.0.0.0:1": true, ":1": true, "[::]:1": true, "10.0.0.1:1": true, "gw.internal:1": true,
	} {
		if got := (routes.Listen{Proxy: addr}).ProxyOffLoopback(); got != want {
			t.Errorf("ProxyOffLoopback() of %s = %t, want %t", addr, got, want)
		}
		if got := (routes.Listen{Admin: addr}).AdminOffLoopback(); got != want {
			t.Errorf("AdminOffLoopback() of %s = %t, want %t", addr, got, want)
		}
	}
}

// Whatever the reference lists, the parser knows, and nothing is listed twice.
func TestTheReferenceListsWhatTheParserTakes(t *testing.T) {
	seen := map[string]bool{}
	for _, f := range routes.Reference() {
		if id := f.Section + "." + f.Key; seen[id] {
			t.Errorf("%s is listed twice", id)
		} else {
			seen[id] = true
		}
		if !f.Later && (f.Doc == "" || f.Type == "") {
			t.Errorf("%s.%s has no type or no sentence", f.Section, f.Key)
		}
		if f.Section != "" {
			continue
		}
		_, err := routes.Parse("routes.yaml", []byte(f.Key+": 1\n"), nil)
		if err == nil || strings.Contains(err.Error(), "unknown key") {
			t.Errorf("Parse() of %s = %v, want any complaint but an unknown key", f.Key, err)
		}
	}
}
