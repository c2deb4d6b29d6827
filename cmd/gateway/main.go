// Command gateway is the authenticating reverse proxy and egress gateway: it
// puts the app-only token of a route onto every call that the route matches.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
	// The roots of public CAs, for images that bring none. The system's win.
	_ "golang.org/x/crypto/x509roots/fallback"
)

// version is set by the linker for releases.
var version = "dev"

func main() {
	os.Exit(run(context.Background(), os.Args[1:], std{os.Stdout, os.Stderr}))
}

// std is where a command writes: results to out, everything else to err.
type std struct{ out, err io.Writer }

// The exit codes of every command.
const (
	exitFine  = 0
	exitNo    = 1 // it ran, and the answer is no
	exitUsage = 2
)

// errNo ends a command with exit code 1 after it has said everything itself.
var errNo = errors.New("the answer is no")

// refusedError is an answer no that has still to be printed.
type refusedError struct{ err error }

func (e *refusedError) Error() string { return e.err.Error() }
func (e *refusedError) Unwrap() error { return e.err }

// no marks err as the outcome of a command that ran, as opposed to its misuse.
func no(err error) error {
	if err == nil {
		return nil
	}
	return &refusedError{err}
}

// run is the whole program but for the process's exit.
func run(ctx context.Context, args []string, s std) int {
	root := newRoot(s)
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	var refused *refusedError
	var status exitStatus
	switch {
	case err == nil:
		return exitFine
	case errors.Is(err, errNo):
		return exitNo
	case errors.As(err, &status):
		return int(status)
	case errors.As(err, &refused):
		fmt.Fprintln(s.err, refused.Error())
		return exitNo
	}
	fmt.Fprintf(s.err, "gateway: %v\nRun 'gateway help' for usage.\n", err)
	return exitUsage
}

func newRoot(s std) *cobra.Command {
	root := &cobra.Command{
		Use:   "gateway",
		Short: "Puts app-only tokens of Microsoft Entra or any OAuth2 server onto calls, so that apps hold none",
		Long: `gateway stands between your apps and Microsoft Graph, Azure and every other API
behind Microsoft Entra ID or an OAuth2 server. Apps call through it without a
credential; it matches the call to a route of routes.yaml and adds the token.

Exit codes: 0 fine, 1 it ran and the answer is no, 2 usage.`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.NoArgs,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.AddCommand(newExec(s), newEnv(s))
	root.SetOut(s.out)
	root.SetErr(s.err)
	root.PersistentFlags().String("config", "", "routes.yaml (default $GATEWAY_CONFIG, ./routes.yaml, /etc/gateway/routes.yaml)")
	root.AddCommand(newServe(s), newCheck(s), newExplain(s), newToken(s), newReload(s), newPurge(s), newLogs(s),
		newKeygen(s), newCA(s), newSandbox(s), newHealth(s), newDoctor(s), newInit(s), newPresets(s), newSchema(s), newCompletion(s), newVersion(s))
	return root
}
