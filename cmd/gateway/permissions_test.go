package main

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/seed-13b04e61/gateway/admin"
	"github.com/seed-13b04e61/gateway/sandbox"
	"github.com/spf13/cobra"
)

// ran is the outcome of a command.
func ran(t *testing.T, args ...string) (code int, out, errs string) {
	t.Helper()
	var o, e strings.Builder
	code = run(t.Context(), args, std{&o, &e})
	return code, o.String(), e.String()
}

// counts waits until g has counted n calls, which is after their answers.
func counts(t *testing.T, g *gateway, n int64) {
	t.Helper()
	for range 200 {
		var sum int64
		for _, a := range g.Permissions().APIs {
			for _, c := range a.Calls {
				sum += c.Served + c.Denied + c.Failed
			}
		}
		if sum == n {
			return
		}
		pause()
	}
	t.Fatalf("%d calls are not counted: %+v", n, g.Permissions())
}

func TestPermissionsNameWhatIsHeldUsedAndMissing(t *testing.T) {
	world, credentials := sandboxed(t)
	g, log := opened(t, doors{}, quietPorts+credentials+"routes:\n  - {preset: graph, upstream: "+world.Graph.URL()+"}\n")
	at := "http://" + shown(g.proxyL) + "/graph/v1.0/"
	for path, want := range map[string]string{"users": "200", "organization": "200", "$echo/x": "200"} {
		if got, err := get(at + path); err != nil || !strings.HasPrefix(got, want) {
			t.Fatalf("GET %s: %s, %v; want %s", path, got, err, want)
		}
	}
	counts(t, g, 3)
	ask := []string{"permissions", "--admin", shown(g.adminL)}
	code, out, errs := ran(t, ask...)
	if code != exitFine || !strings.Contains(out, "User.Read.All   used by 2 calls, last ") || !strings.Contains(out, "Group.Read.All  perhaps never used\n") ||
		!strings.Contains(out, "GET /v1.0/users         1 served") {
		t.Errorf("exit code %d:\n%s%s", code, out, errs)
	}

	resp, err := http.Post(at+"users/someone/sendMail", "application/json", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusForbidden {
		t.Fatalf("sendMail: %d, want Graph's own 403", resp.StatusCode)
	}
	counts(t, g, 4)
	grant := "az ad app permission add --id " + sandbox.ClientID + " --api 00000003-0000-0000-c000-000000000000 --api-permissions b633e1c5-b582-4048-a93e-9f11b44c7e96=Role"
	code, out, errs = ran(t, ask...)
	if code != exitNo || !strings.Contains(out, "403: POST /v1.0/users/{id}/sendMail, 1 time, last ") || !strings.Contains(out, "wants Mail.Send") || !strings.Contains(out, grant) {
		t.Errorf("after a 403: exit code %d:\n%s%s", code, out, errs)
	}
	if !strings.Contains(log.String(), "POST /v1.0/users/{id}/sendMail wants Mail.Send") || !strings.Contains(log.String(), grant) {
		t.Errorf("the log does not say what is missing: %s", log)
	}
	if strings.Contains(out, "someone") {
		t.Errorf("a path as it came is shown:\n%s", out)
	}

	code, out, errs = ran(t, append(ask, "--json", "--credential", "default")...)
	var p admin.Permissions
	if err := json.Unmarshal([]byte(out), &p); err != nil || code != exitNo || len(p.APIs) != 1 || p.APIs[0].Denied[0].Missing != "Mail.Send" {
		t.Errorf("--json: exit code %d, %v:\n%s%s", code, err, out, errs)
	}
	if code, _, errs = ran(t, append(ask, "--credential", "other")...); code != exitNo || !strings.Contains(errs, `uses a credential "other"`) {
		t.Errorf("an unknown credential: exit code %d: %s", code, errs)
	}

	if err := world.Entra.Grant(sandbox.ClientID, sandbox.GraphResource, "Mail.Send"); err != nil {
		t.Fatal(err)
	}
	g.Purge(admin.Selection{})
	if got, err := get(at + "users"); err != nil || !strings.HasPrefix(got, "200") {
		t.Fatalf("after the grant: %s, %v", got, err)
	}
	counts(t, g, 5)
	if code, out, errs = ran(t, ask...); code != exitFine || !strings.Contains(out, "a token got since then holds Mail.Send") {
		t.Errorf("after the grant: exit code %d:\n%s%s", code, out, errs)
	}
}

func TestPermissionsSayWhyThereAreNone(t *testing.T) {
	key := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(key, []byte("wrong"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, credentials := sandboxed(t)
	g, _ := opened(t, doors{}, quietPorts+credentials+"routes:\n  - {preset: graph}\n")
	for name, tt := range map[string]struct {
		args []string
		code int
		want string
	}{
		"no gateway": {[]string{"--admin", "127.0.0.1:" + freePort(t)}, exitNo, "connection refused; see that it runs"},
		"wrong key":  {[]string{"--admin", shown(g.adminL), "--admin-key-file", key}, exitNo, "refuses: the admin key is wrong"},
		"no admin":   {[]string{"--admin", shown(g.proxyL)}, exitNo, "see that --admin names the admin port"},
		"arguments":  {[]string{"graph"}, exitUsage, "unknown command"},
	} {
		if code, out, errs := ran(t, append([]string{"permissions"}, tt.args...)...); code != tt.code || !strings.Contains(errs, tt.want) {
			t.Errorf("%s: exit code %d, want %d and %q:\n%s%s", name, code, tt.code, tt.want, out, errs)
		}
	}
}

func TestAMistakeInTheFileIsNotTakenForAGatewayThatIsGone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "routes.yaml")
	if err := os.WriteFile(path, []byte("version: 1\nrutes: []\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	f := &adminFlags{}
	cmd := &cobra.Command{}
	f.add(cmd)
	cmd.Flags().String("config", path, "")
	c, err := f.client(cmd)
	if err != nil || c.base != "http://127.0.0.1:8081" || !strings.Contains(c.next, "gateway check") {
		t.Errorf("client = %+v, %v; want the default, and gateway check as the next step", c, err)
	}
}
