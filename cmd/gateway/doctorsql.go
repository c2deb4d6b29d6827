package main

import (
	"context"
	"net"
	"strings"

	"github.com/seed-13b04e61/gateway/routes"
)

// checkDatabases is about the doors to which drivers connect by themselves: no
// proxy variable has a part in it.
const checkDatabases = "sql"

// onlySQL tells whether nothing in table is for calls: then nobody needs proxy
// variables, unless hosts or a proxy were named to be examined.
func (d *doctor) onlySQL(table *routes.Table) bool {
	return table != nil && len(table.SQL) > 0 && len(table.Routes) == 0 && len(d.hosts) == 0 && d.proxy == nil
}

// checkDoors connects to each SQL door, and sends nothing.
func (d *doctor) checkDoors(ctx context.Context, table *routes.Table) {
	for _, door := range table.SQL {
		network, addr := "tcp", door.Listen
		if path, ok := strings.CutPrefix(addr, "unix:"); ok {
			network, addr = "unix", path
		} else if host, port, err := net.SplitHostPort(addr); err == nil {
			if port == "0" {
				d.warn(checkDatabases, door.Name, "its port is chosen anew at each start, so it was not tried", "write a port under listen that apps can know")
				continue
			}
			if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
				addr = net.JoinHostPort("localhost", port)
			}
		}
		limited, cancel := context.WithTimeout(ctx, d.patience)
		conn, err := (&net.Dialer{}).DialContext(limited, network, addr)
		cancel()
		if err != nil {
			d.no(checkDatabases, door.Name, "nothing can be reached at "+door.Listen+": "+cause(err),
				"start the gateway; inside a container 127.0.0.1 is the container itself")
			continue
		}
		_ = conn.Close()
		d.ok(checkDatabases, door.Name, "something listens at "+door.Listen+"; gateway check --live logs in to its servers")
	}
}
