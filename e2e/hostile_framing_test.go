package e2e

import "strings"

// post is a call with these fields, and body as it stands.
func post(fields, body string) string {
	return "POST {to}/v1.0/x HTTP/1.1\r\nHost: {host}\r\n" + fields + "\r\n" + body
}

// with is a call without a body that has these fields, whole lines but for the
// last end of line.
func with(fields string) string {
	return "GET {to}/v1.0/me HTTP/1.1\r\nHost: {host}\r\n" + fields + "\r\n\r\n"
}

const (
	postLine = "POST /v1.0/x HTTP/1.1"
	getLine  = "GET /v1.0/me HTTP/1.1"
)

// hostileFraming are attempts to have two servers see another end of a call
// (RFC 9112 §6, §7, §11.2).
func hostileFraming() []hostile {
	const hidden = "GET {to}/v1.0/hidden HTTP/1.1\r\nHost: {host}\r\n\r\n"
	table := []hostile{
		{name: "CL and TE", send: post("Content-Length: 4\r\nTransfer-Encoding: chunked\r\n", "3\r\nabc\r\n0\r\n\r\n"), want: sent, line: postLine, body: "abc", without: []string{"content-length"}},
		{name: "TE and CL", send: post("Transfer-Encoding: chunked\r\nContent-Length: 400\r\n", "3\r\nabc\r\n0\r\n\r\n"), want: sent, line: postLine, body: "abc", without: []string{"content-length"}},
		{name: "CL that would hide a call behind TE", send: post("Content-Length: 100\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"+hidden), want: sent, line: postLine, answers: 2},
		{name: "CL of a body that is a call", send: post("Content-Length: 45\r\n", "GET /v1.0/hidden HTTP/1.1\r\nHost: localhost\r\n\r\n"), want: sent, line: postLine, body: "GET /v1.0/hidden HTTP/1.1\r\nHost: localhost\r\n\r\n"[:45]},
		{name: "chunk that is a call", send: post("Transfer-Encoding: chunked\r\n", "16\r\nGET /hidden HTTP/1.1\r\n\r\n0\r\n\r\n"), want: sent, line: postLine, body: "GET /hidden HTTP/1.1\r\n"},
		{name: "CL twice the same", send: post("Content-Length: 3\r\nContent-Length: 3\r\n", "abc"), want: sent, line: postLine, body: "abc"},
		{name: "CL twice with two values", send: post("Content-Length: 3\r\nContent-Length: 4\r\n", "abcd"), want: "400"},
		{name: "CL as a list", send: post("Content-Length: 3, 3\r\n", "abc"), want: "400"},
		{name: "CL as a list of two values", send: post("Content-Length: 3, 4\r\n", "abcd"), want: "400"},
		{name: "CL with plus", send: post("Content-Length: +3\r\n", "abc"), want: "400"},
		{name: "CL negative", send: post("Content-Length: -3\r\n", "abc"), want: "400"},
		{name: "CL hexadecimal", send: post("Content-Length: 0x3\r\n", "abc"), want: "400"},
		{name: "CL with a fraction", send: post("Content-Length: 3.0\r\n", "abc"), want: "400"},
		{name: "CL with an exponent", send: post("Content-Length: 3e0\r\n", "abc"), want: "400"},
		{name: "CL with an underscore", send: post("Content-Length: 0_3\r\n", "abc"), want: "400"},
		{name: "CL empty", send: post("Content-Length:\r\n", ""), want: "400"},
		{name: "CL beyond 64 bits", send: post("Content-Length: 18446744073709551619\r\n", "abc"), want: "400"},
		{name: "CL with letters behind", send: post("Content-Length: 3abc\r\n", "abc"), want: "400"},
		{name: "CL in Arabic digits", send: post("Content-Length: \u0663\r\n", "abc"), want: "400"},
		{name: "CL with a space inside", send: post("Content-Length: 1 1\r\n", "abc"), want: "400"},
		{name: "CL with leading zeros", send: post("Content-Length: 0003\r\n", "abc"), want: sent, line: postLine, body: "abc"},
		{name: "space before the colon of CL", send: post("Content-Length : 3\r\n", "abc"), want: "400"},
		{name: "tab before the colon of TE", send: post("Transfer-Encoding\t: chunked\r\n", "0\r\n\r\n"), want: "400"},
		{name: "space before the colon of TE", send: post("Transfer-Encoding : chunked\r\n", "0\r\n\r\n"), want: "400"},
		{name: "vertical tab before chunked", send: post("Transfer-Encoding: \x0bchunked\r\n", "0\r\n\r\n"), want: "400"},
		{name: "HTTP/1.0 with TE", send: "POST {to}/v1.0/x HTTP/1.0\r\nHost: {host}\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\nabc", want: sent, line: postLine, body: "abc", without: []string{"transfer-encoding"}},
		{name: "GET with a body", send: "GET {to}/v1.0/me HTTP/1.1\r\nHost: {host}\r\nContent-Length: 3\r\n\r\nabc", want: sent, line: getLine, body: "abc"},
		{name: "bytes behind a call without a body", send: with("Accept: */*") + "garbage\r\n\r\n", want: sent, line: getLine},
		{name: "two calls in one write", send: with("Accept: a/a") + with("Accept: b/b"), want: sent, line: getLine, answers: 2},
		{name: "trailer without announcement", send: post("Transfer-Encoding: chunked\r\n", "3\r\nabc\r\n0\r\nX-Late: 1\r\n\r\n"), want: sent, line: postLine, body: "abc", without: []string{"x-late"}},
		{name: "trailer that is CL", send: post("Transfer-Encoding: chunked\r\nTrailer: Content-Length\r\n", "3\r\nabc\r\n0\r\nContent-Length: 900\r\n\r\n"), want: "400"},
		{name: "trailer that is TE", send: post("Transfer-Encoding: chunked\r\nTrailer: Transfer-Encoding\r\n", "3\r\nabc\r\n0\r\nTransfer-Encoding: x\r\n\r\n"), want: "400"},
		{name: "expectation that is unknown", send: post("Expect: 200-ok\r\nContent-Length: 0\r\n", ""), want: "417"},
		{name: "expectation and its body at once", send: post("Expect: 100-continue\r\nContent-Length: 3\r\n", "abc"), want: sent, line: postLine, body: "abc"},
	}
	for _, coding := range []string{"xchunked", "chunked-x", "chunked, identity", "identity, chunked", "identity", "gzip, chunked", "chunked, chunked", "chunked;q=1", "\"chunked\"", "chun ked", ", chunked", "chunked,", "\x00chunked", "gzip"} {
		want := "501"
		if strings.ContainsRune(coding, 0) {
			want = "400"
		}
		table = append(table, hostile{name: "TE of " + strings.ReplaceAll(coding, "\x00", "NUL "), send: post("Transfer-Encoding: "+coding+"\r\n", "3\r\nabc\r\n0\r\n\r\n"), want: want})
	}
	table = append(table,
		hostile{name: "TE in capitals", send: post("Transfer-Encoding: CHUNKED\r\n", "3\r\nabc\r\n0\r\n\r\n"), want: sent, line: postLine, body: "abc"},
		hostile{name: "TE twice", send: post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "3\r\nabc\r\n0\r\n\r\n"), want: "501"},
		hostile{name: "TE and then identity", send: post("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", "3\r\nabc\r\n0\r\n\r\n"), want: "501"},
		hostile{name: "TE with an underscore", send: post("Transfer_Encoding: chunked\r\nContent-Length: 3\r\n", "abc"), want: sent, line: postLine, body: "abc", without: []string{"transfer"}},
		hostile{name: "TE empty", send: post("Transfer-Encoding:\r\nContent-Length: 3\r\n", "abc"), want: "501"},
		hostile{name: "TE listed in Connection", send: post("Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked\r\n", "3\r\nabc\r\n0\r\n\r\n"), want: sent, line: postLine, body: "abc"},
		hostile{name: "CL listed in Connection", send: post("Connection: Content-Length\r\nContent-Length: 3\r\n", "abc"), want: sent, line: postLine, body: "abc"},
	)
	return append(table, hostileChunks()...)
}

// hostileChunks are chunks that not everybody would cut in the same place.
func hostileChunks() []hostile {
	var table []hostile
	for name, body := range map[string]string{
		"size with 0x":            "0x3\r\nabc\r\n0\r\n\r\n",
		"size with plus":          "+3\r\nabc\r\n0\r\n\r\n",
		"size negative":           "-3\r\nabc\r\n0\r\n\r\n",
		"size empty":              "\r\nabc\r\n0\r\n\r\n",
		"size of 17 digits":       "10000000000000003\r\nabc\r\n0\r\n\r\n",
		"size with an underscore": "0_3\r\nabc\r\n0\r\n\r\n",
		"size no number":          "z\r\nabc\r\n0\r\n\r\n",
		"size ended by LF alone":  "3\nabc\r\n0\r\n\r\n",
		"size ended by CR alone":  "3\rabc\r\n0\r\n\r\n",
		"chunk too long":          "3\r\nabcd\r\n0\r\n\r\n",
		"chunk without an end":    "3\r\nabc0\r\n\r\n",
		"chunk ended by LF alone": "3\r\nabc\n0\r\n\r\n",
		"LF in an extension":      "3;a=\nb\r\nabc\r\n0\r\n\r\n",
		"CR in an extension":      "3;a=\rb\r\nabc\r\n0\r\n\r\n",
		"NUL in the size":         "3\x00\r\nabc\r\n0\r\n\r\n",
		"very long extension":     "3;a=" + strings.Repeat("x", 70_000) + "\r\nabc\r\n0\r\n\r\n",
		"trailer without colon":   "3\r\nabc\r\n0\r\nnonsense\r\n\r\n",
	} {
		table = append(table, hostile{name: "chunked: " + name, send: post("Transfer-Encoding: chunked\r\n", body), want: broken})
	}
	for name, body := range map[string]string{
		"extension":              "3;a=b\r\nabc\r\n0\r\n\r\n",
		"quoted extension":       "3;a=\"b\"\r\nabc\r\n0\r\n\r\n",
		"extension of the last":  "3\r\nabc\r\n0;last=1\r\n\r\n",
		"size in capitals":       "00000A\r\nabcdefghij\r\n0\r\n\r\n",
		"size with a space":      "3 \r\nabc\r\n0\r\n\r\n",
		"many zeros in the last": "3\r\nabc\r\n0000000\r\n\r\n",
	} {
		want := "abc"
		if strings.Contains(body, "defghij") {
			want = "abcdefghij"
		}
		table = append(table, hostile{name: "chunked: " + name, send: post("Transfer-Encoding: chunked\r\n", body), want: sent, line: postLine, body: want, without: []string{"a=b", "last=1"}})
	}
	return table
}
