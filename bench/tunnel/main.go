package main

import (
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

func main() {
	rounds := flag.Int("rounds", 5, "slices of each contender in each scenario")
	long := flag.Duration("slice", time.Second, "length of a slice")
	flag.Parse()
	err := child(flag.Args())
	if flag.NArg() == 0 {
		err = compare(*rounds, *long)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// arena is what runs during the comparison.
type arena struct {
	dir     string
	started []*exec.Cmd
}

// run starts a process that writes its errors to ours.
func (a *arena) run(path string, args ...string) (*exec.Cmd, error) {
	cmd := exec.Command(path, args...)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	a.started = append(a.started, cmd)
	return cmd, nil
}

func (a *arena) close() {
	for _, cmd := range a.started {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
	_ = os.RemoveAll(a.dir)
}

// compare prints the table.
func compare(rounds int, long time.Duration) error {
	dir, err := os.MkdirTemp("", "bench-tunnel-")
	if err != nil {
		return err
	}
	a := &arena{dir: dir}
	defer a.close()
	all, err := a.contenders()
	if err != nil {
		return err
	}
	fmt.Println("| calls per CPU second of the proxy | gateway | bare | goproxy | gateway to bare | gateway to goproxy |\n|---|---|---|---|---|---|")
	known := map[string]float64{}
	for _, s := range scenarios() {
		visited := all
		if s.beside != "" {
			visited = all[:2]
		}
		rates, err := measure(visited, s, rounds, long)
		if err != nil {
			return err
		}
		mark := ""
		if s.beside != "" {
			rates, mark = append(rates, known[s.beside]), " (HTTP/1.1)"
		}
		known[s.name] = rates[2]
		fmt.Printf("| %s | %.0f | %.0f | %.0f%s | %.2f | %.2f |\n", s.name, rates[0], rates[1], rates[2], mark, rates[0]/rates[1], rates[0]/rates[2])
	}
	return nil
}

// measure visits the proxies in turn, and returns the calls per CPU second of
// each over all slices but the first, which warms up.
func measure(proxies []*proxy, s scenario, rounds int, long time.Duration) ([]float64, error) {
	calls, spent := make([]int64, len(proxies)), make([]time.Duration, len(proxies))
	for round := range rounds + 1 {
		for i := range proxies {
			at := (i + round) % len(proxies) // each is first as often as the other
			c := proxies[at].client(s)
			n, cpu, err := proxies[at].slice(c, long)
			c.CloseIdleConnections()
			if err != nil {
				return nil, fmt.Errorf("%s: %w", s.name, err)
			}
			if round > 0 {
				calls[at] += n
				spent[at] += cpu
			}
		}
	}
	rates := make([]float64, len(proxies))
	for i := range proxies {
		if calls[i] == 0 || spent[i] == 0 {
			return nil, fmt.Errorf("%s: %s answered %d calls in %v of CPU time", s.name, proxies[i].name, calls[i], spent[i])
		}
		rates[i] = float64(calls[i]) / spent[i].Seconds()
	}
	return rates, nil
}

// contenders starts the upstream and those who are compared: the gateway, built
// from this tree, bare, and goproxy.
func (a *arena) contenders() ([]*proxy, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	origin := freeAddr()
	if _, err := a.run(self, "upstream", origin); err != nil {
		return nil, err
	}
	ours := &proxy{name: "gateway", addr: freeAddr(), rootFile: filepath.Join(a.dir, "ca", "root.pem")}
	if ours.pid, err = a.gateway(ours.addr, origin); err != nil {
		return nil, err
	}
	all := []*proxy{ours}
	for _, name := range []string{"bare", "goproxy"} {
		p := &proxy{name: name, addr: freeAddr(), rootFile: filepath.Join(a.dir, name+".pem")}
		cmd, err := a.run(self, name, p.addr, origin, p.rootFile)
		if err != nil {
			return nil, err
		}
		p.pid = cmd.Process.Pid
		all = append(all, p)
	}
	for _, p := range all {
		if err := p.ready(); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// gateway builds and starts it with one route and its usual audit records,
// which go nowhere.
func (a *arena) gateway(addr, origin string) (pid int, err error) {
	binary, config := filepath.Join(a.dir, "gateway"), filepath.Join(a.dir, "routes.yaml")
	build := exec.Command("go", "build", "-o", binary, "./cmd/gateway")
	build.Dir = filepath.Join("..", "..")
	if out, err := build.CombinedOutput(); err != nil {
		return 0, fmt.Errorf("go build: %w: %s", err, out)
	}
	err = errors.Join(
		os.WriteFile(filepath.Join(a.dir, "secret"), []byte("of-the-benchmark"), 0o600),
		os.WriteFile(config, fmt.Appendf(nil, `version: 1
listen: {proxy: %q, admin: ""}
credentials:
  default: {token_endpoint: "http://%s/token", client_id: bench, client_secret: {file: secret}}
routes:
  - {name: api, hosts: [api.example.com], upstream: "http://%s"}
intercept: {ca_dir: ca}
log: {access: false}
`, addr, origin, origin), 0o600))
	if err != nil {
		return 0, err
	}
	cmd, err := a.run(binary, "serve", "--config", config)
	if err != nil {
		return 0, err
	}
	return cmd.Process.Pid, nil
}

// ready waits until p answers a call.
func (p *proxy) ready() error {
	var last error
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		b, err := os.ReadFile(p.rootFile)
		p.roots = x509.NewCertPool()
		if last = err; err != nil || !p.roots.AppendCertsFromPEM(b) {
			continue
		}
		c := p.client(scenario{})
		if last = one(c); last == nil {
			return nil
		}
	}
	return fmt.Errorf("%s does not answer: %w", p.name, last)
}

// freeAddr is one that nobody listened at a moment ago.
func freeAddr() string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return ""
	}
	defer l.Close()
	return l.Addr().String()
}
