package authority_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/pem"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-13b04e61/gateway/authority"
	"github.com/seed-13b04e61/gateway/routes"
	"github.com/seed-13b04e61/gateway/tokens"
)

// nobody is a Dialer that must not be called.
type nobody struct{ t testing.TB }

func (n nobody) DialContext(_ context.Context, _, addr string) (net.Conn, error) {
	n.t.Errorf("dialled %s", addr)
	return nil, errors.New("nobody is there")
}

// silence is a Dialer whose connections never come about.
type silence struct{}

func (silence) DialContext(ctx context.Context, _, _ string) (net.Conn, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

// detour dials to, whatever it is asked for, and remembers what that was.
type detour struct {
	to    string
	asked chan string
}

func (d detour) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	select {
	case d.asked <- addr:
	default:
	}
	var dialer net.Dialer
	return dialer.DialContext(ctx, network, d.to)
}

// secure starts a TLS endpoint for the name example.com and returns its CA.
func secure(t testing.TB, config *tls.Config) (s *server, ca string) {
	t.Helper()
	s = &server{}
	s.Server = httptest.NewUnstartedServer(s.record(nil))
	s.TLS = config
	s.Config.ErrorLog = log.New(io.Discard, "", 0) // clients that turn away are the point
	s.EnableHTTP2 = true
	s.StartTLS()
	t.Cleanup(s.Close)
	return s, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}))
}

func TestTheDialerReachesEverythingAndHTTPSProxyNothing(t *testing.T) {
	t.Setenv("HTTPS_PROXY", "http://127.0.0.1:1")
	t.Setenv("https_proxy", "http://127.0.0.1:1")
	s, ca := secure(t, nil)
	way := detour{s.Listener.Addr().String(), make(chan string, 1)}
	d := authority.NewDirectory(authority.Options{Dialer: way})
	c := entra(t, "https://EXAMPLE.com")
	c.CAFile = file(t, ca)
	d.Replace([]*routes.Credential{c})
	succeeds(t, d, c)
	if got := <-way.asked; got != "example.com:443" {
		t.Errorf("dialled %s, want example.com:443", got)
	}
	if k := d.Key(c, graphScope); k.Authority != "https://example.com/contoso.test/oauth2/v2.0/token" || k.Tenant != "contoso.test" || k.Scope != graphScope {
		t.Errorf("key = %+v", k)
	}
}

func TestAnUntrustedEndpointIsUnavailableAndNamesTheCAFile(t *testing.T) {
	s, _ := secure(t, nil)
	stranger := certify(t, newEC(t), -time.Hour, time.Hour).certPEM()
	for name, ca := range map[string]string{"system roots": "", "another CA": file(t, stranger)} {
		t.Run(name, func(t *testing.T) {
			d := authority.NewDirectory(authority.Options{Dialer: detour{to: s.Listener.Addr().String()}})
			c := entra(t, "https://example.com")
			c.CAFile = ca
			d.Replace([]*routes.Credential{c})
			got := fails(t, d, c)
			if got.Refused() || got.Failure() != (tokens.Failure{}) || !strings.Contains(got.Error(), "not trusted") || !strings.Contains(got.Remedy, "ca_file") {
				t.Errorf("error = %s", got.Explain())
			}
		})
	}
	if n := len(s.sent()); n != 0 {
		t.Errorf("%d secrets went to an untrusted server", n)
	}
}

func TestTheCAFileIsTrustedAlone(t *testing.T) {
	s, ca := secure(t, nil)
	d := authority.NewDirectory(authority.Options{Dialer: detour{to: s.Listener.Addr().String()}})
	c := entra(t, "https://other.test") // the certificate is not for this name
	c.CAFile = file(t, ca)
	d.Replace([]*routes.Credential{c})
	if got := fails(t, d, c); got.Refused() || !strings.Contains(got.Error(), "for another name") {
		t.Errorf("error = %v, want a certificate for another name refused", got)
	}
}

func TestOldTLSIsNotSpoken(t *testing.T) {
	s, ca := secure(t, &tls.Config{MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10}) //nolint:gosec // what is refused
	d := authority.NewDirectory(authority.Options{Dialer: detour{to: s.Listener.Addr().String()}})
	c := entra(t, "https://example.com")
	c.CAFile = file(t, ca)
	d.Replace([]*routes.Credential{c})
	if got := fails(t, d, c); got.Refused() {
		t.Errorf("error = %v, want unavailable", got)
	}
}

func TestABadCAFileOrAddressIsNotReady(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*routes.Credential)
		want   string
	}{
		{"missing CA", func(c *routes.Credential) { c.CAFile = "/nonexistent/ca.pem" }, "ca_file cannot be read"},
		{"no CA inside", func(c *routes.Credential) { c.CAFile = file(t, "hello") }, "holds no certificate"},
		{"plain http", func(c *routes.Credential) { c.AuthorityHost = "http://login.example.com" }, "not https"},
		{"no address", func(c *routes.Credential) { c.TokenEndpoint = "login" }, "not an absolute URL"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := entra(t, "https://login.example.com")
			tt.change(c)
			d := authority.NewDirectory(authority.Options{Dialer: nobody{t}})
			if f := d.Replace([]*routes.Credential{c}); len(f) != 1 || !f[0].Alarm || !strings.Contains(f[0].Message, tt.want) || f[0].Remedy == "" {
				t.Errorf("findings = %+v", f)
			}
			if got := fails(t, d, c); !got.Refused() || !strings.Contains(got.Error(), tt.want) {
				t.Errorf("error = %v, want %q", got, tt.want)
			}
		})
	}
}

func TestADialThatHangsIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := entra(t, "https://login.example.com")
		d := authority.NewDirectory(authority.Options{Dialer: silence{}})
		d.Replace([]*routes.Credential{c})
		began := time.Now()
		got := fails(t, d, c)
		if waited := time.Since(began); waited != 30*time.Second {
			t.Errorf("waited %s, want 30s", waited)
		}
		if got.Refused() || !errors.Is(got, context.DeadlineExceeded) || !strings.Contains(got.Error(), "no answer in time") {
			t.Errorf("error = %v", got)
		}
		time.Sleep(time.Minute) // of the bubble, which sees that no dial remains
	})
}

func TestAnAnswerThatDribblesIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := entra(t, "http://127.0.0.1:1") // where the pipe's other end answers
		d := authority.NewDirectory(authority.Options{Dialer: dribble{}})
		d.Replace([]*routes.Credential{c})
		began := time.Now()
		got := fails(t, d, c)
		if waited := time.Since(began); waited != 30*time.Second || got.Refused() {
			t.Errorf("waited %s, want 30s; error = %v", waited, got)
		}
		time.Sleep(2 * time.Second) // of the bubble: the peer notices that nobody listens
	})
}

// dribble answers a byte a second, and never to the end.
type dribble struct{}

func (dribble) DialContext(context.Context, string, string) (net.Conn, error) {
	near, far := net.Pipe()
	go func() { // ends when near is closed
		defer far.Close()
		r, err := http.ReadRequest(bufio.NewReader(far))
		if err != nil {
			return
		}
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			return
		}
		if _, err := io.WriteString(far, "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n"); err != nil {
			return
		}
		for {
			time.Sleep(time.Second)
			if _, err := io.WriteString(far, " "); err != nil {
				return
			}
		}
	}()
	return near, nil
}

func TestACallerWhoLeavesSaysNothingAboutTheCredential(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // which sees that the dial ends, too
		c := entra(t, "https://login.example.com")
		d := authority.NewDirectory(authority.Options{Dialer: silence{}})
		d.Replace([]*routes.Credential{c})
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		time.AfterFunc(time.Second/2, cancel)
		_, err := d.Acquire(ctx, d.Key(c, graphScope), "")
		if !errors.Is(err, context.Canceled) {
			t.Errorf("error = %v, want context.Canceled beneath", err)
		}
		if st := condition(t, d); st.LastError != nil || !st.Ready {
			t.Errorf("status = %+v", st)
		}
		time.Sleep(time.Minute) // of the bubble: the dial outlives its caller, but not for long
	})
}

func TestARefusedConnectionIsUnavailable(t *testing.T) {
	s := httptest.NewServer(http.NotFoundHandler())
	s.Close()
	c := entra(t, s.URL)
	got := fails(t, loaded(t, c), c)
	if got.Refused() || got.Status != 0 || got.Failure() != (tokens.Failure{}) || got.Remedy == "" {
		t.Errorf("error = %s", got.Explain())
	}
}

func TestARedirectIsNotFollowed(t *testing.T) {
	elsewhere := serve(t, nil)
	for _, status := range []int{301, 302, 303, 307, 308} {
		s := serve(t, func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, elsewhere.URL+"/steal", status)
		})
		c := entra(t, s.URL)
		if got := fails(t, loaded(t, c), c); got.Refused() || got.Status != status || !strings.Contains(got.Error(), "redirects") {
			t.Errorf("%d: error = %v", status, got)
		}
	}
	if n := len(elsewhere.sent()); n != 0 {
		t.Errorf("%d requests were taken elsewhere", n)
	}
}
