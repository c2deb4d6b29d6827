package sandbox

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"time"
)

// sqlUser is who a token stands for.
type sqlUser struct {
	clientID, tenant, name, tokenID string
	expires                         time.Time
}

// login is the name that SUSER_SNAME() gives to a service principal.
func (u sqlUser) login() string { return u.clientID + "@" + u.tenant }

// checkLogin records what LOGIN7 has no right to be in this connection.
func (c *sqlConn) checkLogin(l *sqlLogin7) {
	v := c.srv.violate
	switch {
	case l.version == tds80 && !c.hello.strict:
		v("2.2.6.4: LOGIN7 is of TDS 8.0 without strict TLS")
	case l.version != tds80 && l.version != tds74:
		v("2.2.6.4: LOGIN7 is of version %#08x; FEDAUTH needs 7.4 or 8.0", l.version)
	}
	if !l.hasFedAuth {
		return // an honest login with a password, which will fail
	}
	if l.flags2&flagIntegrity != 0 {
		v("2.2.6.4: fIntSecurity with FEDAUTH")
	}
	for name, n := range map[string]int{
		"UserName": len(l.user), "Password": l.password, "ChangePassword": l.changePassword,
		"SSPI": l.sspi, "cbSSPILong": l.sspiLong, "AtchDBFile": l.attach,
	} {
		if n > 0 {
			v("2.2.6.4: LOGIN7 has FEDAUTH and %s", name)
		}
	}
	if l.flags3&0x01 != 0 {
		v("2.2.6.4: LOGIN7 has FEDAUTH and fChangePassword")
	}
	if l.flags3&0x04 != 0 {
		v("2.2.6.4: LOGIN7 has FEDAUTH and fUserInstance")
	}
}

// fedAuthToken returns the token of the FEDAUTH feature, "" if there is none to
// be found (MS-TDS 2.2.6.4, bFedAuthLibrary 0x01).
func (c *sqlConn) fedAuthToken(l *sqlLogin7) string {
	v, b := c.srv.violate, l.fedAuth
	if !l.hasFedAuth {
		return ""
	}
	if len(b) < 5 {
		v("2.2.6.4: FEDAUTH has %d bytes", len(b))
		return ""
	}
	if library := b[0] >> 1; library != 1 {
		v("2.2.6.4: bFedAuthLibrary is %d, not 1, the security token", library)
		return ""
	}
	if echo := b[0]&1 != 0; echo != c.hello.echo {
		v("2.2.6.4: fFedAuthEcho is %d, FEDAUTHREQUIRED of PRELOGIN's answer was %d", bit(echo), bit(c.hello.echo))
	}
	n := uint64(binary.LittleEndian.Uint32(b[1:]))
	if n == 0 || n%2 != 0 || n > uint64(len(b)-5) {
		v("2.2.6.4: FEDAUTH's token has %d bytes of %d", n, len(b)-5)
		return ""
	}
	token, nonce := b[5:5+n], b[5+n:]
	switch {
	case c.hello.nonce == nil && len(nonce) > 0:
		v("2.2.6.4: FEDAUTH has %d bytes behind its token, and PRELOGIN's answer had no NONCEOPT", len(nonce))
	case c.hello.nonce != nil && !bytes.Equal(nonce, c.hello.nonce):
		v("2.2.6.4: FEDAUTH's nonce of %d bytes is not that of PRELOGIN's answer", len(nonce))
	}
	return utf16Text(token)
}

// believe judges a token of Entra. What it says goes to no client.
func (s *SQL) believe(raw string) (sqlUser, error) {
	claims, err := verifyRS256(raw, s.world.Graph.keys)
	if err != nil {
		return sqlUser{}, fmt.Errorf("%w: signature", errToken)
	}
	why := s.world.Entra.flaw(claims)
	aud := strings.TrimSuffix(text(claims, "aud"), "/")
	switch {
	case why == badLifetime:
		return sqlUser{}, errTokenExpired
	case why != "":
		return sqlUser{}, fmt.Errorf("%w: %s", errToken, why)
	case aud != strings.TrimSuffix(s.opts.Resource, "/"):
		return sqlUser{}, fmt.Errorf("%w: audience", errToken)
	}
	u := sqlUser{clientID: text(claims, "appid"), tenant: text(claims, "tid"), name: text(claims, "app_displayname"), tokenID: text(claims, "uti")}
	u.expires, _ = seconds(claims, "exp") // flaw has seen it
	return u, nil
}

// errTokenExpired is errToken for a token whose time is over.
var errTokenExpired = fmt.Errorf("%w: expired", errToken)

// sqlError is an ERROR token in words.
type sqlError struct {
	number       int32
	state, class byte
	text         string
	line         int32
}

const loginFailed = "Login failed for user '<token-identified principal>'."

// refusal is the error of a SQLRefusal, with what is usual for its number.
func (r *SQLRefusal) error(l *sqlLogin7) sqlError {
	address := r.Address
	if address == "" {
		address = "203.0.113.7"
	}
	e := sqlError{number: r.Number, state: 1, class: 14, text: "The login failed."}
	server, _, _ := strings.Cut(l.server, ".")
	switch r.Number {
	case 18456:
		e.text = loginFailed
	case 4060:
		e.class = 11
		e.text = fmt.Sprintf("Cannot open database %q requested by the login. The login failed.", l.dbase)
	case 40532:
		e.class = 11
		e.text = fmt.Sprintf("Cannot open server %q requested by the login. The login failed.", server)
	case 40613:
		e.class = 17
		e.text = fmt.Sprintf("Database '%s' on server '%s' is not currently available. Please retry the connection later. "+
			"If the problem persists, contact customer support, and provide them the session tracing ID of '{00000000-0000-0000-0000-000000000000}'.", l.dbase, server)
	case 40615:
		e.text = fmt.Sprintf("Cannot open server '%s' requested by the login. Client with IP address '%s' is not allowed to access the server. "+
			"To enable access, use the Azure Management Portal or run sp_set_firewall_rule on the master database to create a firewall rule "+
			"for this IP address or address range. It may take up to five minutes for this change to take effect.", server, address)
	}
	if r.State != 0 {
		e.state = r.State
	}
	if r.Text != "" {
		e.text = r.Text
	}
	return e
}

// judge returns who logs in, or the error.
func (c *sqlConn) judge(l *sqlLogin7) (sqlUser, *sqlError) {
	s := c.srv
	if r := s.takeRefusal(true); r != nil {
		e := r.error(l)
		return sqlUser{}, &e
	}
	if c.manners.CheckServerName && !s.named(l.server) {
		e := (&SQLRefusal{Number: 40532}).error(l)
		return sqlUser{}, &e
	}
	token := c.fedAuthToken(l)
	if !l.hasFedAuth {
		return sqlUser{}, &sqlError{number: 18456, state: 1, class: 14, text: "Login failed for user '" + clip(l.user, 128) + "'."}
	}
	u, err := s.believe(token)
	switch {
	case err == errTokenExpired:
		expired := TokenIsExpired()
		e := expired.error(l)
		return u, &e
	case err != nil || s.isStranger(u.clientID):
		return u, &sqlError{number: 18456, state: 1, class: 14, text: loginFailed}
	}
	if r := s.takeRefusal(false); r != nil {
		e := r.error(l)
		return u, &e
	}
	if l.dbase != "" && !s.hasDatabase(l.dbase) {
		e := (&SQLRefusal{Number: 4060}).error(l)
		return u, &e
	}
	return u, nil
}

func (s *SQL) isStranger(clientID string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.strangers[strings.ToLower(clientID)]
}

// hasDatabase reports whether a database of that name exists.
func (s *SQL) hasDatabase(name string) bool {
	return len(s.opts.Databases) == 0 || strings.EqualFold(name, "master") ||
		slices.ContainsFunc(s.opts.Databases, func(d string) bool { return strings.EqualFold(d, name) })
}

// named reports whether server, as LOGIN7 has it, is one of this server's names.
func (s *SQL) named(server string) bool {
	host := strings.ToLower(strings.TrimPrefix(server, "tcp:"))
	host, _, _ = strings.Cut(host, ",")
	host, _, _ = strings.Cut(host, `\`)
	names := append([]string{SQLHost, "localhost", "127.0.0.1", "::1"}, s.opts.Names...)
	return slices.ContainsFunc(names, func(n string) bool { return strings.EqualFold(n, host) })
}
