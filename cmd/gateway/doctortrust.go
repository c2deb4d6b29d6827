package main

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
)

// trustVar is a variable that names a file of CAs.
type trustVar struct {
	name string
	who  string
	adds bool // the system's roots stay in force beside it
}

func trustVars() []trustVar {
	return []trustVar{
		{"SSL_CERT_FILE", "Go, Python's urllib and httpx, curl, openssl and .NET", false},
		{"REQUESTS_CA_BUNDLE", "Python requests and the Azure CLI", false},
		{"CURL_CA_BUNDLE", "curl and Python requests", false},
		{"GIT_SSL_CAINFO", "git", false},
		{"NODE_EXTRA_CA_CERTS", "Node", true},
		{"PIP_CERT", "pip", false},
		{"AWS_CA_BUNDLE", "the AWS SDKs", false},
		{"GRPC_DEFAULT_SSL_ROOTS_FILE_PATH", "gRPC", false},
		{"CARGO_HTTP_CAINFO", "cargo", false},
		{"npm_config_cafile", "npm", false},
		{"DENO_CERT", "Deno", true},
	}
}

// checkTrust asks every runtime and looks into every file whether the CA that
// the gateway shows is trusted. Hosts of one CA are one question.
func (d *doctor) checkTrust(ctx context.Context, shown []sight) {
	var asked [][]byte
	for _, s := range shown {
		again := false
		for _, raw := range asked {
			again = again || bytes.Equal(raw, s.chain[1].Raw)
		}
		if again {
			continue
		}
		asked = append(asked, s.chain[1].Raw)
		d.checkFiles(s)
		d.checkGo(s)
		d.checkRuntimes(ctx, s)
	}
}

// checkGo judges the chain as every Go program here would: this is one.
func (d *doctor) checkGo(s sight) {
	const who = "Go"
	err := verify(s, nil)
	if err == nil {
		d.ok(checkTrust, who, "it trusts the gateway's CA")
		return
	}
	d.no(checkTrust, who, untrustedText(err), "point SSL_CERT_FILE to the output of gateway ca export --bundle, or put the CA into the system's store")
}

// verify checks the shown chain against roots; nil: the system's.
func verify(s sight, roots *x509.CertPool) error {
	between := x509.NewCertPool()
	for _, c := range s.chain[1:] {
		between.AddCert(c)
	}
	_, err := s.chain[0].Verify(x509.VerifyOptions{DNSName: s.host.Host, Intermediates: between, Roots: roots})
	return err
}

// untrustedText tells a refused CA from other faults of a chain.
func untrustedText(err error) string {
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return "it does not trust the gateway's CA, and refuses every call"
	}
	if bad, ok := errors.AsType[x509.CertificateInvalidError](err); ok && bad.Reason == x509.Expired {
		return "it takes the gateway's certificate for expired or not yet valid; the clock may be wrong"
	}
	return "it refuses the gateway's certificate: " + err.Error()
}

// maxTrustFile bounds a file of CAs, in bytes: the system's have about 200 KiB.
const maxTrustFile = 16 << 20

// checkFiles looks into the files that the trust variables point to.
func (d *doctor) checkFiles(s sight) {
	for _, v := range trustVars() {
		if path := d.value(v.name); path != "" {
			d.checkTrustFile(v, path, s)
		}
	}
	if path, from := d.javaProperty("javax.net.ssl.trustStore"); path != "" && path != "NONE" {
		if _, err := os.Stat(path); err != nil {
			d.no(checkTrust, from, "javax.net.ssl.trustStore names "+path+", which "+whyUnread(err)+"; Java then trusts nobody",
				"write it by gateway ca export --p12 --out "+path)
		}
	}
}

func (d *doctor) checkTrustFile(v trustVar, path string, s sight) {
	export := "gateway ca export --bundle --out "
	if v.adds {
		export = "gateway ca export --out "
	}
	remedy := "write the file anew: " + export + path
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		d.warn(checkTrust, v.name, path+" is a folder, which only some of its readers take", "name a file: gateway ca export --bundle --out FILE")
		return
	}
	all, err := certificatesIn(path)
	switch {
	case err != nil:
		d.no(checkTrust, v.name, path+" "+whyUnread(err)+"; it is for "+v.who, remedy)
		return
	case len(all) == 0:
		d.no(checkTrust, v.name, path+" holds no certificate in PEM form; it is for "+v.who, remedy)
		return
	}
	pool, others := x509.NewCertPool(), 0
	for _, c := range all {
		pool.AddCert(c)
		if !ofGateways(c) {
			others++
		}
	}
	_, unknown := errors.AsType[x509.UnknownAuthorityError](verify(s, pool))
	switch {
	case unknown && others == len(all):
		d.no(checkTrust, v.name, path+" holds no CA of a gateway; it is for "+v.who, "leave it, as it may be the system's: "+export+"FILE, and have "+v.name+" name FILE")
	case unknown:
		d.no(checkTrust, v.name, path+" does not hold the gateway's present CA, which may have been renewed; it is for "+v.who, remedy)
	case others == 0 && !v.adds:
		d.warn(checkTrust, v.name, path+" holds the gateway's CA alone and takes the place of the system's roots, so "+v.who+" can call no other host", remedy)
	default:
		d.ok(checkTrust, v.name, path+" holds the gateway's CA")
	}
}

// ofGateways tells roots that gateways made: they are the ones that are held to
// names.
func ofGateways(c *x509.Certificate) bool { return len(c.PermittedDNSDomains) > 0 }

// certificatesIn reads the certificates of a PEM file. What is none is passed
// over, as programs do.
func certificatesIn(path string) ([]*x509.Certificate, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxTrustFile))
	if err != nil {
		return nil, err
	}
	return parseCertificates(b), nil
}

func parseCertificates(b []byte) []*x509.Certificate {
	var all []*x509.Certificate
	for block, rest := pem.Decode(b); block != nil; block, rest = pem.Decode(rest) {
		if c, err := x509.ParseCertificate(block.Bytes); err == nil && block.Type == "CERTIFICATE" {
			all = append(all, c)
		}
	}
	return all
}

// whyUnread says in words why a file cannot be read.
func whyUnread(err error) string {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "does not exist"
	case errors.Is(err, fs.ErrPermission):
		return "may not be read by this user"
	}
	if at, ok := errors.AsType[*fs.PathError](err); ok {
		err = at.Err
	}
	return fmt.Sprintf("cannot be read (%v)", err)
}
