package main

import (
	"os"

	"github.com/seed-13b04e61/gateway/routes"
	"github.com/spf13/cobra"
)

// config is how a command was told to read routes.yaml.
type config struct {
	path      string // of --config; "" leaves it to the environment and the usual places
	allowExec bool   // {exec: …} references may be run
}

// allowExecFlag is the operator's leave to run what routes.yaml names.
const allowExecFlag = "allow-exec"

// addAllowExec gives cmd the flag that [configOf] reads.
func addAllowExec(cmd *cobra.Command) {
	cmd.Flags().Bool(allowExecFlag, false, "run the commands that {exec: …} names in routes.yaml")
}

// configOf reads the flags of cmd; those that it does not have are unset.
func configOf(cmd *cobra.Command) config {
	var c config
	c.path, _ = cmd.Flags().GetString("config")
	c.allowExec, _ = cmd.Flags().GetBool(allowExecFlag)
	return c
}

// open finds and reads routes.yaml as the flags and the environment say.
func (c config) open() (*routes.File, error) {
	var opts []routes.Option
	if c.allowExec {
		opts = append(opts, routes.AllowExec())
	}
	return routes.Open(routes.FindFile(c.path, os.LookupEnv), os.LookupEnv, opts...)
}
