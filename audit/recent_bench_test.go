package audit_test

import (
	"testing"

	"github.com/seed-13b04e61/gateway/audit"
)

func BenchmarkCallsRecord(b *testing.B) {
	c := audit.NewCalls()
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		e := numbered(1)
		for pb.Next() {
			c.Record(e)
		}
	})
}
