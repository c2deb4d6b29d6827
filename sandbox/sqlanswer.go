package sandbox

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"strconv"
	"strings"
	"time"
)

// Tokens of a reply (MS-TDS 2.2.7).
const (
	tokReturnStatus = 0x79
	tokColMetadata  = 0x81
	tokError        = 0xaa
	tokInfo         = 0xab
	tokReturnValue  = 0xac
	tokLoginAck     = 0xad
	tokFeatureAck   = 0xae
	tokRow          = 0xd1
	tokNBCRow       = 0xd2
	tokEnvChange    = 0xe3
	tokDone         = 0xfd
	tokDoneProc     = 0xfe
	tokDoneInProc   = 0xff
)

// Types of ENVCHANGE (MS-TDS 2.2.7.9).
const (
	envDatabase   = 1
	envLanguage   = 2
	envPacketSize = 4
	envCollation  = 7
	envBegin      = 8
	envCommit     = 9
	envRollback   = 10
	envReset      = 18
	envRouting    = 20
	envEnhanced   = 21
)

// Bits of a DONE's status (MS-TDS 2.2.7.6).
const (
	doneMore  = 0x01
	doneError = 0x02
	doneCount = 0x10
	doneAttn  = 0x20
)

// sqlServerName is what ERROR and INFO tokens call the server.
const sqlServerName = "sandbox"

// collation is SQL_Latin1_General_CP1_CI_AS.
const sqlCollation = "\x09\x04\xd0\x00\x34"

func bVarchar(b []byte, s string) []byte {
	u := textUTF16(s)
	if len(u) > 510 {
		u = u[:510]
	}
	return append(append(b, byte(len(u)/2)), u...)
}

func usVarchar(b []byte, s string) []byte {
	u := textUTF16(s)
	return append(binary.LittleEndian.AppendUint16(b, uint16(len(u)/2)), u...)
}

// withLength puts the two-byte length between a token's type and its data.
func withLength(token byte, data []byte) []byte {
	return append(binary.LittleEndian.AppendUint16([]byte{token}, uint16(len(data))), data...)
}

// envText is an ENVCHANGE of two texts.
func envText(kind byte, now, before string) []byte {
	return withLength(tokEnvChange, bVarchar(bVarchar([]byte{kind}, now), before))
}

// envBytes is an ENVCHANGE of two strings of bytes.
func envBytes(kind byte, now, before string) []byte {
	b := append([]byte{kind, byte(len(now))}, now...)
	return withLength(tokEnvChange, append(append(b, byte(len(before))), before...))
}

// message is an ERROR or INFO token.
func (e sqlError) message(token byte) []byte {
	b := binary.LittleEndian.AppendUint32(nil, uint32(e.number))
	b = append(b, e.state, e.class)
	b = bVarchar(bVarchar(usVarchar(b, clip(e.text, 2000)), sqlServerName), "")
	return withLength(token, binary.LittleEndian.AppendUint32(b, uint32(max(e.line, 1))))
}

// done is DONE, DONEPROC or DONEINPROC.
func done(token byte, status, command uint16, count uint64) []byte {
	b := binary.LittleEndian.AppendUint16([]byte{token}, status)
	b = binary.LittleEndian.AppendUint16(b, command)
	return binary.LittleEndian.AppendUint64(b, count)
}

// login reads LOGIN7 and answers it. It reports whether a session follows.
func (c *sqlConn) login() bool {
	payload, err := c.wire.readMessage(sqlLoginType, maxLogin7)
	if err != nil {
		return false
	}
	l, err := c.srv.parseLogin7(payload)
	if err != nil {
		return false
	}
	c.manners = c.srv.current() // those of this moment, whatever PRELOGIN found
	c.checkLogin(l)
	u, refused := c.judge(l)
	var to *SQLRedirect
	if refused == nil {
		to = c.srv.takeRedirect()
	}
	c.note(l, u, refused, to, payload)
	if !c.pause() {
		return false
	}
	switch {
	case refused != nil:
		_ = c.reply(append(refused.message(tokError), done(tokDone, doneError, 0, 0)...))
		c.drain()
		return false
	case to != nil:
		_ = c.reply(c.routing(l, to))
		c.drain()
		return false
	}
	c.start(l, u)
	return c.reply(c.welcome(l)) == nil
}

// note keeps a login's record.
func (c *sqlConn) note(l *sqlLogin7, u sqlUser, refused *sqlError, to *SQLRedirect, payload []byte) {
	rec := SQLLogin{
		Time: c.srv.world.clock.now(), Strict: c.hello.strict, TLS: c.hello.tls.Version, SNI: c.hello.tls.ServerName,
		Version: l.version, SPID: c.spid, ConnID: c.hello.connID, MARS: c.hello.mars, ReadOnly: l.typeFlags&0x20 != 0, Packet: l.packetSize,
		Server: l.server, Database: l.dbase, Host: l.host, App: l.app, Library: l.library, Language: l.language,
		Echo:     len(l.fedAuth) > 0 && l.fedAuth[0]&1 != 0,
		ClientID: u.clientID, TokenID: u.tokenID, Expires: u.expires, Routed: to != nil, Payload: payload,
	}
	for _, f := range l.features {
		rec.Features = append(rec.Features, f.token)
	}
	if u.clientID != "" {
		rec.User = u.login()
	}
	if refused != nil {
		rec.Error = refused.number
	}
	c.srv.noteLogin(rec)
}

// pause is Slow and Silent. It reports whether to go on.
func (c *sqlConn) pause() bool {
	if c.manners.Silent {
		_, _ = io.Copy(io.Discard, c.wire.conn) // until the client, the deadline or Close ends it
		return false
	}
	if c.manners.Slow > 0 {
		t := time.NewTimer(c.manners.Slow)
		defer t.Stop()
		select {
		case <-t.C:
		case <-c.srv.closing:
			return false
		}
	}
	return true
}

// errCut is the end of an answer that was told to break off.
var errCut = errors.New("cut")

// reply sends a login's answer.
func (c *sqlConn) reply(b []byte) error {
	size := sqlLoginPacket
	if n := c.manners.AnswerPacket; n > sqlHeaderSize && n < size {
		size = n
	}
	send := c.wire.write
	if c.manners.CutAnswer {
		send = func(packet []byte) error {
			_ = c.wire.write(packet[:len(packet)/2])
			return errCut
		}
	}
	w := newSQLWriter(send, c.spid, size)
	w.b = append(w.b, b...)
	return w.finish()
}

// drain closes for writing and lets the client read the answer before it closes
// the rest: a reset would overtake what was said.
func (c *sqlConn) drain() {
	_ = c.raw.SetDeadline(time.Now().Add(2 * time.Second))
	if t, ok := c.wire.conn.(interface{ CloseWrite() error }); ok {
		_ = t.CloseWrite()
	}
	_, _ = io.Copy(io.Discard, c.wire.conn)
}

// routing is the answer that sends the client elsewhere (MS-TDS 2.2.7.9).
func (c *sqlConn) routing(l *sqlLogin7, to *SQLRedirect) []byte {
	kind := byte(envRouting)
	value := binary.LittleEndian.AppendUint16([]byte{0}, uint16(to.Port))
	value = usVarchar(value, to.Host)
	if to.Database != "" {
		kind = envEnhanced
		value = usVarchar(value, to.Database)
	}
	data := binary.LittleEndian.AppendUint16([]byte{kind}, uint16(len(value)))
	data = append(append(data, value...), 0, 0)
	token := withLength(tokEnvChange, data)
	if to.NoLoginAck {
		return append(token, done(tokDone, 0, 0, 0)...)
	}
	b := c.acknowledgement(l)
	b = append(b, token...)
	return append(b, done(tokDone, 0, 0, 0)...)
}

// acknowledgement is LOGINACK and FEATUREEXTACK.
func (c *sqlConn) acknowledgement(l *sqlLogin7) []byte {
	data := binary.BigEndian.AppendUint32([]byte{1}, l.version)
	data = append(bVarchar(data, "Microsoft SQL Server"), 12, 0, 0x07, 0xd0)
	return append(withLength(tokLoginAck, data), c.featureAck(l)...)
}

// featureAck acknowledges what this server has of the features that were asked
// for (MS-TDS 2.2.7.11).
func (c *sqlConn) featureAck(l *sqlLogin7) []byte {
	b := []byte{tokFeatureAck}
	add := func(id byte, data []byte) {
		b = append(binary.LittleEndian.AppendUint32(append(b, id), uint32(len(data))), data...)
	}
	for _, f := range l.features {
		switch f.token {
		case featRecovery:
			add(f.token, nil)
		case featFedAuth:
			if !c.manners.NoFedAuthAck {
				add(f.token, c.signature())
			}
		case featAzure, featUTF8, featDNSCache:
			add(f.token, []byte{1})
		}
	}
	if len(b) == 1 {
		return nil
	}
	return append(b, featEnd)
}

// signature is the data of FEDAUTH's acknowledgement: the nonce and 32 bytes in
// the place of its signature, or nothing without a nonce.
func (c *sqlConn) signature() []byte {
	if c.hello.nonce == nil {
		return nil
	}
	mac := hmac.New(sha256.New, []byte(c.srv.world.secret))
	mac.Write(c.hello.nonce)
	return mac.Sum(append([]byte(nil), c.hello.nonce...))
}

// welcome is the whole answer to a login that is let in.
func (c *sqlConn) welcome(l *sqlLogin7) []byte {
	database, language := c.session.home, "us_english"
	var b []byte
	if c.manners.DoneFirst {
		b = append(b, done(tokDone, doneMore, 0, 0)...)
	}
	b = append(b, envText(envDatabase, database, "master")...)
	b = append(b, sqlError{number: 5701, state: 2, text: "Changed database context to '" + database + "'."}.message(tokInfo)...)
	b = append(b, envBytes(envCollation, sqlCollation, "")...)
	b = append(b, envText(envLanguage, language, "")...)
	b = append(b, sqlError{number: 5703, state: 1, text: "Changed language setting to " + language + "."}.message(tokInfo)...)
	ack := c.acknowledgement(l)
	at := 3 + int(binary.LittleEndian.Uint16(ack[1:])) // LOGINACK's end
	b = append(b, ack[:at]...)
	b = append(b, envText(envPacketSize, strconv.Itoa(c.session.size), strconv.Itoa(sqlLoginPacket))...)
	if c.manners.UnknownToken {
		b = append(b, withLength(0xb7, []byte("what is this"))...)
	}
	b = append(b, ack[at:]...)
	return append(b, done(tokDone, 0, 0, 0)...)
}

// granted is the packet size from here on.
func (c *sqlConn) granted(l *sqlLogin7) int {
	if c.manners.PacketSize > 0 {
		return c.manners.PacketSize
	}
	switch n := int(min(l.packetSize, 16383)); {
	case n == 0:
		return sqlLoginPacket
	default:
		return max(n, 512)
	}
}

// homeDatabase is where a session begins.
func homeDatabase(l *sqlLogin7) string {
	if l.dbase == "" {
		return "master"
	}
	return strings.Trim(l.dbase, "[]")
}
