package sql

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/seed-13b04e61/gateway/secrets"
)

// fakeWire is a database's protocol of lines: the client's login in JSON, the
// answer "welcome" or "no KIND message", and then whatever, which is answered by
// "TOKEN SERVER: line" in the name of the server. "reset" is where the relay may
// log in again, "panic" where it panics.
type fakeWire struct {
	// login stands for the server; nil welcomes everybody.
	login func(ctx context.Context, t target, token string) (facts, error)

	mu      sync.Mutex // guards what follows
	fronts  []front
	targets []target
	closed  int // of upstreams
}

// hello is a client's login.
type hello struct {
	User, Password, Server, Database, App string
	Old, Panic                            bool // too old; has the wire panic
}

func (w *fakeWire) accept(_ context.Context, conn net.Conn, f front) (client, error) {
	w.mu.Lock()
	w.fronts = append(w.fronts, f)
	w.mu.Unlock()
	r := bufio.NewReader(conn)
	line, err := r.ReadBytes('\n')
	if err == io.EOF && len(line) == 0 {
		return nil, fmt.Errorf("%w: %w", errSilent, err)
	}
	if err != nil {
		return nil, fmt.Errorf("login: %w", err)
	}
	c := &fakeClient{wire: w, conn: conn, r: r}
	if err := json.Unmarshal(line, &c.hello); err != nil {
		return nil, errors.New("not a login")
	}
	if c.hello.Panic {
		panic("password is hunter2")
	}
	if c.hello.Old {
		return nil, &toldError{18456, "too old"}
	}
	return c, nil
}

type fakeClient struct {
	wire  *fakeWire
	conn  net.Conn
	r     *bufio.Reader
	hello hello
}

func (c *fakeClient) asks() ask {
	return ask{server: c.hello.Server, database: c.hello.Database, app: c.hello.App, version: "7.4", encrypted: "off"}
}

func (c *fakeClient) credential() (string, string) { return c.hello.User, c.hello.Password }

func (c *fakeClient) wipe() { c.hello.Password = "" }

func (c *fakeClient) number(k refusalKind) int32 {
	return map[refusalKind]int32{permanent: 18456, unproven: 18456, transient: 40613, crowded: 10928}[k]
}

func (c *fakeClient) refuse(r *refusal) {
	fmt.Fprintf(c.conn, "no %d %s\n", c.number(r.kind), r.message())
	_ = c.conn.Close()
}

func (c *fakeClient) passOn(e *loginError, hint string) {
	fmt.Fprintf(c.conn, "no %d %v [%s]\n", e.number, e.words, hint)
	_ = c.conn.Close()
}

func (c *fakeClient) login(ctx context.Context, t target, token secrets.Secret) (upstream, error) {
	if c.hello.Password != "" {
		return nil, &loginError{err: errors.New("the password was not wiped"), text: "the password was not wiped"}
	}
	c.wire.mu.Lock()
	c.wire.targets = append(c.wire.targets, t)
	c.wire.mu.Unlock()
	u := &fakeUpstream{wire: c.wire, name: t.server.Host, token: token.Reveal()}
	if c.wire.login == nil {
		u.f = facts{route: []string{t.server.String()}, phases: map[string]time.Duration{"dial": time.Millisecond}, spid: 51}
		return u, nil
	}
	f, err := c.wire.login(ctx, t, u.token)
	if err != nil {
		return nil, err
	}
	u.f = f
	return u, nil
}

func (c *fakeClient) welcome(u upstream) error {
	_, err := fmt.Fprintln(c.conn, "welcome")
	_ = c.conn.SetDeadline(time.Time{})
	return err
}

func (c *fakeClient) relay(u upstream, course course) relay {
	return &fakeRelay{c: c, u: u.(*fakeUpstream), course: course, idle: make(chan struct{})}
}

type fakeUpstream struct {
	wire        *fakeWire
	name, token string
	f           facts
	once        sync.Once
}

func (u *fakeUpstream) facts() facts { return u.f }

func (u *fakeUpstream) close() {
	u.once.Do(func() {
		u.wire.mu.Lock()
		u.wire.closed++
		u.wire.mu.Unlock()
	})
}

type fakeRelay struct {
	c      *fakeClient
	course course
	idle   chan struct{} // closed by drain, once

	mu     sync.Mutex // guards what follows
	u      *fakeUpstream
	s      stats
	graces []time.Duration
}

func (r *fakeRelay) run(ctx context.Context) (string, error) {
	defer func() { r.u.close(); _ = r.c.conn.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = r.c.conn.Close() })
	defer stop()
	aged := make(chan struct{})
	if r.course.maxAge > 0 {
		old := time.AfterFunc(r.course.maxAge, func() { close(aged); _ = r.c.conn.SetReadDeadline(time.Unix(1, 0)) })
		defer old.Stop()
	}
	for {
		line, err := r.c.r.ReadString('\n')
		select {
		case <-r.idle:
			return "drained", nil
		case <-aged:
			return "too old", nil
		default:
		}
		if err == io.EOF {
			return "client closed", nil
		}
		if err != nil {
			return "client broke off", err
		}
		if line == "panic\n" {
			panic(errors.New("token is hunter2"))
		}
		if line == "reset\n" && r.course.due != nil && r.course.due() && !r.again(ctx) {
			return "token expired", nil
		}
		r.mu.Lock()
		n, _ := fmt.Fprintf(r.c.conn, "%s %s: %s", r.u.token, r.u.name, line)
		r.s.in, r.s.out, r.s.requests = r.s.in+int64(len(line)), r.s.out+int64(n), r.s.requests+1
		r.mu.Unlock()
	}
}

func (r *fakeRelay) again(ctx context.Context) bool {
	u, err := r.course.login(ctx)
	switch {
	case err == nil:
		r.mu.Lock()
		r.u.close()
		r.u, r.s.relogins = u.(*fakeUpstream), r.s.relogins+1
		r.mu.Unlock()
		r.course.relogged("success", nil)
		return true
	case r.course.over():
		r.course.relogged("failed", err)
		return false
	}
	r.course.relogged("kept", err)
	return true
}

func (r *fakeRelay) drain(grace time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.graces = append(r.graces, grace)
	if len(r.graces) == 1 {
		close(r.idle)
		time.AfterFunc(grace, func() { _ = r.c.conn.SetReadDeadline(time.Unix(1, 0)) })
	}
}

func (r *fakeRelay) stats() stats {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.s
}
