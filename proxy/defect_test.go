package proxy_test

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"github.com/seed-13b04e61/gateway/gate"
	"github.com/seed-13b04e61/gateway/proxy"
)

// defective is a gate that panics.
type defective struct{ proxy.Gate }

func (defective) Admit(context.Context, gate.Target) (gate.Pass, error) { panic("of this test") }

// The answer has to arrive: a caller whose connection breaks tries again.
func TestDefectIsAnsweredWith500AndLoggedWithItsStack(t *testing.T) {
	g := rigging{judge: func(g *gate.Gate) proxy.Gate { return defective{decided{g}} }}.newRig(t, plain, newUpstream(t, false, echo))
	for range 2 {
		resp, body := g.get(t, "/api/x")
		if resp.StatusCode != http.StatusInternalServerError || resp.Header.Get("Gateway-Error") != "internal" || !strings.Contains(body, `"code":"internal"`) {
			t.Errorf("status %d with %s; want 500 internal", resp.StatusCode, body)
		}
	}
	if log := g.log.String(); !strings.Contains(log, `"defect"`) || !strings.Contains(log, "defect_test.go") || strings.Contains(log, "of this test") {
		t.Errorf("the log has\n%s\nwant the stack, and not the panic's value", log)
	}
	if e := g.events.the(2); e.Code != "internal" || e.Status != http.StatusInternalServerError {
		t.Errorf("recorded: %d %s", e.Status, e.Code)
	}
}
