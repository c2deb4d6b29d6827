package sandbox_test

import (
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/seed-13b04e61/gateway/sandbox"
)

func platform(t *testing.T, opts sandbox.PlatformOptions) *sandbox.Platform {
	t.Helper()
	p, err := sandbox.StartPlatform(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

// jobRequest is how a job of GitHub Actions asks for a token.
func jobRequest(t *testing.T, p *sandbox.Platform) *http.Request {
	t.Helper()
	env := variables(p.Environ())
	r := request(t, "GET", env["ACTIONS_ID_TOKEN_REQUEST_URL"]+"&audience="+url.QueryEscape(sandbox.TokenExchangeAudience), "")
	r.Header.Set("Authorization", "Bearer "+env["ACTIONS_ID_TOKEN_REQUEST_TOKEN"])
	return r
}

// machineRequest is how a process on Google Cloud does.
func machineRequest(t *testing.T, p *sandbox.Platform) *http.Request {
	t.Helper()
	r := request(t, "GET", "http://"+variables(p.Environ())["GCE_METADATA_HOST"]+
		"/computeMetadata/v1/instance/service-accounts/default/identity?format=full&audience="+url.QueryEscape(sandbox.TokenExchangeAudience), "")
	r.Header.Set("Metadata-Flavor", "Google")
	return r
}

func TestPlatformsTokensAreTakenByEntra(t *testing.T) {
	w := world(t, sandbox.Options{})
	job := platform(t, sandbox.PlatformOptions{World: w, Kind: sandbox.GitHub})
	machine := platform(t, sandbox.PlatformOptions{World: w, Kind: sandbox.GCP, Subject: "machine"})
	ask := map[*sandbox.Platform]func() string{
		job: func() string {
			a := do(t, jobRequest(t, job))
			if a.status != http.StatusOK || a.json["count"] == nil {
				t.Fatalf("github = %d %s, want a token", a.status, a.raw)
			}
			return a.str("value")
		},
		machine: func() string {
			a := do(t, machineRequest(t, machine))
			if a.status != http.StatusOK || a.header.Get("Metadata-Flavor") != "Google" {
				t.Fatalf("gcp = %d %s, want a token and Metadata-Flavor", a.status, a.raw)
			}
			return string(a.raw)
		},
	}
	for p, get := range ask {
		if err := w.Entra.AddFederated(sandbox.ClientID, sandbox.Federated{Issuer: w.Issuer.URL(), Subject: p.Subject()}); err != nil {
			t.Fatal(err)
		}
		first, second := get(), get()
		if first == second {
			t.Errorf("%s: two calls got one token", p.Subject())
		}
		if a := present(t, w, first); a.status != http.StatusOK {
			t.Errorf("%s: %d %s, want a token", p.Subject(), a.status, a.raw)
		}
		if p.Requests() != 2 || p.Refused() != 0 {
			t.Errorf("%s: requests, refused = %d, %d, want 2, 0", p.Subject(), p.Requests(), p.Refused())
		}
	}
	if c := claimsOf(t, do(t, jobRequest(t, job)).str("value")); c["exp"].(float64)-c["iat"].(float64) != 300 {
		t.Errorf("a job's token lives %v s, want 300", c["exp"].(float64)-c["iat"].(float64))
	}
}

func TestPlatformsRefuseWhatIsNotTheirProtocol(t *testing.T) {
	w := world(t, sandbox.Options{})
	for _, tt := range []struct {
		kind   sandbox.PlatformKind
		name   string
		change func(*http.Request)
		status int
	}{
		{sandbox.GitHub, "no token", func(r *http.Request) { r.Header.Del("Authorization") }, 401},
		{sandbox.GitHub, "another token", func(r *http.Request) { r.Header.Set("Authorization", "Bearer x") }, 401},
		{sandbox.GitHub, "query lost", func(r *http.Request) { r.URL.RawQuery = "audience=a" }, 400},
		{sandbox.GitHub, "unknown parameter", func(r *http.Request) { r.URL.RawQuery += "&aud=a" }, 400},
		{sandbox.GitHub, "audience twice", func(r *http.Request) { r.URL.RawQuery += "&audience=a" }, 400},
		{sandbox.GitHub, "POST", func(r *http.Request) { r.Method = "POST" }, 405},
		{sandbox.GitHub, "elsewhere", func(r *http.Request) { r.URL.Path = "/" }, 404},
		{sandbox.GCP, "no flavor", func(r *http.Request) { r.Header.Del("Metadata-Flavor") }, 403},
		{sandbox.GCP, "through a proxy", func(r *http.Request) { r.Header.Set("X-Forwarded-For", "10.0.0.1") }, 403},
		{sandbox.GCP, "no audience", func(r *http.Request) { r.URL.RawQuery = "" }, 400},
		{sandbox.GCP, "broken query", func(r *http.Request) { r.URL.RawQuery = "a=%zz" }, 400},
	} {
		p := platform(t, sandbox.PlatformOptions{World: w, Kind: tt.kind})
		r := machineRequest
		if tt.kind == sandbox.GitHub {
			r = jobRequest
		}
		made := r(t, p)
		tt.change(made)
		a := do(t, made)
		if a.status != tt.status || p.Refused() != 1 || strings.Contains(string(a.raw), "eyJ") {
			t.Errorf("%s, %s = %d %s, want %d", tt.kind, tt.name, a.status, a.raw, tt.status)
		}
	}
}

func TestPlatformsCanFail(t *testing.T) {
	w := world(t, sandbox.Options{TLS: true})
	p := platform(t, sandbox.PlatformOptions{World: w, Kind: sandbox.GCP, Lifetime: time.Minute})
	p.FailWith(sandbox.Failure{Kind: sandbox.ServerError, Times: 1})
	for i, want := range []int{500, 200} {
		if a := do(t, machineRequest(t, p)); a.status != want {
			t.Errorf("call %d = %d, want %d", i+1, a.status, want)
		}
	}
	p.FailWith(sandbox.Failure{Kind: sandbox.Refuse})
	if resp, err := plain().Do(machineRequest(t, p)); err == nil {
		resp.Body.Close()
		t.Error("a refused connection was answered")
	}
	p.Recover()
	if a := do(t, machineRequest(t, p)); a.status != http.StatusOK {
		t.Errorf("after Recover = %d, want 200", a.status)
	}
	for _, o := range []sandbox.PlatformOptions{{Kind: sandbox.GCP}, {World: w, Kind: "aws"}} {
		if _, err := sandbox.StartPlatform(o); err == nil {
			t.Errorf("StartPlatform(%q) = nil, want an error", o.Kind)
		}
	}
}

func ExampleStartPlatform() {
	w, err := sandbox.Start(sandbox.Options{})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return
	}
	defer w.Close()
	p, err := sandbox.StartPlatform(sandbox.PlatformOptions{World: w, Kind: sandbox.GitHub})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return
	}
	defer p.Close()
	err = w.Entra.AddFederated(sandbox.ClientID, sandbox.Federated{Issuer: w.Issuer.URL(), Subject: p.Subject()})
	fmt.Println(p.Subject(), err)
	// Output: repo:contoso/app:ref:refs/heads/main <nil>
}
