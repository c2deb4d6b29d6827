package tds_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/seed-13b04e61/gateway/secrets"
	"github.com/seed-13b04e61/gateway/sql/tds"
)

func TestAnAnswerWithTheTokenInItIsSeenByNobody(t *testing.T) {
	const head, end = "AyTzq0bF3w8n1cMxVt7uJkRrSsOoPpLlZ5dGhQeWa-4", "K1Mx0vYbNqWeRtYuIoPaSdFgHjKlZxCvBnM9_8-7654"
	const signature = head + "0123456789" + end
	const token = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJnYXRld2F5In0." + signature
	long := bytes.Repeat([]byte{'.', 0}, 3000)
	for name, answer := range map[string][]byte{
		"in an ERROR":              farJoin(farError(18456, "Login failed for "+token), farDone()),
		"its signature alone":      farJoin(farError(50000, signature), farDone()),
		"short of its end":         farJoin(farError(18456, "Login failed for "+token[:len(token)-1]), farDone()),
		"short of most of its end": farJoin(farInfo("hello "+token[:len(token)-len(end)]), farWelcome()),
		"short of its beginning":   farJoin(farError(50000, end), farDone()),
		"in an INFO of a welcome":  farJoin(farInfo("hello "+token), farWelcome()),
		"as the database":          farJoin(farEnv(1, token, "master"), farWelcome()),
		"in a redirect":            farJoin(farRouting(token, 1433), farDone()),
		"in bytes of a feature":    farJoin(farFeatures(farFeature{2, []byte(token)}), farAck(0x74000004), farDone()),
		"over the end of a packet": farJoin(farInfo(string(long[:4020])+token), farWelcome()),
		"in what is no token":      append([]byte{0x55}, farUTF16(token)...),
	} {
		for _, nonce := range [][]byte{nil, make([]byte, 32)} {
			t.Run(name, func(t *testing.T) {
				f := newFar()
				f.nonce, f.answer = nonce, func(farVisit) []byte { return answer }
				u, err := tds.Connect(t.Context(), targetOf(f.start(t)), clientLogin(), clientOptions(), secrets.New(token))
				if u != nil {
					_ = u.Close()
				}
				e, ok := errors.AsType[*tds.LoginError](err)
				if !ok || !errors.Is(err, tds.ErrReflected) || len(e.Tokens) > 0 || e.Remedy() == "" {
					t.Fatalf("Connect() = %v, want ErrReflected and nothing of the answer", err)
				}
				if said := e.Error(); strings.Contains(said, head) || strings.Contains(said, end) {
					t.Errorf("the error holds the token: %v", e)
				}
			})
		}
	}
}

func TestATokenTooShortToBeOneIsNotLookedFor(t *testing.T) {
	f := newFar()
	f.answer = func(farVisit) []byte {
		return farJoin(farInfo("Changed language setting to us_english."), farWelcome())
	}
	u, err := tds.Connect(t.Context(), targetOf(f.start(t)), clientLogin(), clientOptions(), secrets.New("us_english"))
	if err != nil {
		t.Fatal(err)
	}
	_ = u.Close()
}
