package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/seed-13b04e61/gateway/routes"
	"github.com/spf13/cobra"
)

// initFlags are the flags of init.
type initFlags struct {
	path    string // of --config; - prints
	from    string // env, or an appsettings.json
	presets []string
	hosts   []string
}

func newInit(s std) *cobra.Command {
	var f initFlags
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Write a commented routes.yaml from the environment, an appsettings.json or presets",
		Long: `Writes a commented routes.yaml: the identity from the variables of Azure's SDKs
(AZURE_TENANT_ID and so on), or from the AzureAd section of an appsettings.json of
Microsoft.Identity.Web, whose downstream APIs become routes. A secret is never
copied: the file names the variable or file to put it into. Connection strings to Azure
SQL become SQL doors, of which server and database are copied. --preset adds routes for
well-known APIs (gateway presets lists them); --host names your servers of those
that everybody has one of, such as a vault.

The file goes where --config says, else to ./routes.yaml; --config - prints it. An
existing file is never overwritten.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			f.path = configOf(cmd).path
			return runInit(f, s)
		},
	}
	cmd.Flags().StringVar(&f.from, "from", "env", "where the identity comes from: env, or the path of an appsettings.json")
	cmd.Flags().StringArrayVar(&f.presets, "preset", nil, "a well-known API to make a route for; may stand several times")
	cmd.Flags().StringArrayVar(&f.hosts, "host", nil, "a host of a preset that needs one, such as my.vault.azure.net; may stand several times")
	_ = cmd.RegisterFlagCompletionFunc("preset", completePresets) // the flag is there
	return cmd
}

func runInit(f initFlags, s std) error {
	if f.path == "" {
		f.path = "routes.yaml"
	}
	var d *draft
	var err error
	if f.from == "env" {
		d = fromEnvironment(os.LookupEnv)
	} else if d, err = fromAppSettings(f.from, os.LookupEnv); err != nil {
		return no(err)
	}
	cloud, err := d.cloud(os.LookupEnv)
	if err != nil {
		return no(err)
	}
	if err := d.addPresets(f.presets, f.hosts, cloud); err != nil {
		return err // misuse
	}
	text, err := d.complete(f.path, schemaNear(f.path), os.LookupEnv)
	if err != nil {
		return no(err)
	}
	if f.path == "-" {
		_, err := fmt.Fprint(s.out, text)
		return no(err)
	}
	if err := writeNew(f.path, text); err != nil {
		return no(err)
	}
	_, err = fmt.Fprintf(s.err, "%s is written; see what it needs by  gateway check --config %s\n", f.path, f.path)
	return no(err)
}

// writeNew creates the file for its owner alone, and never overwrites one.
func writeNew(path, text string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s exists, and is never overwritten; name another file by --config, or print by --config -", path)
	}
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, os.Remove(path)) // half a file is none
	}
	return nil
}

// schemaNear is what the modeline of a file at path points to: a schema beside
// it, as gateway schema writes it, else the published one.
func schemaNear(path string) string {
	for _, near := range []string{"routes.schema.json", "docs/reference/routes.schema.json"} {
		if _, err := os.Stat(filepath.Join(filepath.Dir(path), near)); err == nil && path != "-" {
			return near
		}
	}
	return schemaURL
}

// cloud is that of the draft's credential, or of the environment's.
func (d *draft) cloud(env routes.Env) (string, error) {
	probe := draft{origin: d.origin, credentials: d.credentials}
	text, err := probe.complete("routes.yaml", schemaURL, env)
	if err != nil {
		return "", err
	}
	t, err := routes.Parse("routes.yaml", []byte(text), env)
	if err != nil {
		return "", err
	}
	return t.Routes[0].Credential.Cloud, nil
}

// publicLogin is the login host that needs no mention.
const publicLogin = "https://login.microsoftonline.com"

// fromEnvironment describes what the variables of Azure's SDKs say, by the rules
// of the credential that a file without credentials has.
func fromEnvironment(env routes.Env) *draft {
	d := &draft{origin: "the environment"}
	t, err := routes.Parse("env", []byte("version: 1\nroutes: [{preset: graph}]\n"), env)
	if err != nil { // a cloud without Graph, or a host that is none: check will name it
		d.identity = []string{"The identity comes from AZURE_TENANT_ID, AZURE_CLIENT_ID and one of AZURE_CLIENT_SECRET, AZURE_CLIENT_CERTIFICATE_PATH, AZURE_FEDERATED_TOKEN_FILE."}
		return d
	}
	c := t.Credentials[0]
	get := func(name string) string { v, _ := env(name); return v }
	switch {
	case c.Missing == "":
		it := item{name: "default", comments: []string{c.Origin}}
		it.pairs = append(identityPairs(c.TenantID, c.ClientID), proofPairs(c)...)
		it.pairs = append(it.pairs, cloudPairs(c.AuthorityHost)...)
		d.credentials = []item{it}
	case get("IDENTITY_ENDPOINT") != "" || get("MSI_ENDPOINT") != "":
		id := "{}"
		if v := get("AZURE_CLIENT_ID"); v != "" {
			id = "{client_id: " + scalar(v) + "}"
		}
		d.credentials = []item{{name: "default", comments: []string{"This host has a managed identity."}, pairs: []pair{{key: "managed_identity", value: id}}}}
	default:
		d.identity = []string{
			"None are described here, so the variables of Azure's SDKs are used: AZURE_TENANT_ID, AZURE_CLIENT_ID and one of AZURE_CLIENT_SECRET, AZURE_CLIENT_CERTIFICATE_PATH, AZURE_FEDERATED_TOKEN_FILE.",
			"For now: " + c.Missing + ".",
		}
	}
	return d
}

// cloudPairs says where to ask: by the cloud's name if login is the host of
// one, and not at all for the public one and for "".
func cloudPairs(login string) []pair {
	switch login {
	case "", publicLogin:
		return nil
	case "https://login.microsoftonline.us":
		return []pair{{key: "cloud", value: "usgov", comment: "usgov-dod for the Department of Defense"}}
	case "https://login.partner.microsoftonline.cn":
		return []pair{{key: "cloud", value: "china"}}
	}
	return []pair{{key: "authority_host", value: scalar(login)}}
}

func identityPairs(tenant, client string) []pair {
	return []pair{
		{key: "tenant_id", value: scalar(tenant)},
		{key: "client_id", value: scalar(client)},
	}
}

// proofPairs writes what c proves itself with.
func proofPairs(c *routes.Credential) []pair {
	switch {
	case !c.ClientSecret.IsZero():
		return []pair{{key: "client_secret", value: "{env: " + c.ClientSecret.Env + "}"}}
	case c.ClientCertificate != nil:
		parts := []string{"file: " + scalar(c.ClientCertificate.File)}
		if c.ClientCertificate.Password.Env != "" {
			parts = append(parts, "password: {env: "+c.ClientCertificate.Password.Env+"}")
		}
		if c.ClientCertificate.SendChain {
			parts = append(parts, "send_chain: true")
		}
		return []pair{{key: "client_certificate", value: "{" + strings.Join(parts, ", ") + "}"}}
	case c.FederatedToken != nil:
		parts := []string{"file: " + scalar(c.FederatedToken.File)}
		if c.FederatedToken.IdentityBinding {
			parts = append(parts, "identity_binding: true")
		}
		return []pair{{key: "federated_token", value: "{" + strings.Join(parts, ", ") + "}"}}
	}
	return nil
}
