package proxy_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Whatever the gateway refuses, it says what to do.
func TestEveryRefusalNamesTheNextStep(t *testing.T) {
	seen := 0
	for _, dir := range []string{".", "../gate"} {
		files, err := filepath.Glob(filepath.Join(dir, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range files {
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			set := token.NewFileSet()
			f, err := parser.ParseFile(set, name, text, 0)
			if err != nil {
				t.Fatal(err)
			}
			ast.Inspect(f, func(n ast.Node) bool {
				if l, ok := n.(*ast.CompositeLit); ok && isRefusal(l) {
					seen++
					if !says(l, "remedy") {
						t.Errorf("%s: this refusal names no next step", set.Position(l.Pos()))
					}
				}
				return true
			})
		}
	}
	if seen < 50 {
		t.Errorf("%d refusals were found; the test is blind", seen)
	}
}

func isRefusal(l *ast.CompositeLit) bool {
	name, ok := l.Type.(*ast.Ident)
	return ok && strings.EqualFold(name.Name, "refusal") && len(l.Elts) > 0
}

// says tells whether a literal has the field.
func says(l *ast.CompositeLit, field string) bool {
	for _, e := range l.Elts {
		if pair, ok := e.(*ast.KeyValueExpr); ok {
			if key, ok := pair.Key.(*ast.Ident); ok && strings.EqualFold(key.Name, field) {
				return true
			}
		}
	}
	return false
}
