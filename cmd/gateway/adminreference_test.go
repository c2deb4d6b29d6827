package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/seed-13b04e61/gateway/admin"
)

// adminReference is admin.md: the endpoints, and the fields of their answers
// with the words that stand beside them in the code.
func adminReference(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	b.WriteString(generated + "# The admin port\n\nAt `/` is the [live page](../page.md), which needs no key itself. `listen.admin` takes these, and `listen.health` those without a key. All others need the admin key as\n" +
		"`Authorization: Bearer KEY`, or on loopback and unix sockets the gateway's own user or root. Of pages in a browser\n" +
		"the admin port's own may read; none may `POST`. What is asked wrongly is answered with 400 and `{\"error\": …}`;\n" +
		"fields that are empty may be absent.\n\n" +
		"A stream of server-sent events has the record's number as `id`; `Last-Event-ID` goes on behind it. A reader that is too\n" +
		"slow, or comes too late, gets an event `lost`; every 15 s there is a sign of life, and after an hour the stream ends and is to be\n" +
		"asked for again. `gateway logs` reads it.\n\n| method | path | key | query | answer | |\n|---|---|---|---|---|---|\n")
	fields := fieldsOf(t, filepath.Join("..", "..", "admin"))
	var told []string
	for _, e := range admin.Endpoints() {
		answer := "-"
		if name := strings.TrimPrefix(e.Answer, "[]"); name != "" {
			answer = fmt.Sprintf("[%s](#%s)", name, strings.ToLower(name))
			if name != e.Answer {
				answer = "list of " + answer
			}
			told = append(told, name)
		}
		key := map[bool]string{true: "no", false: "yes"}[e.Open]
		fmt.Fprintf(&b, "| %s | `%s` | %s | %s | %s | %s |\n", e.Method, e.Path, key, orDash(e.Query), answer, e.Doc)
	}
	for i := 0; i < len(told); i++ {
		rows, ok := fields[told[i]]
		if !ok {
			t.Fatalf("admin has no type %s", told[i])
		}
		fmt.Fprintf(&b, "\n## %s\n\n| field | type | meaning |\n|---|---|---|\n", told[i])
		for _, row := range rows {
			fmt.Fprintf(&b, "| `%s` | %s | %s |\n", row.name, row.kind, row.doc)
			if name := strings.TrimPrefix(row.kind, "list of "); fields[name] != nil && !slices.Contains(told, name) {
				told = append(told, name)
			}
		}
		if told[i] == "Request" {
			told = append(told, "Lost")
		}
	}
	return b.String()
}

// field is one field of a JSON object.
type field struct{ name, kind, doc string }

// fieldsOf reads the types of a folder that have JSON tags.
func fieldsOf(t *testing.T, dir string) map[string][]field {
	t.Helper()
	all := map[string][]field{}
	paths, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			spec, ok := n.(*ast.TypeSpec)
			if !ok {
				return true
			}
			if s, ok := spec.Type.(*ast.StructType); ok {
				all[spec.Name.Name] = jsonFields(s)
			}
			return true
		})
	}
	return all
}

func jsonFields(s *ast.StructType) (list []field) {
	for _, f := range s.Fields.List {
		if f.Tag == nil {
			continue
		}
		tag, _, _ := strings.Cut(reflect.StructTag(strings.Trim(f.Tag.Value, "`")).Get("json"), ",")
		list = append(list, field{tag, kindOf(f.Type), orDash(strings.TrimSpace(f.Comment.Text()))})
	}
	return list
}

// kindOf is a type of Go in words of JSON.
func kindOf(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.StarExpr:
		return kindOf(e.X)
	case *ast.ArrayType:
		return "list of " + kindOf(e.Elt)
	case *ast.MapType:
		return "object of " + kindOf(e.Value)
	case *ast.SelectorExpr:
		return "RFC 3339 time"
	case *ast.Ident:
		switch e.Name {
		case "int", "int32", "int64", "uint64", "float64":
			return "number"
		case "bool":
			return "true, false"
		}
		return e.Name
	}
	return "?"
}
