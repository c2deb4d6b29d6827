package secrets

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"
)

const (
	// quiet is how long the directories must rest before the files are read
	// again: an editor's save and a Kubernetes swap are bursts of events.
	quiet = 100 * time.Millisecond
	// patience bounds the wait for quiet in a directory that never rests.
	patience = 2 * time.Second
	// pollEvery finds changes that no event tells of: NFS, bind mounts,
	// exhausted inotify limits.
	pollEvery = 30 * time.Second
	// maxLinks ends the search in a circle of symbolic links.
	maxLinks = 40
)

// Watcher notices when content or permissions of any of a set of files change. It
// watches directories, those of the paths and of every symbolic link on the
// way, because a watch on a file goes silent for ever once the file is
// replaced, as editors and Kubernetes do. Events are hints only: what counts is
// the SHA-256 of content and permissions.
type Watcher struct {
	notify func()
	fs     *fsnotify.Watcher
	done   chan struct{}
	wg     sync.WaitGroup

	mu    sync.Mutex // guards what follows
	paths []string
	sums  map[string][sha256.Size]byte
	dirs  map[string]bool
}

// Watch starts a watcher without files. notify runs on the watcher's only
// goroutine, after the changes have settled; it may call [Watcher.Follow].
func Watch(notify func()) (*Watcher, error) {
	fs, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, fmt.Errorf("watch files: %w", err)
	}
	w := &Watcher{notify: notify, fs: fs, done: make(chan struct{}), dirs: map[string]bool{}}
	w.wg.Go(w.run)
	return w, nil
}

// Follow replaces the set of files. A path that does not exist yet is noticed
// when it appears, provided that its directory exists. What is to be noticed of
// a file is any change from what it held when its first Follow began, or at the
// latest notification: so call Follow before the files are read, as one that
// changes after it was read, and before Follow, would stay unread.
func (w *Watcher) Follow(paths []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.paths = append([]string(nil), paths...)
	w.watchDirs()
	now := make(map[string][sha256.Size]byte, len(paths))
	for _, path := range w.paths {
		sum, known := w.sums[path]
		if !known {
			sum = sumOf(path)
		}
		now[path] = sum
	}
	w.sums = now
}

// Close ends the watch and waits for a running notification.
func (w *Watcher) Close() error {
	close(w.done)
	w.wg.Wait()
	return w.fs.Close()
}

// run ends when done is closed.
func (w *Watcher) run() {
	poll := time.NewTicker(pollEvery)
	defer poll.Stop()
	settle := time.NewTimer(time.Hour)
	settle.Stop()
	var deadline time.Time
	for {
		select {
		case <-w.done:
			return
		case <-w.fs.Events:
			now := time.Now()
			if deadline.IsZero() {
				deadline = now.Add(patience)
			}
			settle.Reset(min(quiet, max(0, deadline.Sub(now))))
		case <-w.fs.Errors: // an overflow lost events, so look
			settle.Reset(quiet)
		case <-settle.C:
			deadline = time.Time{}
			w.look()
		case <-poll.C:
			w.look()
		}
	}
}

// look reads the files again and notifies if any differs.
func (w *Watcher) look() {
	w.mu.Lock()
	now := sums(w.paths)
	changed := false
	for path, sum := range now {
		changed = changed || w.sums[path] != sum
	}
	w.sums = now
	w.watchDirs() // links may lead elsewhere by now
	w.mu.Unlock()
	if changed {
		w.notify()
	}
}

// watchDirs brings the watched directories in line with paths. w.mu is held.
func (w *Watcher) watchDirs() {
	want := map[string]bool{}
	for _, path := range w.paths {
		linkDirs(path, want)
	}
	for dir := range w.dirs {
		if !want[dir] {
			_ = w.fs.Remove(dir) // gone already when the directory is
			delete(w.dirs, dir)
		}
	}
	for dir := range want {
		// Added again even when known: a directory that was replaced under
		// the same name needs a new watch. A failure leaves it to the poll.
		if err := w.fs.Add(dir); err == nil {
			w.dirs[dir] = true
		}
	}
}

// linkDirs adds to dirs the directory of path and of every symbolic link that
// resolving it passes through.
func linkDirs(path string, dirs map[string]bool) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return
	}
	dirs[filepath.Dir(abs)] = true
	for range maxLinks {
		link, rest, found := firstLink(abs)
		if !found {
			dirs[filepath.Dir(abs)] = true
			return
		}
		dirs[filepath.Dir(link)] = true
		target, err := os.Readlink(link)
		if err != nil {
			return
		}
		if !filepath.IsAbs(target) {
			target = filepath.Join(filepath.Dir(link), target)
		}
		abs = filepath.Join(target, rest)
	}
}

// firstLink finds the first component of abs that is a symbolic link.
func firstLink(abs string) (link, rest string, found bool) {
	parts := strings.Split(strings.TrimPrefix(abs, "/"), "/")
	at := "/"
	for i, part := range parts {
		at = filepath.Join(at, part)
		if info, err := os.Lstat(at); err == nil && info.Mode()&os.ModeSymlink != 0 {
			return at, filepath.Join(parts[i+1:]...), true
		}
	}
	return "", "", false
}

func sums(paths []string) map[string][sha256.Size]byte {
	out := make(map[string][sha256.Size]byte, len(paths))
	for _, path := range paths {
		out[path] = sumOf(path)
	}
	return out
}

// sumOf hashes a file and its permissions, which decide whether it is taken; one
// that cannot be read has the zero sum, so that its vanishing and its coming are
// changes too.
func sumOf(path string) [sha256.Size]byte {
	b, err := ReadFile(path)
	if err != nil {
		return [sha256.Size]byte{}
	}
	if info, err := os.Stat(path); err == nil {
		b = fmt.Appendf(b, "\x00%o", info.Mode().Perm())
	}
	return sha256.Sum256(b)
}
