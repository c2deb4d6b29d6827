package main

import (
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func TestWhatStandsInTheProxysPlaceIsNamed(t *testing.T) {
	nobody := httptest.NewServer(http.NotFoundHandler())
	nobody.Close()
	silent := rawServer(t, "SSH-2.0-OpenSSH_9.2\r\n")
	secure := httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(secure.Close)
	web := func(h http.HandlerFunc) string {
		srv := httptest.NewServer(h)
		t.Cleanup(srv.Close)
		return srv.URL
	}
	for _, c := range []struct {
		name, url string
		words     []string
	}{
		{"nobody", nobody.URL, []string{"nothing listens there", "start the gateway"}},
		{"a name that nobody knows", "http://proxy.invalid:8080", []string{"the name proxy.invalid cannot be resolved"}},
		{"another protocol", silent, []string{"does not answer as an HTTP proxy", "correct https_proxy"}},
		{"TLS", strings.Replace(secure.URL, "https:", "http:", 1), []string{"it speaks TLS", "https://"}},
		{"squid", web(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Server", "squid/5.7")
			w.WriteHeader(http.StatusBadRequest)
		}), []string{"not this gateway but", `squid/5.7`, "status 400", "egress.proxy"}},
		{"a proxy that says Via", web(func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Via", "1.1 corp-proxy") }), []string{"not this gateway but", "corp-proxy", "field Via"}},
		{"a silent web server", web(func(http.ResponseWriter, *http.Request) {}), []string{"does not say what it is"}},
		{"TLS that is not trusted", secure.URL, []string{"TLS to the proxy itself does not come about"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := examined(t, both(c.url))
			d.want(t, verdictNo, checkProxy, c.words...)
			d.never(t, verdictOK, checkTunnel)
		})
	}
}

// rawServer says one thing to whoever comes.
func rawServer(t *testing.T, text string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(c, text)
			_ = c.Close()
		}
	}()
	return "http://" + l.Addr().String()
}

// A foreign proxy must not get the key from doctor.
func TestAStrangerGetsNoKey(t *testing.T) {
	var seen strings.Builder
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_ = r.Header.Write(&seen)
		seen.WriteString(r.Method + "\n")
	}))
	t.Cleanup(srv.Close)
	d := examined(t, both(strings.Replace(srv.URL, "://", "://a:secret-key@", 1)))
	d.want(t, verdictNo, checkProxy, "not this gateway")
	if strings.Contains(seen.String(), "Authorization") || strings.Contains(seen.String(), "CONNECT") {
		t.Errorf("a stranger was sent:\n%s", seen.String())
	}
}

func TestCredentialsAreJudged(t *testing.T) {
	p := newPeer(t)
	p.key = "reports:the-right-key"
	d := examined(t, both("http://"+p.addr()))
	d.want(t, verdictNo, checkProxy, "the gateway asks who calls, and https_proxy holds no credential: no caller has this key", "show the right one; write http://NAME:KEY@HOST:PORT; gateway keygen")
	d = examined(t, both("http://reports:the-wrong-key@"+p.addr()))
	d.want(t, verdictNo, checkProxy, `does not take the credential of caller "reports" in https_proxy: no caller has this key`, "show the right one; compare the name", "gateway keygen")
	d = examined(t, both(p.url()))
	d.want(t, verdictOK, checkTunnel, "opens the tunnel to caller reports")
}

func TestARefusedTunnelShowsCodeDetailAndRemedy(t *testing.T) {
	p := newPeer(t)
	p.connect = func(w http.ResponseWriter) bool {
		refuse(w, http.StatusNotImplemented, "not_supported", "there is no CA", "set intercept.ca_dir")
		return true
	}
	d := examined(t, both(p.url()))
	d.want(t, verdictNo, checkTunnel, "graph.microsoft.com: the gateway refuses the tunnel with 501 not_supported: there is no CA; set intercept.ca_dir")
	p.connect = func(w http.ResponseWriter) bool {
		w.Header().Set("Gateway-Error", "egress_denied")
		w.WriteHeader(http.StatusForbidden)
		return true
	}
	d = examined(t, both(p.url()))
	d.want(t, verdictNo, checkTunnel, "403 egress_denied", "gateway explain GET https://graph.microsoft.com/")
}

func TestAnAnswerInsideTheTunnelThatIsNoPingIsShown(t *testing.T) {
	p := newPeer(t)
	p.inner = func(w http.ResponseWriter) {
		refuse(w, http.StatusMisdirectedRequest, "misdirected", "not this host", "name it")
	}
	examined(t, both(p.url())).want(t, verdictNo, checkTunnel, "421 misdirected: not this host; name it")
	p.inner = func(w http.ResponseWriter) { w.Header().Set("Server", "corp-intercept") }
	examined(t, both(p.url())).want(t, verdictNo, checkTunnel, "something other than this gateway ends TLS", "corp-intercept")
}

func TestATunnelWithoutTLSIsNamed(t *testing.T) {
	p := newPeer(t)
	p.connect = func(w http.ResponseWriter) bool {
		c, _, err := http.NewResponseController(w).Hijack()
		if err == nil {
			_, _ = io.WriteString(c, "HTTP/1.1 200 Connection Established\r\n\r\nhello, this is no TLS\r\n")
			_ = c.Close()
		}
		return true
	}
	examined(t, both(p.url())).want(t, verdictNo, checkTunnel, "TLS inside the tunnel does not come about")
	p.connect = func(w http.ResponseWriter) bool {
		if c, _, err := http.NewResponseController(w).Hijack(); err == nil {
			_ = c.Close()
		}
		return true
	}
	examined(t, both(p.url())).want(t, verdictNo, checkTunnel, "gives no answer to CONNECT")
}

// What is passed through untouched gets not one byte of HTTP.
func TestAHostThatIsPassedThroughIsLeftInPeace(t *testing.T) {
	p := newPeer(t)
	srv := httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(srv.Close)
	p.leaf = tls.Certificate{Certificate: srv.TLS.Certificates[0].Certificate, PrivateKey: srv.TLS.Certificates[0].PrivateKey}
	vars := both(p.url())
	vars["PATH"] = realPath
	d := examined(t, vars)
	d.want(t, verdictWarning, checkTunnel, "passes this host through untouched, so calls get no token", "of a route")
	d.never(t, verdictOK, checkTrust)
	if asked := p.asked(); len(asked) > 0 {
		t.Errorf("it was asked %q, want nothing", asked)
	}
}

func TestTheClockIsComparedWithTheGateways(t *testing.T) {
	for _, c := range []struct {
		off     time.Duration
		verdict string
		words   string
	}{
		{0, verdictOK, "agrees"},
		{30 * time.Second, verdictOK, "agrees"},
		{-2 * time.Minute, verdictWarning, "ahead of the gateway"},
		{2 * time.Minute, verdictWarning, "behind the gateway"},
		{-time.Hour, verdictNo, "1h0m"},
		{time.Hour, verdictNo, "behind the gateway, so certificates seem expired"},
	} {
		p := newPeer(t)
		p.plain = func(w http.ResponseWriter) bool {
			w.Header().Set("Date", time.Now().Add(c.off).UTC().Format(http.TimeFormat))
			w.Header().Set("Gateway-Request-Id", "outer")
			return true
		}
		d := examined(t, both(p.url()))
		d.want(t, c.verdict, checkClock, c.words)
	}
	p := newPeer(t)
	p.plain = func(w http.ResponseWriter) bool {
		w.Header()["Date"] = nil
		w.Header().Set("Gateway-Request-Id", "outer")
		return true
	}
	examined(t, both(p.url())).want(t, verdictWarning, checkClock, "no date")
}
