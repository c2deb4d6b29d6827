package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/seed-13b04e61/gateway/admin"
	"github.com/seed-13b04e61/gateway/sandbox"
)

// tourist makes the tour's calls as an app would: it knows the gateway's
// address and no credential.
type tourist struct {
	*scene
	client, proxied *http.Client // the second goes through the gateway, and trusts its CA
	base            string
}

// answered is what a call came back with.
type answered struct {
	status int
	header http.Header
	body   []byte
}

// step is one stop of the tour: what is claimed, and what proves it.
type step struct {
	claim string
	prove func(context.Context, *tourist) error
}

// tour walks through every step and fails if one did not hold.
func (sc *scene) tour(ctx context.Context, trouble string, s std) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	at := &url.URL{Scheme: "http", Host: shown(sc.gateway.proxyL)}
	roots := x509.NewCertPool()
	for _, root := range sc.gateway.ca.Roots() {
		roots.AddCert(root)
	}
	through := &http.Transport{Proxy: http.ProxyURL(at), TLSClientConfig: &tls.Config{RootCAs: roots}, ForceAttemptHTTP2: true}
	t := &tourist{
		scene: sc, base: at.String(),
		client:  &http.Client{Transport: &http.Transport{Proxy: nil}, CheckRedirect: stay},
		proxied: &http.Client{Transport: through, CheckRedirect: stay},
	}
	defer t.client.CloseIdleConnections()
	defer t.proxied.CloseIdleConnections()
	steps := tourSteps()
	if trouble != "" {
		steps = difficulties()[trouble].steps
	}
	failed := 0
	for i, st := range steps {
		err := st.prove(ctx, t)
		if err != nil {
			failed++
			fmt.Fprintf(s.out, "%2d  NO  %s: %v\n", i+1, st.claim, err)
			continue
		}
		fmt.Fprintf(s.out, "%2d  ok  %s\n", i+1, st.claim)
	}
	if failed > 0 {
		fmt.Fprintf(s.out, "%d of %d steps did not hold\n", failed, len(steps))
		return errNo
	}
	fmt.Fprintf(s.out, "%d of %d steps held\n", len(steps), len(steps))
	return nil
}

// stay shows a redirect instead of following it.
func stay(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// call makes one call; target is a path of the reverse door, or an absolute
// URL that goes through the gateway as HTTP_PROXY or HTTPS_PROXY.
func (t *tourist) call(ctx context.Context, method, target string, body []byte) (answered, error) {
	client, to := t.client, t.base+target
	if !strings.HasPrefix(target, "/") {
		client, to = t.proxied, target
	}
	req, err := http.NewRequestWithContext(ctx, method, to, bytes.NewReader(body))
	if err != nil {
		return answered{}, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return answered{}, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return answered{resp.StatusCode, resp.Header, b}, err
}

// expect makes a call and compares status and Gateway-Error.
func (t *tourist) expect(ctx context.Context, target string, status int, code string) (answered, error) {
	a, err := t.call(ctx, http.MethodGet, target, nil)
	if err != nil {
		return a, err
	}
	if got := a.header.Get("Gateway-Error"); a.status != status || got != code {
		return a, fmt.Errorf("status %d, Gateway-Error %q; want %d, %q", a.status, got, status, code)
	}
	return a, nil
}

// remedied checks that a refusal says what to do.
func remedied(a answered, aadsts int) error {
	var p struct {
		AADSTS int    `json:"aadsts"`
		Remedy string `json:"remedy"`
	}
	if err := json.Unmarshal(a.body, &p); err != nil {
		return err
	}
	if p.Remedy == "" || p.AADSTS != aadsts {
		return fmt.Errorf("aadsts %d, remedy %q; want aadsts %d and a remedy", p.AADSTS, p.Remedy, aadsts)
	}
	return nil
}

func tourSteps() []step { return slices.Concat(goodSteps(), sqlSteps(), badSteps()) }

// goodSteps are what an app sees on good days, and does not see on others.
func goodSteps() []step {
	return []step{
		{"a call with no credential to the reverse door brings users from Graph", func(ctx context.Context, t *tourist) error {
			return t.users(ctx, "/graph/v1.0/users")
		}},
		{"the same through http_proxy, by the URL of Graph itself", func(ctx context.Context, t *tourist) error {
			return t.users(ctx, "http://graph.microsoft.com/v1.0/users?$select=displayName&$top=3")
		}},
		{"the same through https_proxy, by https: the app trusts the gateway's CA, and keeps its URL", func(ctx context.Context, t *tourist) error {
			return t.users(ctx, "https://graph.microsoft.com/v1.0/users?$top=3")
		}},
		{"all took one token request, and nothing reached Graph without a token", func(_ context.Context, t *tourist) error {
			return t.counted(1)
		}},
		{"a revoked token's 401 is healed by one forced refresh; the app sees 200", func(ctx context.Context, t *tourist) error {
			t.world.Graph.RevokeTokens()
			return t.healed(ctx, 2)
		}},
		{"a claims challenge (continuous access evaluation) is answered for the app, body and all", func(ctx context.Context, t *tourist) error {
			if err := t.world.Graph.RequireClaims(sandbox.Challenge{}); err != nil {
				return err
			}
			defer t.world.Graph.RequireNothing()
			return t.healed(ctx, 3)
		}},
		{"a host that no route names is refused", func(ctx context.Context, t *tourist) error {
			_, err := t.expect(ctx, "http://example.com/", http.StatusForbidden, "egress_denied")
			return err
		}},
		{"Graph's own refusal passes as it is, and costs no token request", func(ctx context.Context, t *tourist) error {
			if _, err := t.expect(ctx, "/graph/v1.0/reports/getOffice365ActiveUserDetail", http.StatusForbidden, ""); err != nil {
				return err
			}
			return t.counted(3)
		}},
		{"gateway exec runs a program that knows nothing of all this, and its calls bring users too", func(ctx context.Context, t *tourist) error {
			return t.executed(ctx)
		}},
	}
}

// badSteps are what trouble with the token endpoint looks like.
func badSteps() []step {
	return []step{
		{"while the token endpoint is down, calls go on with the token in hand", func(ctx context.Context, t *tourist) error {
			t.world.Entra.Fail(sandbox.Outage)
			return t.users(ctx, "/graph/v1.0/users")
		}},
		{"with no token left either, the app gets 503 at once, never a 401", func(ctx context.Context, t *tourist) error {
			t.gateway.Purge(admin.Selection{})
			a, err := t.expect(ctx, "/graph/v1.0/users", http.StatusServiceUnavailable, "token_unavailable")
			if err == nil && a.header.Get("Retry-After") == "" {
				err = fmt.Errorf("no Retry-After")
			}
			return err
		}},
		{"an expired secret is named, with what to do", func(ctx context.Context, t *tourist) error {
			t.world.Entra.Recover()
			t.world.Entra.Fail(sandbox.ExpiredSecret)
			t.gateway.Purge(admin.Selection{})
			a, err := t.expect(ctx, "/graph/v1.0/users", http.StatusBadGateway, "token_refused")
			if err != nil {
				return err
			}
			return remedied(a, 7000222)
		}},
		{"when it is mended and purged, calls work again", func(ctx context.Context, t *tourist) error {
			t.world.Entra.Recover()
			t.gateway.Purge(admin.Selection{})
			return t.users(ctx, "/graph/v1.0/users")
		}},
	}
}

// users makes a call and looks for people in the answer, and for tokens
// nowhere.
func (t *tourist) users(ctx context.Context, target string) error {
	a, err := t.expect(ctx, target, http.StatusOK, "")
	if err != nil {
		return err
	}
	if a.header.Get("Authorization") != "" {
		return fmt.Errorf("the answer holds a token")
	}
	return people(a.body)
}

// people looks for users in an answer, and for tokens nowhere.
func people(body []byte) error {
	var page struct {
		Value []struct{ DisplayName string }
	}
	if err := json.Unmarshal(body, &page); err != nil {
		return err
	}
	if len(page.Value) == 0 || page.Value[0].DisplayName == "" {
		return fmt.Errorf("the answer holds no users")
	}
	if bytes.Contains(body, []byte("eyJ")) {
		return fmt.Errorf("the answer holds a token")
	}
	return nil
}

// executed has a program of its own make a call, as gateway exec runs it: it is
// this one, as an app.
func (t *tourist) executed(ctx context.Context) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	read, write, err := os.Pipe()
	if err != nil {
		return err
	}
	defer read.Close()
	var errs bytes.Buffer
	said := make(chan []byte, 1)
	go func() { // ends when the program and this function have closed their ends
		b, _ := io.ReadAll(read) // what is missing is missed below
		said <- b
	}()
	app := program{path: self, args: []string{"gateway", "sandbox", "app", "https://graph.microsoft.com/v1.0/users"}, out: write}
	err = execFlags{config: config{path: filepath.Join(t.dir, "routes.yaml")}}.run(ctx, app, os.Environ(), std{io.Discard, &errs})
	_ = write.Close() // or the reader would wait
	status, body, _ := bytes.Cut(<-said, []byte("\n"))
	if err != nil || !bytes.HasPrefix(status, []byte("200 ")) {
		return fmt.Errorf("the program says %q and ends with %v: %s", status, err, &errs)
	}
	return people(body)
}

// counted compares what Entra was asked for Graph, and what Graph saw, since the
// start.
func (t *tourist) counted(requests int) error {
	if got := t.asked.of(graphScope); got != requests {
		return fmt.Errorf("%d token requests, want %d", got, requests)
	}
	if bare := t.world.Graph.Counts().Bare; bare != 0 {
		return fmt.Errorf("%d calls reached Graph without a token", bare)
	}
	return nil
}

// healed uploads a body that the first token is refused for, and compares what
// arrived in the end.
func (t *tourist) healed(ctx context.Context, requests int) error {
	body := bytes.Repeat([]byte("gateway "), 8<<10)
	a, err := t.call(ctx, http.MethodPost, "/graph/v1.0/$echo/tour", body)
	if err != nil {
		return err
	}
	var item struct{ Length int }
	if err := json.Unmarshal(a.body, &item); err != nil {
		return fmt.Errorf("status %d: %w", a.status, err)
	}
	if a.status/100 != 2 || item.Length != len(body) || a.header.Get("Gateway-Retry") != "1" {
		return fmt.Errorf("status %d, %d bytes arrived, Gateway-Retry %q; want success, %d bytes, \"1\"",
			a.status, item.Length, a.header.Get("Gateway-Retry"), len(body))
	}
	return t.counted(requests)
}
