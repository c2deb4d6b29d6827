package main

import (
	"context"
	"crypto/x509"
	"path/filepath"
	"strings"
)

// javaVars are where a JVM finds options beside its command line; of two that
// say the same the later one wins. Java knows no proxy variable.
func javaVars() []string { return []string{"JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS", "_JAVA_OPTIONS"} }

// javaProperty is the value of -Dname=… in those variables, and which of them
// has it.
func (d *doctor) javaProperty(name string) (value, variable string) {
	for _, v := range javaVars() {
		for _, word := range javaWords(d.value(v)) {
			if rest, ok := strings.CutPrefix(word, "-D"+name+"="); ok {
				value, variable = rest, v
			}
		}
	}
	return value, variable
}

// javaWords splits options as the JVM does: at white space, but not inside
// quotes, which are taken away.
func javaWords(s string) []string {
	var out []string
	var word strings.Builder
	var quote rune
	for _, r := range s + " " {
		switch {
		case quote != 0 && r == quote:
			quote = 0
		case quote == 0 && (r == '"' || r == '\''):
			quote = r
		case quote == 0 && (r == ' ' || r == '\t' || r == '\n' || r == '\r'):
			if word.Len() > 0 {
				out = append(out, word.String())
				word.Reset()
			}
		default:
			word.WriteRune(r)
		}
	}
	return out
}

// checkJavaOptions looks at what a JVM is told of a proxy.
func (d *doctor) checkJavaOptions() {
	for _, name := range []string{"http.proxyPassword", "https.proxyPassword", "javax.net.ssl.trustStorePassword", "javax.net.ssl.keyStorePassword"} {
		if pass, _ := d.javaProperty(name); pass != "changeit" {
			d.keepSecret(&proxyURL{Pass: pass})
		}
	}
	host, from := d.javaProperty("https.proxyHost")
	if from == "" {
		return // the runtimes' check says so if there is a Java
	}
	port, _ := d.javaProperty("https.proxyPort")
	if port == "" {
		d.warn(checkVariables, from, "https.proxyHost is set without https.proxyPort, so Java takes port 443", "add -Dhttps.proxyPort=PORT")
		return
	}
	d.ok(checkVariables, from, "Java calls through "+host+":"+port)
}

// maxStore bounds a listed trust store, in bytes: Java's own has about 250 KiB.
const maxStore = 4 << 20

// listStore judges a Java that cannot compile the probe, as those of most
// containers: keytool stands beside it and lists what it trusts.
func (d *doctor) listStore(ctx context.Context, r foundRuntime, s sight, f finding) finding {
	java, err := filepath.EvalSymlinks(r.path)
	if err != nil {
		return f
	}
	args := []string{filepath.Join(filepath.Dir(java), "keytool"), "-list", "-rfc", "-storepass:env", "DOCTOR_STORE_PASS"}
	pass, _ := d.javaProperty("javax.net.ssl.trustStorePassword")
	if pass == "" {
		pass = "changeit"
	}
	store, _ := d.javaProperty("javax.net.ssl.trustStore")
	if store == "" {
		args = append(args, "-cacerts")
	} else {
		args = append(args, "-keystore", store)
	}
	out, err := d.run(ctx, probe{args: args, env: []string{"DOCTOR_STORE_PASS=" + pass}, limit: maxStore}, s)
	all := parseCertificates([]byte(out))
	if err != nil || len(all) == 0 {
		return f
	}
	pool := x509.NewCertPool()
	for _, c := range all {
		pool.AddCert(c)
	}
	if err := verify(s, pool); err != nil {
		f.Verdict, f.Message, f.Remedy = verdictNo, untrustedText(err)+" (as keytool lists its trust store)", javaTrusts
		return f
	}
	f.Verdict, f.Message, f.Remedy = verdictOK, "its trust store holds the gateway's CA, as keytool lists it", ""
	return f
}
