package tds

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"time"
)

// Session is an ordinary client's session, as small as checks and tours need
// it: one query at a time, no MARS. It is not safe for concurrent use.
type Session struct {
	conn       net.Conn
	packetSize int
}

// Open logs in on conn as an ordinary client does: PRELOGIN, TLS inside it if
// conf is not nil, LOGIN7. Without conf nothing is encrypted, and a server that
// wants encryption is an error; with it, one that does not is. A refusal is a
// *[ServerError]. ctx bounds the login; conn stays the caller's after an error.
func Open(ctx context.Context, conn net.Conn, login *Login, conf *tls.Config) (*Session, error) {
	s := &Session{conn, LoginPacket}
	err := s.within(ctx, func() error {
		if err := s.negotiate(ctx, conf); err != nil {
			return fmt.Errorf("PRELOGIN: %w", err)
		}
		return s.login(login)
	})
	if err != nil {
		return nil, err
	}
	return s, nil
}

// Close ends the connection.
func (s *Session) Close() error { return s.conn.Close() }

// Query runs a batch and returns the rows of all its results as text: int,
// bigint and bit in decimal, nvarchar and varchar (of ASCII or UTF-8, other
// bytes as U+FFFD) as they are, NULL as "NULL". A column of another type, and
// (max), is an error, and so is a reply of more than 1 MiB. ERROR tokens are
// *[ServerError]; after any other error the session is of no more use.
func (s *Session) Query(ctx context.Context, sql string) ([][]string, error) {
	var rows [][]string
	err := s.within(ctx, func() error {
		if err := WriteMessage(s.conn, Header{Type: Batch}, batch(sql), s.packetSize); err != nil {
			return err
		}
		_, reply, err := ReadMessage(s.conn, maxReply, Reply)
		if err != nil {
			return err
		}
		rows, err = parseRows(reply)
		return err
	})
	if err != nil {
		return nil, err
	}
	return rows, nil
}

// Query runs a batch on a session that was just opened without MARS, with
// [Session.Query].
func (u *Upstream) Query(ctx context.Context, sql string) ([][]string, error) {
	if u.MARS {
		return nil, errors.New("a session with MARS takes no plain query")
	}
	s := &Session{u.Conn(), u.PacketSize}
	return s.Query(ctx, sql)
}

// maxReply is what a query may bring, in bytes.
const maxReply = 1 << 20

// within runs f, whose reads and writes ctx ends; the connection's deadline is
// then in the past.
func (s *Session) within(ctx context.Context, f func() error) error {
	conn := s.conn
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	err := f()
	if !stop() {
		return context.Cause(ctx)
	}
	return err
}

func (s *Session) negotiate(ctx context.Context, conf *tls.Config) error {
	want := EncryptNotSupported
	if conf != nil {
		want = EncryptOn
	}
	hello := Options{{OptVersion, []byte{12, 0, 0, 0, 0, 0}}, {OptEncryption, []byte{byte(want)}}, {OptMARS, []byte{0}}}
	if err := WriteMessage(s.conn, Header{Type: PreLogin}, hello.Bytes(), LoginPacket); err != nil {
		return err
	}
	_, payload, err := ReadMessage(s.conn, MaxPreloginBytes, Reply)
	if err != nil {
		return err
	}
	answer, err := ParsePrelogin(payload)
	if err != nil {
		return err
	}
	got, found := answer.Encryption()
	encrypts := got == EncryptOn || got == EncryptRequired
	switch {
	case !found:
		return errors.New("the server says nothing about encryption")
	case conf == nil && encrypts:
		return errors.New("the server requires encryption")
	case conf == nil:
		return nil
	case !encrypts:
		return errors.New("the server does not encrypt")
	}
	secured, err := StartTLS(ctx, s.conn, conf, tls.Client)
	if err != nil {
		return err
	}
	s.conn = secured
	return nil
}

func (s *Session) login(login *Login) error {
	payload, err := login.Bytes()
	if err != nil {
		return err
	}
	defer clear(payload)
	if err := WriteMessage(s.conn, Header{Type: Login7}, payload, LoginPacket); err != nil {
		return err
	}
	_, answer, err := ReadMessage(s.conn, MaxAnswerBytes, Reply)
	if err != nil {
		return err
	}
	tokens, err := SplitTokens(answer)
	if err != nil {
		return err
	}
	welcome := false
	for _, t := range tokens {
		switch t.Type() {
		case TokenError:
			return serverError(t)
		case TokenLoginAck:
			welcome = true
		case TokenEnvChange:
			err = errors.Join(err, s.follow(t))
		}
	}
	if err == nil && !welcome {
		err = errors.New("the answer to LOGIN7 has no LOGINACK")
	}
	return err
}

// follow takes a new packet size; what else changes does not matter here.
func (s *Session) follow(t Token) error {
	kind, value, _, err := EnvChange(t)
	if err != nil || kind != EnvPacketSize {
		return err
	}
	size, err := strconv.Atoi(UTF16(value).String())
	if err != nil || size < 512 || size > MaxPacket {
		return fmt.Errorf("the server's packet size is %.20q", UTF16(value))
	}
	s.packetSize = size
	return nil
}

// serverError is an ERROR token as an error.
func serverError(t Token) error {
	refused, err := ParseServerError(t)
	if err != nil {
		return err
	}
	return refused
}

// batch is a SQLBatch outside of transactions (MS-TDS 2.2.6.7, 2.2.5.3).
func batch(sql string) []byte {
	b := make([]byte, 22, 22+2*len(sql))
	putUint32(b, 22)     // of all headers
	putUint32(b[4:], 18) // of this one
	b[8] = 2             // transaction descriptor, which is 0
	putUint32(b[18:], 1) // outstanding requests
	return appendUTF16(b, sql)
}

// The tokens of a query's reply (MS-TDS 2.2.7.4, 2.2.7.19, 2.2.7.15).
const (
	tokenColMetadata = 0x81
	tokenRow         = 0xd1
	tokenNBCRow      = 0xd2
)

// parseRows reads the reply to a batch.
func parseRows(reply []byte) ([][]string, error) {
	r := rowReader{cursor: cursor{b: reply}}
	var refused error
	done := Token(nil)
	for len(r.b) > 0 && r.err == nil {
		switch kind := r.b[0]; kind {
		case tokenColMetadata:
			r.byte()
			r.columns()
		case tokenRow, tokenNBCRow:
			r.byte()
			r.row(kind == tokenNBCRow)
		default:
			n, err := tokenSize(r.b)
			if err != nil {
				return nil, err
			}
			t := Token(r.take(n))
			if kind == TokenError {
				refused = errors.Join(refused, serverError(t))
			}
			if n == doneSize && kind >= TokenDone {
				done = t
			}
		}
	}
	switch {
	case r.err != nil:
		return nil, fmt.Errorf("the reply to a query: %w", r.err)
	case refused != nil:
		return nil, refused
	case done == nil:
		return nil, errors.New("the reply to a query has no DONE")
	case done[1]&doneError != 0:
		return nil, errors.New("the query failed, and the server does not say why")
	}
	return r.rows, nil
}

// maxCells bounds what a reply of a few bytes may become.
const maxCells = 1 << 16

// rowReader gathers rows.
type rowReader struct {
	cursor
	types []columnType
	rows  [][]string
	cells int
}

// columnType is the type of a column (MS-TDS 2.2.5.4).
type columnType byte

const (
	typeIntN     columnType = 0x26
	typeBit      columnType = 0x32
	typeInt4     columnType = 0x38
	typeBitN     columnType = 0x68
	typeInt8     columnType = 0x7f
	typeVarchar  columnType = 0xa7
	typeNVarchar columnType = 0xe7
)

func (r *rowReader) columns() {
	n := int(r.uint16())
	r.types = nil
	if n == maxUint16 { // no metadata
		return
	}
	for i := 0; i < n && r.err == nil; i++ {
		r.take(4 + 2) // user type, flags
		kind := columnType(r.byte())
		switch kind {
		case typeBit, typeInt4, typeInt8:
		case typeIntN, typeBitN:
			r.byte()
		case typeVarchar, typeNVarchar:
			if size := r.uint16(); size == maxUint16 {
				r.fail(fmt.Errorf("column %d is of a (max) type, which is not read here", i+1))
			}
			r.take(5) // collation
		default:
			r.fail(fmt.Errorf("column %d is of type %#02x, which is not read here", i+1, byte(kind)))
		}
		r.take(2 * int(r.byte())) // name
		r.types = append(r.types, kind)
	}
}

func (r *rowReader) row(compressed bool) {
	if r.cells += len(r.types); len(r.types) == 0 || r.cells > maxCells {
		r.fail(fmt.Errorf("%w: rows without columns, or more than %d values", ErrTooLong, maxCells))
		return
	}
	var nulls []byte
	if compressed {
		nulls = r.take((len(r.types) + 7) / 8)
	}
	row := make([]string, 0, len(r.types))
	for i, kind := range r.types {
		if r.err != nil {
			return
		}
		if compressed && nulls[i/8]&(1<<(i%8)) != 0 {
			row = append(row, null)
			continue
		}
		row = append(row, r.value(kind))
	}
	r.rows = append(r.rows, row)
}

const null = "NULL"

func (r *rowReader) value(kind columnType) string {
	switch kind {
	case typeVarchar, typeNVarchar:
		n := int(r.uint16())
		switch {
		case n == maxUint16:
			return null
		case kind == typeVarchar:
			return string([]rune(string(r.take(n)))) // what is no UTF-8 becomes U+FFFD
		}
		return UTF16(r.take(n)).String()
	case typeBit:
		return r.integer(1)
	case typeInt4:
		return r.integer(4)
	case typeInt8:
		return r.integer(8)
	}
	n := int(r.byte()) // of the types that may be NULL
	if n == 0 {
		return null
	}
	return r.integer(n)
}

// integer reads one of n bytes; tinyint and bit have no sign.
func (r *rowReader) integer(n int) string {
	if !slices.Contains([]int{1, 2, 4, 8}, n) {
		r.fail(fmt.Errorf("an integer of %d bytes", n))
	}
	b := r.take(n)
	if r.err != nil {
		return ""
	}
	switch n {
	case 1:
		return strconv.Itoa(int(b[0]))
	case 2:
		return strconv.Itoa(int(int16(binary.LittleEndian.Uint16(b))))
	case 4:
		return strconv.Itoa(int(int32(binary.LittleEndian.Uint32(b))))
	}
	return strconv.FormatInt(int64(binary.LittleEndian.Uint64(b)), 10)
}
