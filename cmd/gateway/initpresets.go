package main

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/seed-13b04e61/gateway/routes"
)

// covers tells whether a host is one that the pattern of a preset stands for:
// *. is any name below, [N] digits or none, [region] a word.
func covers(pattern, host string) bool {
	text := strings.NewReplacer(`\*`, `[a-z0-9.-]+`, `\[N\]`, `[0-9]*`, `\[region\]`, `[a-z]+`).Replace(regexp.QuoteMeta(pattern))
	matched, err := regexp.MatchString("^"+text+"$", host)
	return err == nil && matched
}

// has tells whether the preset stands for the host in a cloud.
func has(p routes.PresetInfo, cloud, host string) bool {
	return slices.ContainsFunc(sites(p, cloud), func(c routes.PresetCloud) bool {
		return slices.ContainsFunc(slices.Concat(c.Hosts, c.Choices), func(pattern string) bool { return covers(pattern, host) })
	})
}

// filled tells whether the preset brings hosts of its own in a cloud.
func filled(p routes.PresetInfo, cloud string) bool {
	return slices.ContainsFunc(sites(p, cloud), func(c routes.PresetCloud) bool { return len(c.Hosts) > 0 })
}

// presetOf finds the preset that a host belongs to, or "". needsHost tells that
// the route must name the host all the same.
func presetOf(host, cloud string) (name string, needsHost bool) {
	for _, p := range routes.Presets() {
		if p.Kind != "http" || !has(p, cloud, host) {
			continue
		}
		brought := slices.ContainsFunc(sites(p, cloud), func(c routes.PresetCloud) bool { return slices.Contains(c.Hosts, host) })
		return p.Name, !brought
	}
	return "", false
}

// addPresets adds a route, or a SQL door, for each preset that the flags name,
// and gives each host to the preset that stands for it. An error is misuse of the flags.
func (d *draft) addPresets(names, hosts []string, cloud string) error {
	left := slices.Clone(hosts)
	used := map[string]bool{}
	for _, r := range d.routes {
		used[r.label()] = true
	}
	for _, name := range names {
		p, err := presetNamed(name, cloud)
		if err != nil {
			return fmt.Errorf("--preset %s: %w", name, err)
		}
		var own []string
		left = slices.DeleteFunc(left, func(h string) bool {
			mine := has(p, cloud, strings.ToLower(h))
			if mine {
				own = append(own, strings.ToLower(h))
			}
			return mine
		})
		if p.Kind == "sql" {
			if err := d.addSQL(p, own); err != nil {
				return err
			}
			continue
		}
		if len(own) == 0 && !filled(p, cloud) {
			return fmt.Errorf("--preset %s: everybody has hosts of their own there; add --host, such as --host my%s", name, strings.TrimPrefix(sites(p, cloud)[0].Choices[0], "*"))
		}
		for _, r := range presetRoutes(p, own, cloud) {
			r.rename(unused(r.label(), used))
			d.routes = append(d.routes, r)
		}
	}
	if len(left) > 0 {
		return fmt.Errorf("--host %s: no --preset that was named has such hosts; gateway presets lists them", strings.Join(left, " "))
	}
	return nil
}

// presetRoutes makes one route of the hosts, or one of each where the audience
// depends on the host.
func presetRoutes(p routes.PresetInfo, hosts []string, cloud string) []item {
	short := pair{key: "preset", value: p.Name}
	if len(hosts) == 0 {
		return []item{{comments: []string{p.Doc}, pairs: []pair{short}}}
	}
	all := sites(p, cloud)
	if len(all) == 1 && !strings.Contains(all[0].Audience, "{host}") {
		return []item{{comments: []string{p.Doc}, pairs: []pair{short, {key: "hosts", value: list(hosts)}}}}
	}
	var out []item
	for _, h := range hosts {
		out = append(out, item{comments: []string{p.Doc}, pairs: []pair{short, {key: "hosts", value: list([]string{h})}}})
	}
	return out
}

// unused is label, or label with a number behind it, and marks it as used.
func unused(label string, used map[string]bool) string {
	free := label
	for n := 2; used[free]; n++ {
		free = fmt.Sprintf("%s-%d", label, n)
	}
	used[free] = true
	return free
}

// label is the name that a route has.
func (it item) label() string {
	if name := it.value("name"); name != "" {
		return strings.Trim(name, `"`)
	}
	return it.value("preset")
}
