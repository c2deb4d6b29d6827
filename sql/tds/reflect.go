package tds

import (
	"bytes"
	"encoding/binary"
	"errors"
)

// ErrReflected is that a server's answer held the token that it had been sent.
var ErrReflected = errors.New("the server's answer contains the access token that it was sent")

const (
	// needleUnits is how much is looked for of a token's last part, from its
	// beginning and from its end: of a JWT the signature, without which the rest is
	// worth nothing, but which a server's message may cut short.
	needleUnits = 43
	// leastUnits is how long a token must be to be looked for: a shorter one might
	// stand anywhere by chance, and could be guessed anyway.
	leastUnits = 16
)

// needle is the beginning and the end of a token's last part as they were sent,
// and in one byte per character. Its zero value is found nowhere.
type needle struct{ wide, narrow [2][]byte }

// needleOf reads the token out of a feature of [FedAuth].
func needleOf(fedAuth Feature) needle {
	const head = 5 // options, length of the token
	n := int(binary.LittleEndian.Uint32(fedAuth.Data[1:head]))
	token := fedAuth.Data[head : head+n]
	if n < 2*leastUnits {
		return needle{}
	}
	var last []byte
	for i := 0; i+1 < n; i += 2 {
		if token[i] == '.' && token[i+1] == 0 {
			last = token[i+2:]
		}
	}
	if len(last) < 2*leastUnits { // no JWT, or one without a signature
		last = token
	}
	var of needle
	for i, part := range [...][]byte{last[:min(len(last), 2*needleUnits)], token[max(0, n-2*needleUnits):]} {
		of.wide[i] = bytes.Clone(part)
		for at := 0; at < len(part); at += 2 {
			of.narrow[i] = append(of.narrow[i], part[at])
		}
	}
	return of
}

// within tells whether the token stands in b, plain, at whatever offset.
func (n needle) within(b []byte) bool {
	for i, wide := range n.wide {
		if len(wide) > 0 && (bytes.Contains(b, wide) || bytes.Contains(b, n.narrow[i])) {
			return true
		}
	}
	return false
}

// wipe forgets it.
func (n needle) wipe() {
	for i, wide := range n.wide {
		clear(wide)
		clear(n.narrow[i])
	}
}
