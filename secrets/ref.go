package secrets

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
)

// ErrUnresolved is wrapped by every error of [Ref.Read].
var ErrUnresolved = errors.New("secret cannot be read")

// maxSize bounds a secret's file, in bytes.
const maxSize = 1 << 20

// Ref says where a secret lives: exactly one of Env, File and Exec is set, and
// the zero value names nothing.
type Ref struct {
	Env  string   // name of an environment variable
	File string   // path, absolute or relative to the working directory
	Exec []string // absolute path of a command, and its arguments
	// MayRun is the operator's leave to run Exec; without, Read refuses.
	MayRun bool
}

// IsZero tells whether the reference names nothing.
func (r Ref) IsZero() bool { return r.Env == "" && r.File == "" && len(r.Exec) == 0 }

// String names the source, never the secret: "env NAME", "file /path" or
// "exec /command", without its arguments.
func (r Ref) String() string {
	switch {
	case r.Env != "":
		return "env " + r.Env
	case r.File != "":
		return "file " + r.File
	case len(r.Exec) > 0:
		return "exec " + r.Exec[0]
	}
	return "none"
}

// Read fetches the secret anew. Trailing line ends are cut from a file and from
// a command's output, as editors and echo add them. A missing, empty or
// oversized source, and a command that fails or takes more than 10 s, is an
// error that wraps [ErrUnresolved].
func (r Ref) Read() (Secret, error) { return r.ReadContext(context.Background()) }

// ReadContext is [Ref.Read] for a caller who may not wait for a command: it is
// killed when ctx ends.
func (r Ref) ReadContext(ctx context.Context) (Secret, error) {
	var value string
	switch {
	case r.Env != "":
		v, ok := os.LookupEnv(r.Env)
		if !ok {
			return Secret{}, fmt.Errorf("%w: environment variable %s is not set", ErrUnresolved, r.Env)
		}
		value = v
	case r.File != "":
		b, err := ReadFile(r.File)
		if err != nil {
			return Secret{}, fmt.Errorf("%w: %w", ErrUnresolved, err)
		}
		value = strings.TrimRight(string(b), "\r\n")
	case len(r.Exec) > 0:
		b, err := r.run(ctx)
		if err != nil {
			return Secret{}, fmt.Errorf("%w: %w", ErrUnresolved, err)
		}
		value = strings.TrimRight(string(b), "\r\n")
	default:
		return Secret{}, fmt.Errorf("%w: no source named", ErrUnresolved)
	}
	if strings.TrimSpace(value) == "" {
		return Secret{}, fmt.Errorf("%w: %s is empty", ErrUnresolved, r)
	}
	return New(value), nil
}

// ReadFile reads a file that secrets, keys or certificates are in, of 1 MiB at
// most. What is no regular file is an error and is not waited for: a pipe gives
// what it holds once, or never, and these files are read again and again.
func ReadFile(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // or a pipe without a writer would hold it up
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is no regular file", path)
	}
	b, err := io.ReadAll(io.LimitReader(f, maxSize+1))
	if err != nil {
		return nil, err
	}
	if len(b) > maxSize {
		return nil, fmt.Errorf("%s is larger than %d bytes", path, maxSize)
	}
	return b, nil
}
