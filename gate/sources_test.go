package gate_test

import (
	"net/http"
	"testing"

	"github.com/seed-13b04e61/gateway/gate"
)

const storages = `  - {name: ruled, hosts: [acct.blob.core.windows.net], scope: s/.default, credential: other, mount: /ruled, allow: [{methods: [PUT, GET], paths: ["/in/**"]}, {methods: [DELETE], paths: ["/in/tmp/*"]}]}
  - {name: bound, hosts: [acct.dfs.core.windows.net], scope: s/.default, credential: other, mount: /bound, paths: ["/fs/**"]}
  - {name: open, hosts: [open.blob.core.windows.net], scope: s/.default, credential: other}
  - {name: report, hosts: [rep.blob.core.windows.net], scope: s/.default, credential: other, mode: report, allow: [{methods: [PUT], paths: ["/in/**"]}]}
`

func TestNoFieldReachesAPathThatTheRulesDoNotAllow(t *testing.T) {
	g := gate.New(newWorld(t, storages).Table, keyed{})
	const ruled, bound = "PUT acct.blob.core.windows.net/in/a", "PUT acct.dfs.core.windows.net/fs/a"
	for _, tt := range []struct {
		call, field, value string
		want               gate.Code
	}{
		{ruled, "X-Ms-Copy-Source", "https://acct.blob.core.windows.net/in/b", ""},
		{ruled, "X-Ms-Copy-Source", "https://ACCT.blob.core.windows.net:443/in/b?snapshot=2", ""},
		{ruled, "X-Ms-Copy-Source", "https://elsewhere.blob.core.windows.net/secret/b?sig=x", ""},
		{ruled, "X-Ms-Copy-Source", "https://acct.blob.core.windows.net/secret/b", gate.RuleDenied},
		{ruled, "X-Ms-Copy-Source", "HTTPS://acct.blob.core.windows.net/secret/b", gate.RuleDenied},
		{ruled, "X-Ms-Copy-Source", "https://acct.dfs.core.windows.net/secret/b", gate.RuleDenied},
		{ruled, "X-Ms-Copy-Source", "https://acct-secondary.blob.core.windows.net/secret/b", gate.RuleDenied},
		{ruled, "X-Ms-Copy-Source", "https://acct.blob.core.windows.net./secret/b", gate.RuleDenied},
		{ruled, "X-Ms-Copy-Source", "/secret/b", gate.RuleDenied},
		{ruled, "X-Ms-Copy-Source", "https://acct.blob.core.windows.net/in/../secret/b", gate.BadRequest},
		{ruled, "X-Ms-Copy-Source", "https://acct.blob.core.windows.net/in%2f..%2fsecret/b", gate.BadRequest},
		{ruled, "X-Ms-Copy-Source", "https://x@acct.blob.core.windows.net/secret/b", gate.BadRequest},
		{ruled, "X-Ms-Copy-Source", "https://acct.blob.core.windows.net", gate.BadRequest},
		{ruled, "X-Ms-Copy-Source", `https:\\acct.blob.core.windows.net\secret\b`, gate.BadRequest},
		{ruled, "X-Ms-Copy-Source", "secret/b", gate.BadRequest},
		{ruled, "X-Ms-Copy-Source", "", gate.BadRequest},
		{ruled, "X-Ms-Rename-Source", "/in/tmp/b", ""},
		{ruled, "X-Ms-Rename-Source", "/in/tmp/b?sig=x", ""},
		{ruled, "X-Ms-Rename-Source", "/in/b", gate.RuleDenied},
		{bound, "X-Ms-Rename-Source", "/fs/b", ""},
		{bound, "X-Ms-Rename-Source", "/other/b", gate.RuleDenied},
		{bound, "X-Ms-Rename-Source", "/fs/../other/b", gate.BadRequest},
		{"PUT open.blob.core.windows.net/a", "X-Ms-Copy-Source", "https://open.blob.core.windows.net/secret/../b", ""},
		{"PUT rep.blob.core.windows.net/in/a", "X-Ms-Copy-Source", "https://rep.blob.core.windows.net/secret/b", ""},
	} {
		target := onForward(t, tt.call)
		target.Header = http.Header{tt.field: {tt.value}}
		if _, _, code := noted(t, g, target); code != tt.want {
			t.Errorf("%s with %s: %s = %q, want %q", tt.call, tt.field, tt.value, code, tt.want)
		}
	}
	for call, want := range map[string]gate.Code{"PUT /bound/fs/a": "", "PUT /ruled/in/a": ""} {
		target := onReverse(call)
		target.Header = http.Header{"X-Ms-Copy-Source": {"/in/b"}}
		if call == "PUT /bound/fs/a" {
			target.Header = http.Header{"X-Ms-Rename-Source": {"/fs/b"}}
		}
		if _, _, code := noted(t, g, target); code != want {
			t.Errorf("%s = %q, want %q", call, code, want)
		}
	}
	twice := onForward(t, ruled)
	twice.Header = http.Header{"X-Ms-Copy-Source": {"/in/b", "/secret/b"}}
	if _, _, code := noted(t, g, twice); code != gate.BadRequest {
		t.Errorf("two sources = %q, want bad_request", code)
	}
	reported := onForward(t, "PUT rep.blob.core.windows.net/in/a")
	reported.Header = http.Header{"X-Ms-Copy-Source": {"/secret/b"}}
	if _, e, _ := noted(t, g, reported); e.WouldDeny == "" {
		t.Error("mode report notes nothing")
	}
}
