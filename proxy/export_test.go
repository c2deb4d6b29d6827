package proxy

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing/iotest"
)

// Followed is what of b, written in chunks, would go out if a farewell fell due
// after at bytes: it ends where the farewell would stand.
func Followed(b []byte, chunk, at int) []byte {
	var f frames
	for done := 0; done < len(b); {
		n := min(chunk, len(b)-done)
		stop := done >= at
		k := f.follow(b[done:done+n], stop)
		if done += k; stop && f.between() {
			return b[:done]
		}
	}
	return b
}

// pieces yields so many bytes at a time.
type pieces struct {
	io.Reader
	n int
}

func (p pieces) Read(b []byte) (int, error) { return p.Reader.Read(b[:min(len(b), p.n)]) }

// Guarded is what comes through the reflection guard of a body that is read in
// pieces, and whether it was cut off.
func Guarded(token, body string, chunk int) (string, bool) {
	end := needleOf(token)
	p := &passage{up: &upstream{notes: &notes{}}}
	p.sent.add(&stamped{end: end, needle: []byte(end)})
	h := &Handler{cfg: Config{Log: quiet{}}}
	p.out = outflow{h: h, p: p, resp: &http.Response{}, left: reflectedBytes,
		src: io.NopCloser(iotest.DataErrReader(pieces{strings.NewReader(body), chunk}))}
	var got strings.Builder
	buffer := make([]byte, 4<<10) // larger than what the guard keeps back
	for {
		n, err := p.out.Read(buffer)
		got.Write(buffer[:n])
		if err != nil {
			return got.String(), !errors.Is(err, io.EOF)
		}
	}
}

// quiet is a Log that says nothing.
type quiet struct{}

func (quiet) Debug(string, ...any) {}
func (quiet) Warn(string, ...any)  {}
func (quiet) Error(string, ...any) {}

// Relinked is what a reader of JSON makes of body that comes in pieces.
func Relinked(body, from, to string, chunk int) (string, error) {
	got, err := io.ReadAll(newRelinker(pieces{strings.NewReader(body), chunk}, []string{from + ":443", from}, to))
	return string(got), err
}

// LookedFor tells whether token is looked for in an answer after another was
// sent so many times, its value made anew each time.
func LookedFor(token, other string, times int) bool {
	var s sent
	for range times {
		end := needleOf(other)
		s.add(&stamped{end: end, needle: []byte(end)})
	}
	end := needleOf(token)
	s.add(&stamped{end: end, needle: []byte(end)})
	return s.within([]byte(token))
}

// Metered is what a call over HTTP/2 writes to w through, until end is called.
func Metered(w http.ResponseWriter) (metered http.ResponseWriter, end func()) {
	m := &meter{ResponseWriter: w, h2: true}
	return m, m.leave
}
