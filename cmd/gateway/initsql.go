package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/seed-13b04e61/gateway/routes"
)

// firstSQLPort is where the first SQL door of a draft listens; the next ones
// follow it.
const firstSQLPort = 1433

// maxDraftDoors bounds the SQL doors of a draft.
const maxDraftDoors = 100

// addDoor adds a SQL door to a server, host or host:port; what says where it was
// found. A server that has a door already, with the same database, gets no
// second one.
func (d *draft) addDoor(what, server, database string) {
	same := func(it item) bool {
		return it.value("server") == scalar(server) && it.value("database") == scalarOrNone(database)
	}
	if len(d.doors) >= maxDraftDoors || slices.ContainsFunc(d.doors, same) {
		return
	}
	used := map[string]bool{}
	for _, r := range slices.Concat(d.routes, d.doors) {
		used[r.label()] = true
	}
	short, _, _ := strings.Cut(server, ".")
	name := slug(short)
	if !isLetter(name[0]) {
		name = "sql-" + name
	}
	it := item{comments: []string{what}, pairs: []pair{
		{key: "name", value: scalar(unused(name, used))},
		{key: "listen", value: fmt.Sprintf("127.0.0.1:%d", firstSQLPort+len(d.doors)), comment: "apps connect here"},
		{key: "server", value: scalar(server)},
	}}
	if database != "" {
		it.pairs = append(it.pairs, pair{key: "database", value: scalar(database)})
	}
	d.doors = append(d.doors, it)
}

func scalarOrNone(value string) string {
	if value == "" {
		return ""
	}
	return scalar(value)
}

func isLetter(c byte) bool { return c >= 'a' && c <= 'z' }

// addSQL adds a door to each host; the preset p stands for them.
func (d *draft) addSQL(p routes.PresetInfo, hosts []string) error {
	if len(hosts) == 0 {
		return fmt.Errorf("--preset %s: name your server by --host, such as --host my-server.database.windows.net", p.Name)
	}
	for _, h := range hosts {
		d.addDoor(p.Doc, h, "")
	}
	return nil
}

// sqlYAML is a door to a server of the preset, as an entry of sql.
func sqlYAML(p routes.PresetInfo, cloud string) string {
	host := "my-server.database.windows.net"
	if s := sites(p, cloud); len(s) > 0 && len(s[0].Choices) > 0 {
		host = "my-server" + strings.TrimPrefix(s[0].Choices[0], "*")
	}
	var d draft
	d.addDoor("", host, "my-database")
	var b strings.Builder
	for _, it := range d.doors {
		it.comments = nil
		writeRoute(&b, it)
	}
	return b.String()
}

// connections makes a SQL door of each connection string to a server of Azure
// SQL. Nothing but server and database is taken from them.
func (d *draft) connections(all settings, cloud string) {
	for _, s := range all.section("ConnectionStrings") {
		at, database := sqlServer(s.value)
		if !isSQLHost(at.Host, cloud) {
			continue
		}
		server := at.String()
		if at.Port == firstSQLPort {
			server = at.Host
		}
		d.addDoor(fmt.Sprintf("The connection string %s. Write Server=127.0.0.1,%d;Encrypt=False there, and take Authentication, user and password out: the gateway logs in.",
			strings.Join(s.path, ":"), firstSQLPort+len(d.doors)), server, database)
	}
}

// isSQLHost tells whether a preset that belongs under sql stands for the host.
func isSQLHost(host, cloud string) bool {
	return slices.ContainsFunc(routes.Presets(), func(p routes.PresetInfo) bool { return p.Kind == "sql" && has(p, cloud, host) })
}

// sqlServer finds the server and the database in a connection string of ADO.NET.
// The server is zero when none is named that could be dialled.
func sqlServer(text string) (server routes.Authority, database string) {
	var named string
	for _, part := range splitQuoted(text) {
		key, value, _ := strings.Cut(part, "=")
		value = strings.TrimSpace(value)
		switch strings.ToLower(strings.TrimSpace(key)) {
		case "server", "data source", "addr", "address", "network address":
			named = value
		case "database", "initial catalog":
			database = value
		}
	}
	named = strings.TrimPrefix(strings.ToLower(strings.Trim(named, `"' `)), "tcp:")
	host, port, found := strings.Cut(named, ",")
	host, _, _ = strings.Cut(strings.TrimSpace(host), `\`)
	if found {
		host += ":" + strings.TrimSpace(port)
	}
	server, err := routes.ParseAuthority(host, firstSQLPort)
	if err != nil {
		return routes.Authority{}, ""
	}
	return server, strings.Trim(database, `"' `)
}

// splitQuoted splits text at semicolons that do not stand in quotes.
func splitQuoted(text string) []string {
	var parts []string
	quote, from := byte(0), 0
	for i := range len(text) {
		switch c := text[i]; {
		case quote != 0:
			if c == quote {
				quote = 0
			}
		case c == '"' || c == '\'':
			quote = c
		case c == ';':
			parts, from = append(parts, text[from:i]), i+1
		}
	}
	return append(parts, text[from:])
}
