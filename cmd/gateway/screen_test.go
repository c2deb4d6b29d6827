package main

import (
	"bytes"
	"os"
	"strings"
	"testing"
)

func TestProgressIsOverwrittenOnATerminalAlone(t *testing.T) {
	var out, errs bytes.Buffer
	sc := &screen{s: std{&out, &errs}}
	sc.progress("one")
	sc.result(true, "first\n")
	sc.result(false, "second\n")
	sc.done()
	if errs.String() != "one\n" || out.String() != "ok  first\nno  second\n" {
		t.Errorf("plain: %q, %q", errs.String(), out.String())
	}
	errs.Reset()
	out.Reset()
	sc = &screen{s: std{&out, &errs}, overwrite: true, coloured: true}
	sc.progress(strings.Repeat("é", 200))
	sc.progress("two")
	sc.result(true, "first\n")
	sc.progress("three")
	sc.done()
	sc.done()
	want := "\r\x1b[K" + strings.Repeat("é", progressWidth-1) + "…" + "\r\x1b[Ktwo" + "\r\x1b[K" + "\r\x1b[Kthree" + "\r\x1b[K"
	if errs.String() != want {
		t.Errorf("on a terminal: %q, want %q", errs.String(), want)
	}
	if out.String() != "\x1b[32mok\x1b[0m  first\n" {
		t.Errorf("in colour: %q", out.String())
	}
}

func TestFilesAndNothingAreNoTerminals(t *testing.T) {
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	file, err := os.Create(t.TempDir() + "/file")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if isTerminal(null) || isTerminal(file) || isTerminal(&bytes.Buffer{}) {
		t.Error("a file counts as a terminal")
	}
}

// TestNoColorIsObeyed looks at a character device, which a terminal is.
func TestNoColorIsObeyed(t *testing.T) {
	device, err := os.OpenFile("/dev/zero", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer device.Close()
	for _, test := range []struct {
		term, noColor       string
		overwrite, coloured bool
	}{
		{"xterm", "", true, true},
		{"xterm", "1", true, false},
		{"dumb", "", false, false},
	} {
		t.Setenv("TERM", test.term)
		t.Setenv("NO_COLOR", test.noColor)
		if sc := newScreen(std{device, device}); sc.overwrite != test.overwrite || sc.coloured != test.coloured {
			t.Errorf("TERM=%s NO_COLOR=%s: overwrite %v, coloured %v, want %v, %v", test.term, test.noColor, sc.overwrite, sc.coloured, test.overwrite, test.coloured)
		}
	}
}
