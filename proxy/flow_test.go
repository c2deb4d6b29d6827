package proxy_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-13b04e61/gateway/proxy"
	"github.com/seed-13b04e61/gateway/routes"
)

// certificate is self-signed for the names, and good at any time.
func certificate(t testing.TB, names ...string) tls.Certificate {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: names[0]}, DNSNames: names,
		NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1<<33, 0), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, k.Public(), k)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: k}
}

// front is a gateway's server on pipes, within a bubble's clock.
type front struct {
	*pipes
	handler http.Handler
}

func (f *front) dial(t *testing.T) (net.Conn, *bufio.Reader) {
	t.Helper()
	c, err := f.DialContext(context.Background(), "", "")
	if err != nil {
		t.Fatal(err)
	}
	return c, bufio.NewReader(c)
}

// served runs test in a bubble with a gateway's server in front of upstream; by
// TLS when cert is not nil.
func served(t *testing.T, cert *tls.Certificate, upstream http.HandlerFunc, test func(t *testing.T, f *front)) {
	servedBy(t, func(*routes.Table) {}, cert, upstream, test)
}

// servedBy is served with a table that alter changed.
func servedBy(t *testing.T, alter func(*routes.Table), cert *tls.Certificate, upstream http.HandlerFunc, test func(t *testing.T, f *front)) {
	inBubble(t, alter, upstream, func(h http.Handler, _ *lines) {
		f := &front{pipes: &pipes{make(chan net.Conn), make(chan struct{})}, handler: h}
		handler, _ := h.(*proxy.Handler)
		srv := handler.NewServer()
		done := make(chan struct{})
		go func() {
			defer close(done)
			if cert == nil {
				_ = srv.Serve(handler.Listener(f))
				return
			}
			srv.TLSConfig = &tls.Config{Certificates: []tls.Certificate{*cert}}
			_ = srv.ServeTLS(handler.Listener(f), "", "")
		}()
		test(t, f)
		_ = srv.Close()
		<-done
	})
}

// swallow reads all of a body and says how much it was.
func swallow(w http.ResponseWriter, r *http.Request) {
	n, err := io.Copy(io.Discard, r.Body)
	if err == nil {
		fmt.Fprint(w, n)
	}
}

// trickle sends a chunked body: n bytes, then a pause, again and again.
func trickle(c net.Conn, n int, pause time.Duration, times int) {
	_, _ = io.WriteString(c, "POST /api/x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
	for range times {
		if _, err := fmt.Fprintf(c, "%x\r\n%s\r\n", n, strings.Repeat("x", n)); err != nil {
			return
		}
		time.Sleep(pause)
	}
	_, _ = io.WriteString(c, "0\r\n\r\n")
}

func TestBodiesThatKeepTheGatewayWaitingEnd(t *testing.T) {
	for _, tt := range []struct {
		name        string
		bytes       int
		pause       time.Duration
		times       int
		want        string
		after, upTo time.Duration
	}{
		{"a few bytes every 3 s", 5, 3 * time.Second, 1000, "408 slow_request", 10 * time.Second, 13 * time.Second},
		{"a byte each second", 1, time.Second, 1000, "408 slow_request", 10 * time.Second, 12 * time.Second},
		{"much, then nothing", 1 << 20, time.Hour, 2, "408 slow_request", 60 * time.Second, 61 * time.Second},
		{"just fast enough", 500, 2 * time.Second, 900, "200 ", 30 * time.Minute, 31 * time.Minute},
		{"pauses after much", 64 << 10, 50 * time.Second, 20, "200 ", 1000 * time.Second, 1010 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			served(t, nil, swallow, func(t *testing.T, f *front) {
				began := time.Now()
				c, r := f.dial(t)
				var wg sync.WaitGroup
				defer wg.Wait()
				defer c.Close()
				wg.Go(func() { trickle(c, tt.bytes, tt.pause, tt.times) })
				resp, err := http.ReadResponse(r, nil)
				if err != nil {
					t.Fatal(err)
				}
				got := fmt.Sprint(resp.StatusCode, " ", resp.Header.Get("Gateway-Error"))
				if took := time.Since(began); got != tt.want || took < tt.after || took > tt.upTo {
					t.Errorf("%s after %s, want %s between %s and %s", got, took, tt.want, tt.after, tt.upTo)
				}
				if resp.StatusCode == http.StatusRequestTimeout && !resp.Close {
					t.Error("the connection stays open after a body that was cut off")
				}
				_, _ = io.Copy(io.Discard, resp.Body)
				good, rg := f.dial(t)
				defer good.Close()
				if resp := plainCall(t, good, rg, "POST", "hello"); resp != "200 5" {
					t.Errorf("a good caller got %s", resp)
				}
			})
		})
	}
}

// plainCall sends a whole call and returns its status and body.
func plainCall(t *testing.T, c net.Conn, r *bufio.Reader, method, body string) string {
	t.Helper()
	go fmt.Fprintf(c, "%s /api/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s", method, len(body), body)
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		return err.Error()
	}
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return err.Error()
	}
	return fmt.Sprint(resp.StatusCode, " ", string(b))
}

func TestSlowUpstreamIsNotHeldAgainstTheCaller(t *testing.T) {
	served(t, nil, func(w http.ResponseWriter, r *http.Request) {
		var n int
		buf := make([]byte, 4<<10)
		for {
			time.Sleep(3 * time.Minute)
			k, err := r.Body.Read(buf)
			if n += k; err != nil {
				break
			}
		}
		fmt.Fprint(w, n)
	}, func(t *testing.T, f *front) {
		c, r := f.dial(t)
		defer c.Close()
		if got, want := plainCall(t, c, r, "POST", strings.Repeat("x", 100_000)), "200 100000"; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	})
}

func TestConnectionIsAsGoodAsNewAfterItsDeadlines(t *testing.T) {
	served(t, nil, swallow, func(t *testing.T, f *front) {
		c, r := f.dial(t)
		defer c.Close()
		for i := range 5 {
			if got := plainCall(t, c, r, "POST", "hello"); got != "200 5" {
				t.Fatalf("call %d: %s", i, got)
			}
			time.Sleep(100 * time.Second)
			go func() {
				_, _ = io.WriteString(c, "PUT /api/x HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n")
			}()
			line, err := r.ReadString('\n')
			if err != nil || !strings.Contains(line, " 100 ") {
				t.Fatalf("call %d: %q, %v; want 100", i, line, err)
			}
			if _, err := r.ReadString('\n'); err != nil {
				t.Fatal(err)
			}
			go func() { _, _ = io.WriteString(c, "abc") }()
			resp, err := http.ReadResponse(r, nil)
			if err != nil || resp.StatusCode != 200 {
				t.Fatalf("call %d: %v, %v", i, resp, err)
			}
			_, _ = io.Copy(io.Discard, resp.Body)
			time.Sleep(100 * time.Second)
		}
	})
}

func TestAnswerMayTakeHoursToCome(t *testing.T) {
	served(t, nil, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		time.Sleep(100 * time.Second) // a long poll; timeouts.response_header is 120 s
		w.Header().Set("Content-Type", "text/event-stream")
		for range 3 {
			_, _ = io.WriteString(w, "data: x\n\n")
			w.(http.Flusher).Flush()
			time.Sleep(3 * time.Hour)
		}
	}, func(t *testing.T, f *front) {
		c, r := f.dial(t)
		defer c.Close()
		if got, want := plainCall(t, c, r, "POST", "body"), "200 "+strings.Repeat("data: x\n\n", 3); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

// flood sends 4 MiB and notes for how long, in ns.
func flood(busy *atomic.Int64) http.HandlerFunc {
	block := bytes.Repeat([]byte("y"), 64<<10)
	return func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/x" {
			_, _ = io.WriteString(w, "good")
			return
		}
		w.Header().Set("Content-Length", "4194304") // or ReverseProxy flushes under a mutex, which stops a bubble's clock
		began := time.Now()
		for range 64 {
			if _, err := w.Write(block); err != nil {
				break
			}
		}
		busy.Store(int64(time.Since(began)))
	}
}

func TestCallersThatDoNotReadAreCutOff(t *testing.T) {
	for _, tt := range []struct {
		name  string
		bytes int
		pause time.Duration
		cut   bool
	}{
		{"nothing is read for an hour", 64 << 10, time.Hour, true},
		{"a few bytes every 3 s", 100, 3 * time.Second, true},
		{"slow, but steady", 64 << 10, 50 * time.Second, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			busy := new(atomic.Int64)
			served(t, nil, flood(busy), func(t *testing.T, f *front) {
				c, _ := f.dial(t)
				defer c.Close()
				if _, err := io.WriteString(c, "GET /api/x HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"); err != nil {
					t.Fatal(err)
				}
				var read int64
				for {
					time.Sleep(tt.pause)
					n, err := io.CopyN(io.Discard, c, int64(tt.bytes))
					read += n
					if err != nil {
						break
					}
				}
				if whole := read > 4<<20; whole == tt.cut {
					t.Errorf("%d bytes were read, want all: %v", read, !tt.cut)
				}
				synctest.Wait()
				if took := time.Duration(busy.Load()); tt.cut && (took < 50*time.Second || took > 3*time.Minute) {
					t.Errorf("the upstream was kept busy for %s, want about a minute", took)
				}
			})
		})
	}
}

// h2client speaks HTTP/2 to f.
func h2client(f *front) *http.Transport {
	protocols := new(http.Protocols)
	protocols.SetHTTP2(true)
	return &http.Transport{
		DialContext: f.DialContext, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, Protocols: protocols, DisableCompression: true,
		HTTP2: &http.HTTP2Config{MaxReceiveBufferPerStream: 64 << 10, MaxReceiveBufferPerConnection: 1 << 20},
	}
}

func TestHTTP2StreamThatIsNotReadIsCutOffAlone(t *testing.T) {
	cert := certificate(t, "localhost")
	busy := new(atomic.Int64)
	served(t, &cert, flood(busy), func(t *testing.T, f *front) {
		tr := h2client(f)
		defer tr.CloseIdleConnections()
		get := func(path string) *http.Response {
			req, err := http.NewRequest(http.MethodGet, "https://localhost/api"+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := tr.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			return resp
		}
		stalled := get("/x")
		if stalled.ProtoMajor != 2 || stalled.StatusCode != 200 {
			t.Fatalf("HTTP/%d %d, want HTTP/2 200", stalled.ProtoMajor, stalled.StatusCode)
		}
		time.Sleep(5 * time.Minute)
		if took := time.Duration(busy.Load()); took < 50*time.Second || took > 3*time.Minute {
			t.Errorf("the upstream was kept busy for %s, want about a minute", took)
		}
		if _, err := io.Copy(io.Discard, stalled.Body); err == nil {
			t.Error("the stalled stream ended as if it were whole")
		}
		stalled.Body.Close()
		good := get("/good")
		b, err := io.ReadAll(good.Body)
		good.Body.Close()
		if err != nil || string(b) != "good" {
			t.Errorf("another stream of the connection got %q, %v", b, err)
		}
	})
}

func TestHTTP2AnswerMayTakeHoursToCome(t *testing.T) {
	cert := certificate(t, "localhost")
	served(t, &cert, func(w http.ResponseWriter, r *http.Request) {
		n, _ := io.Copy(io.Discard, r.Body)
		for range 3 {
			fmt.Fprintf(w, "data: %d\n\n", n)
			w.(http.Flusher).Flush()
			time.Sleep(3 * time.Hour)
		}
	}, func(t *testing.T, f *front) {
		tr := h2client(f)
		defer tr.CloseIdleConnections()
		req, err := http.NewRequest(http.MethodPost, "https://localhost/api/x", strings.NewReader("body"))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := tr.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if want := strings.Repeat("data: 4\n\n", 3); err != nil || string(b) != want {
			t.Errorf("got %q, %v; want %q", b, err, want)
		}
	})
}

func TestHTTP2BodyThatTricklesEnds(t *testing.T) {
	cert := certificate(t, "localhost")
	served(t, &cert, swallow, func(t *testing.T, f *front) {
		tr := h2client(f)
		defer tr.CloseIdleConnections()
		pr, pw := io.Pipe()
		var wg sync.WaitGroup
		defer wg.Wait()
		defer pr.Close()
		wg.Go(func() {
			for {
				if _, err := io.WriteString(pw, "few"); err != nil {
					return
				}
				time.Sleep(3 * time.Second)
			}
		})
		req, err := http.NewRequest(http.MethodPost, "https://localhost/api/x", pr)
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		resp, err := tr.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if took := time.Since(began); resp.StatusCode != http.StatusRequestTimeout || took < 10*time.Second || took > 14*time.Second {
			t.Errorf("got %d after %s, want 408 after some 10 s", resp.StatusCode, took)
		}
	})
}
