package proxy_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed-13b04e61/gateway/audit"
)

// refuser answers 401 to token-1 in one of several manners, and to any other
// token with the sum of what it received.
func refuser(manner string, refused *atomic.Int64) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if number(r.Header.Get("Authorization")) != 1 {
			sum := sha256.New()
			n, err := io.Copy(sum, r.Body)
			if err != nil {
				w.WriteHeader(http.StatusBadRequest)
				return
			}
			fmt.Fprintf(w, "%d %x", n, sum.Sum(nil))
			return
		}
		refused.Add(1)
		switch manner {
		case "at once":
		case "after some":
			_, _ = io.CopyN(io.Discard, r.Body, 1000)
		case "after all":
			_, _ = io.Copy(io.Discard, r.Body)
		case "and closes":
			w.Header().Set("Connection", "close")
		}
		w.Header().Set("WWW-Authenticate", `Bearer error="invalid_token"`)
		w.WriteHeader(http.StatusUnauthorized)
		_, _ = io.WriteString(w, "refused")
	}
}

// slowly is a body that comes in pieces of 16 KiB.
type slowly struct{ r io.Reader }

func (s slowly) Read(p []byte) (int, error) {
	time.Sleep(200 * time.Microsecond) // the client's own pace, not a wait for anything
	return s.r.Read(p[:min(len(p), 16<<10)])
}

func TestRefusedCallIsSentAgainWhole(t *testing.T) {
	for _, h2 := range []bool{false, true} {
		for _, manner := range []string{"at once", "after some", "after all", "and closes"} {
			for _, size := range []int{0, 1, 4 << 10, 70_000, 900_000} {
				for _, client := range []string{"known length", "chunked", "slow", "expects"} {
					// net/http's server resets such a connection at once, and its own
					// answer with it: closedRequestBodyEarly does not know expecting
					// bodies. docs/divergences.md has it.
					if !h2 && manner == "after some" && size > 256<<10 && client == "expects" {
						continue
					}
					name := fmt.Sprintf("h2=%v/%s/%d/%s", h2, manner, size, client)
					t.Run(name, func(t *testing.T) {
						t.Parallel()
						replayOnce(t, replayCase{h2, manner, size, client})
					})
				}
			}
		}
	}
}

type replayCase struct {
	h2     bool
	manner string
	size   int
	client string
}

func replayOnce(t *testing.T, c replayCase) {
	var refused atomic.Int64
	g := newRig(t, plain, newUpstream(t, c.h2, refuser(c.manner, &refused)))
	body := make([]byte, c.size)
	for i := range body {
		body[i] = byte(rand.Uint32())
	}
	var src io.Reader = bytes.NewReader(body)
	if c.client == "slow" {
		src = slowly{src}
	}
	req, err := http.NewRequest(http.MethodPost, g.front.URL+"/api/things", src)
	if err != nil {
		t.Fatal(err)
	}
	req.ContentLength = int64(c.size)
	switch c.client {
	case "chunked", "slow":
		req.ContentLength = -1
	case "expects":
		req.Header.Set("Expect", "100-continue")
	}
	resp, err := g.client(t, false).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintf("%d %x", c.size, sha256.Sum256(body)); resp.StatusCode != 200 || string(got) != want {
		t.Errorf("got %d %s, want 200 %s", resp.StatusCode, got, want)
	}
	if refused.Load() != 1 || g.issuer.issued.Load() != 2 {
		t.Errorf("%d refusals and %d tokens, want 1 and 2", refused.Load(), g.issuer.issued.Load())
	}
	g.front.Close() // ends the call, so that its books are closed
	if e := g.events.last(); e.Retry != audit.Recovered || e.BytesIn != int64(c.size) {
		t.Errorf("event says retry %q and %d bytes in, cause %q; want recovered and %d", e.Retry, e.BytesIn, e.Cause, c.size)
	}
	if kept := g.handler.Kept(); kept != 0 {
		t.Errorf("%d bytes are still kept after the call", kept)
	}
}

func TestStormOfRefusalsCostsOneToken(t *testing.T) {
	const calls = 200
	var refused atomic.Int64
	g := newRig(t, plain, newUpstream(t, true, refuser("after all", &refused)))
	client := g.client(t, false)
	var wg sync.WaitGroup
	var good atomic.Int64
	for i := range calls {
		wg.Go(func() {
			body := bytes.Repeat([]byte{byte(i)}, i*4500) // 0 to 900 KB
			resp, err := client.Post(g.front.URL+"/api/things", "application/octet-stream", bytes.NewReader(body))
			if err != nil {
				t.Error(err)
				return
			}
			defer resp.Body.Close()
			got, _ := io.ReadAll(resp.Body)
			if want := fmt.Sprintf("%d %x", len(body), sha256.Sum256(body)); resp.StatusCode == 200 && string(got) == want {
				good.Add(1)
				return
			}
			t.Errorf("call %d: %d %.80s", i, resp.StatusCode, got)
		})
	}
	wg.Wait()
	if good.Load() != calls || g.issuer.issued.Load() != 2 {
		t.Errorf("%d good answers and %d tokens, want %d and 2", good.Load(), g.issuer.issued.Load(), calls)
	}
	g.front.Close()
	if kept := g.handler.Kept(); kept != 0 {
		t.Errorf("%d bytes are still kept after all calls", kept)
	}
}

func TestBodyOverTheLimitPassesTheRefusalAndRenewsBehind(t *testing.T) {
	var refused atomic.Int64
	g := newRig(t, `
routes:
  - {name: api, hosts: [example.com], upstream: "{upstream}", tls: {ca_file: "{ca}"}, retry: {replay: 64KiB}}
`, newUpstream(t, false, refuser("after all", &refused)))
	client := g.client(t, false)
	body := bytes.Repeat([]byte("0123456789abcdef"), 20_000)
	post := func() (int, string) {
		resp, err := client.Post(g.front.URL+"/api/things", "application/octet-stream", slowly{bytes.NewReader(body)})
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		got, _ := io.ReadAll(resp.Body)
		return resp.StatusCode, string(got)
	}
	if status, got := post(); status != http.StatusUnauthorized || got != "refused" {
		t.Errorf("got %d %q, want the upstream's own 401", status, got)
	}
	deadline := time.Now().Add(5 * time.Second)
	for g.issuer.issued.Load() < 2 && time.Now().Before(deadline) {
		time.Sleep(time.Millisecond) // the renewal runs behind the call
	}
	status, got := post()
	for status == http.StatusUnauthorized && time.Now().Before(deadline) { // issued, and not kept yet
		status, got = post()
	}
	if n := g.issuer.issued.Load(); status != http.StatusOK || n != 2 {
		t.Errorf("the caller's own second try got %d %q with %d tokens issued, want 200 and 2", status, got, n)
	}
}

func TestSecondRefusalPassesUntouched(t *testing.T) {
	g := newRig(t, plain, newUpstream(t, false, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="%d"`, number(r.Header.Get("Authorization"))))
		w.WriteHeader(http.StatusUnauthorized)
		_, _ = io.WriteString(w, "no, and this is why")
	}))
	for i, want := range []string{`Bearer realm="2"`, `Bearer realm="2"`} {
		resp, err := g.client(t, false).Get(g.front.URL + "/api/x")
		if err != nil {
			t.Fatal(err)
		}
		got, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != 401 || string(got) != "no, and this is why" || resp.Header.Get("WWW-Authenticate") != want || resp.Header.Get("Gateway-Error") != "" {
			t.Errorf("call %d: %d %q %q, want the upstream's 401 with %q", i, resp.StatusCode, got, resp.Header.Get("WWW-Authenticate"), want)
		}
	}
	if n := g.issuer.issued.Load(); n != 2 {
		t.Errorf("%d tokens, want 2: a token fresh from a renewal is not renewed again", n)
	}
}

func TestClaimsChallengeIsAnsweredOnce(t *testing.T) {
	g := newRig(t, plain, newUpstream(t, false, func(w http.ResponseWriter, r *http.Request) {
		if number(r.Header.Get("Authorization")) == 1 {
			w.Header().Set("WWW-Authenticate", `Bearer realm="", error="insufficient_claims", claims="eyJhY2Nlc3NfdG9rZW4iOnsibmJmIjp7ImVzc2VudGlhbCI6dHJ1ZX19fQ=="`)
			w.WriteHeader(http.StatusUnauthorized)
		}
	}))
	resp, err := g.client(t, false).Get(g.front.URL + "/api/x")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	g.issuer.mu.Lock()
	defer g.issuer.mu.Unlock()
	if want := `{"access_token":{"nbf":{"essential":true}}}`; resp.StatusCode != 200 || len(g.issuer.claims) != 2 || g.issuer.claims[1] != want {
		t.Errorf("status %d, claims asked %q; want 200 and %q in the second request", resp.StatusCode, g.issuer.claims, want)
	}
}

func TestRetryCanBeTurnedOff(t *testing.T) {
	var refused atomic.Int64
	g := newRig(t, `
routes:
  - {name: api, hosts: [example.com], upstream: "{upstream}", tls: {ca_file: "{ca}"}, retry: {replay: off}}
`, newUpstream(t, false, refuser("at once", &refused)))
	resp, err := g.client(t, false).Get(g.front.URL + "/api/x")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusUnauthorized || refused.Load() != 1 {
		t.Errorf("status %d after %d tries, want 401 after 1", resp.StatusCode, refused.Load())
	}
}
