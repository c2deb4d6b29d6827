package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/seed-13b04e61/gateway/routes"
)

// sqlJSON is a SQL door as check --json prints it.
type sqlJSON struct {
	Name        string   `json:"name"`
	Kind        string   `json:"kind"`
	Listen      string   `json:"listen"`
	Servers     []string `json:"servers"`
	ByName      bool     `json:"by_name,omitempty"` // the client's own ServerName chooses among the servers
	UpstreamTLS string   `json:"upstream_tls"`
	Credential  string   `json:"credential"`
	Scope       string   `json:"scope"`
	Callers     []string `json:"callers,omitempty"` // absent: any named caller, or anyone without callers
	Database    string   `json:"database,omitempty"`
	ReadOnly    bool     `json:"read_only,omitempty"`
	ClientTLS   string   `json:"client_tls"`
}

func sqlRow(d *routes.SQL) sqlJSON {
	row := sqlJSON{
		Name: d.Name, Kind: d.Kind, Listen: d.Listen, Servers: authorities(d), ByName: d.ByName, UpstreamTLS: "mandatory",
		Credential: d.Credential.Name, Scope: d.Scope, Callers: namesOf(d.Callers),
		Database: d.Database, ReadOnly: d.ReadOnly, ClientTLS: string(d.ClientTLS),
	}
	if d.Strict {
		row.UpstreamTLS = "strict"
	}
	return row
}

// printDoors lists the SQL doors, if there are any.
func printDoors(w io.Writer, table *routes.Table) {
	if len(table.SQL) == 0 {
		return
	}
	lead := ""
	if len(table.Routes) > 0 {
		lead = "\n"
	}
	fmt.Fprintln(w, lead+"SQL DOOR\tLISTEN\tSERVER\tDATABASE\tCREDENTIAL\tSCOPE\tCALLERS\tCLIENT TLS")
	for _, d := range table.SQL {
		database := orDash(d.Database)
		if d.ReadOnly {
			database += ", read only"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", d.Name, d.Listen, strings.Join(authorities(d), " "), database,
			d.Credential.Name, d.Scope, callersOf(table, d.Callers), d.ClientTLS)
	}
}

// errLogin ends a serve --check-sql, after what is wrong has been printed.
var errLogin = errors.New("refusing to start: not every server of sql: took the login (--check-sql)")

// checkSQL logs in to each server of file's section sql and tells what became of
// it on the standard error: the standard output is the log's.
func checkSQL(ctx context.Context, file *routes.File, s std) error {
	e, _, err := quietEngine(file) // whose notices serve itself has
	if err != nil {
		return fmt.Errorf("refusing to start: %w", err)
	}
	defer e.Close()
	report := checkReport{OK: true}
	sc := newScreen(std{out: s.err, err: s.err})
	report.logins(ctx, e, checkFlags{}, sc)
	sc.done()
	if !report.OK {
		return errLogin
	}
	return nil
}
