package main

import (
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/spf13/cobra"
)

// newApp is the app of the tour: a program that knows a URL, and of gateways
// what its environment says.
func newApp(s std) *cobra.Command {
	return &cobra.Command{
		Use:   "app URL",
		Short: "Make one call as an app would, by the variables of the environment, and print status and answer",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			req, err := http.NewRequestWithContext(cmd.Context(), http.MethodGet, args[0], nil)
			if err != nil {
				return err
			}
			tr := &http.Transport{Proxy: http.ProxyFromEnvironment}
			defer tr.CloseIdleConnections()
			resp, err := (&http.Client{Transport: tr, Timeout: time.Minute, CheckRedirect: stay}).Do(req)
			if err != nil {
				return no(err)
			}
			defer resp.Body.Close()
			fmt.Fprintf(s.out, "%d %s\n", resp.StatusCode, resp.Header.Get("Gateway-Error"))
			_, err = io.Copy(s.out, resp.Body)
			return no(err)
		},
	}
}
