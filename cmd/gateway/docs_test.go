package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/seed-13b04e61/gateway/routes"
)

// TestYAMLInTheDocumentsIsTaken reads every YAML block of the documents as a
// routes.yaml. A block that begins with credentials:, callers:, routes: or sql: is one part of
// a file and is completed; any other must be whole. YAML for other programs is marked yml.
func TestYAMLInTheDocumentsIsTaken(t *testing.T) {
	root := filepath.Join("..", "..")
	files := []string{filepath.Join(root, "README.md")}
	for _, pattern := range []string{"docs/*.md", "docs/recipes/*.md"} {
		some, err := filepath.Glob(filepath.Join(root, filepath.FromSlash(pattern)))
		if err != nil || len(some) == 0 {
			t.Fatal(pattern, err)
		}
		files = append(files, some...)
	}
	blocks := 0
	for _, path := range files {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for i, part := range strings.Split(string(text), "```yaml\n") {
			if i == 0 {
				continue
			}
			block, _, closed := strings.Cut(part, "\n```")
			if !closed {
				t.Errorf("%s: block %d has no end", path, i)
				continue
			}
			blocks++
			table, err := routes.Parse(filepath.Base(path), []byte(completed(block)), documented)
			if err != nil {
				t.Errorf("%s: block %d:\n%s\n%v", path, i, block, err)
				continue
			}
			for _, w := range table.Warnings {
				if filepath.Base(path) == "callers.md" {
					t.Errorf("%s: block %d:\n%s\nis warned of: %s", path, i, block, w.Message)
				}
			}
		}
	}
	if blocks < 3 {
		t.Errorf("only %d blocks were found", blocks)
	}
}

// completed makes a whole file of a part of one.
func completed(block string) string {
	switch {
	case strings.HasPrefix(block, "credentials:\n"):
		name, _, _ := strings.Cut(strings.TrimSpace(strings.TrimPrefix(block, "credentials:\n")), ":")
		return "version: 1\n" + block + "\nroutes:\n  - name: example\n    hosts: [api.contoso.com]\n    scope: api://example/.default\n    credential: " + name + "\n"
	case strings.HasPrefix(block, "callers:\n"):
		return "version: 1\n" + block + "\nroutes:\n  - preset: graph\n"
	case strings.HasPrefix(block, "routes:\n"), strings.HasPrefix(block, "sql:\n"):
		return "version: 1\n" + block + "\n"
	}
	return block
}

// documented is the environment that the documents speak of.
func documented(name string) (string, bool) {
	value, ok := map[string]string{
		"ACTIONS_ID_TOKEN_REQUEST_URL": "https://pipelines.actions.githubusercontent.com/abc/_apis/distributedtask/hubs/Actions/idtoken?api-version=2.0",
	}[name]
	return value, ok
}
