package tds

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
)

// cursor reads numbers and bytes from the front of b. After an error it goes on
// with zeroes, so that only the last err need be looked at.
type cursor struct {
	b   []byte
	err error
}

var errShort = errors.New("ends too soon")

// cursorOf reads a token of one of kinds whose length of 2 bytes holds.
func cursorOf(t Token, kinds ...byte) *cursor {
	switch {
	case len(t) == 0 || bytes.IndexByte(kinds, t[0]) < 0:
		return &cursor{err: fmt.Errorf("token is none of %#02x", kinds)}
	case len(t) < 3 || int(binary.LittleEndian.Uint16(t[1:])) != len(t)-3:
		return &cursor{err: fmt.Errorf("token %#02x: %w", t[0], errShort)}
	}
	return &cursor{b: t[3:]}
}

// fail has the cursor end with err, unless it has ended before.
func (c *cursor) fail(err error) {
	if c.err == nil {
		c.err = err
	}
}

// take returns the next n bytes, nil if there are fewer.
func (c *cursor) take(n int) []byte {
	if c.err == nil && n > len(c.b) {
		c.err = errShort
	}
	if c.err != nil {
		return nil
	}
	b := c.b[:n:n]
	c.b = c.b[n:]
	return b
}

func (c *cursor) byte() byte {
	if b := c.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (c *cursor) uint16() uint16 {
	if b := c.take(2); b != nil {
		return binary.LittleEndian.Uint16(b)
	}
	return 0
}

func (c *cursor) uint32() uint32 {
	if b := c.take(4); b != nil {
		return binary.LittleEndian.Uint32(b)
	}
	return 0
}
