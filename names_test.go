package gateway_test

import (
	"go/ast"
	"go/token"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/seed-13b04e61/gateway/audit"
)

// TestMessagesHaveFieldsOfTheTable holds the names that the operator's log is
// told against the one table of them.
func TestMessagesHaveFieldsOfTheTable(t *testing.T) {
	known, used := map[string]bool{}, map[string]bool{}
	for _, f := range audit.Fields() {
		known[f.Name] = strings.Contains(f.In, "m")
	}
	for _, s := range sources(t) {
		if s.test || s.room == "sandbox" || s.room == "routes" { // which tell no log
			continue
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			for _, name := range namesTold(n) {
				used[name] = true
				if !known[name] {
					t.Errorf("%s tells the log %q, which audit.Fields does not have for messages", s.path, name)
				}
			}
			return true
		})
	}
	if len(used) < 30 {
		t.Errorf("only %d names found: %v", len(used), used)
	}
	of := map[string]string{"level": "zerolog", "time": "zerolog", "message": "zerolog", "server.port": "server.address", "client.port": "client.address"}
	for name, message := range known {
		if message && !used[name] && of[name] == "" {
			t.Errorf("audit.Fields has %s for messages, and none has it", name)
		}
	}
}

// namesTold are the literal names among the pairs of name and value of a call
// to the log, or of a list of such pairs.
func namesTold(n ast.Node) (names []string) {
	var pairs []ast.Expr
	switch n := n.(type) {
	case *ast.CallExpr:
		pairs = pairsOf(n)
	case *ast.CompositeLit:
		if list, ok := n.Type.(*ast.ArrayType); ok && isIdent(list.Elt, "any") && len(n.Elts)%2 == 0 {
			pairs = n.Elts
		}
	}
	for i := 0; i < len(pairs); i += 2 {
		if name, ok := literal(pairs[i]); ok {
			names = append(names, name)
		}
	}
	return names
}

func pairsOf(call *ast.CallExpr) []ast.Expr {
	if isIdent(call.Fun, "append") && len(call.Args)%2 == 1 && (isIdent(call.Args[0], "fields") || isIdent(call.Args[0], "kv")) {
		if _, isConversion := call.Args[1].(*ast.CallExpr); !isConversion {
			return call.Args[1:]
		}
	}
	sel, ok := call.Fun.(*ast.SelectorExpr)
	if !ok || !slices.Contains([]string{"Debug", "Info", "Warn", "Error", "Log", "log", "tell", "say"}, sel.Sel.Name) {
		return nil
	}
	before := 1 // the message
	if first := call.Args; len(first) > 1 {
		if level, ok := literal(first[0]); ok && slices.Contains([]string{"info", "warn", "error"}, level) || sel.Sel.Name == "say" {
			before = 2
		}
	}
	if len(call.Args) <= before || (len(call.Args)-before)%2 != 0 || call.Ellipsis != token.NoPos {
		return nil
	}
	return call.Args[before:]
}

func isIdent(e ast.Expr, name string) bool {
	id, ok := e.(*ast.Ident)
	return ok && id.Name == name
}

func literal(e ast.Expr) (string, bool) {
	lit, ok := e.(*ast.BasicLit)
	if !ok || lit.Kind != token.STRING {
		return "", false
	}
	s, err := strconv.Unquote(lit.Value)
	return s, err == nil
}
