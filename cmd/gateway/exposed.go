package main

import (
	"fmt"
	"os"

	"github.com/seed-13b04e61/gateway/routes"
)

// readableByOthers are the mode bits that a file with a secret should not
// have.
const readableByOthers = 0o044

// exposed warns of files with secrets and keys that others on this machine may
// read. A file that cannot be looked at is somebody else's news.
func exposed(t *routes.Table) []notice {
	var notices []notice
	seen := map[string]bool{"": true}
	look := func(field, path string) {
		if seen[path] {
			return
		}
		seen[path] = true
		info, err := os.Stat(path)
		if err != nil || !info.Mode().IsRegular() || info.Mode().Perm()&readableByOthers == 0 {
			return
		}
		notices = append(notices, notice{
			text:   fmt.Sprintf("%s: others may read %s (mode %04o)", field, path, info.Mode().Perm()),
			remedy: "chmod go-r " + path + "; in Kubernetes set the volume's defaultMode to 0400",
		})
	}
	look("listen.admin_key", t.Listen.AdminKey.File)
	if x := t.Listen.TLS; x != nil {
		if x.KeyFile == "" {
			look("listen.tls.certificate_file", x.CertificateFile) // holds the key
		}
		look("listen.tls.key_file", x.KeyFile)
	}
	for _, c := range t.Credentials {
		field := placeOf(t, c.Name) + "credentials." + c.Name
		look(field+".client_secret", c.ClientSecret.File)
		if x := c.ClientCertificate; x != nil {
			if x.KeyFile == "" {
				look(field+".client_certificate.file", x.File) // holds the key
			}
			look(field+".client_certificate.key_file", x.KeyFile)
			look(field+".client_certificate.password", x.Password.File)
		}
		if c.ClientKey != nil {
			look(field+".client_key.file", c.ClientKey.File)
		}
		if x := c.FederatedToken; x != nil && x.URL != nil {
			look(field+".federated_token.url.secret", x.URL.Secret.File)
		}
	}
	for _, d := range t.SQL {
		field := fmt.Sprintf("%s:%d: sql door %s: ", t.Name, d.Line, d.Name)
		if d.KeyFile == "" {
			look(field+"certificate_file", d.CertificateFile) // holds the key
		}
		look(field+"key_file", d.KeyFile)
	}
	for _, r := range t.Routes {
		look(fmt.Sprintf("%s:%d: route %s: tls", t.Name, r.Line, r.Name)+".client_key_file", r.TLS.ClientKeyFile)
	}
	if t.Egress.Proxy != nil {
		look("egress.proxy.password", t.Egress.Proxy.Password.File)
	}
	return notices
}
