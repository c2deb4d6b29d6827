package proxy_test

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/seed-13b04e61/gateway/proxy"
)

// parrot answers with what it is sent, as it comes.
func parrot(w http.ResponseWriter, r *http.Request) {
	c := http.NewResponseController(w)
	_ = c.EnableFullDuplex() // HTTP/2 is so anyway
	w.WriteHeader(http.StatusOK)
	_ = c.Flush()
	buf := make([]byte, 16<<10)
	for {
		n, err := r.Body.Read(buf)
		if _, werr := w.Write(buf[:n]); werr != nil || err != nil {
			return
		}
		_ = c.Flush()
	}
}

func TestAnswerThatBeginsWhileTheBodyIsSentPasses(t *testing.T) {
	for _, h2 := range []bool{false, true} {
		for _, target := range []string{"/api/x", "http://example.com/x"} {
			g := newRig(t, plain, newUpstream(t, h2, parrot))
			url, proxied := target, strings.HasPrefix(target, "http")
			if !proxied {
				url = g.front.URL + target
			}
			pr, pw := io.Pipe()
			req, err := http.NewRequest(http.MethodPost, url, pr)
			if err != nil {
				t.Fatal(err)
			}
			done := make(chan struct{})
			go func() {
				defer close(done)
				_, _ = io.WriteString(pw, "first")
			}()
			resp, err := g.client(t, proxied).Do(req)
			if err != nil {
				t.Fatal(err)
			}
			<-done
			b := make([]byte, 5)
			if _, err := io.ReadFull(resp.Body, b); err != nil || string(b) != "first" {
				t.Fatalf("h2 %v, %s: got %q, %v before the body's end; want first", h2, target, b, err)
			}
			block := bytes.Repeat([]byte("0123456789abcdef"), 64<<10)
			go func() {
				for range 8 {
					_, _ = pw.Write(block)
				}
				_ = pw.Close()
			}()
			n, err := io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
			if err != nil || n != 8<<20 {
				t.Errorf("h2 %v, %s: %d bytes came back, %v; want 8 MiB", h2, target, n, err)
			}
		}
	}
}

func TestConnectionIsKeptAfterAnAnswerThatCameEarly(t *testing.T) {
	g := newRig(t, plain, newUpstream(t, false, parrot))
	got := g.raw(t, "POST /api/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nfirst"+
		"POST /api/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 6\r\nConnection: close\r\n\r\nsecond")
	if strings.Count(got, "HTTP/1.1 200") != 2 || !strings.Contains(got, "first") || !strings.Contains(got, "second") {
		t.Errorf("got %q, want both answers", got)
	}
}

// endless is a body of zeros that counts what was taken.
type endless struct {
	left  int64
	taken atomic.Int64
}

func (e *endless) Read(b []byte) (int, error) {
	if e.taken.Load() == e.left {
		return 0, io.EOF
	}
	n := int(min(int64(len(b)), e.left-e.taken.Load()))
	clear(b[:n])
	e.taken.Add(int64(n))
	return n, nil
}

func TestBodiesAreNotGathered(t *testing.T) {
	const size = 32 << 20
	// The record for a second try has 1 MiB; the rest is buffers on the way.
	const most = 3 << 19
	var let chan struct{} // of the bubble
	offered := new(atomic.Int64)
	served(t, nil, func(w http.ResponseWriter, r *http.Request) {
		<-let
		n, _ := io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Length", strconv.Itoa(size))
		w.Header().Set("X-Got", fmt.Sprint(n))
		block := make([]byte, 64<<10)
		for range size / len(block) {
			if _, err := w.Write(block); err != nil {
				return
			}
			offered.Add(int64(len(block)))
		}
	}, func(t *testing.T, f *front) {
		let = make(chan struct{})
		c, r := f.dial(t)
		defer c.Close()
		up := &endless{left: size}
		var wg sync.WaitGroup
		defer wg.Wait()
		wg.Go(func() {
			fmt.Fprintf(c, "PUT /api/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n", size)
			_, _ = io.Copy(c, up)
		})
		synctest.Wait()
		if n := up.taken.Load(); n > most {
			t.Errorf("%d bytes of an upload were taken before the upstream read any", n)
		}
		handler, _ := f.handler.(*proxy.Handler)
		if n := handler.Kept(); n > 1<<20 {
			t.Errorf("%d bytes are kept", n)
		}
		let <- struct{}{}
		resp, err := http.ReadResponse(r, nil)
		if err != nil || resp.Header.Get("X-Got") != strconv.Itoa(size) {
			t.Fatalf("%v, %v; want the upstream to get all", resp, err)
		}
		synctest.Wait()
		if n := offered.Load(); n > most {
			t.Errorf("%d bytes of a download were taken before the caller read any", n)
		}
		if n, err := io.Copy(io.Discard, resp.Body); err != nil || n != size {
			t.Errorf("%d bytes came back, %v; want all", n, err)
		}
		synctest.Wait()
		if n := handler.Kept(); n != 0 {
			t.Errorf("%d bytes are kept after the call", n)
		}
	})
}

func TestRefusedUploadIsNotSentAtAll(t *testing.T) {
	g := newRig(t, plain, newUpstream(t, false, func(w http.ResponseWriter, r *http.Request) {
		if number(r.Header.Get("Authorization")) == 1 {
			w.WriteHeader(http.StatusUnauthorized) // the body is not read, so not asked for
			return
		}
		if number(r.Header.Get("Authorization")) == 2 && r.URL.Path == "/denied" {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		swallow(w, r)
	}))
	for _, path := range []string{"/denied", "/good"} {
		body := &endless{left: 4 << 20}
		req, err := http.NewRequest(http.MethodPut, g.front.URL+"/api"+path, body)
		if err != nil {
			t.Fatal(err)
		}
		req.ContentLength = body.left
		req.Header.Set("Expect", "100-continue")
		resp, err := g.client(t, false).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		got := fmt.Sprint(resp.StatusCode, " ", string(b), " ", body.taken.Load())
		if want := map[string]string{"/denied": "403  0", "/good": "200 4194304 4194304"}[path]; err != nil || got != want {
			t.Errorf("%s: %s, %v; want %s", path, got, err, want)
		}
	}
}

func TestEventsAreFlushedOneByOneAtEachDoor(t *testing.T) {
	for _, announced := range []bool{false, true} {
		for _, target := range []string{"/api/x", "http://example.com/x"} {
			next := make(chan string)
			g := newRig(t, plain, newUpstream(t, false, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
				if announced { // more than is looked through as a whole
					w.Header().Set("Content-Length", strconv.Itoa(100<<10))
				}
				for s := range next {
					_, _ = io.WriteString(w, s)
					w.(http.Flusher).Flush()
				}
			}))
			url, proxied := target, strings.HasPrefix(target, "http")
			if !proxied {
				url = g.front.URL + target
			}
			go func() { next <- "data: 0\n\n" }()
			resp, err := g.client(t, proxied).Get(url)
			if err != nil {
				t.Fatal(err)
			}
			r := bufio.NewReader(resp.Body)
			for i := range 5 {
				line, err := r.ReadString('\n')
				if want := fmt.Sprintf("data: %d\n", i); err != nil || line != want {
					t.Fatalf("%s: got %q, %v; want %q before the next is sent", target, line, err, want)
				}
				if _, err := r.ReadString('\n'); err != nil {
					t.Fatal(err)
				}
				next <- fmt.Sprintf("data: %d\n\n", i+1)
			}
			close(next)
			resp.Body.Close()
		}
	}
}

// grpcRig is a gateway that speaks HTTP/2 with both its neighbours.
func grpcRig(t *testing.T, h http.HandlerFunc) (*rig, *http.Client) {
	t.Helper()
	g := rigging{tls: &tls.Config{}}.newRig(t, plain, newUpstream(t, true, h))
	client := g.front.Client()
	t.Cleanup(client.CloseIdleConnections)
	return g, client
}

func TestStatusOfGRPCThatRefusesTheTokenIsTriedAgain(t *testing.T) {
	for _, tt := range []struct {
		name, want string
		h          func(w http.ResponseWriter)
	}{
		{"trailers alone", "0 recovered", func(w http.ResponseWriter) { w.Header().Set("Grpc-Status", "16") }},
		{"another status", "7 ", func(w http.ResponseWriter) { w.Header().Set("Grpc-Status", "7") }},
		{"after the answer began", "16 ", func(w http.ResponseWriter) {
			w.Header().Set("Trailer", "Grpc-Status")
			w.WriteHeader(http.StatusOK)
			w.(http.Flusher).Flush()
			w.Header().Set("Grpc-Status", "16")
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g, client := grpcRig(t, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", "application/grpc+proto")
				if number(r.Header.Get("Authorization")) == 1 {
					tt.h(w)
					return
				}
				b, _ := io.ReadAll(r.Body)
				_, _ = w.Write(b)
				w.Header().Set(http.TrailerPrefix+"Grpc-Status", "0")
			})
			req, err := http.NewRequest(http.MethodPost, g.front.URL+"/api/pkg.Service/Method", strings.NewReader("message"))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Content-Type", "application/grpc+proto")
			req.Header.Set("Te", "trailers")
			resp, err := client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			b, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			status := resp.Trailer.Get("Grpc-Status") + resp.Header.Get("Grpc-Status")
			if got := status + " " + string(g.events.the(1).Retry); err != nil || got != tt.want || status == "0" && string(b) != "message" {
				t.Errorf("got %s with %q, %v; want %s", got, b, err, tt.want)
			}
		})
	}
}

func TestTrailersPassButForWhatIsNotTheirs(t *testing.T) {
	for _, announced := range []bool{false, true} {
		g, client := grpcRig(t, func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Te") != "trailers" {
				t.Errorf("Te = %q, want trailers", r.Header.Get("Te"))
			}
			prefix := http.TrailerPrefix
			if announced {
				prefix = ""
				w.Header().Set("Trailer", "Grpc-Status, Grpc-Message, Gateway-Error, Proxy-Authenticate, Set-Cookie, Alt-Svc")
			}
			_, _ = io.WriteString(w, "message")
			w.(http.Flusher).Flush()
			for _, name := range []string{"Grpc-Status", "Grpc-Message", "Gateway-Error", "Proxy-Authenticate", "Set-Cookie", "Alt-Svc"} {
				w.Header().Set(prefix+name, "7")
			}
		})
		req, err := http.NewRequest(http.MethodPost, g.front.URL+"/api/pkg.Service/Method", strings.NewReader("message"))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Te", "trailers")
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || string(b) != "message" || len(resp.Trailer) != 2 || resp.Trailer.Get("Grpc-Status") != "7" || resp.Trailer.Get("Grpc-Message") != "7" {
			t.Errorf("announced %v: %q, %v with trailers %v; want those of gRPC alone", announced, b, err, resp.Trailer)
		}
	}
}

func TestStreamsOfGRPCGoBothWaysAtOnce(t *testing.T) {
	g, client := grpcRig(t, func(w http.ResponseWriter, r *http.Request) {
		parrot(w, r)
		w.Header().Set(http.TrailerPrefix+"Grpc-Status", "0")
	})
	pr, pw := io.Pipe()
	req, err := http.NewRequest(http.MethodPost, g.front.URL+"/api/pkg.Service/Method", pr)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	for i := range 20 {
		sent := fmt.Sprintf("message %02d", i)
		if _, err := io.WriteString(pw, sent); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, len(sent))
		if _, err := io.ReadFull(resp.Body, got); err != nil || string(got) != sent {
			t.Fatalf("got %q, %v; want %q before the next is sent", got, err, sent)
		}
	}
	_ = pw.Close()
	if b, err := io.ReadAll(resp.Body); err != nil || len(b) > 0 || resp.Trailer.Get("Grpc-Status") != "0" {
		t.Errorf("%q, %v, trailers %v at the end", b, err, resp.Trailer)
	}
}

func TestTransportSecurityPassesWhereTheCallersLegIsSecure(t *testing.T) {
	g := rigging{tls: &tls.Config{}}.newRig(t, plain, newUpstream(t, false, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Strict-Transport-Security", "max-age=1")
		w.WriteHeader(http.StatusMisdirectedRequest)
	}))
	c := g.front.Client()
	c.CloseIdleConnections()
	for target, want := range map[string]string{"https://example.com/x": "max-age=1", "http://example.com/x": "", "/api/x": ""} {
		conn, err := tls.Dial("tcp", g.front.Listener.Addr().String(), &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", target)
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		conn.Close()
		if got := resp.Header.Get("Strict-Transport-Security"); got != want || resp.StatusCode != http.StatusMisdirectedRequest || resp.Header.Get("Gateway-Error") != "" {
			t.Errorf("%s: %d with %q, want the upstream's 421 with %q", target, resp.StatusCode, got, want)
		}
	}
}
