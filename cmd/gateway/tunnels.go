package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/seed-13b04e61/gateway/routes"
)

// egressJSON is what happens beyond the routes, as check --json prints it.
type egressJSON struct {
	Default     string   `json:"default"` // deny or tunnel
	Allow       []string `json:"allow,omitempty"`
	DenyPrivate bool     `json:"deny_private"`
	Proxy       string   `json:"proxy,omitempty"` // the next hop
}

// interceptJSON is what the interception CA may sign for.
type interceptJSON struct {
	CADir string   `json:"ca_dir"`
	Hosts []string `json:"hosts"`
}

func egressRow(e routes.Egress) *egressJSON {
	row := &egressJSON{Default: "deny", DenyPrivate: e.DenyPrivate}
	if e.Tunnel {
		row.Default = "tunnel"
	}
	for _, h := range e.Allow {
		row.Allow = append(row.Allow, h.String())
	}
	if e.Proxy != nil {
		row.Proxy = e.Proxy.URL.String()
	}
	return row
}

func interceptRow(table *routes.Table) *interceptJSON {
	if table.Intercept == nil {
		return nil
	}
	return &interceptJSON{CADir: table.Intercept.CADir, Hosts: append([]string{}, table.InterceptedHosts()...)}
}

// printBeyond prints what happens to other hosts than the routed, and to
// tunnels.
func printBeyond(w io.Writer, table *routes.Table) {
	e := egressRow(table.Egress)
	passed, reaches := strings.Join(e.Allow, " "), "-"
	if e.Default == "tunnel" {
		passed = strings.TrimSpace("every host at 443 and 80 " + passed)
	}
	switch {
	case passed == "":
	case e.DenyPrivate:
		reaches = "public addresses"
	default:
		reaches = "private addresses too"
	}
	fmt.Fprintf(w, "\nEGRESS\tPASSED THROUGH\tREACHES\tNEXT HOP\n%s\t%s\t%s\t%s\n", e.Default, orDash(passed), reaches, orDash(e.Proxy))
	folder, hosts := "-", "nothing: HTTPS_PROXY needs intercept.ca_dir, or gateway exec"
	if x := interceptRow(table); x != nil {
		folder, hosts = x.CADir, strings.Join(x.Hosts, " ")
	}
	fmt.Fprintf(w, "\nCA\tMAY SIGN FOR\n%s\t%s\n", folder, hosts)
}
