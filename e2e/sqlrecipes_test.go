package e2e

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/seed-13b04e61/gateway/sandbox"
)

// sqlRecipe is a program of docs/recipes/sql.md that is run to the letter, but
// for the door's port.
type sqlRecipe struct {
	heading, language string
	program           string // the name of the file in which it stands
	words             []string
	run               [][]string // commands; FILE stands for that file
	where             string     // folder, "": the program's own
}

func sqlRecipes() []sqlRecipe {
	modules, _ := filepath.Abs("node_modules") // relative to a folder that is there
	return []sqlRecipe{
		{"tsql", "sh", "recipe.sh", nil, [][]string{{"bash", "-eu", "FILE"}}, ""},
		// Mono has the client of .NET's own library, and no language as new.
		{".NET", "csharp", "recipe.cs", []string{
			"using Microsoft.Data.SqlClient;\n", "using System; using System.Data.SqlClient; class Recipe { static void Main() {\n",
			"using var", "var", "ExecuteScalar());", "ExecuteScalar()); connection.Close(); }}",
		}, [][]string{{"mcs", "-r:System.Data", "-out:recipe.exe", "FILE"}, {"mono", "recipe.exe"}}, ""},
		{"Go", "go", "recipe.go", nil, [][]string{{"go", "run", "FILE"}}, ".."},
		{"Node", "js", "recipe.mjs", []string{"from 'mssql'", fmt.Sprintf("from '%s/mssql/index.js'", modules)}, [][]string{{"node", "FILE"}}, ""},
		{"pymssql", "python", "recipe.py", nil, [][]string{{tool("python"), "FILE"}}, ""},
		{"pytds", "python", "recipe.py", nil, [][]string{{tool("python"), "FILE"}}, ""},
	}
}

// Those of sqlcmd, JDBC and Microsoft's ODBC driver need what no package of
// Debian's has.
const sqlRecipesElsewhere = 3

func TestRecipesForDatabasesWork(t *testing.T) {
	b, err := os.ReadFile(filepath.Join("..", "docs", "recipes", "sql.md"))
	if err != nil {
		t.Fatal(err)
	}
	doc := string(b)
	if n := strings.Count(doc, "\n## "); n != len(sqlRecipes())+sqlRecipesElsewhere {
		t.Errorf("docs/recipes/sql.md has %d programs, and %d are run here", n, len(sqlRecipes()))
	}
	w := newWorld(t, sandbox.Options{})
	const server = "orders-srv.database.windows.net"
	far := startSQL(t, sandbox.SQLOptions{World: w, Names: []string{server}, Databases: []string{"ordersdb"}})
	far.Set(func(m *sandbox.SQLManners) { m.CheckServerName = true })
	door := strings.NewReplacer("127.0.0.1:1433", "127.0.0.1:0", "server: "+server+"\n",
		fmt.Sprintf("server: %s\n    dial: %s\n    tls: {ca_file: sql-ca.pem}\n", server, far.Addr())).Replace(blocksOf(doc, "yaml")[0])
	g := start(t, setup{
		Config: door + fmt.Sprintf("listen: {proxy: \"127.0.0.1:0\", admin: \"127.0.0.1:0\"}\n"+
			"credentials:\n  default: {tenant_id: %s, client_id: %s, client_secret: {env: CLIENT_SECRET}, authority_host: %q}\n",
			sandbox.TenantDomain, sandbox.ClientID, w.Entra.URL()),
		Env: []string{"CLIENT_SECRET=" + w.Secret()}, Files: map[string]string{"sql-ca.pem": string(far.CAPEM())},
		Args: []string{"--check-sql"},
	})
	_, port, err := net.SplitHostPort(g.sql["orders-db"])
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range sqlRecipes() {
		t.Run(r.heading, func(t *testing.T) {
			programs := blocksOf(sectionOf(t, doc, r.heading), r.language)
			if len(programs) != 1 {
				t.Fatalf("%d programs in %s", len(programs), r.language)
			}
			text := strings.NewReplacer(append(r.words, "1433", port)...).Replace(programs[0])
			if out := r.cook(t, text); !strings.Contains(out, sandbox.ClientID+"@"+sandbox.TenantID) {
				t.Errorf("printed %q, want the gateway's principal", out)
			}
		})
	}
}

// cook runs the program and returns what its last command printed.
func (r sqlRecipe) cook(t *testing.T, text string) string {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, r.program)
	write(t, file, text)
	ctx, cancel := context.WithTimeout(t.Context(), 4*patience)
	defer cancel()
	printed := ""
	for _, args := range r.run {
		cmd := exec.CommandContext(ctx, args[0], strings.Split(strings.ReplaceAll(strings.Join(args[1:], "\n"), "FILE", file), "\n")...)
		cmd.Env, cmd.Dir = bareEnvironment(), dir
		if r.where != "" {
			cmd.Dir = r.where
		}
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
		}
		printed = string(out)
	}
	return printed
}
