package e2e

import "strings"

// hostileCredentials are what callers may show, and what only looks like it
// (RFC 7617, RFC 6750, RFC 9110 §11).
func hostileCredentials() []hostile {
	var table []hostile
	add := func(want, name, fields string) {
		h := hostile{name: "credential " + name, send: with(fields), want: want, line: getLine, bare: true, without: []string{"{key}", "{basic}", "x-gateway", "proxy-auth"}}
		if fields == "" {
			h.send = strings.Replace(with("X: y"), "X: y\r\n", "", 1)
		}
		table = append(table, h)
	}
	for name, value := range map[string]string{
		"Bearer": "Bearer {key}", "bearer in small letters": "bearer {key}", "Basic": "Basic {basic}", "BASIC in capitals": "BASIC {basic}",
	} {
		add(sent, name, "{carrier}: "+value)
	}
	add(sent, "in a carrier of another case", "{carrier}: Bearer {key}\r\nX-Other: y")
	for name, value := range map[string]string{
		"empty": "", "Bearer alone": "Bearer", "Bearer and a space": "Bearer ", "key alone": "{key}", "Bearer and two words": "Bearer {key} x", "Bearer with a comma": "Bearer {key},", "Bearer with a parameter": "Bearer {key};a=b",
		"Bearer behind a quote": "Bearer \"{key}\"", "Bearer twice in one line": "Bearer {key}, Bearer {key}", "Bearer and Basic in one line": "Bearer {key}, Basic {basic}", "Bearer by a tab": "Bearer\t{key}", "Bearer with equals": "Bearer={key}", "Bearer as parameter": "Bearer token={key}",
		"Bearer without a space": "Bearer{key}", "another scheme": "Token {key}", "Digest": "Digest username=\"good\", response=\"{key}\"", "Negotiate": "Negotiate {key}", "scheme with a colon": "Bearer: {key}", "AWS": "AWS4-HMAC-SHA256 Credential={key}",
		"Basic of the key": "Basic {key}", "Basic in clear": "Basic good:{key}", "Basic alone": "Basic", "Basic of no base64": "Basic !!!!", "Basic twice encoded": "Basic {basic twice}", "Basic without a colon": "Basic {basic no colon}",
		"Basic wrong key": "Basic {basic wrong}", "Basic empty key": "Basic {basic bare}", "Basic of nobody": "Basic {basic nobody}", "Basic under another's name": "Basic {basic other}", "Basic in capitals": "Basic {basic GOOD}", "Basic with a space": "Basic {basic space}",
		"Basic with LF": "Basic {basic LF}", "Basic anonymous": "Basic {basic anonymous}", "Basic with NUL": "Basic {basic NUL}", "Basic with a colon more": "Basic {basic colon}", "Basic with the hash": "Basic {basic hash}", "Basic and a word": "Basic {basic} x",
		"key without its first": "Bearer {key-1}", "key without its last": "Bearer {-1key}", "key and one more": "Bearer {key}A", "key in capitals": "Bearer {KEY}", "key's hash": "Bearer {hash}", "key by escapes": "Bearer %41{key-1}", "key and padding": "Bearer {key}=", "key and a dot": "Bearer {key}.", "null": "Bearer null", "undefined": "Bearer undefined",
		"name of the caller": "Bearer good", "star": "Bearer *", "SQL": "Bearer ' OR '1'='1", "long": "Bearer " + strings.Repeat("a", 20_000), "Basic long": "Basic " + strings.Repeat("YWFh", 5_000), "outside of ASCII": "Bearer {key}\u00e9", "zero width": "Bearer {key}\u200b", "dots": "Bearer ..", "two dots in a key": "Bearer a.b.c", "five parts": "Bearer a.b.c.d.e",
	} {
		add("caller_unknown", name, "{carrier}: "+value)
	}
	for name, fields := range map[string]string{
		"none":                           "X: y",
		"twice the same":                 "{carrier}: Bearer {key}\r\n{carrier}: Bearer {key}",
		"twice, the good one first":      "{carrier}: Bearer {key}\r\n{carrier}: Bearer wrong",
		"twice, the good one last":       "{carrier}: Bearer wrong\r\n{carrier}: Bearer {key}",
		"twice, one empty":               "{carrier}:\r\n{carrier}: Bearer {key}",
		"as Bearer in Authorization":     "Authorization: Bearer {key}",
		"as X-Api-Key":                   "X-Api-Key: {key}",
		"as cookie":                      "Cookie: key={key}; authorization=Bearer {key}",
		"with underscores":               "X_Gateway_Authorization: Bearer {key}\r\nProxy_Authorization: Bearer {key}",
		"as X-Forwarded-User":            "X-Forwarded-User: good\r\nX-Remote-User: good\r\nRemote-User: good",
		"as X-Forwarded-Client-Cert":     "X-Forwarded-Client-Cert: By=spiffe://contoso/gw;URI=spiffe://contoso/mesh\r\nX-SSL-Client-Verify: SUCCESS",
		"as the gateway's own":           "Gateway-Caller: good\r\nX-Gateway-Caller: good",
		"as X-Forwarded-For of loopback": "X-Forwarded-For: 127.0.0.1\r\nX-Real-Ip: 127.0.0.1\r\nForwarded: for=127.0.0.1",
		"as probe of health":             "User-Agent: kube-probe/1.30",
		"as probe of Google":             "User-Agent: GoogleHC/1.0",
		"as a path of health":            "X-Forwarded-Uri: /healthz\r\nX-Original-Url: /healthz",
	} {
		add("caller_unknown", name, fields)
	}
	for _, h := range []struct{ name, door, field string }{
		{"of the forward door at the reverse door", "reverse", "Proxy-Authorization: Bearer {key}"},
		{"of the reverse door at the forward door", "forward", "X-Gateway-Authorization: Bearer {key}"},
		{"of the reverse door's other field at the forward door", "forward", "Authorization: Basic {basic}"},
	} {
		table = append(table, hostile{name: "credential " + h.name, send: with(h.field), want: "caller_unknown", door: h.door, bare: true})
	}
	return append(table,
		hostile{name: "credential in the reverse door's other field", send: with("Authorization: Basic {basic}"), want: sent, line: getLine, door: "reverse", bare: true, without: []string{"{basic}"}},
		hostile{name: "credential named in Connection", send: with("Connection: {carrier}\r\n{carrier}: Bearer {key}"), want: sent, line: getLine, bare: true, without: []string{"{key}"}},
		hostile{name: "credential in the query", send: "GET {to}/v1.0/me?access_token={key} HTTP/1.1\r\nHost: {host}\r\n\r\n", want: "caller_unknown", bare: true},
		hostile{name: "credential in a trailer", send: post("Transfer-Encoding: chunked\r\nTrailer: {carrier}\r\n", "3\r\nabc\r\n0\r\n{carrier}: Bearer {key}\r\n\r\n"), want: "caller_unknown", bare: true},
		hostile{name: "credential in a fold", send: with("{carrier}: Bearer\r\n {key}"), want: sent, line: getLine, bare: true, without: []string{"{key}"}},
		hostile{name: "credential of the call before", send: "GET {to}/v1.0/me HTTP/1.1\r\nHost: {host}\r\n{carrier}: Bearer wrong\r\n\r\n" + with("X: y"), want: "caller_unknown", bare: true, answers: 2},
		hostile{name: "credential of another on this route", send: with("{carrier}: Bearer {other key}"), want: "caller_forbidden", bare: true},
		hostile{name: "route of another caller", send: "GET http://other.example.com/v1.0/me HTTP/1.1\r\nHost: other.example.com\r\n\r\n", want: "caller_forbidden", door: "forward"},
		hostile{name: "mount of another caller", send: "GET /other/v1.0/me HTTP/1.1\r\nHost: {host}\r\n\r\n", want: "caller_forbidden", door: "reverse"},
		hostile{name: "health path without a credential", send: "GET {to}/healthz HTTP/1.1\r\nHost: {host}\r\n\r\n", want: "caller_unknown", bare: true},
		hostile{name: "OPTIONS without a credential", send: "OPTIONS {to}/v1.0/me HTTP/1.1\r\nHost: {host}\r\nAccess-Control-Request-Method: GET\r\n\r\n", want: "caller_unknown", bare: true},
		hostile{name: "HEAD without a credential", send: "HEAD {to}/v1.0/me HTTP/1.0\r\nHost: {host}\r\n\r\n", want: "caller_unknown", bare: true},
		hostile{name: "unknown host without a credential", send: "GET http://evil.test/ HTTP/1.1\r\nHost: evil.test\r\n\r\n", want: "caller_unknown", door: "forward", bare: true},
		hostile{name: "unknown mount without a credential", send: "GET /nowhere HTTP/1.1\r\nHost: {host}\r\n\r\n", want: "caller_unknown", door: "reverse", bare: true},
	)
}

// hostileTenants choose, or seem to choose, whose token the call gets.
func hostileTenants() []hostile {
	call := func(fields string) string {
		return "GET {tenants}/v1.0/me HTTP/1.1\r\nHost: {tenants host}\r\n" + fields + "\r\n"
	}
	var table []hostile
	for name, fields := range map[string]string{
		"absent": "", "empty": "X-Tenant-Id:\r\n", "twice": "X-Tenant-Id: " + tenantGUID + "\r\nX-Tenant-Id: " + tenantGUID + "\r\n", "twice with a stranger": "X-Tenant-Id: " + tenantGUID + "\r\nX-Tenant-Id: 22223333-cccc-4444-dddd-5555eeee6666\r\n",
		"list": "X-Tenant-Id: " + tenantGUID + ", " + tenantGUID + "\r\n", "stranger": "X-Tenant-Id: 22223333-cccc-4444-dddd-5555eeee6666\r\n", "common": "X-Tenant-Id: common\r\n", "organizations": "X-Tenant-Id: organizations\r\n", "consumers": "X-Tenant-Id: consumers\r\n",
		"in braces": "X-Tenant-Id: {" + tenantGUID + "}\r\n", "in quotes": "X-Tenant-Id: \"" + tenantGUID + "\"\r\n", "with a slash": "X-Tenant-Id: " + tenantGUID + "/oauth2\r\n", "with dots": "X-Tenant-Id: ../" + tenantGUID + "\r\n", "with a query": "X-Tenant-Id: " + tenantGUID + "?x\r\n", "with a fragment": "X-Tenant-Id: " + tenantGUID + "#\r\n",
		"with an escape": "X-Tenant-Id: " + tenantGUID + "%2f\r\n", "with an at": "X-Tenant-Id: x@" + tenantGUID + "\r\n", "a URL": "X-Tenant-Id: http://{stranger}/" + tenantGUID + "\r\n", "with a space": "X-Tenant-Id: " + tenantGUID + " x\r\n", "long": "X-Tenant-Id: " + strings.Repeat("a", 5000) + ".example.com\r\n", "outside of ASCII": "X-Tenant-Id: f\u00e4brikam.example.com\r\n",
		"without hyphens": "X-Tenant-Id: " + strings.ReplaceAll(tenantGUID, "-", "") + "\r\n", "subdomain": "X-Tenant-Id: x.fabrikam.example.com\r\n", "prefix": "X-Tenant-Id: fabrikam.example.com.evil.test\r\n", "star": "X-Tenant-Id: *\r\n", "underscores": "X_Tenant_Id: " + tenantGUID + "\r\n", "another field": "X-Tenant: " + tenantGUID + "\r\n", "credential's own": "X-Tenant-Id: contoso.onmicrosoft.com\r\n",
	} {
		table = append(table, hostile{name: "tenant " + name, send: call(fields), want: "tenant_denied"})
	}
	for name, value := range map[string]string{"allowed": tenantGUID, "in capitals": strings.ToUpper(tenantGUID)} {
		table = append(table, hostile{name: "tenant " + name, send: call("X-Tenant-Id: " + value + "\r\n"), want: sent, line: getLine, tenant: true, without: []string{"tenant-id"}})
	}
	return append(table, hostile{name: "tenant in the query", send: "GET {tenants}/v1.0/me?tenant=" + tenantGUID + "&X-Tenant-Id=" + tenantGUID + " HTTP/1.1\r\nHost: {tenants host}\r\n\r\n", want: "tenant_denied"})
}

const tenantGUID = "aaaabbbb-0000-cccc-1111-dddd2222eeee"
