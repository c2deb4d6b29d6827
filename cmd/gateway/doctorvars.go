package main

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"

	"github.com/seed-13b04e61/gateway/routes"
)

// proxyURL is a proxy as programs are told of it.
type proxyURL struct {
	Scheme     string // http or https
	Addr       string // host:port
	User, Pass string // decoded
	written    string // the password as it was written, perhaps percent-encoded
	hasUser    bool
	from       string // the variable or flag that named it
}

// String never holds the password.
func (p *proxyURL) String() string {
	if p.hasUser {
		return fmt.Sprintf("%s://%s:xxxxx@%s", p.Scheme, url.User(p.User), p.Addr)
	}
	return p.Scheme + "://" + p.Addr
}

// withKey is the URL that programs take, password and all.
func (p *proxyURL) withKey() string {
	u := url.URL{Scheme: p.Scheme, Host: p.Addr}
	if p.hasUser {
		u.User = url.UserPassword(p.User, p.Pass)
	}
	return u.String()
}

// The ways in which a proxy URL can be unusable. Their texts hold nothing of
// it, as it may hold a key.
var (
	errProxyURL    = errors.New("this is no URL; write http://NAME:KEY@HOST:PORT")
	errProxyScheme = errors.New("the gateway speaks no SOCKS; write http://HOST:PORT")
	errProxyHost   = errors.New("the URL names no host; write http://HOST:PORT")
)

// parseProxy reads the value of a proxy variable as most programs do: without
// a scheme it is http. A missing port is 80, as for Go and Python.
func parseProxy(raw string) (*proxyURL, error) {
	if !strings.Contains(raw, "://") {
		raw = "http://" + raw
	}
	u, err := url.Parse(raw)
	if err != nil {
		return nil, errProxyURL // url.Error repeats the URL
	}
	switch scheme := strings.ToLower(u.Scheme); {
	case strings.HasPrefix(scheme, "socks"):
		return nil, errProxyScheme
	case scheme != "http" && scheme != "https":
		return nil, errProxyURL
	case u.Hostname() == "":
		return nil, errProxyHost
	}
	p := &proxyURL{Scheme: strings.ToLower(u.Scheme), hasUser: u.User != nil, from: "--proxy"}
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[p.Scheme]
	}
	p.Addr, p.User = net.JoinHostPort(u.Hostname(), port), u.User.Username()
	p.Pass, _ = u.User.Password()
	if _, rest, ok := strings.Cut(raw, "://"); ok && p.hasUser {
		_, p.written, _ = strings.Cut(rest[:strings.LastIndexByte(rest, '@')], ":")
	}
	return p, nil
}

// keepSecret has p's password kept out of every sentence, in all its forms.
func (d *doctor) keepSecret(p *proxyURL) {
	for _, secret := range []string{p.written, p.Pass, url.QueryEscape(p.Pass), url.PathEscape(p.Pass)} {
		// What is shorter is no key, and would riddle the report.
		if len(secret) >= 6 && !slices.Contains(d.secrets, secret) {
			d.secrets = append(d.secrets, secret)
		}
	}
}

// proxyVars are the variables that name a proxy, in both cases.
func proxyVars() []string {
	return []string{"https_proxy", "HTTPS_PROXY", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"}
}

// value is a variable's, "" if it is unset: programs see no difference.
func (d *doctor) value(name string) string {
	v, _ := d.env(name)
	return v
}

// checkVariables looks at the proxy variables and settles which proxy is
// examined: the flag's, else the one that programs take, else the file's.
func (d *doctor) checkVariables(table *routes.Table) {
	parsed := map[string]*proxyURL{}
	for _, name := range proxyVars() {
		if d.value(name) != "" {
			parsed[name] = d.checkValue(name)
		}
	}
	d.checkHTTPS(table, parsed)
	d.checkCases()
	if up, low := d.value("HTTP_PROXY"), d.value("http_proxy"); up != "" && low == "" {
		d.warn(checkVariables, "HTTP_PROXY", "curl and wget ignore the upper-case form for http:// URLs, as a CGI client could set it", "set http_proxy as well")
	}
	for _, name := range []string{"all_proxy", "ALL_PROXY"} {
		if d.value(name) != "" {
			d.warn(checkVariables, name, "it catches more than HTTPS_PROXY: curl sends ftp and other schemes to the gateway too, and clients of SOCKS misread it; Go, Java and Python's urllib ignore it",
				"unset it, and set https_proxy and HTTPS_PROXY")
			break
		}
	}
	if d.value("REQUEST_METHOD") != "" && d.value("HTTP_PROXY")+d.value("http_proxy") != "" {
		d.warn(checkVariables, "REQUEST_METHOD", "it is set, so Go takes this for a CGI program and refuses HTTP_PROXY", "unset it outside of CGI")
	}
	d.checkVerification()
	d.checkJavaOptions()
	if d.proxy == nil {
		d.chooseProxy(table, parsed)
	}
}

// checkHTTPS says whether programs know of a proxy for https at all.
func (d *doctor) checkHTTPS(table *routes.Table, parsed map[string]*proxyURL) {
	low, up := d.value("https_proxy"), d.value("HTTPS_PROXY")
	example := "http://NAME:KEY@HOST:PORT"
	if d.proxy != nil {
		example = d.proxy.String()
	} else if table != nil && !strings.HasPrefix(table.Listen.Proxy, "unix:") {
		example = "http://" + table.Listen.Proxy
	}
	set := fmt.Sprintf("export https_proxy=%s and HTTPS_PROXY=%s", example, example)
	switch {
	case low == "" && up == "" && d.value("all_proxy")+d.value("ALL_PROXY") != "":
		d.warn(checkVariables, "HTTPS_PROXY", "only ALL_PROXY is set, which Go, Java, Node and wget do not obey", set)
	case low == "" && up == "":
		d.no(checkVariables, "HTTPS_PROXY", "neither https_proxy nor HTTPS_PROXY is set, so programs call APIs directly and without a token", set+", or run the app by gateway exec -- CMD")
	case low == "":
		d.warn(checkVariables, "HTTPS_PROXY", "only the upper-case form is set, and wget obeys the lower-case one alone", "set https_proxy to the same")
	default:
		if p := parsed["https_proxy"]; p != nil {
			d.ok(checkVariables, "https_proxy", "programs that obey it call through "+p.String())
		}
	}
}

// checkCases finds pairs whose cases differ.
func (d *doctor) checkCases() {
	for _, low := range []string{"https_proxy", "http_proxy", "no_proxy"} {
		up := strings.ToUpper(low)
		if a, b := d.value(low), d.value(up); a != "" && b != "" && a != b {
			d.warn(checkVariables, up, fmt.Sprintf("it differs from %s: curl, wget, Python, Node and .NET take the lower-case one, Go the upper-case one", low),
				"make both the same")
		}
	}
}

// checkValue finds what is wrong with one proxy variable, and returns what most
// programs read in it; nil: nothing.
func (d *doctor) checkValue(name string) *proxyURL {
	raw := d.value(name)
	clean := strings.Trim(raw, " \t\r\n\"'")
	p, err := parseProxy(clean)
	if p != nil {
		p.from = name
		d.keepSecret(p)
	}
	if clean != raw {
		d.no(checkVariables, name, "the value begins or ends with a space, a line end or a quote, which programs take for a part of it",
			"write it without; env files of Docker and systemd keep quotes that a shell would take away")
	}
	if err != nil {
		d.no(checkVariables, name, err.Error(), "")
		return nil
	}
	_, _, hasScheme := strings.Cut(clean, "://")
	if !hasScheme {
		d.warn(checkVariables, name, "the value has no scheme, and Node and older Python libraries refuse it", "begin it with http://")
	}
	if p.Scheme == "https" {
		d.warn(checkVariables, name, "the scheme https:// asks for TLS to the proxy itself, which wget, Java and many others do not speak; the APIs' URLs are https all the same with http:// here",
			"write http:// unless listen.tls is set and your clients can do it")
	}
	d.checkAuthority(name, clean, p)
	return p
}

// checkAuthority looks at the port and at what stands before the @.
func (d *doctor) checkAuthority(name, clean string, p *proxyURL) {
	if !strings.Contains(clean, "://") {
		clean = "http://" + clean
	}
	u, err := url.Parse(clean)
	if err != nil {
		return // it has been said
	}
	if u.Port() == "" {
		d.no(checkVariables, name, "the URL has no port: curl takes 1080, others 80 or 443", "write the port of listen.proxy")
	}
	if u.Path != "" && u.Path != "/" || u.RawQuery != "" {
		d.warn(checkVariables, name, "the URL has a path, which programs ignore or refuse", "end it after the port")
	}
	const safe = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._~-"
	if strings.Trim(p.User+p.Pass, safe) != "" {
		d.warn(checkVariables, name, "name or key hold characters that must be percent-encoded, and axios sends them undecoded", "use a key of gateway keygen, which needs no encoding")
	}
	if p.hasUser && p.Pass == "" {
		d.warn(checkVariables, name, "there is a name and no key before the @", "write NAME:KEY@, or take the name away if the gateway asks for none")
	}
}

// checkVerification finds variables that turn the check of certificates off.
func (d *doctor) checkVerification() {
	for _, v := range []struct{ name, who string }{
		{"NODE_TLS_REJECT_UNAUTHORIZED", "Node"}, {"PYTHONHTTPSVERIFY", "Python"}, {"GIT_SSL_NO_VERIFY", "git"},
	} {
		value := d.value(v.name)
		if value == "0" && v.who != "git" || v.who == "git" && value != "" && value != "0" && value != "false" {
			d.warn(checkVariables, v.name, v.who+" checks no certificate at all, so anybody on the way can read what it sends", "unset it, and trust the gateway's CA instead")
		}
	}
}

// chooseProxy settles which proxy is examined when no flag says so.
func (d *doctor) chooseProxy(table *routes.Table, parsed map[string]*proxyURL) {
	for _, name := range []string{"https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY", "http_proxy", "HTTP_PROXY"} {
		if parsed[name] != nil {
			d.proxy = parsed[name]
			return
		}
	}
	if table == nil {
		d.no(checkProxy, "", "there is no proxy to examine", "set HTTPS_PROXY, or name one: gateway doctor --proxy http://NAME:KEY@HOST:PORT")
		return
	}
	addr := table.Listen.Proxy
	if strings.HasPrefix(addr, "unix:") {
		d.warn(checkProxy, addr, "the gateway listens on a unix socket, which no proxy variable can name", "call the reverse door, or let listen.proxy be a loopback address")
		return
	}
	scheme := "http"
	if table.Listen.TLS != nil {
		scheme = "https"
	}
	if host, port, err := net.SplitHostPort(addr); err == nil {
		if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
			addr = net.JoinHostPort("127.0.0.1", port)
		}
		d.proxy = &proxyURL{Scheme: scheme, Addr: addr, from: "listen.proxy"}
	}
}
