package authority_test

import (
	"context"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-13b04e61/gateway/authority"
	"github.com/seed-13b04e61/gateway/routes"
	"github.com/seed-13b04e61/gateway/tokens"
)

// failing answers with status for the first n token requests.
func failing(status int, n int64, header ...string) http.HandlerFunc {
	var asked atomic.Int64
	return func(w http.ResponseWriter, r *http.Request) {
		if asked.Add(1) > n {
			says(200, hostToken(24*time.Hour))(w, r)
			return
		}
		for i := 0; i < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		says(status, "")(w, r)
	}
}

// The servers stand outside of the bubble, so that only waiting passes time.
func TestPassingFailuresAreTriedAgainAtThePlatformsPace(t *testing.T) {
	const always = 1000
	for _, tt := range []struct {
		name     string
		app      bool // App Service, for all but IMDS
		answer   http.HandlerFunc
		requests int
		took     time.Duration
		want     tokens.Failure // of the error; ok when there is a token
		ok       bool
	}{
		{"IMDS 404 once", false, failing(404, 1), 2, time.Second, tokens.Failure{}, true},
		{"IMDS 408 twice", false, failing(408, 2), 3, 3 * time.Second, tokens.Failure{}, true},
		{"IMDS 500 thrice", false, failing(500, 3), 4, 7 * time.Second, tokens.Failure{}, true},
		{"IMDS 503 always", false, failing(503, always), 4, 7 * time.Second, tokens.Failure{}, false},
		{"IMDS 501", false, failing(501, 1), 2, time.Second, tokens.Failure{}, true},
		{"IMDS 404 always", false, failing(404, always), 4, 7 * time.Second, tokens.Failure{}, false},
		{"IMDS 410 seven times", false, failing(410, 7), 8, 70 * time.Second, tokens.Failure{}, true},
		{"IMDS 410 always", false, failing(410, always), 8, 70 * time.Second, tokens.Failure{}, false},
		{"IMDS 429 without header", false, failing(429, 1), 2, time.Second, tokens.Failure{}, true},
		{"IMDS 429 asks for 5 s", false, failing(429, 1, "Retry-After", "5"), 2, 5 * time.Second, tokens.Failure{}, true},
		{"IMDS 429 asks for an hour", false, failing(429, always, "Retry-After", "3600"), 1, 0,
			tokens.Failure{Nature: tokens.Throttled, Reach: tokens.ReachCredential, Wait: time.Hour}, false},
		{"IMDS 429 always", false, failing(429, always), 4, 7 * time.Second,
			tokens.Failure{Nature: tokens.Throttled, Reach: tokens.ReachCredential, Wait: time.Minute}, false},
		{"IMDS 400", false, failing(400, always), 1, 0, tokens.Failure{Nature: tokens.Refused}, false},
		{"IMDS 403", false, failing(403, always), 1, 0, tokens.Failure{Nature: tokens.Refused, Reach: tokens.ReachCredential}, false},
		{"App Service 404", true, failing(404, 1), 2, time.Second, tokens.Failure{}, true},
		{"App Service 500 thrice", true, failing(500, 3), 4, 3 * time.Second, tokens.Failure{}, true},
		{"App Service 502 always", true, failing(502, always), 4, 3 * time.Second, tokens.Failure{}, false},
		{"App Service 429 asks for 2 s", true, failing(429, 1, "Retry-After", "2"), 2, 2 * time.Second, tokens.Failure{}, true},
		{"App Service 410", true, failing(410, always), 1, 0, tokens.Failure{Nature: tokens.Refused}, false},
		{"App Service 400", true, failing(400, always), 1, 0, tokens.Failure{Nature: tokens.Refused}, false},
		{"App Service 501", true, failing(501, always), 1, 0, tokens.Failure{}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := newIMDS(graph)
			if tt.app {
				p = newAppService(graph)
			}
			p.answer = tt.answer
			p.start(t)
			env := map[string]string{"AZURE_POD_IDENTITY_AUTHORITY_HOST": p.URL}
			if tt.app {
				env = map[string]string{"IDENTITY_ENDPOINT": p.URL + "/msi/token", "IDENTITY_HEADER": headerSecret}
			}
			m := managed(t, authority.Machine{Env: env}, routes.ManagedIdentity{})
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				_, e := m.Token(t.Context(), graph)
				if took := time.Since(began); took != tt.took {
					t.Errorf("took %s, want %s", took, tt.took)
				}
				switch {
				case tt.ok && e != nil:
					t.Errorf("Token = %v", e)
				case !tt.ok && e == nil:
					t.Error("Token gave one")
				case e != nil:
					quiet(t, e)
					if got := e.Failure(); got != tt.want {
						t.Errorf("failure = %+v, want %+v", got, tt.want)
					}
				}
			})
			requests, wrong := p.seen()
			if n := len(requests) - len(wrong); n != tt.requests {
				t.Errorf("token requests = %d, want %d", n, tt.requests)
			}
		})
	}
}

// An acquisition by the directory has time for IMDS to be updated, unless its
// caller has less.
func TestAnUpdateOfIMDSIsWaitedForWhileThereIsTime(t *testing.T) {
	elsewhere(t)
	for _, tt := range []struct {
		name string
		most time.Duration
		took time.Duration
		ok   bool
	}{{"no bound", time.Hour, 70 * time.Second, true}, {"half a minute", 30 * time.Second, 20 * time.Second, false}} {
		t.Run(tt.name, func(t *testing.T) {
			p := newIMDS(graph)
			p.answer = failing(410, 7)
			p.start(t)
			t.Setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", p.URL)
			c := onHost(routes.ManagedIdentity{})
			d := loaded(t, c)
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				ctx, cancel := context.WithTimeout(t.Context(), tt.most)
				defer cancel()
				_, err := d.Acquire(ctx, d.Key(c, graphScope), "")
				if took := time.Since(began); took != tt.took || (err == nil) != tt.ok {
					t.Errorf("Acquire = %v after %s, want after %s", err, took, tt.took)
				}
				if err != nil && !strings.Contains(err.Error(), "is being updated") {
					t.Errorf("Acquire = %v, want what IMDS said", err)
				}
			})
		})
	}
}

func TestACallerWhoLeavesEndsTheWaiting(t *testing.T) {
	elsewhere(t)
	p := newIMDS(graph)
	p.answer = failing(410, 7)
	p.start(t)
	t.Setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", p.URL)
	c := onHost(routes.ManagedIdentity{})
	d := loaded(t, c)
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(15*time.Second, cancel)
		began := time.Now()
		_, err := d.Acquire(ctx, d.Key(c, graphScope), "")
		if took := time.Since(began); took != 15*time.Second || err == nil || !strings.Contains(err.Error(), "given up") {
			t.Errorf("Acquire = %v after %s, want that it was given up after 15s", err, took)
		}
		if st := condition(t, d); st.LastError != nil {
			t.Errorf("last error = %v; a caller who left says nothing about the credential", st.LastError)
		}
	})
}
