package main

import (
	"bytes"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/seed-13b04e61/gateway/admin"
	"github.com/seed-13b04e61/gateway/audit"
	"github.com/seed-13b04e61/gateway/routes"
	"github.com/seed-13b04e61/gateway/sandbox"
)

// TestAFallbackAlarmsAndShowsInMetricsAndReadiness has the secret refused and
// the certificate behind it taken.
func TestAFallbackAlarmsAndShowsInMetricsAndReadiness(t *testing.T) {
	world, err := sandbox.Start(sandbox.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer world.Close()
	dir := t.TempDir()
	leaf := pemCertificate(t, filepath.Join(dir, "app.pem"))
	if err := world.Entra.AddCertificate(sandbox.ClientID, leaf); err != nil {
		t.Fatal(err)
	}
	identity := fmt.Sprintf("tenant_id: %s, client_id: %s, authority_host: %q", sandbox.TenantDomain, sandbox.ClientID, world.Entra.URL())
	text := fmt.Sprintf("version: 1\ncredentials:\n  default: {%s, client_secret: {file: secret}, fallback: older}\n  older: {%s, client_certificate: {file: app.pem}}\nroutes:\n  - preset: graph\n", identity, identity)
	for name, content := range map[string]string{"routes.yaml": text, "secret": "wrong-wrong-wrong"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	file, err := routes.Open(filepath.Join(dir, "routes.yaml"), os.LookupEnv)
	if err != nil {
		t.Fatal(err)
	}
	var logged bytes.Buffer
	log, err := audit.NewLog(&logged, audit.LogConfig{Level: "warn", Format: "json"})
	if err != nil {
		t.Fatal(err)
	}
	e, notices, err := newEngine(file, log, nil)
	if err != nil || len(notices) > 0 {
		t.Fatal(notices, err)
	}
	defer e.Close()
	g := e.gate.Load()
	if _, _, err := e.store.Token(t.Context(), g.Key(g.Table().Routes[0])); err != nil {
		t.Fatal(err)
	}
	ready := e.Ready("", false)
	if !ready.Ready || !strings.Contains(strings.Join(ready.Degraded, "\n"), "credential default: the fallback older is used in its place since") {
		t.Errorf("readiness = %+v, want ready, and the fallback named", ready)
	}
	answer := httptest.NewRecorder()
	e.metrics.Handler().ServeHTTP(answer, httptest.NewRequest("GET", "/metrics", nil))
	for _, want := range []string{
		`gateway_credential_fallback{credential="default"} 1`, `gateway_credential_fallback{credential="older"} 0`,
		`gateway_credential_ready{credential="default"} 1`,
		fmt.Sprintf(`gateway_credential_expiry_timestamp_seconds{credential="older"} %g`, float64(leaf.NotAfter.Unix())),
	} {
		if !strings.Contains(answer.Body.String(), want) {
			t.Errorf("metrics lack %s", want)
		}
	}
	if !strings.Contains(logged.String(), `"level":"error"`) || !strings.Contains(logged.String(), "is used in its place") {
		t.Errorf("the log says %s, want an error about the fallback", &logged)
	}
	if strings.Contains(logged.String(), "wrong-wrong") || strings.Contains(logged.String(), "eyJhbGci") {
		t.Errorf("the log holds a secret: %s", &logged)
	}
}

func TestQuestionsAreAskedOnceInTheOrderOfTheRoutes(t *testing.T) {
	const text = `version: 1
credentials:
  a: {tenant_id: contoso.com, client_id: 00001111-aaaa-2222-bbbb-3333cccc4444, client_secret: {env: X}, fallback: b}
  b: {tenant_id: contoso.com, client_id: 00001111-aaaa-2222-bbbb-3333cccc4444, client_secret: {env: Y}, fallback: c}
  c: {tenant_id: contoso.com, client_id: 00001111-aaaa-2222-bbbb-3333cccc4444, client_secret: {env: Z}}
routes:
  - {preset: arm, credential: a}
  - {preset: graph, credential: b}
  - {name: again, hosts: [api.contoso.com], scope: https://graph.microsoft.com/.default, credential: b}
`
	table, err := routes.Parse("routes.yaml", []byte(text), nil)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, q := range questions(table, table.Credentials) {
		got = append(got, fmt.Sprintf("%s %s for %q by %v", q.credential.Name, q.scope, q.fallbackFor, q.routes))
	}
	want := []string{
		`a https://management.azure.com/.default for "" by [arm]`,
		`b https://management.azure.com/.default for "a" by [arm]`,
		`c https://management.azure.com/.default for "b" by [arm]`,
		`b https://graph.microsoft.com/.default for "" by [graph again]`,
		`c https://graph.microsoft.com/.default for "b" by [graph again]`,
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("questions:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestARowForAPersonSaysWhatTheRowForAMachineSays(t *testing.T) {
	row := tokenJSON{Credential: "a", Scope: "s/.default", FallbackFor: "b", OK: true, Audience: []string{"s"}, Expires: time.Unix(1800000000, 0).UTC(), Remaining: 3599, Remark: "no roles", Diagnosis: []string{"clock"}}
	want := "credential a (fallback for b), scope s/.default: aud s, roles -, expires 2027-01-15T08:00:00Z (in 59m59s)\n    no roles\n    - clock\n"
	if got := row.String(); got != want {
		t.Errorf("String() = %q, want %q", got, want)
	}
	row = tokenJSON{Credential: "a", long: "credential \"a\" is not ready: x\n  Do: y"}
	if got, want := row.String(), "credential a, scope - is not ready: x\n    Do: y\n"; got != want {
		t.Errorf("String() = %q, want %q", got, want)
	}
}

// TestReadinessCountsTheSecondTokenToo has a route whose API wants a token for
// another one beside its own.
func TestReadinessCountsTheSecondTokenToo(t *testing.T) {
	world, err := sandbox.Start(sandbox.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer world.Close()
	world.Entra.AddResource("2ff814a6-3304-4ab8-85cb-cd0e6f879c1d")
	p := &place{t, world, t.TempDir()}
	p.file("secret", world.Secret())
	p.file("routes.yaml", "version: 1\ncredentials:\n  default: {"+p.app("cloud: usgov, client_secret: {file: secret}")+`}
routes:
  - preset: databricks
    hosts: [adb-1.2.databricks.azure.us]
    set_headers: {X-Databricks-Azure-Workspace-Resource-Id: /subscriptions/x}
`)
	file, err := routes.Open(filepath.Join(p.dir, "routes.yaml"), os.LookupEnv)
	p.must(err)
	e, _, err := quietEngine(file)
	p.must(err)
	defer e.Close()
	fetch := func() {
		g := e.gate.Load()
		for _, k := range keys(g, g.Table().Routes[0]) {
			_, _, _ = e.store.Token(t.Context(), k) // readiness tells what came of it
		}
	}
	fetch()
	if got := e.Ready("", false); got.Ready || !strings.Contains(strings.Join(got.Degraded, "\n"), "route databricks: ") {
		t.Errorf("without the second token readiness = %+v, want not ready and the route named", got)
	}
	world.Entra.AddResource("https://management.usgovcloudapi.net")
	e.Purge(admin.Selection{})
	fetch()
	if got := e.Ready("", true); !got.Ready {
		t.Errorf("with both tokens readiness = %+v, want ready", got)
	}
	if got := e.state().Tokens; len(got) != 2 || got[1].Scope != "https://management.usgovcloudapi.net/.default" {
		t.Errorf("tokens of the gauges = %+v, want both", got)
	}
}
