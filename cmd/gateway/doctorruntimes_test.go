package main

import (
	"errors"
	"fmt"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// realPath finds the system's programs and no other's.
const realPath = "/usr/local/bin:/usr/bin:/bin"

// realClients are the clients of this machine that doctor should find. Where CI
// is set all must be there: .ci/clients.sh installs them.
func realClients(t *testing.T) []string {
	t.Helper()
	var all []string
	for _, c := range []struct{ who, program, module string }{
		{"curl", "curl", ""}, {"wget", "wget", ""}, {"git", "git", ""}, {"Node", "node", ""}, {"Java", "java", ""}, {"openssl", "openssl", ""},
		{"Python urllib", "python3", "urllib"}, {"Python requests", "python3", "requests"}, {"Python httpx", "python3", "httpx"},
	} {
		path := realProgram(c.program)
		if path != "" && (c.module == "" || exec.Command(path, "-c", "import "+c.module).Run() == nil) || os.Getenv("CI") != "" {
			all = append(all, c.who)
		}
	}
	return all
}

// realProgram is where a program of the system is; "" if it is not there.
func realProgram(name string) string {
	for dir := range strings.SplitSeq(realPath, ":") {
		if path := filepath.Join(dir, name); isProgram(path) {
			return path
		}
	}
	return ""
}

func isProgram(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
}

func TestRealRuntimesThatTrustTheCAAreFine(t *testing.T) {
	p := newPeer(t)
	p.key = "reports-job:AbCd-Ef_0123456789"
	public := publicRoot(t)
	bundle := pemFile(t, "bundle.pem", public, p.root)
	home := t.TempDir()
	if err := os.WriteFile(filepath.Join(home, ".wgetrc"), []byte("ca_certificate = "+bundle+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	vars := both(p.url())
	for name, value := range map[string]string{
		"PATH": realPath, "HOME": home, "SSL_CERT_FILE": bundle, "REQUESTS_CA_BUNDLE": bundle, "CURL_CA_BUNDLE": bundle, "GIT_SSL_CAINFO": bundle,
		"NODE_EXTRA_CA_CERTS": pemFile(t, "ca.pem", p.root),
		"JAVA_TOOL_OPTIONS":   "-Djavax.net.ssl.trustStore=" + storeFile(t, public, p.root) + " -Djavax.net.ssl.trustStorePassword=changeit",
		// None of these may keep a probe from the proxy, or from checking.
		"NO_PROXY": "*", "no_proxy": "*", "NODE_TLS_REJECT_UNAUTHORIZED": "0", "GIT_SSL_NO_VERIFY": "1",
	} {
		vars[name] = value
	}
	d := examined(t, vars)
	for _, who := range realClients(t) {
		d.want(t, verdictOK, checkTrust, who+": ", "it calls through the gateway and trusts its CA (")
	}
	for _, name := range []string{"SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO", "NODE_EXTRA_CA_CERTS"} {
		d.want(t, verdictOK, checkTrust, name+": ", "holds the gateway's CA")
	}
	onlyPings(t, p, len(realClients(t))+1)
	if strings.Contains(d.text(), "AbCd-Ef_0123456789") {
		t.Errorf("the report holds the key:\n%s", d.text())
	}
}

// onlyPings fails if anything but /.gateway/ping was asked for.
func onlyPings(t *testing.T, p *peer, atLeast int) {
	t.Helper()
	asked := p.asked()
	if len(asked) < atLeast {
		t.Errorf("%d requests came through the tunnel, want at least %d", len(asked), atLeast)
	}
	for _, a := range asked {
		if a != "GET "+doctorHost+pingPath {
			t.Errorf("a probe asked for %q, want nothing but the ping", a)
		}
	}
}

func TestRealRuntimesThatRefuseTheCANameTheirVariable(t *testing.T) {
	p := newPeer(t)
	vars := both(p.url())
	vars["PATH"] = realPath
	d := examined(t, vars)
	variables := map[string]string{
		"curl": "CURL_CA_BUNDLE", "wget": "ca_certificate", "git": "GIT_SSL_CAINFO", "Python urllib": "SSL_CERT_FILE", "Python requests": "REQUESTS_CA_BUNDLE",
		"Python httpx": "SSL_CERT_FILE", "Node": "NODE_EXTRA_CA_CERTS", "Java": "javax.net.ssl.trustStore", "openssl": "SSL_CERT_FILE", "Go": "SSL_CERT_FILE",
	}
	for _, who := range append(realClients(t), "Go") {
		d.want(t, verdictNo, checkTrust, who+": it does not trust the gateway's CA", variables[who])
	}
	onlyPings(t, p, 1)
}

// A CA that signs for a host which it may not sign for is told from one that is
// not trusted.
func TestRealRuntimesTellAHostThatTheCADoesNotCover(t *testing.T) {
	p := newPeer(t)
	p.authorities(t, []string{"other.example.com"}, p.root.NotBefore.Add(1e9*3600))
	bundle := pemFile(t, "bundle.pem", p.root)
	vars := both(p.url())
	for name, value := range map[string]string{"PATH": realPath, "SSL_CERT_FILE": bundle, "CURL_CA_BUNDLE": bundle, "NODE_EXTRA_CA_CERTS": bundle,
		"JAVA_TOOL_OPTIONS": "-Djavax.net.ssl.trustStorePassword=changeit -Djavax.net.ssl.trustStore=" + storeFile(t, p.root)} {
		vars[name] = value
	}
	d := examined(t, vars)
	for _, who := range realClients(t) {
		if !slices.Contains([]string{"curl", "Python urllib", "Node", "Java", "openssl"}, who) {
			continue // those have no variable here
		}
		d.want(t, verdictNo, checkTrust, who+": "+notCovered, "gateway reload")
	}
}

// script writes a program of that name which prints text and fails. Asked for
// its version it says version.
func script(t *testing.T, dir, name, version, text string) {
	t.Helper()
	body := "#!/bin/sh\ncase \"$1\" in *-version|version) echo '" + version + "'; exit 0;; esac\n" +
		"case \"$2\" in *find_spec*) echo has; exit 0;; esac\ncat <<'END'\n" + text + "\nEND\nexit 1\n"
	if err := os.WriteFile(filepath.Join(dir, name), []byte(body), 0o700); err != nil {
		t.Fatal(err)
	}
}

func TestWordsOfRuntimesAreUnderstood(t *testing.T) {
	for _, c := range []struct{ name, program, version, says, who, want string }{
		{"node", "node", "v20.20.2", "failed UNABLE_TO_GET_ISSUER_CERT_LOCALLY unable to get local issuer certificate", "Node", untrusted},
		{"node with the root in the chain", "node", "v24.21.0", "failed SELF_SIGNED_CERT_IN_CHAIN self-signed certificate in certificate chain", "Node", untrusted},
		{"java", "java", `openjdk version "17.0.15" 2025-04-15`, "failed javax.net.ssl.SSLHandshakeException: PKIX path building failed: sun.security.provider.certpath.SunCertPathBuilderException: unable to find valid certification path to requested target", "Java", untrusted},
		{"java, constraints", "java", `openjdk version "17.0.15" 2025-04-15`, "failed javax.net.ssl.SSLHandshakeException: PKIX path validation failed: java.security.cert.CertPathValidatorException: name constraints check failed", "Java", notCovered},
		{"java, empty store", "java", `openjdk version "17.0.15" 2025-04-15`, "failed javax.net.ssl.SSLException: Unexpected error: java.security.InvalidAlgorithmParameterException: the trustAnchors parameter must be non-empty", "Java", noTrust},
		{"java, no compiler", "java", `openjdk version "17.0.15" 2025-04-15`, "error: no compiler module found in boot layer", "Java", "cannot compile the probe"},
		{"java 8", "java", `openjdk version "1.8.0_442"`, "Error: Could not find or load main class .tmp.gateway-doctor-1.Ping.java", "Java", "older than 11"},
		{"python", "python3", "Python 3.11.2", "failed URLError <urlopen error [SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: unable to get local issuer certificate (_ssl.c:992)>", "Python urllib", untrusted},
		{"python, expired", "python3", "Python 3.11.2", "failed URLError <urlopen error [SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: certificate has expired (_ssl.c:992)>", "Python urllib", expired},
		{"curl", "curl", "curl 7.88.1 (x86_64-pc-linux-gnu)", "curl: (60) SSL certificate problem: unable to get local issuer certificate", "curl", untrusted},
		{"curl 77", "curl", "curl 7.88.1 (x86_64-pc-linux-gnu)", "curl: (77) error setting certificate file: /nowhere.pem", "curl", noTrust},
		{"wget, GnuTLS", "wget", "GNU Wget 1.21.3 built on linux-gnu.", "ERROR: The certificate of 'graph.microsoft.com' is not trusted.\nERROR: The certificate of 'graph.microsoft.com' doesn't have a known issuer.", "wget", untrusted},
		{"wget, OpenSSL", "wget", "GNU Wget 1.20.3 built on linux-gnu.", "ERROR: cannot verify graph.microsoft.com's certificate, issued by 'CN=gateway issuing':\n  Unable to locally verify the issuer's authority.", "wget", untrusted},
		{"git, GnuTLS", "git", "git version 2.39.5", "fatal: unable to access 'https://graph.microsoft.com/.gateway/ping?git=/': server certificate verification failed. CAfile: none CRLfile: none", "git", untrusted},
		{"a refused key", "git", "git version 2.39.5", "fatal: unable to access 'https://graph.microsoft.com/': CONNECT tunnel failed, response 407", "git", "does not take its credential"},
		{"git, after a 407", "git", "git version 2.39.5", "<= Recv header: HTTP/1.1 407 Proxy Authentication Required\n<= Recv header: Gateway-Request-Id: x\n<= Recv header: HTTP/1.1 200 Connection Established\nfatal: unable to access: server certificate verification failed", "git", untrusted},
		{"something new", "curl", "curl 9.0.0", "curl: (35) something that nobody has seen", "curl", "its call fails (9.0.0): curl: (35) something that nobody has seen"},
		{"nothing", "curl", "curl 9.0.0", "", "curl", "it says nothing"},
		{"an answer of another", "curl", "curl 9.0.0", "HTTP/1.1 204 No Content\nServer: other", "curl", "its call fails"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newPeer(t)
			dir := t.TempDir()
			script(t, dir, c.program, c.version, c.says)
			d, s := sighted(t, p, map[string]string{"PATH": dir + ":/bin:/usr/bin"}) // for cat
			t.Setenv("PATH", dir)
			d.checkRuntimes(t.Context(), s)
			verdict := verdictNo
			if strings.Contains(c.want, "compile") || strings.Contains(c.want, "older") {
				verdict = verdictWarning
			}
			d.want(t, verdict, checkTrust, c.who+": ", c.want)
		})
	}
}

func TestAJVMsOptionsAreNotRepeated(t *testing.T) {
	out := "Picked up JAVA_TOOL_OPTIONS: -Dhttps.proxyPassword=hush\nopenjdk version \"17.0.15\"\n"
	if got := firstSaid(out); got != `openjdk version "17.0.15"` {
		t.Errorf("firstSaid = %q, want the version", got)
	}
	if f := judge(probe{who: "Java"}, "17", "Picked up JAVA_TOOL_OPTIONS: -Dhttps.proxyPassword=hush", os.ErrInvalid); strings.Contains(f.sentence(), "hush") {
		t.Errorf("judge = %q, want it without the options", f.sentence())
	}
}

// A Java without a compiler, as in most containers, has keytool beside it.
func TestAJavaWithoutACompilerIsJudgedByItsStore(t *testing.T) {
	p := newPeer(t)
	dir := t.TempDir()
	script(t, dir, "java", `openjdk version "17.0.15" 2025-04-15`, "error: no compiler module found in boot layer")
	// It prints the store that is named last; Java's own is empty here.
	lister := "#!/bin/sh\nfor last; do :; done\n[ \"$DOCTOR_STORE_PASS\" = pass-of-the-store ] && exec cat \"$last\"\nexit 1\n"
	if err := os.WriteFile(filepath.Join(dir, "keytool"), []byte(lister), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ store, verdict, want string }{
		{pemFile(t, "store", publicRoot(t), p.root), verdictOK, "its trust store holds the gateway's CA"},
		{pemFile(t, "store", publicRoot(t)), verdictNo, "it does not trust the gateway's CA"},
		{"", verdictWarning, "cannot compile the probe"},
		{"/nowhere/trust.p12", verdictWarning, "cannot compile the probe"},
	} {
		d, s := sighted(t, p, map[string]string{"PATH": dir + ":/bin:/usr/bin",
			"JAVA_TOOL_OPTIONS": "-Djavax.net.ssl.trustStorePassword=pass-of-the-store -Djavax.net.ssl.trustStore=" + c.store})
		for _, f := range d.askRuntime(t.Context(), javaAt(filepath.Join(dir, "java")), s, t.TempDir()) {
			d.keep(f)
		}
		d.want(t, c.verdict, checkTrust, "Java: ", c.want)
	}
}

// javaAt is the Java at path.
func javaAt(path string) foundRuntime {
	kinds := runtimeKinds()
	return foundRuntime{kinds[slices.IndexFunc(kinds, func(k runtimeKind) bool { return k.name == "java" })], path}
}

// sighted is a doctor that has seen what p shows.
func sighted(t *testing.T, p *peer, vars map[string]string) (*doctor, sight) {
	t.Helper()
	d := patient(t, vars)
	d.proxy, _ = parseProxy(p.url())
	s, _ := d.tunnel(t.Context(), d.hosts[0])
	if s == nil {
		t.Fatalf("no tunnel:\n%s", d.text())
	}
	return d, *s
}

func TestRealKeytoolListsWhatJavaTrusts(t *testing.T) {
	if !slices.Contains(realClients(t), "Java") {
		return // TestRealRuntimes says so where it must be there
	}
	p := newPeer(t)
	for _, c := range []struct{ store, verdict string }{{storeFile(t, publicRoot(t), p.root), verdictOK}, {storeFile(t, publicRoot(t)), verdictNo}, {"", verdictNo}} {
		options := "-Xmx64m"
		if c.store != "" {
			options = "-Djavax.net.ssl.trustStorePassword=changeit -Djavax.net.ssl.trustStore=" + c.store
		}
		d, s := sighted(t, p, map[string]string{"PATH": realPath, "JAVA_TOOL_OPTIONS": options})
		unasked := finding{checkTrust, "Java", verdictWarning, "it was not asked", ""}
		if f := d.listStore(t.Context(), javaAt(realProgram("java")), s, unasked); f.Verdict != c.verdict {
			t.Errorf("listStore(%q) = %v, want %s", c.store, f, c.verdict)
		}
	}
}

func TestARuntimeThatHangsIsLeftBehind(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "curl"), []byte("#!/bin/sh\nexec sleep 1000\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	d := patient(t, nil)
	d.patience = time.Millisecond
	d.proxy, _ = parseProxy("http://127.0.0.1:1")
	hung := probe{who: "curl", args: []string{filepath.Join(dir, "curl")}}
	out, err := d.run(t.Context(), hung, sight{host: d.hosts[0]})
	if !errors.Is(err, errProbeSlow) {
		t.Fatalf("run = %v, want that it was too slow", err)
	}
	if f := judge(hung, "curl 7.88.1", out, err); f.Verdict != verdictNo || !strings.Contains(f.Message, "did not end in time (7.88.1)") {
		t.Errorf("judge = %v, want a NO that says so", f)
	}
}

// The gateway's own port with TLS: some programs cannot, and are not blamed.
func TestAProxyOverTLSIsForThoseWhoSpeakIt(t *testing.T) {
	p := newPeer(t)
	p.key = "reports:a-key-of-this-test"
	p.Close()
	p.Server = httptest.NewTLSServer(p)
	t.Cleanup(p.Server.Close)
	bundle := pemFile(t, "bundle.pem", p.root, p.Certificate(), publicRoot(t))
	vars := both("https://" + p.key + "@" + p.addr())
	for _, name := range []string{"SSL_CERT_FILE", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO", "REQUESTS_CA_BUNDLE"} {
		vars[name] = bundle
	}
	vars["PATH"] = realPath
	out, _ := doctorRun(t, t.TempDir(), vars)
	const unasked = "warning  trust      %s: it does not speak TLS to a proxy"
	want := map[string]string{
		// Its variables are for the host's certificate, not for the proxy's.
		"curl":            "; or have it trust the certificate of listen.tls, which curl and git look for in the system's store alone",
		"Python requests": "ok       trust      Python requests: it calls through",
		"wget":            fmt.Sprintf(unasked, "wget"), "Node": fmt.Sprintf(unasked, "Node"), "Java": fmt.Sprintf(unasked, "Java"),
	}
	for _, who := range realClients(t) {
		if !strings.Contains(out, want[who]) {
			t.Errorf("the report lacks %q:\n%s", want[who], out)
		}
	}
	if line := "ok       proxy      " + p.addr() + ": the gateway answers"; !strings.Contains(out, line) {
		t.Errorf("the report lacks %q:\n%s", line, out)
	}
	onlyPings(t, p, 1)
}

func TestWhichRuntimesObeyTheVariables(t *testing.T) {
	for _, c := range []struct {
		version string
		vars    map[string]string
		verdict string
		want    string
	}{
		{"v20.20.2", nil, verdictWarning, "EnvHttpProxyAgent"},
		{"v20.20.2", map[string]string{"NODE_USE_ENV_PROXY": "1"}, verdictWarning, "EnvHttpProxyAgent"},
		{"v22.20.0", nil, verdictWarning, "EnvHttpProxyAgent"},
		{"v23.11.0", nil, verdictWarning, "EnvHttpProxyAgent"},
		{"v22.21.0", nil, verdictWarning, "set NODE_USE_ENV_PROXY=1"},
		{"v24.21.0", nil, verdictWarning, "set NODE_USE_ENV_PROXY=1"},
		{"v24.21.0", map[string]string{"NODE_USE_ENV_PROXY": "1"}, verdictOK, "obeys"},
		{"v24.21.0", map[string]string{"NODE_OPTIONS": "--use-env-proxy --trace-warnings"}, verdictOK, "obeys"},
	} {
		got := nodeRemarks(patient(t, c.vars), c.version)
		if len(got) != 1 || got[0].Verdict != c.verdict || !strings.Contains(got[0].sentence(), c.want) {
			t.Errorf("nodeRemarks(%s, %v) = %v, want %s with %q", c.version, c.vars, got, c.verdict, c.want)
		}
	}
	for options, want := range map[string]string{
		"":         "add -Dhttps.proxyHost=127.0.0.1 -Dhttps.proxyPort=8080",
		"-Xmx512m": "add -Dhttps.proxyHost=127.0.0.1 -Dhttps.proxyPort=8080",
		"-Dhttps.proxyHost=corp -Dhttps.proxyPort=3128":                          "Java is sent to corp:3128",
		`-Dx="a b" -Dhttps.proxyHost=127.0.0.1 -Dhttps.proxyPort=8080`:           "disabledSchemes",
		"-Dhttps.proxyHost=127.0.0.1 -Djdk.http.auth.tunneling.disabledSchemes=": "",
	} {
		d := patient(t, map[string]string{"JAVA_TOOL_OPTIONS": options})
		d.proxy, _ = parseProxy("http://a:secret-key@127.0.0.1:8080")
		said := javaRemarks(d, "17")
		if want == "" && len(said) > 0 || want != "" && !slices.ContainsFunc(said, func(f finding) bool { return strings.Contains(f.sentence(), want) }) {
			t.Errorf("javaRemarks(%q) = %v, want %q", options, said, want)
		}
	}
}
