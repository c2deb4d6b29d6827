package routes_test

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/seed-13b04e61/gateway/routes"
)

func ExampleParse() {
	_, err := routes.Parse("routes.yaml", []byte("version: 1\nroutes:\n  - preset: grahp\n"), os.LookupEnv)
	fmt.Println(err)
	// Output:
	// routes.yaml:3:5: routes[0].preset: there is no preset "grahp"
	//    | 3 |   - preset: grahp
	//    |         ^
	//    did you mean "graph"?
	// 1 mistake
}

func ExampleParseAuthority() {
	a, err := routes.ParseAuthority("Graph.Microsoft.COM.", 443)
	fmt.Println(a, err)
	// Output: graph.microsoft.com:443 <nil>
}

func ExampleTable_Match() {
	table, err := routes.Parse("routes.yaml", []byte("version: 1\nroutes: [{preset: graph}]\n"), nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	r, ok := table.Match(routes.Authority{Host: "graph.microsoft.com", Port: 443})
	fmt.Println(r.Name, r.Scope, ok)
	// Output: graph https://graph.microsoft.com/.default true
}

func ExampleTable_Mounted() {
	table, err := routes.Parse("routes.yaml", []byte("version: 1\nroutes: [{preset: graph}]\n"), nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	r, rest, ok := table.Mounted("/graph/v1.0/users")
	fmt.Println(r.Name, rest, ok)
	// Output: graph /v1.0/users true
}

func ExampleOpen() {
	dir, err := os.MkdirTemp("", "routes")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "routes.yaml")
	if err := os.WriteFile(path, []byte("version: 1\nroutes: [{preset: arm}]\n"), 0o600); err != nil {
		fmt.Println(err)
		return
	}
	f, err := routes.Open(path, os.LookupEnv)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(f.Table().Routes[0].Hosts)
	// Output: [management.azure.com:443]
}
