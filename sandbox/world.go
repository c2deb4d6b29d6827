// Package sandbox is a small world to try the gateway against, without an
// account: an Entra that issues tokens, a Graph that verifies them, and an
// issuer of federated tokens, all in this process and on loopback.
//
// Around a [World] tests put what else identities come from and tokens go to:
// hosts with managed identities ([StartHost]), the token proxy of AKS identity
// bindings ([StartBinding]), platforms that hand out ID tokens
// ([StartPlatform]), APIs with manners of their own ([StartAPI]), a strict SQL
// server ([StartSQL]); and, with or without a World, an OAuth2 server that is
// not Entra ([StartOAuth]).
//
// What they speak is the real wire: request and error shapes are those of
// Microsoft's services, credentials and tokens are verified for real, and all
// can be told to fail ([Entra.Fail], [Graph.Throttle], [Host.FailWith]). The
// package imports no other room of this module: an oracle must not share a
// mistake with what it judges.
//
// Everything here is for demonstrations and tests. State is in memory, the
// administration is by methods, and the keys die with the process.
package sandbox

import (
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// What a newcomer finds in a fresh [World]. The identifiers are the sample
// values of Microsoft's documentation.
const (
	TenantID     = "aaaabbbb-0000-cccc-1111-dddd2222eeee"
	TenantDomain = "contoso.onmicrosoft.com"
	ClientID     = "00001111-aaaa-2222-bbbb-3333cccc4444"
	AppName      = "sandbox-app"
)

// GraphResource is the audience of Microsoft Graph, GraphAppID its application
// ID in every tenant. A token for either is good for [Graph].
const (
	GraphResource = "https://graph.microsoft.com"
	GraphAppID    = "00000003-0000-0000-c000-000000000000"
)

// Options shape a [World]. The zero value is plain HTTP and silent.
type Options struct {
	// TLS makes all three speak HTTPS, with certificates of a CA that is made
	// for this World and found in [World.CAPEM].
	TLS bool
	// Hosts are further names in the certificates, beside loopback,
	// login.microsoftonline.com and graph.microsoft.com.
	Hosts []string
	// Log gets one line per request: who was asked, method, path, status.
	// Never a query, a header or a body. Nil: none.
	Log io.Writer
}

// A World is one Entra, one Graph and one Issuer that know each other. Its
// methods and those of its parts may be called at any time from anywhere.
type World struct {
	Entra  *Entra
	Graph  *Graph
	Issuer *Issuer

	clock  *clock
	env    *surroundings
	caPEM  []byte
	secret string

	mu     sync.Mutex // guards guests
	guests []guest    // started later, to be closed with the World
}

// Start opens three listeners on loopback, port 0, and fills them with a
// tenant, an app and users. The caller owes a [World.Close].
func Start(opts Options) (*World, error) {
	w := &World{clock: &clock{}}
	env := &surroundings{clock: w.clock, log: &lineLog{w: opts.Log}}
	w.env = env
	if opts.TLS {
		ca, err := newCA(opts.Hosts, time.Now())
		if err != nil {
			return nil, fmt.Errorf("sandbox: certificates: %w", err)
		}
		w.caPEM, env.tls = ca.pem, ca.server
	}
	if err := w.open(env); err != nil {
		w.Close()
		return nil, fmt.Errorf("sandbox: %w", err)
	}
	return w, nil
}

// open starts the three servers and furnishes them.
func (w *World) open(env *surroundings) error {
	var err error
	if w.Issuer, err = startIssuer(env); err != nil {
		return fmt.Errorf("federated issuer: %w", err)
	}
	if w.Entra, err = startEntra(env, w.caPEM); err != nil {
		return fmt.Errorf("entra: %w", err)
	}
	if w.Graph, err = startGraph(env, w.Entra); err != nil {
		return fmt.Errorf("graph: %w", err)
	}
	return w.furnish()
}

// furnish makes the tenant, the app and its permissions.
func (w *World) furnish() error {
	if err := w.Entra.AddTenant(TenantID, TenantDomain); err != nil {
		return err
	}
	w.Entra.AddResource(GraphResource, GraphAppID)
	w.Entra.AddResource("https://management.azure.com", "https://management.core.windows.net")
	w.Entra.AddResource("https://database.windows.net")
	w.Entra.AddResource("https://vault.azure.net")
	w.Entra.AddResource("https://storage.azure.com")
	w.Entra.AddResource(TokenExchangeAudience, TokenExchangeAudience+"USGov", TokenExchangeAudience+"China")
	if _, err := w.Entra.RegisterApp(App{ClientID: ClientID, Name: AppName, Tenants: []string{TenantID}}); err != nil {
		return err
	}
	if err := w.Entra.Grant(ClientID, GraphResource, "User.Read.All", "Group.Read.All"); err != nil {
		return err
	}
	s, err := w.Entra.AddSecret(ClientID, Secret{})
	w.secret = s.Value
	return err
}

// Close ends all servers of the World and the calls in them, and waits until
// their handlers have returned. It may be called more than once.
func (w *World) Close() {
	w.mu.Lock()
	guests := w.guests
	w.guests = nil
	w.mu.Unlock()
	for _, s := range guests {
		s.close()
	}
	if w.Graph != nil {
		w.Graph.srv.close()
	}
	if w.Entra != nil {
		w.Entra.close()
	}
	if w.Issuer != nil {
		w.Issuer.srv.close()
	}
}

// Secret returns the client secret of the app [ClientID], made at random by
// [Start]. It opens this World and nothing else.
func (w *World) Secret() string { return w.secret }

// CAPEM returns the certificate, in PEM, that clients have to trust, or nil
// without [Options.TLS].
func (w *World) CAPEM() []byte { return slices.Clone(w.caPEM) }

// FederatedToken returns a JWT of the World's own [Issuer] for sub and aud,
// good for ttl; a ttl below zero gives one that has expired. Entra takes it as
// a client assertion once it matches a credential of [Entra.AddFederated].
func (w *World) FederatedToken(sub, aud string, ttl time.Duration) (string, error) {
	return w.Issuer.Token(sub, aud, ttl)
}

// Skew sets the clock of the whole World d ahead of this machine's, d below
// zero behind it: Date headers, token times and expiries follow. Besides wrong
// clocks it is how a test lets a token expire without waiting.
func (w *World) Skew(d time.Duration) { w.clock.skew.Store(int64(d)) }

// A guest is a server that is closed with the World.
type guest interface{ close() }

// join has s closed with the World.
func (w *World) join(s guest) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.guests = append(w.guests, s)
}

// clock is the World's time: this machine's, plus a skew.
type clock struct{ skew atomic.Int64 }

func (c *clock) now() time.Time { return time.Now().Add(time.Duration(c.skew.Load())) }
