package main

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// doctorRun runs gateway doctor as a process of its own, in a folder and an
// environment of its own.
func doctorRun(t *testing.T, dir string, vars map[string]string, args ...string) (out string, code int) {
	t.Helper()
	gateway, err := exec.LookPath("gateway") // TestMain put it there
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(gateway, append([]string{"doctor"}, args...)...)
	cmd.Dir, cmd.Env = dir, []string{"PATH=" + t.TempDir(), "HOME=" + t.TempDir(), "TMPDIR=" + os.TempDir()}
	for name, value := range vars {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	b, err := cmd.CombinedOutput()
	if failed, ok := errors.AsType[*exec.ExitError](err); ok {
		return string(b), failed.ExitCode()
	}
	if err != nil {
		t.Fatal(err)
	}
	return string(b), 0
}

func TestDoctorSaysYesAndNoByItsExitCode(t *testing.T) {
	p := newPeer(t)
	p.key = "reports:a-key-of-this-test"
	vars := both(p.url())
	vars["SSL_CERT_FILE"] = pemFile(t, "bundle.pem", publicRoot(t), p.root)
	out, code := doctorRun(t, t.TempDir(), vars)
	for _, line := range []string{
		"ok       proxy      " + p.addr() + ": the gateway answers in",
		"ok       tunnel     graph.microsoft.com: the gateway opens the tunnel to caller reports and answers in it",
		"ok       trust      Go: it trusts the gateway's CA",
		"all is well",
	} {
		if !strings.Contains(out, line) {
			t.Errorf("the report lacks %q:\n%s", line, out)
		}
	}
	if code != exitFine {
		t.Errorf("exit code %d, want 0", code)
	}

	vars["SSL_CERT_FILE"] = pemFile(t, "other.pem", publicRoot(t))
	out, code = doctorRun(t, t.TempDir(), vars)
	if !strings.Contains(out, "NO       trust      Go: it does not trust the gateway's CA") || code != exitNo {
		t.Errorf("exit code %d, want 1, and a NO for Go:\n%s", code, out)
	}
	if strings.Contains(out, "a-key-of-this-test") {
		t.Errorf("the report holds the key:\n%s", out)
	}

	for _, args := range [][]string{{"--proxy", "socks5://x:1"}, {"--proxy", "http://a:a-key-of-this-test@b c:1"}, {"not a host"}, {"--nonsense"}} {
		out, code := doctorRun(t, t.TempDir(), nil, args...)
		if code != exitUsage || strings.Contains(out, "a-key-of-this-test") {
			t.Errorf("doctor %q: exit code %d, want 2, and no key:\n%s", args, code, out)
		}
	}
}

func TestDoctorsJSONHoldsTheSame(t *testing.T) {
	p := newPeer(t)
	out, code := doctorRun(t, t.TempDir(), nil, "--json", "--proxy", p.url(), "graph.microsoft.com", "GRAPH.microsoft.com.", "api.contoso.com:8443")
	var report doctorReport
	if err := json.Unmarshal([]byte(out), &report); err != nil {
		t.Fatalf("%v:\n%s", err, out)
	}
	if report.OK || code != exitNo || report.Proxy != p.url() {
		t.Errorf("ok %v, exit code %d, proxy %q; want false, 1 and %s:\n%s", report.OK, code, report.Proxy, p.url(), out)
	}
	if want := []string{"graph.microsoft.com", "api.contoso.com:8443"}; !slices.Equal(report.Hosts, want) {
		t.Errorf("hosts = %q, want %q: each once", report.Hosts, want)
	}
	found := slices.ContainsFunc(report.Findings, func(f finding) bool {
		return f.Check == checkVariables && f.Verdict == verdictNo && strings.Contains(f.Remedy, "export https_proxy="+p.url())
	})
	if !found {
		t.Errorf("no finding says that the variables are unset, and how to set them:\n%s", out)
	}
}

func TestDoctorTakesHostsAndProxyFromRoutesYAML(t *testing.T) {
	p := newPeer(t)
	dir := t.TempDir()
	file := filepath.Join(dir, "routes.yaml")
	text := "version: 1\nlisten: {proxy: \"" + p.addr() + "\"}\nroutes:\n  - preset: graph\n  - {name: b, hosts: [\"*.contoso.com\", api.fabrikam.com], scope: api://x/.default}\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	out, code := doctorRun(t, dir, map[string]string{"AZURE_TENANT_ID": "contoso.onmicrosoft.com", "AZURE_CLIENT_ID": "00001111-aaaa-2222-bbbb-3333cccc4444", "AZURE_CLIENT_SECRET": "hush-hush"}, "--json")
	var report doctorReport
	if err := json.Unmarshal([]byte(out), &report); err != nil {
		t.Fatalf("%v:\n%s", err, out)
	}
	if want := []string{"graph.microsoft.com", "api.fabrikam.com"}; !slices.Equal(report.Hosts, want) || report.Proxy != p.url() || code != exitNo {
		t.Errorf("hosts %q, proxy %q, exit code %d; want %q, %s and 1", report.Hosts, report.Proxy, code, want, p.url())
	}
	if !strings.Contains(out, "it is valid, nobody else may write it, and changes of it are noticed") {
		t.Errorf("routes.yaml is not judged:\n%s", out)
	}

	if err := os.Chmod(file, 0o666); err != nil {
		t.Fatal(err)
	}
	out, code = doctorRun(t, dir, nil)
	if !strings.Contains(out, "group or world may write this file") || code != exitNo {
		t.Errorf("exit code %d, want 1, and a NO about its mode:\n%s", code, out)
	}
	out, code = doctorRun(t, t.TempDir(), nil, "--config", "/nowhere/routes.yaml")
	if !strings.Contains(out, "NO       file       /nowhere/routes.yaml: routes.yaml cannot be read") || code != exitNo {
		t.Errorf("exit code %d, want 1, and a NO about the file:\n%s", code, out)
	}
}
