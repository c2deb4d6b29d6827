package main

import (
	"net"
	"strconv"
	"strings"
	"testing"
)

func TestAConnectionStringGivesItsServerAndDatabase(t *testing.T) {
	for text, want := range map[string][2]string{
		"Server=tcp:Orders.database.windows.net,1433;Database=d":               {"orders.database.windows.net:1433", "d"},
		"data source = orders.database.windows.net ; initial catalog = 'a;b' ": {"orders.database.windows.net:1433", "a;b"},
		"Addr=s\\instance,3342":            {"s:3342", ""},
		"Password=\"x;Server=y\";Server=z": {"z:1433", ""},
		"Server=;Database=d":               {"", ""},
		"Server=s,0":                       {"", ""},
		"Server=s,70000":                   {"", ""},
		"Password='Server=never":           {"", ""},
		"":                                 {"", ""},
		"Server=tcp:mi.abc.database.windows.net,3342;Authentication=x;Encrypt=y": {"mi.abc.database.windows.net:3342", ""},
	} {
		if server, database := sqlServer(text); server != want[0] || database != want[1] {
			t.Errorf("sqlServer(%q) = %q, %q, want %q", text, server, database, want)
		}
	}
}

func FuzzConnectionString(f *testing.F) {
	f.Add("Server=tcp:orders.database.windows.net,1433;Initial Catalog=\"a;b\";Password='x;y'")
	f.Add("Server=s\\i,1;;=;'")
	f.Fuzz(func(t *testing.T, text string) {
		server, _ := sqlServer(text)
		if server == "" {
			return
		}
		host, port, err := net.SplitHostPort(server)
		if n, _ := strconv.ParseUint(port, 10, 16); err != nil || host == "" || n == 0 || strings.ContainsAny(host, `\,`) {
			t.Errorf("sqlServer(%q) = %q, want host:port", text, server)
		}
	})
}
