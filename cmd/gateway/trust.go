package main

import (
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/crypto/x509roots/fallback/bundle"

	"github.com/seed-13b04e61/gateway/certs"
)

// trustFolder is a folder of certificates, and of no key, by which a child
// trusts the gateway's CA beside what it would trust else. Its own user alone
// may look into it.
type trustFolder struct {
	dir      string
	ca       *certs.CA
	others   []*x509.Certificate // that the child would trust without the gateway
	wgetrc   []byte              // what the child's wget would read without
	java     bool
	warnings []string
}

// newTrustFolder makes the folder for a child with the environment env.
func newTrustFolder(env lookup, ca *certs.CA, java bool) (*trustFolder, error) {
	t := &trustFolder{ca: ca, java: java}
	t.gather(env)
	t.readWget(env)
	var err error
	if t.dir, err = os.MkdirTemp("", "gateway-exec-"); err != nil {
		return nil, fmt.Errorf("no folder for the certificates that CMD has to trust: %w; set TMPDIR to a folder that can be written", err)
	}
	if err := t.write(); err != nil {
		t.remove()
		return nil, err
	}
	return t, nil
}

func (t *trustFolder) remove() { _ = os.RemoveAll(t.dir) }

func (t *trustFolder) caFile() string     { return filepath.Join(t.dir, "ca.pem") }
func (t *trustFolder) bundleFile() string { return filepath.Join(t.dir, "bundle.pem") }

func (t *trustFolder) wgetFile() string { return filepath.Join(t.dir, "wgetrc") }

// storeFile is for Java; "" for a child that runs none.
func (t *trustFolder) storeFile() string {
	if !t.java {
		return ""
	}
	return filepath.Join(t.dir, "trust.p12")
}

// follow has the files follow e's CA. When a reload brings hosts that it was not
// made for, programs that the child starts from then on trust the new root;
// those that run have read the one before, which goes on signing for the hosts
// that it was made for.
func (t *trustFolder) follow(e *engine) error {
	e.changing.Lock()
	defer e.changing.Unlock()
	e.rooted = func() {
		if err := t.write(); err != nil {
			e.report(notice{text: err.Error(), remedy: "run CMD anew once there is room in its temporary folder", alarm: true})
		}
	}
	return t.write() // a reload may have come before
}

// write puts the CA as it is now into the files, each at once: a child that
// reads them finds one state or the other.
func (t *trustFolder) write() error {
	files := map[string][]byte{t.caFile(): t.ca.RootPEM(), t.bundleFile(): t.ca.Bundle(t.others),
		t.wgetFile(): fmt.Appendf(nil, "%s\nca_certificate = %s\n", t.wgetrc, t.bundleFile())}
	if t.java {
		store, err := t.ca.TrustStore(t.others, certs.TrustStorePassword)
		if err != nil {
			return err
		}
		files[t.storeFile()] = store
	}
	for path, content := range files {
		next := path + ".next"
		if err := errors.Join(os.WriteFile(next, content, 0o600), os.Rename(next, path)); err != nil {
			return fmt.Errorf("the certificates that CMD has to trust cannot be written: %w", err)
		}
	}
	return nil
}

// gather collects the roots of the system and those that variables name: most
// runtimes take one file instead of all others, and one variable hides another.
func (t *trustFolder) gather(env lookup) {
	only := func(name, value string) lookup {
		return func(n string) (string, bool) { return value, n == name }
	}
	folders, _ := env("SSL_CERT_DIR")
	seen := map[string]bool{}
	add := func(roots []*x509.Certificate) {
		for _, c := range roots {
			if !seen[string(c.Raw)] {
				seen[string(c.Raw)] = true
				t.others = append(t.others, c)
			}
		}
	}
	system, _, err := certs.SystemRoots(only("SSL_CERT_DIR", folders))
	if err != nil {
		system = builtIn()
	}
	add(system)
	read := map[string]bool{"": true} // most often all variables name one file
	for _, name := range append(bundleVariables(), nodeExtra) {
		path, _ := env(name)
		if read[path] {
			continue
		}
		read[path] = true
		roots, _, err := certs.SystemRoots(only("SSL_CERT_FILE", path))
		if err != nil {
			t.warnings = append(t.warnings, fmt.Sprintf("%s names %s, which is no file of PEM certificates: what it was to add is not trusted; unset it, or mend it", name, clip(path)))
			continue
		}
		add(roots)
	}
}

// maxWget bounds a wgetrc, in bytes.
const maxWget = 256 << 10

// readWget reads the file that wget would: WGETRC, else .wgetrc at home. No
// variable adds to it.
func (t *trustFolder) readWget(env lookup) {
	path, named := env(wgetFile)
	if home, _ := env("HOME"); !named && home != "" {
		path = filepath.Join(home, ".wgetrc")
	}
	info, err := os.Stat(path)
	if path == "" || errors.Is(err, os.ErrNotExist) {
		return
	}
	if err == nil && (!info.Mode().IsRegular() || info.Size() > maxWget) {
		err = errors.New("it is no file, or too large for one")
	}
	if err == nil {
		t.wgetrc, err = os.ReadFile(path)
	}
	if err != nil {
		t.warnings = append(t.warnings, fmt.Sprintf("%s, wget's settings, cannot be read: wget goes without them", clip(path)))
	}
}

// builtIn are the public CAs that this program brings along, but for those that
// are trusted under conditions that a file cannot express.
func builtIn() []*x509.Certificate {
	var out []*x509.Certificate
	for root := range bundle.Roots() {
		if c, err := x509.ParseCertificate(root.Certificate); err == nil && root.Constraint == nil {
			out = append(out, c)
		}
	}
	return out
}
