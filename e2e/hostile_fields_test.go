package e2e

import (
	"fmt"
	"strings"
)

// hostileFields are fields that would carry a caller's own authorization, an
// identity or an inner address to the upstream, or take the gateway's token
// away. All are sent with the token of the gateway and without what they tried.
func hostileFields() []hostile {
	const token, mark = "Bearer of-the-caller", "of-the-caller"
	var table []hostile
	try := func(name, fields string, without ...string) {
		table = append(table, hostile{name: name, send: with(fields), want: sent, line: getLine, without: append(without, mark)})
	}
	for _, name := range []string{"Authorization", "AUTHORIZATION", "authorization", "aUTHORIZATION", "Authorization_", "_Authorization", "X-Gateway_Authorization", "Proxy_Authorization"} {
		try("token as "+name, name+": "+token)
	}
	for _, name := range []string{"Proxy-Authorization", "X-Gateway-Authorization", "proxy-authorization", "X-GATEWAY-AUTHORIZATION"} {
		try("token as "+name, name+": "+token, name+":")
	}
	try("Authorization twice", "Authorization: "+token+"\r\nAuthorization: "+token+"-2")
	try("Authorization three times in three cases", "AUTHORIZATION: "+token+"\r\nauthorization: "+token+"\r\nAuthorization: "+token)
	try("Authorization empty", "Authorization:")
	try("Authorization empty and then not", "Authorization:\r\nAuthorization: "+token)
	try("Authorization as a list", "Authorization: Bearer x, "+token)
	try("Authorization without a space", "Authorization:"+token)
	try("Authorization behind tabs", "Authorization:\t\t"+token+"\t")
	try("Authorization in a fold", "Authorization:\r\n "+token)
	try("Authorization of another scheme", "Authorization: Basic b2YtdGhlLWNhbGxlcg==", "b2yt")
	try("Authorization of Negotiate", "Authorization: Negotiate of-the-caller")
	for _, listed := range []string{"Authorization", "authorization", "AUTHORIZATION", "close, Authorization", "keep-alive,Authorization", " , ,Authorization", "Authorization;q=1", "\"Authorization\"", "Host", "Via", "Content-Type", "User-Agent, Host, Authorization", "X-Gateway-Authorization", "Gateway-Request-Id"} {
		try("Connection of "+listed, "Connection: "+listed+"\r\nAuthorization: "+token)
	}
	try("Connection in two lines", "Connection:\r\nConnection: Authorization\r\nAuthorization: "+token)
	try("Connection in two lines the other way", "Connection: Authorization\r\nConnection:\r\nAuthorization: "+token)
	try("Connection with an underscore", "Connection_: Authorization\r\nAuthorization: "+token, "connection_")
	try("Proxy-Connection", "Proxy-Connection: Authorization\r\nAuthorization: "+token, "proxy-connection")
	try("Keep-Alive", "Keep-Alive: timeout=1, of-the-caller", "keep-alive")
	try("hop-by-hop of the caller's own", "Connection: X-Inner\r\nX-Inner: of-the-caller", "x-inner")
	try("TE", "TE: trailers, of-the-caller\r\nConnection: TE")
	try("Proxy-Authenticate", "Proxy-Authenticate: Basic of-the-caller", "proxy-authenticate")
	table = append(table,
		hostile{name: "Authorization in a trailer", send: post("Transfer-Encoding: chunked\r\nTrailer: Authorization\r\n", "3\r\nabc\r\n0\r\nAuthorization: "+token+"\r\n\r\n"), want: sent, line: postLine, body: "abc", without: []string{mark, "trailer"}},
		hostile{name: "Authorization in a trailer unannounced", send: post("Transfer-Encoding: chunked\r\n", "3\r\nabc\r\n0\r\nAuthorization: "+token+"\r\n\r\n"), want: sent, line: postLine, body: "abc", without: []string{mark}},
		hostile{name: "X-Forwarded-For in a trailer", send: post("Transfer-Encoding: chunked\r\nTrailer: X-Forwarded-For\r\n", "3\r\nabc\r\n0\r\nX-Forwarded-For: of-the-caller\r\n\r\n"), want: sent, line: postLine, body: "abc", without: []string{mark, "forwarded"}},
	)
	for _, name := range []string{
		"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-Port", "X-Forwarded-Prefix", "X-Forwarded-Uri",
		"X-Forwarded-Method", "X-Forwarded-User", "X-Forwarded-Email", "X-Forwarded-Access-Token", "X-Forwarded-Client-Cert", "X-Forwarded-Tls-Client-Cert",
		"X-Forwarded-Server", "x-forwarded-for", "X-FORWARDED-HOST", "X_Forwarded_For", "X-Forwarded_Host", "x_forwarded-proto", "X-Real-Ip", "X-Real-IP", "X_Real_Ip",
		"True-Client-Ip", "X-Original-Url", "X-Original-URL", "X-Rewrite-Url", "X_Original_Url", "X-Http-Method", "X-HTTP-Method-Override", "X-Method-Override", "X_HTTP_Method_Override",
		"X-Ms-Client-Principal", "X-MS-CLIENT-PRINCIPAL-ID", "X-Ms-Client-Principal-Name", "X-MS-TOKEN-AAD-ACCESS-TOKEN", "X_MS_CLIENT_PRINCIPAL",
		"Gateway-Error", "Gateway-Request-Id", "Gateway-Route", "Cookie", "Cookie2_", "Http2-Settings",
	} {
		value := "of-the-caller"
		if name == "X-Forwarded-Host" || name == "Forwarded" {
			value = "host={stranger};by=of-the-caller"
		}
		try("field "+name, name+": "+value, "\n"+name+":", "{stranger}")
	}
	try("affinity alone of the cookies", "Cookie: session=of-the-caller; ARRAffinity=a; FedAuth=of-the-caller", "session", "fedauth")
	try("cookies in several lines", "Cookie: a=of-the-caller\r\nCookie: b=of-the-caller", "cookie")
	for _, field := range []string{"Origin: http://evil.example.com", "Origin: null", "Origin:", "Sec-Fetch-Site: cross-site", "Sec-Fetch-Site: same-origin", "sec-fetch-site: same-site", "Sec-Fetch-Site: none\r\nOrigin: http://localhost"} {
		table = append(table, hostile{name: "page with " + strings.ReplaceAll(field, "\r\n", " and "), send: with(field), want: "browser_refused", door: "reverse"})
	}
	for i, field := range []string{"Sec-Fetch-Site: none\r\nSec-Fetch-Site: cross-site", "Sec-Fetch-Site: none, cross-site", "ORIGIN: x"} {
		table = append(table, hostile{name: fmt.Sprintf("page that hides, %d", i), send: with(field), want: "browser_refused", door: "reverse"})
	}
	return table
}
