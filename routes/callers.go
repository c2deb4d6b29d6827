package routes

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"
)

// callers reads who may call. Without the section, Table.Callers stays nil.
func (p *parser) callers(m *mapping, t *Table) {
	e, ok := m.items["callers"]
	if !ok {
		return
	}
	order, items := p.pairs(e.value, e.at)
	if len(order) == 0 {
		p.refuse(e.at, finding{"names no caller", "name one, or leave the section out: then whoever reaches a loopback or unix listener may call"})
	}
	t.Callers = []*Caller{} // not nil: nobody is anonymous
	proofs := map[string]string{}
	for _, name := range order {
		before := len(p.mistakes)
		c := p.caller(name, items[name], t.Listen)
		t.Callers, p.named[c], p.byName[name] = append(t.Callers, c), items[name].at, c
		if len(p.mistakes) == before { // else it may lack what tells it apart
			p.sameProof(c, items[name].at, proofs)
		}
	}
	p.overshadowed(t.Callers)
}

func (p *parser) caller(name string, e entry, l Listen) *Caller {
	if !credentialName.MatchString(name) {
		p.refuse(e.at, finding{"this is no name for a caller", "use up to 64 letters, digits, dots, hyphens and underscores"})
	}
	m := p.open(e, "caller")
	c := &Caller{Name: name, Line: e.at.line, APIKeys: p.apiKeys(m), JWT: p.callerJWT(m), UID: m.uid("uid")}
	if len(m.present("api_key", "client_certificate", "jwt", "uid")) == 0 {
		p.refuse(e.at, finding{"nothing proves this caller", "add api_key (gateway keygen prints one), client_certificate, jwt or uid"})
	}
	p.callerCertificate(c, m)
	if x, ok := m.items["client_certificate"]; ok && (l.TLS == nil || l.TLS.ClientCAFile == "") {
		p.refuse(x.at, finding{"nobody is asked for a certificate", "add listen.tls with client_ca_file, the CA of the callers' certificates"})
	}
	if m.has("tenants") {
		c.Tenants = p.tenants(m, "tenants")
	}
	c.Limits = p.limits(m.items["limits"], "caller.limits")
	return c
}

// apiKeys reads one digest, or a list of them. Nothing of a value is ever
// repeated: it may be the key itself, written in the wrong place.
func (p *parser) apiKeys(m *mapping) [][sha256.Size]byte {
	e, ok := m.items["api_key"]
	if !ok {
		return nil
	}
	list := []entry{e}
	if e.value.Kind == yaml.SequenceNode {
		list = m.list("api_key")
		if len(list) == 0 {
			p.refuse(e.at, finding{"names no key", keygenRemedy})
		}
	}
	var out [][sha256.Size]byte
	for _, x := range list {
		digest, ok := p.apiKey(x)
		switch {
		case !ok:
		case slices.Contains(out, digest):
			p.refuse(x.at, finding{"this key stands twice", "keep one of the two"})
		default:
			out = append(out, digest)
		}
	}
	return out
}

const keygenRemedy = "write {sha256: DIGEST}; gateway keygen NAME makes a key and prints this line"

func (p *parser) apiKey(e entry) (digest [sha256.Size]byte, ok bool) {
	refuse := func(message, remedy string) ([sha256.Size]byte, bool) {
		p.refuse(e.at, finding{message, remedy})
		return digest, false
	}
	if e.value.Kind != yaml.MappingNode {
		return refuse("want the key's digest, and never the key itself", keygenRemedy+"; make a new key if this file was shared")
	}
	m := p.open(e, "api_key")
	x, ok := m.items["sha256"]
	if !ok {
		return refuse("sha256 is missing", keygenRemedy)
	}
	n, err := hex.Decode(digest[:], []byte(x.value.Value[:min(len(x.value.Value), 2*len(digest))]))
	switch {
	case x.value.Kind != yaml.ScalarNode || err != nil || n != len(digest) || len(x.value.Value) != 2*len(digest):
		return refuse("want a SHA-256 digest of exactly 64 hexadecimal digits", keygenRemedy+"; the key itself has no place here")
	case digest == sha256.Sum256(nil):
		return refuse("this is the digest of an empty key", keygenRemedy)
	}
	return digest, true
}

func (p *parser) callerCertificate(c *Caller, m *mapping) {
	e, ok := m.items["client_certificate"]
	if !ok {
		return
	}
	x := p.open(e, "caller.client_certificate")
	if len(x.present("uri_san", "dns_san")) != 1 {
		p.refuse(e.at, finding{"want exactly one of uri_san and dns_san", "write {uri_san: spiffe://contoso/billing} or {dns_san: billing.contoso.com}; common names are not looked at"})
		return
	}
	if s, ok := x.items["uri_san"]; ok {
		c.CertificateURI = p.scalar(s)
		u, err := url.Parse(c.CertificateURI)
		if err != nil || u.Scheme == "" || u.Host == "" && u.Opaque == "" || strings.ContainsAny(c.CertificateURI, " *") {
			p.refuse(s.at, finding{s.shown() + " is no absolute URI", "write it as the certificate has it, such as spiffe://contoso/billing"})
		}
	}
	if s, ok := x.items["dns_san"]; ok {
		a, err := ParseAuthority(p.scalar(s), 0)
		if err != nil || a.Port != 0 || isAddress(a.Host) {
			p.refuse(s.at, finding{s.shown() + " is no name of a host", "write it as the certificate has it, such as billing.contoso.com"})
		}
		c.CertificateDNS = a.Host
	}
}

// uid reads a user's number; nil when the key is absent. The greatest number
// stands for nobody (chown(2)).
func (m *mapping) uid(key string) *uint32 {
	e, ok := m.items[key]
	if !ok {
		return nil
	}
	n, err := strconv.ParseUint(m.p.scalar(e), 10, 32)
	if err != nil || n == 1<<32-1 {
		m.p.refuse(e.at, finding{"want the number of a user", "write what id -u prints for it, such as 1001"})
		return nil
	}
	uid := uint32(n)
	return &uid
}

// sameProof refuses what would prove another caller too; proofs are those of
// the callers before.
func (p *parser) sameProof(c *Caller, where place, proofs map[string]string) {
	for _, proof := range c.proofs() {
		if other, taken := proofs[proof.key]; taken {
			p.refuse(where, finding{fmt.Sprintf("its %s proves the caller %s too", proof.what, other), "give each caller a proof of its own"})
			continue
		}
		proofs[proof.key] = c.Name
	}
}

// proof is one way to be a caller, as a key to compare it by.
type proof struct{ what, key string }

func (c *Caller) proofs() []proof {
	var out []proof
	for _, k := range c.APIKeys {
		out = append(out, proof{"API key", "key " + string(k[:])})
	}
	if c.CertificateURI != "" {
		out = append(out, proof{"uri_san", "uri " + c.CertificateURI})
	}
	if c.CertificateDNS != "" {
		out = append(out, proof{"dns_san", "dns " + c.CertificateDNS})
	}
	if c.UID != nil {
		out = append(out, proof{"uid", fmt.Sprint("uid ", *c.UID)})
	}
	if j := c.JWT; j != nil && j.Issuer != "" {
		out = append(out, proof{"jwt", fmt.Sprintf("jwt %q %q %q", j.Issuer, j.Audience, j.canonicalClaims())})
	}
	return out
}
