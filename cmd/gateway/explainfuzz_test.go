package main

import (
	"bytes"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode"

	"github.com/seed-13b04e61/gateway/gate"
	"github.com/seed-13b04e61/gateway/routes"
)

// FuzzExplain asks for whatever somebody may type or paste. A question that is
// understood has an answer with its grounds, for a terminal, and none tells
// what the URL's user or query holds.
func FuzzExplain(f *testing.F) {
	source, err := os.ReadFile(filepath.Join("testdata", "explain.yaml"))
	if err != nil {
		f.Fatal(err)
	}
	table, err := routes.Parse("routes.yaml", source, os.LookupEnv)
	if err != nil {
		f.Fatal(err)
	}
	g, _ := gate.Renew(nil, table, noKeys{})
	for _, line := range explainable {
		if words := strings.Fields(line); len(words) == 4 {
			f.Add(words[2], words[3], words[1], "Host", "page.test")
		}
	}
	f.Add("GET", "https://us:hunter2secret@api.contoso.com/orders/\u202e?sig=hunter2secret", "reports", "Upgrade", "websocket")
	f.Add("CONNECT", "[::1%25eth0]:443", "", "X-Tenant-Id", "fabrikam.onmicrosoft.com")
	f.Fuzz(func(t *testing.T, method, target, as, name, value string) {
		e := explainFlags{method: strings.ToUpper(method), as: as, fields: []string{name + ":" + value}}
		var text bytes.Buffer
		if err := e.read(target); err != nil {
			text.WriteString(err.Error())
		} else {
			judge := decide
			if e.method == methodLogin {
				judge = decideLogin
			}
			x, err := judge(t.Context(), g, e)
			switch {
			case err != nil:
				text.WriteString(err.Error())
			case x.Decided.Why == "" || !x.Allowed && (x.Code == "" || x.Remedy == ""):
				t.Errorf("explain %q %q: %+v", method, target, x)
			default:
				if err := printExplanation(&text, x); err != nil {
					t.Fatal(err)
				}
			}
		}
		if i := strings.IndexFunc(text.String(), func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) }); i >= 0 {
			t.Errorf("explain %q %q as %q says %q", method, target, as, text.String())
		}
		if u, err := url.Parse(target); err == nil && u.User != nil {
			if password, _ := u.User.Password(); len(password) > 10 && !strings.Contains(u.Host+u.Path+method+as, password) && strings.Contains(text.String(), password) {
				t.Errorf("explain %q %q tells the password", method, target)
			}
		}
	})
}
