package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/seed-13b04e61/gateway/admin"
	"github.com/seed-13b04e61/gateway/secrets"
	"github.com/spf13/cobra"
)

// maxAdminAnswer bounds what is read of the admin port's answers, in bytes.
const maxAdminAnswer = 4 << 20

// adminClient asks a running gateway.
type adminClient struct {
	base string
	key  secrets.Secret
	http *http.Client
	next string // what to do when nobody answers
}

// adminFlags are those of every command that asks a running gateway.
type adminFlags struct{ addr, keyFile string }

func (f *adminFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.addr, "admin", "", "admin address of the running gateway (default: listen.admin of routes.yaml)")
	cmd.Flags().StringVar(&f.keyFile, "admin-key-file", "", "file with the admin key (default: listen.admin_key of routes.yaml, if it can be read)")
}

// client finds the admin port by the flags, else by routes.yaml, else at its
// default place.
func (f *adminFlags) client(cmd *cobra.Command) (*adminClient, error) {
	addr, key := f.addr, secrets.Ref{}
	next := "see that it runs; gateway serve prints the address of its admin port at start, which --admin ADDR takes"
	if addr == "" || f.keyFile == "" {
		file, err := configOf(cmd).open()
		switch {
		case err == nil && addr == "":
			addr, key = file.Table().Listen.Admin, file.Table().Listen.AdminKey
			if addr == "" {
				return nil, errors.New("listen.admin is off in routes.yaml; name a running gateway by --admin")
			}
		case err == nil:
			key = file.Table().Listen.AdminKey
		case addr == "":
			addr = "127.0.0.1:8081"
			next = "that is the default, as no routes.yaml could be read here (gateway check says why); name the running gateway's admin port by --admin ADDR"
		}
	}
	c := &adminClient{http: &http.Client{Timeout: time.Minute}, next: next}
	if f.keyFile != "" {
		key = secrets.Ref{File: f.keyFile}
	}
	if !key.IsZero() {
		k, err := key.Read()
		if err != nil && f.keyFile != "" {
			return nil, fmt.Errorf("--admin-key-file: %w", err)
		}
		c.key = k
	}
	transport := &http.Transport{Proxy: nil}
	if path, ok := strings.CutPrefix(addr, "unix:"); ok {
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", path)
		}
		addr = "localhost"
	} else if host, port, err := net.SplitHostPort(addr); err == nil {
		if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
			addr = net.JoinHostPort("127.0.0.1", port)
		}
	}
	c.base, c.http.Transport = "http://"+addr, transport
	return c, nil
}

// send asks, with the key if there is one.
func (c *adminClient) send(ctx context.Context, method, path string, header http.Header) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, nil)
	if err != nil {
		return nil, err
	}
	maps.Copy(req.Header, header)
	if !c.key.IsZero() {
		req.Header.Set("Authorization", "Bearer "+c.key.Reveal())
	}
	resp, err := c.http.Do(req)
	if err != nil {
		if gone, ok := errors.AsType[*url.Error](err); ok {
			err = gone.Err // the rest of it is a request that nobody typed
		}
		return nil, fmt.Errorf("no gateway answers at %s: %w; %s", c.base, err, c.next)
	}
	return resp, nil
}

// ask decodes the answer into out whatever its status, which it returns.
func (c *adminClient) ask(ctx context.Context, method, path string, out any) (int, error) {
	resp, err := c.send(ctx, method, path, nil)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAdminAnswer))
	if err != nil {
		return 0, err
	}
	if resp.StatusCode == http.StatusUnauthorized || resp.StatusCode == http.StatusForbidden || resp.StatusCode == http.StatusMisdirectedRequest {
		var why struct{ Error string }
		_ = json.Unmarshal(body, &why)
		return resp.StatusCode, fmt.Errorf("the gateway at %s refuses: %s", c.base, why.Error)
	}
	if err := json.Unmarshal(body, out); err != nil {
		return resp.StatusCode, fmt.Errorf("what answers at %s is no admin port of a gateway (status %d)", c.base, resp.StatusCode)
	}
	return resp.StatusCode, nil
}

func newReload(s std) *cobra.Command {
	var f adminFlags
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "reload",
		Short: "Have a running gateway read routes.yaml again, and wait for its verdict",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := f.client(cmd)
			if err != nil {
				return no(err)
			}
			var done admin.Reloaded
			if _, err := c.ask(cmd.Context(), http.MethodPost, "/api/reload", &done); err != nil {
				return no(err)
			}
			return reloaded(done, asJSON, s)
		},
	}
	f.add(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func reloaded(done admin.Reloaded, asJSON bool, s std) error {
	if asJSON {
		if err := printJSON(s.out, done); err != nil {
			return no(err)
		}
	}
	if !done.OK {
		if !asJSON {
			fmt.Fprintf(s.err, "%s\nthe table before it stays in force (%s)\n", strings.TrimRight(done.Mistakes, "\n"), inForce(done))
		}
		return errNo
	}
	if !asJSON {
		for _, w := range done.Warnings {
			fmt.Fprintf(s.err, "warning: %s\n", w)
		}
		fmt.Fprintf(s.out, "routes.yaml is in force: %s\n", inForce(done))
	}
	return nil
}

// inForce says how much there is in the table.
func inForce(done admin.Reloaded) string {
	if done.SQL == 0 {
		return counted(done.Routes, "route")
	}
	doors := counted(done.SQL, "SQL door")
	if done.Routes == 0 {
		return doors
	}
	return counted(done.Routes, "route") + ", " + doors
}

func newPurge(s std) *cobra.Command {
	var f adminFlags
	var sel admin.Selection
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "purge",
		Short: "Have a running gateway forget tokens, for instance after admin consent",
		Long: `Has a running gateway forget tokens, and with them every refusal and hold-off that
it remembers. Without flags it forgets all. A token issued before admin consent
lacks the new role until it expires; this is how to be rid of it.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := f.client(cmd)
			if err != nil {
				return no(err)
			}
			q := url.Values{}
			for name, value := range map[string]string{"credential": sel.Credential, "tenant": sel.Tenant, "scope": sel.Scope} {
				if value != "" {
					q.Set(name, value)
				}
			}
			var done admin.Purged
			if _, err := c.ask(cmd.Context(), http.MethodPost, "/api/purge?"+q.Encode(), &done); err != nil {
				return no(err)
			}
			if asJSON {
				return no(printJSON(s.out, done))
			}
			_, err = fmt.Fprintf(s.out, "%s forgotten\n", counted(done.Tokens, "token"))
			return no(err)
		},
	}
	f.add(cmd)
	cmd.Flags().StringVar(&sel.Credential, "credential", "", "only tokens of this credential")
	cmd.Flags().StringVar(&sel.Tenant, "tenant", "", "only tokens of this tenant")
	cmd.Flags().StringVar(&sel.Scope, "scope", "", "only tokens for this scope")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func newHealth(s std) *cobra.Command {
	var f adminFlags
	var live, asJSON bool
	cmd := &cobra.Command{
		Use:   "health",
		Short: "Ask a running gateway whether it is ready",
		Long:  `Asks /readyz of a running gateway, or /healthz with --live. For Docker's HEALTHCHECK.`,
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := f.client(cmd)
			if err != nil {
				return no(err)
			}
			c.http.Timeout = 5 * time.Second
			path := "/readyz"
			if live {
				path = "/healthz"
			}
			answer := map[string]any{}
			status, err := c.ask(cmd.Context(), http.MethodGet, path, &answer)
			if err != nil {
				return no(err)
			}
			return healthy(status, answer, asJSON, s)
		},
	}
	f.add(cmd)
	cmd.Flags().BoolVar(&live, "live", false, "ask only whether the process is up")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func healthy(status int, answer map[string]any, asJSON bool, s std) error {
	ok := status == http.StatusOK
	if asJSON {
		if err := printJSON(s.out, answer); err != nil {
			return no(err)
		}
	} else {
		word := map[bool]string{true: "ready", false: "not ready"}[ok]
		if answer["status"] == "up" {
			word = "up"
		}
		fmt.Fprintln(s.out, word)
		if list, isList := answer["degraded"].([]any); isList {
			for _, d := range list {
				fmt.Fprintf(s.out, "   %v\n", d)
			}
		}
	}
	if !ok {
		return errNo
	}
	return nil
}

// counted is a number of things in words.
func counted(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}
