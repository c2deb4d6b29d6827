package main

import (
	"testing"

	"github.com/seed-13b04e61/gateway/routes"
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
		"Server=a\xad\x01[":                {"", ""},
		"Server=a b":                       {"", ""},
		"Server=s,1:2":                     {"", ""},
		"Server=s:2,1":                     {"", ""},
		"Server=s,":                        {"s:1433", ""},
		"Password='Server=never":           {"", ""},
		"":                                 {"", ""},
		"Server=tcp:mi.abc.database.windows.net,3342;Authentication=x;Encrypt=y": {"mi.abc.database.windows.net:3342", ""},
	} {
		server, database := sqlServer(text)
		named := ""
		if server.Host != "" {
			named = server.String()
		}
		if named != want[0] || database != want[1] {
			t.Errorf("sqlServer(%q) = %q, %q, want %q", text, named, database, want)
		}
	}
}

func FuzzConnectionString(f *testing.F) {
	f.Add("Server=tcp:orders.database.windows.net,1433;Initial Catalog=\"a;b\";Password='x;y'")
	f.Add("Server=s\\i,1;;=;'")
	f.Fuzz(func(t *testing.T, text string) {
		server, _ := sqlServer(text)
		if server.Host == "" {
			return
		}
		if again, err := routes.ParseAuthority(server.String(), 0); err != nil || again != server || server.Port == 0 {
			t.Errorf("sqlServer(%q) = %q, want a host and a port", text, server)
		}
	})
}
