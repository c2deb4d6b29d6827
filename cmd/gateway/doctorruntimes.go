package main

import (
	"context"
	_ "embed" // the runtimes' programs
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"
)

// The calls of runtimes that have no command for one.
var (
	//go:embed doctorclients/ping.py
	pingPython string
	//go:embed doctorclients/ping.js
	pingNode string
	//go:embed doctorclients/Ping.java
	pingJava string
)

const (
	// probesAtOnce is how many runtimes call at a time: a JVM wants a core.
	probesAtOnce = 3
	// maxProbeOutput bounds what a runtime may say, in bytes.
	maxProbeOutput = 64 << 10
)

// probe is one call by one client.
type probe struct {
	who    string // for the report
	args   []string
	stdin  string
	env    []string
	limit  int    // of what is kept of its output, in bytes; 0: maxProbeOutput
	overTL bool   // it can reach a proxy whose URL is https://
	trusts string // how it is made to trust the CA
}

// checkRuntimes has each runtime that is found here call the gateway.
func (d *doctor) checkRuntimes(ctx context.Context, s sight) {
	dir, err := os.MkdirTemp("", "gateway-doctor-")
	if err != nil {
		d.warn(checkTrust, "", "no temporary folder can be made, so the runtimes were not asked", "let TMPDIR name a folder that this user may write to")
		return
	}
	defer os.RemoveAll(dir)
	found := d.runtimes()
	said := make([][]finding, len(found))
	turn := make(chan struct{}, probesAtOnce)
	var wg sync.WaitGroup
	for i, r := range found {
		wg.Go(func() {
			turn <- struct{}{}
			defer func() { <-turn }()
			said[i] = d.askRuntime(ctx, r, s, dir)
		})
	}
	wg.Wait()
	for _, list := range said {
		for _, f := range list {
			d.keep(f)
		}
	}
}

// runtimeKind is a program that can call.
type runtimeKind struct {
	name    string
	version []string // arguments that make it say its version
	probes  func(d *doctor, p target) []probe
	remarks func(d *doctor, version string) []finding // on what it obeys
}

// found is a runtime of this machine.
type foundRuntime struct {
	runtimeKind
	path string
}

// target is where probes call and may write.
type target struct {
	path, url, dir string
	version        string
	libraries      []string // of Python
}

func (d *doctor) runtimes() []foundRuntime {
	var out []foundRuntime
	for _, k := range runtimeKinds() {
		path, err := exec.LookPath(k.name)
		if err != nil && k.name == "python3" {
			path, err = exec.LookPath("python")
		}
		if err == nil {
			out = append(out, foundRuntime{k, path})
		}
	}
	return out
}

// askRuntime has one runtime tell its version and make its calls.
func (d *doctor) askRuntime(ctx context.Context, r foundRuntime, s sight, dir string) []finding {
	out, err := d.run(ctx, probe{args: append([]string{r.path}, r.version...)}, s)
	version := firstSaid(out)
	if err != nil || version == "" {
		return []finding{{checkTrust, r.name, verdictWarning, r.path + " is there and does not run", "mend or remove it, or ignore this if the app does not use it"}}
	}
	at := target{path: r.path, url: "https://" + shortAuthority(s.host) + pingPath, dir: dir, version: version}
	if r.name == "python3" {
		at.libraries = d.pythonLibraries(ctx, r.path, s)
	}
	var said []finding
	if r.remarks != nil {
		said = append(said, r.remarks(d, version)...)
	}
	for _, p := range r.probes(d, at) {
		if d.proxy.Scheme == "https" && !p.overTL {
			said = append(said, finding{checkTrust, p.who, verdictWarning, "it does not speak TLS to a proxy, so it was not asked (" + short(version) + ")", "give it a proxy URL of http:// on loopback"})
			continue
		}
		out, err := d.run(ctx, p, s)
		f := judge(p, version, out, err)
		if d.proxy.Scheme == "https" && f.Verdict == verdictNo {
			f.Remedy += "; or have it trust the certificate of listen.tls, which curl and git look for in the system's store alone"
		}
		if r.name == "java" && f.Verdict == verdictWarning {
			f = d.listStore(ctx, r, s, f)
		}
		said = append(said, f)
	}
	return said
}

// versionLine matches the part of a version that is a number.
var versionNumber = regexp.MustCompile(`\d+(\.\d+)+\S*`)

// firstSaid is the first line of out that a program meant to say: a JVM first
// repeats its options, which may hold passwords.
func firstSaid(out string) string {
	for line := range strings.Lines(out) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "Picked up ") {
			return line
		}
	}
	return ""
}

// run runs a probe and returns what it wrote, to both outputs.
func (d *doctor) run(ctx context.Context, p probe, s sight) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, d.patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, p.args[0], p.args[1:]...)
	cmd.Env = append(d.childEnviron(s), p.env...)
	cmd.Stdin = strings.NewReader(p.stdin)
	// A wrapper's child may keep the pipe open after the wrapper was ended.
	cmd.WaitDelay = time.Second
	out := &boundedBuffer{left: max(p.limit, maxProbeOutput)}
	cmd.Stdout, cmd.Stderr = out, out
	err := cmd.Run()
	if ctx.Err() != nil {
		err = errProbeSlow
	}
	return out.String(), err
}

var errProbeSlow = errors.New("no answer in time")

// boundedBuffer keeps the beginning of what is written to it. It is safe for
// concurrent use.
type boundedBuffer struct {
	mu   sync.Mutex // guards what follows
	b    strings.Builder
	left int
}

func (b *boundedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := min(len(p), b.left)
	b.b.Write(p[:n])
	b.left -= n
	return len(p), nil
}

func (b *boundedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

var _ io.Writer = (*boundedBuffer)(nil)

// childEnviron is the environment of this process with the proxy that is
// examined in it and nothing that leads around it: no probe may reach an API.
func (d *doctor) childEnviron(s sight) []string {
	drop := map[string]bool{"NODE_USE_ENV_PROXY": true, "NODE_TLS_REJECT_UNAUTHORIZED": true, "PYTHONHTTPSVERIFY": true, "GIT_SSL_NO_VERIFY": true, "REQUEST_METHOD": true}
	var env []string
	for _, entry := range d.environ {
		name, _, _ := strings.Cut(entry, "=")
		upper := strings.ToUpper(name)
		if !strings.HasSuffix(upper, "_PROXY") && !drop[name] {
			env = append(env, entry)
		}
	}
	full := d.proxy.withKey()
	host, port := splitAddr(d.proxy.Addr)
	auth := ""
	if d.proxy.hasUser {
		auth = d.proxy.basic()
	}
	return append(env,
		"https_proxy="+full, "HTTPS_PROXY="+full, "http_proxy="+full, "HTTP_PROXY="+full,
		"DOCTOR_HOST="+s.host.Host, "DOCTOR_PORT="+strconv.Itoa(int(s.host.Port)),
		"DOCTOR_PROXY_HOST="+host, "DOCTOR_PROXY_PORT="+port, "DOCTOR_PROXY_AUTH="+auth, "DOCTOR_PROXY_KEY="+d.proxy.Pass,
		"GIT_TERMINAL_PROMPT=0", "GIT_TRACE_CURL=1", "GIT_TRACE_CURL_NO_DATA=1", "GIT_CONFIG_COUNT=2",
		"GIT_CONFIG_KEY_0=http.proxy", "GIT_CONFIG_VALUE_0="+full, "GIT_CONFIG_KEY_1=http.sslVerify", "GIT_CONFIG_VALUE_1=true",
		"LC_ALL=C")
}

func splitAddr(addr string) (host, port string) {
	i := strings.LastIndexByte(addr, ':')
	return strings.Trim(addr[:i], "[]"), addr[i+1:]
}

// pythonLibraries are the HTTP libraries that this Python has.
func (d *doctor) pythonLibraries(ctx context.Context, path string, s sight) []string {
	out, err := d.run(ctx, probe{args: []string{path, "-c",
		"import importlib.util as u; print('has', *[m for m in ('requests', 'httpx', 'aiohttp') if u.find_spec(m)])"}}, s)
	list, ok := strings.CutPrefix(firstSaid(out), "has")
	if err != nil || !ok {
		return nil
	}
	return strings.Fields(list)
}

// writeJava puts the program for Java into dir.
func writeJava(dir string) (string, error) {
	path := filepath.Join(dir, "Ping.java")
	if err := os.WriteFile(path, []byte(pingJava), 0o600); err != nil {
		return "", fmt.Errorf("program for Java: %w", err)
	}
	return path, nil
}
