package proxy_test

import (
	"os"
	"testing"

	"github.com/seed-13b04e61/gateway/gate"
)

// checkUID checks the evidence of two calls on one connection.
func checkUID(t *testing.T, first, second gate.Evidence) {
	t.Helper()
	for _, e := range []gate.Evidence{first, second} {
		if e.UID == nil {
			t.Fatal("no UID on loopback")
		}
		if uid, err := e.UID(); err != nil || uid != uint32(os.Getuid()) {
			t.Errorf("UID = %d, %v; want %d", uid, err, os.Getuid())
		}
	}
}
