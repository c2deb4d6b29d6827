package gate

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed-13b04e61/gateway/routes"
)

const (
	// keysLife is how long keys are trusted after they were fetched, and with
	// them whatever was verified by them: a key that its issuer withdrew counts
	// no longer than that, and a dead issuer's keys neither.
	keysLife = 10 * time.Minute
	// keysAge is when they are fetched again, behind the calls.
	keysAge = 4 * time.Minute
	// fetchTimeout bounds both documents together.
	fetchTimeout = 10 * time.Second
	// unknownPause lies between two fetches at least. It doubles up to
	// unknownPauseLimit as long as tokens name keys that no fetch brings: anyone
	// can invent those.
	unknownPause      = 30 * time.Second
	unknownPauseLimit = 5 * time.Minute
	// failurePause lies behind a fetch that failed, and doubles likewise.
	failurePause      = 2 * time.Second
	failurePauseLimit = time.Minute
	// caLimit bounds a CA file.
	caLimit = 1 << 20
)

// errUnknownKey is wrapped when a token names a key that its issuer does not
// publish.
var errUnknownKey = errors.New("the JWT names no key that its issuer publishes")

// issuer is one who signs tokens, with the keys that it publishes.
type issuer struct {
	name   string // exact, as the documents must repeat it
	ca     caMark
	client *http.Client
	log    func(msg string, kv ...any)

	set atomic.Pointer[keySet] // nil until it was fetched once

	mu      sync.Mutex // guards what follows
	under   *keyFetch  // nil while none is under way
	next    time.Time  // no fetch begins before
	unknown time.Duration
	failing time.Duration // 0 when the latest fetch did not fail
	err     error         // of the latest fetch
}

// keyFetch is a fetch under way.
type keyFetch struct{ done chan struct{} }

// caMark tells whether an issuer is still trusted by the same CAs.
type caMark struct {
	set    bool
	digest [sha256.Size]byte
}

// newTrusts groups callers by issuer and trusted CAs, with the issuers of prev
// where nothing changed. A CA file that cannot be read is an error.
func (i *Identifier) newTrusts(callers []*routes.Caller, prev *roster) (map[string][]*trust, []error) {
	trusts := map[string][]*trust{}
	var errs []error
	for _, c := range callers {
		if c.JWT == nil {
			continue
		}
		roots, mark, err := readCA(c.JWT.CAFile)
		if err != nil {
			errs = append(errs, fmt.Errorf("line %d: caller %q: ca_file of its JWT's issuer: %w; put the CA of the issuer there, in PEM", c.Line, c.Name, err))
			continue
		}
		t := withCA(trusts[c.JWT.Issuer], mark)
		if t == nil {
			var s *issuer
			if prev != nil {
				if old := withCA(prev.issuers[c.JWT.Issuer], mark); old != nil {
					s = old.issuer
				}
			}
			if s == nil {
				s = i.newIssuer(c.JWT.Issuer, mark, roots)
			}
			t = newTrust(s)
			trusts[c.JWT.Issuer] = append(trusts[c.JWT.Issuer], t)
		}
		t.add(c)
	}
	return trusts, errs
}

func withCA(trusts []*trust, mark caMark) *trust {
	for _, t := range trusts {
		if t.issuer.ca == mark {
			return t
		}
	}
	return nil
}

// sameIssuers compares what newTrusts made, for equal callers.
func sameIssuers(a, b map[string][]*trust) bool {
	if len(a) != len(b) {
		return false
	}
	for name, trusts := range a {
		if len(trusts) != len(b[name]) {
			return false
		}
		for n := range trusts {
			if trusts[n].issuer != b[name][n].issuer {
				return false
			}
		}
	}
	return true
}

// readCA returns nil roots, which are the system's, for no file.
func readCA(file string) (*x509.CertPool, caMark, error) {
	if file == "" {
		return nil, caMark{}, nil
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, caMark{}, err
	}
	defer f.Close()
	pem, err := io.ReadAll(io.LimitReader(f, caLimit+1))
	if err != nil {
		return nil, caMark{}, err
	}
	pool := x509.NewCertPool()
	switch {
	case len(pem) > caLimit:
		return nil, caMark{}, fmt.Errorf("%s is larger than 1 MiB", file)
	case !pool.AppendCertsFromPEM(pem):
		return nil, caMark{}, fmt.Errorf("%s holds no certificate", file)
	}
	return pool, caMark{set: true, digest: sha256.Sum256(pem)}, nil
}

func (i *Identifier) newIssuer(name string, mark caMark, roots *x509.CertPool) *issuer {
	return &issuer{
		name: name,
		ca:   mark,
		log:  i.log,
		client: &http.Client{
			Transport: &http.Transport{
				Proxy:                  nil,
				DialContext:            i.dial,
				TLSClientConfig:        &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
				TLSHandshakeTimeout:    fetchTimeout,
				MaxResponseHeaderBytes: 64 << 10,
				DisableCompression:     true,
				DisableKeepAlives:      true, // minutes lie between two fetches
			},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
}

// dial bounds itself, since a transport lets a dial go on when its request was
// given up.
func (i *Identifier) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	return i.dialer.DialContext(ctx, network, addr)
}

// keysFor returns the issuer's keys, of which kid is one, or is "" and there is
// only one. It fetches them when there are none, when they are too old, and at
// a bounded pace when kid is unknown. The error wraps errUnknownKey when the
// keys are there and kid is not among them.
func (s *issuer) keysFor(ctx context.Context, kid string) (*keySet, error) {
	set, now := s.set.Load(), time.Now()
	if set.trusted(now) && set.has(kid) {
		if now.Sub(set.fetched) >= keysAge {
			s.refresh(now, "")
		}
		return set, nil
	}
	if f := s.refresh(now, kid); f != nil {
		select {
		case <-f.done:
		case <-ctx.Done():
			return nil, fmt.Errorf("the keys of issuer %q were waited for: %w", s.name, context.Cause(ctx))
		}
		set = s.set.Load()
	}
	switch {
	case !set.trusted(time.Now()):
		return nil, fmt.Errorf("the keys of issuer %q cannot be had: %w", s.name, s.trouble())
	case !set.has(kid):
		return nil, fmt.Errorf("%w (issuer %q)", errUnknownKey, s.name)
	}
	return set, nil
}

// errNotTried is the trouble of an issuer that no fetch has failed for.
var errNotTried = errors.New("they are being fetched")

func (s *issuer) trouble() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		return errNotTried
	}
	return s.err
}

// refresh returns the fetch under way, or begins one on behalf of kid, apart
// from any call; its goroutine ends within fetchTimeout. It returns nil while
// fetches are held off.
func (s *issuer) refresh(now time.Time, kid string) *keyFetch {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.under != nil {
		return s.under
	}
	if now.Before(s.next) {
		return nil
	}
	f := &keyFetch{done: make(chan struct{})}
	s.under = f
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), fetchTimeout)
		defer cancel()
		began := time.Now()
		set, err := fetchKeys(ctx, s.client, s.name)
		if err == nil {
			set.fetched = began
			s.set.Store(set)
		}
		s.mu.Lock()
		before := s.failing
		s.settle(set, err, kid)
		failing := s.failing
		s.under = nil
		s.mu.Unlock()
		close(f.done)
		s.tell(err, before, failing)
	}()
	return f
}

// settle notes a fetch's outcome, and when the next may begin. s.mu is held.
func (s *issuer) settle(set *keySet, err error, kid string) {
	s.err = err
	if err != nil {
		s.failing = min(max(2*s.failing, failurePause), failurePauseLimit)
		s.next = time.Now().Add(s.failing)
		return
	}
	s.failing = 0
	if kid == "" || set.has(kid) {
		s.unknown = unknownPause
	} else {
		s.unknown = min(max(2*s.unknown, unknownPause), unknownPauseLimit)
	}
	s.next = time.Now().Add(s.unknown)
}

// tell logs the first failure of several, and their end.
func (s *issuer) tell(err error, before, after time.Duration) {
	switch {
	case err != nil && before == 0:
		s.log("the keys of a callers' token issuer cannot be fetched; its tokens are refused once those known are 10 minutes old", "gateway.issuer", s.name, "cause", err.Error())
	case err == nil && before != 0 && after == 0:
		s.log("the keys of a callers' token issuer can be fetched again", "gateway.issuer", s.name)
	}
}
