package audit_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/seed-13b04e61/gateway/audit"
)

func TestNoLineHoldsWhatATerminalWouldObey(t *testing.T) {
	for in, want := range map[string]string{
		"/v1.0/users/ü €/\U0001f600": "/v1.0/users/ü €/\U0001f600",
		"/a%1b[2J\"\\":               "/a%1b[2J\"\\",
		"/\u009b2J\u0085":            "/%C2%9B2J%C2%85",
		"/\x1b[2J\r\n\x7f":           "/%1B[2J%0D%0A%7F",
		"/exe.\u202efdp\u2028\u200b": "/exe.%E2%80%AEfdp%E2%80%A8%E2%80%8B",
		"/\xff\xc2":                  "/%FF%C2",
	} {
		e := event()
		e.Path, e.Host = in, in
		var log bytes.Buffer
		l, err := audit.NewLog(&log, audit.LogConfig{Level: "info", Format: "json", Access: true})
		if err != nil {
			t.Fatal(err)
		}
		l.Record(e)
		var kept pipe
		trail, _ := newTrail(&kept)
		trail.Record(e)
		trail.Close()
		for where, line := range map[string]string{"log": log.String(), "audit": strings.Join(kept.lines(), "")} {
			got := struct {
				Host string `json:"server.address"`
				Path string `json:"url.path"`
			}{}
			if err := json.Unmarshal([]byte(line), &got); err != nil {
				t.Fatalf("%s: %v", where, err)
			}
			if got.Host != want || where == "log" && got.Path != want {
				t.Errorf("%s of %q: host %q, path %q; want %q", where, in, got.Host, got.Path, want)
			}
		}
	}
}
