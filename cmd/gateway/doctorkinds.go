package main

import (
	"fmt"
	"strconv"
	"strings"
)

// runtimeKinds are the programs that are asked, by the name that starts them.
func runtimeKinds() []runtimeKind {
	return []runtimeKind{
		{"curl", []string{"--version"}, curlProbes, nil},
		{"wget", []string{"--version"}, wgetProbes, nil},
		{"git", []string{"--version"}, gitProbes, nil},
		{"python3", []string{"--version"}, pythonProbes, nil},
		{"node", []string{"--version"}, nodeProbes, nodeRemarks},
		{"java", []string{"-version"}, javaProbes, javaRemarks},
		{"openssl", []string{"version"}, opensslProbes, nil},
	}
}

// curlProbes: what is secret is told by standard input, which comes after
// ~/.curlrc and so wins over it.
func curlProbes(d *doctor, p target) []probe {
	quote := strings.NewReplacer(`\`, `\\`, `"`, `\"`)
	return []probe{{
		who: "curl", args: []string{p.path, "-K", "-", "--no-insecure", "-sS", "--suppress-connect-headers", "-D", "-", "-o", "-", p.url},
		stdin:  fmt.Sprintf("proxy = \"%s\"\nnoproxy = \"\"\n", quote.Replace(d.proxy.withKey())),
		overTL: true,
		trusts: "point CURL_CA_BUNDLE or SSL_CERT_FILE to the output of gateway ca export --bundle",
	}}
}

func wgetProbes(_ *doctor, p target) []probe {
	args := []string{p.path, "-S", "-O", "-", "-t", "1", "--no-hsts", "--check-certificate", "--max-redirect=0", "-e", "use_proxy=on", "-e", "no_proxy=", p.url}
	if strings.Contains(p.version, "BusyBox") {
		args = []string{p.path, "-S", "-O", "-", p.url}
	}
	return []probe{{who: "wget", args: args,
		trusts: "write ca_certificate = FILE into ~/.wgetrc or what WGETRC names, FILE being the output of gateway ca export --bundle, or put the CA into the system's store; SSL_CERT_FILE means nothing to it"}}
}

// gitProbes: git adds /info/refs to any URL, which after a question mark is no
// part of the path. What it then makes of the answer does not matter.
func gitProbes(_ *doctor, p target) []probe {
	return []probe{{who: "git", args: []string{p.path, "ls-remote", p.url + "?git="}, overTL: true,
		trusts: "point GIT_SSL_CAINFO to the output of gateway ca export --bundle"}}
}

func pythonProbes(_ *doctor, p target) []probe {
	var out []probe
	bundle := func(name string) string { return "point " + name + " to the output of gateway ca export --bundle" }
	for _, lib := range append([]string{"urllib"}, p.libraries...) {
		trusts := map[string]string{"requests": bundle("REQUESTS_CA_BUNDLE") + "; requests does not obey SSL_CERT_FILE"}[lib]
		if trusts == "" {
			trusts = bundle("SSL_CERT_FILE")
		}
		out = append(out, probe{who: "Python " + lib, args: []string{p.path, "-c", pingPython, lib, p.url}, overTL: lib == "requests", trusts: trusts})
	}
	return out
}

func nodeProbes(_ *doctor, p target) []probe {
	return []probe{{who: "Node", args: []string{p.path, "-e", pingNode},
		trusts: "point NODE_EXTRA_CA_CERTS to the output of gateway ca export; it is read when Node starts"}}
}

// javaTrusts is how a Java is made to trust the CA.
const javaTrusts = "write a trust store by gateway ca export --p12 --out trust.p12, and add -Djavax.net.ssl.trustStore=trust.p12 -Djavax.net.ssl.trustStorePassword=changeit -Djavax.net.ssl.trustStoreType=PKCS12 to JAVA_TOOL_OPTIONS"

func javaProbes(_ *doctor, p target) []probe {
	path, err := writeJava(p.dir)
	if err != nil {
		path = "Ping.java" // says by itself that it is not there
	}
	return []probe{{who: "Java", args: []string{p.path, "-XX:TieredStopAtLevel=1", path}, trusts: javaTrusts}}
}

func opensslProbes(d *doctor, p target) []probe {
	host := strings.TrimSuffix(strings.TrimPrefix(p.url, "https://"), pingPath)
	at, name := host, host
	if i := strings.LastIndexByte(host, ':'); i > 0 {
		name = host[:i]
	} else {
		at += ":443"
	}
	args := []string{p.path, "s_client", "-quiet", "-proxy", d.proxy.Addr, "-connect", at, "-servername", name, "-verify_hostname", name, "-verify_return_error"}
	if d.proxy.hasUser {
		args = append(args, "-proxy_user", d.proxy.User, "-proxy_pass", "env:DOCTOR_PROXY_KEY")
	}
	return []probe{{who: "openssl", args: args, stdin: "GET " + pingPath + " HTTP/1.1\r\nHost: " + host + "\r\nConnection: close\r\n\r\n",
		trusts: "point SSL_CERT_FILE to the output of gateway ca export --bundle; PHP, Ruby, Perl and .NET on Linux trust as openssl does"}}
}

// nodeRemarks says whether this Node obeys the proxy variables.
func nodeRemarks(d *doctor, version string) []finding {
	v := strings.SplitN(strings.TrimPrefix(version, "v"), ".", 3)
	major, err := strconv.Atoi(v[0])
	if err != nil || len(v) < 2 {
		return nil
	}
	minor, _ := strconv.Atoi(v[1])
	able := major >= 24 || major == 22 && minor >= 21
	on := d.value("NODE_USE_ENV_PROXY") == "1" || strings.Contains(d.value("NODE_OPTIONS"), "--use-env-proxy")
	switch {
	case !able:
		return []finding{{checkVariables, "Node", verdictWarning, "Node " + version + " ignores the proxy variables in fetch and https; axios and the Azure SDKs obey them by themselves",
			"use Node 22.21, 24 or newer with NODE_USE_ENV_PROXY=1, or undici's EnvHttpProxyAgent in the app"}}
	case !on:
		return []finding{{checkVariables, "Node", verdictWarning, "Node " + version + " ignores the proxy variables until it is told to obey them", "set NODE_USE_ENV_PROXY=1"}}
	}
	return []finding{{checkVariables, "Node", verdictOK, "Node " + version + " obeys the proxy variables", ""}}
}

// javaRemarks says what a Java needs beside trust.
func javaRemarks(d *doctor, version string) []finding {
	host, port := splitAddr(d.proxy.Addr)
	if d.value("JAVA_TOOL_OPTIONS")+d.value("JDK_JAVA_OPTIONS")+d.value("_JAVA_OPTIONS") == "" || !d.javaProxied() {
		return []finding{{checkVariables, "Java", verdictWarning, "Java ignores the proxy variables (" + version + ")",
			fmt.Sprintf("add -Dhttps.proxyHost=%s -Dhttps.proxyPort=%s -Dhttp.proxyHost=%s -Dhttp.proxyPort=%s to JAVA_TOOL_OPTIONS", host, port, host, port)}}
	}
	var said []finding
	toHost, from := d.javaProperty("https.proxyHost")
	toPort, _ := d.javaProperty("https.proxyPort")
	if toHost != host || toPort != "" && toPort != port {
		said = append(said, finding{checkVariables, from, verdictWarning, fmt.Sprintf("Java is sent to %s:%s, and the proxy that was examined is %s", toHost, toPort, d.proxy.Addr),
			"make both the same, or name this one by --proxy"})
	}
	if _, set := d.javaProperty("jdk.http.auth.tunneling.disabledSchemes"); set == "" && d.proxy.hasUser {
		said = append(said, finding{checkVariables, from, verdictWarning, "Java sends no name and key to a proxy for https unless it is allowed to, and an Authenticator in the app has them",
			"add -Djdk.http.auth.tunneling.disabledSchemes= to it, or let the caller be known by its uid"})
	}
	return said
}

func (d *doctor) javaProxied() bool {
	_, from := d.javaProperty("https.proxyHost")
	return from != ""
}
