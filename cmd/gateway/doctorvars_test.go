package main

import (
	"net/http"
	"strings"
	"testing"

	"github.com/seed-13b04e61/gateway/routes"
)

func TestProxyVariablesAreJudged(t *testing.T) {
	const fine = "http://127.0.0.1:1"
	pair := func(name, value string) map[string]string {
		vars := both(fine)
		vars[name] = value
		return vars
	}
	for _, c := range []struct {
		name    string
		vars    map[string]string
		verdict string
		words   []string
	}{
		{"fine", both(fine), verdictOK, []string{"https_proxy", "through " + fine}},
		{"none", nil, verdictNo, []string{"neither https_proxy nor HTTPS_PROXY is set", "export https_proxy=", "gateway exec"}},
		{"upper case alone", map[string]string{"HTTPS_PROXY": fine}, verdictWarning, []string{"HTTPS_PROXY", "wget obeys the lower-case one alone"}},
		{"ALL_PROXY alone", map[string]string{"ALL_PROXY": fine}, verdictWarning, []string{"only ALL_PROXY is set", "export https_proxy="}},
		{"ALL_PROXY beside", pair("ALL_PROXY", fine), verdictWarning, []string{"ALL_PROXY", "catches more"}},
		{"upper-case HTTP_PROXY", pair("HTTP_PROXY", fine), verdictWarning, []string{"HTTP_PROXY", "curl and wget ignore the upper-case form"}},
		{"cases that differ", pair("HTTPS_PROXY", "http://127.0.0.1:2"), verdictWarning, []string{"HTTPS_PROXY", "differs from https_proxy", "Go the upper-case one"}},
		{"NO_PROXY that differs", map[string]string{"NO_PROXY": "a", "no_proxy": "b"}, verdictWarning, []string{"NO_PROXY", "differs from no_proxy"}},
		{"a space", pair("https_proxy", fine+" "), verdictNo, []string{"https_proxy", "begins or ends with a space"}},
		{"quotes", pair("https_proxy", `"`+fine+`"`), verdictNo, []string{"https_proxy", "quote", "Docker"}},
		{"socks", pair("https_proxy", "socks5://127.0.0.1:1"), verdictNo, []string{"https_proxy", "no SOCKS"}},
		{"TLS to the proxy", pair("https_proxy", "https://127.0.0.1:1"), verdictWarning, []string{"https_proxy", "TLS to the proxy itself"}},
		{"no scheme", pair("https_proxy", "127.0.0.1:1"), verdictWarning, []string{"https_proxy", "has no scheme", "http://"}},
		{"no port", pair("https_proxy", "http://127.0.0.1"), verdictNo, []string{"https_proxy", "no port", "curl takes 1080"}},
		{"no port, no scheme", pair("https_proxy", "proxy"), verdictNo, []string{"https_proxy", "no port"}},
		{"no host", pair("https_proxy", "http://:8080"), verdictNo, []string{"https_proxy", "names no host"}},
		{"no URL", pair("https_proxy", "http://a b:1"), verdictNo, []string{"https_proxy", "no URL"}},
		{"a path", pair("https_proxy", fine+"/graph"), verdictWarning, []string{"https_proxy", "has a path"}},
		{"a password to be encoded", pair("https_proxy", "http://a:p%40ss%2Fword@127.0.0.1:1"), verdictWarning, []string{"https_proxy", "percent-encoded", "axios", "gateway keygen"}},
		{"a name alone", pair("https_proxy", "http://a@127.0.0.1:1"), verdictWarning, []string{"https_proxy", "no key before the @"}},
		{"CGI", map[string]string{"http_proxy": fine, "REQUEST_METHOD": "GET"}, verdictWarning, []string{"REQUEST_METHOD", "Go", "CGI"}},
		{"unchecked certificates", pair("NODE_TLS_REJECT_UNAUTHORIZED", "0"), verdictWarning, []string{"NODE_TLS_REJECT_UNAUTHORIZED", "Node checks no certificate"}},
		{"unchecked by git", pair("GIT_SSL_NO_VERIFY", "true"), verdictWarning, []string{"GIT_SSL_NO_VERIFY", "git checks no certificate"}},
		{"Java without a port", pair("JAVA_TOOL_OPTIONS", "-Dhttps.proxyHost=127.0.0.1"), verdictWarning, []string{"JAVA_TOOL_OPTIONS", "without https.proxyPort"}},
		{"Java", pair("JAVA_TOOL_OPTIONS", "-Dhttps.proxyHost=127.0.0.1 -Dhttps.proxyPort=1"), verdictOK, []string{"JAVA_TOOL_OPTIONS", "127.0.0.1:1"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := patient(t, c.vars)
			d.checkVariables(nil)
			d.want(t, c.verdict, checkVariables, c.words...)
		})
	}
	d := patient(t, both(fine))
	d.checkVariables(nil)
	for _, verdict := range []string{verdictWarning, verdictNo} {
		d.never(t, verdict, checkVariables)
	}
}

func TestKeysOfProxyURLsStaySecret(t *testing.T) {
	for _, raw := range []string{
		"http://a:pa%73%73word-secret@127.0.0.1:1", "http://a:password-secret@127.0.0.1:1", ` "http://a:password-secret@127.0.0.1:1" `,
		"socks5://a:password-secret@127.0.0.1:1", "http://a:password-secret@", "http://a:password-secret@127.0.0.1:1/x?y", "a:password-secret@127.0.0.1:1",
		"http://a:password-secret@bad host:1", "ftp://a:password-secret@h:1", "http://a:password-secret@127.0.0.1:port",
	} {
		d := examined(t, map[string]string{"https_proxy": raw, "ALL_PROXY": raw, "NO_PROXY": "x"})
		for _, secret := range []string{"password-secret", "pa%73%73word"} {
			if strings.Contains(d.text(), secret) {
				t.Errorf("%s: the report holds it:\n%s", raw, d.text())
			}
		}
	}
}

// A foreign server may say back what it was sent.
func TestAKeyThatComesBackIsTakenOut(t *testing.T) {
	p := newPeer(t)
	p.key = "reports:hush-hush-hush"
	p.connect = func(w http.ResponseWriter) bool {
		refuse(w, http.StatusForbidden, "egress_denied", "you sent hush-hush-hush", "")
		return true
	}
	d := examined(t, both(p.url()))
	d.want(t, verdictNo, checkTunnel, "you sent [redacted]")
	if strings.Contains(d.text(), "hush-hush-hush") {
		t.Errorf("the report holds the key:\n%s", d.text())
	}
}

func TestEntriesOfNoProxyAreReadAsEachProgramReadsThem(t *testing.T) {
	all := "Go,Python urllib,Python requests,Python httpx,curl,wget,git,.NET,Node"
	for _, c := range []struct{ entry, host, want string }{
		{"graph.microsoft.com", "graph.microsoft.com", all},
		{"GRAPH.Microsoft.com", "graph.microsoft.com", all},
		{"microsoft.com", "graph.microsoft.com", "Go,Python urllib,Python requests,Python httpx,curl,wget,git,Node"},
		{".microsoft.com", "graph.microsoft.com", all},
		{".graph.microsoft.com", "graph.microsoft.com", "Python urllib,Python requests,curl,git,.NET,Node"},
		{"*.microsoft.com", "graph.microsoft.com", "Go,Node"},
		{"*", "graph.microsoft.com", "Go,Python urllib,Python requests,Python httpx,curl,git,Node"},
		{"soft.com", "graph.microsoft.com", "Python requests"},
		{"graph.microsoft.com:443", "graph.microsoft.com", "Go,Python requests,Node"},
		{"graph.microsoft.com:8443", "graph.microsoft.com", ""},
		{"graph.microsoft.co", "graph.microsoft.com", ""},
		{"10.0.0.0/8", "10.1.2.3", "Go,Python requests,Python httpx,curl,git,Node"},
		{"10.1.2.3", "10.1.2.3", all},
		{"10.0.0.0/8", "graph.microsoft.com", ""},
		{"localhost, 127.0.0.1 ,graph.microsoft.com", "graph.microsoft.com", all},
		{"localhost graph.microsoft.com", "graph.microsoft.com", "curl,git,Node"},
		{"localhost,127.0.0.1,::1,login.microsoftonline.com", "graph.microsoft.com", ""},
	} {
		d := patient(t, map[string]string{"no_proxy": c.entry, "NO_PROXY": c.entry})
		_, who := d.bypasses(routes.Authority{Host: c.host, Port: 443})
		var got []string
		for _, in := range dialects() {
			for _, list := range who {
				for _, w := range list {
					if w == in.who {
						got = append(got, w)
					}
				}
			}
		}
		if strings.Join(got, ",") != c.want {
			t.Errorf("%q covers %s for %q, want %q", c.entry, c.host, strings.Join(got, ","), c.want)
		}
	}
}

func TestABypassNamesItsEntryItsVariableAndWhomItAffects(t *testing.T) {
	d := patient(t, map[string]string{
		"NO_PROXY": "localhost,.microsoft.com", "no_proxy": "localhost,microsoft.com",
		"JAVA_TOOL_OPTIONS": `-Dhttp.nonProxyHosts="localhost|*.microsoft.com"`,
	})
	d.hosts = append(d.hosts, routes.Authority{Host: "api.contoso.com", Port: 443}, routes.Authority{Host: "localhost", Port: 443})
	d.checkBypass()
	d.want(t, verdictNo, checkBypass, `graph.microsoft.com: the entry ".microsoft.com" of NO_PROXY leads Go around the proxy`)
	d.want(t, verdictNo, checkBypass, `graph.microsoft.com: the entry "microsoft.com" of no_proxy leads Python urllib, Python requests`, "and Node around")
	d.want(t, verdictNo, checkBypass, `the entry "*.microsoft.com" of http.nonProxyHosts in JAVA_TOOL_OPTIONS leads Java around`)
	d.want(t, verdictOK, checkBypass, "covers api.contoso.com")
	d.never(t, verdictNo, checkBypass, "api.contoso.com")

	d = patient(t, nil)
	d.hosts = []routes.Authority{{Host: "localhost", Port: 443}}
	d.checkBypass()
	d.want(t, verdictWarning, checkBypass, "localhost: Go and Java never call loopback names")
}

func TestNonProxyHostsOfJava(t *testing.T) {
	for _, c := range []struct {
		entry string
		want  bool
	}{
		{"graph.microsoft.com", true}, {"*.microsoft.com", true}, {"graph.*", true}, {"*soft*", true}, {"*", true},
		{"microsoft.com", false}, {".microsoft.com", false}, {"*.microsoft.co", false}, {"raph*", false},
	} {
		if got := javaCovers(c.entry, "graph.microsoft.com", 443); got != c.want {
			t.Errorf("javaCovers(%q) = %v, want %v", c.entry, got, c.want)
		}
	}
}

// FuzzDoctorReads feeds what reads environments and other programs' words.
func FuzzDoctorReads(f *testing.F) {
	for _, seed := range []string{"http://a:b@h:1", "h:1", "a:b@h", `-Dhttp.nonProxyHosts="a|b" -Dx='y`, "36 35 98:0 / /mnt\\040x rw - ext4 /dev/sda1 rw",
		"answer 204 id", "HTTP/1.1 204 No Content\nGateway-Request-Id: x", "[::1]:443", "@", "http://@:1", "*.x.com:443, ,"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if p, err := parseProxy(s); err == nil {
			again, err := parseProxy(p.withKey())
			if err != nil || again.Addr != p.Addr || again.User != p.User || again.Pass != p.Pass {
				t.Errorf("parseProxy(%q) = %q, and that is read as %v, %v", s, p.withKey(), again, err)
			}
			if p.Pass != "" && len(p.Pass) > 20 && strings.Contains(p.String(), p.Pass) && !strings.Contains(p.Addr+p.User, p.Pass) {
				t.Errorf("String() of %q holds the key", s)
			}
		}
		for _, word := range javaWords(s) {
			if word == "" {
				t.Errorf("javaWords(%q) has an empty word", s)
			}
		}
		readMounts(s)
		if got := answeredWith(s); got != "" && len(got) != 3 {
			t.Errorf("answeredWith(%q) = %q, want a status or nothing", s, got)
		}
		for _, in := range dialects() {
			for _, entry := range strings.FieldsFunc(strings.ToLower(s), func(r rune) bool { return strings.ContainsRune(in.sep, r) }) {
				plain := strings.Trim(entry, "abcdefghijklmnopqrstuvwxyz.") == ""
				if plain && in.covers(entry, "a.example", 443) && !strings.HasSuffix("a.example", strings.Trim(entry, ".")) {
					t.Errorf("%s: %q covers a.example", in.who, entry)
				}
			}
		}
	})
}
