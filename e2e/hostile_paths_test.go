package e2e

import "strings"

// hostilePaths are paths and queries as no client should write them. On a
// route without rules they go out byte for byte, and to the same host.
func hostilePaths() []hostile {
	var table []hostile
	for _, path := range []string{
		"/v1.0//users", "/v1.0/users/", "/v1.0/users//", "/v1.0/./users", "/v1.0/../users", "/v1.0/users/..", "/../../users", "/.", "/..",
		"/v1.0/%2e%2e/users", "/v1.0/%2E%2e/users", "/v1.0/.%2e/users", "/v1.0/%2e/users", "/v1.0/%252e%252e/users", "/v1.0/..;/users", "/v1.0/;x=1/users", "/v1.0/users;x=1", "/;/users",
		"/v1.0/users%2fa", "/v1.0/users%2Fa", "/v1.0%2fusers", "/%2f%2f{stranger}/x", "/v1.0/a%5cb", "/v1.0/%00", "/v1.0/users%00.json", "/v1.0/%0d%0aHost:%20{stranger}", "/v1.0/%0a", "/v1.0/%7f", "/v1.0/%23frag", "/v1.0/%3fa=b",
		"/v1.0/%c0%ae%c0%ae/users", "/v1.0/%ff", "/v1.0/%e2%80%ae", "/v1.0/%20", "/v1.0/users%20", "/v1.0/+", "/v1.0/~", "/v1.0/users('a%27b')", "/v1.0/$batch", "/v1.0/%24batch", "/v1.0/USERS", "/V1.0/users",
		"/v1.0/a:b@c", "/v1.0/http://{stranger}/", "/@{stranger}/x", "/v1.0/users.", "/v1.0/users...", "/v1.0/%41", "/v1.0/a&b=c", "/v1.0/a!*'(),",
	} {
		table = append(table, hostile{name: "path " + strings.ReplaceAll(path, "/", "∕"), send: "GET {to}" + path + " HTTP/1.1\r\nHost: {host}\r\n\r\n", want: sent, line: "GET " + path + " HTTP/1.1"})
	}
	for _, path := range []string{"/v1.0/a|b", "/v1.0/a\"b", "/v1.0/a^b", "/v1.0/a\\b", "/v1.0/..\\..\\b", "/v1.0/{id}", "/v1.0/a`b", "/v1.0/<b>", "/v1.0/[b]", "/v1.0/\u00fcser", "/v1.0/\u202e", "/v1.0/\uff0e\uff0e/x", "/v1.0/\xff\xfe"} {
		table = append(table, hostile{name: "bare path " + strings.ReplaceAll(path, "/", "∕"), send: "GET {to}" + path + " HTTP/1.1\r\nHost: {host}\r\n\r\n", want: sent, line: "GET " + path + " HTTP/1.1"})
	}
	for _, query := range []string{"?", "??", "?a=1;b=2", "?a=%zz", "?a=%", "?%00", "?a=b&a=c", "?$filter=startswith(n,'%27')", "?_method=DELETE", "?access_token=of-the-caller-1", "?comp=batch", "?a=http://{stranger}/", "?a=\u00fc", "?=", "?&&", "?a[]=b|c", "?a=\"b\"", "?/../..", "?a\\b"} {
		table = append(table, hostile{name: "query " + strings.ReplaceAll(query, "/", "∕"), send: "GET {to}/v1.0/me" + query + " HTTP/1.1\r\nHost: {host}\r\n\r\n", want: sent, line: "GET /v1.0/me" + query + " HTTP/1.1"})
	}
	table = append(table,
		hostile{name: "path of two slashes", send: "GET {to}//{stranger}/x HTTP/1.1\r\nHost: {host}\r\n\r\n", want: sent, line: "GET //{stranger}/x HTTP/1.1"},
		hostile{name: "path of two slashes with a bare character", send: "GET {to}//{stranger}/a|b HTTP/1.1\r\nHost: {host}\r\n\r\n", want: "bad_request"},
		hostile{name: "no path at all", send: "GET {to} HTTP/1.1\r\nHost: {host}\r\n\r\n", want: sent, line: "GET / HTTP/1.1"},
		hostile{name: "query without a path", send: "GET {to}?a=b HTTP/1.1\r\nHost: {host}\r\n\r\n", want: sent, line: "GET /?a=b HTTP/1.1"},
	)
	return table
}
