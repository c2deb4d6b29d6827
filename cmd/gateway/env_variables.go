package main

import (
	"net/url"
	"slices"
	"strings"

	"github.com/seed-13b04e61/gateway/certs"
)

// lookup reads a variable of an environment.
type lookup func(name string) (value string, set bool)

// lookupIn reads environ, in which the last of a name counts.
func lookupIn(environ []string) lookup {
	return func(name string) (string, bool) {
		for _, e := range slices.Backward(environ) {
			if value, ok := strings.CutPrefix(e, name+"="); ok {
				return value, true
			}
		}
		return "", false
	}
}

// nothing is the environment of which nothing is known.
func nothing(string) (string, bool) { return "", false }

// variable is one that a program is given, or is not to have.
type variable struct {
	name, value string
	unset       bool
}

// reach is what a program has to know to use a gateway: where it is, and what
// to trust. Paths may be "", and then nothing is set that needs them.
type reach struct {
	proxy *url.URL // with the caller's name and key, if it needs one
	// ca is the gateway's CA for those who add it to the roots that they have,
	// bundle is all roots with it, store the same for Java.
	ca, bundle, store string
	java              bool
	// wgetrc is a file for wget, which reads no variable for its roots; "" for none.
	wgetrc string
	// identity: routes hand out placeholders to this caller.
	identity  bool
	inherited lookup // what the program would have otherwise
}

// Names of variables that are read too.
const (
	nodeExtra   = "NODE_EXTRA_CA_CERTS"
	javaOptions = "JAVA_TOOL_OPTIONS"
	wgetFile    = "WGETRC"
)

// bundleVariables name files that replace a program's roots, so that they have
// to hold all of them: OpenSSL, Go and .NET; Python's requests; curl; git; pip;
// cargo; AWS; gRPC; npm; Bundler; Google Cloud; Perl; Deno; httplib2; Nix.
func bundleVariables() []string {
	return []string{
		"SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO", "PIP_CERT", "CARGO_HTTP_CAINFO",
		"AWS_CA_BUNDLE", "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH", "npm_config_cafile", "BUNDLE_SSL_CA_CERT",
		"CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE", "PERL_LWP_SSL_CA_FILE", "DENO_CERT", "HTTPLIB2_CA_CERTS", "NIX_SSL_CERT_FILE",
	}
}

// proxyVariables are set in both cases: curl reads http_proxy in lower case
// alone, wget all of them, and .NET takes the lower case first.
func proxyVariables() []string {
	return []string{"HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy"}
}

// variables are those that have every common runtime use the gateway, in an
// order that stays. ALL_PROXY is taken away: it would catch what is no HTTP, and
// clients read it as SOCKS.
func (r reach) variables() []variable {
	var out []variable
	set := func(value string, names ...string) {
		for _, n := range names {
			out = append(out, variable{name: n, value: value})
		}
	}
	set(r.proxy.String(), proxyVariables()...)
	out = append(out, variable{name: "ALL_PROXY", unset: true}, variable{name: "all_proxy", unset: true})
	bypassed := r.exceptions()
	set(strings.Join(bypassed.doubled(), ","), "NO_PROXY", "no_proxy")
	set("1", "NODE_USE_ENV_PROXY")
	if r.ca != "" {
		set(r.ca, nodeExtra)
	}
	if r.bundle != "" {
		set(r.bundle, bundleVariables()...)
	}
	if r.wgetrc != "" {
		set(r.wgetrc, wgetFile)
	}
	if r.java {
		set(r.javaOptions(bypassed), javaOptions)
	}
	if r.identity {
		key, _ := r.proxy.User.Password()
		set(r.proxy.Scheme+"://"+r.proxy.Host+"/.gateway/identity/token", "IDENTITY_ENDPOINT")
		set(key, "IDENTITY_HEADER")
	}
	return out
}

// javaOptions adds to the options that are there already. Java reads no proxy
// variables, knows trust stores alone, and sends Basic to a proxy only where
// these two lists are empty; it prints the options, so they hold no key.
func (r reach) javaOptions(bypassed exceptions) string {
	host, port := r.proxy.Hostname(), r.proxy.Port()
	options := []string{
		"-Dhttp.proxyHost=" + host, "-Dhttp.proxyPort=" + port,
		"-Dhttps.proxyHost=" + host, "-Dhttps.proxyPort=" + port,
		"-Dhttp.nonProxyHosts=" + bypassed.java(),
		"-Djdk.http.auth.tunneling.disabledSchemes=", "-Djdk.http.auth.proxying.disabledSchemes=",
	}
	if r.store != "" {
		options = append(options, "-Djavax.net.ssl.trustStore="+r.store,
			"-Djavax.net.ssl.trustStorePassword="+certs.TrustStorePassword, "-Djavax.net.ssl.trustStoreType=PKCS12")
	}
	for i, o := range options {
		options[i] = javaQuoted(o)
	}
	added := strings.Join(options, " ")
	before, _ := r.inherited(javaOptions)
	switch {
	case before == "":
		return added
	case strings.Contains(before, added):
		return before
	}
	return before + " " + added
}

// javaQuoted keeps an option with white space in one piece. The JVM knows
// quotes of both kinds there, and nothing that escapes them.
func javaQuoted(option string) string {
	switch {
	case !strings.ContainsAny(option, " \t\n\r\v\f'\""):
		return option
	case strings.Contains(option, `"`):
		return "'" + option + "'"
	}
	return `"` + option + `"`
}

// sensitive tells whether a program that is to hold no credential must not get
// a variable: those of Azure's SDKs, the host's managed identity, the gateway's
// own, and whatever routes.yaml reads secrets from.
func sensitive(secret []string) func(name string) bool {
	prefixes := []string{
		"GATEWAY_", "AZURE_CLIENT_SECRET", "AZURE_CLIENT_CERTIFICATE", "AZURE_CLIENT_SEND_CERTIFICATE",
		"AZURE_FEDERATED_TOKEN", "AZURE_KUBERNETES_", "AZURE_USERNAME", "AZURE_PASSWORD", "AZURE_POD_IDENTITY_",
		"IDENTITY_", "IMDS_ENDPOINT", "MSI_",
	}
	return func(name string) bool {
		return slices.Contains(secret, name) ||
			slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(name, p) })
	}
}

// overlay is environ without what is not to be in it, and with the variables.
func overlay(environ []string, drop func(name string) bool, vs []variable) []string {
	given := map[string]bool{}
	for _, v := range vs {
		given[v.name] = true
	}
	var out []string
	for _, e := range environ {
		if name, _, _ := strings.Cut(e, "="); !given[name] && !drop(name) {
			out = append(out, e)
		}
	}
	for _, v := range vs {
		if !v.unset {
			out = append(out, v.name+"="+v.value)
		}
	}
	return out
}
