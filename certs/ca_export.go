package certs

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"software.sslmate.com/src/go-pkcs12"
)

// TrustStorePassword is the one that Java's own trust store has. Nothing in
// such a file is secret; the password is for its format.
const TrustStorePassword = "changeit"

// maxBundle bounds a file of roots, in bytes.
const maxBundle = 8 << 20

// errNoSystemRoots is said where programs take their roots from somewhere else
// than a file.
var errNoSystemRoots = errors.New("this system keeps its roots in no file that can be merged; set SSL_CERT_FILE to a PEM file of the roots that programs are to trust, or export the root alone and add it to the system's store")

// rootsOf are the roots of all.
func rootsOf(all []*generation) []*x509.Certificate {
	var out []*x509.Certificate
	for _, g := range all {
		out = append(out, g.root)
	}
	return out
}

func pemOf(all []*x509.Certificate) []byte {
	var b bytes.Buffer
	for _, c := range all {
		_ = pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}) // into memory
	}
	return b.Bytes()
}

// RootPEM is [CA.Roots] as PEM.
func (c *CA) RootPEM() []byte { return pemOf(c.Roots()) }

// Bundle is system, such as [SystemRoots], and the CA's roots as PEM: most
// runtimes take a file instead of the roots that they would trust else.
func (c *CA) Bundle(system []*x509.Certificate) []byte {
	return pemOf(merge(c.Roots(), system))
}

// TrustStore is as [CA.Bundle], as PKCS#12 with the attribute by which Java
// knows a trusted certificate.
func (c *CA) TrustStore(system []*x509.Certificate, password string) ([]byte, error) {
	var entries []pkcs12.TrustStoreEntry
	for _, r := range merge(c.Roots(), system) {
		// Java keeps one certificate a name, and some roots have the same.
		sum := sha256.Sum256(r.Raw)
		name := r.Subject.CommonName
		if name == "" {
			name = r.Subject.String()
		}
		entries = append(entries, pkcs12.TrustStoreEntry{Cert: r, FriendlyName: strings.ToLower(name) + " " + hex.EncodeToString(sum[:4])})
	}
	b, err := pkcs12.Modern2023.EncodeTrustStoreEntries(entries, password)
	if err != nil {
		return nil, fmt.Errorf("trust store: %w", err)
	}
	return b, nil
}

// merge is all of more behind all, each certificate once.
func merge(all ...[]*x509.Certificate) []*x509.Certificate {
	var out []*x509.Certificate
	seen := map[string]bool{}
	for _, list := range all {
		for _, c := range list {
			if !seen[string(c.Raw)] {
				seen[string(c.Raw)] = true
				out = append(out, c)
			}
		}
	}
	return out
}

// trustVariables name files of roots, by which programs trust more than, or
// other than, the system does.
func trustVariables() []string {
	return []string{
		"REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS", "GIT_SSL_CAINFO", "PIP_CERT", "CARGO_HTTP_CAINFO",
		"AWS_CA_BUNDLE", "DENO_CERT", "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH", "npm_config_cafile",
	}
}

// systemFiles are where systems keep their roots as one file, in the order in
// which crypto/x509 looks for one.
func systemFiles() []string {
	return []string{
		"/etc/ssl/certs/ca-certificates.crt",                // Debian, Ubuntu, Gentoo
		"/etc/pki/tls/certs/ca-bundle.crt",                  // Fedora, RHEL 6
		"/etc/ssl/ca-bundle.pem",                            // OpenSUSE
		"/etc/pki/tls/cacert.pem",                           // OpenELEC
		"/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", // RHEL 7
		"/etc/ssl/cert.pem",                                 // Alpine, OpenBSD, macOS
		"/usr/local/etc/ssl/cert.pem",                       // FreeBSD
		"/usr/local/share/certs/ca-root-nss.crt",            // DragonFly
		"/etc/openssl/certs/ca-certificates.crt",            // NetBSD
	}
}

// SystemRoots are the roots that programs with the environment of lookup trust:
// those of SSL_CERT_FILE, else of the system's file, else of SSL_CERT_DIR or the
// system's folders, and those of the files that REQUESTS_CA_BUNDLE,
// NODE_EXTRA_CA_CERTS and their like name. from tells which files that were. A
// variable that names no file of certificates is an error, as is a system that
// keeps its roots elsewhere (Windows).
func SystemRoots(lookup func(string) (string, bool)) (roots []*x509.Certificate, from []string, err error) {
	var lists [][]*x509.Certificate
	take := func(list []*x509.Certificate, path string) {
		lists = append(lists, list)
		if !slices.Contains(from, path) {
			from = append(from, path)
		}
	}
	if path, ok := lookup("SSL_CERT_FILE"); ok && path != "" {
		list, err := rootsIn("SSL_CERT_FILE", path)
		if err != nil {
			return nil, nil, err
		}
		take(list, path)
	} else if list, path := systemRoots(lookup); len(list) > 0 {
		take(list, path)
	} else {
		return nil, nil, errNoSystemRoots
	}
	for _, name := range trustVariables() {
		path, ok := lookup(name)
		if info, err := os.Stat(path); !ok || path == "" || err == nil && info.IsDir() {
			continue // requests takes a folder too, hashed for OpenSSL: the system's
		}
		list, err := rootsIn(name, path)
		if err != nil {
			return nil, nil, err
		}
		take(list, path)
	}
	return merge(lists...), from, nil
}

// systemRoots are those of the first file that there is, else of folders.
func systemRoots(lookup func(string) (string, bool)) (roots []*x509.Certificate, from string) {
	for _, path := range systemFiles() {
		if list, err := rootsIn("", path); err == nil {
			return list, path
		}
	}
	dirs := "/etc/ssl/certs:/etc/pki/tls/certs:/usr/local/share/certs:/etc/openssl/certs"
	if set, ok := lookup("SSL_CERT_DIR"); ok && set != "" {
		dirs = set
	}
	for _, dir := range strings.Split(dirs, ":") {
		paths, _ := filepath.Glob(filepath.Join(dir, "*")) // of our own pattern
		var lists [][]*x509.Certificate
		for _, path := range paths {
			if list, err := rootsIn("", path); err == nil {
				lists = append(lists, list)
			}
		}
		if list := merge(lists...); len(list) > 0 {
			return list, dir
		}
	}
	return nil, ""
}

// rootsIn reads the certificates of a file of PEM; those that Go cannot read
// are left out, as crypto/x509 does. variable is what names the file.
func rootsIn(variable, path string) ([]*x509.Certificate, error) {
	wrong := func(what string) error {
		return fmt.Errorf("%s names %s, %s; unset it, or have it name a PEM file of roots", variable, path, what)
	}
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return nil, wrong("which is not there")
	case !info.Mode().IsRegular():
		return nil, wrong("which is not a file")
	case info.Size() > maxBundle:
		return nil, wrong(fmt.Sprintf("which has more than %d bytes", maxBundle))
	}
	rest, err := os.ReadFile(path)
	if err != nil {
		return nil, wrong("which cannot be read")
	}
	var out []*x509.Certificate
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if c, err := x509.ParseCertificate(block.Bytes); err == nil && block.Type == "CERTIFICATE" {
			out = append(out, c)
		}
	}
	if len(out) == 0 {
		return nil, wrong("which holds no certificate")
	}
	return out, nil
}
