package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"

	"github.com/seed-13b04e61/gateway/authority"
	"github.com/seed-13b04e61/gateway/routes"
	"github.com/seed-13b04e61/gateway/sql"
	"github.com/seed-13b04e61/gateway/sql/tds"
	"github.com/seed-13b04e61/gateway/tokens"
)

// whoAmI is what check --live asks a database.
const whoAmI = "SELECT SUSER_SNAME(), DB_NAME(), @@VERSION"

// The phases of a login that the wire does not know.
const (
	phaseToken = "token"
	phaseQuery = "query"
)

// login is one server behind a SQL door that check --live logs in to.
type login struct {
	door   *routes.SQL
	server routes.Authority
}

func (l login) String() string { return fmt.Sprintf("sql door %s, server %s", l.door.Name, l.server) }

// logins are every server of every SQL door, in the order of the file.
func logins(t *routes.Table) (all []login) {
	for _, d := range t.SQL {
		for _, server := range d.Servers {
			all = append(all, login{d, server})
		}
	}
	return all
}

// loginJSON is one login that check --live made, or why not.
type loginJSON struct {
	Door       string      `json:"door"`
	Server     string      `json:"server"`
	OK         bool        `json:"ok"`
	Phases     []phaseJSON `json:"phases"`
	Redirects  []string    `json:"redirects,omitempty"` // host:port of those that were followed
	User       string      `json:"user,omitempty"`      // SUSER_SNAME()
	Database   string      `json:"database,omitempty"`  // DB_NAME()
	Version    string      `json:"version,omitempty"`   // @@VERSION, its first line
	Note       string      `json:"note,omitempty"`      // about a login that held
	FailedAt   string      `json:"failed_at,omitempty"` // the phase
	Error      string      `json:"error,omitempty"`
	Number     int32       `json:"number,omitempty"` // of the server's error
	Remedy     string      `json:"remedy,omitempty"`
	Statements []string    `json:"statements,omitempty"` // that the remedy speaks of
	App        *appJSON    `json:"app,omitempty"`        // who the token says we are; when the server does not know it
}

// phaseJSON is how long one part of a login took.
type phaseJSON struct {
	Phase  string  `json:"phase"`
	Millis float64 `json:"ms"`
}

// appJSON is the principal of a token. Nothing of it is secret.
type appJSON struct {
	AppID    string `json:"appid"`
	ObjectID string `json:"oid"`
	TenantID string `json:"tid"`
	Name     string `json:"name,omitempty"` // "": the token does not tell
}

func (row *loginJSON) took(phase string, d time.Duration) {
	row.Phases = append(row.Phases, phaseJSON{phase, float64(d.Microseconds()) / 1000})
}

// failed notes in which phase a login ended, and why.
func (row *loginJSON) failed(phase string, err error, remedy string) {
	row.FailedAt, row.Error, row.Remedy = phase, err.Error(), remedy
}

// logIn gets a token as l's door would, logs in, and asks who it is there.
func (e *engine) logIn(ctx context.Context, l login) (row loginJSON) {
	row = loginJSON{Door: l.door.Name, Server: l.server.String(), Phases: []phaseJSON{}}
	patience, cancel := context.WithTimeout(ctx, liveTimeout)
	defer cancel()
	began := time.Now()
	t, _, err := e.store.Token(patience, e.directory.Key(l.door.Credential, l.door.Scope))
	row.took(phaseToken, time.Since(began))
	if err != nil {
		row.noToken(err)
		return row
	}
	target, err := sqlTarget(l, &e.hop)
	if err != nil {
		row.failed(string(tds.PhaseTLS), err, "put the CA's certificates there, as PEM")
		return row
	}
	patience, cancel = context.WithTimeout(ctx, l.door.LoginTimeout)
	defer cancel()
	u, err := tds.Connect(patience, target, checkLogin(), checkOptions(), t.Access)
	if err != nil {
		row.noLogin(l, err, t)
		return row
	}
	defer u.Close()
	row.timings(u.Timings)
	row.Redirects = u.Route[1:]
	began = time.Now()
	rows, err := u.Query(patience, whoAmI)
	row.took(phaseQuery, time.Since(began))
	row.identified(rows, err)
	return row
}

// identified notes what came of whoAmI. That the login held is what counts: only
// a server that is gone again makes a failure of it.
func (row *loginJSON) identified(rows [][]string, err error) {
	const held = "the login held; who the gateway is there is not known, as the server's answer to " + whoAmI + " is "
	var network net.Error
	switch {
	case errors.As(err, &network), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		row.failed(phaseQuery, err, "the login held, and the server answers no query; see its health in the portal")
	case err != nil:
		row.OK, row.Note = true, held+"not read: "+visible(err.Error())
	case len(rows) != 1 || len(rows[0]) != 3:
		row.OK, row.Note = true, held+"no such row"
	default:
		row.OK = true
		row.User, row.Database = visible(rows[0][0]), visible(rows[0][1])
		row.Version = visible(strings.TrimSpace(firstLineOf(rows[0][2])))
	}
}

// firstLineOf is the first line of text.
func firstLineOf(text string) string {
	line, _, _ := strings.Cut(text, "\n")
	return line
}

// visible is what a server said, fit for a terminal.
func visible(text string) string {
	const enough = 1000 // bytes
	if len(text) > enough {
		text = text[:enough]
	}
	return harmless(text)
}

func (row *loginJSON) timings(all []tds.Timing) {
	for _, t := range all {
		row.took(string(t.Phase), t.Took)
	}
}

// noToken describes a login that ended before it began.
func (row *loginJSON) noToken(err error) {
	var answer *authority.Error
	if errors.As(err, &answer) {
		row.failed(phaseToken, answer, answer.Remedy)
		return
	}
	row.failed(phaseToken, err, "see the credential's own line above")
}

// noLogin describes a login that the way or the server refused; t is the token.
func (row *loginJSON) noLogin(l login, err error, t tokens.Token) {
	var why *tds.LoginError
	if !errors.As(err, &why) {
		row.failed(string(tds.PhaseLogin), err, "")
		return
	}
	row.timings(why.Timings)
	// Server and phase are named already, unless it is where a redirect led.
	cause := strings.TrimPrefix(why.Cause(), fmt.Sprintf("SQL server %s: %s: ", l.server, why.Phase))
	row.failed(string(why.Phase), errors.New(visible(cause)), "")
	row.Number = why.Number()
	if isUnknownPrincipal(why) {
		row.unknownPrincipal(l, t)
		return
	}
	row.Remedy = sqlRemedy(l, why)
}

// sqlTarget is where and how l logs in.
func sqlTarget(l login, dialer tds.Dialer) (tds.Target, error) {
	d := l.door
	t := tds.Target{
		Host: l.server.Host, Port: l.server.Port, Dial: d.Dial, Strict: d.Strict, Dialer: dialer,
		Database: d.Database, ForceDatabase: d.ForceDatabase, ReadOnly: d.ReadOnly, AppNameSuffix: d.AppNameSuffix,
		RedirectSuffixes: d.RedirectSuffixes,
	}
	var err error
	t.Roots, err = sql.Roots(d)
	return t, err
}

// checkOptions and checkLogin are those of a small client that wants nothing
// special (MS-TDS 2.2.6.5, 2.2.6.4).
func checkOptions() tds.Options {
	return tds.Options{
		{Token: tds.OptVersion, Data: []byte{1, 0, 0, 0, 0, 0}},
		{Token: tds.OptEncryption, Data: []byte{byte(tds.EncryptOn)}},
		{Token: tds.OptMARS, Data: []byte{0}},
	}
}

func checkLogin() *tds.Login {
	host, _ := os.Hostname() // a name for the server's own lists of sessions; none will do
	if r := []rune(host); len(r) > 64 {
		host = string(r[:64])
	}
	return &tds.Login{
		Version: tds.TDS74, PacketSize: tds.LoginPacket, ClientPID: uint32(os.Getpid()),
		OptionFlags1: 0xe0, // USE and SET LANGUAGE are reported, and a database that is not there ends the login
		OptionFlags2: 0x03, // as ODBC
		HostName:     tds.NewUTF16(host), AppName: tds.NewUTF16("gateway check"), Library: tds.NewUTF16("gateway"),
	}
}

// String is the row for a person.
func (row loginJSON) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "sql door %s, server %s", row.Door, row.Server)
	if row.OK && row.Note != "" {
		b.WriteString(": logged in\n")
	} else if row.OK {
		fmt.Fprintf(&b, ": user %s, database %s, %s\n", orDash(row.User), orDash(row.Database), orDash(row.Version))
	} else {
		fmt.Fprintf(&b, ": %s: %s\n", row.FailedAt, strings.ReplaceAll(row.Error, "\n", "\n  "))
	}
	var times []string
	for _, p := range row.Phases {
		times = append(times, fmt.Sprintf("%s %s", p.Phase, time.Duration(p.Millis*float64(time.Millisecond)).Round(100*time.Microsecond)))
	}
	fmt.Fprintf(&b, "    %s\n", strings.Join(times, ", "))
	if len(row.Redirects) > 0 {
		fmt.Fprintf(&b, "    sent on to %s\n", strings.Join(row.Redirects, ", then "))
	}
	if row.App != nil {
		fmt.Fprintf(&b, "    the token is for appid %s, oid %s, tid %s\n", orDash(row.App.AppID), orDash(row.App.ObjectID), orDash(row.App.TenantID))
	}
	if row.Note != "" {
		fmt.Fprintf(&b, "    %s\n", row.Note)
	}
	if row.Remedy != "" {
		fmt.Fprintf(&b, "  Do: %s\n", row.Remedy)
	}
	for _, s := range row.Statements {
		fmt.Fprintf(&b, "      %s\n", s)
	}
	return b.String()
}
