package gate

import (
	"crypto/sha256"
	"fmt"
	"reflect"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/seed-13b04e61/gateway/routes"
)

const (
	// verdictLimit is how many believed tokens are remembered.
	verdictLimit = 10000
	// verdictLife is how long at most, short of their own end.
	verdictLife = 5 * time.Minute
)

// roster is a table's callers, ready to be recognised. But for what it remembers
// of tokens it is immutable.
type roster struct {
	open         bool // the table has no callers
	callers      []*routes.Caller
	names        map[string]bool
	keys         *keyring
	certificates certificates
	uids         map[uint32]*routes.Caller
	issuers      map[string][]*trust // by the exact issuer; several when their CAs differ
	verdicts     *lru.Cache[[sha256.Size]byte, verdict]
}

// verdict is that a token, known by its digest, was believed.
type verdict struct {
	caller *routes.Caller
	until  time.Time
}

// newRoster builds on prev, which may be nil: prev itself is returned when
// nothing changed but callers' places in the file.
func (i *Identifier) newRoster(t *routes.Table, prev *roster) (*roster, []error) {
	if t.Callers == nil {
		return &roster{open: true}, nil
	}
	r := &roster{
		callers:      t.Callers,
		names:        make(map[string]bool, len(t.Callers)),
		keys:         newKeyring(t.Callers),
		certificates: certificates{uri: map[string]*routes.Caller{}, dns: map[string]*routes.Caller{}},
		uids:         map[uint32]*routes.Caller{},
	}
	var errs []error
	proofs := map[any]*routes.Caller{}
	for _, c := range t.Callers {
		r.names[c.Name] = true
		for _, p := range proofsOf(c) {
			if other := proofs[p.key]; other != nil && other != c {
				errs = append(errs, fmt.Errorf("callers %q and %q have the same %s, so that nobody can tell them apart; give it to one of them", other.Name, c.Name, p.what))
			}
			proofs[p.key] = c
		}
		r.add(c)
	}
	trusts, more := i.newTrusts(t.Callers, prev)
	if errs = append(errs, more...); len(errs) > 0 {
		return nil, errs
	}
	r.issuers = trusts
	if prev != nil && prev.sameAs(r) {
		return prev, nil
	}
	verdicts, err := lru.New[[sha256.Size]byte, verdict](verdictLimit)
	if err != nil {
		return nil, []error{err}
	}
	r.verdicts = verdicts
	return r, nil
}

func (r *roster) add(c *routes.Caller) {
	if c.CertificateURI != "" {
		r.certificates.uri[c.CertificateURI] = c
	}
	if c.CertificateDNS != "" {
		r.certificates.dns[lowerASCII(c.CertificateDNS)] = c
	}
	if c.UID != nil {
		r.uids[*c.UID] = c
	}
}

// proofKey is a proof that can be one caller's only.
type proofKey struct {
	key  any
	what string
}

func proofsOf(c *routes.Caller) []proofKey {
	type uri string
	type dns string
	type name string
	proofs := []proofKey{{name(c.Name), "name"}}
	for _, d := range c.APIKeys {
		proofs = append(proofs, proofKey{d, "API key"})
	}
	if c.CertificateURI != "" {
		proofs = append(proofs, proofKey{uri(c.CertificateURI), "uri_san"})
	}
	if c.CertificateDNS != "" {
		proofs = append(proofs, proofKey{dns(lowerASCII(c.CertificateDNS)), "dns_san"})
	}
	if c.UID != nil {
		proofs = append(proofs, proofKey{*c.UID, "uid"})
	}
	return proofs
}

// sameAs tells whether r would decide as o does: it has the same callers, at
// whatever lines, and the same issuers.
func (r *roster) sameAs(o *roster) bool {
	if r.open != o.open || len(r.callers) != len(o.callers) {
		return false
	}
	for n := range r.callers {
		a, b := *r.callers[n], *o.callers[n]
		a.Line, b.Line = 0, 0
		if !reflect.DeepEqual(a, b) {
			return false
		}
	}
	return sameIssuers(r.issuers, o.issuers)
}

// owner returns the caller who owns the peer's socket.
func (r *roster) owner(e *Evidence) (*routes.Caller, error) {
	uid, err := e.UID()
	if err != nil {
		return nil, fmt.Errorf("the call shows no credential, and the peer's user is not known: %w", err)
	}
	if c := r.uids[uid]; c != nil {
		return c, nil
	}
	return nil, fmt.Errorf("the call shows no credential, and uid %d is no caller's", uid)
}
