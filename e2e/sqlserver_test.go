package e2e

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/seed-13b04e61/gateway/sandbox"
)

// startSQL starts the sandbox's SQL server. At the end no client may have
// broken a rule of the protocol.
func startSQL(t testing.TB, o sandbox.SQLOptions) *sandbox.SQL {
	t.Helper()
	s, err := sandbox.StartSQL(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.Close()
		for _, v := range s.Violations() {
			t.Errorf("violation: %s", v)
		}
	})
	return s
}

// sqlToken gets a token of the sandbox's app for its SQL server.
func sqlToken(t testing.TB, w *sandbox.World) string {
	t.Helper()
	resp, err := http.PostForm(w.Entra.URL()+"/"+sandbox.TenantID+"/oauth2/v2.0/token", url.Values{
		"grant_type": {"client_credentials"}, "client_id": {sandbox.ClientID}, "client_secret": {w.Secret()},
		"scope": {sandbox.SQLResource + "//.default"},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var answer struct {
		Token string `json:"access_token"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil || answer.Token == "" {
		t.Fatalf("token: %d, %v", resp.StatusCode, err)
	}
	return answer.Token
}

// The sandbox's SQL server is right about FEDAUTH if tedious, which nobody here
// wrote, logs in to it with a token of its own and works.
func TestTediousWorksStraightAtTheSandboxsSQLServer(t *testing.T) {
	for _, encrypt := range []string{"true", "strict"} {
		t.Run(encrypt, func(t *testing.T) {
			w := newWorld(t, sandbox.Options{})
			s := startSQL(t, sandbox.SQLOptions{World: w})
			ca := filepath.Join(t.TempDir(), "ca.pem")
			if err := os.WriteFile(ca, s.CAPEM(), 0o600); err != nil {
				t.Fatal(err)
			}
			_, port, _ := net.SplitHostPort(s.Addr())
			cmd := exec.CommandContext(t.Context(), "node", "clients/sql_direct.mjs", "localhost", port, encrypt, ca)
			cmd.Env = append(bareEnvironment(), "SQL_TOKEN="+sqlToken(t, w))
			var failure strings.Builder
			cmd.Stderr = &failure
			raw, err := cmd.Output()
			if err != nil {
				t.Fatalf("%v\n%s", err, failure.String())
			}
			want := fmt.Sprintf(`{"who":["%s@%s","d1","tester"],`, sandbox.ClientID, sandbox.TenantID) +
				`"echo":[true,150000,300000,"1099511627776",3.25,null,"2026-03-01T12:34:56.789Z"],"many":[5000,200],` +
				`"rolledBack":0,"committed":1,"prepared":[1,2,3],"output":{"v":42},"bulk":2000,"bulkCounted":2001,` +
				`"raised":[50000,16,"boom"],"syntax":[102,15,"Incorrect syntax near 'SELEC'."],"cancelled":"ECANCEL","afterReset":7,"packets":2000}`
			if got := strings.TrimSpace(string(raw)); got != want {
				t.Errorf("tedious = %s\nwant      %s", got, want)
			}
			logins := s.Logins()
			if len(logins) != 2 || logins[0].Strict != (encrypt == "strict") || !logins[0].Echo || !logins[1].ReadOnly || logins[0].ReadOnly {
				t.Errorf("logins = %+v", logins)
			}
		})
	}
}
