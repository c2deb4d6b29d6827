package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/seed-13b04e61/gateway/routes"
	"github.com/spf13/cobra"
)

// clouds are what --cloud takes.
func clouds() []string { return []string{"public", "usgov", "usgov-dod", "china"} }

func newPresets(s std) *cobra.Command {
	var cloud string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "presets [NAME]",
		Short: "List the well-known APIs, or print one as YAML to paste",
		Long: `Lists the well-known APIs that preset: takes, with the hosts and the audience of each
in a cloud. A host that begins with *. is one that everybody has one of: name yours
under hosts:. With NAME it prints what the preset stands for, as an entry of routes
that can be pasted in its place and changed, or, for SQL servers, as one of sql.`,
		Args: cobra.MaximumNArgs(1),
		ValidArgsFunction: func(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
			if len(args) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return completePresets(cmd, args, word)
		},
		RunE: func(_ *cobra.Command, args []string) error {
			if !slices.Contains(clouds(), cloud) {
				return fmt.Errorf("--cloud %s: want one of %s", cloud, strings.Join(clouds(), ", "))
			}
			if len(args) == 1 {
				return no(showPreset(args[0], cloud, asJSON, s))
			}
			return no(listPresets(cloud, asJSON, s))
		},
	}
	cmd.Flags().StringVar(&cloud, "cloud", "public", strings.Join(clouds(), ", "))
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	_ = cmd.RegisterFlagCompletionFunc("cloud", cobra.FixedCompletions(clouds(), cobra.ShellCompDirectiveNoFileComp)) // the flag is there
	return cmd
}

// presetJSON is what presets --json prints of one.
type presetJSON struct {
	Name   string     `json:"name"`
	Doc    string     `json:"doc"`
	Kind   string     `json:"kind"` // http, sql, other
	Cloud  string     `json:"cloud"`
	Sites  []siteJSON `json:"sites"` // none where it is not offered in the cloud
	Quirks []string   `json:"quirks"`
	YAML   string     `json:"yaml,omitempty"`
}

// siteJSON is an audience with the hosts that take it.
type siteJSON struct {
	Hosts    []string          `json:"hosts"`   // filled in
	Choices  []string          `json:"choices"` // to be chosen from
	Audience string            `json:"audience"`
	Headers  map[string]string `json:"headers,omitempty"`
}

func presetRow(p routes.PresetInfo, cloud string) presetJSON {
	row := presetJSON{Name: p.Name, Doc: p.Doc, Kind: p.Kind, Cloud: cloud, Sites: []siteJSON{}, Quirks: append([]string{}, p.Quirks...), YAML: p.YAML(cloud)}
	if p.Kind == "sql" {
		row.YAML = sqlYAML(p, cloud)
	}
	for _, c := range sites(p, cloud) {
		site := siteJSON{Hosts: append([]string{}, c.Hosts...), Choices: append([]string{}, c.Choices...), Audience: c.Audience}
		for _, h := range c.Headers {
			if site.Headers == nil {
				site.Headers = map[string]string{}
			}
			site.Headers[h.Name] = h.Value
		}
		row.Sites = append(row.Sites, site)
	}
	return row
}

// sites are what a preset stands for in one cloud.
func sites(p routes.PresetInfo, cloud string) []routes.PresetCloud {
	return slices.DeleteFunc(slices.Clone(p.Clouds), func(c routes.PresetCloud) bool { return c.Cloud != cloud })
}

func listPresets(cloud string, asJSON bool, s std) error {
	var rows []presetJSON
	for _, p := range routes.Presets() {
		if row := presetRow(p, cloud); len(row.Sites) > 0 {
			row.YAML = ""
			rows = append(rows, row)
		}
	}
	if asJSON {
		return printJSON(s.out, rows)
	}
	w := tabwriter.NewWriter(s.out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "PRESET\tAUDIENCE\tHOSTS")
	for _, row := range rows {
		for i, site := range row.Sites {
			name, remark := row.Name, ""
			if i > 0 {
				name = ""
			}
			if row.Kind != "http" {
				remark = "   (not by HTTP)"
			}
			fmt.Fprintf(w, "%s\t%s\t%s%s\n", name, site.Audience, shortList(slices.Concat(site.Hosts, site.Choices)), remark)
		}
	}
	return w.Flush()
}

// shortList is the beginning of a list that need not be whole.
func shortList(list []string) string {
	const enough = 3
	if len(list) <= enough {
		return strings.Join(list, " ")
	}
	return fmt.Sprintf("%s … %d more", strings.Join(list[:enough], " "), len(list)-enough)
}

func showPreset(name, cloud string, asJSON bool, s std) error {
	p, err := presetNamed(name, cloud)
	if err != nil {
		return err
	}
	row := presetRow(p, cloud)
	if asJSON {
		return printJSON(s.out, row)
	}
	return row.print(s.out)
}

// print writes the preset as YAML, with comments that say what it is.
func (row presetJSON) print(w io.Writer) error {
	var b strings.Builder
	comment(&b, "  ", fmt.Sprintf("%s: %s", row.Name, row.Doc))
	for _, q := range row.Quirks {
		comment(&b, "  ", q)
	}
	if row.Kind == "sql" {
		comment(&b, "  ", "Under sql:, not under routes:")
		_, err := fmt.Fprint(w, b.String(), row.YAML)
		return err
	}
	short := "In short: preset: " + row.Name
	if !slices.ContainsFunc(row.Sites, func(s siteJSON) bool { return len(s.Hosts) > 0 }) {
		short += ", with your own hosts"
	}
	comment(&b, "  ", short)
	_, err := fmt.Fprint(w, b.String(), row.YAML)
	return err
}

// presetNamed finds a preset that a route or SQL door of the cloud may have, or
// says why there is none.
func presetNamed(name, cloud string) (routes.PresetInfo, error) {
	all := routes.Presets()
	i := slices.IndexFunc(all, func(p routes.PresetInfo) bool { return p.Name == name })
	switch {
	case i < 0:
		return routes.PresetInfo{}, fmt.Errorf("there is no preset %q; gateway presets lists them", name)
	case all[i].Kind == "other":
		return routes.PresetInfo{}, fmt.Errorf("preset %s is not reached by HTTP, so no route can have it: %s", name, all[i].Doc)
	case len(sites(all[i], cloud)) == 0:
		return routes.PresetInfo{}, fmt.Errorf("preset %s is not offered in the cloud %s; gateway presets --cloud %s lists what is", name, cloud, cloud)
	}
	return all[i], nil
}

// completePresets offers the presets that a route or SQL door may have.
func completePresets(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	var names []string
	for _, p := range routes.Presets() {
		if p.Kind != "other" {
			names = append(names, cobra.CompletionWithDesc(p.Name, p.Doc))
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

func newSchema(s std) *cobra.Command {
	return &cobra.Command{
		Use:   "schema",
		Short: "Print the JSON Schema of routes.yaml, for editors",
		Long: `Prints the JSON Schema (draft 2020-12) of routes.yaml. An editor with the YAML
language server completes and checks the file as it is typed, when its first line is

  # yaml-language-server: $schema=routes.schema.json

after  gateway schema > routes.schema.json  in the same folder.`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Fprintln(s.out, strings.TrimSpace(string(routes.Schema())))
			return no(err)
		},
	}
}
