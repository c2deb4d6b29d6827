//go:build !unix

package main

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"os/signal"
)

// overheard are the signals that are the child's.
type overheard struct{ pass chan os.Signal }

// overhear takes the interrupt, which a console sends to the child as well.
func overhear() overheard {
	o := overheard{make(chan os.Signal, 1)}
	signal.Notify(o.pass, os.Interrupt)
	return o
}

func (o overheard) close() { signal.Stop(o.pass) }

// run runs p with environ and with this process's stdin, stdout and stderr
// until it ends, and returns its exit code. An error means that it was not run.
// When ctx ends, it is killed.
func (p program) run(ctx context.Context, environ []string, _ overheard) (int, error) {
	cmd := exec.CommandContext(ctx, p.path, p.args[1:]...)
	cmd.Args, cmd.Env, cmd.Stdin, cmd.Stdout, cmd.Stderr = p.args, environ, os.Stdin, p.stdout(), os.Stderr
	err := cmd.Run()
	var ended *exec.ExitError
	if errors.As(err, &ended) {
		return ended.ExitCode(), nil
	}
	return 0, err
}
