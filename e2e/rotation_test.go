package e2e

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"os"
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

// Between the two files the key is not the certificate's: the last good pair
// has to do, whichever comes first, and whoever asks for a token meanwhile.
func TestCertificateAndKeyThatAreWrittenOneAfterTheOtherFailNoCall(t *testing.T) {
	t.Parallel()
	for _, order := range [][]string{{"app.pem", "app.key"}, {"app.key", "app.pem"}} {
		t.Run(order[0]+" first", func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, sandbox.Options{})
			old, next := newAppCertificate(t), newAppCertificate(t)
			for _, c := range []appCertificate{old, next} {
				if err := w.Entra.AddCertificate(sandbox.ClientID, c.cert); err != nil {
					t.Fatal(err)
				}
			}
			s := graphSetup(w, "")
			s.Config = strings.Replace(s.Config, "client_secret: {file: client-secret}", "client_certificate: {file: app.pem, key_file: app.key}", 1)
			s.Files = map[string]string{"app.pem": old.certPEM, "app.key": old.keyPEM}
			g := start(t, s)
			g.ready(t)
			l := begin(t, g, "/graph/v1.0/$echo/load")
			purge := func() {
				t.Helper()
				if out, code := g.command(t, "purge", "--admin", g.admin); code != 0 {
					t.Errorf("gateway purge: exit %d with %s", code, out)
				}
			}
			texts := map[string]string{"app.pem": next.certPEM, "app.key": next.keyPEM}
			replaceFile(t, filepath.Join(g.dir, order[0]), texts[order[0]])
			eventually(t, "the log tells that the two do not fit", func() bool {
				return strings.Contains(g.stdout.String(), "does not belong to the certificate")
			})
			purge()
			out, code := g.command(t, "check")
			if code != 0 || !strings.Contains(out, "does not belong") {
				t.Errorf("check: exit %d with %s", code, out)
			}
			replaceFile(t, filepath.Join(g.dir, order[1]), texts[order[1]])
			eventually(t, "the new pair is used", func() bool {
				purge()
				all := w.Entra.Assertions()
				return len(all) > 0 && thumbprint(all[len(all)-1].Header) == next.sha256Thumbprint
			})
			if v := g.metric(t, "gateway_credential_ready", `credential="default"`); v != 1 {
				t.Errorf("gateway_credential_ready = %v, want 1", v)
			}
			l.finish(t)
		})
	}
}

// Reading all sources takes as long as the slowest command, and files go on
// changing meanwhile.
func TestKeyThatChangesWhileTheFilesAreReadIsReadAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sandbox.Options{})
	old, next := newAppCertificate(t), newAppCertificate(t)
	for _, c := range []appCertificate{old, next} {
		if err := w.Entra.AddCertificate(sandbox.ClientID, c.cert); err != nil {
			t.Fatal(err)
		}
	}
	s := graphSetup(w, "  - {name: slow, hosts: [slow.example.com], credential: slow, scope: \"api://x/.default\"}\n")
	s.Config = strings.Replace(s.Config, "client_secret: {file: client-secret}", "client_certificate: {file: app.pem, key_file: app.key}", 1)
	begun := filepath.Join(t.TempDir(), "begun")
	s.Config = strings.Replace(s.Config, "routes:\n", fmt.Sprintf("  slow: {tenant_id: %s, client_id: %s, authority_host: %q, client_secret: {exec: [/bin/sh, -c, \"touch %s; sleep 3; echo secret\"]}}\nroutes:\n",
		sandbox.TenantDomain, sandbox.ClientID, w.Entra.URL(), begun), 1)
	s.Files = map[string]string{"app.pem": old.certPEM, "app.key": old.keyPEM}
	s.Args = []string{"--allow-exec"}
	g := start(t, s)
	if err := os.Remove(begun); err != nil {
		t.Fatal(err)
	}
	replaceFile(t, filepath.Join(g.dir, "app.pem"), next.certPEM)
	eventually(t, "the files are being read", func() bool { _, err := os.Stat(begun); return err == nil })
	time.Sleep(time.Second)
	replaceFile(t, filepath.Join(g.dir, "app.key"), next.keyPEM)
	eventually(t, "the new pair is used", func() bool {
		all := w.Entra.Assertions()
		return len(all) > 0 && thumbprint(all[len(all)-1].Header) == next.sha256Thumbprint
	})
}

// thumbprint is that of the certificate that an assertion names, in hex.
func thumbprint(header map[string]any) string {
	text, _ := header["x5t#S256"].(string)
	sum, _ := base64.RawURLEncoding.DecodeString(text)
	return hex.EncodeToString(sum)
}

// As Kubernetes mounts a Secret: app.pem -> ..data/app.pem, ..data -> a folder.
func TestCertificateInASwappedFolderIsFollowedUnderLoad(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sandbox.Options{})
	s := graphSetup(w, "")
	s.Dir = t.TempDir()
	publish := func(generation int) appCertificate {
		t.Helper()
		c := newAppCertificate(t)
		if err := w.Entra.AddCertificate(sandbox.ClientID, c.cert); err != nil {
			t.Fatal(err)
		}
		folder := fmt.Sprintf("..%d", generation)
		if err := os.Mkdir(filepath.Join(s.Dir, folder), 0o700); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(s.Dir, folder, "app.pem"), c.certPEM)
		write(t, filepath.Join(s.Dir, folder, "app.key"), c.keyPEM)
		if err := errors.Join(os.Symlink(folder, filepath.Join(s.Dir, "..next")), os.Rename(filepath.Join(s.Dir, "..next"), filepath.Join(s.Dir, "..data"))); err != nil {
			t.Fatal(err)
		}
		return c
	}
	publish(0)
	for _, name := range []string{"app.pem", "app.key"} {
		if err := os.Symlink(filepath.Join("..data", name), filepath.Join(s.Dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	s.Config = strings.Replace(s.Config, "client_secret: {file: client-secret}", "client_certificate: {file: app.pem, key_file: app.key}", 1)
	s.Files = nil
	g := start(t, s)
	g.ready(t)
	l := begin(t, g, "/graph/v1.0/$echo/load")
	for generation := 1; generation <= 3; generation++ {
		c := publish(generation)
		eventually(t, "the new certificate is used", func() bool {
			all := w.Entra.Assertions()
			return len(all) > 0 && thumbprint(all[len(all)-1].Header) == c.sha256Thumbprint
		})
	}
	if strings.Contains(g.stdout.String(), "does not belong") {
		t.Error("a swap, which changes both files at once, was seen by halves")
	}
	l.finish(t)
}
