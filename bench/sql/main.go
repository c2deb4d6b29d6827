package main

import (
	"bufio"
	"cmp"
	"crypto/x509"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"
)

func main() {
	o := options{}
	flag.IntVar(&o.rounds, "rounds", 7, "turns of each contender")
	flag.IntVar(&o.megabytes, "megabytes", 64, "of a result in each turn")
	flag.IntVar(&o.packet, "packet", 4096, "bytes of a packet of the result")
	flag.IntVar(&o.sessions, "sessions", 200, "that send small batches at once")
	flag.IntVar(&o.batches, "batches", 100, "of each session in each turn")
	flag.Parse()
	err := child(flag.Args())
	if flag.NArg() == 0 {
		err = compare(o)
	}
	if err != nil {
		panic(err)
	}
}

type options struct{ rounds, megabytes, packet, sessions, batches int }

// contender is one that runs. It has TLS to the client if secured says so.
type contender struct {
	name, addr string
	secured    bool
	cmd        *exec.Cmd // nil: the server itself, without anybody between
	roots      *x509.CertPool
}

// child runs what the driver starts of this program: a kind of relay, to a
// server. Its address is its first line of output.
func child(args []string) error {
	switch {
	case len(args) == 0:
		return nil
	case len(args) != 3:
		return fmt.Errorf("want a kind of relay, the server's address and the file of its certificate, got %q", args)
	}
	return relay(args[0], args[1], args[2])
}

// compare prints the tables.
func compare(o options) error {
	dir, err := os.MkdirTemp("", "bench-sql-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	server, err := newServer(dir, o)
	if err != nil {
		return err
	}
	all := []*contender{
		{name: "relay"}, {name: "plain", secured: true}, {name: "hop"},
		{name: "relay-tls", secured: true}, {name: "hops", secured: true},
	}
	for _, c := range all {
		c.roots = server.roots
		defer c.stop()
		if err := c.start(server); err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
	}
	if err := streams(all, o); err != nil {
		return err
	}
	direct := &contender{name: "direct", addr: server.addr, secured: true, roots: server.roots}
	return batches(append(all, direct), o)
}

func (c *contender) start(s *server) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	c.cmd = exec.Command(self, c.name, s.addr, s.certFile)
	c.cmd.Stderr = os.Stderr
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := c.cmd.Start(); err != nil {
		return err
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	c.addr = strings.TrimSpace(line)
	return err
}

func (c *contender) stop() {
	if c.cmd != nil && c.cmd.Process != nil {
		_ = c.cmd.Process.Kill()
		_ = c.cmd.Wait()
	}
}

// cpu is the time that the contender has had so far, user and system.
func (c *contender) cpu() (time.Duration, error) {
	if c.cmd == nil {
		return 0, nil
	}
	b, err := os.ReadFile("/proc/" + strconv.Itoa(c.cmd.Process.Pid) + "/stat")
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(b), ") ") // behind the name, which may hold blanks
	fields := strings.Fields(rest)
	if len(fields) < 13 {
		return 0, fmt.Errorf("/proc/%d/stat has %d fields", c.cmd.Process.Pid, len(fields))
	}
	user, err := strconv.ParseInt(fields[11], 10, 64)
	if err != nil {
		return 0, err
	}
	system, err := strconv.ParseInt(fields[12], 10, 64)
	const tick = 10 * time.Millisecond // USER_HZ is 100 wherever Go runs
	return time.Duration(user+system) * tick, err
}

// streams has each contender pass a large result, in turns.
func streams(all []*contender, o options) error {
	conns := make([]net.Conn, len(all))
	for i, c := range all {
		conn, err := c.login()
		if err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
		defer conn.Close()
		conns[i] = conn
	}
	took, spent := make([][]time.Duration, len(all)), make([]time.Duration, len(all))
	for round := range o.rounds + 1 { // the first warms up
		for n := range all {
			i := (n + round) % len(all) // each is first as often as the other
			before, err := all[i].cpu()
			if err != nil {
				return err
			}
			began := time.Now()
			if err := ask(conns[i], o.megabytes<<20); err != nil {
				return fmt.Errorf("%s: %w", all[i].name, err)
			}
			elapsed := time.Since(began)
			after, err := all[i].cpu()
			if err != nil {
				return err
			}
			if round > 0 {
				took[i] = append(took[i], elapsed)
				spent[i] += after - before
			}
		}
	}
	fmt.Printf("A result of %d MiB in packets of %d bytes, %d times\n\n", o.megabytes, o.packet, o.rounds)
	fmt.Println("| | MiB/s, median | MiB per CPU second of its own |\n|---|---|---|")
	rate := make([]float64, len(all))
	for i, c := range all {
		slices.Sort(took[i])
		rate[i] = float64(o.megabytes) / took[i][len(took[i])/2].Seconds()
		fmt.Printf("| %s | %.0f | %.0f |\n", c.name, rate[i], float64(o.megabytes*o.rounds)/spent[i].Seconds())
	}
	fmt.Printf("\nrelay to plain %.2f, relay to hop %.2f, relay-tls to hops %.2f\n\n", rate[0]/rate[1], rate[0]/rate[2], rate[3]/rate[4])
	return nil
}

// batches has many sessions of each contender send small batches, in turns.
func batches(all []*contender, o options) error {
	took, spent := make([][]time.Duration, len(all)), make([]time.Duration, len(all))
	for round := range o.rounds {
		for n := range all {
			i := (n + round) % len(all)
			t, cpu, err := all[i].batches(o)
			if err != nil {
				return fmt.Errorf("%s: %w", all[i].name, err)
			}
			took[i] = append(took[i], t...)
			spent[i] += cpu
		}
	}
	fmt.Printf("Small batches of %d sessions at once; then of one session\n\n", o.sessions)
	fmt.Println("| | p50 µs | p99 µs | CPU µs per batch | alone: p50 µs | p99 µs |\n|---|---|---|---|---|---|")
	for i, c := range all {
		one := o
		one.sessions, one.batches = 1, 5000
		alone, _, err := c.batches(one)
		if err != nil {
			return err
		}
		slices.SortFunc(took[i], cmp.Compare[time.Duration])
		slices.SortFunc(alone, cmp.Compare[time.Duration])
		fmt.Printf("| %s | %d | %d | %.1f | %d | %d |\n", c.name, at(took[i], 50), at(took[i], 99),
			float64(spent[i].Microseconds())/float64(len(took[i])), at(alone, 50), at(alone, 99))
	}
	return nil
}

// at is a percentile of sorted times, in microseconds.
func at(sorted []time.Duration, percent int) int64 {
	return sorted[min(len(sorted)*percent/100, len(sorted)-1)].Microseconds()
}
