package main

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/seed-13b04e61/gateway/audit"
	"github.com/seed-13b04e61/gateway/certs"
	"github.com/seed-13b04e61/gateway/routes"
)

const (
	// caLook is how often the interception CA is looked at: whether it is to be
	// renewed, and whether a root ends.
	caLook = time.Hour
	// rootEnds is how long before its end a root is warned of, and rootWarning
	// how often.
	rootEnds    = 14 * 24 * time.Hour
	rootWarning = 24 * time.Hour
)

// trustAnew is what an operator does about a new root.
const trustAnew = "give clients the new root beside the old one: gateway ca export (docs/interception.md)"

// newIntercepting is an engine with a CA: ca, or else that of table's folder,
// or none if it names none. A folder that cannot be used is an error, so that
// nobody takes a gateway for one that intercepts.
func newIntercepting(file *routes.File, log *audit.Log, ca *certs.CA) (*engine, []notice, error) {
	table := file.Table()
	if ca != nil || table.Intercept == nil {
		return newEngine(file, log, ca)
	}
	dir := table.Intercept.CADir
	var before []*x509.Certificate
	if old, err := certs.ReadCA(dir); err == nil {
		before = old.Roots()
	}
	ca, err := certs.OpenCA(dir, table.InterceptedHosts())
	if err != nil {
		return nil, nil, err
	}
	e, notices, err := newEngine(file, log, ca)
	switch root := ca.Roots()[0]; {
	case err == nil && len(before) == 0:
		notices = append(notices, notice{text: fmt.Sprintf("interception CA: a first root was made for the routed hosts: %s, SHA-256 %s, good until %s; no client trusts it yet",
			root.Subject.CommonName, fingerprint(root), day(root.NotAfter)), remedy: "have clients trust it: gateway ca export (docs/interception.md)"})
	case err == nil && !before[0].Equal(root):
		notices = append(notices, rootNotice(root))
	}
	return e, notices, err
}

// rootNotice tells that clients have to trust root too from now on.
func rootNotice(root *x509.Certificate) notice {
	return notice{text: fmt.Sprintf("interception CA: a new root was made for the routed hosts: %s, SHA-256 %s, good until %s; clients that do not trust it refuse hosts that no older root covers",
		root.Subject.CommonName, fingerprint(root), day(root.NotAfter)), remedy: trustAnew}
}

// useCA has the interception CA sign for table's hosts.
func (e *engine) useCA(table *routes.Table) []notice {
	if e.ca == nil {
		return nil
	}
	renewed, err := e.ca.Use(table.InterceptedHosts())
	switch {
	case err != nil:
		return []notice{{
			text:   "interception CA: " + err.Error(),
			remedy: "hosts that it signed for before go on, and new ones are refused until it is mended; it is tried again each hour and with gateway reload", alarm: true,
		}}
	case renewed:
		if e.rooted != nil {
			e.rooted()
		}
		return []notice{rootNotice(e.ca.Roots()[0])}
	}
	return nil
}

// keepCA looks at the interception CA until the engine is closed.
func (e *engine) keepCA() {
	if e.ca == nil {
		return
	}
	end := make(chan struct{})
	var keeping sync.WaitGroup
	keeping.Go(func() {
		tick := time.NewTicker(caLook)
		defer tick.Stop()
		var warned time.Time
		for {
			select {
			case <-end:
				return
			case now := <-tick.C:
				e.lookAtCA(now, &warned)
			}
		}
	})
	e.rest = sync.OnceFunc(func() {
		close(end)
		keeping.Wait()
	})
}

// lookAtCA renews the CA when it is time, and warns of a root that ends;
// warned is when it last did.
func (e *engine) lookAtCA(now time.Time, warned *time.Time) {
	e.changing.Lock()
	notices := e.useCA(e.gate.Load().Table())
	e.changing.Unlock()
	for _, n := range notices {
		e.report(n)
	}
	roots := e.ca.Roots()
	if len(roots) < 2 || now.Sub(*warned) < rootWarning {
		return
	}
	if oldest := roots[len(roots)-1]; oldest.NotAfter.Sub(now) < rootEnds {
		*warned = now
		e.report(notice{
			text:   fmt.Sprintf("interception CA: the root %s ends %s; clients that trust no newer one will refuse the gateway from then on", oldest.Subject.CommonName, day(oldest.NotAfter)),
			remedy: trustAnew,
		})
	}
}

// fingerprint is the SHA-256 of a certificate, as openssl prints it.
func fingerprint(c *x509.Certificate) string {
	sum := sha256.Sum256(c.Raw)
	text := strings.ToUpper(hex.EncodeToString(sum[:]))
	var b strings.Builder
	for i := 0; i < len(text); i += 2 {
		if i > 0 {
			b.WriteByte(':')
		}
		b.WriteString(text[i : i+2])
	}
	return b.String()
}

func day(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// keyMode is the mode of a CA folder's key file, or what is wrong with it.
func keyMode(dir string) string {
	info, err := os.Stat(filepath.Join(dir, "issuing.key"))
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("%04o", info.Mode().Perm())
}
