package main

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/seed-13b04e61/gateway/certs"
	"github.com/spf13/cobra"
)

func newCA(s std) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "ca",
		Short: "Make, export and show the CA that the tunnel door signs with",
		Long: `The tunnel door ends the TLS of calls to routed hosts with certificates of a CA of
the gateway's own, kept in intercept.ca_dir. It can speak for the routed hosts and
nothing else, and the key of its root is gone once it has signed. gateway serve
makes it by itself and renews it when the routed hosts change.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newCAInit(s), newCAExport(s), newCAShow(s))
	return cmd
}

// caFolder is where a command looks for the CA.
type caFolder struct {
	config config
	dir    string // of --ca-dir; "" is intercept.ca_dir
}

func (f *caFolder) flag(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.dir, "ca-dir", "", "folder of the CA, instead of intercept.ca_dir")
	_ = cmd.MarkFlagDirname("ca-dir") // there is one
}

// errNoFile is that hosts are not known, which matters to some alone.
var errNoFile = errors.New("there is no routes.yaml")

// open returns the folder, and the hosts that routes.yaml has intercepted. With
// --ca-dir a routes.yaml that nobody named may be absent, which is [errNoFile].
func (f *caFolder) open() (dir string, hosts []string, err error) {
	file, err := f.config.open()
	if err != nil {
		if f.dir != "" && f.config.path == "" && errors.Is(err, os.ErrNotExist) {
			return f.dir, nil, errNoFile
		}
		return f.dir, nil, err
	}
	t := file.Table()
	if dir = f.dir; dir == "" {
		if t.Intercept == nil {
			return "", nil, fmt.Errorf("%s names no folder for a CA; add intercept: {ca_dir: /var/lib/gateway/ca}, or type --ca-dir", t.Name)
		}
		dir = t.Intercept.CADir
	}
	return dir, t.InterceptedHosts(), nil
}

func newCAInit(s std) *cobra.Command {
	var f caFolder
	var force bool
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Make the interception CA, for the hosts that routes.yaml routes",
		Long: `Makes the interception CA for the hosts that routes.yaml routes, in the folder that
it names: root.pem, issuing.pem and issuing.key. Run it as the gateway's own user.
One that is there already is left alone; with --force it is done away with, and
clients refuse the gateway until they trust the new root.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			f.config = configOf(cmd)
			return no(caInit(f, force, s))
		},
	}
	f.flag(cmd)
	cmd.Flags().BoolVar(&force, "force", false, "do away with the CA that is there")
	return cmd
}

func caInit(f caFolder, force bool, s std) error {
	dir, hosts, err := f.open()
	if err != nil {
		return err
	}
	ca, err := certs.CreateCA(dir, hosts, force)
	if errors.Is(err, certs.ErrCAExists) {
		return fmt.Errorf("%w; gateway serve renews it by itself, and gateway ca show tells about it; to begin anew type --force, and give clients the new root", err)
	}
	if err != nil {
		return err
	}
	g := ca.Generations()[0]
	fmt.Fprintf(s.out, "made     %s\nroot     %s\nsha256   %s\nuntil    %s\ncovers   %s\n",
		dir, g.Root.Subject.CommonName, fingerprint(g.Root), day(g.Root.NotAfter), strings.Join(hosts, ", "))
	fmt.Fprintf(s.err, "Have clients trust it: gateway ca export (docs/interception.md). A gateway that runs takes it with gateway reload.\n")
	return nil
}

// caExport is how roots are given out.
type caExport struct {
	folder       caFolder
	out          string
	passwordFile string
	bundle, p12  bool
	force        bool
}

func newCAExport(s std) *cobra.Command {
	var f caExport
	cmd := &cobra.Command{
		Use:   "export",
		Short: "Print the root that clients have to trust, as PEM, bundle or Java trust store",
		Long: `Prints the roots in force as PEM, the newest first: what clients have to trust.
Most runtimes take one file instead of the system's roots, so that it has to hold
both: --bundle adds those of the system, and of the files that SSL_CERT_FILE,
REQUESTS_CA_BUNDLE, NODE_EXTRA_CA_CERTS and their like name here. --p12 writes both
as a trust store for Java. No key is ever exported.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			f.folder.config = configOf(cmd)
			switch {
			case f.p12 && f.out == "":
				return errors.New("--p12 is no text; name a file for it: --out trust.p12")
			case f.passwordFile != "" && !f.p12:
				return errors.New("--password-file is of a trust store; add --p12, or leave it out")
			case f.force && f.out == "":
				return errors.New("--force is about a file that is there; add --out, or leave it out")
			}
			return no(f.run(s))
		},
	}
	f.folder.flag(cmd)
	cmd.Flags().StringVar(&f.out, "out", "", "write to this file, which must not be there yet, instead of stdout")
	cmd.Flags().BoolVar(&f.force, "force", false, "write over the file of --out")
	cmd.Flags().BoolVar(&f.bundle, "bundle", false, "add the system's roots")
	cmd.Flags().BoolVar(&f.p12, "p12", false, "write a PKCS#12 trust store for Java, with the system's roots")
	cmd.Flags().StringVar(&f.passwordFile, "password-file", "", "file with the trust store's password ("+certs.TrustStorePassword+" unless set)")
	return cmd
}

func (f caExport) run(s std) error {
	dir := f.folder.dir
	if dir == "" {
		var err error
		if dir, _, err = f.folder.open(); err != nil {
			return err
		}
	}
	ca, err := readCA(dir)
	if err != nil {
		return err
	}
	var system []*x509.Certificate
	what := fmt.Sprintf("%d of the gateway's roots", len(ca.Roots()))
	if f.bundle || f.p12 {
		var from []string
		if system, from, err = certs.SystemRoots(os.LookupEnv); err != nil {
			return err
		}
		what += fmt.Sprintf(" and %d from %s", len(system), strings.Join(from, ", "))
	}
	content := ca.Bundle(system)
	if f.p12 {
		password, err := f.password()
		if err != nil {
			return err
		}
		if content, err = ca.TrustStore(system, password); err != nil {
			return err
		}
	}
	if f.out == "" {
		_, err := s.out.Write(content)
		return err
	}
	if err := writeExport(f.out, content, f.force); err != nil {
		return err
	}
	fmt.Fprintf(s.err, "%s holds %s\n", f.out, what)
	return nil
}

// readCA reads what clients trust, or says how to get a CA.
func readCA(dir string) (*certs.CA, error) {
	ca, err := certs.ReadCA(dir)
	if errors.Is(err, certs.ErrNoCA) {
		return nil, fmt.Errorf("%w; gateway ca init makes it, and so does gateway serve", err)
	}
	return ca, err
}

// maxPassword bounds a password file, in bytes.
const maxPassword = 1 << 10

// password is that of the trust store, which guards nothing but its format.
func (f caExport) password() (string, error) {
	if f.passwordFile == "" {
		return certs.TrustStorePassword, nil
	}
	file, err := os.Open(f.passwordFile)
	if err != nil {
		return "", fmt.Errorf("--password-file: %w", err)
	}
	defer file.Close()
	b, err := io.ReadAll(io.LimitReader(file, maxPassword+1))
	if err != nil {
		return "", fmt.Errorf("--password-file: %w", err)
	}
	password := strings.TrimRight(string(b), "\r\n")
	if len(password) < 6 || len(b) > maxPassword {
		return "", fmt.Errorf("--password-file %s: want a password of 6 to %d characters, which keytool asks for", f.passwordFile, maxPassword)
	}
	return password, nil
}

// writeExport writes a file at once, over one that is there only with force.
func writeExport(path string, content []byte, force bool) error {
	if !force {
		file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
		if errors.Is(err, os.ErrExist) {
			return fmt.Errorf("%s is there already; name another file, or type --force to write over it", path)
		}
		if err != nil {
			return fmt.Errorf("--out: %w", err)
		}
		_, err = file.Write(content)
		if err = errors.Join(err, file.Close()); err != nil {
			_ = os.Remove(path)
		}
		return err
	}
	next, err := os.CreateTemp(filepath.Dir(path), ".export-*")
	if err != nil {
		return fmt.Errorf("--out: %w", err)
	}
	_, err = next.Write(content)
	err = errors.Join(err, next.Chmod(0o644), next.Close())
	if err == nil {
		err = os.Rename(next.Name(), path)
	}
	if err != nil {
		_ = os.Remove(next.Name())
	}
	return err
}

// caReport is what ca show --json prints.
type caReport struct {
	Dir         string           `json:"dir"`
	KeyMode     string           `json:"key_mode"` // of issuing.key, in octal
	Generations []generationJSON `json:"generations"`
	Routes      *caRoutes        `json:"routes,omitempty"` // absent: no routes.yaml to compare with
}

type generationJSON struct {
	Root      string    `json:"root"`
	SHA256    string    `json:"sha256"` // of the root
	Issuing   string    `json:"issuing"`
	NotBefore time.Time `json:"not_before"`
	NotAfter  time.Time `json:"not_after"`
	Permitted []string  `json:"permitted"` // each with all names below it
}

// caRoutes compares the newest CA with routes.yaml.
type caRoutes struct {
	Hosts   []string `json:"hosts"`
	Covered bool     `json:"covered"` // no new root is needed
	Added   []string `json:"added"`   // hosts that the newest CA does not permit
	Removed []string `json:"removed"` // what it permits, and no route has
}

func newCAShow(s std) *cobra.Command {
	var f caFolder
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "show",
		Short: "Show the interception CA: what it covers, fingerprints, validity, and what routes.yaml changes",
		Long: `Shows the CAs in force, the newest first: their roots' SHA-256 fingerprints, the
names that their constraints permit, and how long they last; and what has changed
in routes.yaml since, for which gateway serve makes a new root. A host goes on
being signed for by the oldest CA that permits it.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			f.config = configOf(cmd)
			return no(caShow(f, asJSON, s))
		},
	}
	f.flag(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func caShow(f caFolder, asJSON bool, s std) error {
	dir, hosts, err := f.open()
	if err != nil && !errors.Is(err, errNoFile) {
		return err
	}
	known := err == nil
	ca, err := readCA(dir)
	if err != nil {
		return err
	}
	report := caReport{Dir: dir, KeyMode: keyMode(dir)}
	for _, g := range ca.Generations() {
		report.Generations = append(report.Generations, generationJSON{
			Root: g.Root.Subject.CommonName, SHA256: fingerprint(g.Root), Issuing: g.Issuing.Subject.CommonName,
			NotBefore: g.Root.NotBefore, NotAfter: g.Root.NotAfter, Permitted: g.Permitted,
		})
	}
	if known {
		report.Routes = compareCA(ca, hosts)
	}
	if asJSON {
		return printJSON(s.out, report)
	}
	report.print(s.out)
	return nil
}

// compareCA tells what of hosts the newest CA does not permit, and the reverse.
func compareCA(ca *certs.CA, hosts []string) *caRoutes {
	r := &caRoutes{Hosts: hosts, Covered: ca.Fits(hosts), Added: []string{}, Removed: []string{}}
	permitted := ca.Generations()[0].Permitted
	var names []string
	for _, h := range hosts {
		name := strings.TrimPrefix(h, "*.")
		names = append(names, name)
		if !slices.Contains(permitted, name) {
			r.Added = append(r.Added, h)
		}
	}
	for _, p := range permitted {
		if !slices.Contains(names, p) {
			r.Removed = append(r.Removed, p)
		}
	}
	return r
}

func (r caReport) print(w io.Writer) {
	fmt.Fprintf(w, "folder   %s (issuing.key %s)\n", r.Dir, r.KeyMode)
	for _, g := range r.Generations {
		fmt.Fprintf(w, "root     %s\n  sha256 %s\n  valid  %s to %s\n  covers %s\n", g.Root, g.SHA256, day(g.NotBefore), day(g.NotAfter), strings.Join(g.Permitted, ", "))
	}
	if r.Routes == nil {
		return
	}
	if r.Routes.Covered {
		fmt.Fprintln(w, "routes   routes.yaml has just these hosts")
		return
	}
	if len(r.Routes.Added)+len(r.Routes.Removed) == 0 {
		fmt.Fprintln(w, "routes   routes.yaml has just these hosts, and two thirds of the CA's life are over")
	}
	for _, h := range r.Routes.Added {
		fmt.Fprintf(w, "routes   + %s\n", h)
	}
	for _, h := range r.Routes.Removed {
		fmt.Fprintf(w, "routes   - %s\n", h)
	}
	fmt.Fprintln(w, "next     gateway serve makes a new root for it, and clients have to trust that one too: gateway ca export")
}
