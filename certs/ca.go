package certs

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
)

// CA signs the certificates that the tunnel door shows in a routed host's name.
// A root, whose key is gone once it has signed, signs one issuing CA, whose name
// constraints permit the routed hosts alone and exclude every address (RFC 5280
// §4.2.1.10): they bind from an intermediate even where a client ignores those
// of a root. It is safe for concurrent use.
type CA struct{}

// errNotYet marks what the next commits fill in.
var errNotYet = errors.New("no interception CA yet")

// NewCA makes a CA for hosts that lives in memory alone.
func NewCA(hosts []string) (*CA, error) { return nil, errNotYet }

// OpenCA reads the CA in folder dir, and makes one where there is none yet.
// Files that others may read or write are an error, as are files that do not
// belong together.
func OpenCA(dir string, hosts []string) (*CA, error) { return nil, errNotYet }

// Use makes hosts the ones that are signed for. Where the issuing CA's
// constraints do not fit, a new root and issuing CA are made, and renewed is
// true: clients have to trust the new root. The one before goes on signing for
// the hosts that both hold until it ends, so that clients have time to.
func (c *CA) Use(hosts []string) (renewed bool, err error) { return false, errNotYet }

// Certificate returns the certificate to show for host, which is canonical: a
// leaf with its issuing CA. Leaves are cached and minted once however many ask.
func (c *CA) Certificate(host string) (*tls.Certificate, error) { return nil, errNotYet }

// Roots are what clients have to trust, the newest first.
func (c *CA) Roots() []*x509.Certificate { return nil }
