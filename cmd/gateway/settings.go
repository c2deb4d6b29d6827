package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

const (
	maxSettings      = 1 << 20 // bytes of an appsettings.json
	maxSettingsDepth = 64
	maxSettingsCount = 10_000
)

// setting is one value, under the path of its keys. The index of a list is a
// key too, and a key with colons is several, as ASP.NET has it.
type setting struct {
	path  []string
	value string
}

// settings are those of one section, in the order of the file.
type settings []setting

// readSettings reads an appsettings.json as ASP.NET does: with comments,
// commas behind the last element, and a byte order mark. Its errors repeat
// nothing of the text, which may hold secrets.
func readSettings(text []byte) (settings, error) {
	text = bytes.TrimPrefix(text, []byte("\ufeff"))
	dec := json.NewDecoder(bytes.NewReader(withoutComments(text)))
	dec.UseNumber()
	var out settings
	if err := out.read(dec, nil); err != nil {
		if errors.Is(err, errTooMuch) {
			return nil, err
		}
		return nil, fmt.Errorf("it is no JSON: trouble near byte %d", dec.InputOffset())
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("it is no JSON: something follows at byte %d", dec.InputOffset())
	}
	return out, nil
}

var errTooMuch = errors.New("more, or nested more deeply, than settings are")

// read adds the next value of dec, which stands at path.
func (s *settings) read(dec *json.Decoder, path []string) error {
	if len(path) > maxSettingsDepth || len(*s) >= maxSettingsCount {
		return errTooMuch
	}
	t, err := dec.Token()
	if err != nil {
		return err
	}
	switch t {
	case json.Delim('{'):
		for dec.More() {
			key, err := dec.Token()
			if err != nil {
				return err
			}
			name, _ := key.(string) // a decoder returns nothing else here
			if err := s.read(dec, append(slices.Clip(path), strings.Split(name, ":")...)); err != nil {
				return err
			}
		}
		_, err = dec.Token()
		return err
	case json.Delim('['):
		for i := 0; dec.More(); i++ {
			if err := s.read(dec, append(slices.Clip(path), strconv.Itoa(i))); err != nil {
				return err
			}
		}
		_, err = dec.Token()
		return err
	case nil:
		return nil
	}
	*s = append(*s, setting{path, fmt.Sprint(t)})
	return nil
}

// withoutComments blanks out comments, and commas that no element follows.
func withoutComments(text []byte) []byte {
	out := slices.Clone(text)
	comma := -1 // the last comma, while nothing but space has followed it
	for i := 0; i < len(out); i++ {
		switch c := out[i]; {
		case c == '"':
			comma = -1
			for i++; i < len(out) && out[i] != '"'; i++ {
				if out[i] == '\\' {
					i++
				}
			}
		case c == '/' && i+1 < len(out) && (out[i+1] == '/' || out[i+1] == '*'):
			i = blankComment(out, i)
		case c == ',':
			comma = i
		case (c == '}' || c == ']') && comma >= 0:
			out[comma] = ' '
			comma = -1
		case c != ' ' && c != '\t' && c != '\r' && c != '\n':
			comma = -1
		}
	}
	return out
}

// blankComment blanks out the comment that begins at i, and returns the index
// of its last byte.
func blankComment(out []byte, i int) int {
	end := []byte("\n")
	if out[i+1] == '*' {
		end = []byte("*/")
	}
	stop := len(out)
	if n := bytes.Index(out[i+2:], end); n >= 0 {
		stop = i + 2 + n
		if len(end) == 2 {
			stop += 2
		}
	}
	for j := i; j < stop; j++ {
		if out[j] != '\n' {
			out[j] = ' '
		}
	}
	return stop - 1
}

// section returns what stands under key, whatever its case.
func (s settings) section(key string) settings {
	var out settings
	for _, x := range s {
		if len(x.path) > 0 && strings.EqualFold(x.path[0], key) {
			out = append(out, setting{x.path[1:], x.value})
		}
	}
	return out
}

// get returns the value under key, whatever its case, or "". The last wins.
func (s settings) get(key string) string {
	value := ""
	for _, x := range s.section(key) {
		if len(x.path) == 0 {
			value = x.value
		}
	}
	return value
}

// keys lists the names of what s holds, each once.
func (s settings) keys() []string {
	var out []string
	seen := map[string]bool{}
	for _, x := range s {
		if len(x.path) > 0 && !seen[strings.ToLower(x.path[0])] {
			seen[strings.ToLower(x.path[0])] = true
			out = append(out, x.path[0])
		}
	}
	return out
}

// values are those of a list under key, or the words of a text there.
func (s settings) values(key string) []string {
	var out []string
	for _, x := range s.section(key) {
		out = append(out, strings.Fields(x.value)...)
	}
	return out
}
