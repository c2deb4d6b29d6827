package main

import (
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/seed-13b04e61/gateway/routes"
)

func TestFilesOfCAsAreLookedInto(t *testing.T) {
	p, other := newPeer(t), newPeer(t)
	public := publicRoot(t)
	garbage := filepath.Join(t.TempDir(), "garbage.pem")
	if err := os.WriteFile(garbage, []byte("not PEM at all"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, variable, path, verdict string
		words                         []string
	}{
		{"whole", "SSL_CERT_FILE", pemFile(t, "b.pem", public, p.root), verdictOK, []string{"holds the gateway's CA"}},
		{"missing", "REQUESTS_CA_BUNDLE", "/nowhere/b.pem", verdictNo, []string{"/nowhere/b.pem does not exist", "Python requests", "gateway ca export --bundle --out /nowhere/b.pem"}},
		{"no PEM", "CURL_CA_BUNDLE", garbage, verdictNo, []string{"holds no certificate in PEM form"}},
		{"without the CA", "GIT_SSL_CAINFO", pemFile(t, "b.pem", public), verdictNo, []string{"holds no CA of a gateway", "leave it", "gateway ca export --bundle --out FILE"}},
		{"with a CA before it", "NODE_EXTRA_CA_CERTS", pemFile(t, "ca.pem", other.root), verdictNo, []string{"does not hold the gateway's present CA", "gateway ca export --out"}},
		{"the CA alone", "SSL_CERT_FILE", pemFile(t, "b.pem", p.root), verdictWarning, []string{"takes the place of the system's roots", "can call no other host"}},
		{"the CA alone, where it is added", "NODE_EXTRA_CA_CERTS", pemFile(t, "ca.pem", p.root), verdictOK, []string{"holds the gateway's CA"}},
		{"a folder", "REQUESTS_CA_BUNDLE", t.TempDir(), verdictWarning, []string{"is a folder"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			vars := both(p.url())
			vars[c.variable] = c.path
			d := examined(t, vars)
			d.want(t, c.verdict, checkTrust, append([]string{c.variable + ": "}, c.words...)...)
		})
	}
	vars := both(p.url())
	vars["JAVA_TOOL_OPTIONS"] = "-Djavax.net.ssl.trustStore=/nowhere/trust.p12"
	examined(t, vars).want(t, verdictNo, checkTrust, "JAVA_TOOL_OPTIONS: javax.net.ssl.trustStore names /nowhere/trust.p12, which does not exist", "--p12")
}

func TestMountsThatHideChangesAreNamed(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "routes.yaml")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		t.Fatal(err)
	}
	root := "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n"
	for _, c := range []struct{ name, mounts, words string }{
		{"the file itself", root + "30 22 8:1 /x " + real + " rw - ext4 /dev/sda1 rw\n", "the file itself is a mount"},
		{"NFS", root + "30 22 0:40 / " + filepath.Dir(real) + " rw - nfs4 srv:/x rw\n", "it lies on nfs4"},
	} {
		d := patient(t, nil)
		d.checkMount(path, readMounts(c.mounts))
		d.want(t, verdictWarning, checkFile, c.words)
	}
	d := patient(t, nil)
	d.checkMount(path, readMounts(root+"30 22 0:40 / "+filepath.Dir(real)+"-other rw - nfs4 srv:/x rw\n"))
	d.never(t, verdictWarning, checkFile)
	if got := readMounts(`30 22 0:40 / /mnt/a\040b\134c rw - nfs4 srv:/x rw` + "\nnonsense\n"); len(got) != 1 || got[0].point != `/mnt/a b\c` {
		t.Errorf("readMounts = %v, want one with its escapes undone", got)
	}
}

func TestTheFolderOfTheCAIsLookedInto(t *testing.T) {
	p := newPeer(t)
	table := func(dir, host string) *routes.Table {
		parsed, err := routes.Parse("routes.yaml", []byte("version: 1\nroutes:\n  - {name: a, hosts: ["+host+"], scope: api://x/.default}\n"), os.LookupEnv)
		if err != nil {
			t.Fatal(err)
		}
		parsed.Intercept = &routes.Intercept{CADir: dir}
		return parsed
	}
	fill := func(mode os.FileMode, issuing *x509.Certificate) string {
		dir := filepath.Join(t.TempDir(), "ca")
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		for name, text := range map[string][]byte{"issuing.key": []byte("key"), "issuing.pem": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: issuing.Raw})} {
			if err := os.WriteFile(filepath.Join(dir, name), text, mode); err != nil {
				t.Fatal(err)
			}
		}
		return dir
	}
	d := patient(t, nil)
	d.checkCA(table(fill(0o600, p.issuing), doctorHost))
	d.want(t, verdictOK, checkFile, "is its owner's alone, and the CA covers every routed host")

	d = patient(t, nil)
	d.checkCA(table(fill(0o640, p.issuing), doctorHost))
	d.want(t, verdictNo, checkFile, "others may use", "issuing.key (mode 0640)", "chmod 0600")

	open := fill(0o600, p.issuing)
	if err := os.Chmod(open, 0o755); err != nil {
		t.Fatal(err)
	}
	d = patient(t, nil)
	d.checkCA(table(open, doctorHost))
	d.want(t, verdictNo, checkFile, "others may use", "(mode 0755)", "chmod 0700")

	d = patient(t, nil)
	d.checkCA(table(fill(0o600, p.issuing), "api.contoso.com"))
	d.want(t, verdictNo, checkFile, "the CA may not sign for api.contoso.com", "gateway reload")

	p.authorities(t, []string{doctorHost}, time.Now().Add(-48*time.Hour))
	d = patient(t, nil)
	d.checkCA(table(fill(0o600, p.issuing), doctorHost))
	d.want(t, verdictNo, checkFile, "is valid now")

	d = patient(t, nil)
	d.checkCA(table("/nowhere/ca", doctorHost))
	d.want(t, verdictNo, checkFile, "/nowhere/ca does not exist", "gateway ca init")
}
