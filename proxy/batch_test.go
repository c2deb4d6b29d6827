package proxy_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/seed-13b04e61/gateway/gate"
	"github.com/seed-13b04e61/gateway/proxy"
	"github.com/seed-13b04e61/gateway/routes"
)

// judging is a gate whose passes are altered, and which judges batches.
type judging struct {
	*gate.Gate
	alter func(*gate.Pass)
	batch func(body []byte) ([]byte, error)
}

func (j judging) Admit(ctx context.Context, t gate.Target) (gate.Pass, error) {
	pass, err := j.Gate.Admit(ctx, t)
	if err == nil {
		j.alter(&pass)
	}
	return pass, err
}

func (j judging) AdmitBatch(_ context.Context, _ gate.Pass, _ *routes.Caller, body []byte) ([]byte, error) {
	if j.batch == nil {
		return nil, errors.New("no batch was expected")
	}
	return j.batch(body)
}

func TestFieldThatNamesTheTenantGoesNoFurther(t *testing.T) {
	g := rigging{judge: func(g *gate.Gate) proxy.Gate {
		return judging{Gate: g, alter: func(p *gate.Pass) { p.Drop = "X-Tenant-Id" }}
	}}.newRig(t, plain, newUpstream(t, false, echo))
	_, body := g.get(t, "/api/x", "X-Tenant-Id", "a", "x-tenant-id", "b", "X-TENANT-ID", "c", "X_Tenant_Id", "d", "X-Other", "kept")
	if strings.Contains(strings.ToLower(body), "tenant") || !strings.Contains(body, "kept") {
		t.Errorf("the upstream saw %s", body)
	}
}

func TestEncodedBatchGoesOnAsItIsWhereRulesAreReported(t *testing.T) {
	g := rigging{alter: func(table *routes.Table) { table.Routes[0].Report = true }, judge: func(g *gate.Gate) proxy.Gate {
		return judging{Gate: g, alter: func(p *gate.Pass) { p.Batch = true }, batch: func(body []byte) ([]byte, error) { return body, nil }}
	}}.newRig(t, plain, newUpstream(t, false, func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		fmt.Fprint(w, r.Header.Get("Content-Encoding"), " ", string(b))
	}))
	resp, body := g.get(t, "/api/$batch", "Content-Encoding", "gzip")
	if resp.StatusCode != 200 || body != "gzip " {
		t.Errorf("got %d %q, want the call as it was", resp.StatusCode, body)
	}
}

func TestBatchIsSentAsItWasJudged(t *testing.T) {
	var tries atomic.Int64
	g := rigging{judge: func(g *gate.Gate) proxy.Gate {
		return judging{Gate: g, alter: func(p *gate.Pass) { p.Batch = true }, batch: func(body []byte) ([]byte, error) {
			if strings.Contains(string(body), "forbidden") {
				return nil, &gate.Refusal{Code: gate.RuleDenied, Detail: "call 1 of the batch is not allowed"}
			}
			return []byte("judged: " + string(body)), nil
		}}
	}}.newRig(t, plain, newUpstream(t, false, func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		if tries.Add(1) == 1 {
			w.WriteHeader(http.StatusUnauthorized) // so that the judged body is sent twice
			return
		}
		fmt.Fprintf(w, "%d %s", r.ContentLength, b)
	}))
	post := func(body io.Reader, coding string) string {
		req, err := http.NewRequest(http.MethodPost, g.front.URL+"/api/$batch", body)
		if err != nil {
			t.Fatal(err)
		}
		if coding != "" {
			req.Header.Set("Content-Encoding", coding)
		}
		resp, err := g.client(t, false).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, _ := io.ReadAll(resp.Body)
		if resp.StatusCode != 200 {
			return fmt.Sprint(resp.StatusCode, " ", resp.Header.Get("Gateway-Error"))
		}
		return string(b)
	}
	large := strings.Repeat("x", 4<<20)
	for _, tt := range []struct {
		name   string
		body   io.Reader
		coding string
		want   string
	}{
		{"sent twice", strings.NewReader("one"), "", "11 judged: one"},
		{"of unknown length", io.MultiReader(strings.NewReader("two")), "identity", "11 judged: two"},
		{"as large as may be", io.MultiReader(strings.NewReader(large)), "", fmt.Sprint(8+4<<20, " judged: ", large)},
		{"too large", strings.NewReader(large + "x"), "", "413 too_large"},
		{"too large, of unknown length", io.MultiReader(strings.NewReader(large + "x")), "", "413 too_large"},
		{"encoded", strings.NewReader("three"), "gzip", "400 bad_request"},
		{"encoded twice", strings.NewReader("three"), "identity, gzip", "400 bad_request"},
		{"forbidden", strings.NewReader("forbidden"), "", "403 rule_denied"},
		{"no body", http.NoBody, "", "8 judged: "},
	} {
		if got := post(tt.body, tt.coding); got != tt.want {
			t.Errorf("%s: %.60s, want %.60s", tt.name, got, tt.want)
		}
	}
	if g.events.the(8); g.handler.Kept() != 0 {
		t.Errorf("%d bytes are still kept", g.handler.Kept())
	}
}
