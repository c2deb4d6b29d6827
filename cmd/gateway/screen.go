package main

import (
	"fmt"
	"io"
	"os"
	"sync"
)

// progressWidth is what fits on one line of any terminal, in characters: a
// line that wraps could not be overwritten.
const progressWidth = 78

// screen writes results to the standard output, and to the standard error what
// is being waited for. On a terminal the latter is one line that is overwritten
// and gone in the end; elsewhere a line each. It is safe for concurrent use.
type screen struct {
	s         std
	overwrite bool // the standard error is a terminal
	coloured  bool // the standard output is one, and NO_COLOR does not forbid it

	mu    sync.Mutex // guards what is written, and shown
	shown bool       // a progress line stands
}

func newScreen(s std) *screen {
	dumb := os.Getenv("TERM") == "dumb"
	return &screen{
		s:         s,
		overwrite: isTerminal(s.err) && !dumb,
		coloured:  isTerminal(s.out) && !dumb && os.Getenv("NO_COLOR") == "", // no-color.org
	}
}

// isTerminal tells whether somebody may be looking at w. A character device
// that is no terminal does no harm, and /dev/null is known.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	if err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return false
	}
	null, err := os.Stat(os.DevNull)
	return err != nil || !os.SameFile(info, null)
}

// progress says what is being waited for.
func (c *screen) progress(line string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.overwrite {
		fmt.Fprintln(c.s.err, line)
		return
	}
	if r := []rune(line); len(r) > progressWidth {
		line = string(r[:progressWidth-1]) + "…"
	}
	fmt.Fprintf(c.s.err, "\r\x1b[K%s", line)
	c.shown = true
}

// result prints one outcome; text ends in a line feed.
func (c *screen) result(ok bool, text string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.clear()
	word, colour := "ok", "32"
	if !ok {
		word, colour = "no", "31"
	}
	if c.coloured {
		word = "\x1b[" + colour + "m" + word + "\x1b[0m"
	}
	fmt.Fprintf(c.s.out, "%s  %s", word, text)
}

// done takes the last progress line away.
func (c *screen) done() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.clear()
}

// clear removes the progress line; mu must be held.
func (c *screen) clear() {
	if c.shown {
		fmt.Fprint(c.s.err, "\r\x1b[K")
		c.shown = false
	}
}
