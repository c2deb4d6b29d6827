package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/seed-13b04e61/gateway/audit"
	"github.com/seed-13b04e61/gateway/certs"
	"github.com/seed-13b04e61/gateway/routes"
	"github.com/seed-13b04e61/gateway/tokens"
)

// intercepting is a file of one route for host, whose tables name the folder dir.
func intercepting(t *testing.T, dir, host string) (path string, file *routes.File) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "routes.yaml")
	route(t, path, host)
	file, err := routes.Open(path, os.LookupEnv)
	if err != nil {
		t.Fatal(err)
	}
	if dir != "" {
		file.Table().Intercept = &routes.Intercept{CADir: dir}
	}
	return path, file
}

func route(t *testing.T, path, host string) {
	t.Helper()
	text := "version: 1\ncredentials:\n  default: {token_endpoint: \"http://127.0.0.1:1/token\", client_id: x, client_secret: {env: PATH}}\n" +
		"routes:\n  - {name: a, hosts: [" + host + "], scope: x}\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func book(t *testing.T) (*audit.Log, *logged) {
	t.Helper()
	b := &logged{}
	log, err := audit.NewLog(b, audit.LogConfig{Level: "info", Format: "json"})
	if err != nil {
		t.Fatal(err)
	}
	return log, b
}

func texts(notices []notice) string {
	var b strings.Builder
	for _, n := range notices {
		b.WriteString(n.String() + "\n")
	}
	return b.String()
}

func TestTheEngineMakesACAAndSaysSoOnce(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ca")
	log, _ := book(t)
	for i, want := range []bool{true, false} {
		_, file := intercepting(t, dir, "a.example.com")
		e, notices, err := newIntercepting(file, log, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Contains(texts(notices), "a first root was made"); got != want {
			t.Errorf("start %d tells of a first root: %t, want %t: %s", i, got, want, texts(notices))
		}
		if _, err := e.ca.Certificate("a.example.com"); err != nil {
			t.Error(err)
		}
		e.Close()
	}
}

func TestAFolderThatCannotBeUsedKeepsTheGatewayFromStarting(t *testing.T) {
	dir := t.TempDir() // others may read it
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	log, _ := book(t)
	_, file := intercepting(t, dir, "a.example.com")
	if _, _, err := newIntercepting(file, log, nil); err == nil || !strings.Contains(err.Error(), "intercept.ca_dir") || !strings.Contains(err.Error(), "chmod") {
		t.Errorf("newIntercepting = %v, want a refusal that says chmod", err)
	}
}

func TestWithoutAFolderThereIsNoCA(t *testing.T) {
	log, _ := book(t)
	_, file := intercepting(t, "", "a.example.com")
	e, _, err := newIntercepting(file, log, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	if e.ca != nil {
		t.Error("there is a CA that nobody asked for")
	}
}

func TestAReloadHasTheCAFollowTheRoutes(t *testing.T) {
	ca, err := certs.NewCA([]string{"a.example.com"})
	if err != nil {
		t.Fatal(err)
	}
	log, logged := book(t)
	path, file := intercepting(t, "", "a.example.com")
	e, notices, err := newIntercepting(file, log, ca)
	if err != nil || strings.Contains(texts(notices), "root") {
		t.Fatal(err, texts(notices))
	}
	defer e.Close()
	told := 0
	e.rooted = func() { told++ }
	if e.Reload(); told != 0 || strings.Contains(logged.String(), "a new root") {
		t.Errorf("a reload of the same routes makes a root: %s", logged)
	}
	route(t, path, "b.example.com")
	e.Reload()
	if !strings.Contains(logged.String(), "a new root was made") || !strings.Contains(logged.String(), "gateway ca export") || told != 1 {
		t.Errorf("nobody is told of the new root: %s", logged)
	}
	if _, err := ca.Certificate("b.example.com"); err != nil {
		t.Error(err)
	}
	if _, err := ca.Certificate("a.example.com"); err == nil {
		t.Error("a host that is routed no more is signed for")
	}
}

func TestAFolderThatBreaksIsAnAlarmAndOldHostsGoOn(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ca")
	log, logged := book(t)
	_, file := intercepting(t, dir, "a.example.com")
	e, _, err := newIntercepting(file, log, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	if err := os.Remove(filepath.Join(dir, "issuing.key")); err != nil {
		t.Fatal(err)
	}
	var warned time.Time
	e.lookAtCA(time.Now(), &warned)
	if text := logged.String(); !strings.Contains(text, `"level":"error"`) || !strings.Contains(text, "issuing.key") || !strings.Contains(text, "tried again each hour") {
		t.Errorf("no alarm: %s", text)
	}
	if _, err := e.ca.Certificate("a.example.com"); err != nil {
		t.Error(err)
	}
}

func TestAnOldRootIsWarnedOfBeforeItEndsOnceADay(t *testing.T) {
	ca, err := certs.NewCA([]string{"z.example.com"})
	if err != nil {
		t.Fatal(err)
	}
	log, logged := book(t)
	_, file := intercepting(t, "", "a.example.com")
	e, _, err := newIntercepting(file, log, ca) // a second root, for another host
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	var warned time.Time
	count := func() int { return strings.Count(logged.String(), "clients that trust no newer one") }
	now := time.Now()
	for _, step := range []struct {
		at   time.Duration
		want int
	}{{-30 * 24 * time.Hour, 0}, {0, 1}, {time.Hour, 1}, {25 * time.Hour, 2}} {
		e.lookAtCA(now.Add(step.at), &warned)
		if got := count(); got != step.want {
			t.Errorf("at %s: %d warnings, want %d", step.at, got, step.want)
		}
	}
}

func TestATokenThatNobodyWaitsForIsNoTrouble(t *testing.T) {
	log, logged := book(t)
	_, file := intercepting(t, "", "a.example.com")
	e, _, err := newIntercepting(file, log, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	e.Acquired(tokens.Key{Credential: "default"}, tokens.Token{}, fmt.Errorf("the request was given up: %w", context.Canceled), 0, "miss")
	if logged.String() != "" {
		t.Errorf("logged %s", logged)
	}
	e.Acquired(tokens.Key{Credential: "default"}, tokens.Token{}, errors.New("refused"), 0, "miss")
	if !strings.Contains(logged.String(), "no token") {
		t.Errorf("a refusal is not told: %s", logged)
	}
}
