package sandbox

import (
	"crypto/rand"
	"encoding/binary"
)

// preloginAnswer decides what the session will be and says it.
func (c *sqlConn) preloginAnswer(asked map[byte][]byte) []byte {
	c.hello.encryption = c.encryption(asked[optEncryption])
	c.hello.mars = c.hello.mars && !c.manners.NoMARS
	answer := []sqlOption{
		{optVersion, []byte{12, 0, 0x07, 0xd0, 0, 0}},
		{optEncryption, []byte{c.hello.encryption}},
		{optInstance, []byte{0}},
		{optThread, nil},
	}
	if _, ok := asked[optMARS]; ok {
		answer = append(answer, sqlOption{optMARS, []byte{bit(c.hello.mars)}})
	}
	if c.hello.fedAuth && c.manners.FedAuth != FedAuthAbsent {
		c.hello.echo = c.manners.FedAuth == FedAuthRequired
		answer = append(answer, sqlOption{optFedAuth, []byte{bit(c.hello.echo)}})
	}
	_, nonceAsked := asked[optNonce]
	if c.manners.Nonce == NonceAlways || (nonceAsked && c.manners.Nonce == NonceIfAsked) {
		c.hello.nonce = make([]byte, 32)
		_, _ = rand.Read(c.hello.nonce) // never fails, crypto/rand.Read
		answer = append(answer, sqlOption{optNonce, c.hello.nonce})
	}
	return buildPrelogin(answer)
}

// encryption is the ENCRYPTION of the answer. Under strict TLS nobody reads it.
func (c *sqlConn) encryption(asked []byte) byte {
	switch c.manners.Encryption {
	case EncryptOn:
		return 1
	case EncryptRequired:
		return 3
	case EncryptOff:
		return 0
	case EncryptNotSupported:
		return 2
	}
	if len(asked) == 1 && (asked[0] == 1 || asked[0] == 3) {
		return 1
	}
	return 3
}

func bit(set bool) byte {
	if set {
		return 1
	}
	return 0
}

// sqlOption is one option of PRELOGIN.
type sqlOption struct {
	token byte
	data  []byte
}

// buildPrelogin lays options out in their order.
func buildPrelogin(options []sqlOption) []byte {
	var head, data []byte
	start := 5*len(options) + 1
	for _, o := range options {
		head = append(head, o.token)
		head = binary.BigEndian.AppendUint16(head, uint16(start+len(data)))
		head = binary.BigEndian.AppendUint16(head, uint16(len(o.data)))
		data = append(data, o.data...)
	}
	return append(append(head, optEnd), data...)
}
