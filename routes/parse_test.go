package routes_test

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/seed-13b04e61/gateway/routes"
)

var update = flag.Bool("update", false, "rewrite testdata/*.txtar to what the parser says now")

// Each archive holds routes.yaml, an optional env of NAME=value lines, and want:
// the table and its warnings, or the mistakes, exactly.
func TestFilesReadAsTheirArchivesSay(t *testing.T) {
	names, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(names) == 0 {
		t.Fatalf("no archives: %v", err)
	}
	for _, name := range names {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(name)
			if err != nil {
				t.Fatal(err)
			}
			part := map[string]string{}
			for _, f := range archive.Files {
				part[f.Name] = string(f.Data)
			}
			got := outcome([]byte(part["routes.yaml"]), environment(part["env"]))
			if *update {
				rewrite(t, name, archive, got)
				return
			}
			if got != part["want"] {
				t.Errorf("Parse() of %s =\n%s\nwant\n%s", name, got, part["want"])
			}
			mistaken := !strings.HasPrefix(got, "credential ")
			if invalid := strings.HasPrefix(filepath.Base(name), "bad-"); invalid != mistaken {
				t.Errorf("an archive is named bad-… exactly if its file is refused; %s is not", name)
			}
		})
	}
}

func rewrite(t *testing.T, name string, archive *txtar.Archive, got string) {
	t.Helper()
	var kept []txtar.File
	for _, f := range archive.Files {
		if f.Name != "want" {
			kept = append(kept, f)
		}
	}
	archive.Files = append(kept, txtar.File{Name: "want", Data: []byte(got)})
	if err := os.WriteFile(name, txtar.Format(archive), 0o644); err != nil {
		t.Fatal(err)
	}
}

func environment(text string) routes.Env {
	vars := map[string]string{}
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "="); ok {
			vars[name] = value
		}
	}
	return func(name string) (string, bool) { v, ok := vars[name]; return v, ok }
}

// outcome is all that a reading of src yields, as text.
func outcome(src []byte, env routes.Env) string {
	table, err := routes.Parse("routes.yaml", src, env)
	if err != nil {
		return err.Error() + "\n"
	}
	var b strings.Builder
	for _, c := range table.Credentials {
		fmt.Fprintf(&b, "credential %s line %d: %s client %s", c.Name, c.Line, c.Endpoint(), c.ClientID)
		show(&b, "cloud", c.Cloud)
		show(&b, "secret", c.ClientSecret.String())
		showProof(&b, c)
		show(&b, "method", c.AuthMethod)
		show(&b, "params", fmt.Sprint(c.TokenParams))
		show(&b, "ca", c.CAFile)
		show(&b, "origin", c.Origin)
		show(&b, "missing", c.Missing)
		show(&b, "fallback", c.Fallback)
		if c.CAE {
			show(&b, "cae", "declared")
		}
		b.WriteString("\n")
	}
	for _, c := range table.Callers {
		showCaller(&b, c)
	}
	for _, r := range table.Routes {
		fmt.Fprintf(&b, "route %s line %d: %v credential %s", r.Name, r.Line, r.Hosts, r.Credential.Name)
		show(&b, "preset", r.Preset)
		show(&b, "scope", r.Scope)
		if r.Upstream != nil {
			show(&b, "upstream", r.Upstream.String())
		}
		show(&b, "mount", r.Mount)
		show(&b, "tls", strings.Trim(fmt.Sprint(r.TLS), "{} "))
		show(&b, "inject", r.Inject.Header+": "+r.Inject.Format)
		show(&b, "set", fmt.Sprint(r.SetHeaders))
		showPolicy(&b, r)
		fmt.Fprintf(&b, "\n  replay %d response header %s cookies pass %t\n", r.Replay, r.ResponseHeaderTimeout, r.CookiesPass)
	}
	for _, d := range table.SQL {
		showSQL(&b, d)
	}
	showListen(&b, table)
	fmt.Fprintf(&b, "cache %+v\nlog %+v\n", table.Cache, table.Log)
	showEgress(&b, table)
	fmt.Fprintf(&b, "files %v\n", table.Files())
	for _, w := range table.Warnings {
		fmt.Fprintf(&b, "warning: %s\n", w.Error())
	}
	return b.String()
}

// showProof prints all that a credential proves itself with, the secret apart.
func showProof(b *strings.Builder, c *routes.Credential) {
	show(b, "issuer", c.Issuer)
	if x := c.ClientCertificate; x != nil {
		show(b, "certificate", x.File+" key "+x.KeyFile)
		show(b, "  password", x.Password.String())
		if x.SendChain {
			show(b, "  chain", "sent")
		}
	}
	if x := c.ClientKey; x != nil {
		show(b, "key", fmt.Sprintf("%s kid %q alg %q", x.File, x.KID, x.Alg))
	}
	if x := c.ManagedIdentity; x != nil {
		show(b, "managed identity", fmt.Sprintf("%+v", *x))
	}
	if c.AssertionClaims != nil {
		text, _ := json.Marshal(c.AssertionClaims)
		show(b, "claims", string(text))
	}
	x := c.FederatedToken
	if x == nil {
		return
	}
	show(b, "federated", strings.TrimSpace(x.File+" for "+x.Audience))
	show(b, "  exec", strings.Join(x.Exec.Exec, " "))
	switch {
	case x.ManagedIdentity != nil:
		show(b, "  managed identity", fmt.Sprintf("%+v", *x.ManagedIdentity))
	case x.URL != nil:
		show(b, "  url", fmt.Sprintf("%s header %s: %s secret %s member %s", x.URL.Address, x.URL.Header, x.URL.Format, x.URL.Secret, x.URL.Member))
	case x.GCP != nil:
		show(b, "  gcp", x.GCP.ServiceAccount)
	case x.IdentityBinding:
		show(b, "  binding", "by the token proxy")
	}
}

func show(b *strings.Builder, what, value string) {
	if value != "" && value != "none" && value != "[]" {
		fmt.Fprintf(b, "\n  %s %s", what, value)
	}
}

func TestTheContractsOwnMistakeIsPrintedToTheLetter(t *testing.T) {
	src := `version: 1
credentials:
  default:
    tenant_id: contoso.onmicrosoft.com
    client_id: 00001111-aaaa-2222-bbbb-3333cccc4444
    client_secret: {env: S}

# two routes
routes:
  - preset: graph
  - name: db

    hosts: [orders.contoso.com]
    scope: https://database.windows.net/.default
`
	const want = `routes.yaml:14:5: routes[1].scope: "https://database.windows.net/.default" asks for the wrong audience
   | 14 |     scope: https://database.windows.net/.default
   |          ^
   Azure SQL's audience ends in a slash; write https://database.windows.net//.default
1 mistake`
	_, err := routes.Parse("routes.yaml", []byte(src), nil)
	if err == nil {
		t.Fatal("Parse() accepted the wrong audience")
	}
	if err.Error() != want {
		t.Errorf("Parse() error =\n%s\nwant\n%s", err, want)
	}
}

func TestMistakesAreATypeWithPlaces(t *testing.T) {
	_, err := routes.Parse("f.yaml", []byte("version: 2\nfoo: 1\nroutes: [{preset: graph}]\n"), nil)
	var ms routes.Mistakes
	if !errors.As(err, &ms) || len(ms) != 2 {
		t.Fatalf("Parse() error = %v, want two Mistakes", err)
	}
	if ms[0].Line != 1 || ms[1].Line != 2 || ms[1].Column != 1 || ms[0].Field != "version" || ms[0].Remedy == "" {
		t.Errorf("mistakes = %+v", ms)
	}
}

// A handful of anchors can stand for billions of values.
func TestAliasesCannotExplode(t *testing.T) {
	var b strings.Builder
	b.WriteString("version: 1\nx-0: &a0 {scope: s}\n")
	for i := 1; i < 30; i++ {
		fmt.Fprintf(&b, "x-%d: &a%d {<<: [*a%d, *a%d, *a%d, *a%d]}\n", i, i, i-1, i-1, i-1, i-1)
	}
	b.WriteString("x-self: &self {<<: *self}\nroutes:\n  - {<<: *a29, name: a}\n  - {<<: *self, name: b}\n")
	if _, err := routes.Parse("routes.yaml", []byte(b.String()), nil); err == nil {
		t.Error("Parse() accepted merges without end")
	}
}

func TestWhatHidesInVariablesIsNeverRepeated(t *testing.T) {
	const hidden = "s3cr3t-from-the-environment!"
	env := func(string) (string, bool) { return hidden, true }
	head := "version: 1\ncredentials:\n  a:\n    client_secret: {env: S}\n    client_id: x\n    "
	for _, src := range []string{
		head + "tenant_id: ${X}\nroutes: [{preset: graph}]\n",
		head + "tenant_id: a.b\n    authority_host: https://${X}\nroutes: [{preset: graph}]\n",
		head + "token_endpoint: https://${X}/\nroutes: [{preset: graph}]\n",
		head + "tenant_id: a.b\n    cloud: ${X}\nroutes: [{preset: '${X}'}]\n",
		head + "tenant_id: a.b\nroutes: [{name: '${X}', hosts: ['${X}'], scope: '${X}', credential: '${X}', mount: '${X}', upstream: 'https://${X}'}]\n",
		head + "tenant_id: a.b\nroutes: [{name: a, hosts: [a.b.com], scope: '${X}', mount: '${X}', cookies: '${X}', mode: '${X}', tls: {server_name: '${X}'}}]\n",
		head + "tenant_id: a.b\nlisten: {proxy: '${X}', hosts: ['${X}']}\negress: {proxy: {url: '${X}', bypass: ['${X}/']}}\nroutes: [{preset: graph, retry: {replay: '${X}'}, inject: {header: '${X}', format: '${X}'}}]\n",
	} {
		_, err := routes.Parse("routes.yaml", []byte(src), env)
		if err == nil {
			t.Errorf("Parse(%q) accepted it", src)
		} else if strings.Contains(err.Error(), hidden) {
			t.Errorf("Parse(%q) repeats what the variable holds:\n%v", src, err)
		}
	}
}

// Wherever a literal secret stands, and however it is written, no part of it is
// shown.
func TestSecretsInTheFileAreNeverRepeated(t *testing.T) {
	for _, form := range secretForms() {
		src := "version: 1\ncredentials:\n  a:\n    tenant_id: common\n    client_secret: " + form + "\n    client_id: x\nroutes: [{preset: graph}]\n"
		_, err := routes.Parse("routes.yaml", []byte(src), nil)
		if err == nil {
			t.Errorf("Parse() accepted client_secret: %s", form)
			continue
		}
		for _, part := range []string{marker, "qqsecondqq"} {
			if strings.Contains(err.Error(), part) {
				t.Errorf("Parse() repeats %s of client_secret: %s\n%v", part, form, err)
			}
		}
	}
}

// marker is a secret that no message may hold.
const marker = "qqMARKERqq"

// secretForms are ways to write a literal where a reference belongs, the last
// few of them no YAML at all.
func secretForms() []string {
	return []string{
		marker, `"` + marker + `"`, "'" + marker + "'", "|\n      " + marker + "\n      qqsecondqq", ">-\n      " + marker + "\n\n      qqsecondqq",
		marker + "\n      qqsecondqq", "[" + marker + ", qqsecondqq]", "\n      - " + marker + "\n      - qqsecondqq", "{" + marker + "}",
		"{" + marker + ": qqsecondqq}", "{env: " + marker + "-!}", "{env: A, file: " + marker + "}", "{file: [" + marker + "]}",
		"{env: '${" + marker + "}'}", "&s " + marker + "\nx-again: *s\nx-b: {client_id: 1", "!!binary " + marker, "!" + marker + " qqsecondqq",
		"{? [" + marker + "] : qqsecondqq}", "{exec: [/bin/" + marker + "]}", "{evn: " + marker + "}",
		`"` + marker, "*" + marker, marker + ": qqsecondqq: x", "|\n  " + marker + "\n bad: [", "[" + marker, "{file: " + marker, "@" + marker, "\"\n      " + marker + "\\q\"",
	}
}
