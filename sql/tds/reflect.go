package tds

import (
	"bytes"
	"encoding/binary"
	"errors"
)

// ErrReflected is that a server's answer held the token that it had been sent.
var ErrReflected = errors.New("the server's answer contains the access token that it was sent")

const (
	// needleUnits is how much of a token's end is looked for: of a JWT the
	// signature, without which the rest is worth nothing.
	needleUnits = 43
	// leastUnits is how long a token must be to be looked for: a shorter one might
	// stand anywhere by chance, and could be guessed anyway.
	leastUnits = 16
)

// needle is the end of a token as it was sent, and in one byte per character. Its
// zero value is found nowhere.
type needle struct{ wide, narrow []byte }

// needleOf reads the token out of a feature of [FedAuth].
func needleOf(fedAuth Feature) needle {
	const head = 5 // options, length of the token
	n := int(binary.LittleEndian.Uint32(fedAuth.Data[1:head]))
	token := fedAuth.Data[head : head+n]
	if n < 2*leastUnits {
		return needle{}
	}
	var end needle
	for _, b := range token[max(0, n-2*needleUnits):] {
		if end.wide = append(end.wide, b); len(end.wide)%2 == 1 {
			end.narrow = append(end.narrow, b)
		}
	}
	return end
}

// within tells whether the token stands in b, plain, at whatever offset.
func (n needle) within(b []byte) bool {
	return len(n.wide) > 0 && (bytes.Contains(b, n.wide) || bytes.Contains(b, n.narrow))
}

// wipe forgets it.
func (n needle) wipe() {
	clear(n.wide)
	clear(n.narrow)
}
