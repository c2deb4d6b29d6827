package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/seed-13b04e61/gateway/sandbox"
	"github.com/spf13/cobra"
)

// sandboxFlags are the flags of sandbox.
type sandboxFlags struct {
	listen, admin string
	sql           string // address of the SQL door; "": any port
	dir           string // for the files; "": a temporary folder
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

Its routes.yaml, secret and CA are in the folder that --dir names, to look at and to
change; the gateway follows each change. The folder goes when the sandbox ends.

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
	cmd.Flags().StringVar(&f.dir, "dir", "", "folder for its files, which must be new or empty (default a temporary one)")
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
	if sc.dir, err = sceneDir(f.dir); err != nil {
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
