package audit

import (
	"fmt"
	"io"
	"os"
	"path/filepath"

	"gopkg.in/natefinch/lumberjack.v2"
)

const (
	// trailMode is that of a new file: who called what is nobody else's affair.
	// An operator's own mode on a file that exists is kept, also by rotation.
	trailMode   = 0o600
	trailFolder = 0o750
	mebibyte    = 1 << 20
)

// File is where audit records are kept.
type File struct {
	Path    string
	MaxSize int64 // bytes, rounded up to MiB; then the file is moved aside, with the time in its name
	Keep    int   // files moved aside, at least one; the oldest is removed
}

// probe tells whether the file can be written, and creates it if need be.
// Whatever is no plain file is refused: it would be moved aside by rotation, be
// it a folder or a device.
func (f File) probe() error {
	if info, err := os.Stat(f.Path); err == nil && !info.Mode().IsRegular() {
		return fmt.Errorf("%s is no plain file", f.Path)
	}
	if err := os.MkdirAll(filepath.Dir(f.Path), trailFolder); err != nil {
		return err
	}
	opened, err := os.OpenFile(f.Path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, trailMode)
	if err != nil {
		return err
	}
	return opened.Close()
}

// sink is where the writer of a trail stands. Only that goroutine uses it.
type sink struct {
	out    io.Writer
	target *File              // as last seen
	file   *lumberjack.Logger // nil: out
	open   bool               // the file took the last line
	torn   bool               // the last line was cut short
}

// follow turns to target. A file's own goroutine, which lumberjack has for each
// and never ends, is kept for as long as the section stays as it is.
func (s *sink) follow(target *File) {
	if target == s.target {
		return
	}
	same := target != nil && s.target != nil && *target == *s.target
	s.target, s.open, s.torn = target, false, false
	s.close()
	if same {
		return // it is opened by its name with the next line
	}
	s.file = nil
	if target != nil {
		s.file = &lumberjack.Logger{
			Filename: target.Path, MaxBackups: max(target.Keep, 1),
			MaxSize: int((target.MaxSize + mebibyte - 1) / mebibyte),
		}
	}
}

// put writes one line. After one that was cut short it begins with a line
// break, so that a reader loses the cut one only.
func (s *sink) put(line []byte) error {
	w := s.out
	if s.file != nil {
		if !s.open {
			if err := s.target.probe(); err != nil {
				return err
			}
		}
		w = s.file
	}
	if s.torn {
		line = append([]byte{'\n'}, line...)
	}
	n, err := w.Write(line)
	if err == nil && n < len(line) {
		err = io.ErrShortWrite
	}
	if err != nil {
		s.open, s.torn = false, s.torn || n > 0
		return fmt.Errorf("write %s: %w", s.name(), err)
	}
	s.open, s.torn = true, false
	return nil
}

func (s *sink) name() string {
	if s.file != nil {
		return s.file.Filename
	}
	return "standard output"
}

func (s *sink) close() {
	if s.file != nil {
		_ = s.file.Close() // each line was written, or counted as lost
	}
}
