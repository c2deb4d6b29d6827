// Package sandbox is a small world to try the gateway against, without an
// account: an Entra that issues tokens, a Graph that verifies them, and an
// issuer of federated tokens, all in this process and on loopback.
//
// What they speak is the real wire: request and error shapes are those of
// Microsoft Entra and Microsoft Graph, credentials and tokens are verified for
// real, and both can be told to fail ([Entra.Fail], [Graph.Throttle]). The
// package imports no other room of this module: an oracle must not share a
// mistake with what it judges.
//
// Everything here is for demonstrations and tests. State is in memory, the
// administration is by methods, and the keys die with the process.
package sandbox

import (
	"errors"
	"fmt"
	"io"
	"slices"
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
	caPEM  []byte
	secret string
}

// Start opens three listeners on loopback, port 0, and fills them with a
// tenant, an app and users. The caller owes a [World.Close].
func Start(opts Options) (*World, error) {
	w := &World{clock: &clock{}}
	env := &surroundings{clock: w.clock, log: &lineLog{w: opts.Log}}
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

// Close ends all three servers and the calls in them, and waits until their
// handlers have returned. It may be called more than once.
func (w *World) Close() {
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

// errTrouble is the refusal of a name that [World.Trouble] does not know.
var errTrouble = errors.New("unknown trouble")

// Troubles returns the names that [World.Trouble] takes.
func Troubles() []string { return []string{"expired-secret", "throttle", "outage", "revoked"} }

// Trouble starts the trouble of that name, as the command line offers it:
//
//   - expired-secret: every secret of every app has expired (AADSTS7000222);
//   - throttle: the token endpoint answers 429 with Retry-After;
//   - outage: the token endpoint answers 503 with a page of HTML;
//   - revoked: Graph refuses every token issued so far; with none issued yet,
//     it refuses the first.
//
// The first three last until [Entra.Recover].
func (w *World) Trouble(name string) error {
	switch name {
	case "expired-secret":
		w.Entra.Fail(ExpiredSecret)
	case "throttle":
		w.Entra.Fail(Throttle)
	case "outage":
		w.Entra.Fail(Outage)
	case "revoked":
		w.Graph.revokeUpTo(max(w.Entra.serial.Load(), 1))
	default:
		return fmt.Errorf("%w %q; known are %q", errTrouble, name, Troubles())
	}
	return nil
}

// clock is the World's time: this machine's, plus a skew.
type clock struct{ skew atomic.Int64 }

func (c *clock) now() time.Time { return time.Now().Add(time.Duration(c.skew.Load())) }
