package authority_test

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestAMovedTokenEndpointIsFoundAgain(t *testing.T) {
	for _, status := range []int{200, 308, 401, 404, 405, 410, 500} {
		synctest.Test(t, func(t *testing.T) {
			i, d, c := bubble(t)
			i.token = func(w http.ResponseWriter, r *http.Request) {
				switch {
				case r.URL.Path == "/v2/token":
					_, _ = io.WriteString(w, good)
				case status == 401:
					says(401, `{"error":"invalid_client"}`)(w, nil)
				default: // 200 with nothing of use
					w.WriteHeader(status)
				}
			}
			if got := fails(t, d, c); got.Status != status {
				t.Errorf("error = %v", got)
			}
			if got := i.log(); got != fetched+", "+asked {
				t.Errorf("asked %s: metadata that was fetched just now was fetched again", got)
			}
			i.set(rfc8414, strings.Replace(document(i.issuer, ""), "/oauth/token", "/v2/token", 1))
			time.Sleep(30 * time.Second)
			succeeds(t, d, c)
			if got := i.log(); got != asked+", "+fetched+", POST /v2/token basic" {
				t.Errorf("asked %s", got)
			}
		})
	}
}

func TestAMovedTokenEndpointIsLookedForEveryHalfAMinuteAtMost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i, d, c := bubble(t)
		i.token = says(404, "")
		for range 60 { // over ten minutes
			fails(t, d, c)
			time.Sleep(10 * time.Second)
		}
		if got := strings.Count(i.log(), "GET"); got != 20 {
			t.Errorf("the metadata was fetched %d times, want 20", got)
		}
	})
}

// What a token endpoint says as such is no reason to look for another.
func TestATokenEndpointThatAnswersAsOneIsNotLookedForElsewhere(t *testing.T) {
	for _, says := range []http.HandlerFunc{
		says(400, `{"error":"invalid_scope"}`), says(503, `{"error":"temporarily_unavailable"}`), says(429, ""),
	} {
		synctest.Test(t, func(t *testing.T) {
			i, d, c := bubble(t)
			i.token = says
			for range 3 {
				fails(t, d, c)
				time.Sleep(time.Minute)
			}
			if got := strings.Count(i.log(), "GET"); got != 1 {
				t.Errorf("the metadata was fetched %d times, want 1", got)
			}
		})
	}
}

func TestMethodsThatAServerAddsToItsMetadataAreUsed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i, d, c := bubble(t)
		i.set(rfc8414, document(i.issuer, `,"token_endpoint_auth_methods_supported":["private_key_jwt"]`))
		fails(t, d, c)
		i.set(rfc8414, document(i.issuer, ""))
		time.Sleep(30 * time.Second)
		succeeds(t, d, c)
	})
}
