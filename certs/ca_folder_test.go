package certs_test

import (
	"crypto/ecdsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-13b04e61/gateway/certs"
)

var caFiles = []string{"root.pem", "issuing.pem", "issuing.key"}

func ExampleOpenCA() {
	dir, err := os.MkdirTemp("", "ca-")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	ca, err := certs.OpenCA(dir, []string{"graph.microsoft.com"})
	if err != nil {
		fmt.Println(err)
		return
	}
	// A host more: clients need the new root for it, and for nothing else.
	renewed, err := ca.Use([]string{"graph.microsoft.com", "vault.azure.net"})
	fmt.Println(renewed, err, len(ca.Roots()))
	for _, g := range ca.Generations() {
		fmt.Println(g.Permitted)
	}
	// Output:
	// true <nil> 2
	// [graph.microsoft.com vault.azure.net]
	// [graph.microsoft.com]
}

func ExampleReadCA() {
	_, err := certs.ReadCA("nowhere")
	fmt.Println(err)
	// Output: there is no CA in nowhere: the folder does not exist
}

func ExampleCreateCA() {
	_, err := certs.CreateCA("nowhere", []string{"10.0.0.1"}, false)
	fmt.Println(err)
	// Output: the interception CA does not sign for this host: "10.0.0.1" is no host name in lower case
}

func opened(t testing.TB, dir string, hosts ...string) *certs.CA {
	t.Helper()
	ca, err := certs.OpenCA(dir, hosts)
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

func contents(t testing.TB, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func put(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestACAOutlivesItsProcess(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "ca")
	ca := opened(t, dir, "graph.microsoft.com")
	for path, want := range map[string]os.FileMode{
		dir: 0o700, filepath.Join(dir, "issuing.key"): 0o600, filepath.Join(dir, "issuing.pem"): 0o644, filepath.Join(dir, "root.pem"): 0o644,
	} {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Mode().Perm(); got != want {
			t.Errorf("%s has mode %04o, want %04o", path, got, want)
		}
	}
	if text := contents(t, filepath.Join(dir, "root.pem")); text != string(ca.RootPEM()) || strings.Contains(text, "KEY") {
		t.Error("root.pem is not the root alone")
	}
	again := opened(t, dir, "graph.microsoft.com")
	if !slices.EqualFunc(again.Roots(), ca.Roots(), (*x509.Certificate).Equal) {
		t.Error("another root after a restart")
	}
	if err := trusted(shown(t, again, "graph.microsoft.com"), "graph.microsoft.com", ca.Roots()...); err != nil {
		t.Error(err)
	}
	if life := time.Until(ca.Expiry()); life > 90*24*time.Hour || life < 89*24*time.Hour {
		t.Errorf("the CA lasts %s, want 90 days", life)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, ".new-*")); len(left) > 0 {
		t.Errorf("%v was left", left)
	}
}

func TestTheRootsKeyIsNowhere(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ca")
	ca := opened(t, dir, "graph.microsoft.com")
	block, rest := pem.Decode([]byte(contents(t, filepath.Join(dir, "issuing.key"))))
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	if len(rest) > 0 || key.(*ecdsa.PrivateKey).PublicKey.Equal(ca.Roots()[0].PublicKey) {
		t.Error("issuing.key holds another key than the issuing CA's")
	}
}

func TestGenerationsAreKeptInOneOrder(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ca")
	ca := opened(t, dir, "graph.microsoft.com")
	old := ca.Roots()[0]
	if !use(t, ca, "graph.microsoft.com", "api.contoso.com") {
		t.Fatal("no new root")
	}
	again := opened(t, dir, "graph.microsoft.com", "api.contoso.com")
	if roots := again.Roots(); len(roots) != 2 || !roots[1].Equal(old) || contents(t, filepath.Join(dir, "root.pem")) != string(ca.RootPEM()) {
		t.Fatalf("%d roots after a restart, want the new one and then the old", len(again.Roots()))
	}
	if err := trusted(shown(t, again, "graph.microsoft.com"), "graph.microsoft.com", old); err != nil {
		t.Errorf("a client that trusts the old root: %v", err)
	}
	for _, g := range again.Generations() {
		if err := g.Issuing.CheckSignatureFrom(g.Root); err != nil {
			t.Error(err)
		}
	}
}

func TestFilesThatOthersMayUseAreRefused(t *testing.T) {
	for name, mode := range map[string]os.FileMode{".": 0o750, "issuing.key": 0o640, "issuing.pem": 0o664, "root.pem": 0o646} {
		dir := filepath.Join(t.TempDir(), "ca")
		opened(t, dir, "graph.microsoft.com")
		if err := os.Chmod(filepath.Join(dir, name), mode); err != nil {
			t.Fatal(err)
		}
		for what, err := range map[string]error{"OpenCA": second(certs.OpenCA(dir, []string{"graph.microsoft.com"})), "ReadCA": second(certs.ReadCA(dir))} {
			if err == nil || !strings.Contains(err.Error(), "chmod") || !strings.Contains(err.Error(), "intercept.ca_dir") {
				t.Errorf("%s with mode %04o of %s = %v, want a refusal that says chmod", what, mode, name, err)
			}
		}
	}
}

func second(_ *certs.CA, err error) error { return err }

func TestFilesThatDoNotBelongTogetherAreRefused(t *testing.T) {
	other := filepath.Join(t.TempDir(), "other")
	opened(t, other, "graph.microsoft.com")
	for _, name := range caFiles {
		for what, change := range map[string]func(path string) error{
			"another CA's": func(path string) error {
				return os.WriteFile(path, []byte(contents(t, filepath.Join(other, name))), 0o600)
			},
			"none":    os.Remove,
			"empty":   func(path string) error { return os.Truncate(path, 0) },
			"damaged": func(path string) error { return os.Truncate(path, 60) },
			"huge":    func(path string) error { return os.Truncate(path, 2<<20) },
			"folder": func(path string) error {
				return errors.Join(os.Remove(path), os.Mkdir(path, 0o700))
			},
		} {
			dir := filepath.Join(t.TempDir(), "ca")
			opened(t, dir, "graph.microsoft.com")
			if err := change(filepath.Join(dir, name)); err != nil {
				t.Fatal(err)
			}
			err := second(certs.OpenCA(dir, []string{"graph.microsoft.com"}))
			if err == nil || !strings.Contains(err.Error(), "gateway ca init --force") {
				t.Errorf("%s %s: OpenCA = %v, want a refusal that says what to do", name, what, err)
			}
			if what == "folder" {
				continue
			}
			if _, err := certs.CreateCA(dir, []string{"graph.microsoft.com"}, false); !errors.Is(err, certs.ErrCAExists) {
				t.Errorf("%s %s: CreateCA = %v, want ErrCAExists", name, what, err)
			}
			if _, err := certs.CreateCA(dir, []string{"graph.microsoft.com"}, true); err != nil {
				t.Errorf("%s %s: beginning anew: %v", name, what, err)
			}
			opened(t, dir, "graph.microsoft.com")
		}
	}
}

func TestAWriteThatWasCutShortIsMended(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ca")
	ca := opened(t, dir, "graph.microsoft.com")
	before := contents(t, filepath.Join(dir, "issuing.pem"))
	use(t, ca, "api.contoso.com")
	// Keys and roots were in place, the issuing CAs not yet.
	put(t, filepath.Join(dir, "issuing.pem"), before)
	put(t, filepath.Join(dir, ".new-123"), "half a key")
	again := opened(t, dir, "graph.microsoft.com")
	if len(again.Roots()) != 1 || string(again.RootPEM()) != contents(t, filepath.Join(dir, "root.pem")) {
		t.Error("root.pem still holds a root whose CA does not exist")
	}
	if _, err := os.Stat(filepath.Join(dir, ".new-123")); !errors.Is(err, os.ErrNotExist) {
		t.Error("half a file was left")
	}
}

func TestAnExpiredCAIsRenewed(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ca")
	synctest.Test(t, func(t *testing.T) {
		old := opened(t, dir, "graph.microsoft.com").Roots()[0]
		time.Sleep(59 * 24 * time.Hour)
		if opened(t, dir, "graph.microsoft.com"); len(opened(t, dir, "graph.microsoft.com").Roots()) != 1 {
			t.Error("renewed after 59 of 90 days")
		}
		time.Sleep(2 * 24 * time.Hour)
		if roots := opened(t, dir, "graph.microsoft.com").Roots(); len(roots) != 2 || !roots[1].Equal(old) {
			t.Errorf("%d roots after 61 of 90 days, want the new one and the old", len(roots))
		}
		time.Sleep(365 * 24 * time.Hour)
		if _, err := certs.ReadCA(dir); !errors.Is(err, certs.ErrNoCA) {
			t.Errorf("ReadCA of an expired one = %v, want ErrNoCA", err)
		}
		ca := opened(t, dir, "graph.microsoft.com")
		if roots := ca.Roots(); len(roots) != 1 || contents(t, filepath.Join(dir, "root.pem")) != string(ca.RootPEM()) {
			t.Errorf("%d roots, want a new one alone", len(roots))
		}
	})
}

func TestAClockThatIsBehindDoesNotCostTheCA(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ca")
	opened(t, dir, "graph.microsoft.com")
	before := contents(t, filepath.Join(dir, "root.pem"))
	synctest.Test(t, func(t *testing.T) { // where it is the year 2000
		if _, err := certs.OpenCA(dir, []string{"graph.microsoft.com"}); err == nil || !strings.Contains(err.Error(), "clock") {
			t.Errorf("OpenCA = %v, want a word on the clock", err)
		}
	})
	if contents(t, filepath.Join(dir, "root.pem")) != before {
		t.Error("the CA was replaced")
	}
}

// madeByHand puts a CA into dir that edit has changed from what the gateway
// makes.
func madeByHand(t *testing.T, dir string, edit func(*x509.Certificate)) {
	t.Helper()
	all := []*net.IPNet{{IP: make(net.IP, 4), Mask: make(net.IPMask, 4)}, {IP: make(net.IP, 16), Mask: make(net.IPMask, 16)}}
	template := func(name string) *x509.Certificate {
		return &x509.Certificate{
			SerialNumber: big.NewInt(serials.Add(1)), Subject: pkix.Name{CommonName: name},
			NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(80 * 24 * time.Hour), IsCA: true, BasicConstraintsValid: true,
			KeyUsage: x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		}
	}
	root := issue(t, template("Gateway interception root made by hand"), nil)
	c := template("Gateway interception CA made by hand")
	c.MaxPathLenZero, c.PermittedDNSDomainsCritical, c.PermittedDNSDomains, c.ExcludedIPRanges = true, true, []string{"graph.microsoft.com"}, all
	edit(c)
	issuing := issue(t, c, root)
	der, err := x509.MarshalPKCS8PrivateKey(issuing.key)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	put(t, filepath.Join(dir, "root.pem"), string(asPEM("CERTIFICATE", root.cert.Raw)))
	put(t, filepath.Join(dir, "issuing.pem"), string(asPEM("CERTIFICATE", issuing.cert.Raw)))
	put(t, filepath.Join(dir, "issuing.key"), string(asPEM("PRIVATE KEY", der)))
}

func TestACAOfAnotherMakeIsReplaced(t *testing.T) {
	for name, edit := range map[string]func(*x509.Certificate){
		"no constraints":    func(c *x509.Certificate) { c.PermittedDNSDomains, c.ExcludedIPRanges = nil, nil },
		"not critical":      func(c *x509.Certificate) { c.PermittedDNSDomainsCritical = false },
		"addresses":         func(c *x509.Certificate) { c.ExcludedIPRanges = nil },
		"half of addresses": func(c *x509.Certificate) { c.ExcludedIPRanges = c.ExcludedIPRanges[:1] },
		"a leading dot":     func(c *x509.Certificate) { c.PermittedDNSDomains = []string{".com"} },
		"e-mail":            func(c *x509.Certificate) { c.PermittedEmailAddresses = []string{"contoso.com"} },
		"a path":            func(c *x509.Certificate) { c.MaxPathLenZero, c.MaxPathLen = false, 3 },
		"clients":           func(c *x509.Certificate) { c.ExtKeyUsage = append(c.ExtKeyUsage, x509.ExtKeyUsageClientAuth) },
		"any usage":         func(c *x509.Certificate) { c.ExtKeyUsage = nil },
		"revocation lists":  func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageCRLSign },
		"ten years":         func(c *x509.Certificate) { c.NotAfter = time.Now().AddDate(10, 0, 0) },
		"another's name":    func(c *x509.Certificate) { c.Subject.CommonName = "Corporate CA" },
	} {
		dir := filepath.Join(t.TempDir(), "ca")
		madeByHand(t, dir, edit)
		ca := opened(t, dir, "graph.microsoft.com")
		roots := ca.Roots()
		if len(roots) != 1 || strings.Contains(roots[0].Subject.CommonName, "hand") {
			t.Errorf("%s: %d roots, the first of %q; want a new one alone", name, len(roots), roots[0].Subject)
		}
		if strings.Contains(contents(t, filepath.Join(dir, "issuing.pem")), "hand") || contents(t, filepath.Join(dir, "root.pem")) != string(ca.RootPEM()) {
			t.Errorf("%s: the files hold the old one still", name)
		}
	}
	// One of the same make is kept, or the cases above would say nothing; one
	// that permits more is joined by one that does not.
	dir := filepath.Join(t.TempDir(), "ca")
	madeByHand(t, dir, func(*x509.Certificate) {})
	if ca := opened(t, dir, "graph.microsoft.com"); len(ca.Roots()) != 1 || !strings.Contains(ca.Roots()[0].Subject.CommonName, "hand") {
		t.Error("a CA that is as the gateway's own was not kept")
	}
	dir = filepath.Join(t.TempDir(), "ca")
	madeByHand(t, dir, func(c *x509.Certificate) { c.PermittedDNSDomains = []string{"com", "graph.microsoft.com"} })
	if g := opened(t, dir, "graph.microsoft.com").Generations(); len(g[0].Permitted) != 1 || g[0].Permitted[0] != "graph.microsoft.com" {
		t.Errorf("a CA that permits more than the hosts: the newest permits %v", g[0].Permitted)
	}
}

func TestGatewaysThatShareAFolderShareTheCA(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ca")
	all := make([]*certs.CA, 8)
	var opening sync.WaitGroup
	for i := range all {
		opening.Go(func() { all[i], _ = certs.OpenCA(dir, []string{"graph.microsoft.com"}) })
	}
	opening.Wait()
	for _, ca := range all {
		if ca == nil || len(ca.Roots()) != 1 || !ca.Roots()[0].Equal(all[0].Roots()[0]) {
			t.Fatal("not all have the one root")
		}
	}
	a, b := all[0], all[1]
	if !use(t, a, "graph.microsoft.com", "api.contoso.com") || use(t, b, "graph.microsoft.com", "api.contoso.com") {
		t.Error("a change of the hosts made no root, or one for each gateway")
	}
	if !slices.EqualFunc(a.Roots(), b.Roots(), (*x509.Certificate).Equal) {
		t.Error("the roots differ")
	}
	// One begins anew; the other sees it before it signs.
	fresh, err := certs.CreateCA(dir, []string{"graph.microsoft.com", "api.contoso.com"}, true)
	if err != nil {
		t.Fatal(err)
	}
	if err := trusted(shown(t, b, "api.contoso.com"), "api.contoso.com", fresh.Roots()...); err != nil {
		t.Errorf("after another process began anew: %v", err)
	}
	// What cannot be read leaves the CA at hand in use, and Use tells.
	put(t, filepath.Join(dir, "issuing.pem"), "nonsense")
	shown(t, b, "graph.microsoft.com")
	if _, err := b.Use([]string{"graph.microsoft.com", "api.contoso.com"}); err == nil {
		t.Error("Use of a damaged folder succeeds")
	}
	shown(t, b, "graph.microsoft.com")
}

func TestAFolderThatCannotBeUsedStillTakesHostsAway(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ca")
	ca := opened(t, dir, "graph.microsoft.com", "api.contoso.com", "*.vault.azure.net", "*.example.com")
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	renewed, err := ca.Use([]string{"graph.microsoft.com", "new.contoso.com", "a.vault.azure.net", "*.deep.example.com"})
	if renewed || err == nil {
		t.Fatalf("Use = %t, %v, want an error", renewed, err)
	}
	for host, want := range map[string]bool{
		"graph.microsoft.com": true, "a.vault.azure.net": true, "x.deep.example.com": true,
		"api.contoso.com": false, "new.contoso.com": false, "b.vault.azure.net": false, "x.example.com": false,
	} {
		if _, err := ca.Certificate(host); (err == nil) != want {
			t.Errorf("Certificate(%q) = %v, want one: %t", host, err, want)
		}
	}
}

func TestReadingACAChangesNothing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ca")
	if _, err := certs.ReadCA(dir); !errors.Is(err, certs.ErrNoCA) {
		t.Errorf("ReadCA of no folder = %v, want ErrNoCA", err)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := certs.ReadCA(dir); !errors.Is(err, certs.ErrNoCA) {
		t.Errorf("ReadCA of an empty folder = %v, want ErrNoCA", err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
		t.Errorf("the folder holds %v, %v", entries, err)
	}
	made := opened(t, dir, "graph.microsoft.com")
	ca, err := certs.ReadCA(dir)
	if err != nil {
		t.Fatal(err)
	}
	if !ca.Roots()[0].Equal(made.Roots()[0]) || !ca.Fits([]string{"graph.microsoft.com"}) {
		t.Error("another CA was read")
	}
	if _, err := ca.Certificate("graph.microsoft.com"); !errors.Is(err, certs.ErrNotSigned) {
		t.Errorf("a CA that was read only signs: %v", err)
	}
}
