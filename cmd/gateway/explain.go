package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strings"
	"text/tabwriter"

	"github.com/seed-13b04e61/gateway/audit"
	"github.com/seed-13b04e61/gateway/gate"
	"github.com/seed-13b04e61/gateway/routes"
	"github.com/seed-13b04e61/gateway/tokens"
	"github.com/spf13/cobra"
)

func newExplain(s std) *cobra.Command {
	var asJSON bool
	var as string
	cmd := &cobra.Command{
		Use:   "explain METHOD URL",
		Short: "Say which route, credential, scope and upstream decide a call",
		Long: `Says which route, credential, scope and upstream decide a call, by the code that
decides it. URL is what the app asks for: https://graph.microsoft.com/v1.0/users
as through HTTP_PROXY, or the gateway's own address for the reverse door.`,
		Args:              cobra.ExactArgs(2),
		ValidArgsFunction: completeCalls,
		RunE: func(cmd *cobra.Command, args []string) error {
			if as != "" {
				return fmt.Errorf("--as %s: routes.yaml has no callers, so every caller is anonymous", as)
			}
			target, err := url.Parse(args[1])
			if err != nil || target.Host == "" || target.Scheme != "http" && target.Scheme != "https" {
				return fmt.Errorf("%q is no URL; write it whole, such as https://graph.microsoft.com/v1.0/users", args[1])
			}
			return explain(cmd.Context(), explainFlags{configOf(cmd), strings.ToUpper(args[0]), target, asJSON}, s)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.Flags().StringVar(&as, "as", "", "judge as if this caller called")
	addAllowExec(cmd)
	return cmd
}

type explainFlags struct {
	config config
	method string
	url    *url.URL
	asJSON bool
}

// explanation is what explain --json prints.
type explanation struct {
	Allowed    bool     `json:"allowed"`
	Door       string   `json:"door"`
	Code       string   `json:"code,omitempty"`
	Detail     string   `json:"detail,omitempty"`
	Remedy     string   `json:"remedy,omitempty"`
	Route      string   `json:"route,omitempty"`
	At         string   `json:"at,omitempty"` // file and line of the route
	Credential string   `json:"credential,omitempty"`
	Tenant     string   `json:"tenant,omitempty"`
	Endpoint   string   `json:"token_endpoint,omitempty"`
	Fallback   []string `json:"fallback,omitempty"` // in line behind the credential
	Scope      string   `json:"scope,omitempty"`
	Second     string   `json:"second_scope,omitempty"` // of the token in a field of its own
	Upstream   string   `json:"upstream,omitempty"`
	URL        string   `json:"url,omitempty"` // as the upstream sees it, without its query
	Replay     int64    `json:"replay_bytes,omitempty"`
}

// noKeys stands for the directory: to explain a call needs no secret.
type noKeys struct{}

func (noKeys) Key(*routes.Credential, string) tokens.Key { return tokens.Key{} }

func explain(ctx context.Context, f explainFlags, s std) error {
	file, err := f.config.open()
	if err != nil {
		return no(err)
	}
	x, err := decide(ctx, gate.New(file.Table(), noKeys{}), f)
	if err != nil {
		return err
	}
	if f.asJSON {
		err = printJSON(s.out, x)
	} else {
		err = x.print(s)
	}
	if err != nil {
		return no(err)
	}
	if !x.Allowed {
		return errNo
	}
	return nil
}

// decide asks the gate as the doors would.
func decide(ctx context.Context, g *gate.Gate, f explainFlags) (explanation, error) {
	table := g.Table()
	port := uint16(443)
	if f.url.Scheme == "http" {
		port = 80
	}
	a, err := routes.ParseAuthority(f.url.Host, port)
	if err != nil {
		return explanation{}, err
	}
	t := gate.Target{Door: audit.Forward, Authority: a, Path: f.url.EscapedPath()}
	if t.Path == "" {
		t.Path = "/"
	}
	switch {
	case isOwn(a, table.Listen):
		t.Door = audit.Reverse
	case f.url.Scheme == "http" && a.Port == 80:
		t.Authority.Port = 443
	}
	pass, err := g.Admit(ctx, t)
	x := explanation{Door: string(t.Door)}
	var refused *gate.Refusal
	if errors.As(err, &refused) {
		x.Code, x.Detail, x.Remedy = string(refused.Code), refused.Detail, refused.Remedy
		return x, nil
	}
	if f.method == "TRACE" || f.method == "CONNECT" {
		x.Code, x.Detail = "method_refused", f.method+" is never forwarded"
		return x, nil
	}
	r, c := pass.Route, pass.Route.Credential
	x.Allowed, x.Route, x.At = true, r.Name, fmt.Sprintf("%s:%d", table.Name, r.Line)
	x.Credential, x.Tenant, x.Endpoint, x.Scope = c.Name, c.TenantID, source(c), r.Scope
	for next := table.Credential(c.Fallback); next != nil; next = table.Credential(next.Fallback) {
		x.Fallback = append(x.Fallback, next.Name)
	}
	if r.Second != nil {
		x.Second = r.Second.Scope
	}
	x.Replay = r.Replay
	x.Upstream = "https://" + pass.Authority.String()
	if r.Upstream != nil {
		x.Upstream = r.Upstream.String()
	}
	x.URL = "https://" + strings.TrimSuffix(pass.Authority.String(), ":443") + pass.Path
	return x, nil
}

// source says where tokens of c come from, before anybody was asked.
func source(c *routes.Credential) string {
	switch {
	case c.ManagedIdentity != nil:
		return "the managed identity of this host"
	case c.Issuer != "":
		return "what the metadata of " + c.Issuer + " name"
	}
	return c.Endpoint()
}

// isOwn tells whether a is the gateway's own address, so that the call is one
// for the reverse door.
func isOwn(a routes.Authority, l routes.Listen) bool {
	if own, err := routes.ParseAuthority(l.Proxy, 80); err == nil && own.Port == a.Port {
		ip, err := netip.ParseAddr(a.Host)
		if own == a || a.Host == "localhost" || err == nil && ip.IsLoopback() {
			return true
		}
	}
	for _, h := range l.Hosts {
		host, port, err := net.SplitHostPort(h)
		if err != nil {
			host, port = h, fmt.Sprint(a.Port)
		}
		if host == a.Host && port == fmt.Sprint(a.Port) {
			return true
		}
	}
	return false
}

func (x explanation) print(s std) error {
	w := tabwriter.NewWriter(s.out, 0, 8, 2, ' ', 0)
	if !x.Allowed {
		fmt.Fprintf(w, "door\t%s\nallowed\tno\t%s\nwhy\t%s\ndo\t%s\n", x.Door, x.Code, x.Detail, orDash(x.Remedy))
		return w.Flush()
	}
	replay := "no second try"
	if x.Replay > 0 {
		replay = fmt.Sprintf("one more try with a fresh token; bodies up to %d bytes are kept for it", x.Replay)
	}
	fmt.Fprintf(w, "door\t%s\nallowed\tyes\ncaller\tanyone who can reach the listener\nroute\t%s\t%s\n", x.Door, x.Route, x.At)
	fmt.Fprintf(w, "credential\t%s\n", x.Credential)
	if len(x.Fallback) > 0 {
		fmt.Fprintf(w, "if refused\t%s\n", strings.Join(x.Fallback, ", then "))
	}
	fmt.Fprintf(w, "token from\t%s\nscope\t%s\n", x.Endpoint, orDash(x.Scope))
	if x.Second != "" {
		fmt.Fprintf(w, "and for\t%s\n", x.Second)
	}
	fmt.Fprintf(w, "sends to\t%s\nas\t%s\non 401\t%s\n", x.Upstream, x.URL, replay)
	return w.Flush()
}
