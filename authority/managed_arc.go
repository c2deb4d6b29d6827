package authority

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

// keyLimit bounds the file in which Azure Arc's agent puts a key, in bytes.
const keyLimit = 4096

var (
	errNoRealm = errors.New("the agent's 401 names no key file (WWW-Authenticate: Basic realm=...)")
	errKeyPath = errors.New("the agent names a key file that is not a .key directly in its own folder")
	errKeyFile = errors.New("the key file is not a regular file")
	errKeySize = fmt.Errorf("the key file is larger than %d bytes", keyLimit)
	errKeySwap = errors.New("the key file was replaced while it was opened")
	errKeyOdd  = errors.New("the key file is empty, or holds what no header can carry")
	errKeyDir  = errors.New("the agent's folder of keys cannot be opened")
)

// key reads the file that the agent's challenge names, which only members of
// the agent's group can: that is how a process proves itself to Azure Arc.
// Whoever answers in the agent's stead must not have another file read.
func (h *host) key(header http.Header) (string, error) {
	name, err := h.keyName(header)
	if err == nil {
		var key string
		if key, err = readKey(h.keyDir, name); err == nil {
			return key, nil
		}
	}
	return "", h.keyTrouble(err)
}

// keyTrouble is err with what to do about it.
func (h *host) keyTrouble(err error) *trouble {
	if p, ok := errors.AsType[*fs.PathError](err); ok {
		err = p.Err // whose path may be long, and is named below
	}
	t := &trouble{
		what:   "Azure Arc's key in " + h.keyDir + " cannot be used",
		remedy: "see that the agent is healthy and that nothing else answers for it: azcmagent show",
		cause:  err,
	}
	if errors.Is(err, fs.ErrPermission) {
		t.remedy = "add the user that the gateway runs as to the group himds (usermod -aG himds USER), then start the gateway anew"
		if runtime.GOOS == "windows" {
			t.remedy = "add the account that the gateway runs as to the group Hybrid agent extension applications, then start the gateway anew"
		}
	}
	return t
}

// keyName returns the name, within keyDir, of the file that a challenge names.
func (h *host) keyName(header http.Header) (string, error) {
	scheme, rest, _ := strings.Cut(strings.TrimSpace(header.Get("WWW-Authenticate")), " ")
	parameter, path, ok := strings.Cut(strings.TrimSpace(rest), "=")
	if !ok || !strings.EqualFold(scheme, "Basic") || !strings.EqualFold(strings.TrimSpace(parameter), "realm") {
		return "", errNoRealm
	}
	path = strings.TrimSpace(path)
	if len(path) > 1 && path[0] == '"' && path[len(path)-1] == '"' {
		path = path[1 : len(path)-1]
	}
	dir, name := filepath.Split(path)
	same := filepath.Clean(dir) == filepath.Clean(h.keyDir)
	if runtime.GOOS == "windows" {
		same = strings.EqualFold(filepath.Clean(dir), filepath.Clean(h.keyDir))
	}
	// A path that is not in its shortest form is not the agent's.
	if !same || filepath.Clean(path) != path || strings.TrimSuffix(name, ".key") == "" || filepath.Ext(name) != ".key" {
		return "", errKeyPath
	}
	return name, nil
}

// readKey follows no link, neither out of dir nor within.
func readKey(dir, name string) (string, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return "", fmt.Errorf("%w: %w", errKeyDir, err)
	}
	defer root.Close()
	before, err := root.Lstat(name)
	switch {
	case err != nil:
		return "", err
	case !before.Mode().IsRegular():
		return "", errKeyFile
	case before.Size() > keyLimit:
		return "", errKeySize
	}
	f, err := root.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	if now, err := f.Stat(); err != nil || !os.SameFile(before, now) {
		return "", errKeySwap
	}
	b, err := io.ReadAll(io.LimitReader(f, keyLimit+1))
	switch {
	case err != nil:
		return "", err
	case len(b) > keyLimit:
		return "", errKeySize
	}
	key := strings.TrimRight(string(b), "\r\n")
	if key == "" || strings.ContainsFunc(key, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return "", errKeyOdd
	}
	return key, nil
}
