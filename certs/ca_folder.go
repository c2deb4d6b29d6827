package certs

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync/atomic"
	"time"
)

// The files of a CA, each with one PEM block a generation, the newest first.
const (
	rootFile    = "root.pem"    // what clients trust
	issuingFile = "issuing.pem" // written last: what it names is there
	keyFile     = "issuing.key"
	lockFile    = ".lock"
	newPrefix   = ".new-" // files on their way
)

const (
	startAnew = "put the files of one CA there, or begin anew: gateway ca init --force, and have clients trust the new root"
	// lockPatience is how long another process may keep the folder locked.
	lockPatience = 10 * time.Second
	lockPause    = 20 * time.Millisecond
)

// folder keeps generations on disk. Its methods but lock and changed need the lock.
type folder struct {
	dir  string
	seen atomic.Pointer[fs.FileInfo] // of issuing.pem, when it was read
}

func (f *folder) wrong(format string, args ...any) error {
	return fmt.Errorf("intercept.ca_dir: %s: %w", f.dir, fmt.Errorf(format, args...))
}

// lock waits until no other process is at work in the folder; own says that
// it is about to be written to, and then it is made. A reader makes nothing.
func (f *folder) lock(own bool) (unlock func(), err error) {
	if own {
		if err := os.MkdirAll(f.dir, 0o700); err != nil {
			return nil, f.wrong("%w; name a folder that this process may make", err)
		}
	}
	if err := f.private(f.dir, 0o077); err != nil {
		return nil, err
	}
	path := filepath.Join(f.dir, lockFile)
	flags := os.O_RDONLY
	if own {
		flags = os.O_RDWR | os.O_CREATE
	}
	l, err := os.OpenFile(path, flags, 0o600)
	if err != nil && !own && errors.Is(err, os.ErrNotExist) {
		return func() {}, nil // nobody ever wrote here
	} else if err != nil {
		return nil, f.wrong("%w; run this as the gateway's own user", err)
	}
	for end := time.Now().Add(lockPatience); ; time.Sleep(lockPause) {
		free, err := tryLock(l, own)
		if free && err == nil {
			return func() { _ = l.Close() }, nil // closing unlocks
		}
		if err != nil || time.Now().After(end) {
			return nil, errors.Join(f.wrong("another process keeps %s locked; see which one, and end it", path), err, l.Close())
		}
	}
}

// private refuses what others may use as mask says.
func (f *folder) private(path string, mask fs.FileMode) error {
	info, err := os.Stat(path)
	if err != nil {
		return f.wrong("%w", err)
	}
	if mode := info.Mode().Perm(); mode&mask != 0 && runtime.GOOS != "windows" { // where modes say nothing
		remedy := fmt.Sprintf("chmod go-rwx %s", path)
		if mask == 0o022 {
			remedy = fmt.Sprintf("chmod go-w %s", path)
		}
		return f.wrong("others may read or write %s (mode %04o), so that its key may be known to them; %s, and begin anew if it was so before: gateway ca init --force", path, mode, remedy)
	}
	return nil
}

// inhabited tells whether any file of a CA is there.
func (f *folder) inhabited() (bool, error) {
	for _, name := range []string{rootFile, issuingFile, keyFile} {
		_, err := os.Lstat(filepath.Join(f.dir, name))
		if err == nil {
			return true, nil
		}
		if !errors.Is(err, os.ErrNotExist) {
			return false, f.wrong("%w", err)
		}
	}
	return false, nil
}

// changed tells whether issuing.pem is another than when it was read.
func (f *folder) changed() bool {
	info, err := os.Stat(filepath.Join(f.dir, issuingFile))
	seen := f.seen.Load()
	if err != nil || seen == nil {
		return err == nil
	}
	return !os.SameFile(info, *seen) || info.Size() != (*seen).Size() || !info.ModTime().Equal((*seen).ModTime())
}

// read returns the generations in force, newest first. stale says that the
// files hold others besides, or in another order.
func (f *folder) read(now time.Time) (out []*generation, stale bool, err error) {
	if there, err := f.inhabited(); err != nil || !there {
		return nil, false, err
	}
	info, err := os.Stat(filepath.Join(f.dir, issuingFile))
	if err != nil {
		return nil, false, f.wrong("%w; %s", err, startAnew)
	}
	roots, err := f.certificates(rootFile)
	if err != nil {
		return nil, false, err
	}
	issuing, err := f.certificates(issuingFile)
	if err != nil {
		return nil, false, err
	}
	keys, err := f.keys()
	if err != nil {
		return nil, false, err
	}
	for _, c := range issuing {
		g := &generation{issuing: c}
		if ours(c) != nil || !now.Before(c.NotAfter.Add(-slack)) {
			continue
		}
		if now.Before(c.NotBefore) {
			return nil, false, f.wrong("its CA is valid only from %s; set this machine's clock", day(c.NotBefore))
		}
		g.pair(roots, keys)
		if err := g.belong(); err != nil {
			return nil, false, f.wrong("its files do not belong together: %w; %s", err, startAnew)
		}
		if g.leafKey, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
			return nil, false, f.wrong("%w", err)
		}
		out = append(out, g)
	}
	slices.SortStableFunc(out, func(a, b *generation) int { return b.issuing.NotBefore.Compare(a.issuing.NotBefore) })
	f.seen.Store(&info)
	return out, !same(out, roots, issuing, keys), nil
}

// pair finds root and key of g among those of the files: by what they are, as
// a write that was cut short leaves more of them than there are CAs.
func (g *generation) pair(roots []*x509.Certificate, keys []*ecdsa.PrivateKey) {
	for _, r := range roots {
		if g.root == nil && r.CheckSignatureFrom(r) == nil && g.issuing.CheckSignatureFrom(r) == nil {
			g.root = r
		}
	}
	for _, k := range keys {
		if g.key == nil && k.PublicKey.Equal(g.issuing.PublicKey) {
			g.key = k
		}
	}
}

// same tells whether the files hold just out.
func same(out []*generation, roots, issuing []*x509.Certificate, keys []*ecdsa.PrivateKey) bool {
	if len(roots) != len(out) || len(issuing) != len(out) || len(keys) != len(out) {
		return false
	}
	for i, g := range out {
		if !g.root.Equal(roots[i]) || !g.issuing.Equal(issuing[i]) || !g.key.Equal(keys[i]) {
			return false
		}
	}
	return true
}

// readFile reads a regular file that others may not use as mask says.
func (f *folder) readFile(name string, mask fs.FileMode) ([]byte, error) {
	path := filepath.Join(f.dir, name)
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return nil, f.wrong("%w; %s", err, startAnew)
	case !info.Mode().IsRegular():
		return nil, f.wrong("%s is not a file; %s", name, startAnew)
	}
	if err := f.private(path, mask); err != nil {
		return nil, err
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, f.wrong("%w; run this as the gateway's own user", err)
	}
	defer file.Close()
	b, err := io.ReadAll(io.LimitReader(file, maxPEM+1))
	switch {
	case err != nil:
		return nil, f.wrong("%w", err)
	case len(b) > maxPEM:
		return nil, f.wrong("%s has more than %d bytes; %s", name, maxPEM, startAnew)
	}
	return b, nil
}

func (f *folder) certificates(name string) ([]*x509.Certificate, error) {
	b, err := f.readFile(name, 0o022)
	if err != nil {
		return nil, err
	}
	out, err := parseCertificates(b)
	if err != nil {
		return nil, f.wrong("%s holds a damaged certificate: %w; %s", name, err, startAnew)
	}
	if len(out) == 0 {
		return nil, f.wrong("%s holds no certificate; %s", name, startAnew)
	}
	return out, nil
}

// parseCertificates reads all certificates of a PEM file, passing over other blocks.
func parseCertificates(rest []byte) (out []*x509.Certificate, err error) {
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return out, nil
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		out = append(out, c)
	}
}

// keys reads issuing.key. No error holds anything of what is in it.
func (f *folder) keys() (out []*ecdsa.PrivateKey, err error) {
	rest, err := f.readFile(keyFile, 0o077)
	if err != nil {
		return nil, err
	}
	defer clear(rest)
	for todo := rest; ; {
		var block *pem.Block
		if block, todo = pem.Decode(todo); block == nil {
			return out, nil
		}
		key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
		clear(block.Bytes)
		ec, ok := key.(*ecdsa.PrivateKey)
		if err != nil || !ok {
			return nil, f.wrong("%s holds something that is no EC key in PKCS#8; %s", keyFile, startAnew)
		}
		out = append(out, ec)
	}
}

// write puts all in place of what is there. The keys go first and the issuing
// CAs last, so that those which a reader finds have root and key.
func (f *folder) write(all []*generation) error {
	var keys, issuing bytes.Buffer
	defer func() { clear(keys.Bytes()) }()
	for _, g := range all {
		der, err := x509.MarshalPKCS8PrivateKey(g.key)
		if err != nil {
			return f.wrong("%w", err)
		}
		err = errors.Join(
			pem.Encode(&keys, &pem.Block{Type: "PRIVATE KEY", Bytes: der}),
			pem.Encode(&issuing, &pem.Block{Type: "CERTIFICATE", Bytes: g.issuing.Raw}))
		clear(der)
		if err != nil {
			return f.wrong("%w", err)
		}
	}
	leftovers, err := filepath.Glob(filepath.Join(f.dir, newPrefix+"*")) // of a write that was cut short
	if err != nil {
		return f.wrong("%w", err)
	}
	for _, path := range leftovers {
		_ = os.Remove(path)
	}
	if err := errors.Join(
		f.replace(keyFile, keys.Bytes(), 0o600),
		f.replace(rootFile, pemOf(rootsOf(all)), 0o644)); err != nil {
		return err
	}
	if err := f.replace(issuingFile, issuing.Bytes(), 0o644); err != nil {
		return err
	}
	if info, err := os.Stat(filepath.Join(f.dir, issuingFile)); err == nil {
		f.seen.Store(&info)
	}
	return syncFolder(f.dir)
}

// replace writes a file beside name and renames it over name.
func (f *folder) replace(name string, content []byte, mode fs.FileMode) error {
	next, err := os.CreateTemp(f.dir, newPrefix+"*") // O_EXCL, 0600
	if err != nil {
		return f.wrong("%w; let the gateway's user write there", err)
	}
	_, err = next.Write(content)
	err = errors.Join(err, next.Chmod(mode), next.Sync(), next.Close())
	if err == nil {
		err = os.Rename(next.Name(), filepath.Join(f.dir, name))
	}
	if err != nil {
		_ = os.Remove(next.Name())
		return f.wrong("%w", err)
	}
	return nil
}

// syncFolder has the renames outlive a power cut, where a folder can be synced.
func syncFolder(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	_ = d.Sync() // Windows cannot
	return d.Close()
}
