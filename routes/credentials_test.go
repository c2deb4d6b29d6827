package routes_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/seed-13b04e61/gateway/routes"
)

// secretPlaces are where a file may name a secret, each with one %s for what
// the operator wrote there; indentation is of six spaces.
func secretPlaces() []string {
	const entra = "version: 1\ncredentials:\n  a:\n    tenant_id: common\n    client_id: x\n    "
	const rest = "\n    cae: false\nroutes: [{preset: graph}]\n"
	return []string{
		entra + "client_secret: %s" + rest,
		entra + "client_certificate:\n      file: c.pfx\n      password: %s" + rest,
		entra + "federated_token:\n     url:\n      address: https://t.example\n      secret: %s" + rest,
		entra + "federated_token: %s" + rest,
		entra + "federated_token:\n      exec: %s" + rest,
		"version: 1\ncallers:\n  a:\n    uid: 1\n    api_key: %s\n    tenants: [a.b]\nroutes: [{preset: graph}]\n",
		"version: 1\ncallers:\n  a:\n    api_key:\n      sha256: %s\nroutes: [{preset: graph}]\n",
		"version: 2\nlisten:\n    admin_key: %s\nroutes: [{preset: graph}]\n",
		"version: 1\nsql:\n  - name: a\n    user: sa\n    password: %s\n    server: tcp:a.b\n",
		"version: 1\ncredentials:\n  a:\n    issuer: http://idp.example\n    client_id: x\n    client_key: %s" + rest,
	}
}

// Wherever a secret may be named, and however a literal stands there, no part
// of it is shown, be it in a mistake or in a warning.
func TestSecretsAreNeverRepeatedWhereverTheyMayBeNamed(t *testing.T) {
	for _, place := range secretPlaces() {
		for _, form := range secretForms() {
			src := fmt.Sprintf(place, form)
			_, err := routes.Parse("routes.yaml", []byte(src), nil)
			if err == nil {
				t.Errorf("Parse(%q) accepted it", src)
				continue
			}
			for _, part := range []string{marker, "qqsecondqq"} {
				if strings.Contains(err.Error(), part) {
					t.Errorf("Parse(%q) repeats %s:\n%v", src, part, err)
				}
			}
		}
	}
}

const commands = `version: 1
credentials:
  default:
    tenant_id: contoso.com
    client_id: 00001111-aaaa-2222-bbbb-3333cccc4444
    client_secret: {exec: [/usr/bin/print, "--key=qqMARKERqq", "${HOME}"]}
  other:
    tenant_id: contoso.com
    client_id: 00001111-aaaa-2222-bbbb-3333cccc4444
    federated_token: {exec: /usr/bin/print}
    fallback: default
routes: [{preset: graph}, {preset: arm, credential: other}]
`

func TestCommandsAreRunOnlyWithTheOperatorsLeave(t *testing.T) {
	path := filepath.Join(t.TempDir(), "routes.yaml")
	write(t, path, commands)
	for _, leave := range []bool{false, true} {
		var opts []routes.Option
		if leave {
			opts = append(opts, routes.AllowExec())
		}
		table, err := routes.Load(path, nil, opts...)
		if err != nil {
			t.Fatal(err)
		}
		secret, token := table.Credentials[0].ClientSecret, table.Credentials[1].FederatedToken.Exec
		if secret.MayRun != leave || token.MayRun != leave {
			t.Errorf("MayRun = %t, %t, want %t", secret.MayRun, token.MayRun, leave)
		}
		if want := []string{"/usr/bin/print", "--key=qqMARKERqq", "${HOME}"}; !slices.Equal(secret.Exec, want) {
			t.Errorf("Exec = %q, want %q: nothing in it is replaced", secret.Exec, want)
		}
		if want := map[bool]int{true: 0, false: 2}[leave]; len(table.Warnings) != want {
			t.Errorf("Warnings = %v, want %d", table.Warnings, want)
		}
		for _, w := range table.Warnings {
			if text := w.Error(); !strings.Contains(text, "--allow-exec") || strings.Contains(text, marker) || strings.Contains(text, "print") {
				t.Errorf("warning %q, want the flag and no word of the command", text)
			}
		}
	}
}

// claiming is a file with these assertion claims.
func claiming(claims string) []byte {
	return []byte("version: 1\ncredentials:\n  a:\n    tenant_id: a.b\n    client_id: c\n    client_certificate: {file: f}\n    assertion_claims:\n" +
		claims + "\nroutes: [{preset: graph}]\n")
}

func TestAssertionClaimsAreValuesOfJSON(t *testing.T) {
	table, err := routes.Parse("f", claiming("      <<: {a: 1}\n      b: [true, False, \"1\", -2.5, 0x10, {c: d}]"), nil)
	if err != nil {
		t.Fatal(err)
	}
	const want = "map[a:1 b:[true false 1 -2.5 16 map[c:d]]]"
	if got := fmt.Sprint(table.Credentials[0].AssertionClaims); got != want {
		t.Errorf("AssertionClaims = %s, want %s", got, want)
	}
	list := table.Credentials[0].AssertionClaims["b"].([]any)
	if _, text := list[2].(string); !text {
		t.Errorf("a number in quotes = %T, want a string", list[2])
	}
	if _, number := list[4].(float64); !number {
		t.Errorf("a number = %T, want a float64 as encoding/json has it", list[4])
	}
}

// Lists of aliases to lists of aliases can stand for billions of claims, and
// an anchor may even hold itself.
func TestAssertionClaimsAreBounded(t *testing.T) {
	var bomb strings.Builder
	bomb.WriteString("      a0: &a0 [x, x, x, x, x, x, x, x, x, x, x, x]\n")
	for i := 1; i < 7; i++ {
		fmt.Fprintf(&bomb, "      a%d: &a%d [%s]\n", i, i, strings.Repeat(fmt.Sprintf("*a%d, ", i-1), 12))
	}
	for name, claims := range map[string]string{
		"aliases": bomb.String(),
		"long":    "      a: " + strings.Repeat("x", 4<<10),
		"many":    "      a: [" + strings.Repeat("1, ", 3000) + "]",
		"names":   "      " + strings.Repeat("n", 1000) + ": 1\n      a: " + strings.Repeat("<", 600),
	} {
		_, err := routes.Parse("f", claiming(claims), nil)
		if err == nil || !strings.Contains(err.Error(), "more than 4096 bytes") {
			t.Errorf("Parse() of %s = %.300v, want one about the size", name, err)
		}
	}
	for name, claims := range map[string]string{
		"a list that holds itself":    "      a: &a [*a]",
		"thousands of repeated names": "      m: &m {" + strings.Repeat("k: 1, ", 1000) + "}\n      a: [" + strings.Repeat("*m, ", 1000) + "]",
	} {
		if _, err := routes.Parse("f", claiming(claims), nil); err == nil {
			t.Errorf("Parse() accepted %s", name)
		}
	}
}

func TestEveryFileOfACredentialIsListed(t *testing.T) {
	src := `version: 1
credentials:
  default: {tenant_id: a.b, client_id: c, client_certificate: {file: 1, key_file: 2, password: {file: 3}}, ca_file: 4}
  b: {tenant_id: a.b, client_id: c, client_secret: {file: 5}}
  c: {tenant_id: a.b, client_id: c, federated_token: {file: 6}}
  d: {tenant_id: a.b, client_id: c, federated_token: {url: {address: "https://t.example", secret: {file: 7}}}}
  e: {issuer: "https://i.example", client_id: c, client_key: {file: 8}}
routes: [{preset: graph}]
`
	table, err := routes.Parse("0", []byte(src), nil)
	if err != nil {
		t.Fatal(err)
	}
	got := slices.Sorted(slices.Values(table.Files()))
	if want := strings.Fields("0 1 2 3 4 5 6 7 8"); !slices.Equal(got, want) {
		t.Errorf("Files() = %q, want %q, each once", got, want)
	}
}

// The golden files hold wrong credentials by the dozen; each is told with its
// line, its field, its cause and what to do next.
func TestEveryWrongCredentialIsToldWithPlaceCauseAndNextStep(t *testing.T) {
	names, err := filepath.Glob("testdata/bad-*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	wrong := map[string]bool{}
	for _, name := range names {
		archive, err := txtar.ParseFile(name)
		if err != nil {
			t.Fatal(err)
		}
		_, err = routes.Parse(name, archive.Files[0].Data, nil)
		var ms routes.Mistakes
		if !errors.As(err, &ms) {
			t.Fatalf("Parse() of %s = %v, want Mistakes", name, err)
		}
		for _, m := range ms {
			if !strings.HasPrefix(m.Field, "credentials") {
				continue
			}
			wrong[m.Message] = true
			if m.Line == 0 || m.Column == 0 || m.Excerpt == "" || m.Message == "" || m.Remedy == "" {
				t.Errorf("%s: incomplete mistake %+v", name, m)
			}
		}
	}
	if len(wrong) < 60 {
		t.Errorf("the golden files show %d kinds of wrong credentials, want at least 60", len(wrong))
	}
}
