package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/seed-13b04e61/gateway/routes"
)

// TestClustersAreAskedWhichTokensTheyTake has clusters of every manner answer
// check --live.
func TestClustersAreAskedWhichTokensTheyTake(t *testing.T) {
	t.Setenv("GATEWAY_TEST_SECRET", "x")
	for name, test := range map[string]struct {
		answer http.HandlerFunc
		want   string // in the one warning; "" for none
	}{
		"as configured": {says(`{"AzureAD":{"KustoServiceResourceId":"https://kusto.kusto.windows.net"}}`), ""},
		"another":       {says(`{"AzureAD":{"KustoServiceResourceId":"https://kusto.fabric.microsoft.com"}}`), "write scope: https://kusto.fabric.microsoft.com/.default"},
		"with a slash":  {says(`{"AzureAD":{"KustoServiceResourceId":"https://kusto.kusto.windows.net/"}}`), "write scope: https://kusto.kusto.windows.net//.default"},
		"no resource":   {says(`{}`), "its metadata name no resource"},
		"a trap":        {says(`{"AzureAD":{"KustoServiceResourceId":"x\u001b[31m\n"}}`), "its metadata name no resource"},
		"a page":        {says(`<html>`), "its metadata name no resource"},
		"too much":      {says(strings.Repeat(" ", kustoLimit) + `{"AzureAD":{"KustoServiceResourceId":"x"}}`), "its metadata name no resource"},
		"a refusal":     {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) }, "status 403"},
		"a redirect":    {func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/elsewhere", http.StatusFound) }, "status 302"},
	} {
		t.Run(name, func(t *testing.T) {
			cluster := httptest.NewServer(test.answer)
			defer cluster.Close()
			path := filepath.Join(t.TempDir(), "routes.yaml")
			text := fmt.Sprintf(`version: 1
credentials:
  default: {tenant_id: contoso.com, client_id: 00001111-aaaa-2222-bbbb-3333cccc4444, client_secret: {env: GATEWAY_TEST_SECRET}}
routes:
  - {preset: kusto, hosts: [help.kusto.windows.net], upstream: %q}
  - {preset: graph}
`, cluster.URL)
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			file, err := routes.Open(path, os.LookupEnv)
			if err != nil {
				t.Fatal(err)
			}
			e, _, err := quietEngine(file)
			if err != nil {
				t.Fatal(err)
			}
			defer e.Close()
			var said []string
			for _, n := range checkKusto(t.Context(), e) {
				said = append(said, n.String())
			}
			got := strings.Join(said, "\n")
			if (got == "") != (test.want == "") || !strings.Contains(got, test.want) || len(said) > 1 || strings.Contains(got, "\x1b") {
				t.Errorf("warnings: %q, want %q", got, test.want)
			}
		})
	}
}

func says(body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, body) }
}
