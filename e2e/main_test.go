package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// tool returns the absolute path of a program that the tests need. Debian's
// Python is called by its own path, since that is whose packages apt installs.
func tool(name string) string {
	return map[string]string{
		"python": "/usr/bin/python3", "squid": "/usr/sbin/squid", "ncsa": "/usr/lib/squid/basic_ncsa_auth",
		"modules": "node_modules/oidc-provider/package.json", "gateway": os.Getenv(binaryEnv),
		"jtds": "/usr/share/java/jtds.jar", "odbc": "/usr/share/tdsodbc/odbcinst.ini", "chromium": "/usr/bin/chromium",
	}[name]
}

// binaryEnv hands the path of the built gateway from TestMain to the tests.
// One that is set already is not built again: a binary with the race detector,
// or of another release.
const binaryEnv = "GATEWAY_E2E_BINARY"

func TestMain(m *testing.M) {
	if addr := os.Getenv(idleEnv); addr != "" {
		os.Exit(holdIdle(addr, os.Stdin, os.Stdout))
	}
	os.Exit(run(m))
}

// run builds the gateway once and runs the tests with it.
func run(m *testing.M) int {
	for _, name := range []string{"python", "squid", "ncsa", "modules", "jtds", "odbc", "chromium"} {
		if _, err := os.Stat(tool(name)); err != nil {
			fmt.Fprintf(os.Stderr, "%v; run make clients\n", err)
			return 1
		}
	}
	for _, name := range []string{"curl", "wget", "node", "java", "openssl", "git", "slowhttptest", "tsql", "bsqldb", "freebcp", "mcs", "mono", "prometheus", "promtool", "prlimit"} {
		if _, err := exec.LookPath(name); err != nil {
			fmt.Fprintf(os.Stderr, "%v; run make clients\n", err)
			return 1
		}
	}
	if tool("gateway") != "" {
		return m.Run()
	}
	dir, err := os.MkdirTemp("", "gateway-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	binary := filepath.Join(dir, "gateway")
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	build := exec.CommandContext(ctx, "go", "build", "-o", binary, "./cmd/gateway")
	build.Dir = ".."
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "go build: %v\n%s", err, out)
		return 1
	}
	if err := os.Setenv(binaryEnv, binary); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}
