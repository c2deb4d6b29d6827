package authority_test

import (
	"fmt"
	"net/http"
	"testing"
)

// TestRefusalOfOneScopeLeavesTheCredentialUsable has gateway_credential_ready
// tell a credential that is refused from a route that asks for too much.
func TestRefusalOfOneScopeLeavesTheCredentialUsable(t *testing.T) {
	for _, test := range []struct {
		status, aadsts int
		code           string
		usable         bool
	}{
		{400, 500011, "invalid_resource", true}, {400, 70011, "invalid_scope", true}, {400, 65001, "invalid_grant", true},
		{400, 501051, "invalid_grant", true}, {400, 0, "invalid_scope", true}, {400, 0, "invalid_target", true},
		{401, 7000222, "invalid_client", false}, {400, 700016, "unauthorized_client", false}, {400, 90002, "invalid_request", false},
		{400, 0, "invalid_grant", false}, {400, 53003, "access_denied", false},
	} {
		s := serve(t, says(test.status, fmt.Sprintf(`{"error":%q,"error_description":"AADSTS%d: no.","error_codes":[%d]}`, test.code, test.aadsts, test.aadsts)))
		c := entra(t, s.URL)
		d := loaded(t, c)
		if e := fails(t, d, c); !e.Refused() || e.AADSTS != test.aadsts || e.Status != test.status {
			t.Errorf("%d %s: %+v", test.aadsts, test.code, e)
		}
		if st := condition(t, d); st.Usable() != test.usable || st.LastError == nil {
			t.Errorf("%d %s %s: usable is %t, want %t", test.aadsts, test.code, http.StatusText(test.status), st.Usable(), test.usable)
		}
	}
}
