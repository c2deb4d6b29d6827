package authority_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/seed-13b04e61/gateway/authority"
	"github.com/seed-13b04e61/gateway/routes"
	"github.com/seed-13b04e61/gateway/tokens"
)

func TestNothingSecretComesBackFromAServerThatEchoes(t *testing.T) {
	echo := func(w http.ResponseWriter, r *http.Request) {
		raw := r.Header.Get("Authorization") + " " + r.FormValue("client_secret") + " " + r.FormValue("client_assertion")
		text := raw + " " + url.QueryEscape(raw) + " " + base64.StdEncoding.EncodeToString([]byte(raw))
		w.Header().Set("x-ms-request-id", marker)
		w.Header().Set("client-request-id", r.FormValue("client_assertion"))
		w.Header().Set("Content-Type", "text/"+url.PathEscape(marker))
		w.WriteHeader(400)
		answer, _ := json.Marshal(map[string]any{
			"error": r.FormValue("client_secret"), "suberror": r.FormValue("client_assertion"),
			"error_description": text, "trace_id": text, "correlation_id": marker,
		})
		_, _ = w.Write(answer)
	}
	s := serve(t, echo)
	basic := &routes.Credential{Name: "b", TokenEndpoint: s.URL, ClientID: "x", ClientSecret: secretFile(t, marker), AuthMethod: "client_secret_basic"}
	pem := certify(t, newRSA(t, 2048), -time.Hour, year)
	for name, c := range map[string]*routes.Credential{
		"post": entra(t, s.URL), "basic": basic,
		"certificate": certified(t, s.URL, routes.Certificate{File: file(t, pem.both(t))}),
		"federated":   federated(t, s.URL, file(t, kubernetes(t, time.Hour, "1"))),
	} {
		t.Run(name, func(t *testing.T) {
			got := fails(t, loaded(t, c), c) // looks for the marker
			if !got.Refused() {
				t.Errorf("error = %v", got)
			}
		})
	}
}

func TestAnOrdinarySecretHidesNoErrorCode(t *testing.T) {
	s := serve(t, says(401, `{"error":"invalid_client"}`))
	c := entra(t, s.URL)
	overwrite(t, c.ClientSecret.File, "client")
	got := fails(t, loaded(t, c), c)
	if got.Code != "invalid_client" || got.Reach != tokens.ReachCredential {
		t.Errorf("code = %q, reach %v; a secret that is a word of the standard must not hide it", got.Code, got.Reach)
	}
}

func TestWordsFromOutsideAreMadeFitForALog(t *testing.T) {
	for _, tt := range []struct{ name, description, gone, kept string }{
		{"JWT", "bad assertion eyJ0eXAiOiJKV1QifQ.eyJhIjoxfQ.c2ln here", "eyJ0", "here"},
		{"field", "client_secret=hunter2&x=1", "hunter2", "x=1"},
		{"member", `"password": "hunter2" was wrong`, "hunter2", "was wrong"},
		{"Entra secret", "got abc8Q~abcdefghijklmnopqrstuvwxyz.1234567", "8Q~abc", "got"},
		{"long run", "key " + strings.Repeat("A1b2", 12), "A1b2A1b2", "key"},
		{"control characters", "a\r\nb\x1b[31mc\u202ed\u2028e", "\n", "a b"},
		{"GUID stays", "tenant 5f2b1a0e-7c1f-4c8e-9a53-0c1de2f3a4b5 unknown", mustNot, "5f2b1a0e-7c1f-4c8e-9a53-0c1de2f3a4b5"},
		{"thumbprint stays", "thumbprint 5A1B2C3D4E5F60718293A4B5C6D7E8F901234567.", mustNot, "5A1B2C3D4E5F60718293A4B5C6D7E8F901234567"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			answer, err := json.Marshal(map[string]string{"error": "invalid_request", "error_description": tt.description})
			if err != nil {
				t.Fatal(err)
			}
			s := serve(t, says(400, string(answer)))
			c := entra(t, s.URL)
			got := fails(t, loaded(t, c), c)
			if strings.Contains(got.Detail, tt.gone) || !strings.Contains(got.Detail, tt.kept) || strings.ContainsAny(got.Detail, "\r\x1b\u202e\u2028") {
				t.Errorf("detail = %q, want %q and not %q", got.Detail, tt.kept, tt.gone)
			}
			if strings.Contains(got.Error(), tt.kept) {
				t.Errorf("the description is in the text for callers: %v", got)
			}
		})
	}
}

// mustNot is in no text.
const mustNot = "\x00"

func TestRetryAfterIsReadInBothForms(t *testing.T) {
	date := time.Date(2031, 5, 6, 7, 8, 9, 0, time.UTC)
	for _, tt := range []struct {
		value  string
		status int
		want   time.Duration
		nature tokens.Nature
	}{
		{"17", 429, 17 * time.Second, tokens.Throttled},
		{" 17 ", 503, 17 * time.Second, tokens.Throttled},
		{"17", 400, 17 * time.Second, tokens.Throttled},
		{date.Add(90 * time.Second).Format(http.TimeFormat), 429, 90 * time.Second, tokens.Throttled},
		{date.Add(-time.Hour).Format(http.TimeFormat), 429, time.Second, tokens.Throttled},
		{date.Add(48 * time.Hour).Format(http.TimeFormat), 503, time.Hour, tokens.Throttled},
		{"0", 429, time.Second, tokens.Throttled},
		{"99999999999999999999999999", 429, time.Hour, tokens.Throttled},
		{"-5", 429, time.Minute, tokens.Throttled},
		{"soon", 429, time.Minute, tokens.Throttled},
		{"soon", 503, 0, tokens.Transient},
		{"1.5", 503, 0, tokens.Transient},
	} {
		s := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Date", date.Format(http.TimeFormat)) // the server's clock counts
			w.Header().Set("Retry-After", tt.value)
			w.WriteHeader(tt.status)
			_, _ = io.WriteString(w, "Too Many Requests")
		})
		c := entra(t, s.URL)
		got := fails(t, loaded(t, c), c).Failure()
		if got.Wait != tt.want || got.Nature != tt.nature {
			t.Errorf("Retry-After %q with %d: %+v, want %s", tt.value, tt.status, got, tt.want)
		}
	}
}

func TestTheClocksDifferenceIsSeenAndSaid(t *testing.T) {
	for _, tt := range []struct {
		off  time.Duration
		want string
	}{
		{214 * time.Second, "214 s ahead of"}, {-214 * time.Second, "214 s behind"}, {30 * time.Second, ""},
	} {
		s := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Date", time.Now().Add(-tt.off).UTC().Format(http.TimeFormat))
			says(401, `{"error":"invalid_client","error_codes":[700024]}`)(w, nil)
		})
		c := federated(t, s.URL, file(t, kubernetes(t, time.Hour, "1")))
		d := loaded(t, c)
		got := fails(t, d, c)
		// A Date has whole seconds, so that the difference may come out one off.
		remedy := strings.NewReplacer("215 s", "214 s", "213 s", "214 s").Replace(got.Remedy)
		if said := strings.Contains(remedy, "this machine's clock is"); said != (tt.want != "") || !strings.Contains(remedy, tt.want) {
			t.Errorf("off by %s: remedy = %q, want %q", tt.off, got.Remedy, tt.want)
		}
		if skew := condition(t, d).Skew; (skew != 0) != (tt.want != "") || skew != 0 && (skew-tt.off).Abs() > 2*time.Second {
			t.Errorf("off by %s: skew = %s", tt.off, skew)
		}
	}
}

func TestARefusalReadsWell(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("x-ms-request-id", "0b5a6e1f-0000-4000-8000-000000000001")
		says(401, `{"error":"invalid_client","suberror":"bad_token","error_codes":["7000215"],
			"error_description":"AADSTS7000215: Invalid client secret provided.","correlation_id":"4f1e0b2c-0000-4000-8000-000000000002"}`)(w, nil)
	})
	c := entra(t, s.URL)
	d := loaded(t, c)
	got := fails(t, d, c)
	if want := `credential "c": Entra refused: the client secret is wrong (AADSTS7000215, invalid_client)`; got.Error() != want {
		t.Errorf("Error() = %s, want %s", got.Error(), want)
	}
	if got.Suberror != "bad_token" || got.CorrelationID != "4f1e0b2c-0000-4000-8000-000000000002" || got.TraceID != "0b5a6e1f-0000-4000-8000-000000000001" || got.Scope != graphScope || got.Credential != "c" {
		t.Errorf("error = %+v", got)
	}
	text := got.Explain()
	for _, want := range []string{"AADSTS7000215: Invalid client secret provided.", "\n  Do: ", "For support: correlation 4f1e0b2c"} {
		if !strings.Contains(text, want) {
			t.Errorf("Explain() = %s\nwant %q in it", text, want)
		}
	}
	if st := condition(t, d); st.LastError != got || !st.Ready {
		t.Errorf("status = %+v: the last error is kept, and refusal is not unreadiness", st)
	}
}

func TestAnUnknownNumberLeadsToItsPage(t *testing.T) {
	for cloud, want := range map[string]string{
		"public": "https://login.microsoftonline.com/error?code=7654321",
		"china":  "https://login.partner.microsoftonline.cn/error?code=7654321",
	} {
		s := serve(t, says(400, `{"error":"invalid_request","error_description":"AADSTS7654321: new"}`))
		c := entra(t, s.URL)
		c.Cloud = cloud
		if got := fails(t, loaded(t, c), c); got.AADSTS != 7654321 || !strings.Contains(got.Remedy, want) {
			t.Errorf("%s: remedy = %q, want %s", cloud, got.Remedy, want)
		}
	}
}

func TestOtherServersAreClassedByTheStandard(t *testing.T) {
	for _, tt := range []struct {
		status int
		body   string
		code   string
		want   tokens.Failure
	}{
		{401, `{"error":"invalid_client"}`, "invalid_client", tokens.Failure{Nature: tokens.Refused, Reach: tokens.ReachCredential}},
		{400, `{"error":"invalid_scope"}`, "invalid_scope", tokens.Failure{Nature: tokens.Refused}},
		{400, `{"error":"unauthorized_client"}`, "unauthorized_client", tokens.Failure{Nature: tokens.Refused}},
		{400, `{"error":"temporarily_unavailable"}`, "temporarily_unavailable", tokens.Failure{}},
		{200, `{"error":"invalid_scope","access_token":"abc"}`, "invalid_scope", tokens.Failure{Nature: tokens.Refused}},
		{200, `{"error":{"code":7},"access_token":"abc"}`, "", tokens.Failure{Nature: tokens.Refused}},
		{404, "<html>not here</html>", "", tokens.Failure{Nature: tokens.Refused}},
		{403, "", "", tokens.Failure{Nature: tokens.Refused}},
		{408, "", "", tokens.Failure{}},
		{500, `{"error":"invalid_client"}`, "invalid_client", tokens.Failure{}},
		{502, strings.Repeat("<", 2<<20), "", tokens.Failure{}},
		{400, `{"error":"x y","error_codes":[50196]}`, "", tokens.Failure{Nature: tokens.Refused}},
	} {
		s := serve(t, says(tt.status, tt.body))
		c := &routes.Credential{Name: "keycloak", TokenEndpoint: s.URL + "/token", ClientID: "x", ClientSecret: secretFile(t, marker), AuthMethod: "client_secret_post"}
		got := fails(t, loaded(t, c), c)
		if got.Failure() != tt.want || got.Code != tt.code || got.Remedy == "" || got.Entra || strings.Contains(got.Error(), "Entra") {
			t.Errorf("%d %.40s: %+v, code %q, %s; want %+v", tt.status, tt.body, got.Failure(), got.Code, got, tt.want)
		}
	}
}

func TestEveryNumberOfTheReferenceHasAdvice(t *testing.T) {
	numbers := []int{7000215, 7000222, 7000216, 7000218, 70002, 50012, 700025, 700016, 7000229, 700011, 7000112, 70001, 1000031,
		700027, 7000274, 7000214, 7000277, 1000502, 700030, 700024, 500133, 50013, 50027, 50048, 50059, 900023, 90013, 900144, 9002313,
		90002, 900382, 900432, 90038, 900439, 50194, 9001023, 90019, 50049, 70011, 1002012, 28000, 700022, 28002, 28003, 700023, 901002,
		500011, 50001, 500014, 90009, 501051, 50105, 65001, 650056, 650057, 650052, 650054, 90094, 53003, 530032, 50131, 500021, 500212,
		70021, 700211, 700212, 700213, 7002137, 7002138, 700223, 700236, 700238, 700229, 90061, 50166, 501661, 900612, 7002381, 50196,
		90055, 50033, 90006, 90012, 90024, 90033, 90090, 50000, 100007, 500181, 51000, 5000225, 50034, 50126, 50076, 700003}
	var number int
	s := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		says(400, fmt.Sprintf(`{"error":"invalid_request","error_codes":[%d]}`, number))(w, nil)
	})
	c := entra(t, s.URL)
	d := loaded(t, c)
	for _, number = range numbers {
		got := fails(t, d, c)
		if got.AADSTS != number || got.Hint == "" || got.Remedy == "" || strings.Contains(got.Remedy, "error?code=") {
			t.Errorf("AADSTS%d: hint %q, remedy %q", number, got.Hint, got.Remedy)
		}
	}
}

func TestExpiryIsReadInEveryForm(t *testing.T) {
	in := time.Now().Add(time.Hour)
	for _, tt := range []struct {
		members string
		want    time.Duration // 0: refused
		refresh time.Duration
	}{
		{`"expires_in":3600`, time.Hour, 0},
		{`"expires_in":"3600"`, time.Hour, 0},
		{`"expires_in":3600.9`, time.Hour, 0},
		{`"expires_in":3.6e3`, time.Hour, 0},
		{`"expires_in":null`, 5 * time.Minute, 0},
		{`"expires_in":86400,"refresh_in":43200`, 24 * time.Hour, 12 * time.Hour},
		{`"expires_in":86400,"refresh_in":"43200"`, 24 * time.Hour, 12 * time.Hour},
		{`"expires_in":3600,"refresh_in":9999`, time.Hour, 0},
		{`"expires_in":3600,"refresh_in":-1`, time.Hour, 0},
		{`"expires_in":3600,"refresh_in":"x"`, time.Hour, 0},
		{fmt.Sprintf(`"expires_on":%d`, in.Unix()), time.Hour, 0},
		{fmt.Sprintf(`"expires_on":"%d"`, in.Unix()), time.Hour, 0},
		{fmt.Sprintf(`"expires_on":%q`, in.UTC().Format(time.RFC3339)), time.Hour, 0},
		{fmt.Sprintf(`"expires_on":%q`, in.UTC().Format("01/02/2006 15:04:05 -07:00")), time.Hour, 0},
		{fmt.Sprintf(`"expires_on":%q`, in.UTC().Format("1/2/2006 3:04:05 PM -07:00")), time.Hour, 0},
		{`"expires_on":1000`, 0, 0}, {`"expires_on":"tomorrow"`, 0, 0},
		{`"expires_in":-1`, 0, 0}, {`"expires_in":0.5`, 0, 0}, {`"expires_in":"NaN"`, 0, 0}, {`"expires_in":"0x10"`, 0, 0},
		{`"expires_in":1e400`, 0, 0}, {`"expires_in":9223372036854775807`, 0, 0}, {`"expires_in":315360001`, 0, 0},
		{`"expires_in":true`, 0, 0}, {`"expires_in":[3600]`, 0, 0}, {`"expires_in":""`, 0, 0},
	} {
		s := serve(t, says(200, `{"token_type":"bearer","access_token":"abc",`+tt.members+`}`))
		c := entra(t, s.URL)
		d := loaded(t, c)
		now := time.Now()
		got, err := d.Acquire(t.Context(), d.Key(c, graphScope), "")
		if (err != nil) != (tt.want == 0) {
			t.Errorf("%s: error = %v", tt.members, err)
			continue
		}
		if err == nil && (got.Expires.Sub(now)-tt.want).Abs() > 3*time.Second {
			t.Errorf("%s: expires in %s, want %s", tt.members, got.Expires.Sub(now), tt.want)
		}
		if got.RefreshAt.IsZero() != (tt.refresh == 0) || tt.refresh != 0 && (got.RefreshAt.Sub(now)-tt.refresh).Abs() > 3*time.Second {
			t.Errorf("%s: refresh at %s, want in %s", tt.members, got.RefreshAt, tt.refresh)
		}
	}
}

func TestMalformedSuccessIsUnavailableAndTellsNothing(t *testing.T) {
	for name, text := range map[string]string{
		"two objects": good + good, "a member twice": `{"access_token":"a","access_token":"b","token_type":"Bearer"}`,
		"after it": good + "x", "a string": `"abc"`, "only padding": `{"token_type":"Bearer","access_token":"=="}`,
		"not ASCII": `{"token_type":"Bearer","access_token":"é"}`, "padding inside": `{"token_type":"Bearer","access_token":"a=b"}`,
		"token is a number": `{"token_type":"Bearer","access_token":7}`, "type is a number": `{"token_type":7,"access_token":"abc"}`,
		"too long": `{"token_type":"Bearer","access_token":"` + strings.Repeat("a", 64<<10+1) + `"}`,
		"leak":     `<html>` + marker,
	} {
		s := serve(t, says(200, text))
		c := entra(t, s.URL)
		got := fails(t, loaded(t, c), c)
		if got.Refused() || got.Failure() != (tokens.Failure{}) || !strings.Contains(got.Error(), "Entra sent no usable token") {
			t.Errorf("%s: %v", name, got)
		}
	}
	s := serve(t, says(200, "\xef\xbb\xbf "+good+" \n"))
	c := entra(t, s.URL)
	succeeds(t, loaded(t, c), c) // a byte-order mark and white space are no reason to refuse
}

func TestEnvironmentsLackIsTheReason(t *testing.T) {
	c := &routes.Credential{Name: "environment", Cloud: "public", AuthorityHost: "https://login.example.com", Missing: "AZURE_CLIENT_ID is not set"}
	d := authority.NewDirectory(authority.Options{Dialer: nobody{t}})
	d.Replace([]*routes.Credential{c})
	if got := fails(t, d, c); got.Error() != `credential "environment" is not ready: AZURE_CLIENT_ID is not set` || got.Failure().Wait != 5*time.Second {
		t.Errorf("error = %v, %+v", got, got.Failure())
	}
}
