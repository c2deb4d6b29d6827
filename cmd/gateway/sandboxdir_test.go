package main

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

func TestSandboxKeepsItsFilesWhereNobodyElseWrites(t *testing.T) {
	if runtime.GOOS == "windows" {
		return // folders have no such permissions there
	}
	open := filepath.Join(t.TempDir(), "open")
	if err := os.Mkdir(open, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(open, 0o777); err != nil {
		t.Fatal(err)
	}
	if _, err := sceneDir(open); err == nil || !strings.Contains(err.Error(), "chmod go-w") {
		t.Errorf("a folder that all may write to: %v, want a refusal with its remedy", err)
	}
}

func TestSandboxRemovesTheFolderThatALinkLeadsTo(t *testing.T) {
	base, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	folder, link := filepath.Join(base, "folder"), filepath.Join(base, "link")
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(folder, link); err != nil {
		t.Fatal(err)
	}
	if got, err := sceneDir(link); got != folder || err != nil {
		t.Errorf("sceneDir(link) = %s, %v, want %s", got, err, folder)
	}
}
