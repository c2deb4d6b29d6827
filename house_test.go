package gateway_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/seed-13b04e61/gateway"

// floors is the plan of the house: a room may import rooms of lower floors
// only, so never one beside it.
var floors = map[string]int{
	"secrets": 0, "audit": 0, "sandbox": 0, "certs/alert": 0,
	"egress": 1, "routes": 1, "tokens": 1, "certs": 1, "tracing": 1,
	"gate": 2, "authority": 2, "sql/tds": 2,
	"proxy": 3, "admin": 3, "sql": 3,
	"cmd/gateway": 4,
}

// sealed rooms import no other room at all.
var sealed = []string{"secrets", "audit", "sandbox", "certs/alert"}

// homes is where each library lives. Tests are guests anywhere.
var homes = map[string][]string{
	"github.com/golang-jwt/jwt":              {"authority", "gate", "sandbox"},
	"github.com/MicahParks/keyfunc":          {"gate"},
	"github.com/caddyserver/certmagic":       {"certs"},
	"go.uber.org/zap":                        {"certs"},
	"golang.org/x/time":                      {"proxy", "gate"},
	"gopkg.in/natefinch/lumberjack.v2":       {"audit"},
	"github.com/hashicorp/golang-lru":        {"tokens", "gate", "certs"},
	"github.com/rs/zerolog":                  {"audit"},
	"go.opentelemetry.io/otel":               {"tracing"},
	"go.opentelemetry.io/proto/otlp":         {"tracing"},
	"google.golang.org/protobuf":             {"tracing"},
	"github.com/prometheus/client_golang":    {"audit"},
	"github.com/fsnotify/fsnotify":           {"secrets"},
	"github.com/spf13/cobra":                 {"cmd/gateway"},
	"github.com/google/uuid":                 {"authority", "sandbox"},
	"go.yaml.in/yaml":                        {"routes"},
	"golang.org/x/net":                       {"routes"},
	"software.sslmate.com/src/go-pkcs12":     {"authority", "certs"},
	"github.com/youmark/pkcs8":               {"authority"},
	"golang.org/x/sys":                       {"gate", "cmd/gateway"},
	"golang.org/x/crypto/x509roots/fallback": {"cmd/gateway"},
}

// reveals is how often each room may look at a secret: where bytes leave the
// process for their rightful receiver, and where a token is decoded or
// measured. A new place needs a reason, and then a new number here.
var reveals = map[string]int{
	"authority":   8,
	"egress":      2, // the next hop's password, for our own connections and a library's
	"proxy":       3, // the token, into its header; two that a container registry exchanges
	"admin":       1, // the admin key, to compare
	"cmd/gateway": 2, // token --raw, and the admin key that a command sends
	"tokens":      2, // a token's length
	"tracing":     1, // a header for the collector
	"sql/tds":     1, // the token, into LOGIN7
}

type source struct {
	room, path string
	test       bool
	file       *ast.File
}

// sources parses every Go file of the module but those of nested modules.
func sources(t *testing.T) []source {
	t.Helper()
	var all []source
	set := token.NewFileSet()
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != "." && (strings.HasPrefix(d.Name(), ".") || isModule(path)):
			return fs.SkipDir
		case d.IsDir() || !strings.HasSuffix(path, ".go") || filepath.Dir(path) == ".":
			return nil
		}
		f, err := parser.ParseFile(set, path, nil, parser.ParseComments)
		if err != nil {
			return err
		}
		all = append(all, source{filepath.ToSlash(filepath.Dir(path)), path, strings.HasSuffix(path, "_test.go"), f})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 20 {
		t.Fatalf("only %d Go files found", len(all))
	}
	return all
}

func isModule(dir string) bool {
	matches, _ := filepath.Glob(filepath.Join(dir, "go.mod"))
	return len(matches) > 0
}

func TestImportsGoDownTheFloors(t *testing.T) {
	for _, s := range sources(t) {
		floor, known := floors[s.room]
		if !known && !strings.HasPrefix(s.room, "bench") && !strings.HasPrefix(s.room, "docs") {
			t.Errorf("%s: room %q is not in the plan", s.path, s.room)
			continue
		}
		for _, imp := range s.file.Imports {
			path, _ := strconv.Unquote(imp.Path.Value)
			room, ours := strings.CutPrefix(path, module+"/")
			if !ours || s.test || !known {
				continue
			}
			if slices.Contains(sealed, s.room) || floors[room] >= floor {
				t.Errorf("%s imports %s: floor %d may not look at floor %d", s.path, room, floor, floors[room])
			}
			if room == "sandbox" && s.room != "cmd/gateway" {
				t.Errorf("%s imports sandbox, which is for the door and for tests", s.path)
			}
		}
	}
}

func TestSandboxImportsNobodyInTestsEither(t *testing.T) {
	for _, s := range sources(t) {
		if s.room != "sandbox" {
			continue
		}
		for _, imp := range s.file.Imports {
			path, _ := strconv.Unquote(imp.Path.Value)
			if strings.HasPrefix(path, module+"/") && path != module+"/sandbox" {
				t.Errorf("%s imports %s: an oracle must not import what it judges", s.path, path)
			}
		}
	}
}

func TestEachLibraryHasItsHome(t *testing.T) {
	for _, s := range sources(t) {
		if s.test {
			continue
		}
		for _, imp := range s.file.Imports {
			path, _ := strconv.Unquote(imp.Path.Value)
			if !strings.Contains(strings.Split(path, "/")[0], ".") || strings.HasPrefix(path, module) {
				continue
			}
			rooms, found := []string(nil), false
			for lib, in := range homes {
				if path == lib || strings.HasPrefix(path, lib+"/") {
					rooms, found = in, true
				}
			}
			if !found || !slices.Contains(rooms, s.room) {
				t.Errorf("%s imports %s, which lives in %v", s.path, path, rooms)
			}
		}
	}
}

func TestEachRoomHasOnePackageComment(t *testing.T) {
	comments := map[string]int{}
	for _, s := range sources(t) {
		if !s.test {
			comments[s.room] += map[bool]int{true: 1}[s.file.Doc != nil]
		}
	}
	for room, n := range comments {
		if n != 1 {
			t.Errorf("room %s has %d package comments, want 1", room, n)
		}
	}
}

func TestOnlyMainExits(t *testing.T) {
	for _, s := range sources(t) {
		if s.test || s.path == filepath.Join("cmd", "gateway", "main.go") {
			continue
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			if sel, ok := n.(*ast.SelectorExpr); ok {
				pkg, _ := sel.X.(*ast.Ident)
				if pkg != nil && (pkg.Name == "os" && sel.Sel.Name == "Exit" || pkg.Name == "log" && strings.HasPrefix(sel.Sel.Name, "Fatal")) {
					t.Errorf("%s: %s.%s outside of main", s.path, pkg.Name, sel.Sel.Name)
				}
			}
			return true
		})
	}
}

func TestNoInit(t *testing.T) {
	for _, s := range sources(t) {
		for _, d := range s.file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Name.Name == "init" && f.Recv == nil {
				t.Errorf("%s has an init", s.path)
			}
		}
	}
}

func TestSecretsAreRevealedInKnownPlacesOnly(t *testing.T) {
	got := map[string]int{}
	for _, s := range sources(t) {
		if s.test || s.room == "secrets" {
			continue
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			if call, ok := n.(*ast.CallExpr); ok {
				if sel, ok := call.Fun.(*ast.SelectorExpr); ok && sel.Sel.Name == "Reveal" {
					got[s.room]++
				}
			}
			return true
		})
	}
	for room, n := range got {
		if n > reveals[room] {
			t.Errorf("room %s reveals secrets in %d places, want at most %d", room, n, reveals[room])
		}
	}
}

// Files and functions stay of a size that one can hold in mind.
func TestShape(t *testing.T) {
	set := token.NewFileSet()
	for _, s := range sources(t) {
		f, err := parser.ParseFile(set, s.path, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		if lines := set.Position(f.End()).Line; lines > 450 && !s.test {
			t.Errorf("%s has %d lines, want at most 450", s.path, lines)
		}
		for _, d := range f.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok || s.test {
				continue
			}
			if n := set.Position(fn.End()).Line - set.Position(fn.Pos()).Line + 1; n > 60 {
				t.Errorf("%s: %s has %d lines, want at most 60", s.path, fn.Name.Name, n)
			}
			if n := fn.Type.Params.NumFields(); n > 5 {
				t.Errorf("%s: %s has %d parameters", s.path, fn.Name.Name, n)
			}
		}
	}
}

// The linker prunes unused methods only while nothing reaches reflect's
// MethodByName, which these do; one of them can double the binary.
func TestNothingDefeatsTheLinker(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "./cmd/gateway").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, banned := range []string{"html/template", "google.golang.org/grpc", "github.com/alecthomas/kong"} {
		if slices.Contains(strings.Fields(string(out)), banned) {
			t.Errorf("%s is linked into the gateway; go mod why tells by whom", banned)
		}
	}
}
