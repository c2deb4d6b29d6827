package main

import (
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/seed-13b04e61/gateway/routes"
)

func reachOf(t *testing.T, proxy string, environ ...string) reach {
	t.Helper()
	u, err := url.Parse(proxy)
	if err != nil {
		t.Fatal(err)
	}
	return reach{proxy: u, ca: "/c/ca.pem", bundle: "/c/bundle.pem", inherited: lookupIn(environ)}
}

func TestEveryVariableIsSetInTheCasesThatAreRead(t *testing.T) {
	r := reachOf(t, "http://exec:KEY@127.9.8.7:3128")
	r.java, r.store, r.identity, r.wgetrc = true, "/c/trust.p12", true, "/c/wgetrc"
	got := overlay([]string{
		"PATH=/bin", "ALL_PROXY=socks5://x", "all_proxy=socks5://x", "HTTP_PROXY=http://old:1", "http_proxy=http://old:1",
		"IDENTITY_ENDPOINT=http://host/token", "IMDS_ENDPOINT=x", "MSI_ENDPOINT=x", "AZURE_CLIENT_ID=id", "MINE=secret", "EMPTY=",
	}, sensitive([]string{"MINE"}), r.variables())
	const proxy, exceptions = "http://exec:KEY@127.9.8.7:3128", "localhost,127.0.0.1,::1,127.9.8.7"
	want := []string{
		"PATH=/bin", "AZURE_CLIENT_ID=id", "EMPTY=",
		"HTTP_PROXY=" + proxy, "http_proxy=" + proxy, "HTTPS_PROXY=" + proxy, "https_proxy=" + proxy,
		"NO_PROXY=" + exceptions, "no_proxy=" + exceptions, "NODE_USE_ENV_PROXY=1", "NODE_EXTRA_CA_CERTS=/c/ca.pem", "WGETRC=/c/wgetrc",
		"IDENTITY_ENDPOINT=http://127.9.8.7:3128/.gateway/identity/token", "IDENTITY_HEADER=KEY",
		"JAVA_TOOL_OPTIONS=-Dhttp.proxyHost=127.9.8.7 -Dhttp.proxyPort=3128 -Dhttps.proxyHost=127.9.8.7 -Dhttps.proxyPort=3128" +
			" -Dhttp.nonProxyHosts=localhost|127.*|[::1] -Djdk.http.auth.tunneling.disabledSchemes= -Djdk.http.auth.proxying.disabledSchemes=" +
			" -Djavax.net.ssl.trustStore=/c/trust.p12 -Djavax.net.ssl.trustStorePassword=changeit -Djavax.net.ssl.trustStoreType=PKCS12",
	}
	for _, name := range []string{
		"SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO", "PIP_CERT", "CARGO_HTTP_CAINFO", "AWS_CA_BUNDLE",
		"GRPC_DEFAULT_SSL_ROOTS_FILE_PATH", "npm_config_cafile", "BUNDLE_SSL_CA_CERT", "CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE",
		"PERL_LWP_SSL_CA_FILE", "DENO_CERT", "HTTPLIB2_CA_CERTS", "NIX_SSL_CERT_FILE",
	} {
		want = append(want, name+"=/c/bundle.pem")
	}
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("the child's environment is\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestNoProxyMeansTheSameToEveryReader(t *testing.T) {
	for _, c := range []struct{ inherited, doubled, java string }{
		{"", "", ""},
		{"x.com", "x.com,.x.com", "x.com|*.x.com"},
		{".x.com", ".x.com", "*.x.com"},
		{"*.x.com", "*.x.com,.x.com", "*.x.com"},
		{"x.com:8443", "x.com:8443", ""},
		{"x.com, .x.com y.org", "x.com,.x.com,y.org,.y.org", "x.com|*.x.com|y.org|*.y.org"},
		{"10.0.0.0/8", "10.0.0.0/8", "10.*"},
		{"10.1.2.0/24", "10.1.2.0/24", "10.1.2.*"},
		{"10.1.2.3/32", "10.1.2.3/32", "10.1.2.3"},
		{"10.0.0.0/12", "10.0.0.0/12", ""},
		{"0.0.0.0/0", "0.0.0.0/0", ""},
		{"fd00::/8", "fd00::/8", ""},
		{"fd00::1", "fd00::1", "[fd00::1]"},
		{"10.1.2.3", "10.1.2.3", "10.1.2.3"},
		{"169.254.169.254", "169.254.169.254", "169.254.169.254"},
		{"localhost,127.0.0.1", "", ""},
		{"*", "*", "*"},
		{",, ,", "", ""},
	} {
		r := reachOf(t, "http://127.0.0.1:8080", "NO_PROXY="+c.inherited)
		join := func(first, rest, by string) string { return strings.TrimSuffix(first+by+rest, by) }
		if got, want := strings.Join(r.exceptions().doubled(), ","), join("localhost,127.0.0.1,::1", c.doubled, ","); got != want {
			t.Errorf("NO_PROXY of %q = %q, want %q", c.inherited, got, want)
		}
		if got, want := r.exceptions().java(), join("localhost|127.*|[::1]", c.java, "|"); got != want {
			t.Errorf("nonProxyHosts of %q = %q, want %q", c.inherited, got, want)
		}
	}
	r := reachOf(t, "http://127.0.0.1:8080", "NO_PROXY=upper.example", "no_proxy=lower.example")
	if got, want := strings.Join(r.exceptions(), ","), "localhost,127.0.0.1,::1,lower.example,upper.example"; got != want {
		t.Errorf("exceptions of both cases = %q, want %q", got, want)
	}
}

func TestABypassOfARoutedHostIsSeenInEveryForm(t *testing.T) {
	exact := routes.HostPattern{Host: "graph.microsoft.com", Port: 443}
	wild := routes.HostPattern{Host: "vault.example", Wildcard: true, Port: 443}
	address := routes.HostPattern{Host: "10.1.2.3", Port: 8443}
	for _, c := range []struct {
		entry string
		host  routes.HostPattern
		want  bool
	}{
		{"graph.microsoft.com", exact, true},
		{"GRAPH.Microsoft.com.", exact, true},
		{"microsoft.com", exact, true},
		{".microsoft.com", exact, true},
		{"*.microsoft.com", exact, true},
		{"*microsoft.com", exact, true},
		{"com", exact, true},
		{"*", exact, true},
		{"graph.microsoft.com:443", exact, true},
		{"graph.microsoft.com:8443", exact, false},
		{"h.microsoft.com", exact, false},
		{"login.microsoft.com", exact, false},
		{"10.0.0.0/8", exact, false},
		{"", exact, false},
		{".", exact, false},
		{"mine.vault.example", wild, true},
		{"example", wild, true},
		{"mine.other.example", wild, false},
		{"10.0.0.0/8", address, true},
		{"10.1.2.3", address, true},
		{"10.1.2.3:8443", address, true},
		{"10.1.2.3:443", address, false},
		{"10.1.2.4", address, false},
		{"*", address, true},
		{"2.3", address, false},
	} {
		if got := bypassedBy(c.entry, c.host); got != c.want {
			t.Errorf("bypassedBy(%q, %v) = %t, want %t", c.entry, c.host, got, c.want)
		}
	}
}

func TestJavasOptionsKeepTheirPieces(t *testing.T) {
	for option, want := range map[string]string{
		"-Da=b":          "-Da=b",
		"-Da=/a b/c":     `"-Da=/a b/c"`,
		`-Da=/a "b"/c`:   `'-Da=/a "b"/c'`,
		"-Da=it's":       `"-Da=it's"`,
		"-Da=x|*.y|[::]": "-Da=x|*.y|[::]",
	} {
		if got := javaQuoted(option); got != want {
			t.Errorf("javaQuoted(%s) = %s, want %s", option, got, want)
		}
	}
	r := reachOf(t, "http://127.0.0.1:8080")
	once := r.javaOptions(r.exceptions())
	r.inherited = lookupIn([]string{javaOptions + "=-Xmx1g " + once})
	if twice := r.javaOptions(r.exceptions()); twice != "-Xmx1g "+once {
		t.Errorf("options that are there already are added again: %s", twice)
	}
}

func TestJavaToolsAreKnownByName(t *testing.T) {
	for command, want := range map[string]bool{
		"java": true, "/usr/bin/java": true, "./mvnw": true, "gradle": true, "sbt": true, "java.exe": true,
		"javascript": false, "node": false, "sh": false,
	} {
		if got := javaTool(command); got != want {
			t.Errorf("javaTool(%q) = %t, want %t", command, got, want)
		}
	}
}

func TestNodesThatReadNoProxyVariablesAreKnown(t *testing.T) {
	for version, want := range map[string]bool{
		"v18.19.0": false, "v20.20.2": false, "v22.20.0": false, "v22.21.0": true, "v22.22.1": true, "v23.11.0": false,
		"v24.0.0": true, "v24.21.0": true, "v26.1.0": true, "": true, "nonsense": true, "v24": true, "vx.y.z": true,
	} {
		if got := readsProxyVariables(version); got != want {
			t.Errorf("readsProxyVariables(%q) = %t, want %t", version, got, want)
		}
	}
}

func TestAControlCharacterIsPrintedInNoFormat(t *testing.T) {
	for name, write := range envFormats() {
		if text, err := write([]variable{{name: "A", value: "x\nB=y"}}); err == nil || !strings.Contains(err.Error(), "A: ") {
			t.Errorf("--format %s prints %q, %v; want an error that names the variable", name, text, err)
		}
	}
}
