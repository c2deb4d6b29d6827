package main

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/seed-13b04e61/gateway/routes"
)

// surroundings are what a child of exec finds around it.
type surroundings struct {
	reach
	environ []string // that it would have without
	secret  []string // variables with secrets of the gateway's
}

// surround says how a child with that key reaches the gateway at address.
func (f execFlags) surround(t *routes.Table, environ []string, address string, key keyJSON) surroundings {
	s := surroundings{environ: environ, secret: t.SecretVariables()}
	s.proxy = &url.URL{Scheme: "http", User: url.UserPassword(key.Name, key.Key), Host: address}
	s.java, s.inherited = f.java, lookupIn(environ)
	s.identity = slices.ContainsFunc(t.Routes, func(r *routes.Route) bool {
		mine := func(c *routes.Caller) bool { return c.Name == key.Name }
		return r.Placeholder && (r.Callers == nil || slices.ContainsFunc(r.Callers, mine))
	})
	return s
}

// childEnviron is the child's environment, for the certificates in t.
func (s surroundings) childEnviron(t *trustFolder) []string {
	s.ca, s.bundle, s.store, s.wgetrc = t.caFile(), t.bundleFile(), t.storeFile(), t.wgetFile()
	if extra, _ := s.inherited(nodeExtra); extra != "" {
		s.ca = t.bundleFile() // which holds those too
	}
	return overlay(s.environ, sensitive(s.secret), s.variables())
}

// remarks are what an operator should know before p runs: calls that would go
// another way.
func (s surroundings) remarks(ctx context.Context, p program, t *routes.Table) []string {
	out := bypasses(inheritedExceptions(s.inherited), t)
	if w := nodeRemark(ctx, p); w != "" {
		out = append(out, w)
	}
	if s.java && ownUID() == nil {
		out = append(out, "Java sends no key to a proxy by itself, and this system cannot say whose a connection is: the program has to install a java.net.Authenticator")
	}
	return out
}

// javaTool tells whether a command is one that runs Java.
func javaTool(command string) bool {
	return slices.Contains([]string{
		"java", "javaw", "jshell", "jbang", "mvn", "mvnw", "mvnd", "gradle", "gradlew", "ant", "sbt", "mill", "kotlin", "scala",
		"scala-cli", "groovy", "clojure", "clj", "lein", "spark-submit", "spark-shell",
	}, programName(command))
}

// programName is a command without folder and extension.
func programName(command string) string {
	name := filepath.Base(command)
	for _, ext := range []string{".exe", ".cmd", ".bat"} {
		name = strings.TrimSuffix(name, ext)
	}
	return name
}

// nodeAnswers is how long node may take to say its version.
const nodeAnswers = 5 * time.Second

// nodeRemark says that Node is too old to read the variables, or "".
func nodeRemark(ctx context.Context, p program) string {
	node := p.path
	switch programName(p.args[0]) {
	case "node", "nodejs":
	case "npm", "npx", "yarn", "pnpm", "corepack", "ts-node", "tsx":
		var err error
		if node, err = exec.LookPath("node"); err != nil {
			return ""
		}
	default:
		return ""
	}
	ctx, cancel := context.WithTimeout(ctx, nodeAnswers)
	defer cancel()
	cmd := exec.CommandContext(ctx, node, "--version")
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME")} // and none of the secrets
	cmd.WaitDelay = time.Second
	out, err := cmd.Output()
	if version := strings.TrimSpace(string(out)); err == nil && !readsProxyVariables(version) {
		return fmt.Sprintf("Node %s does not read HTTPS_PROXY: its calls go past the gateway and get no token; use Node 24 or 22.21, or have the program call setGlobalDispatcher(new EnvHttpProxyAgent()) of the package undici", clip(version))
	}
	return ""
}

// readsProxyVariables tells whether a Node obeys NODE_USE_ENV_PROXY: 24 does,
// and 22 from 22.21 on. What is no version is taken for a new one.
func readsProxyVariables(version string) bool {
	parts := strings.SplitN(strings.TrimPrefix(version, "v"), ".", 3)
	if len(parts) < 2 {
		return true
	}
	major, err1 := strconv.Atoi(parts[0])
	minor, err2 := strconv.Atoi(parts[1])
	if err1 != nil || err2 != nil {
		return true
	}
	return major >= 24 || major == 22 && minor >= 21
}
