package sandbox

import (
	"sync/atomic"
	"time"
)

// SQLManners are how a [SQL] behaves beyond what it must. The zero value is
// Azure SQL on a good day.
type SQLManners struct {
	// FedAuth is what PRELOGIN's answer has for FEDAUTHREQUIRED.
	FedAuth SQLFedAuth
	// Nonce is when PRELOGIN's answer has NONCEOPT.
	Nonce SQLNonce
	// Encryption is what PRELOGIN's answer has for ENCRYPTION.
	Encryption SQLEncryption
	// PacketSize is granted whatever the client asks for; 0: what it asks for,
	// 16383 at most.
	PacketSize int
	// NoMARS refuses MARS.
	NoMARS bool
	// Redirect routes logins elsewhere; nil: none.
	Redirect *SQLRedirect
	// Refuse has logins fail; nil: those that must.
	Refuse *SQLRefusal
	// CheckServerName has a login fail with 40532 unless LOGIN7's ServerName is
	// one of the server's own names.
	CheckServerName bool
	// DoneFirst sends a DONE before LOGINACK, as Synapse serverless does.
	DoneFirst bool
	// NoFedAuthAck leaves FEDAUTH out of FEATUREEXTACK.
	NoFedAuthAck bool
	// UnknownToken adds a token to the login's answer that MS-TDS does not know.
	UnknownToken bool
	// AnswerPacket is the size of the packets of a login's answer, at least 9;
	// 0: 4096.
	AnswerPacket int
	// CutAnswer closes the connection in the middle of a login's answer.
	CutAnswer bool
	// Silent never answers LOGIN7.
	Silent bool
	// Slow is how long LOGIN7's answer takes.
	Slow time.Duration
	// KeepExpired lets RESETCONNECTION pass although the token has expired.
	KeepExpired bool
}

// SQLFedAuth is a value of FEDAUTHREQUIRED in PRELOGIN's answer.
type SQLFedAuth string

// The values of FEDAUTHREQUIRED.
const (
	FedAuthRequired    SQLFedAuth = ""       // 1, to a client that sent it
	FedAuthNotRequired SQLFedAuth = "0"      // 0, to a client that sent it
	FedAuthAbsent      SQLFedAuth = "absent" // to nobody
)

// SQLNonce is when a server sends NONCEOPT.
type SQLNonce string

// When NONCEOPT is sent.
const (
	NonceIfAsked SQLNonce = ""
	NonceNever   SQLNonce = "never"
	NonceAlways  SQLNonce = "always" // to clients, too, that sent none
)

// SQLEncryption is a value of ENCRYPTION in PRELOGIN's answer.
type SQLEncryption string

// The values of ENCRYPTION. With the last two no login is taken: going on is a
// violation.
const (
	EncryptAsAsked      SQLEncryption = ""    // ON to ON and REQ, else REQ
	EncryptOn           SQLEncryption = "on"  // 1
	EncryptRequired     SQLEncryption = "req" // 3
	EncryptOff          SQLEncryption = "off" // 0
	EncryptNotSupported SQLEncryption = "not-supported"
)

// A SQLRedirect routes a login elsewhere once its token has been believed
// (MS-TDS 2.2.7.9, types 20 and 21).
type SQLRedirect struct {
	Host     string // may have an instance, after a backslash
	Port     int    // 0 goes out as 0
	Database string // not "": type 21, also to a client that did not ask for it
	// NoLoginAck sends the routing without LOGINACK, as Azure's front end does.
	NoLoginAck bool
	// Times is how many logins are routed; 0: all.
	Times int
}

// A SQLRefusal is the error of a login.
type SQLRefusal struct {
	Number int32
	State  byte   // 0: the usual one
	Text   string // "": the usual one; for 40615 and the like with Address in it
	// Address is the client's in 40615; "": 203.0.113.7.
	Address string
	// Times is how many logins fail; 0: all.
	Times int
	// BeforeToken refuses without looking at the token.
	BeforeToken bool
}

// TokenIsExpired is the refusal of a token that the server holds to be expired.
func TokenIsExpired() SQLRefusal {
	return SQLRefusal{Number: 18456, State: 233, Text: "Login failed for user '<token-identified principal>'. Token is expired."}
}

// A SQLLogin is one LOGIN7 as the server judged it.
type SQLLogin struct {
	Time     time.Time
	Strict   bool   // TDS 8.0
	TLS      uint16 // version
	SNI      string // name in the client's hello
	Version  uint32 // TDSVersion
	SPID     uint16
	ConnID   string // of TRACEID, in hex; "": none
	MARS     bool   // asked for
	ReadOnly bool   // ApplicationIntent
	Packet   uint32 // size asked for

	Server, Database, Host, App, Library, Language string
	Features                                       []byte // FeatureIds in their order
	Echo                                           bool   // FEDAUTH's echo bit

	ClientID string    // appid of the token, once it has been believed
	TokenID  string    // uti, which tells one token from another
	Expires  time.Time // of the token
	User     string    // what SUSER_SNAME() says
	Routed   bool      // sent elsewhere
	Error    int32     // number of the error that it got; 0: none

	// Payload is the LOGIN7 message, token and all.
	Payload []byte
}

// SQLCounts is what has happened since the start.
type SQLCounts struct {
	Connections int64 // that sent a byte
	Open        int64 // sessions logged in now
	Requests    int64 // messages after login, attention apart
	Resets      int64 // RESETCONNECTION, with or without SKIPTRAN
	Attentions  int64
	BulkRows    int64
	BulkBytes   int64
}

type sqlCounters struct {
	connections, open, requests, resets, attentions, bulkRows, bulkBytes atomic.Int64
}

// Counts may be called at any time.
func (s *SQL) Counts() SQLCounts {
	c := &s.counts
	return SQLCounts{
		Connections: c.connections.Load(), Open: c.open.Load(), Requests: c.requests.Load(), Resets: c.resets.Load(),
		Attentions: c.attentions.Load(), BulkRows: c.bulkRows.Load(), BulkBytes: c.bulkBytes.Load(),
	}
}

// current returns the manners as they are now.
func (s *SQL) current() SQLManners {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.manners
}

// takeRefusal returns the refusal that this login gets, if any, and counts it.
func (s *SQL) takeRefusal(beforeToken bool) *SQLRefusal {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.manners.Refuse
	if r == nil || r.BeforeToken != beforeToken {
		return nil
	}
	taken := *r
	switch r.Times {
	case 0:
	case 1:
		s.manners.Refuse = nil
	default:
		taken.Times--
		s.manners.Refuse = &taken
	}
	return &taken
}

// takeRedirect returns where this login is routed, if anywhere, and counts it.
func (s *SQL) takeRedirect() *SQLRedirect {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.manners.Redirect
	if r == nil {
		return nil
	}
	taken := *r
	switch r.Times {
	case 0:
	case 1:
		s.manners.Redirect = nil
	default:
		taken.Times--
		s.manners.Redirect = &taken
	}
	return &taken
}
