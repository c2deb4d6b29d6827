package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/seed-13b04e61/gateway/routes"
	"github.com/spf13/cobra"
)

// The verdicts of a finding.
const (
	verdictOK      = "ok"
	verdictWarning = "warning"
	verdictNo      = "NO"
)

// The checks of doctor, in the order of its report.
const (
	checkVariables = "variables" // which proxy variables are set, and how
	checkProxy     = "proxy"     // what answers where they point to
	checkTunnel    = "tunnel"    // what becomes of a CONNECT to each host
	checkBypass    = "bypass"    // NO_PROXY and http.nonProxyHosts
	checkTrust     = "trust"     // whose CA each runtime and each file trusts
	checkClock     = "clock"
	checkFile      = "file" // routes.yaml and what it names
)

// probePatience bounds each runtime's call, and each of doctor's own.
const probePatience = 10 * time.Second

// finding is one line of the report.
type finding struct {
	Check   string `json:"check"`
	Subject string `json:"subject,omitempty"` // a host, a runtime, a variable, a file
	Verdict string `json:"verdict"`           // ok, warning or NO
	Message string `json:"message"`           // one sentence
	Remedy  string `json:"remedy,omitempty"`  // what to do next
}

// doctorReport is what doctor --json prints.
type doctorReport struct {
	OK       bool      `json:"ok"`              // no finding is NO
	Proxy    string    `json:"proxy,omitempty"` // the one that was examined, without its password
	Hosts    []string  `json:"hosts"`
	Findings []finding `json:"findings"`
}

// doctor examines the environment that it runs in. It is used by one goroutine,
// but for what the probes of the runtimes share and do not write.
type doctor struct {
	env      func(string) (string, bool) // as os.LookupEnv
	environ  []string                    // as os.Environ, for the runtimes' calls
	patience time.Duration               // with each call
	hosts    []routes.Authority
	proxy    *proxyURL // nil: there is none to examine
	secrets  []string  // never to be printed: the proxies' passwords, as written and as meant
	findings []finding
}

func newDoctor(s std) *cobra.Command {
	var proxy string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "doctor [HOST...]",
		Short: "Find out, where an app runs, why its calls get no token",
		Long: `Run it where the app runs: same machine or container, same user, same variables.
It says which proxy variables are set and who obeys them, whether this gateway
answers there and takes the credential, whether NO_PROXY leads around it, whether
each runtime that it finds (curl, wget, git, Python, Node, Java, Go, openssl)
trusts the gateway's CA, and whether the clock is right. With a routes.yaml it
also looks at that file and the folder of the CA, and whether its SQL doors can
be reached; where it has nothing but SQL doors, proxies are no matter.

HOST is what the app calls; without one, the hosts of routes.yaml if there is
one, else graph.microsoft.com. The runtimes call https://HOST/.gateway/ping through the
proxy, which the gateway answers itself: nothing reaches an API. Exit code 1: at
least one finding is NO; one about a runtime that the app does not use does no harm.`,
		ValidArgsFunction: completeHosts,
		RunE: func(cmd *cobra.Command, args []string) error {
			d := &doctor{env: os.LookupEnv, environ: os.Environ(), patience: probePatience}
			for _, arg := range args {
				a, err := routes.ParseAuthority(arg, 443)
				if err != nil {
					return fmt.Errorf("HOST: %w; write a name such as graph.microsoft.com", err)
				}
				d.hosts = append(d.hosts, a)
			}
			if proxy != "" {
				p, err := parseProxy(proxy)
				if err != nil {
					return fmt.Errorf("--proxy: %w", err)
				}
				d.proxy = p
			}
			d.examine(cmd.Context(), configOf(cmd))
			return d.tell(s, asJSON)
		},
	}
	cmd.Flags().StringVar(&proxy, "proxy", "", "proxy to examine, http://NAME:KEY@HOST:PORT (default: what the variables say, else listen.proxy of routes.yaml)")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// completeHosts offers the exact hosts of the routes.
func completeHosts(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	file, err := configOf(cmd).open()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp // a shell's prompt is no place for mistakes
	}
	var names []string
	for _, a := range routedHosts(file.Table()) {
		names = append(names, a.Host)
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// examine makes all checks.
func (d *doctor) examine(ctx context.Context, c config) {
	table := d.openFile(c)
	if d.onlySQL(table) {
		d.hosts = []routes.Authority{}
		d.checkDoors(ctx, table)
		d.checkFile(routes.FindFile(c.path, d.env), table)
		return
	}
	d.chooseHosts(table)
	d.checkVariables(table)
	d.checkBypass()
	if d.proxy != nil {
		d.keepSecret(d.proxy)
		if shown := d.visit(ctx); len(shown) > 0 {
			d.checkTrust(ctx, shown)
		}
	}
	if table != nil {
		d.checkDoors(ctx, table)
		d.checkFile(routes.FindFile(c.path, d.env), table)
	}
}

// openFile reads routes.yaml if there is one. An app's container often has
// none, which is no fault unless the operator named it.
func (d *doctor) openFile(c config) *routes.Table {
	file, err := c.open()
	switch {
	case err == nil:
		return file.Table()
	case errors.Is(err, fs.ErrNotExist) && c.path == "":
		return nil
	}
	path := routes.FindFile(c.path, d.env)
	first, _, _ := strings.Cut(err.Error(), "\n")
	d.no(checkFile, path, "routes.yaml cannot be read: "+first, "gateway check shows every mistake; the checks of its hosts, files and CA were left out")
	return nil
}

// maxHosts bounds the hosts that are taken from routes.yaml.
const maxHosts = 20

// chooseHosts settles which hosts are examined.
func (d *doctor) chooseHosts(table *routes.Table) {
	if len(d.hosts) == 0 && table != nil {
		d.hosts = routedHosts(table)
		if n := len(d.hosts); n > maxHosts {
			d.hosts = d.hosts[:maxHosts]
			d.warn(checkFile, "", fmt.Sprintf("only the first %d of %d hosts of routes.yaml are examined", maxHosts, n), "name others: gateway doctor HOST...")
		}
	}
	switch {
	case len(d.hosts) > 0:
	case table != nil && len(table.Routes) > 0:
		d.warn(checkTunnel, "", "routes.yaml names no host in full, so none was examined", "name one: gateway doctor HOST")
	default:
		d.hosts = []routes.Authority{{Host: "graph.microsoft.com", Port: 443}}
	}
	seen := map[routes.Authority]bool{}
	d.hosts = slices.DeleteFunc(d.hosts, func(a routes.Authority) bool {
		again := seen[a]
		seen[a] = true
		return again
	})
}

// routedHosts are the hosts that routes name in full: what a wildcard stands
// for only the app knows.
func routedHosts(table *routes.Table) []routes.Authority {
	var out []routes.Authority
	for _, r := range table.Routes {
		for _, h := range r.Hosts {
			if a := (routes.Authority{Host: h.Host, Port: h.Port}); !h.Wildcard && !slices.Contains(out, a) {
				out = append(out, a)
			}
		}
	}
	return out
}

func (d *doctor) ok(check, subject, message string) { d.add(check, subject, verdictOK, message, "") }

func (d *doctor) warn(check, subject, message, remedy string) {
	d.add(check, subject, verdictWarning, message, remedy)
}

func (d *doctor) no(check, subject, message, remedy string) {
	d.add(check, subject, verdictNo, message, remedy)
}

func (d *doctor) add(check, subject, verdict, message, remedy string) {
	d.keep(finding{check, subject, verdict, message, remedy})
}

// maxSentence bounds what a peer or a runtime can put into the report, in
// characters.
const maxSentence = 600

// keep adds f, cleaned: one line, bounded, and without the proxy's password,
// which a foreign program may have repeated.
func (d *doctor) keep(f finding) {
	for _, text := range []*string{&f.Subject, &f.Message, &f.Remedy} {
		*text = strings.Map(func(r rune) rune {
			if r < ' ' || r == 0x7f {
				return ' '
			}
			return r
		}, *text)
		for _, secret := range d.secrets {
			*text = strings.ReplaceAll(*text, secret, "[redacted]")
		}
		if r := []rune(*text); len(r) > maxSentence {
			*text = string(r[:maxSentence-1]) + "…"
		}
	}
	d.findings = append(d.findings, f)
}

// tell prints the report. The error says whether a finding is NO.
func (d *doctor) tell(s std, asJSON bool) error {
	order := []string{checkVariables, checkBypass, checkProxy, checkTunnel, checkTrust, checkClock, checkFile}
	slices.SortStableFunc(d.findings, func(a, b finding) int {
		return slices.Index(order, a.Check) - slices.Index(order, b.Check)
	})
	report := doctorReport{OK: true, Hosts: []string{}, Findings: d.findings}
	if d.proxy != nil {
		report.Proxy = d.proxy.String()
	}
	for _, a := range d.hosts {
		report.Hosts = append(report.Hosts, shortAuthority(a))
	}
	for _, f := range d.findings {
		report.OK = report.OK && f.Verdict != verdictNo
	}
	if asJSON {
		if err := printJSON(s.out, report); err != nil {
			return no(err)
		}
	} else {
		report.print(s)
	}
	if !report.OK {
		return errNo
	}
	return nil
}

// print writes a line for each finding, and a last one that sums up.
func (r doctorReport) print(s std) {
	paint := newScreen(s).coloured
	for _, f := range r.Findings {
		fmt.Fprintf(s.out, "%s  %-9s  %s\n", painted(f.Verdict, paint), f.Check, f.sentence())
	}
	count := map[string]int{}
	for _, f := range r.Findings {
		count[f.Verdict]++
	}
	summary(s.out, count)
}

func summary(w io.Writer, count map[string]int) {
	switch {
	case count[verdictNo] > 0:
		fmt.Fprintf(w, "\n%s, %s: begin with the first NO, as others may follow from it\n",
			counted(count[verdictNo], "fault"), counted(count[verdictWarning], "warning"))
	case count[verdictWarning] > 0:
		fmt.Fprintf(w, "\nno fault, %s\n", counted(count[verdictWarning], "warning"))
	default:
		fmt.Fprintln(w, "\nall is well")
	}
}

// sentence is what there is to say after the verdict.
func (f finding) sentence() string {
	text := f.Message
	if f.Subject != "" {
		text = f.Subject + ": " + text
	}
	if f.Remedy != "" {
		text += "; " + f.Remedy
	}
	return text
}

// painted is verdict in a column of its own, in colour for a terminal.
func painted(verdict string, colour bool) string {
	column := fmt.Sprintf("%-7s", verdict)
	if !colour {
		return column
	}
	code := map[string]string{verdictOK: "32", verdictWarning: "33", verdictNo: "31"}[verdict]
	return "\x1b[" + code + "m" + column + "\x1b[0m"
}

// shortAuthority is a as it stands in a URL: https' own port is left out.
func shortAuthority(a routes.Authority) string {
	return strings.TrimSuffix(a.String(), ":443")
}
