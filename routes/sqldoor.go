package routes

import "time"

// ClientTLS is what a SQL door says to clients about encryption.
type ClientTLS string

// The modes of client_tls.
const (
	ClientTLSOff      ClientTLS = "off"
	ClientTLSOptional ClientTLS = "optional"
	ClientTLSRequired ClientTLS = "required"
)

// SQL is one entry of sql: a door for the drivers of a database.
type SQL struct {
	Name   string
	Line   int
	Lines  Lines
	Kind   string // mssql
	Listen string // host:port or unix:/path
	Plain  bool   // off loopback without TLS is meant

	// Servers are what the door leads to, canonical, port 1433 unless the file
	// says otherwise. One from server:, or those of servers:, ByName being set:
	// then the client's own ServerName chooses.
	Servers []Authority
	ByName  bool
	Dial    string // host:port to dial in the server's place; "" for none
	Strict  bool   // upstream_tls: strict, TDS 8.0
	CAFile  string // of tls: a PEM bundle that alone is trusted for the servers; "" for the system's roots
	// RedirectSuffixes bound where the servers may send the gateway, apart from
	// themselves: names below them, each beginning with a dot, or exact names;
	// nil: the server's own domain, and Azure's.
	RedirectSuffixes []string

	Credential *Credential
	Scope      string
	Callers    []*Caller // nil: any named caller, or anyone when the table has no callers

	Database      string // when the client names none; "" for none
	ForceDatabase bool   // Database, whatever the client names
	ReadOnly      bool   // ApplicationIntent=ReadOnly
	AppNameSuffix string

	ClientTLS ClientTLS
	// CertificateFile and KeyFile are shown to clients; both "" for a
	// certificate of the interception CA, or one made for the process.
	CertificateFile, KeyFile string

	MaxConnections int           // sessions at once
	LoginTimeout   time.Duration // of the whole login
	ReloginSkew    time.Duration // before the token's end, from when a reset logs in anew; 0: never
	MaxSessionAge  time.Duration // 0: no limit
}
