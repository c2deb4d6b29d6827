package sql

import (
	"bufio"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/seed-13b04e61/gateway/audit"
	"github.com/seed-13b04e61/gateway/gate"
	"github.com/seed-13b04e61/gateway/routes"
	"github.com/seed-13b04e61/gateway/secrets"
	"github.com/seed-13b04e61/gateway/tokens"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// rig is a server with a fake wire, listeners of pipes and a token source that
// counts its tokens.
type rig struct {
	testing.TB
	srv        *Server
	wire       *fakeWire
	log        *book
	records    *records
	tokens     *mint
	identifier *gate.Identifier
	ports      *ports
}

func newRig(t testing.TB) *rig {
	t.Helper()
	r := &rig{TB: t, wire: &fakeWire{}, log: &book{}, records: &records{}, tokens: &mint{life: time.Hour},
		identifier: gate.NewIdentifier(gate.IdentifierOptions{}), ports: &ports{open: map[string]*port{}}}
	r.srv = newServer(Config{
		Tokens: r.tokens, Identifier: r.identifier, Recorder: r.records, Log: r.log, Listen: r.ports.listen,
		Certificate: func(d *routes.SQL, name string) (*tls.Certificate, error) {
			return nil, errors.New("certificate of " + d.Name + " for " + name)
		},
		Counted: r.log.counted,
	}, map[string]wire{"mssql": r.wire})
	t.Cleanup(r.srv.Close)
	return r
}

// keys gives each credential and scope a key.
type keys struct{}

func (keys) Key(c *routes.Credential, scope string) tokens.Key {
	return tokens.Key{Credential: c.Name, Scope: scope}
}

// door is one for anybody at port 1433.
func doorOf(name, listen string) *routes.SQL {
	return &routes.SQL{
		Name: name, Kind: "mssql", Listen: listen, Servers: []routes.Authority{{Host: name + ".example", Port: 1433}},
		Credential: &routes.Credential{Name: "default", ClientID: "app-1"}, Scope: "https://database.windows.net//.default",
		ClientTLS: routes.ClientTLSOptional, MaxConnections: 10, LoginTimeout: 30 * time.Second, ReloginSkew: 5 * time.Minute,
	}
}

func tableOf(doors ...*routes.SQL) *routes.Table { return &routes.Table{SQL: doors} }

func keyed(name, key string) *routes.Caller {
	return &routes.Caller{Name: name, APIKeys: [][sha256.Size]byte{sha256.Sum256([]byte(key))}}
}

// use puts a table in force, and returns the alarms.
func (r *rig) use(table *routes.Table) []error {
	r.Helper()
	commit, _, err := r.srv.Open(table)
	if err != nil {
		r.Fatal(err)
	}
	if errs := r.identifier.Use(table); errs != nil {
		r.Fatal(errs)
	}
	return commit(gate.New(table, keys{}), nobodyDials{})
}

type nobodyDials struct{}

func (nobodyDials) DialContext(context.Context, string, string) (net.Conn, error) {
	return nil, errors.New("nobody dials here")
}

// driver is a client's end.
type driver struct {
	testing.TB
	net.Conn
	r *bufio.Reader
}

// dial connects to the door at addr, as from remote.
func (r *rig) dial(addr, remote string) *driver {
	r.Helper()
	conn, err := r.ports.dial(addr, remote)
	if err != nil {
		r.Fatal(err)
	}
	r.Cleanup(func() { _ = conn.Close() })
	return &driver{r.TB, conn, bufio.NewReader(conn)}
}

// login sends h, and returns the answer's line.
func (d *driver) login(h hello) string {
	d.Helper()
	b, err := json.Marshal(h)
	if err != nil {
		d.Fatal(err)
	}
	return d.say(string(b))
}

// say sends a line, and returns the answer's; "" when there is none.
func (d *driver) say(line string) string {
	d.Helper()
	if _, err := fmt.Fprintln(d.Conn, line); err != nil {
		return ""
	}
	answer, _ := d.r.ReadString('\n')
	return strings.TrimSpace(answer)
}

// enter logs in from loopback, and waits until that was recorded.
func (r *rig) enter(addr string, h hello) *driver {
	r.Helper()
	d := r.dial(addr, "127.0.0.1:5000")
	if answer := d.login(h); answer != "welcome" {
		r.Fatalf("login = %q, want welcome", answer)
	}
	synctest.Wait()
	return d
}

// ports are listeners of pipes, by address.
type ports struct {
	mu   sync.Mutex // guards what follows
	open map[string]*port
	used int
	fail map[string]error
}

func (p *ports) listen(addr string) (net.Listener, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.fail[addr]; err != nil {
		return nil, err
	}
	if p.open[addr] != nil {
		return nil, fmt.Errorf("listen %s: address already in use", addr)
	}
	p.used++
	l := &port{ports: p, addr: addr, number: p.used, conns: make(chan net.Conn), errs: make(chan error), closed: make(chan struct{})}
	p.open[addr] = l
	return l, nil
}

func (p *ports) dial(addr, remote string) (net.Conn, error) {
	p.mu.Lock()
	l := p.open[addr]
	p.mu.Unlock()
	if l == nil {
		return nil, fmt.Errorf("dial %s: connection refused", addr)
	}
	ours, theirs := net.Pipe()
	select {
	case l.conns <- &from{theirs, net.TCPAddrFromAddrPort(netip.MustParseAddrPort(remote))}:
		return ours, nil
	case <-l.closed:
		return nil, fmt.Errorf("dial %s: connection refused", addr)
	}
}

type from struct {
	net.Conn
	remote net.Addr
}

func (f *from) RemoteAddr() net.Addr { return f.remote }

type port struct {
	ports  *ports
	addr   string
	number int // tells a listener from the next one of the same address
	conns  chan net.Conn
	errs   chan error
	closed chan struct{}
	once   sync.Once
}

func (l *port) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case err := <-l.errs:
		return nil, err
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *port) Close() error {
	l.once.Do(func() {
		l.ports.mu.Lock()
		delete(l.ports.open, l.addr)
		l.ports.mu.Unlock()
		close(l.closed)
	})
	return nil
}

func (l *port) Addr() net.Addr {
	ap, err := netip.ParseAddrPort(l.addr)
	if err != nil {
		return &net.UnixAddr{Name: l.addr, Net: "unix"}
	}
	return net.TCPAddrFromAddrPort(ap)
}

// mint makes tokens: token-1, token-2, … A token is cached until it is renewed.
type mint struct {
	life time.Duration

	mu       sync.Mutex // guards what follows
	now      map[tokens.Key]tokens.Token
	made     int
	renewals int
	err      error // of Token
	renewErr error
	origin   tokens.Origin // of a cached token; "" for cache
	fixed    bool          // every token is the same
}

func (m *mint) make(k tokens.Key) tokens.Token {
	if !m.fixed || m.made == 0 {
		m.made++
	}
	t := tokens.Token{Access: secrets.New(fmt.Sprintf("token-%d", m.made)), Expires: time.Now().Add(m.life)}
	if m.now == nil {
		m.now = map[tokens.Key]tokens.Token{}
	}
	m.now[k] = t
	return t
}

func (m *mint) Token(ctx context.Context, k tokens.Key) (tokens.Token, tokens.Origin, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err != nil {
		return tokens.Token{}, "", m.err
	}
	if t, ok := m.now[k]; ok && time.Now().Before(t.Expires) {
		if m.origin != "" {
			return t, m.origin, nil
		}
		return t, tokens.FromCache, nil
	}
	return m.make(k), tokens.FromIdentityProvider, nil
}

func (m *mint) Renew(_ context.Context, k tokens.Key, rejected tokens.Token, _ string) (tokens.Token, tokens.Origin, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.renewals++
	if m.renewErr != nil {
		return tokens.Token{}, "", m.renewErr
	}
	if t, ok := m.now[k]; ok && !t.Access.Equal(rejected.Access) {
		return t, tokens.FromCache, nil
	}
	return m.make(k), tokens.FromIdentityProvider, nil
}

func (m *mint) change(f func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f()
}

// warm has the cache hold a token.
func (r *rig) warm(d *routes.SQL) {
	_, _, _ = r.tokens.Token(r.Context(), keys{}.Key(d.Credential, d.Scope))
}

// records keeps copies.
type records struct {
	mu  sync.Mutex
	all []audit.Session
}

func (r *records) RecordSession(s *audit.Session) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, *s)
}

func (r *records) list() []audit.Session {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]audit.Session(nil), r.all...)
}

// last is the latest record, when all is quiet in the test's bubble.
func (r *rig) last() audit.Session {
	r.Helper()
	synctest.Wait()
	all := r.records.list()
	if len(all) == 0 {
		r.Fatal("nothing was recorded")
	}
	return all[len(all)-1]
}

// book keeps the lines of the log.
type book struct {
	mu    sync.Mutex
	lines []string
}

func (b *book) add(level, msg string, kv []any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.lines = append(b.lines, level+" "+msg+" "+strings.TrimSpace(fmt.Sprintln(kv...)))
}

func (b *book) Debug(msg string, kv ...any) { b.add("debug", msg, kv) }
func (b *book) Info(msg string, kv ...any)  { b.add("info", msg, kv) }
func (b *book) Warn(msg string, kv ...any)  { b.add("warn", msg, kv) }
func (b *book) Error(msg string, kv ...any) { b.add("error", msg, kv) }
func (b *book) counted(what, result string) { b.add("counted", what, []any{result}) }

func (b *book) text() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return strings.Join(b.lines, "\n")
}
