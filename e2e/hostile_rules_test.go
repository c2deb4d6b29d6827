package e2e

import (
	"fmt"
	"strings"
)

// hostileRules are spellings by which a call might pass for another than it
// is, on a route that allows GET /v1.0/users/**, GET
// /v1.0/groups/{id}/members and batches alone.
func hostileRules() []hostile {
	var table []hostile
	add := func(want, method, path string) {
		table = append(table, hostile{name: "rule " + method + " " + strings.ReplaceAll(path, "/", "∕"), as: "limited", want: want,
			send: method + " {ruled}" + path + " HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\n\r\n", line: method + " " + path + " HTTP/1.1"})
	}
	for _, path := range []string{"/v1.0/users", "/v1.0/users/", "/v1.0/users/a/b/c", "/V1.0/USERS/a", "/v1.0/%75sers/a", "/v1.0/users/a%20b", "/v1.0/users?$select=id", "/v1.0/users/a;x=1", "/v1.0/users/a@contoso.com", "/v1.0/groups/1/members", "/v1.0/users/\u00fc", "/v1.0/users/..a", "/v1.0/users/a..", "/v1.0/users/...", "/v1.0/users/me?x=/../me"} {
		add(sent, "GET", path)
	}
	for _, path := range []string{
		"/", "/v1.0", "/v1.0/", "/v1.0/me", "/v1.0/user", "/v1.0/usersx", "/beta/users", "/v1.0/groups/1", "/v1.0/groups/1/members/x", "/v1.0/groups/1/owners", "/v1.0/groups/members", "/v1.0/me?x=/v1.0/users", "/v1.0/users%20", "/v1.0/%20users", "/v1.0/users.", "/v1.0/users.json", "/v1.0/me;/users", "/users", "/x/v1.0/users", "/v1.0/m%65", "/v1.0/\uff55sers", "/v1.0/u\u017fers", "/v1.0/u%C5%BFers", "/v1.0/~users", "/v1.0/$users", "/v1.0/users()", "/v1.0/users('a')", "/v1.0/*", "/v1.0/**", "/v1.0/{id}", "/healthz", "/v1.0/me?_method=GET",
	} {
		add("rule_denied", "GET", path)
	}
	for _, path := range []string{
		"/v1.0/users/../me", "/v1.0/users/./../me", "/v1.0/users/a/../../me", "/v1.0/users/..", "/v1.0/users/.", "/v1.0/users/%2e%2e/me", "/v1.0/users/%2E%2E/me", "/v1.0/users/.%2e/me", "/v1.0/users/%2e./me", "/v1.0/users/%2e", "/v1.0/users/..;/me", "/v1.0/users/..;x=1/me", "/v1.0/users/.;/me", "/v1.0/users/%2e%2e;/me", "/v1.0/users/..%3b/me",
		"/v1.0/users/%252e%252e/me", "/v1.0/users/%25%32%65/me", "/v1.0/users/%255c", "/v1.0/users/..%2fme", "/v1.0/users%2f..%2fme", "/v1.0/users/%2fme", "/v1.0%2fusers", "/v1.0/users/..%5cme", "/v1.0/users%5c..%5cme", "/v1.0/users\\..\\me", "/v1.0/users/a\\b", "/v1.0//users", "//v1.0/users", "/v1.0/users//a", "/v1.0/users//", "///v1.0/users",
		"/v1.0/users/%00", "/v1.0/users/a%00.json", "/v1.0/users/%0a", "/v1.0/users/%0d%0a", "/v1.0/users/%1f", "/v1.0/users/%7f", "/v1.0/users/%23", "/v1.0/users/%3f", "/v1.0/me%3f/users", "/v1.0/users/%ff", "/v1.0/users/%c0%ae%c0%ae/me", "/v1.0/users/%e0%80%ae", "/v1.0/users/\xff", "/v1.0/users/%ed%a0%80",
	} {
		add("bad_request", "GET", path)
	}
	for _, method := range []string{"POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD", "get", "GETX", "MERGE", "PROPFIND", "G"} {
		add("rule_denied", method, "/v1.0/users/a")
	}
	for name, fields := range map[string]string{
		"method by X-HTTP-Method":          "X-HTTP-Method: GET\r\n",
		"method by X-HTTP-Method-Override": "X-HTTP-Method-Override: GET\r\n",
		"method by X-Method-Override":      "X-Method-Override: GET\r\n",
		"path by X-Original-Url":           "X-Original-Url: /v1.0/users\r\n",
		"path by X-Rewrite-Url":            "X-Rewrite-Url: /v1.0/users\r\n",
		"path by X-Forwarded-Uri":          "X-Forwarded-Uri: /v1.0/users\r\nX-Forwarded-Method: GET\r\n",
		"path by X-Forwarded-Prefix":       "X-Forwarded-Prefix: /v1.0/users\r\n",
	} {
		table = append(table, hostile{name: "rule " + name, as: "limited", want: "rule_denied", send: "DELETE {ruled}/v1.0/me HTTP/1.1\r\nHost: {host}\r\n" + fields + "Content-Length: 0\r\n\r\n"})
		table = append(table, hostile{name: "rule, allowed, " + name, as: "limited", want: sent, send: "GET {ruled}/v1.0/users HTTP/1.1\r\nHost: {host}\r\n" + strings.ReplaceAll(fields, "GET", "DELETE") + "\r\n", line: "GET /v1.0/users HTTP/1.1", without: []string{"delete", "\nx-", "override"}})
	}
	for _, query := range []string{"?_method=DELETE", "?_method=delete&_method=GET", "?%5fmethod=DELETE", "?X-HTTP-Method=DELETE"} {
		table = append(table, hostile{name: "rule method by query " + query, as: "limited", want: "bad_request", send: "GET {ruled}/v1.0/users" + query + " HTTP/1.1\r\nHost: {host}\r\n\r\n"})
	}
	return table
}

// hostileBatches are batches of Graph whose calls are not what they seem.
func hostileBatches() []hostile {
	var table []hostile
	batch := func(path, body string) string {
		return "POST {ruled}" + path + " HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk(body)
	}
	ok := `{"id":"1","method":"GET","url":"/users/a"}`
	for name, body := range map[string]string{
		"one denied":              `{"requests":[{"id":"1","method":"GET","url":"/me"}]}`,
		"one denied at the end":   `{"requests":[` + ok + `,{"id":"2","method":"DELETE","url":"/users/a"}]}`,
		"no slash":                `{"requests":[{"id":"1","method":"GET","url":"me"}]}`,
		"dots":                    `{"requests":[{"id":"1","method":"GET","url":"/users/../me"}]}`,
		"escaped dots":            `{"requests":[{"id":"1","method":"GET","url":"/users/%2e%2e/me"}]}`,
		"JSON escapes":            `{"requests":[{"id":"1","method":"GET","url":"\u002fm\u0065"}]}`,
		"absolute":                `{"requests":[{"id":"1","method":"GET","url":"https://graph.microsoft.com/v1.0/users/a"}]}`,
		"absolute to a stranger":  `{"requests":[{"id":"1","method":"GET","url":"http://{stranger}/v1.0/users/a"}]}`,
		"two slashes":             `{"requests":[{"id":"1","method":"GET","url":"//{stranger}/users/a"}]}`,
		"URL beside url":          `{"requests":[{"id":"1","method":"GET","url":"/users/a","URL":"/me"}]}`,
		"Url alone":               `{"requests":[{"id":"1","method":"GET","Url":"/users/a"}]}`,
		"url twice":               `{"requests":[{"id":"1","method":"GET","url":"/users/a","url":"/me"}]}`,
		"url twice by an escape":  `{"requests":[{"id":"1","method":"GET","url":"/users/a","\u0075rl":"/me"}]}`,
		"method twice":            `{"requests":[{"id":"1","method":"GET","method":"DELETE","url":"/users/a"}]}`,
		"method in small letters": `{"requests":[{"id":"1","method":"delete","url":"/users/a"}]}`,
		"requests twice":          `{"requests":[` + ok + `],"requests":[{"id":"1","method":"GET","url":"/me"}]}`,
		"Requests beside":         `{"requests":[` + ok + `],"Requests":[{"id":"1","method":"GET","url":"/me"}]}`,
		"id twice":                `{"requests":[` + ok + `,` + ok + `]}`,
		"inner batch":             `{"requests":[{"id":"1","method":"POST","url":"/$batch","body":{"requests":[{"id":"1","method":"GET","url":"/me"}]}}]}`,
		"inner batch escaped":     `{"requests":[{"id":"1","method":"POST","url":"/%24batch","body":{}}]}`,
		"authorization":           `{"requests":[{"id":"1","method":"GET","url":"/users/a","headers":{"Authorization":"Bearer of-the-caller"}}]}`,
		"AUTHORIZATION":           `{"requests":[{"id":"1","method":"GET","url":"/users/a","headers":{"AUTHORIZATION":"Bearer of-the-caller"}}]}`,
		"override":                `{"requests":[{"id":"1","method":"GET","url":"/users/a","headers":{"X-HTTP-Method-Override":"DELETE"}}]}`,
		"host":                    `{"requests":[{"id":"1","method":"GET","url":"/users/a","headers":{"Host":"{stranger}"}}]}`,
		"21 calls":                `{"requests":[` + strings.Join(numbered(21), ",") + `]}`,
		"trailing object":         `{"requests":[` + ok + `]}{"requests":[{"id":"1","method":"GET","url":"/me"}]}`,
		"not JSON":                `requests=1`,
		"array":                   `[` + ok + `]`,
		"null":                    `null`,
		"comment":                 `{"requests":[` + ok + `/* , */]}`,
		"trailing comma":          `{"requests":[` + ok + `,]}`,
		"BOM":                     "\ufeff" + `{"requests":[` + ok + `]}`,
		"broken UTF-8":            `{"requests":[{"id":"` + "\xff" + `","method":"GET","url":"/users/a"}]}`,
		"deep":                    `{"requests":` + strings.Repeat("[", 20_000) + strings.Repeat("]", 20_000) + `}`,
		"empty":                   ``,
	} {
		table = append(table, hostile{name: "batch " + name, as: "limited", want: denied, send: batch("/v1.0/$batch", body)})
	}
	for _, path := range []string{"/v1.0/%24batch", "/v1.0/$BATCH"} {
		table = append(table, hostile{name: "batch at " + strings.ReplaceAll(path, "/", "∕"), as: "limited", want: denied, send: batch(path, `{"requests":[{"id":"1","method":"GET","url":"/me"}]}`)})
	}
	for _, path := range []string{"/v1.0/users/$batch", "/v1.0/users/batch", "/v1.0/users/x/%24batch", "/v1.0/users/processquery", "/v1.0/users/a?comp=batch"} {
		table = append(table, hostile{name: "batch elsewhere " + strings.ReplaceAll(path, "/", "∕"), as: "limited", want: denied, send: batch(path, `{}`)})
	}
	return append(table,
		hostile{name: "batch compressed", as: "limited", want: denied, send: strings.Replace(batch("/v1.0/$batch", "x"), "Content-Type", "Content-Encoding: gzip\r\nContent-Type", 1)},
		hostile{name: "batch of many bytes", as: "limited", want: "too_large", send: batch("/v1.0/$batch", `{"requests":[{"id":"1","method":"POST","url":"/users/a","body":"`+strings.Repeat("a", 5<<20)+`"}]}`)})
}

// chunk is text as one chunk and the last.
func chunk(text string) string {
	last := "0\r\n\r\n"
	if text == "" {
		return last
	}
	return fmt.Sprintf("%x\r\n%s\r\n%s", len(text), text, last)
}

func numbered(n int) []string {
	all := make([]string, n)
	for i := range all {
		all[i] = `{"id":"` + string(rune('a'+i)) + `","method":"GET","url":"/users/a"}`
	}
	return all
}
