package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
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
	f := explainFlags{}
	cmd := &cobra.Command{
		Use:   "explain METHOD URL",
		Short: "Say which route, rule, caller, credential, scope and upstream decide a call",
		Long: `Says which route, rule, credential, scope and upstream decide a call, by the code
that decides it. URL is what the app asks for: https://graph.microsoft.com/v1.0/users
as through HTTP_PROXY, or the gateway's own address for the reverse door. With
CONNECT it is where a tunnel leads that HTTPS_PROXY asks for, https://HOST or
HOST:PORT: explain then says whether it is intercepted, passed through or refused.
LOGIN and the name of a SQL door explain a login there. With
callers in routes.yaml, --as says who calls; --header adds a field that a route goes
by, such as the one that names a tenant. Exit code 1: the call would be refused.`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 2 {
				return errors.New("explain wants METHOD and URL, or LOGIN and the name of a SQL door")
			}
			return nil
		},
		ValidArgsFunction: completeCalls,
		RunE: func(cmd *cobra.Command, args []string) error {
			f.config, f.method = configOf(cmd), strings.ToUpper(args[0])
			if err := f.read(args[1]); err != nil {
				return err
			}
			return explain(cmd.Context(), f, s)
		},
	}
	cmd.Flags().BoolVar(&f.asJSON, "json", false, "print JSON")
	cmd.Flags().StringVar(&f.as, "as", "", "judge as if this caller called")
	cmd.Flags().StringArrayVar(&f.fields, "header", nil, "a header field of the call, as 'Name: value'; may stand several times")
	_ = cmd.RegisterFlagCompletionFunc("as", completeCallers) // the flag exists
	addAllowExec(cmd)
	return cmd
}

type explainFlags struct {
	config config
	method string
	asJSON bool
	as     string
	fields []string
	listen *routes.Listen // the doors that are open; nil: those of the file

	url    *url.URL
	path   string // of the URL, byte for byte
	door   string // of a login: the SQL door's name
	header http.Header
}

// read understands the words of the command line.
func (f *explainFlags) read(target string) error {
	if f.method == methodLogin {
		return f.readLogin(target)
	}
	var err error
	if f.method == http.MethodConnect && !strings.Contains(target, "://") {
		target = "https://" + target // host:port, as a CONNECT has it
	}
	if f.url, err = url.Parse(target); err != nil || f.url.Host == "" || f.url.Scheme != "http" && f.url.Scheme != "https" {
		return fmt.Errorf("%q is no absolute http or https URL", target)
	}
	// The doors judge the bytes that came, which net/url would tidy up.
	_, f.path, _ = strings.Cut(target, "://")
	f.path, _, _ = strings.Cut(f.path, "#")
	f.path, _, _ = strings.Cut(f.path, "?")
	if i := strings.IndexByte(f.path, '/'); i >= 0 {
		f.path = f.path[i:]
	} else {
		f.path = "/"
	}
	f.header = http.Header{}
	for _, field := range f.fields {
		name, value, ok := strings.Cut(field, ":")
		if name = strings.TrimSpace(name); !ok || name == "" {
			return fmt.Errorf("--header %q: want 'Name: value'", field)
		}
		f.header.Add(name, strings.TrimSpace(value))
	}
	return nil
}

// explanation is what explain --json prints.
type explanation struct {
	Allowed    bool     `json:"allowed"`
	Door       string   `json:"door"`
	Caller     string   `json:"caller,omitempty"` // "" for anyone who can reach the listener
	Code       string   `json:"code,omitempty"`
	Detail     string   `json:"detail,omitempty"`
	Remedy     string   `json:"remedy,omitempty"`
	Route      string   `json:"route,omitempty"`
	At         string   `json:"at,omitempty"`         // file and line of the route
	Rule       string   `json:"rule,omitempty"`       // file and line of the allow rule that decided
	WouldDeny  string   `json:"would_deny,omitempty"` // mode report: what enforcing would refuse
	Batch      bool     `json:"batch,omitempty"`      // each call inside is judged by itself
	Credential string   `json:"credential,omitempty"`
	Tenant     string   `json:"tenant,omitempty"`
	Chosen     bool     `json:"tenant_chosen,omitempty"` // the call chose the tenant
	Endpoint   string   `json:"token_endpoint,omitempty"`
	Fallback   []string `json:"fallback,omitempty"` // in line behind the credential
	Scope      string   `json:"scope,omitempty"`
	Second     string   `json:"second_scope,omitempty"` // of the token in a field of its own
	Upstream   string   `json:"upstream,omitempty"`
	Servers    []string `json:"servers,omitempty"`  // of a SQL door
	Database   string   `json:"database,omitempty"` // of a SQL door, where its clients name none
	URL        string   `json:"url,omitempty"`      // as the upstream sees it, without its query
	Replay     int64    `json:"replay_bytes,omitempty"`
	Way        string   `json:"way,omitempty"`     // intercepted or through, where there is no more to say of a tunnel or call
	Reaches    string   `json:"reaches,omitempty"` // public or any: addresses, of what is passed through

	listen routes.Listen // the doors that the call may lead back to
}

// noKeys stands for the directory: to explain a call needs no secret.
type noKeys struct{}

func (noKeys) Key(*routes.Credential, string) tokens.Key { return tokens.Key{} }

func (noKeys) KeyFor(*routes.Credential, string, string) tokens.Key { return tokens.Key{} }

func explain(ctx context.Context, f explainFlags, s std) error {
	file, err := f.config.open()
	if err != nil {
		return no(err)
	}
	g, errs := gate.Renew(nil, file.Table(), noKeys{})
	for _, err := range errs {
		fmt.Fprintf(s.err, "warning: %v\n", err)
	}
	judge := decide
	if f.method == methodLogin {
		judge = decideLogin
	}
	x, err := judge(ctx, g, f)
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

// callerNamed finds the caller of --as; nil for "".
func callerNamed(t *routes.Table, name string) (*routes.Caller, error) {
	if name == "" {
		return nil, nil
	}
	var names []string
	for _, c := range t.Callers {
		if c.Name == name {
			return c, nil
		}
		names = append(names, c.Name)
	}
	if t.Callers == nil {
		return nil, fmt.Errorf("--as %s: routes.yaml has no callers, so every caller is anonymous", name)
	}
	return nil, fmt.Errorf("--as %s: no such caller; routes.yaml has %s", name, strings.Join(names, ", "))
}

// decide asks the gate as the doors would.
func decide(ctx context.Context, g *gate.Gate, f explainFlags) (explanation, error) {
	table := g.Table()
	listen := table.Listen
	if f.listen != nil {
		listen = *f.listen
	}
	caller, err := callerNamed(table, f.as)
	if err != nil {
		return explanation{}, err
	}
	port := uint16(443)
	if f.url.Scheme == "http" {
		port = 80
	}
	a, err := routes.ParseAuthority(f.url.Host, port)
	if err != nil {
		return explanation{}, err
	}
	t := gate.Target{Door: audit.Forward, Authority: a, Method: f.method, Path: f.path, Query: f.url.RawQuery, Header: f.header, Caller: caller}
	switch {
	case f.method == http.MethodConnect:
		t.Door = audit.Tunnel
	case isOwn(a, listen):
		t.Door = audit.Reverse
	case f.url.Scheme == "http" && a.Port == 80:
		t.Authority.Port = 443
	}
	x := explanation{Door: string(t.Door), Caller: f.as, listen: listen}
	switch {
	case f.method == http.MethodTrace:
		x.Code, x.Detail = "method_refused", f.method+" is never forwarded"
		return x, nil
	case caller == nil && table.Callers != nil:
		x.Code, x.Detail = string(gate.CallerUnknown), "routes.yaml has callers, and a call without a credential is none of theirs"
		x.Remedy = "name the caller by --as; gateway check lists them"
		return x, nil
	}
	if f.method == http.MethodConnect {
		x.tunnel(ctx, g, t)
		return x, nil
	}
	if _, named := table.Match(t.Authority); !named && t.Door == audit.Forward {
		t.Authority = a
		x.unnamed(ctx, g, t, f.url.Scheme)
		return x, nil
	}
	pass, err := g.Admit(ctx, t)
	if err != nil {
		x.refused(err)
		return x, nil
	}
	x.admitted(table, pass)
	return x, nil
}

// refused describes a call that the gate refuses.
func (x *explanation) refused(err error) {
	var refusal *gate.Refusal
	if !errors.As(err, &refusal) {
		refusal = &gate.Refusal{Code: "internal", Detail: err.Error()}
	}
	x.Code, x.Detail, x.Remedy = string(refusal.Code), refusal.Detail, refusal.Remedy
}

// admitted describes a call that may go.
func (x *explanation) admitted(table *routes.Table, pass gate.Pass) {
	r, c := pass.Route, *pass.Route.Credential
	if pass.Tenant != "" {
		c.TenantID, x.Chosen = pass.Tenant, true
	}
	x.Allowed, x.Route, x.At = true, r.Name, fmt.Sprintf("%s:%d", table.Name, r.Line)
	if pass.Rule != 0 {
		x.Rule = fmt.Sprintf("%s:%d", table.Name, pass.Rule)
	}
	x.WouldDeny, x.Batch = pass.Denied, pass.Batch
	x.Credential, x.Tenant, x.Endpoint, x.Scope = c.Name, c.TenantID, source(&c), r.Scope
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
	caller := x.Caller
	if caller == "" {
		caller = "anyone who can reach the listener"
	}
	if !x.Allowed {
		if x.Code == string(gate.CallerUnknown) {
			caller = "unknown"
		}
		fmt.Fprintf(w, "door\t%s\ncaller\t%s\nallowed\tno\t%s\nwhy\t%s\ndo\t%s\n", x.Door, caller, x.Code, x.Detail, orDash(x.Remedy))
		return w.Flush()
	}
	if x.Door == string(audit.SQL) {
		x.printLogin(w, caller)
		return w.Flush()
	}
	if x.Way != "" {
		x.printWay(w, caller)
		return w.Flush()
	}
	replay := "no second try"
	if x.Replay > 0 {
		replay = fmt.Sprintf("one more try with a fresh token; bodies up to %d bytes are kept for it", x.Replay)
	}
	fmt.Fprintf(w, "door\t%s\nallowed\tyes\ncaller\t%s\nroute\t%s\t%s\n", x.Door, caller, x.Route, x.At)
	if x.Rule != "" {
		fmt.Fprintf(w, "rule\t%s\n", x.Rule)
	}
	if x.WouldDeny != "" {
		fmt.Fprintf(w, "would deny\t%s\tmode: report lets it pass\n", x.WouldDeny)
	}
	if x.Batch {
		fmt.Fprintf(w, "batch\teach call inside is judged by itself\n")
	}
	fmt.Fprintf(w, "credential\t%s\n", x.Credential)
	if x.Chosen {
		fmt.Fprintf(w, "tenant\t%s\tchosen by the call\n", x.Tenant)
	}
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
