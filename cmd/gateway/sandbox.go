package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/seed-13b04e61/gateway/audit"
	"github.com/seed-13b04e61/gateway/certs"
	"github.com/seed-13b04e61/gateway/routes"
	"github.com/seed-13b04e61/gateway/sandbox"
	"github.com/seed-13b04e61/gateway/tracing"
	"github.com/spf13/cobra"
)

// sandboxFlags are the flags of sandbox.
type sandboxFlags struct {
	listen, admin string
	sql           string // address of the SQL door; "": any port
	fail          string
	once          bool
}

func newSandbox(s std) *cobra.Command {
	var f sandboxFlags
	cmd := &cobra.Command{
		Use:   "sandbox",
		Short: "Run everything at once on loopback: a small Entra, a small Graph, a small SQL server, the gateway in front",
		Long: `Runs everything at once on loopback, with no account needed: a small Entra, a
small Graph and a small SQL server that verify its tokens, and the gateway in front
of them. Prints lines to paste. Type the name of a trouble and Enter to see what it looks like:
` + strings.Join(troubles(), ", ") + `; recover ends it.

--once runs a tour instead: it makes the calls itself, checks each step, and
exits with 0 only if every one held.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if f.fail != "" && !slices.Contains(troubles(), f.fail) {
				return fmt.Errorf("--fail %q: want one of %s", f.fail, strings.Join(troubles(), ", "))
			}
			return runSandbox(cmd.Context(), f, s)
		},
	}
	cmd.Flags().StringVar(&f.listen, "listen", "127.0.0.1:8080", "address of the proxy port")
	cmd.Flags().StringVar(&f.admin, "admin", "127.0.0.1:8081", "address of the admin port")
	cmd.Flags().StringVar(&f.sql, "sql", "127.0.0.1:0", "address of the SQL door")
	cmd.Flags().StringVar(&f.fail, "fail", "", "begin in trouble: "+strings.Join(troubles(), ", "))
	_ = cmd.RegisterFlagCompletionFunc("fail", cobra.FixedCompletions(troubles(), cobra.ShellCompDirectiveNoFileComp)) // the flag is there
	cmd.Flags().BoolVar(&f.once, "once", false, "run the tour, check each step, and exit")
	cmd.AddCommand(newApp(s))
	return cmd
}

// scene is the sandbox with the gateway in front of it.
type scene struct {
	world   *sandbox.World
	asked   asked        // of Entra
	front   *sandbox.SQL // where logins go first
	node    *sandbox.SQL // where it sends them
	gateway *gateway
	dir     string // of the scene's routes.yaml, removed in the end
}

func runSandbox(ctx context.Context, f sandboxFlags, s std) error {
	if f.once {
		f.listen, f.admin, f.sql = "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"
	}
	interrupted, stop := signal.NotifyContext(ctx, syscall.SIGTERM, os.Interrupt)
	defer stop()
	sc, err := newScene(f, s)
	if err != nil {
		return no(err)
	}
	defer sc.close()
	if f.once {
		return sc.tour(interrupted, f.fail, s)
	}
	sc.greet(f.fail, s)
	go sc.obey(os.Stdin, s) // ends with the process, as a read of a terminal does
	o := hear()
	defer o.close()
	stop() // or a second signal would not kill
	return no(sc.gateway.run(ctx, o))
}

func newScene(f sandboxFlags, s std) (*scene, error) {
	sc := &scene{}
	var err error
	if sc.world, err = sandbox.Start(sandbox.Options{}); err != nil {
		return nil, err
	}
	sc.world.Entra.Observe(sc.asked.note)
	if err := sc.startSQL(); err != nil {
		sc.close()
		return nil, err
	}
	if sc.dir, err = os.MkdirTemp("", "gateway-sandbox-"); err != nil {
		sc.close()
		return nil, err
	}
	if f.fail != "" {
		if err := sc.trouble(f.fail); err != nil {
			sc.close()
			return nil, err
		}
	}
	if err := sc.start(f, s); err != nil {
		sc.close()
		return nil, err
	}
	return sc, nil
}

// start writes the scene's routes.yaml and runs the gateway by it, as serve
// would.
func (sc *scene) start(f sandboxFlags, s std) error {
	text := fmt.Sprintf(`version: 1
listen: {proxy: %q, admin: %q}
credentials:
  default:
    tenant_id: %s
    client_id: %s
    client_secret: {file: client-secret}
    authority_host: %s
routes:
  - preset: graph
    upstream: %s
intercept: {ca_dir: ca}
log: {debug_headers: true}
%s`, f.listen, f.admin, sandbox.TenantDomain, sandbox.ClientID, sc.world.Entra.URL(), sc.world.Graph.URL(), sc.sqlSection(cmp.Or(f.sql, "127.0.0.1:0")))
	path := filepath.Join(sc.dir, "routes.yaml")
	err := errors.Join(
		os.WriteFile(path, []byte(text), 0o600),
		os.WriteFile(filepath.Join(sc.dir, "client-secret"), []byte(sc.world.Secret()), 0o600),
		os.WriteFile(filepath.Join(sc.dir, "sql-ca.pem"), slices.Concat(sc.front.CAPEM(), sc.node.CAPEM()), 0o600))
	if err != nil {
		return err
	}
	file, err := routes.Open(path, os.LookupEnv)
	if err != nil {
		return err
	}
	// Made beforehand: serve's warning of a new root has no reader here.
	if _, err := certs.OpenCA(file.Table().Intercept.CADir, file.Table().InterceptedHosts()); err != nil {
		return err
	}
	logTo := s.out
	if f.once {
		logTo = io.Discard
	}
	log, err := audit.NewLog(logTo, audit.LogConfig{Level: "info", Format: "json", Access: true})
	if err != nil {
		return err
	}
	traces, err := tracing.Read(os.LookupEnv)
	if err != nil {
		return fmt.Errorf("refusing to start: %w", err)
	}
	sc.gateway, err = start(file, doors{Listen: file.Table().Listen, traces: traces}, log)
	return err
}

func (sc *scene) close() {
	if sc.gateway != nil {
		sc.gateway.Close()
	}
	if sc.world != nil {
		sc.world.Close()
	}
	if sc.dir != "" {
		_ = os.RemoveAll(sc.dir)
	}
}

// greet says what runs and what to try; trouble is the one that it begins with.
func (sc *scene) greet(trouble string, s std) {
	at, file := shown(sc.gateway.proxyL), filepath.Join(sc.dir, "routes.yaml")
	fmt.Fprintf(s.err, `A small Entra, a small Graph, a small SQL server and the gateway are running. Nothing
you type below holds a token; the gateway adds it. Its routes.yaml is %s

The live page shows each call, why it failed and what to do: %s

Paste into another terminal:

  curl -s http://%s/graph/v1.0/users
  http_proxy=http://%s curl -s http://graph.microsoft.com/v1.0/users
  https_proxy=http://%s curl -s --cacert %s https://graph.microsoft.com/v1.0/users
  gateway exec --config %s -- curl -s https://graph.microsoft.com/v1.0/users
  curl -s http://%s/graph/v1.0/reports/getOffice365ActiveUserDetail
  http_proxy=http://%s curl -si http://example.com/
  curl -s http://%s/readyz
  gateway check --live --config %s
  %s
  Server=%s;Database=%s;User Id=any;Password=any;Encrypt=False   (.NET and its like)

Type a trouble and Enter to see what it looks like from the app's side:
  %s; recover ends it. Ctrl-C ends all.

`, file, pageAt(sc.gateway.adminL), at, at, at, filepath.Join(sc.dir, "ca", "root.pem"), file, at, at, shown(sc.gateway.adminL), file, sc.tsql(),
		strings.Replace(sc.sqlAt(), ":", ",", 1), sceneDatabase, strings.Join(troubles(), ", "))
	if trouble != "" {
		fmt.Fprintln(s.err, sc.lines(trouble))
	}
}

// tsql is how FreeTDS's client is sent to the SQL door.
func (sc *scene) tsql() string {
	host, port, _ := net.SplitHostPort(sc.sqlAt()) // a listener's own address
	return fmt.Sprintf("tsql -H %s -p %s -U any -P any", host, port)
}

// obey makes the troubles that are typed. It ends with its input.
func (sc *scene) obey(in io.Reader, s std) {
	for lines := bufio.NewScanner(in); lines.Scan(); {
		switch word := strings.TrimSpace(lines.Text()); word {
		case "":
		case "recover":
			sc.recover()
			fmt.Fprintln(s.err, "recovered; the gateway asks again when its hold-off ends, or after gateway purge")
		default:
			if err := sc.trouble(word); err != nil {
				fmt.Fprintln(s.err, err)
				continue
			}
			fmt.Fprintf(s.err, "%s  A token in hand hides troubles of the token endpoint; forget it by  gateway purge --admin %s\n",
				sc.lines(word), shown(sc.gateway.adminL))
		}
	}
}
