package main

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"

	"github.com/seed-13b04e61/gateway/proxy"
	"github.com/seed-13b04e61/gateway/routes"
)

// document is one of the repository's, in Markdown.
type document struct{ path, text string }

// documents are all of them.
func documents(t *testing.T) (all []document) {
	t.Helper()
	root := filepath.Join("..", "..")
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && path != root && (slices.Contains([]string{"node_modules", "bin", "dist", "testdata"}, d.Name()) || strings.HasPrefix(d.Name(), ".")) {
			return filepath.SkipDir
		}
		if filepath.Ext(path) != ".md" {
			return nil
		}
		text, err := os.ReadFile(path)
		all = append(all, document{path, string(text)})
		return err
	})
	if err != nil || len(all) < 30 {
		t.Fatalf("%d documents: %v", len(all), err)
	}
	return all
}

// blocks are those of a language, or of all for "".
func (d document) blocks(t *testing.T, language string) (found []string) {
	t.Helper()
	var lines []string
	open, take := false, false
	for line := range strings.Lines(d.text) {
		fence := strings.HasPrefix(strings.TrimSpace(line), "```")
		switch {
		case fence && open:
			if take {
				found = append(found, strings.Join(lines, ""))
			}
			open, lines = false, nil
		case fence:
			open, take = true, language == "" || strings.TrimSpace(line) == "```"+language
		case open:
			lines = append(lines, line)
		}
	}
	if open {
		t.Errorf("%s: a block has no end", d.path)
	}
	return found
}

// TestYAMLInTheDocumentsIsTaken reads every YAML block of the documents as a
// routes.yaml. A block that begins with credentials:, callers:, routes: or sql: is one part of
// a file and is completed; any other must be whole. YAML for other programs is marked yml.
func TestYAMLInTheDocumentsIsTaken(t *testing.T) {
	blocks := 0
	for _, d := range documents(t) {
		for i, block := range d.blocks(t, "yaml") {
			blocks++
			table, err := routes.Parse(filepath.Base(d.path), []byte(completed(strings.TrimSuffix(block, "\n"))), documented)
			if err != nil {
				t.Errorf("%s: block %d:\n%s\n%v", d.path, i+1, block, err)
				continue
			}
			for _, w := range table.Warnings {
				if filepath.Base(d.path) == "callers.md" {
					t.Errorf("%s: block %d:\n%s\nis warned of: %s", d.path, i+1, block, w.Message)
				}
			}
		}
	}
	if blocks < 40 {
		t.Errorf("only %d blocks were found", blocks)
	}
}

// TestLinksOfTheDocumentsLeadSomewhere follows every relative link to its file
// and, in a document, to its heading.
func TestLinksOfTheDocumentsLeadSomewhere(t *testing.T) {
	all, link := documents(t), regexp.MustCompile(`\]\(([^)\s]+)\)`)
	anchors := map[string][]string{}
	for _, d := range all {
		anchors[d.path] = d.anchors()
	}
	links := 0
	for _, d := range all {
		for _, m := range link.FindAllStringSubmatch(d.prose(), -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			links++
			to, anchor, named := strings.Cut(m[1], "#")
			path := d.path
			if to != "" {
				path = filepath.Join(filepath.Dir(d.path), filepath.FromSlash(to))
			}
			if _, err := os.Stat(path); err != nil {
				t.Errorf("%s: %s: %v", d.path, m[1], err)
			} else if named && !slices.Contains(anchors[path], anchor) {
				t.Errorf("%s: %s: there is no such heading", d.path, m[1])
			}
		}
	}
	if links < 100 {
		t.Errorf("only %d links were found", links)
	}
}

// prose is the text without its blocks.
func (d document) prose() string {
	var b strings.Builder
	inside := false
	for line := range strings.Lines(d.text) {
		if strings.HasPrefix(strings.TrimSpace(line), "```") {
			inside = !inside
			continue
		}
		if !inside {
			b.WriteString(line)
		}
	}
	return b.String()
}

// anchors are what a link can name: headings, as GitHub makes words of them,
// and what has an id.
func (d document) anchors() (names []string) {
	for line := range strings.Lines(d.prose()) {
		for _, m := range regexp.MustCompile(`<a id="([^"]+)">`).FindAllStringSubmatch(line, -1) {
			names = append(names, m[1])
		}
		title, ok := strings.CutPrefix(strings.TrimLeft(line, "#"), " ")
		if !ok || !strings.HasPrefix(line, "#") {
			continue
		}
		names = append(names, strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case r == '-' || r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r):
				return unicode.ToLower(r)
			}
			return -1
		}, strings.TrimSpace(title)))
	}
	return names
}

// TestCommandsInTheDocumentsExist has the program read every command line of its own
// that the documents show, in blocks and in the text, without running it.
func TestCommandsInTheDocumentsExist(t *testing.T) {
	called := regexp.MustCompile(`(?m)(?:^|[;&|(` + "`" + `] *|sudo |-- )gateway ([a-z][^|;&>)#` + "`" + `\n]*)`)
	commands := 0
	for _, d := range documents(t) {
		text := strings.Join(d.blocks(t, "sh"), "") + strings.Join(regexp.MustCompile("`gateway [^`]+`").FindAllString(strings.ReplaceAll(d.prose(), "\n", " "), -1), "\n")
		for _, m := range called.FindAllStringSubmatch(text, -1) {
			commands++
			root := newRoot(std{&bytes.Buffer{}, &bytes.Buffer{}})
			cmd, rest, err := root.Find(strings.Fields(m[1]))
			if err != nil || cmd == root {
				t.Errorf("%s: gateway %s: there is no such command (%v)", d.path, m[1], err)
				continue
			}
			if err := cmd.ParseFlags(rest); err != nil {
				t.Errorf("%s: gateway %s: %v", d.path, m[1], err)
			} else if words := cmd.Flags().Args(); cmd.HasSubCommands() && len(words) > 0 {
				t.Errorf("%s: gateway %s: there is no %q", d.path, m[1], words[0])
			}
		}
	}
	if commands < 100 {
		t.Errorf("only %d commands were found", commands)
	}
}

// shellBlocks says of each document how many blocks of sh it has, and what runs them
// or why nothing does.
func shellBlocks() map[string]struct {
	count int
	by    string
} {
	type runs = struct {
		count int
		by    string
	}
	return map[string]runs{
		"README.md":                {9, "e2e/quickstart_test.go: TestQuickstartOfTheReadmeHoldsWordForWord"}, // make check, the tour: .ci
		"docs/callers.md":          {2, "e2e/recipes_test.go: TestRecipesOfTheDocumentWork"},
		"docs/exec.md":             {2, "e2e/docblocks_test.go: TestCommandsOfTheCADoWhatTheDocumentSays"},
		"docs/install.md":          {2, "e2e/docblocks_test.go: TestCommandsOfInstallAndUpgradeHold"},
		"docs/interception.md":     {1, "e2e/docblocks_test.go: TestCommandsOfTheCADoWhatTheDocumentSays"},
		"docs/page.md":             {1, "not run: they want a second machine"},
		"docs/performance.md":      {7, "not run: they take minutes, and make bench is made of them"},
		"docs/permissions.md":      {1, "cmd/gateway/permissions_test.go: TestPermissionsNameWhatIsHeldUsedAndMissing"},
		"docs/sql.md":              {1, "cmd/gateway/main_test.go: TestCommands"},
		"docs/standin.md":          {2, "e2e/docblocks_test.go: TestIdentityEndpointOfTheDocumentAnswers"},
		"docs/upgrade.md":          {3, "e2e/docblocks_test.go: TestCommandsOfInstallAndUpgradeHold"}, // systemctl apart
		"docs/recipes/commands.md": {3, "e2e/matrix_test.go: TestEveryClientOfTheTableGoesThroughExec"},
		"docs/recipes/doors.md":    {2, "e2e/doorrecipes_test.go: TestRecipesOfTheReverseAndForwardDoorsHold"},
		"docs/recipes/go.md":       {1, "e2e/matrix_test.go: TestEveryClientOfTheTableGoesThroughExec"},
		"docs/recipes/java.md":     {1, "e2e/matrix_test.go: TestEveryClientOfTheTableGoesThroughExec"},
		"docs/recipes/node.md":     {1, "e2e/matrix_test.go: TestEveryClientOfTheTableGoesThroughExec"},
		"docs/recipes/python.md":   {1, "e2e/matrix_test.go: TestEveryClientOfTheTableGoesThroughExec"},
		"docs/recipes/sql.md":      {2, "e2e/sqlrecipes_test.go: TestRecipesForDatabasesWork"},
	}
}

// TestShellBlocksOfTheDocumentsAreRun: a block that is added wants somebody who runs it.
func TestShellBlocksOfTheDocumentsAreRun(t *testing.T) {
	root, known := filepath.Join("..", ".."), shellBlocks()
	for _, d := range documents(t) {
		name, err := filepath.Rel(root, d.path)
		if err != nil {
			t.Fatal(err)
		}
		name = filepath.ToSlash(name)
		runs, blocks := known[name], d.blocks(t, "sh")
		delete(known, name)
		if len(blocks) != runs.count {
			t.Errorf("%s has %d blocks of sh, and %d are known; have a test run the new ones, and say so here", name, len(blocks), runs.count)
		}
		if len(blocks) == 0 || strings.HasPrefix(runs.by, "not run: ") {
			continue
		}
		path, test, _ := strings.Cut(runs.by, ": ")
		source, err := os.ReadFile(filepath.Join(root, path))
		if err != nil || !strings.Contains(string(source), "\nfunc "+test+"(t *testing.T)") {
			t.Errorf("%s: there is no %s (%v)", name, runs.by, err)
		}
	}
	for name := range known {
		t.Errorf("%s is gone", name)
	}
}

// TestTroubleshootingHasARowForEveryCode: whoever has a code finds it there.
func TestTroubleshootingHasARowForEveryCode(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "troubleshooting.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range proxy.Statuses() {
		row := regexp.MustCompile("(?m)^\\|[^|]*`" + string(a.Code) + "`[^|]*\\|[^|]+\\|[^|]+\\|$").FindString(string(text))
		if row == "" {
			t.Errorf("no row has `%s`", a.Code)
		}
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
