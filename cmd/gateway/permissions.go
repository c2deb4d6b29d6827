package main

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/seed-13b04e61/gateway/admin"
	"github.com/spf13/cobra"
)

func newPermissions(s std) *cobra.Command {
	var f adminFlags
	var credential string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "permissions",
		Short: "Show which permissions the credentials of a running gateway hold, use and lack",
		Long: `Asks a running gateway which application permissions (roles) the tokens of each
credential hold, which of them the calls since its start used, which none did,
and what the calls lacked that the API answered with 403, with the command that
grants it. Which call wants which permission is known for the commonest calls of
Microsoft Graph v1.0; for the rest there are roles, calls and 403s alone.
Exit code 1: calls were refused for want of a permission that is still missing.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := f.client(cmd)
			if err != nil {
				return no(err)
			}
			var p admin.Permissions
			if status, err := c.ask(cmd.Context(), http.MethodGet, "/api/permissions", &p); err != nil {
				return no(err)
			} else if status != http.StatusOK {
				return no(fmt.Errorf("the gateway at %s does not tell permissions (status %d); see that --admin names the admin port, and that the gateway is of this version", c.base, status))
			}
			if credential != "" {
				p.APIs = slices.DeleteFunc(p.APIs, func(a admin.APIUse) bool { return a.Credential != credential })
				if len(p.APIs) == 0 {
					return no(fmt.Errorf("no route of the running gateway uses a credential %q", credential))
				}
			}
			return permitted(p, asJSON, s)
		},
	}
	f.add(cmd)
	cmd.Flags().StringVar(&credential, "credential", "", "only this credential")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func permitted(p admin.Permissions, asJSON bool, s std) error {
	if asJSON {
		if err := printJSON(s.out, p); err != nil {
			return no(err)
		}
	} else {
		fmt.Fprintf(s.out, "calls since %s\n", stamp(p.Since))
		for _, a := range p.APIs {
			fmt.Fprintln(s.out)
			if err := printAPI(a, s); err != nil {
				return no(err)
			}
		}
	}
	if p.Missing() {
		return errNo
	}
	return nil
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// printAPI is one credential at one API, in text.
func printAPI(a admin.APIUse, s std) error {
	fmt.Fprintf(s.out, "credential %s, scope %s: %s\n", a.Credential, orDash(a.Scope), plural("route", a.Routes))
	if a.Tenants > 1 {
		fmt.Fprintf(s.out, "   tokens of %d tenants\n", a.Tenants)
	}
	tw := tabwriter.NewWriter(s.out, 0, 8, 2, ' ', 0)
	for _, r := range a.Roles {
		fmt.Fprintf(tw, "   %s\t%s\n", r.Name, useOf(r, a.Tenants))
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	if a.Remark != "" {
		fmt.Fprintf(s.out, "   note: %s\n", a.Remark)
	}
	for _, d := range a.Denied {
		fmt.Fprintf(s.out, "   403: %s, %s, last %s\n      %s\n      %s\n", kindOfCall(d.Method, d.Template, d.Route),
			counted(int(d.Denied), "time"), stamp(d.Last), d.Remark, d.Remedy)
	}
	return printCalls(a.Calls, s)
}

// useOf says what was done with a role.
func useOf(r admin.Role, tenants int) string {
	var text string
	switch r.Use {
	case admin.Used:
		text = "used by " + counted(int(r.Calls), "call")
		if r.Last != nil {
			text += ", last " + stamp(*r.Last)
		}
	case admin.Unused:
		text = "never used"
	default:
		text = "perhaps never used"
	}
	if tenants > 1 {
		text += fmt.Sprintf(" (granted in %d of %d tenants)", r.Tenants, tenants)
	}
	return text
}

// maxCallLines bounds the kinds of calls that text shows; JSON has all.
const maxCallLines = 20

func printCalls(calls []admin.CallCount, s std) error {
	tw := tabwriter.NewWriter(s.out, 0, 8, 2, ' ', 0)
	for i, c := range calls {
		if i == maxCallLines {
			fmt.Fprintf(tw, "   and %d more kinds of calls; --json has all\n", len(calls)-i)
			break
		}
		fmt.Fprintf(tw, "   %s\t%d served\t%d denied\t%d failed\t%s\n", kindOfCall(c.Method, c.Template, c.Route), c.Served, c.Denied, c.Failed, orDash(c.Role))
	}
	return tw.Flush()
}

func kindOfCall(method, template, route string) string {
	if method == "" {
		return "others of route " + route
	}
	return method + " " + template
}

func plural(noun string, names []string) string {
	if len(names) != 1 {
		noun += "s"
	}
	return noun + " " + strings.Join(names, ", ")
}
