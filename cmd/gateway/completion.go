package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/seed-13b04e61/gateway/routes"
	"github.com/spf13/cobra"
)

// shells are what completion can be made for.
func shells() []string { return []string{"bash", "zsh", "fish", "powershell"} }

func newCompletion(s std) *cobra.Command {
	return &cobra.Command{
		Use:   "completion SHELL",
		Short: "Print the completion script of a shell: bash, zsh, fish, powershell",
		Long: `Prints the completion script of a shell. Names of routes and presets are completed
too, from the routes.yaml that the command line so far names.

  bash        source <(gateway completion bash)
  zsh         gateway completion zsh > "${fpath[1]}/_gateway"
  fish        gateway completion fish > ~/.config/fish/completions/gateway.fish
  powershell  gateway completion powershell | Out-String | Invoke-Expression`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: cobra.FixedCompletions(shells(), cobra.ShellCompDirectiveNoFileComp),
		RunE: func(cmd *cobra.Command, args []string) error {
			return writeCompletion(cmd.Root(), args[0], s.out)
		},
	}
}

// writeCompletion prints the script of shell, or says which there are.
func writeCompletion(root *cobra.Command, shell string, w io.Writer) error {
	switch shell {
	case "bash":
		return no(root.GenBashCompletionV2(w, true))
	case "zsh":
		return no(root.GenZshCompletion(w))
	case "fish":
		return no(root.GenFishCompletion(w, true))
	case "powershell":
		return no(root.GenPowerShellCompletionWithDesc(w))
	}
	return fmt.Errorf("%q is no shell that completion can be made for; want one of %v", shell, shells())
}

// completeRoutes offers the names of the routes and SQL doors, for the first argument.
func completeRoutes(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	file, err := configOf(cmd).open()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp // a shell's prompt is no place for mistakes
	}
	var names []string
	for _, r := range file.Table().Routes {
		names = append(names, cobra.CompletionWithDesc(r.Name, hostList(r)))
	}
	for _, d := range file.Table().SQL {
		names = append(names, cobra.CompletionWithDesc(d.Name, strings.Join(authorities(d), " ")))
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// completeCallers offers the names of the callers.
func completeCallers(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	var names []string
	if file, err := configOf(cmd).open(); err == nil {
		for _, c := range file.Table().Callers {
			names = append(names, c.Name)
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// methods are those that explain offers.
func methods() []string {
	return []string{"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "CONNECT", methodLogin}
}

// completeCalls offers methods and then the addresses of the routes.
func completeCalls(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	switch len(args) {
	case 0:
		return methods(), cobra.ShellCompDirectiveNoFileComp
	case 1:
	default:
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	file, err := configOf(cmd).open()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	if strings.EqualFold(args[0], methodLogin) {
		var doors []string
		for _, d := range file.Table().SQL {
			doors = append(doors, d.Name)
		}
		return doors, cobra.ShellCompDirectiveNoFileComp
	}
	var urls []string
	for _, r := range file.Table().Routes {
		for _, h := range r.Hosts {
			if !h.Wildcard {
				urls = append(urls, cobra.CompletionWithDesc(exampleURL(h), "route "+r.Name))
			}
		}
	}
	return urls, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
}

// exampleURL is an address that the pattern matches.
func exampleURL(h routes.HostPattern) string {
	host := strings.TrimSuffix(h.String(), ":443")
	return "https://" + host + "/"
}
