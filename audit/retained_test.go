package audit_test

import (
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/seed-13b04e61/gateway/audit"
)

// TestRememberedCallsDoNotHoldTheirRequestLines records calls whose fields are
// parts of long request lines, as those of a server are.
func TestRememberedCallsDoNotHoldTheirRequestLines(t *testing.T) {
	const calls, long = 64, 1 << 20
	live := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	c := audit.NewCalls()
	c.Record(numbered(0)) // makes the places
	before := live()
	for range calls {
		line := "GET /orders/contoso/users graph.microsoft.com " + strings.Repeat("q", long)
		c.Record(&audit.Event{
			Start: time.Now(), Method: line[:3], Path: line[4:25], APIPath: line[11:25], Tenant: line[12:19], Template: line[4:25],
			Host: line[26:45], Route: "orders", Status: 200,
		})
	}
	if held := live() - before; held > 8*long && held < 1<<62 {
		t.Errorf("%d calls hold %d MiB, want less than 8", calls, held>>20)
	}
	got, _ := c.Latest(1, nil)
	if got[0].Tenant != "contoso" || got[0].Template != "/orders/contoso/users" || got[0].Path != "/orders/contoso/users" {
		t.Errorf("the newest is %+v", got[0])
	}
	runtime.KeepAlive(c)
}
