package routes

import (
	"fmt"
	"slices"
	"strings"
)

// PresetInfo is a preset as people read of it.
type PresetInfo struct {
	Name, Doc string
	// Kind is http; sql for what belongs under sql:; or other for what speaks
	// a protocol of its own, which no route reaches.
	Kind   string
	Clouds []PresetCloud // public, usgov, usgov-dod, china, as far as it is offered there
	Quirks []string      // sentences: what the preset does beside hosts and scope
}

// PresetCloud is what a preset stands for in one cloud. A cloud has several of
// them where some hosts take an audience of their own.
type PresetCloud struct {
	Cloud string
	Hosts []string // filled in when a route names none
	// Choices are what a route may name: a host, or any host below a suffix
	// that many customers share ("*.vault.azure.net").
	Choices  []string
	Audience string // {host} stands for the route's host
	Headers  []Param
}

// Presets lists every preset, in the order of the documentation.
func Presets() []PresetInfo {
	var out []PresetInfo
	for _, a := range apis() {
		info := PresetInfo{Name: a.name, Doc: a.doc, Kind: a.kind, Quirks: a.quirk.sentences()}
		if info.Kind == "" {
			info.Kind = "http"
		}
		if a.anyCase {
			info.Quirks = append(info.Quirks, "Rules take upper and lower case in paths for the same, as the API does.")
		}
		for _, cloud := range allClouds() {
			fixed := a.fixed(cloud)
			for _, s := range a.in(cloud) {
				c := PresetCloud{Cloud: cloud, Audience: s.audience, Headers: slices.Concat(a.quirk.set, a.quirk.fill)}
				for _, h := range s.hosts {
					if slices.Contains(fixed, h) {
						c.Hosts = append(c.Hosts, h)
					} else {
						c.Choices = append(c.Choices, h)
					}
				}
				if len(s.hosts) > 0 {
					info.Clouds = append(info.Clouds, c)
				}
			}
		}
		out = append(out, info)
	}
	return out
}

func (q quirk) sentences() []string {
	var out []string
	say := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	if q.format != "" {
		say("The token goes into Authorization as %s.", q.format)
	}
	for _, h := range q.set {
		say("%s: %s is set.", h.Name, h.Value)
	}
	for _, h := range q.fill {
		say("%s: %s is set where the caller sends none.", h.Name, h.Value)
	}
	for _, h := range q.fillFiles {
		say("%s: %s is set for hosts of Azure Files where the caller sends none.", h.Name, h.Value)
	}
	if q.date != "" {
		say("%s gets the time of sending where the caller sends none.", q.date)
	}
	if q.needs != "" {
		say("%s is needed under set_headers, unless every caller sends it.", q.needs)
	}
	if q.ownCA {
		say("Its certificates are of the cluster's own CA: tls.ca_file has to name it.")
	}
	if q.signIn {
		say("A 203 or a redirect to a sign-in page counts as a 401.")
	}
	if q.registry {
		say("Entra's token is exchanged for the registry's own, for each repository and action.")
	}
	if q.second != "" {
		say("With %s under set_headers, a token for Azure Resource Manager goes into %s.", q.secondWith, q.second)
	}
	return out
}

// YAML returns what the preset stands for in a cloud, as an entry of routes
// that can be pasted in its place; hosts that every customer has for itself
// are examples, and comments say what a preset alone can do. It is "" where the
// preset is not offered, and for what no route reaches.
func (i PresetInfo) YAML(cloud string) string {
	at := slices.IndexFunc(apis(), func(a api) bool { return a.name == i.Name })
	if at < 0 || apis()[at].kind != "" || apis()[at].in(cloud) == nil {
		return ""
	}
	a, q := &apis()[at], apis()[at].quirk
	hosts, comment := a.fixed(cloud), ""
	if len(hosts) == 0 {
		all := a.patterns(cloud)
		hosts, comment = []string{example(all[0])}, " # your own: "+strings.Join(all, ", ")
	}
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("  - name: %s", a.name)
	line("    hosts: [%s]%s", strings.Join(hosts, ", "), comment)
	line("    scope: %s", a.scope(cloud, hosts[0]))
	if named(cloud) != "public" {
		line("    # the route's credential has cloud: %s", cloud)
	}
	if q.format != "" {
		line("    inject: {format: %q}", q.format)
	}
	var headers []string
	for _, h := range slices.Concat(q.set, q.fill) {
		headers = append(headers, fmt.Sprintf("%s: %q", strings.ToLower(h.Name), h.Value))
	}
	if q.needs != "" {
		headers = append(headers, strings.ToLower(q.needs)+": your-own")
	}
	if len(headers) > 0 {
		line("    set_headers: {%s}", strings.Join(headers, ", "))
	}
	if q.ownCA {
		line("    tls: {ca_file: cluster-ca.pem}")
	}
	for _, only := range q.beyondYAML() {
		line("    # only preset: %s %s", a.name, only)
	}
	return b.String()
}

// beyondYAML says what has no key in routes.yaml.
func (q quirk) beyondYAML() []string {
	var out []string
	if q.fill != nil {
		out = append(out, "lets a caller's own "+strings.ToLower(q.fill[0].Name)+" stand")
	}
	if q.date != "" {
		out = append(out, "sets "+strings.ToLower(q.date)+" to the time of sending")
	}
	if q.fillFiles != nil {
		out = append(out, "sets x-ms-file-request-intent for hosts of Azure Files")
	}
	if q.signIn {
		out = append(out, "takes a sign-in page for the 401 that it stands for")
	}
	if q.registry {
		out = append(out, "exchanges the token for the registry's own")
	}
	if q.second != "" {
		out = append(out, "adds the second token that "+q.secondWith+" asks for")
	}
	return out
}
