package routes

import (
	"fmt"
	"slices"
	"strings"
)

// OffLoopback tells whether others than this machine can reach the door.
func (d *SQL) OffLoopback() bool { return offLoopback(d.Listen) }

// lintSQL remarks upon a door that could be read and will not work, or that
// lends the credential to more than is meant.
func (p *parser) lintSQL(d *SQL, m *mapping, t *Table) {
	if !d.Credential.Entra() {
		for _, s := range d.Servers {
			if owners, _ := ownersOf(s.Host, "public"); len(owners) > 0 {
				p.warn(m.where("credential"), finding{s.Host + " believes tokens of Entra alone, and the credential " + d.Credential.Name + " is of another server", "name a credential of Entra"})
				break
			}
		}
	}
	if d.OffLoopback() {
		p.sqlStrangers(d, m, t)
	}
	if t.Callers == nil {
		return
	}
	callers := d.admitted(t)
	if len(callers) > 0 && !slices.ContainsFunc(callers, func(c *Caller) bool { return c.usableAt(d) }) {
		p.warn(m.where("callers"), finding{"no caller of this door can prove itself: drivers show a name and a key, and the kernel names the uid of peers on this machine alone", "give one an api_key, or, for peers on this machine, a uid"})
	}
}

// sqlStrangers warns of a door that others than this machine can reach.
func (p *parser) sqlStrangers(d *SQL, m *mapping, t *Table) {
	if t.Callers == nil {
		p.warn(m.where("listen"), finding{"others than this machine can reach this door, and there are no callers: serve refuses it", "say under callers who may log in, or listen on 127.0.0.1 or a unix socket"})
	}
	if d.ClientTLS != ClientTLSRequired && !d.Plain {
		p.warn(m.where("listen"), finding{"serve refuses a door off loopback without TLS: keys and rows would cross the network in clear text", "write client_tls: required, or say by plain: true that this is meant"})
	}
}

// admitted are the callers whom a door admits.
func (d *SQL) admitted(t *Table) []*Caller {
	if d.Callers != nil {
		return d.Callers
	}
	return t.Callers
}

// usableAt tells whether a caller can prove itself at a SQL door: by its key,
// or as the owner of the peer's socket.
func (c *Caller) usableAt(d *SQL) bool {
	return len(c.APIKeys) > 0 || c.UID != nil && !remoteOnly(d.Listen)
}

// lintSQLScope remarks upon a scope that is known, and of another API than SQL.
func (p *parser) lintSQLScope(d *SQL, e entry) {
	cloud := named(d.Credential.Cloud)
	takers := takersOf(strings.TrimSuffix(d.Scope, "/.default")).byCloud[cloud]
	if len(takers) == 0 || slices.ContainsFunc(takers, func(a *api) bool { return a.kind == "sql" }) {
		return
	}
	p.warn(e.at, finding{fmt.Sprintf("%s asks for a token for %s, which no SQL server takes", e.shown(), takers[0].name), "leave scope out, or write " + sqlAPI().scope(cloud, "")})
}

// stray is what to write for a key that people try and that has another name.
func stray(section, key string) (finding, bool) {
	remedies := map[string]string{
		"identity":              "write credential, with the name of one",
		"users":                 "write callers: a driver's user is a caller's name, and its password that caller's API key",
		"client_auth":           "leave it out: callers, if the file has any, show their name and key as user and password, or are known by uid",
		"user":                  "leave it out: the gateway logs in by its own token",
		"password":              "leave it out: the gateway logs in by its own token",
		"authentication":        "leave it out: the gateway logs in by its own token",
		"allow_unauthenticated": "say under callers who may log in; serve --insecure-no-callers opens a door to everybody",
		"host":                  "write server, with the name of the SQL server",
		"hosts":                 "write servers, with the names of the SQL servers",
		"upstream":              "write server; dial, if it is reached at another address",
		"port":                  "write it behind the server, as host:port, or in listen",
		"limits":                "write max_connections",
		"encrypt":               "write upstream_tls for the server's side, client_tls for the clients'",
		"app_name":              "write app_name_suffix: the client's own name stays",
		"timeouts":              "write login_timeout",
		"preset":                "leave it out: kind says what the door speaks",
	}
	remedy, known := remedies[key]
	if section != "sql" || !known {
		return finding{}, false
	}
	return finding{"unknown key " + quote(key), remedy}, true
}
