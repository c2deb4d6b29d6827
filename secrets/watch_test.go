package secrets_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/seed-13b04e61/gateway/secrets"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// watch starts a watcher over paths and returns what waits for its next word.
func watch(t *testing.T, paths ...string) (changed func() bool) {
	t.Helper()
	events := make(chan struct{}, 16)
	w, err := secrets.Watch(func() { events <- struct{}{} })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
	w.Follow(paths)
	return func() bool {
		select {
		case <-events:
			return true
		case <-time.After(5 * time.Second):
			return false
		}
	}
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestWatcherSeesWhatEditorsAndKubernetesDo(t *testing.T) {
	t.Run("written in place", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "f")
		write(t, path, "one")
		changed := watch(t, path)
		write(t, path, "two")
		if !changed() {
			t.Error("a write in place went unnoticed")
		}
	})
	t.Run("others may read it now", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "f")
		write(t, path, "one")
		changed := watch(t, path)
		if err := os.Chmod(path, 0o644); err != nil {
			t.Fatal(err)
		}
		if !changed() {
			t.Error("other permissions went unnoticed")
		}
	})
	t.Run("renamed over, twice", func(t *testing.T) {
		dir := t.TempDir()
		path := filepath.Join(dir, "f")
		write(t, path, "one")
		changed := watch(t, path)
		for _, content := range []string{"two", "three"} {
			next := filepath.Join(dir, "next")
			write(t, next, content)
			if err := os.Rename(next, path); err != nil {
				t.Fatal(err)
			}
			if !changed() {
				t.Fatalf("a rename to %q went unnoticed", content)
			}
		}
	})
	t.Run("created, removed, created", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "f")
		changed := watch(t, path)
		write(t, path, "one")
		if !changed() {
			t.Fatal("a new file went unnoticed")
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		if !changed() {
			t.Fatal("a removal went unnoticed")
		}
		write(t, path, "one")
		if !changed() {
			t.Fatal("a return went unnoticed")
		}
	})
}

// A ConfigMap is path -> ..data/name and ..data -> a dated folder; an update
// makes a new folder and renames a new ..data over the old.
func TestWatcherFollowsConfigMapSwaps(t *testing.T) {
	dir := t.TempDir()
	link := func(target, name string) {
		t.Helper()
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	folder := func(name, content string) {
		t.Helper()
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, name, "routes.yaml"), content)
	}
	folder("..one", "one")
	link("..one", "..data")
	link("..data/routes.yaml", "routes.yaml")
	changed := watch(t, filepath.Join(dir, "routes.yaml"))
	for _, next := range []string{"..two", "..three"} {
		folder(next, next)
		link(next, "..data_tmp")
		if err := os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")); err != nil {
			t.Fatal(err)
		}
		if !changed() {
			t.Fatalf("the swap to %s went unnoticed", next)
		}
	}
}

// Whoever is told reads the files, and that takes time.
func TestWatcherSeesWhatChangesWhileItsLastWordIsTakenIn(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	write(t, path, "one")
	ready, events := make(chan struct{}), make(chan struct{}, 16)
	var w *secrets.Watcher
	first := true
	w, err := secrets.Watch(func() {
		<-ready
		if first {
			first = false
			write(t, path, "three") // after "two" was read
			w.Follow([]string{path})
		}
		events <- struct{}{}
	})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	w.Follow([]string{path})
	close(ready)
	write(t, path, "two")
	for range 2 {
		select {
		case <-events:
		case <-time.After(5 * time.Second):
			t.Fatal("a change went unnoticed, as it came before Follow")
		}
	}
}

func TestWatcherSaysNothingWhenContentIsTheSame(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	write(t, path, "one")
	events := make(chan struct{}, 16)
	w, err := secrets.Watch(func() { events <- struct{}{} })
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	w.Follow([]string{path})
	write(t, path, "one")
	write(t, filepath.Join(dir, "other"), "noise")
	select {
	case <-events:
		t.Error("notified without a change")
	case <-time.After(400 * time.Millisecond): // four times the settling time
	}
}
