package sandbox_test

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/seed-13b04e61/gateway/sandbox"
)

func TestEveryCodeOfTheTableCanBeHad(t *testing.T) {
	w := world(t, sandbox.Options{})
	codes := sandbox.Codes()
	if len(codes) < 90 {
		t.Fatalf("%d codes, want the whole table", len(codes))
	}
	seen := map[int]bool{}
	for _, code := range codes {
		if err := w.Entra.Refuse(sandbox.ClientID, code); err != nil || seen[code] {
			t.Fatalf("Refuse(%d) = %v, seen = %t", code, err, seen[code])
		}
		seen[code] = true
		a := post(t, w, sandbox.TenantID, secretForm(w))
		text := a.str("error_description")
		if a.code() != code || !strings.HasPrefix(text, fmt.Sprintf("AADSTS%d: ", code)) || strings.ContainsAny(text, "{}") {
			t.Errorf("AADSTS%d = %d %s", code, a.status, a.raw)
		}
		kinds := map[string]int{"invalid_client": 401, "temporarily_unavailable": 503, "server_error": 500}
		want, ok := kinds[a.str("error")]
		if !ok {
			want = 400
		}
		if code == 90055 {
			want = 429
		}
		if a.status != want || a.str("error") == "" || a.str("trace_id") == "" {
			t.Errorf("AADSTS%d = %d %q, want %d", code, a.status, a.str("error"), want)
		}
	}
	if err := w.Entra.Refuse(sandbox.ClientID, 0); err != nil {
		t.Fatal(err)
	}
	token(t, w, "")
}

func TestRefusalIsForOneClientAlone(t *testing.T) {
	w := world(t, sandbox.Options{})
	if err := w.Entra.Refuse(strings.ToUpper(sandbox.TenantID), 7000222); err != nil {
		t.Fatal(err)
	}
	token(t, w, "")
	form := secretForm(w)
	form.Set("client_id", sandbox.TenantID)
	if a := post(t, w, sandbox.TenantID, form); a.code() != 7000222 {
		t.Errorf("refused client = %d %s, want AADSTS7000222", a.status, a.raw)
	}
	if err := w.Entra.Refuse(sandbox.ClientID, 1); err == nil {
		t.Error("Refuse(1) = nil, want an error")
	}
}

func TestConditionalAccessNamesItsPolicy(t *testing.T) {
	w := world(t, sandbox.Options{})
	if err := w.Entra.Refuse(sandbox.ClientID, 53003); err != nil {
		t.Fatal(err)
	}
	a := post(t, w, sandbox.TenantID, secretForm(w))
	var claims map[string]any
	if err := json.Unmarshal([]byte(a.str("claims")), &claims); err != nil || a.str("suberror") != "message_only" {
		t.Errorf("answer = %s (%v), want claims and a suberror", a.raw, err)
	}
}

func ExampleEntra_Refuse() {
	w, err := sandbox.Start(sandbox.Options{})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return
	}
	defer w.Close()
	fmt.Println(w.Entra.Refuse(sandbox.ClientID, 7000112))
	// Output: <nil>
}
