package e2e

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seed-13b04e61/gateway/sandbox"
)

const crowd = 200

// together makes n calls at once and returns the answers in order.
func together(t testing.TB, g *gateway, n int, build func(i int) request) []answer {
	t.Helper()
	answers, errs := make([]answer, n), make([]error, n)
	gun := make(chan struct{})
	var wg sync.WaitGroup
	for i := range n {
		r := build(i)
		wg.Go(func() {
			<-gun
			answers[i], errs[i] = call(t.Context(), g.client, r)
		})
	}
	close(gun)
	wg.Wait()
	for i, err := range errs {
		if err != nil {
			t.Fatalf("call %d: %v", i, err)
		}
	}
	return answers
}

// bodySize spreads the bodies of a crowd evenly from nothing to 900 KB.
func bodySize(i int) int { return i * 900_000 / (crowd - 1) }

func TestColdCrowdCostsOneTokenRequest(t *testing.T) {
	w := newWorld(t, sandbox.Options{})
	// The answer to whoever asks first is slow, so that the whole crowd waits
	// for it.
	w.Entra.FailWith(sandbox.Failure{Kind: sandbox.Slow, Delay: 2 * time.Second})
	g := start(t, graphSetup(w, ""))
	for i, a := range together(t, g, crowd, func(int) request {
		return request{url: g.url("/graph/v1.0/users")}
	}) {
		if a.status != http.StatusOK {
			t.Fatalf("call %d: status %d with %.300s", i, a.status, a.body)
		}
	}
	if n := w.Entra.Requests(); n != 1 {
		t.Errorf("%d token requests for %d cold callers, want 1", n, crowd)
	}
	noneBare(t, w)
}

func TestCrowdWithARevokedTokenCostsOneRenewal(t *testing.T) {
	w, g := startGraph(t, "")
	w.Graph.RevokeTokens()
	bodies := make([][]byte, crowd)
	answers := together(t, g, crowd, func(i int) request {
		bodies[i] = noise(bodySize(i))
		return request{method: http.MethodPut, url: g.url("/graph/v1.0/$echo/crowd"), body: bodies[i]}
	})
	for i, a := range answers {
		intact(t, echoed(t, a), bodies[i])
	}
	if n := w.Entra.Requests(); n != 2 {
		t.Errorf("%d token requests, want 2: one to begin, one renewal", n)
	}
	noneBare(t, w)
}

// reader is an upstream that reads the whole body before it judges the token,
// and refuses none before all of the crowd are in.
type reader struct {
	mu      sync.Mutex
	first   string // the Authorization that is refused
	waiting int
	all     chan struct{} // closed when the whole crowd is in
}

func (u *reader) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	sum := sha256.New()
	n, err := io.Copy(sum, r.Body)
	if err != nil {
		return // the client broke off, which it will tell
	}
	token := r.Header.Get("Authorization")
	u.mu.Lock()
	if u.first == "" {
		u.first = token
	}
	refuse := token == u.first
	if refuse {
		if u.waiting++; u.waiting == crowd {
			close(u.all)
		}
	}
	u.mu.Unlock()
	if refuse {
		select {
		case <-u.all:
		case <-time.After(patience):
		}
		w.Header().Set("WWW-Authenticate", `Bearer error="invalid_token"`)
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	_ = json.NewEncoder(w).Encode(map[string]any{
		"method": r.Method, "sha256": hex.EncodeToString(sum.Sum(nil)), "length": n,
	})
}

func TestUploadsThatWereReadInFullBeforeTheRefusalArriveIntact(t *testing.T) {
	w := newWorld(t, sandbox.Options{})
	upstream := &reader{all: make(chan struct{})}
	srv := httptest.NewServer(upstream)
	t.Cleanup(srv.Close)
	s := graphSetup(w, "")
	s.Config = strings.Replace(s.Config, w.Graph.URL(), srv.URL, 1)
	g := start(t, s)
	g.ready(t)
	bodies := make([][]byte, crowd)
	answers := together(t, g, crowd, func(i int) request {
		bodies[i] = noise(bodySize(i))
		return request{url: g.url("/graph/v1.0/upload"), body: bodies[i]}
	})
	passed := 0
	for i, a := range answers {
		if a.status == http.StatusUnauthorized {
			passed++
			continue
		}
		intact(t, echoed(t, a), bodies[i])
	}
	if passed > 0 {
		t.Errorf("%d of %d calls got the 401 although their bodies are below the replay limit", passed, crowd)
	}
	if n := w.Entra.Requests(); n != 2 {
		t.Errorf("%d token requests, want 2", n)
	}
}

func TestUploadUnderWayAtTheRefusalIsHealed(t *testing.T) {
	w, g := startGraph(t, "")
	w.Graph.RevokeTokens()
	body := noise(600_000)
	r, p := io.Pipe()
	go func() {
		_, _ = p.Write(body[:100_000])
		// The sandbox refuses by the headers alone, long before the rest.
		for w.Graph.Counts().Unauthorized == 0 && t.Context().Err() == nil {
			time.Sleep(pause)
		}
		_, _ = p.Write(body[100_000:])
		_ = p.Close()
	}()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, g.url("/graph/v1.0/$echo/slow"), r)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := g.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	intact(t, echoed(t, answer{status: resp.StatusCode, body: string(b)}), body)
}

func TestOutageFailsNoCallWhileTheTokenLives(t *testing.T) {
	t.Parallel()
	const life = 15 * time.Second
	w := newWorld(t, sandbox.Options{})
	w.Entra.SetLifetime(life)
	g := start(t, graphSetup(w, ""))
	g.ready(t)
	began := time.Now() // later than the token's issue
	w.Entra.Fail(sandbox.Outage)
	calls := 0
	var a answer
	for a.status = http.StatusOK; a.status == http.StatusOK; calls++ {
		time.Sleep(pause)
		a = must(t, g.client, request{url: g.url("/graph/v1.0/users")})
		if a.took > time.Second {
			t.Errorf("call %d took %s while the token endpoint was down", calls, a.took)
		}
		if time.Since(began) > life+time.Second {
			t.Fatalf("calls go on %s after the token was seen, which lives %s", time.Since(began), life)
		}
	}
	refused(t, a, http.StatusServiceUnavailable, "token_unavailable")
	if lived := time.Since(began); lived < life-3*time.Second {
		t.Errorf("calls failed after %s of the token's %s", lived, life)
	}
	// The token's own expiry is in whole seconds, and so a little early; what
	// follows is to find none at all.
	time.Sleep(time.Until(began.Add(life)))
	before, reached := w.Entra.Requests(), w.Graph.Counts().Calls
	for i, a := range together(t, g, crowd, func(int) request { return request{url: g.url("/graph/v1.0/users")} }) {
		refused(t, a, http.StatusServiceUnavailable, "token_unavailable")
		if a.header.Get("Retry-After") == "" || a.took > 3*time.Second {
			t.Errorf("call %d: took %s, Retry-After %q; want an answer at once that says when to come again",
				i, a.took, a.header.Get("Retry-After"))
		}
	}
	if n := w.Entra.Requests() - before; n > 3 {
		t.Errorf("%d token requests for %d calls while the endpoint is down, want 3 at most", n, crowd)
	}
	if n := w.Graph.Counts().Calls - reached; n != 0 {
		t.Errorf("%d calls went out with an expired token", n)
	}
}

func TestColdCrowdDuringAnOutageGetsItsAnswerAtOnce(t *testing.T) {
	t.Parallel()
	for _, kind := range []sandbox.Fault{sandbox.Outage, sandbox.Refuse, sandbox.Throttle} {
		t.Run(string(kind), func(t *testing.T) {
			w := newWorld(t, sandbox.Options{})
			w.Entra.Fail(kind)
			g := start(t, graphSetup(w, ""))
			for _, a := range together(t, g, crowd, func(int) request { return request{url: g.url("/graph/v1.0/users")} }) {
				refused(t, a, http.StatusServiceUnavailable, "token_unavailable")
				if a.header.Get("Retry-After") == "" || a.took > 5*time.Second {
					t.Errorf("took %s, Retry-After %q", a.took, a.header.Get("Retry-After"))
				}
			}
			if n := w.Entra.Requests(); n > 3 {
				t.Errorf("%d token requests, want 3 at most", n)
			}
			if n := w.Graph.Counts().Calls; n != 0 {
				t.Errorf("%d calls reached Graph without a token to go with", n)
			}
		})
	}
}

func TestHangingRefreshDelaysNobody(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sandbox.Options{})
	w.Entra.SetLifetime(60 * time.Second)
	w.Entra.SetRefreshIn(2 * time.Second)
	g := start(t, graphSetup(w, ""))
	g.ready(t)
	w.Entra.Fail(sandbox.Hang)
	asked := w.Entra.Requests()
	for end := time.Now().Add(6 * time.Second); time.Now().Before(end); time.Sleep(pause) {
		a := must(t, g.client, request{url: g.url("/graph/v1.0/users")})
		if a.status != http.StatusOK || a.took > time.Second {
			t.Fatalf("status %d after %s while a refresh hangs: %.300s", a.status, a.took, a.body)
		}
	}
	if w.Entra.Requests() == asked {
		t.Error("no refresh was tried; the test has shown nothing")
	}
	w.Entra.Recover()
}
