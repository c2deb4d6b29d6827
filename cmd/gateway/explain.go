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

	"github.com/seed-13b04e61/gateway/admin"
	"github.com/seed-13b04e61/gateway/audit"
	"github.com/seed-13b04e61/gateway/gate"
	"github.com/seed-13b04e61/gateway/proxy"
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
by, such as the one that names a tenant, or that a door does, such as Host or Origin.

It names the line of routes.yaml that decided, also when it refuses: then with the
rules that were tried and the nearest of them. Routes that were not taken stand with
the reason, and so do later ones that would have taken the call: the first that fits
decides. Cause and remedy are the words of the log and of the answer.
Exit code 1: the call would be refused.`,
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
		// The words are not repeated: they may hold a password or a token.
		return errors.New("explain wants an absolute http or https URL; write it whole, as https://HOST/PATH")
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
			return errors.New("--header wants 'Name: value'; put the name and a colon before the value")
		}
		f.header.Add(name, strings.TrimSpace(value))
	}
	return nil
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
		err = printExplanation(s.out, x)
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
		return nil, fmt.Errorf("--as %s: routes.yaml has no callers, so every caller is anonymous", harmless(name))
	}
	return nil, fmt.Errorf("--as %s: no such caller; routes.yaml has %s", harmless(name), strings.Join(names, ", "))
}

// decide asks doors and gate as a call would be asked.
func decide(ctx context.Context, g *gate.Gate, f explainFlags) (admin.Explanation, error) {
	table := g.Table()
	listen := table.Listen
	if f.listen != nil {
		listen = *f.listen
	}
	caller, err := callerNamed(table, f.as)
	if err != nil {
		return admin.Explanation{}, err
	}
	port := uint16(443)
	if f.url.Scheme == "http" {
		port = 80
	}
	a, err := routes.ParseAuthority(f.url.Host, port)
	if err != nil {
		return admin.Explanation{}, err
	}
	x := explanation{table: table}
	x.Caller = f.as
	asked := proxy.Asked{Table: table, Method: f.method, URL: f.url, Path: f.path, Header: f.header, Own: isOwn(a, listen)}
	if f.method == http.MethodConnect {
		x.connect(ctx, g, asked, gate.Target{Door: audit.Tunnel, Authority: a, Method: f.method, Path: f.path, Caller: caller})
		return x.Explanation, nil
	}
	t, refused := asked.Door()
	x.Door, t.Caller = string(t.Door), caller
	switch _, named := table.Match(t.Authority); {
	case refused != nil:
		x.atDoor(refused)
	case caller == nil && table.Callers != nil:
		x.stranger(t.Door)
	case !named && t.Door != audit.Reverse:
		t.Authority = a
		x.unnamed(ctx, g, t, f.url.Scheme)
	default:
		x.admitted(g.Explain(ctx, t), asked)
	}
	return x.Explanation, nil
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
