package certs

import (
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
)

// Why there is no CA, or no certificate of one.
var (
	ErrNoCA      = errors.New("there is no CA")
	ErrCAExists  = errors.New("there is a CA already")
	ErrNotSigned = errors.New("the interception CA does not sign for this host")
)

const (
	// persistentLife is how long a CA in a folder lasts, ephemeralLife one in
	// memory; a new one is made at two thirds of it.
	persistentLife = 90 * 24 * time.Hour
	ephemeralLife  = 7 * 24 * time.Hour
	// maxGenerations bounds the roots that are in force at once; the oldest
	// goes first.
	maxGenerations = 32
	// maxLeaves bounds the leaves at hand. Routed hosts alone get any.
	maxLeaves = 1024
)

// CA signs the certificates that the tunnel door shows in a routed host's name.
// A root, whose key is gone once it has signed, signs one issuing CA, whose name
// constraints permit the routed hosts alone and exclude every address, but those
// of loopback where a SQL door is to be reached by them (RFC 5280 §4.2.1.10):
// they bind from an intermediate even where a client ignores those of a root, as
// Java does. It is safe for concurrent use.
type CA struct {
	folder *folder // nil: in memory alone
	life   time.Duration

	changing sync.Mutex             // one change of signer at a time
	signer   atomic.Pointer[signer] // never nil

	serverKey func() (*rsa.PrivateKey, error) // of all of ServerCertificate's in this process; made when it is first asked for

	mu      sync.Mutex // guards flights
	flights map[string]*flight
}

// signer is what signs at one time: whom for, by what, and what it signed.
type signer struct {
	names       names
	generations []*generation // newest first
	leaves      *lru.Cache[string, *leaf]
}

func newSigner(n names, generations []*generation) *signer {
	leaves, err := lru.New[string, *leaf](maxLeaves)
	if err != nil {
		panic(err) // of a size below 1
	}
	return &signer{names: n, generations: generations, leaves: leaves}
}

// NewCA makes a CA for hosts that lives in memory alone, for 7 days. Hosts are
// as for [CA.Use].
func NewCA(hosts []string) (*CA, error) {
	return begin(nil, ephemeralLife, hosts)
}

// OpenCA reads the CA in folder dir, and makes one where there is none yet, for
// 90 days. Hosts are as for [CA.Use], which it does. Files that others may read
// or write are an error, as are files that do not belong together.
func OpenCA(dir string, hosts []string) (*CA, error) {
	return begin(&folder{dir: dir}, persistentLife, hosts)
}

// newUnused is a CA without a signer.
func newUnused(f *folder, life time.Duration) *CA {
	return &CA{folder: f, life: life, flights: map[string]*flight{}, serverKey: sync.OnceValues(newServerKey)}
}

func begin(f *folder, life time.Duration, hosts []string) (*CA, error) {
	c := newUnused(f, life)
	c.signer.Store(newSigner(names{}, nil))
	if _, err := c.Use(hosts); err != nil {
		return nil, err
	}
	return c, nil
}

// CreateCA makes a CA for hosts in folder dir. One that is there already is
// [ErrCAExists], or with replace it is done away with, readable or not: clients
// that trust its roots trust nothing that is signed from now on.
func CreateCA(dir string, hosts []string, replace bool) (*CA, error) {
	n, err := newNames(hosts)
	if err != nil {
		return nil, err
	}
	f := &folder{dir: dir}
	unlock, err := f.lock(true)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if there, err := f.inhabited(); err != nil {
		return nil, err
	} else if there && !replace {
		return nil, fmt.Errorf("%w in %s", ErrCAExists, dir)
	}
	g, err := newGeneration(n.constraints(), persistentLife)
	if err != nil {
		return nil, err
	}
	if err := f.write([]*generation{g}); err != nil {
		return nil, err
	}
	c := newUnused(f, persistentLife)
	c.signer.Store(newSigner(n, []*generation{g}))
	return c, nil
}

// ReadCA reads the CA in folder dir for its roots; it signs for no host until
// [CA.Use]. Nothing is made or changed. A folder without one is [ErrNoCA].
func ReadCA(dir string) (*CA, error) {
	f := &folder{dir: dir}
	unlock, err := f.lock(false)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%w in %s: the folder does not exist", ErrNoCA, dir)
	} else if err != nil {
		return nil, err
	}
	defer unlock()
	generations, _, err := f.read(time.Now())
	if err != nil {
		return nil, err
	}
	if len(generations) == 0 {
		return nil, fmt.Errorf("%w in %s that is in force", ErrNoCA, dir)
	}
	c := newUnused(f, persistentLife)
	c.signer.Store(newSigner(names{}, generations))
	return c, nil
}

// Use makes hosts the ones that are signed for: canonical names, or "*.suffix"
// for all names below one, and 127.0.0.1 or ::1, of which either stands for both
// and counts for [CA.ServerCertificate] alone; any other address, and anything
// else, is an error. Where no
// issuing CA's constraints are just these, or the one whose are has two thirds of
// its life behind it, a new root and issuing CA are made, and renewed is true:
// clients have to trust the new root. The ones before go on signing, the oldest
// first, for the hosts that they permit until they end, so that clients have time
// to; a host that is no longer among hosts is not signed for whatever they
// permit. On an error the CAs stay as they were, and those of the hosts before
// that are among hosts are signed for.
func (c *CA) Use(hosts []string) (renewed bool, err error) {
	n, err := newNames(hosts)
	if err != nil {
		return false, err
	}
	c.changing.Lock()
	defer c.changing.Unlock()
	before := c.signer.Load()
	generations, renewed, err := c.renew(n.constraints(), time.Now())
	if err != nil {
		n, generations = n.within(before.names), before.generations
	}
	if !n.equal(before.names) || !slices.EqualFunc(generations, before.generations, (*generation).equal) {
		c.signer.Store(newSigner(n, generations))
	}
	return renewed, err
}

// renew returns the generations in force, with one for just wanted among them.
func (c *CA) renew(wanted constraints, now time.Time) (out []*generation, renewed bool, err error) {
	known := c.signer.Load().generations
	all, stale := inForce(known, now), false
	if c.folder != nil {
		unlock, err := c.folder.lock(true)
		if err != nil {
			return nil, false, err
		}
		defer unlock()
		if all, stale, err = c.folder.read(now); err != nil {
			return nil, false, err
		}
		adopt(all, known)
	}
	if renewed = !slices.ContainsFunc(all, func(g *generation) bool { return g.fits(wanted, now) }); renewed {
		g, err := newGeneration(wanted, c.life)
		if err != nil {
			return nil, false, err
		}
		all = append([]*generation{g}, all...)
		all = all[:min(len(all), maxGenerations)]
	}
	if c.folder != nil && (renewed || stale) {
		if err := c.folder.write(all); err != nil {
			return nil, false, err
		}
	}
	return all, renewed, nil
}

// reread takes what another process that shares the folder put there. What
// cannot be read is for the next Use to tell; the CAs at hand are still good.
func (c *CA) reread() {
	if c.folder == nil || !c.folder.changed() {
		return
	}
	c.changing.Lock()
	defer c.changing.Unlock()
	unlock, err := c.folder.lock(false)
	if err != nil {
		return
	}
	defer unlock()
	before := c.signer.Load()
	all, _, err := c.folder.read(time.Now())
	if err != nil || len(all) == 0 || slices.EqualFunc(all, before.generations, (*generation).equal) {
		return
	}
	adopt(all, before.generations)
	c.signer.Store(newSigner(before.names, all))
}

// Generation is a root with the issuing CA that it signed.
type Generation struct {
	Root, Issuing *x509.Certificate
	Permitted     []string // names that the constraints permit, each with all names below it, and addresses
}

// Generations are those in force, the newest first.
func (c *CA) Generations() []Generation {
	var out []Generation
	for _, g := range inForce(c.signer.Load().generations, time.Now()) {
		all := slices.Clone(g.issuing.PermittedDNSDomains)
		if permitted(g.issuing).loopback {
			all = append(all, loopbackAddresses()...)
		}
		out = append(out, Generation{Root: g.root, Issuing: g.issuing, Permitted: all})
	}
	return out
}

// Fits tells whether a [CA.Use] of hosts would make no new root now.
func (c *CA) Fits(hosts []string) bool {
	n, err := newNames(hosts)
	return err == nil && slices.ContainsFunc(c.signer.Load().generations, func(g *generation) bool {
		return g.fits(n.constraints(), time.Now())
	})
}

// Roots are what clients have to trust, the newest first.
func (c *CA) Roots() []*x509.Certificate {
	var out []*x509.Certificate
	for _, g := range c.Generations() {
		out = append(out, g.Root)
	}
	return out
}

// Expiry is when the last of the roots ends, or the zero time if all have.
func (c *CA) Expiry() time.Time {
	var last time.Time
	for _, r := range c.Roots() {
		if r.NotAfter.After(last) {
			last = r.NotAfter
		}
	}
	return last
}

// Certificate returns the certificate to show for host, which is canonical: a
// leaf with its issuing CA. Leaves are cached and minted once however many ask.
// A host that is not among those of [CA.Use] is [ErrNotSigned], as is every
// address. The caller must not change what it returns.
func (c *CA) Certificate(host string) (*tls.Certificate, error) {
	return c.certificate(order{key: host})
}

// certificate returns the one that is at hand, or has it minted.
func (c *CA) certificate(o order) (*tls.Certificate, error) {
	now := time.Now()
	l, ok := c.signer.Load().leaves.Get(o.key)
	if !ok || !now.Before(l.end) {
		return c.mint(o)
	}
	if !now.Before(l.renew) && l.renewing.CompareAndSwap(false, true) {
		go func() { // ends with its one certificate
			defer l.renewing.Store(false)
			_, _ = c.mint(o) // the one at hand is good still, and the next call tries again
		}()
	}
	return l.cert, nil
}
