package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// target is the URL that is called. Its host resolves nowhere.
const target = "https://api.example.com/v1.0/users"

// clients are how many call at once.
const clients = 16

// scenario is a way to call. A new tunnel is opened for each call unless keep.
type scenario struct {
	name                string
	http2, keep, resume bool
	beside              string // of which scenario goproxy's figure is shown, as it ends no HTTP/2
}

func scenarios() []scenario {
	return []scenario{
		{name: "HTTP/1.1 inside, keep-alive", keep: true},
		{name: "HTTP/2 inside, keep-alive", keep: true, http2: true, beside: "HTTP/1.1 inside, keep-alive"},
		{name: "HTTP/1.1 inside, new tunnel per call"},
		{name: "HTTP/2 inside, new tunnel per call", http2: true, beside: "HTTP/1.1 inside, new tunnel per call"},
		{name: "HTTP/1.1 inside, new tunnel per call, TLS resumed", resume: true},
	}
}

// proxy is a contender that runs.
type proxy struct {
	name, addr, rootFile string
	pid                  int
	roots                *x509.CertPool // of rootFile
}

// client is one for a scenario, whose connections it keeps to itself.
func (p *proxy) client(s scenario) *http.Client {
	conf := &tls.Config{RootCAs: p.roots}
	if s.resume {
		conf.ClientSessionCache = tls.NewLRUClientSessionCache(4)
	}
	tr := &http.Transport{
		Proxy: http.ProxyURL(&url.URL{Scheme: "http", Host: p.addr}), TLSClientConfig: conf,
		DisableKeepAlives: !s.keep, MaxIdleConnsPerHost: clients, Protocols: new(http.Protocols),
	}
	tr.Protocols.SetHTTP1(!s.http2)
	tr.Protocols.SetHTTP2(s.http2)
	return &http.Client{Transport: tr, Timeout: 30 * time.Second}
}

// cpu is the time that the process has had so far, user and system.
func (p *proxy) cpu() (time.Duration, error) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(p.pid) + "/stat")
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(b), ") ") // behind the name, which may hold blanks
	fields := strings.Fields(rest)
	if len(fields) < 13 {
		return 0, fmt.Errorf("/proc/%d/stat has %d fields", p.pid, len(fields))
	}
	user, err1 := strconv.ParseInt(fields[11], 10, 64)
	system, err2 := strconv.ParseInt(fields[12], 10, 64)
	if err1 != nil || err2 != nil {
		return 0, fmt.Errorf("/proc/%d/stat: %q", p.pid, fields[11:13])
	}
	const tick = 10 * time.Millisecond // USER_HZ is 100 wherever Go runs
	return time.Duration(user+system) * tick, nil
}

// slice loads p for so long, and returns how many calls it answered, and what
// CPU time it had.
func (p *proxy) slice(c *http.Client, long time.Duration) (calls int64, spent time.Duration, err error) {
	before, err := p.cpu()
	if err != nil {
		return 0, 0, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), long)
	defer cancel()
	var answered atomic.Int64
	failed := make(chan error, clients)
	var wg sync.WaitGroup
	for range clients {
		wg.Go(func() {
			for ctx.Err() == nil {
				if err := one(c); err != nil {
					failed <- err
					return
				}
				answered.Add(1)
			}
		})
	}
	wg.Wait()
	select {
	case err := <-failed:
		return 0, 0, fmt.Errorf("%s: %w", p.name, err)
	default:
	}
	after, err := p.cpu()
	return answered.Load(), after - before, err
}

// one makes a call. It is not given up at the end of a slice, so that all that
// was begun is counted.
func one(c *http.Client) error {
	resp, err := c.Get(target)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("status %s", resp.Status)
	}
	return nil
}
