package e2e

import (
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed-13b04e61/gateway/sandbox"
)

// withFallback is graphSetup whose credential has another to fall back on.
func withFallback(w *sandbox.World, secret string) setup {
	s := graphSetup(w, "")
	s.Config = strings.Replace(s.Config, "    client_secret: {file: client-secret}\n", "    client_secret: {file: client-secret}\n    fallback: older\n", 1)
	s.Config = strings.Replace(s.Config, "routes:\n", fmt.Sprintf(`  older:
    tenant_id: %s
    client_id: %s
    client_secret: {file: older-secret}
    authority_host: %s
routes:
`, sandbox.TenantDomain, sandbox.ClientID, w.Entra.URL()), 1)
	s.Files["older-secret"] = secret
	return s
}

func TestWrongNewSecretFallsBackAndAlarmsUnderLoad(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sandbox.Options{})
	older, err := w.Entra.AddSecret(sandbox.ClientID, sandbox.Secret{})
	if err != nil {
		t.Fatal(err)
	}
	g := start(t, withFallback(w, older.Value))
	g.ready(t)
	l := begin(t, g, "/graph/v1.0/$echo/load")
	var byOlder atomic.Bool
	w.Entra.Observe(func(r sandbox.TokenRequest) {
		if r.Form.Get("client_secret") == older.Value {
			byOlder.Store(true)
		}
	})
	replaceFile(t, filepath.Join(g.dir, "client-secret"), "not-a-secret-of-this-app")
	eventually(t, "the fallback is asked", byOlder.Load)
	eventually(t, "the alarm is logged", func() bool {
		return strings.Contains(g.stdout.String(), "older") && strings.Contains(g.stdout.String(), "AADSTS7000215")
	})
	eventually(t, "the fallback shows in the metrics", func() bool {
		return g.metric(t, "gateway_credential_fallback", `credential="default"`) == 1
	})
	a := must(t, g.client, request{url: "http://" + g.admin + "/readyz"})
	if a.status != http.StatusOK || !strings.Contains(a.body, "older") {
		t.Errorf("/readyz: status %d with %s; want 200 that names the fallback", a.status, a.body)
	}
	if strings.Contains(g.stdout.String(), "not-a-secret-of-this-app") {
		t.Error("the log repeats a secret")
	}

	replaceFile(t, filepath.Join(g.dir, "client-secret"), w.Secret())
	eventually(t, "the first credential is in use again", func() bool {
		return g.metric(t, "gateway_credential_fallback", `credential="default"`) == 0 &&
			g.metric(t, "gateway_credential_ready", `credential="default"`) == 1
	})
	l.finish(t)
}

func TestRotatedCertificateIsUsedUnderLoad(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sandbox.Options{})
	old, next := newAppCertificate(t), newAppCertificate(t)
	if err := w.Entra.AddCertificate(sandbox.ClientID, old.cert); err != nil {
		t.Fatal(err)
	}
	s := graphSetup(w, "")
	s.Config = strings.Replace(s.Config, "client_secret: {file: client-secret}", "client_certificate: {file: app.pem}", 1)
	s.Files = map[string]string{"app.pem": old.certPEM + old.keyPEM}
	g := start(t, s)
	g.ready(t)
	l := begin(t, g, "/graph/v1.0/$echo/load")
	// In the order that operators are told: register the new one, replace the
	// file, remove the old one.
	if err := w.Entra.AddCertificate(sandbox.ClientID, next.cert); err != nil {
		t.Fatal(err)
	}
	before := g.metric(t, "gateway_credential_expiry_timestamp_seconds", `credential="default"`)
	if before <= float64(time.Now().Unix()) {
		t.Errorf("gateway_credential_expiry_timestamp_seconds = %v, want a time to come", before)
	}
	issued := w.Entra.Issued()
	replaceFile(t, filepath.Join(g.dir, "app.pem"), next.certPEM+next.keyPEM)
	eventually(t, "a token is got by the new certificate", func() bool { return w.Entra.Issued() > issued })
	if err := w.Entra.RemoveCertificate(sandbox.ClientID, old.cert); err != nil {
		t.Fatal(err)
	}
	if out, code := g.command(t, "purge", "--admin", g.admin); code != 0 {
		t.Errorf("gateway purge: exit %d with %s", code, out)
	}
	if a := must(t, g.client, request{url: g.url("/graph/v1.0/users")}); a.status != http.StatusOK {
		t.Errorf("status %d after the old certificate is gone: %s", a.status, a.body)
	}
	l.finish(t)
}

func TestSecretRemovedBeforeItsFileFollowsCostsNoCall(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sandbox.Options{})
	// The command's output changes without any file that could be watched.
	next, err := w.Entra.AddSecret(sandbox.ClientID, sandbox.Secret{})
	if err != nil {
		t.Fatal(err)
	}
	s := graphSetup(w, "")
	s.Dir = t.TempDir()
	vault := filepath.Join(t.TempDir(), "vault")
	write(t, vault, w.Secret())
	s.Config = strings.Replace(s.Config, "client_secret: {file: client-secret}", "client_secret: {exec: [/bin/cat, "+vault+"]}", 1)
	s.Args = []string{"--allow-exec"}
	s.Files = nil
	g := start(t, s)
	g.ready(t)
	l := begin(t, g, "/graph/v1.0/$echo/load")
	write(t, vault, next.Value)
	if err := w.Entra.RemoveSecret(sandbox.ClientID, w.Secret()); err != nil {
		t.Fatal(err)
	}
	if out, code := g.command(t, "purge", "--admin", g.admin); code != 0 {
		t.Errorf("gateway purge: exit %d with %s", code, out)
	}
	l.finish(t)
}
