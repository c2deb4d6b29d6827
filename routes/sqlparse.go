package routes

import (
	"fmt"
	"strings"
	"time"
	"unicode/utf16"
)

// Bounds of the keys of a SQL door.
const (
	maxDoors        = 1000
	maxServers      = 256 // of one door, and its suffixes; an alias can give them to every door
	maxSessions     = 100_000
	maxDatabase     = 128 // characters of a database's name (MS-TDS §2.2.6.4)
	maxAppSuffix    = 64  // of the 128 of AppName, so that the app's own name is left
	maxLoginTimeout = 5 * time.Minute
	maxReloginSkew  = time.Hour
	maxSessionLife  = 30 * 24 * time.Hour
)

// sql reads the doors for drivers of databases, once the routes are known.
func (p *parser) sql(m *mapping, t *Table) {
	e, ok := m.items["sql"]
	if !ok {
		return
	}
	list := m.list("sql")
	if len(list) == 0 {
		p.refuse(e.at, finding{"names no door", "write one, such as {name: orders-db, listen: 127.0.0.1:1433, server: orders-srv.database.windows.net}, or leave the section out"})
	}
	if len(list) > maxDoors {
		p.refuse(e.at, finding{fmt.Sprintf("names more than %d doors", maxDoors), "let one door lead to several servers, or run several gateways"})
		return
	}
	names := map[string]string{}
	for _, r := range t.Routes {
		names[r.Name] = fmt.Sprintf("the route of line %d", r.Line)
	}
	doors := newDoors(t.Listen)
	for _, x := range list {
		d, dm := p.sqlDoor(x, t)
		if by, twice := names[d.Name]; twice && d.Name != "" {
			p.refuse(dm.where("name"), finding{fmt.Sprintf("the name %q is taken by %s", d.Name, by), "give one of them another name: they share metrics, logs and commands"})
		}
		names[d.Name] = fmt.Sprintf("the sql entry of line %d", d.Line)
		if by, twice := doors.add(d.Listen, fmt.Sprintf("the sql entry of line %d", d.Line)); twice {
			p.refuse(dm.where("listen"), finding{by + " listens at this address too", "give each a port of its own"})
		}
		t.SQL = append(t.SQL, d)
	}
}

// sqlDoor reads one entry of sql.
func (p *parser) sqlDoor(e entry, t *Table) (*SQL, *mapping) {
	m := p.open(e, "sql")
	d := &SQL{Line: e.at.line, Lines: linesOf(m), Name: m.text("name", ""), Kind: p.sqlKind(m), Plain: m.flag("plain", false)}
	switch item, ok := m.items["name"]; {
	case !ok:
		p.refuse(e.at, finding{"name is missing", "name the door: it is its label in logs and metrics"})
	case !nameSyntax.MatchString(d.Name):
		p.refuse(item.at, finding{item.shown() + " is no name", "use up to 64 small letters, digits and hyphens"})
		d.Name = ""
	}
	d.Listen = m.address("listen", "", false)
	if !m.has("listen") {
		p.refuse(e.at, finding{"listen is missing", "write where drivers connect to, such as 127.0.0.1:1433, or unix:/absolute/path"})
	}
	d.Credential = p.whose(m, t, e.at)
	p.sqlServers(d, m, e.at)
	p.sqlToken(d, m, e.at)
	d.Callers = p.routeCallers(m, t)
	p.sqlSession(d, m)
	p.sqlFront(d, m, t)
	p.lintSQL(d, m, t)
	return d, m
}

// sqlKind reads which protocol the door speaks.
func (p *parser) sqlKind(m *mapping) string {
	e, ok := m.items["kind"]
	if !ok {
		return "mssql"
	}
	switch kind := strings.ToLower(p.scalar(e)); kind {
	case "mssql":
		return kind
	case "postgres", "postgresql", "mysql", "mariadb":
		p.refuse(e.at, finding{e.shown() + " is not yet supported by this release", "write mssql, or wait for the release that supports it"})
	case "sqlserver", "tds", "azuresql", "azure-sql", "synapse", "fabric":
		p.refuse(e.at, finding{e.shown() + " is not what this is called", "write mssql, or leave kind out"})
	default:
		p.refuse(e.at, finding{e.shown() + " is no kind of database that is known here", "write mssql, or leave kind out"})
	}
	return "mssql"
}

// sqlToken reads which token the door logs in with. Azure SQL's audience is one
// for all servers of a cloud.
func (p *parser) sqlToken(d *SQL, m *mapping, where place) {
	e, own := m.items["scope"]
	if own {
		d.Scope = p.scalar(e)
	}
	c := d.Credential
	switch {
	case c.Name == "": // the mistake is said
		return
	case own && d.Scope == "":
		p.refuse(e.at, finding{"is empty", "leave it out for Azure SQL's own, or write <audience>/.default"})
		return
	case !own && c.Entra():
		d.Scope = sqlAPI().scope(c.Cloud, "")
		return
	case !own:
		p.refuse(where, finding{"scope is missing: the credential " + c.Name + " is not of Entra, so that there is no default", "name a credential of Entra, which alone Azure SQL believes, or write the scope that the server's own issuer wants"})
		return
	}
	r := &Route{Scope: d.Scope, Credential: c}
	before := len(p.mistakes)
	p.checkScope(r, m, where)
	if len(p.mistakes) == before && c.Entra() && !p.lintScope(r, m) {
		p.lintSQLScope(d, e)
	}
}

// sqlAPI is the row of the presets that Azure SQL's audiences stand in.
func sqlAPI() *api {
	rows := sqlRows()
	return &rows[0]
}

// sqlSession reads what is made of a client's login, and how sessions end.
func (p *parser) sqlSession(d *SQL, m *mapping) {
	d.Database, d.ForceDatabase = m.units("database", maxDatabase), m.flag("force_database", false)
	if d.ForceDatabase && d.Database == "" && !p.broken[m.where("database")] {
		p.refuse(m.where("force_database"), finding{"there is no database to force", "add database, or leave force_database out"})
	}
	d.ReadOnly = m.flag("read_only", false)
	d.AppNameSuffix = m.units("app_name_suffix", maxAppSuffix)
	d.MaxConnections = m.whole("max_connections", 500, maxSessions)
	d.LoginTimeout = m.span("login_timeout", 30*time.Second, bounds{least: time.Second, most: maxLoginTimeout})
	d.MaxSessionAge = m.span("max_session_age", 0, bounds{off: true, least: time.Minute, most: maxSessionLife})
	d.ReloginSkew = defaultReloginSkew
	if e, ok := m.items["relogin"]; ok {
		d.ReloginSkew = p.relogin(e)
	}
}

const defaultReloginSkew = 5 * time.Minute

// relogin reads how long before its token's end a session logs in anew.
func (p *parser) relogin(e entry) time.Duration {
	if v := e.value.Value; v == "off" || v == "false" || v == "0" {
		p.refuse(e.at, finding{"want a mapping", "write {skew: off}: then no session logs in anew"})
		return 0
	}
	return p.open(e, "relogin").span("skew", defaultReloginSkew, bounds{off: true, most: maxReloginSkew})
}

// units returns text of at most that many UTF-16 units, which is how LOGIN7
// counts (MS-TDS §2.2.6.4).
func (m *mapping) units(key string, most int) string {
	v := m.text(key, "")
	if n := len(utf16.Encode([]rune(v))); n > most {
		m.p.refuse(m.where(key), finding{fmt.Sprintf("has %d characters", n), fmt.Sprintf("write at most %d", most)})
		return ""
	}
	return v
}

// bounds are those of a duration; off: 0 and off turn it off.
type bounds struct {
	off         bool
	least, most time.Duration
}

// span reads a duration within b, or 0 for off; def when the key is absent.
func (m *mapping) span(key string, def time.Duration, b bounds) time.Duration {
	e, ok := m.items[key]
	if !ok {
		return def
	}
	v := m.p.scalar(e)
	d, err := time.ParseDuration(v)
	if b.off && (v == "off" || v == "false" || err == nil && d == 0) {
		return 0
	}
	if err != nil || d < b.least || d > b.most {
		remedy := fmt.Sprintf("write it with a unit, from %s to %s", short(b.least), short(b.most))
		if b.least == 0 {
			remedy = "write it with a unit, up to " + short(b.most)
		}
		if b.off {
			remedy += ", or off"
		}
		m.p.refuse(e.at, finding{"want a duration", remedy})
		return def
	}
	return d
}

// short is a duration as people write it: 5m, not 5m0s.
func short(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// sqlFront reads what clients are shown.
func (p *parser) sqlFront(d *SQL, m *mapping, t *Table) {
	d.ClientTLS = ClientTLS(m.choice("client_tls", "optional", "off", "optional", "required"))
	d.CertificateFile, d.KeyFile = m.path("certificate_file"), m.path("key_file")
	switch {
	case m.has("key_file") && !m.has("certificate_file"):
		p.refuse(m.where("key_file"), finding{"a key without its certificate", "add certificate_file"})
	case m.has("certificate_file") && d.ClientTLS == ClientTLSOff:
		p.refuse(m.where("certificate_file"), finding{"client_tls: off shows no certificate", "keep one of the two"})
	case d.ClientTLS == ClientTLSRequired && !m.has("certificate_file") && t.Intercept == nil:
		p.refuse(m.where("client_tls"), finding{"there is no certificate that clients could check", "add certificate_file and key_file, or intercept: {ca_dir: …}, whose CA then signs for this door"})
	}
	if d.Plain && d.ClientTLS == ClientTLSRequired {
		p.refuse(m.where("plain"), finding{"plain says that clear text is meant, and client_tls: required refuses it", "keep one of the two"})
	}
}
