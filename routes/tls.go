package routes

import "strings"

// listenTLS reads the proxy port's own certificate; nil when the key is absent.
func (p *parser) listenTLS(m *mapping) *ListenTLS {
	e, ok := m.items["tls"]
	if !ok {
		return nil
	}
	x := p.open(e, "listen.tls")
	t := &ListenTLS{
		CertificateFile: x.path("certificate_file"), KeyFile: x.path("key_file"),
		ClientCAFile: x.path("client_ca_file"), ClientCRLFile: x.path("client_crl_file"),
	}
	p.clientCA = x.where("client_ca_file")
	switch {
	case len(x.present("acme", "certificate_file")) != 1:
		p.refuse(e.at, finding{"want exactly one of acme and certificate_file", "write {certificate_file: tls.pem, key_file: tls.key}, or acme with domains and storage"})
	case x.has("acme") && x.has("key_file"):
		p.refuse(x.where("key_file"), finding{"acme makes its own key", "leave key_file out"})
	}
	if x.has("client_crl_file") && !x.has("client_ca_file") {
		p.refuse(x.where("client_crl_file"), finding{"nobody is asked for a certificate that could be revoked", "add client_ca_file"})
	}
	if m.flag("plain", false) {
		p.refuse(m.where("plain"), finding{"plain says that there is no tls, and there is", "keep one of the two"})
	}
	if a, ok := x.items["acme"]; ok {
		t.ACME = p.acme(a)
	}
	return t
}

func (p *parser) acme(e entry) *ACME {
	m := p.open(e, "acme")
	a := &ACME{Email: m.text("email", ""), CAFile: m.path("ca_file"), Storage: m.path("storage"), HTTP: m.address("http", "", false)}
	domains := m.list("domains")
	if len(domains) == 0 {
		p.refuse(m.where("domains"), finding{"domains is missing", "write those by which callers reach this gateway, such as [gw.contoso.com]"})
	}
	for _, d := range domains {
		name, err := ParseAuthority(p.scalar(d), 0)
		if err != nil || name.Port != 0 || isAddress(name.Host) || name.Host == "localhost" {
			p.refuse(d.at, finding{d.shown() + " is no domain", "write a full name such as gw.contoso.com; wildcards and addresses cannot be proven by HTTP-01 and TLS-ALPN-01"})
			continue
		}
		a.Domains = append(a.Domains, name.Host)
	}
	if x, ok := m.items["email"]; ok && (strings.Count(a.Email, "@") != 1 || strings.ContainsAny(a.Email, " <>") || strings.Trim(a.Email, "@") != a.Email) {
		p.refuse(x.at, finding{x.shown() + " is no e-mail address", "write one that is read, such as ops@contoso.com"})
	}
	if x, ok := m.items["directory"]; ok {
		a.Directory = p.issuer(x, "directory", "certificates would be ordered in clear text")
	}
	if !m.has("storage") {
		p.refuse(m.at, finding{"storage is missing", "name a folder that outlives restarts, such as /var/lib/gateway: without it each start orders a certificate, until the CA refuses"})
	}
	return a
}

// audit reads where audit lines go; nil when the section is absent.
func (p *parser) audit(m *mapping) *Audit {
	e, ok := m.items["audit"]
	if !ok {
		return nil
	}
	x := p.open(e, "audit")
	if !x.has("file") {
		p.refuse(e.at, finding{"file is missing", "name the file, or leave the section out: then audit lines go where the log goes"})
	}
	return &Audit{File: x.path("file"), MaxSize: x.size("max_size", 100<<20, 1<<40), Keep: x.whole("keep", 10, 10_000)}
}
