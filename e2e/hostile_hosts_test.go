package e2e

import "strings"

// hostileHosts are hosts that are not what they seem: at the reverse door in
// Host, at the forward door in the target.
func hostileHosts() []hostile {
	var table []hostile
	add := func(door, host, want string) {
		h := hostile{name: door + " host " + strings.ReplaceAll(host, "/", "∕"), want: want, door: door, line: getLine}
		switch door {
		case "reverse":
			h.send = "GET /graph/v1.0/me HTTP/1.1\r\nHost: " + host + "\r\n\r\n"
		default:
			h.send = "GET http://" + host + "/v1.0/me HTTP/1.1\r\nHost: graph.microsoft.com\r\n\r\n"
		}
		table = append(table, h)
	}
	for _, host := range []string{"localhost", "LOCALHOST", "localhost.", "localhost:1", "127.0.0.1", "127.9.9.9:80", "[::1]", "[::1]:8080", "[::ffff:127.0.0.1]"} {
		add("reverse", host, sent)
	}
	for _, host := range []string{
		"evil.test", "graph.microsoft.com", "localhost.evil.test", "evil.localhost", "127.0.0.1.evil.test", "127.1", "127.0.1", "2130706433", "0x7f000001", "0x7f.1", "0177.0.0.1", "127.000.000.001", "017700000001",
		"localhost, evil.test", "localhost evil.test", "localhost;evil.test", "localhost:80:80", "localhost:", "localhost:0", "localhost:99999", "localhost:+80", "localhost:8o",
		"user@localhost", "[::1%25lo]", "[::1%lo]", "::1", "[localhost]", "[127.0.0.1]", "[::1", "::1]", "[fe80::1]", "0.0.0.0", "[::]", "localhost..", ".localhost", "", "-", "xn--localhost-x", "l\u00f6calhost", "\uff4cocalhost", "localh\u00f6st", "loc_alhost", "localhost%00", "localhost/graph", "localhost?x", "localhost#x", "localhost\\x", "169.254.169.254", "10.0.0.1", "{stranger}.evil.test",
	} {
		want := "misdirected"
		switch host {
		case "localhost:":
			want = sent
		case "localhost, evil.test", "localhost evil.test", "user@localhost", "l\u00f6calhost", "\uff4cocalhost", "localh\u00f6st", "localhost/graph", "localhost?x", "localhost#x", "localhost\\x":
			want = "400" // no characters of a Host field
		}
		add("reverse", host, want)
	}
	for _, host := range []string{"GRAPH.MICROSOFT.COM", "Graph.Microsoft.Com", "graph.microsoft.com.", "graph.microsoft.com:443", "graph.microsoft.com:80", "graph.microsoft.com:", "graph.microsoft.com.:443", "graph\u3002microsoft\uff0ecom", "graph.micro\u00adsoft.com", "\uff47raph.microsoft.com"} {
		add("forward", host, sent)
	}
	for _, host := range []string{
		"{stranger}", "{hop}", "{admin}", "{proxy}", "localhost", "127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "127.0.0.1.", "0.0.0.0", "169.254.169.254", "168.63.129.16", "[fd00:ec2::254]", "metadata.google.internal", "10.0.0.1",
		"evil.test", "graph.microsoft.com.evil.test", "evilgraph.microsoft.com", "microsoft.com", "x.graph.microsoft.com", "graph-microsoft.com", "graph.microsoft.co", "graph.microsoft.com:8443", "graph.microsoft.com:22", "graph.micr\u043esoft.com", "login.microsoftonline.com", "entra.example.com",
	} {
		add("forward", host, "egress_denied")
	}
	for _, host := range []string{
		"graph.microsoft.com..", ".graph.microsoft.com", "graph..microsoft.com", "127.1", "2130706433", "0x7f000001", "0177.0.0.1", "xn--graph-mcrosoft-xyz.com", "[127.0.0.1]", "[::1%25lo]", "[graph.microsoft.com]", "[::1", "[::1]x", "graph_.microsoft.com", "graph.microsoft.com,{stranger}", "graph.microsoft.com;x", "-graph.microsoft.com", "",
		"graph.microsoft.com:99999", "graph.microsoft.com:0", "graph.microsoft.com:+443", "graph.microsoft.com:0x1bb", "graph.microsoft.com:443:443", "graph.microsoft.com%00", "graph.microsoft.com%2f{stranger}", "graph.microsoft.com%23", "graph%2emicrosoft.com", "graph.microsoft.com\\@{stranger}", "graph.microsoft.com\\.evil.test", strings.Repeat("a.", 600) + "com", strings.Repeat("a", 64) + ".com",
		"user@graph.microsoft.com", "user:pw@graph.microsoft.com", "graph.microsoft.com@{stranger}", "@graph.microsoft.com", "{stranger}@graph.microsoft.com", "graph.microsoft.com:443@{stranger}",
	} {
		add("forward", host, "400")
	}
	const own = "\r\nHost: graph.microsoft.com\r\n\r\n"
	return append(table,
		hostile{name: "https in absolute form", send: "GET https://graph.microsoft.com/v1.0/me HTTP/1.1" + own, want: "bad_request", door: "forward", way: openWay},
		hostile{name: "https in absolute form where nobody listens in", send: "GET https://graph.microsoft.com/v1.0/me HTTP/1.1\r\nHost: graph.microsoft.com\r\nX-Private: 1\r\n\r\n", want: sent, line: getLine, door: "forward", way: privateWay},
		hostile{name: "ftp in absolute form", send: "GET ftp://graph.microsoft.com/v1.0/me HTTP/1.1" + own, want: "bad_request", door: "forward"},
		hostile{name: "file in absolute form", send: "GET file:///etc/passwd HTTP/1.1" + own, want: "bad_request", door: "forward"},
		hostile{name: "unix in absolute form", send: "GET unix:///run/gateway.sock HTTP/1.1" + own, want: "bad_request", door: "forward"},
		hostile{name: "scheme in capitals", send: "GET HTTP://graph.microsoft.com/v1.0/me HTTP/1.1" + own, want: sent, line: getLine, door: "forward"},
		hostile{name: "one slash behind the scheme", send: "GET http:/graph.microsoft.com/v1.0/me HTTP/1.1" + own, want: "400", door: "forward"},
		hostile{name: "no slash behind the scheme", send: "GET http:graph.microsoft.com/v1.0/me HTTP/1.1" + own, want: "400", door: "forward"},
		hostile{name: "three slashes behind the scheme", send: "GET http:///graph.microsoft.com/v1.0/me HTTP/1.1" + own, want: "400", door: "forward"},
		hostile{name: "Host of a stranger beside our target", send: "GET http://graph.microsoft.com/v1.0/me HTTP/1.1\r\nHost: {stranger}\r\n\r\n", want: sent, line: getLine, door: "forward", without: []string{"{stranger}"}},
		hostile{name: "Host that is empty beside our target", send: "GET http://graph.microsoft.com/v1.0/me HTTP/1.1\r\nHost:\r\n\r\n", want: sent, line: getLine, door: "forward"},
		hostile{name: "Host of the other route beside our target", send: "GET http://graph.microsoft.com/v1.0/me HTTP/1.1\r\nHost: other.example.com\r\n\r\n", want: sent, line: getLine, door: "forward", without: []string{"other.example"}},
		hostile{name: "X-Forwarded-Host of a stranger", send: with("X-Forwarded-Host: {stranger}\r\nX-Host: a"), want: sent, line: getLine, without: []string{"{stranger}"}},
		hostile{name: "admin port by its path in Host", send: "GET /api/tokens HTTP/1.1\r\nHost: {admin}\r\n\r\n", want: "route_unknown", door: "reverse"},
	)
}
