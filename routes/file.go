package routes

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
)

// writableByOthers are the mode bits that routes.yaml must not have: whoever
// may write it may send the gateway's tokens anywhere.
const writableByOthers = 0o022

// An Option changes how a file is understood.
type Option func(*parser)

// AllowExec gives leave to run the commands of {exec: …} references. Without
// it they are understood, and whoever reads one is refused.
func AllowExec() Option { return func(p *parser) { p.allowExec = true } }

// Load reads and understands a file. Its relative paths become relative to its
// own folder.
func Load(path string, env Env, opts ...Option) (*Table, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("routes.yaml: %w; name it by --config or GATEWAY_CONFIG", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.Mode().IsRegular() && info.Mode().Perm()&writableByOthers != 0 {
		return nil, Mistakes{{File: path, Message: fmt.Sprintf("group or world may write this file (mode %04o)", info.Mode().Perm()), Remedy: "chmod go-w " + path}}
	}
	src, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("routes.yaml: %w", err)
	}
	base, err := filepath.Abs(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	return parseIn(input{base, path, src}, env, opts)
}

// FindFile is where routes.yaml is: the flag, else $GATEWAY_CONFIG, else
// ./routes.yaml, else /etc/gateway/routes.yaml.
func FindFile(flag string, env Env) string {
	if flag != "" {
		return flag
	}
	if v, ok := env.lookup("GATEWAY_CONFIG"); ok && v != "" {
		return v
	}
	if _, err := os.Stat("routes.yaml"); err == nil {
		return "routes.yaml"
	}
	if _, err := os.Stat("/etc/gateway/routes.yaml"); err == nil {
		return "/etc/gateway/routes.yaml"
	}
	return "routes.yaml"
}

// File holds the table of a routes.yaml and replaces it all or nothing.
type File struct {
	path    string
	env     Env
	opts    []Option
	derive  func(*Table) *Table // nil: as it is read
	loading sync.Mutex          // one Reload at a time
	table   atomic.Pointer[Table]
}

// Open loads the file for the first time.
func Open(path string, env Env, opts ...Option) (*File, error) {
	t, err := Load(path, env, opts...)
	if err != nil {
		return nil, err
	}
	f := &File{path: path, env: env, opts: opts}
	f.table.Store(t)
	return f, nil
}

// Table is the one in force; never nil.
func (f *File) Table() *Table { return f.table.Load() }

// Reload puts the file as it is now in force and returns its table. On an
// error the table before it stays.
func (f *File) Reload() (*Table, error) {
	f.loading.Lock()
	defer f.loading.Unlock()
	t, err := Load(f.path, f.env, f.opts...)
	if err != nil {
		return nil, err
	}
	if f.derive != nil {
		t = f.derive(t)
	}
	f.table.Store(t)
	return t, nil
}
