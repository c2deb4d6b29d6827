package routes_test

import (
	"fmt"
	"strings"

	"github.com/seed-13b04e61/gateway/routes"
)

// showSQL prints all that is read of a SQL door.
func showSQL(b *strings.Builder, d *routes.SQL) {
	fmt.Fprintf(b, "sql %s line %d: %s at %s to %v credential %s", d.Name, d.Line, d.Kind, d.Listen, d.Servers, d.Credential.Name)
	show(b, "scope", d.Scope)
	show(b, "dial", d.Dial)
	show(b, "ca", d.CAFile)
	show(b, "redirects", fmt.Sprint(d.RedirectSuffixes))
	for _, c := range d.Callers {
		show(b, "caller", c.Name)
	}
	show(b, "database", d.Database)
	show(b, "app name", d.AppNameSuffix)
	show(b, "certificate", strings.TrimSpace(d.CertificateFile+" "+d.KeyFile))
	fmt.Fprintf(b, "\n  by name %t strict %t force %t read only %t plain %t client tls %s\n", d.ByName, d.Strict, d.ForceDatabase, d.ReadOnly, d.Plain, d.ClientTLS)
	fmt.Fprintf(b, "  sessions %d login %s relogin %s age %s\n", d.MaxConnections, d.LoginTimeout, d.ReloginSkew, d.MaxSessionAge)
}
