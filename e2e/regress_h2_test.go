package e2e

import (
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// answerOverH2 makes one call of these fields, in this order, over a connection
// of its own, and returns the fields of what comes back: none when the stream
// or the connection was refused.
func (a *arena) answerOverH2(t testing.TB, end bool, fields ...string) map[string]string {
	t.Helper()
	raw, err := net.Dial("tcp", a.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	config := a.tls.Clone()
	config.NextProtos = []string{"h2"}
	conn := tls.Client(raw, config)
	_ = conn.SetDeadline(time.Now().Add(patience))
	if err := conn.Handshake(); err != nil || conn.ConnectionState().NegotiatedProtocol != "h2" {
		t.Fatalf("no HTTP/2: %q, %v", conn.ConnectionState().NegotiatedProtocol, err)
	}
	var block bytes.Buffer
	enc := hpack.NewEncoder(&block)
	for i := 0; i+1 < len(fields); i += 2 {
		if err := enc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]}); err != nil {
			t.Fatal(err)
		}
	}
	framer := http2.NewFramer(conn, conn)
	framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	_, err1 := io.WriteString(conn, http2.ClientPreface)
	err2 := framer.WriteSettings()
	err3 := framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndHeaders: true, EndStream: end})
	if err1 != nil || err2 != nil || err3 != nil {
		t.Fatal(err1, err2, err3)
	}
	for {
		frame, err := framer.ReadFrame()
		if err != nil {
			return nil
		}
		switch f := frame.(type) {
		case *http2.MetaHeadersFrame:
			got := map[string]string{}
			for _, field := range f.Fields {
				got[field.Name] = field.Value
			}
			return got
		case *http2.RSTStreamFrame, *http2.GoAwayFrame:
			return nil
		}
	}
}

// What HTTP/2 says in fields of its own is no way around what HTTP/1.1 says in
// its first line: no CONNECT, no path without a slash, no second host.
func TestCVE_2026_71324_CVE_2026_33186_HostileCallsOverHTTP2(t *testing.T) {
	t.Parallel()
	server, clients := newAuthority(t), newCallersAuthority(t, "clients")
	g := emptyGuard(t)
	g.tls = server.trusting()
	g.begin(t, tlsListen, tlsFiles(t, server, clients))
	key := g.callers["good"]
	call := func(changes ...string) []string {
		fields := []string{":method", "GET", ":scheme", "https", ":authority", g.addr, ":path", "/graph/v1.0/me"}
		for i := 0; i+1 < len(changes) && strings.HasPrefix(changes[i], ":"); i += 2 {
			for k := 0; k < len(fields); k += 2 {
				if fields[k] == changes[i] {
					fields[k+1] = changes[i+1]
				}
			}
			changes = append(changes[:i:i], changes[i+2:]...)
			i -= 2
		}
		return append(append(fields, "x-gateway-authorization", key), changes...)
	}
	for _, tt := range []struct {
		name   string
		fields []string
		good   bool
	}{
		{"good at the reverse door", call(), true},
		{"path without a slash", call(":path", "graph/v1.0/me"), false},
		{"path that is empty", call(":path", ""), false},
		{"path that is a star", call(":path", "*"), false},
		{"path that is a URL", call(":path", "http://{stranger}/v1.0/me"), false},
		{"path with a space", call(":path", "/graph/v1.0/me HTTP/1.1\r\nX: y"), false},
		{"path with LF", call(":path", "/graph/v1.0/me\nX: y"), false},
		{"fragment", call(":path", "/graph/v1.0/me#x"), false},
		{"method with a line", call(":method", "GET / HTTP/1.1\r\nX: y"), false},
		{"CONNECT", []string{":method", "CONNECT", ":authority", "graph.microsoft.com:443", "proxy-authorization", key}, false},
		{"CONNECT to a stranger", []string{":method", "CONNECT", ":authority", g.stranger.addr, "proxy-authorization", key}, false},
		{"extended CONNECT", []string{":method", "CONNECT", ":protocol", "websocket", ":scheme", "https", ":authority", g.addr, ":path", "/graph/v1.0/me", "x-gateway-authorization", key}, false},
		{"TRACE", call(":method", "TRACE"), false},
		{"authority of a stranger", call(":authority", "evil.test"), false},
		{"authority with user information", call(":authority", "x@"+g.addr), false},
		{"another host beside the authority, which counts", call("host", "evil.test"), true},
		{"transfer-encoding", call("transfer-encoding", "chunked"), false},
		{"connection", call("connection", "authorization"), false},
		{"upgrade", call("connection", "upgrade", "upgrade", "websocket"), false},
		{"name in capitals", call("Authorization", "Bearer of-the-caller"), false},
		{"value with LF", call("x-a", "b\r\nauthorization: Bearer of-the-caller"), false},
		{"name with a colon", call("x-a: b\r\nauthorization", "Bearer of-the-caller"), false},
		{"pseudo field behind others", call("x-a", "b", ":path", "/graph/v1.0/other"), false},
		{"scheme of a file", append([]string{":method", "GET", ":scheme", "file", ":authority", "graph.microsoft.com", ":path", "/etc/passwd"}, "proxy-authorization", "Bearer wrong"), false},
		{"no credential", []string{":method", "GET", ":scheme", "https", ":authority", g.addr, ":path", "/graph/v1.0/me"}, false},
		{"no credential, for the forward door", []string{":method", "GET", ":scheme", "http", ":authority", "graph.microsoft.com", ":path", "/v1.0/me"}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for i, f := range tt.fields {
				tt.fields[i] = g.fill(f, hostileDoor{})
			}
			got := g.answerOverH2(t, true, tt.fields...)
			calls := g.arrived(t)
			if tt.good != (got[":status"] == "200") || tt.good != (len(calls) == 1) {
				t.Errorf("answer %v, calls at the upstream %+v", got, calls)
			}
			for _, c := range calls {
				if v := c.values("Authorization"); c.line != getLine || len(v) != 1 || v[0] != g.token {
					t.Errorf("the upstream got %q with %q", c.line, v)
				}
			}
			if got[":status"] == "500" {
				t.Errorf("answer %v", got)
			}
			g.safe(t, exchanged{})
		})
	}
	g.good(t, g.doors[0])
	g.quiet(t)
}
