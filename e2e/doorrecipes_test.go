package e2e

import (
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// TestRecipesOfTheReverseAndForwardDoorsHold runs each of docs/recipes/doors.md
// as it stands there, but for the gateway's address.
func TestRecipesOfTheReverseAndForwardDoorsHold(t *testing.T) {
	doc, err := os.ReadFile(filepath.Join("..", "docs", "recipes", "doors.md"))
	if err != nil {
		t.Fatal(err)
	}
	preface, _, _ := strings.Cut(string(doc), "\n## ")
	environment := blocksOf(preface, "sh")
	if len(environment) != 1 {
		t.Fatalf("the environment has %d blocks", len(environment))
	}
	node, err := filepath.Abs(filepath.Join("node_modules", "node24-"+map[string]string{"amd64": "x64", "arm64": "arm64"}[runtime.GOARCH], "bin", "node"))
	if err != nil {
		t.Fatal(err)
	}
	languages := []struct{ heading, language, file, command string }{
		{"curl", "sh", "calls.sh", "sh calls.sh"},
		{"Python", "python", "users.py", tool("python") + " users.py"},
		{"Node", "js", "users.mjs", "NODE_USE_ENV_PROXY=1 " + node + " users.mjs"},
		{"Go", "go", "users.go", "go run users.go"},
		{"Java", "java", "Users.java", ""},
	}
	if got := strings.Count(string(doc), "\n## "); got != len(languages) {
		t.Errorf("the document has %d sections, and %d are run", got, len(languages))
	}
	for _, l := range languages {
		t.Run(l.heading, func(t *testing.T) {
			t.Parallel()
			w, g := startGraph(t, "")
			host, port, err := net.SplitHostPort(g.proxy)
			if err != nil {
				t.Fatal(err)
			}
			said := strings.NewReplacer("127.0.0.1:8080", g.proxy, "proxyHost=127.0.0.1", "proxyHost="+host, "proxyPort=8080", "proxyPort="+port)
			section := sectionOf(t, string(doc), l.heading)
			dir := t.TempDir()
			write(t, filepath.Join(dir, l.file), said.Replace(blocksOf(section, l.language)[0]))
			command := l.command
			if command == "" { // what the section says of the environment, and Java
				_, rest, _ := strings.Cut(section, "`JAVA_TOOL_OPTIONS=")
				options, _, ok := strings.Cut(rest, "`")
				if !ok {
					t.Fatal("the section does not have JAVA_TOOL_OPTIONS")
				}
				command = "JAVA_TOOL_OPTIONS=" + said.Replace(options) + " java " + l.file
			}
			ctx, cancel := context.WithTimeout(t.Context(), 4*patience)
			defer cancel()
			cmd := exec.CommandContext(ctx, "sh", "-ec", said.Replace(environment[0])+command)
			cmd.Dir, cmd.Env = dir, bareEnvironment()
			out, err := cmd.CombinedOutput()
			if err != nil || strings.Count(string(out), "Adele Vance") != 2 {
				t.Fatalf("%s: %v, and its output has not both answers:\n%s", command, err, tail(string(out), 2000))
			}
			noneBare(t, w)
			g.end(t)
			records := g.stdout.String()
			forward := strings.Contains(records, `"gateway.door":"forward"`) || strings.Contains(records, `"gateway.door":"tunnel"`) // Node asks for a tunnel to port 80
			if !forward || !strings.Contains(records, `"gateway.door":"reverse"`) {
				t.Errorf("the calls did not come by both doors:\n%s", tail(records, 2000))
			}
		})
	}
}
