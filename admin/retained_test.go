package admin_test

import (
	"runtime"
	"strings"
	"testing"

	"github.com/seed-13b04e61/gateway/secrets"
	"github.com/seed-13b04e61/gateway/tokens"
)

// TestUsageHoldsNoRequestLines counts calls whose fields are parts of long
// request lines, as those of a server are.
func TestUsageHoldsNoRequestLines(t *testing.T) {
	const calls, long = 64, 1 << 20
	live := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	l := newLedger()
	before := live()
	for i := range calls {
		line := "GET /" + strings.Repeat("a", i%30+1) + strings.Repeat("-", i/30) + " " + strings.Repeat("q", long)
		path, _, _ := strings.Cut(line[4:], " ")
		l.Record(call("orders", line[:3], path, 200))
		l.Held(tokens.Key{Credential: "daemon", Tenant: path[1:], Scope: graphScope}, tokens.Token{Access: secrets.New("opaque")})
	}
	if held := live() - before; held > 8*long && held < 1<<62 {
		t.Errorf("%d kinds of calls hold %d MiB, want less than 8", calls, held>>20)
	}
	if n := len(l.of(t, "api://orders/.default").Calls); n < 30 {
		t.Errorf("%d kinds of calls, want more: they are not told apart", n)
	}
}
