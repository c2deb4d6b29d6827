package secrets

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"time"
)

const (
	// execTimeout bounds a command that prints a secret.
	execTimeout = 10 * time.Second
	// execGrace is how long its pipes may stay open after it was killed, as a
	// child of its own may hold them.
	execGrace = time.Second
)

// errOutput ends a command that prints more than any secret has.
var errOutput = fmt.Errorf("it prints more than %d bytes", maxSize)

// run executes the command and returns what it wrote to its standard output.
// Neither its arguments nor anything that it wrote is repeated in an error:
// both may hold a secret.
func (r Ref) run(ctx context.Context) ([]byte, error) {
	name := r.Exec[0]
	switch {
	case !r.MayRun:
		return nil, fmt.Errorf("%s is not run without --allow-exec", name)
	case !filepath.IsAbs(name):
		return nil, fmt.Errorf("%s is not an absolute path", name)
	}
	ctx, cancel := context.WithTimeout(ctx, execTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, r.Exec[1:]...)
	cmd.WaitDelay = execGrace
	out := &bounded{}
	cmd.Stdout = out
	err := cmd.Run()
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		return nil, fmt.Errorf("%s was given up: %w", name, ctx.Err())
	case ctx.Err() != nil:
		return nil, fmt.Errorf("%s took more than %s", name, execTimeout)
	case out.full:
		return nil, fmt.Errorf("%s: %w", name, errOutput)
	case err != nil:
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			return nil, fmt.Errorf("%s failed: %s", name, exit.ProcessState)
		}
		return nil, fmt.Errorf("%s cannot be run: %w", name, err)
	}
	return out.b, nil
}

// bounded keeps up to maxSize bytes.
type bounded struct {
	b    []byte
	full bool
}

func (w *bounded) Write(p []byte) (int, error) {
	if len(w.b)+len(p) > maxSize {
		w.full = true
		return 0, errOutput
	}
	w.b = append(w.b, p...)
	return len(p), nil
}
