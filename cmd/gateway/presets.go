package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/seed-13b04e61/gateway/routes"
	"github.com/spf13/cobra"
)

// presetHosts are the well-known APIs with the host that everybody shares.
func presetHosts() map[string]string {
	hosts := map[string]string{}
	for _, name := range []string{"graph", "arm"} {
		if t, err := routes.Parse("preset", []byte("version: 1\nroutes: [{preset: "+name+"}]\n"), nil); err == nil {
			hosts[name] = t.Routes[0].Hosts[0].Host
		}
	}
	return hosts
}

// presetOf finds the preset that a host belongs to, or "". needsHost tells that
// the route must name the host all the same.
func presetOf(host string) (name string, needsHost bool) {
	for name, h := range presetHosts() {
		if h == host {
			return name, false
		}
	}
	return "", false
}

// addPresets adds a route for each preset that the flags name.
func (d *draft) addPresets(names, hosts []string, _ string) error {
	known := presetHosts()
	for _, name := range names {
		if known[name] == "" {
			return fmt.Errorf("--preset %s: there is no such preset", name)
		}
		d.routes = append(d.routes, item{pairs: []pair{{key: "preset", value: name}}})
	}
	if len(hosts) > 0 {
		return fmt.Errorf("--host %s: no --preset needs it", strings.Join(hosts, " "))
	}
	return nil
}

func completePresets(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	var names []string
	for name := range presetHosts() {
		names = append(names, name)
	}
	slices.Sort(names)
	return names, cobra.ShellCompDirectiveNoFileComp
}
