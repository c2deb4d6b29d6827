package authority_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-13b04e61/gateway/authority"
	"github.com/seed-13b04e61/gateway/routes"
	"github.com/seed-13b04e61/gateway/tokens"
)

func TestRefusalsOfHostsAreNamedWithTheRemedy(t *testing.T) {
	var (
		all      = tokens.Failure{Nature: tokens.Refused, Reach: tokens.ReachCredential}
		this     = tokens.Failure{Nature: tokens.Refused}
		spreads  = tokens.Failure{Nature: tokens.Propagating, Reach: tokens.ReachCredential}
		client   = routes.ManagedIdentity{ClientID: userID}
		resource = routes.ManagedIdentity{ResourceID: resourceID}
		none     = routes.ManagedIdentity{}
	)
	for _, tt := range []struct {
		name   string
		host   string
		want   routes.ManagedIdentity
		status int
		body   string
		says   []string
		fails  tokens.Failure
	}{
		{"not assigned", "imds", client, 400, `{"error":"invalid_request","error_description":"Identity not found"}`,
			[]string{"client_id " + userID, "not assigned", "User assigned", "Identity not found"}, spreads},
		{"not assigned, resource", "imds", resource, 400, `{"error":"invalid_request","error_description":"Identity not found"}`,
			[]string{"resource_id " + resourceID, "not assigned"}, spreads},
		{"none at all", "imds", none, 400, `{"error":"invalid_request","error_description":"Identity not found"}`,
			[]string{"default identity", "system-assigned", "Settings > Identity"}, spreads},
		{"several", "imds", none, 400, `{"error":"invalid_request","error_description":"Multiple user assigned identities exist, please specify the clientId / resourceId of the identity in the token request"}`,
			[]string{"several user-assigned identities", "name one", "client_id"}, all},
		{"unknown resource", "imds", none, 400, `{"error":"invalid_resource","error_description":"AADSTS500011: The resource principal named https://graph.microsoft.com was not found in the tenant named Contoso.\r\nTrace ID: 1f1c1f0e-8e5b-4b0b-8c5e-0a5a3f3f0001"}`,
			[]string{"AADSTS500011", "audience", "https://graph.microsoft.com"}, tokens.Failure{Nature: tokens.Propagating}},
		{"unknown number", "imds", none, 400, `{"error":"invalid_request","error_description":"AADSTS9999999: New."}`,
			[]string{"AADSTS9999999", "error?code=9999999"}, this},
		{"resource without number", "imds", none, 400, `{"error":"invalid_resource","error_description":"Unknown."}`,
			[]string{`"https://graph.microsoft.com"`, "final slash"}, this},
		{"silent 400", "imds", none, 400, "", []string{"400", "Identity"}, this},
		{"firewalled", "imds", none, 403, "", []string{"403", "X-Forwarded-For"}, all},
		{"App Service, not assigned", "app_service", client, 400, `{"statusCode":400,"message":"No User Assigned or Delegated Managed Identity found for specified ClientId/ResourceId/PrincipalId.","correlationId":"52079882-ca1e-4b91-8d14-e4f6c2f6cddc"}`,
			[]string{"client_id " + userID, "not assigned", "52079882-ca1e-4b91-8d14-e4f6c2f6cddc"}, spreads},
		{"App Service, older", "app_service", none, 400, `{"StatusCode":400,"Message":"No Managed Identity found for specified ClientId/ResourceId/PrincipalId.","CorrelationId":"0507ee4d-c15f-421a-b96b-e71e351bc69a"}`,
			[]string{"default identity", "not assigned", "0507ee4d-c15f-421a-b96b-e71e351bc69a"}, spreads},
		{"App Service, without", "app_service", none, 400, `{"statusCode":400,"message":"Unable to load requested managed identity.","correlationId":"52079882-ca1e-4b91-8d14-e4f6c2f6cddc"}`,
			[]string{"App Service has no such identity", "system-assigned"}, spreads},
		{"App Service, oldest", "app_service", none, 400, `{"StatusCode":400,"Message":"No MSI found for specified ClientId/ResourceId.","CorrelationId":"8797a7fe-6157-44e2-b24d-3e5713d2111d"}`,
			[]string{"not assigned"}, spreads},
		{"App Service, stale header", "app_service", none, 401, "", []string{"secret in this process's environment", "start the gateway anew"}, all},
		{"App Service, exception", "app_service", none, 400, `{"ExceptionMessage":"AADSTS500011: The resource principal named x was not found","ErrorCode":"invalid_resource","ServiceErrorCodes":["500011"],"StatusCode":400,"Message":null,"CorrelationId":"5ce7c3d9-1ab1-4a5f-b1c9-a0d3ef2b7ad3"}`,
			[]string{"AADSTS500011"}, tokens.Failure{Nature: tokens.Propagating}},
		{"Azure ML", "azure_ml", none, 400, `{"error":{"code":"UserError","message":"Resource parameter is unknown"}}`, []string{`"https://graph.microsoft.com"`}, this},
		{"Service Fabric, none", "service_fabric", none, 404, `{"error":{"correlationId":"7f30f4d3-0f3a-41e0-a417-527f21b3848f","code":"ManagedIdentityNotFound","message":"Managed identity not found for the specified application host."}}`,
			[]string{"Service Fabric has no such identity", "ManagedIdentityNotFound", "7f30f4d3-0f3a-41e0-a417-527f21b3848f"}, spreads},
		{"Service Fabric, secret", "service_fabric", none, 400, `{"error":{"correlationId":"7f30f4d3-0f3a-41e0-a417-527f21b3848f","code":"SecretHeaderNotFound","message":"Secret is not found in the request headers."}}`,
			[]string{"SecretHeaderNotFound", "start the gateway anew"}, all},
		{"Service Fabric, resource", "service_fabric", none, 400, `{"error":{"correlationId":"7f30f4d3-0f3a-41e0-a417-527f21b3848f","code":"ArgumentNullOrEmpty","message":"The parameter 'Resource' should not be null or empty string."}}`,
			[]string{"ArgumentNullOrEmpty", "final slash"}, this},
		{"Service Fabric, version", "service_fabric", none, 400, `{"error":{"correlationId":"7f30f4d3-0f3a-41e0-a417-527f21b3848f","code":"InvalidApiVersion","message":"The api-version '' is not supported."}}`,
			[]string{"InvalidApiVersion"}, this},
		{"error beside a 200", "imds", none, 200, `{"error":"unauthorized_client"}`, []string{"unauthorized_client"}, this},
		{"an object as error", "imds", none, 400, `{"error":{"error":{"error":[]}}}`, []string{"400"}, this},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := refusal(t, tt.host, tt.want, says(tt.status, tt.body))
			quiet(t, e)
			for _, want := range tt.says {
				if !strings.Contains(e.Explain()+"\n"+e.CorrelationID, want) {
					t.Errorf("error = %q, want %q in it", e.Explain(), want)
				}
			}
			if e.Status != tt.status || e.Failure() != tt.fails || e.Host != tt.host || e.Credential != "mi" {
				t.Errorf("status %d, failure %+v, host %q, credential %q; want %d, %+v, %q", e.Status, e.Failure(), e.Host, e.Credential, tt.status, tt.fails, tt.host)
			}
		})
	}
}

// refusal is what comes of a host that gives answer.
func refusal(t *testing.T, name string, want routes.ManagedIdentity, answer http.HandlerFunc) *authority.Error {
	t.Helper()
	var p *platform
	env := map[string]string{}
	switch name {
	case "service_fabric":
		p, env = serviceFabric(t, graph)
	case "app_service":
		p = newAppService(graph).start(t)
		env["IDENTITY_ENDPOINT"], env["IDENTITY_HEADER"] = p.URL, headerSecret
	case "azure_ml":
		p = newAzureML(graph).start(t)
		env["MSI_ENDPOINT"], env["MSI_SECRET"] = p.URL, headerSecret
	default:
		p = newIMDS(graph).start(t)
		env["AZURE_POD_IDENTITY_AUTHORITY_HOST"] = p.URL
	}
	probe := p.reject
	p.rejecting(func(w http.ResponseWriter, why string) {
		if name == "imds" && strings.HasPrefix(why, "Metadata") {
			probe(w, why)
			return
		}
		answer(w, nil)
	})
	p.query = "none, so that every request is answered like this"
	m := managed(t, authority.Machine{Env: env}, want)
	var e *authority.Error
	synctest.Test(t, func(t *testing.T) { // where repetitions cost no time
		_, e = m.Token(t.Context(), graph)
	})
	if e == nil {
		t.Fatal("Token gave one")
	}
	return e
}

func TestNoSecretOfAHostIsRepeated(t *testing.T) {
	echoes := []string{
		headerSecret, url.QueryEscape(headerSecret), "secret=" + headerSecret,
		base64.StdEncoding.EncodeToString([]byte(headerSecret)), "eyJhbGciOiJSUzI1NiJ9.eyJhdWQiOiJtNHJrZXIifQ.c2ln",
	}
	for _, host := range []string{"app_service", "azure_ml", "service_fabric"} {
		for _, status := range []int{200, 400, 401, 500} {
			for _, echo := range echoes {
				for _, body := range []string{
					fmt.Sprintf(`{"error":%q,"error_description":%q}`, echo, echo),
					fmt.Sprintf(`{"error":{"code":%q,"message":%q,"correlationId":%q}}`, echo, "you sent "+echo, echo),
					fmt.Sprintf(`{"statusCode":400,"message":%q}`, "you sent "+echo), fmt.Sprintf(`{"access_token":%q,"token_type":"mac"}`, echo), echo,
				} {
					e := refusal(t, host, routes.ManagedIdentity{}, says(status, body))
					quiet(t, e)
					if strings.Contains(e.Explain(), "eyJhbGci") {
						t.Errorf("a token is in %q", e.Explain())
					}
				}
			}
		}
	}
}

func TestAHostsKeyOfArcIsNotRepeated(t *testing.T) {
	dir, path := keyFile(t, arcSecret)
	p := newArc(graph, path)
	challenge := p.answer
	p.answer = func(w http.ResponseWriter, r *http.Request) {
		if h := r.Header.Get("Authorization"); h != "" {
			says(400, fmt.Sprintf(`{"error":%q,"error_description":%q}`, arcSecret, "you sent "+h))(w, r)
			return
		}
		challenge(w, r)
	}
	_, e := onArc(t, p.start(t), dir).Token(t.Context(), graph)
	if e == nil {
		t.Fatal("Token gave one")
	}
	quiet(t, e)
}

func TestEveryFormOfExpiryIsRead(t *testing.T) {
	const life = 6 * time.Hour
	end := time.Now().Add(life).Truncate(time.Second)
	in := fmt.Sprint(int(life.Seconds()))
	for _, tt := range []struct {
		name, members string
		life, refresh time.Duration // refresh 0: left to the store
	}{
		{"both", `"expires_in":"` + in + `","expires_on":"` + fmt.Sprint(end.Unix()) + `"`, life, life / 2},
		{"expires_on, digits", `"expires_on":"` + fmt.Sprint(end.Unix()) + `"`, life, life / 2},
		{"expires_on, number", `"expires_on":` + fmt.Sprint(end.Unix()), life, life / 2},
		{"expires_on, American", `"expires_on":"` + end.UTC().Format("01/02/2006 15:04:05 -07:00") + `"`, life, life / 2},
		{"expires_on, American with PM", `"expires_on":"` + end.UTC().Format("1/2/2006 3:04:05 PM -07:00") + `"`, life, life / 2},
		{"expires_on, RFC 3339", `"expires_on":"` + end.UTC().Format(time.RFC3339) + `"`, life, life / 2},
		{"expires_on, RFC 3339 with zone", `"expires_on":"` + end.In(time.FixedZone("", 7200)).Format(time.RFC3339) + `"`, life, life / 2},
		{"expires_in, digits", `"expires_in":"` + in + `"`, life, life / 2},
		{"expires_in, number", `"expires_in":` + in, life, life / 2},
		{"expires_in of a kept token", `"expires_in":"86399","expires_on":"` + fmt.Sprint(end.Unix()) + `"`, life, life / 2},
		{"odd expires_on beside expires_in", `"expires_in":"` + in + `","expires_on":"soon"`, life, life / 2},
		{"refresh_in", `"expires_in":"` + in + `","refresh_in":"3600"`, life, time.Hour},
		{"refresh_in after the end", `"expires_in":"86399","refresh_in":"43200","expires_on":"` + fmt.Sprint(end.Unix()) + `"`, life, life / 2},
		{"short life", `"expires_in":"7199"`, 7199 * time.Second, 0},
		{"two hours", `"expires_in":"7200"`, 2 * time.Hour, time.Hour},
		{"no end", `"resource":"x"`, 5 * time.Minute, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := newAppService(graph)
			p.answer = says(200, `{"access_token":"abc.def.ghi","token_type":"Bearer",`+tt.members+`}`)
			token, e := onAppService(t, p.start(t)).Token(t.Context(), graph)
			if e != nil {
				t.Fatal(e)
			}
			about := func(at time.Time, want time.Duration) bool { return (time.Until(at) - want).Abs() < 10*time.Second }
			if !about(token.Expires, tt.life) {
				t.Errorf("lives for %s, want %s", time.Until(token.Expires), tt.life)
			}
			if tt.refresh == 0 != token.RefreshAt.IsZero() || tt.refresh != 0 && !about(token.RefreshAt, tt.refresh) {
				t.Errorf("refreshed at %s, want in %s", token.RefreshAt, tt.refresh)
			}
		})
	}
}

func TestAnAnswerThatIsNoTokenIsNotTaken(t *testing.T) {
	past := fmt.Sprint(time.Now().Add(-time.Hour).Unix())
	for name, body := range map[string]string{
		"empty": "", "HTML": "<html>Sign in</html>", "array": "[]", "no token": `{"token_type":"Bearer","expires_in":"60"}`,
		"two tokens": `{"access_token":"a","access_token":"b","expires_in":"60"}`, "goes on": `{"access_token":"a","expires_in":"60"}{}`,
		"other type": `{"access_token":"a","token_type":"pop","expires_in":"60"}`, "line end": `{"access_token":"a\nb","expires_in":"60"}`,
		"expired": `{"access_token":"a","expires_on":"` + past + `"}`, "expired, by one": `{"access_token":"a","expires_in":"60","expires_on":"` + past + `"}`,
		"zero": `{"access_token":"a","expires_in":"0"}`, "for ever": `{"access_token":"a","expires_in":"999999999999"}`, "unread": `{"access_token":"a","expires_on":"soon"}`,
		"2 MiB": `{"access_token":"` + strings.Repeat("x", 2<<20) + `"}`, "cut off": `{"access_token":"a`,
	} {
		t.Run(name, func(t *testing.T) {
			p := newAppService(graph)
			p.answer = says(200, body)
			token, e := onAppService(t, p.start(t)).Token(t.Context(), graph)
			if e == nil || !token.Access.IsZero() {
				t.Fatalf("took %q for a token", body[:min(len(body), 80)])
			}
			quiet(t, e)
			if e.Nature != tokens.Transient || e.Status != 200 {
				t.Errorf("failure = %+v, status %d", e.Failure(), e.Status)
			}
			if requests, _ := p.seen(); len(requests) != 1 {
				t.Errorf("requests = %d, want 1", len(requests))
			}
		})
	}
}

func FuzzHostAnswer(f *testing.F) {
	f.Add(200, []byte(hostToken(time.Hour)))
	f.Add(200, []byte(`{"access_token":"a","expires_on":"09/14/2037 00:00:00 PM +00:00"}`))
	f.Add(400, []byte(`{"error":"invalid_request","error_description":"Identity not found"}`))
	f.Add(400, []byte(`{"error":{"correlationId":"7f30f4d3","code":"ManagedIdentityNotFound","message":"x"}}`))
	f.Add(400, []byte(`{"error":{"error":{"error":{}}}}`))
	f.Add(500, []byte(`{"statusCode":500,"message":"AADSTS500011"}`))
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		token, e := authority.ReadHostAnswer(status, body)
		if (e == nil) == token.Access.IsZero() {
			t.Fatalf("a token and %v", e)
		}
		if e == nil {
			if !token.RefreshAt.IsZero() && !token.RefreshAt.Before(token.Expires) {
				t.Errorf("refreshed at %s, after its end at %s", token.RefreshAt, token.Expires)
			}
			return
		}
		if e.Hint == "" || e.Remedy == "" || strings.ContainsAny(e.Error(), "\r\n") {
			t.Errorf("error = %q, remedy %q", e.Error(), e.Remedy)
		}
		if _, err := json.Marshal(e); err != nil {
			t.Error(err)
		}
	})
}
