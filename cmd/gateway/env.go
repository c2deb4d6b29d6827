package main

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/seed-13b04e61/gateway/routes"
	"github.com/seed-13b04e61/gateway/secrets"
	"github.com/spf13/cobra"
)

// envFlags are the flags of env.
type envFlags struct {
	config            config
	format, proxy     string
	as, keyFile       string
	ca, bundle, store string
	java              bool
}

func newEnv(s std) *cobra.Command {
	f := envFlags{}
	cmd := &cobra.Command{
		Use:   "env",
		Short: "Print the variables by which programs use a running gateway",
		Long: `Prints the variables by which every common runtime uses a running gateway as its
proxy and trusts its CA, for a shell (eval "$(gateway env)"), docker run --env-file,
systemd's EnvironmentFile, a Kubernetes container, or as JSON, where null is for
what must not be set.

Nothing secret is printed: where the gateway has callers, NAME:KEY stands in the
proxy's URL for those of yours, unless --as and --key-file fill them in.

The CA is that of intercept.ca_dir unless --ca says otherwise. Most runtimes take
one file for all roots: make it by gateway ca export --bundle, and name it by
--bundle. For Java do the same with --p12.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			f.config = configOf(cmd)
			write, known := envFormats()[f.format]
			if !known {
				return fmt.Errorf("--format %q: want one of %s", f.format, strings.Join(formatNames(), ", "))
			}
			if (f.keyFile == "") != (f.as == "") {
				return errors.New("--as and --key-file go together: the caller's name, and the file with its key")
			}
			r, remarks, err := f.reach()
			if err != nil {
				return no(err)
			}
			text, err := write(r.variables())
			if err != nil {
				return no(err)
			}
			for _, m := range remarks {
				fmt.Fprintf(s.err, "gateway env: %s\n", m)
			}
			_, err = s.out.Write(text)
			return no(err)
		},
	}
	cmd.Flags().StringVar(&f.format, "format", "shell", "shell, docker, systemd, kubernetes or json")
	cmd.Flags().StringVar(&f.proxy, "proxy", "", "URL of the gateway's proxy port (default: as listen in routes.yaml has it)")
	cmd.Flags().StringVar(&f.as, "as", "", "the caller that programs are; with --key-file")
	cmd.Flags().StringVar(&f.keyFile, "key-file", "", "put the key in this file into the proxy's URL, although the output is secret then")
	cmd.Flags().StringVar(&f.ca, "ca", "", "PEM file of the gateway's CA, where programs run (default: root.pem of intercept.ca_dir)")
	cmd.Flags().StringVar(&f.bundle, "bundle", "", "PEM file of all roots and the CA, where programs run")
	cmd.Flags().StringVar(&f.store, "p12", "", "PKCS#12 trust store of the same for Java, where programs run")
	cmd.Flags().BoolVar(&f.java, "java", false, "set JAVA_TOOL_OPTIONS, which Java announces on stderr")
	_ = cmd.RegisterFlagCompletionFunc("format", cobra.FixedCompletions(formatNames(), cobra.ShellCompDirectiveNoFileComp)) // the flags are there
	_ = cmd.RegisterFlagCompletionFunc("as", cobra.NoFileCompletions)
	return cmd
}

// reach works out where the gateway is and what is to be trusted, and what is
// missing.
func (f envFlags) reach() (r reach, remarks []string, err error) {
	var table *routes.Table
	file, err := f.config.open()
	switch {
	case err == nil:
		table = file.Table()
	case f.proxy == "" || !errors.Is(err, os.ErrNotExist):
		return r, nil, err // beside a program there need not be a file
	}
	if r.proxy, err = f.proxyURL(table); err != nil {
		return r, nil, err
	}
	if err := f.identify(&r, table); err != nil {
		return r, nil, err
	}
	r.inherited = nothing
	if f.format == "shell" { // what is printed is for this very environment
		r.inherited = os.LookupEnv
	}
	r.ca, r.bundle, r.store = f.ca, f.bundle, f.store
	if r.ca == "" && table != nil && table.Intercept != nil {
		r.ca = filepath.Join(table.Intercept.CADir, "root.pem")
	}
	for _, path := range []*string{&r.ca, &r.bundle, &r.store} {
		if *path != "" {
			if *path, err = filepath.Abs(*path); err != nil {
				return r, nil, err
			}
		}
	}
	r.java = f.java
	return r, f.remarks(r, table), nil
}

// remarks say what is missing from the variables.
func (f envFlags) remarks(r reach, table *routes.Table) []string {
	var out []string
	switch {
	case r.ca == "" && r.bundle == "":
		out = append(out, "no CA is known, so that https:// to routed hosts is refused: set intercept.ca_dir in routes.yaml, or name the CA by --ca and --bundle")
	case r.bundle == "":
		out = append(out, "without --bundle only Node trusts the CA: gateway ca export --bundle --out FILE makes one, --bundle FILE names it")
	}
	if r.java && r.store == "" {
		out = append(out, "without --p12 Java does not trust the CA: gateway ca export --p12 --out FILE makes its store, --p12 FILE names it")
	}
	if r.java && r.proxy.User != nil {
		out = append(out, "Java sends no key to a proxy by itself: have the gateway know such programs by uid, or have them install a java.net.Authenticator")
	}
	if table != nil {
		out = append(out, bypasses(inheritedExceptions(r.inherited), table)...)
	}
	return out
}

// identify puts the caller into the proxy's URL: words that stand for it, or
// with --key-file the caller itself.
func (f envFlags) identify(r *reach, table *routes.Table) error {
	if f.keyFile == "" {
		if r.proxy.User == nil && table != nil && table.Callers != nil {
			r.proxy.User = url.UserPassword("NAME", "KEY")
		}
		return nil
	}
	b, err := secrets.ReadFile(f.keyFile)
	if err != nil {
		return fmt.Errorf("--key-file: %w", err)
	}
	key := string(bytes.TrimSpace(b))
	if !callerName(f.as) {
		return fmt.Errorf("--as %q is no name of a caller", f.as)
	}
	if key == "" || strings.Trim(key, urlSafe) != "" {
		return errors.New("--key-file: it holds no key as gateway keygen prints it: letters, digits, - and _ alone, since not every client decodes others")
	}
	r.proxy.User = url.UserPassword(f.as, key)
	return nil
}

// urlSafe is the alphabet of RFC 4648 §5, which needs no escaping in a URL.
const urlSafe = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

// proxyURL is that of --proxy, else where the file listens.
func (f envFlags) proxyURL(table *routes.Table) (*url.URL, error) {
	if f.proxy == "" {
		return listenURL(table.Listen)
	}
	u, err := url.Parse(f.proxy)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.Port() == "" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" {
		return nil, errors.New("--proxy: want http://HOST:PORT, or https:// where the port has TLS") // its text may hold a key
	}
	if u.User != nil {
		return nil, errors.New("--proxy: the key has no place in a command line, where others see it; use --as and --key-file")
	}
	u.Path = ""
	return u, nil
}

// listenURL is how programs call a gateway that listens as l says.
func listenURL(l routes.Listen) (*url.URL, error) {
	host, port, err := net.SplitHostPort(l.Proxy)
	if err != nil || strings.HasPrefix(l.Proxy, "unix:") {
		return nil, fmt.Errorf("listen.proxy is %s, which programs cannot have as their proxy; name a port by --proxy http://HOST:PORT", l.Proxy)
	}
	u := &url.URL{Scheme: "http", Host: l.Proxy}
	if l.TLS != nil {
		u.Scheme = "https"
	}
	ip, err := netip.ParseAddr(host)
	if anywhere := host == "" || err == nil && ip.IsUnspecified(); !anywhere && port != "0" && (l.TLS == nil || l.TLS.ACME == nil) {
		return u, nil
	}
	switch {
	case port == "0":
	case l.TLS != nil && l.TLS.ACME != nil:
		u.Host = net.JoinHostPort(l.TLS.ACME.Domains[0], port)
		return u, nil
	case len(l.Hosts) > 0:
		u.Host = l.Hosts[0]
		if _, _, err := net.SplitHostPort(u.Host); err != nil {
			u.Host = net.JoinHostPort(u.Host, port)
		}
		return u, nil
	}
	return nil, fmt.Errorf("listen.proxy is %s, which does not say where programs find it; say so by --proxy http://HOST:PORT", l.Proxy)
}

func formatNames() []string { return []string{"shell", "docker", "systemd", "kubernetes", "json"} }

// envFormats are the writers of --format.
func envFormats() map[string]func([]variable) ([]byte, error) {
	all := map[string]func([]variable) ([]byte, error){
		"shell": shellFormat, "docker": dockerFormat, "systemd": systemdFormat, "kubernetes": kubernetesFormat, "json": jsonFormat,
	}
	for name, write := range all {
		all[name] = func(vs []variable) ([]byte, error) {
			for _, v := range vs {
				if strings.ContainsFunc(v.value, func(c rune) bool { return c < ' ' || c == 0x7f }) {
					return nil, fmt.Errorf("%s: its value would hold a control character; mend the path or the variable that it comes from", v.name)
				}
			}
			return write(slices.Clone(vs))
		}
	}
	return all
}
