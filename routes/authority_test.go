package routes_test

import (
	"errors"
	"strings"
	"testing"

	"golang.org/x/net/idna"

	"github.com/seed-13b04e61/gateway/routes"
)

func TestAuthoritiesHaveOneForm(t *testing.T) {
	for _, tt := range []struct {
		in   string
		port uint16
		want string
	}{
		{"graph.microsoft.com", 443, "graph.microsoft.com:443"},
		{"GRAPH.Microsoft.com.", 443, "graph.microsoft.com:443"},
		{"graph.microsoft.com:8443", 443, "graph.microsoft.com:8443"},
		{"graph.microsoft.com:", 443, "graph.microsoft.com:443"},
		{"graph.microsoft.com:0443", 80, "graph.microsoft.com:443"},
		{"ｇraph.microsoft.com", 443, "graph.microsoft.com:443"},
		{"graph。microsoft.com", 443, "graph.microsoft.com:443"},
		{"München.example", 443, "xn--mnchen-3ya.example:443"},
		{"XN--mnchen-3ya.example", 443, "xn--mnchen-3ya.example:443"},
		{"ab--cd.example", 443, "ab--cd.example:443"},
		{"localhost", 80, "localhost:80"},
		{"localhost", 0, "localhost:0"},
		{"10.0.0.7:80", 443, "10.0.0.7:80"},
		{"10.0.0.7.", 443, "10.0.0.7:443"},
		{"１２７.0.0.1", 443, "127.0.0.1:443"},
		{"[::1]", 443, "[::1]:443"},
		{"[2001:DB8:0:0::1]:8443", 443, "[2001:db8::1]:8443"},
		{"[::ffff:127.0.0.1]", 443, "127.0.0.1:443"},
	} {
		got, err := routes.ParseAuthority(tt.in, tt.port)
		if err != nil || got.String() != tt.want {
			t.Errorf("ParseAuthority(%q, %d) = %s, %v, want %s", tt.in, tt.port, got, err, tt.want)
		}
	}
}

func TestAmbiguousHostsAreRefused(t *testing.T) {
	for _, in := range []string{
		"", ".", ":443", "a..b", ".a", "a..", "a_b.example", "user@a", "a/b", `a\b`, "a%2eb", "a\x00b", "a b", "a\tb", "a?b", "a#b", "*.a",
		"127.1", "0x7f.1", "2130706433", "0177.0.0.1", "1.2.3", "1.2.3.4.5", "256.1.1.1", "a.0x7f", "a.123", "0x",
		"::1", "[::1", "::1]", "[127.0.0.1]", "[fe80::1%eth0]", "[]", "[::1]x", "[::1]:x", "a:0", "a:65536", "a:-1", "a:+1", "a:80:80", "a:000080",
		"-a.example", "a-.example", strings.Repeat("a", 64) + ".example", strings.Repeat("a.", 127) + "aa", strings.Repeat("a", 5000), "xn--a.example", "\xff.example",
	} {
		if got, err := routes.ParseAuthority(in, 443); !errors.Is(err, routes.ErrAuthority) {
			t.Errorf("ParseAuthority(%.40q) = %v, %v, want an error that wraps ErrAuthority", in, got, err)
		}
	}
}

func TestLoopbackIsKnownByNameAndAddress(t *testing.T) {
	for in, want := range map[string]bool{
		"localhost": true, "127.0.0.1": true, "127.9.9.9": true, "[::1]": true, "[::ffff:127.0.0.1]": true,
		"10.0.0.1": false, "localhost.example": false, "0.0.0.0": false,
	} {
		a, err := routes.ParseAuthority(in, 80)
		if err != nil || a.Loopback() != want {
			t.Errorf("ParseAuthority(%q).Loopback() = %t, %v, want %t", in, a.Loopback(), err, want)
		}
	}
}

func TestMetadataServicesAreKnownByNameAndAddress(t *testing.T) {
	for host, want := range map[string]bool{
		"169.254.169.254": true, "[::ffff:169.254.169.254]": true, "169.254.1.1": true, "168.63.129.16:80": true, "[fd00:ec2::254]": true, "[fe80::1]": true,
		"metadata.google.internal": true, "METADATA.google.internal.": true, "100.100.100.200": true, "0.0.0.0": true, "224.0.0.1": true,
		"graph.microsoft.com": false, "10.0.0.1": false, "127.0.0.1": false, "169.253.0.1": false, "google.internal": false, "[fd00::1]": false,
	} {
		a, err := routes.ParseAuthority(host, 443)
		if err != nil {
			t.Fatal(err)
		}
		if got := a.Metadata(); got != want {
			t.Errorf("Metadata() of %s = %t, want %t", a, got, want)
		}
	}
}

func TestCanonicalNamesCostNoAllocation(t *testing.T) {
	n := testing.AllocsPerRun(100, func() {
		if _, err := routes.ParseAuthority("graph.microsoft.com:443", 443); err != nil {
			t.Fatal(err)
		}
	})
	if n != 0 {
		t.Errorf("ParseAuthority() allocates %v times, want 0", n)
	}
}

// Whatever is accepted is canonical, and says the same when it is read again.
func FuzzParseAuthority(f *testing.F) {
	for _, s := range []string{"graph.microsoft.com:443", "[::1]:1", "MÜNCHEN.example.", "127.1", "0x7f.1", "a_b", "[::ffff:1.2.3.4]", "xn--mnchen-3ya.de", "。.a", "１.2.3.4", "a:0"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		a, err := routes.ParseAuthority(s, 443)
		if err != nil {
			if !errors.Is(err, routes.ErrAuthority) || a != (routes.Authority{}) {
				t.Fatalf("ParseAuthority(%q) = %v, %v", s, a, err)
			}
			return
		}
		if strings.ContainsAny(a.Host, "%@/\\_ \x00[]") || a.Host != strings.ToLower(a.Host) || strings.HasSuffix(a.Host, ".") || a.Port == 0 {
			t.Fatalf("ParseAuthority(%q) = %+v is not canonical", s, a)
		}
		again, err := routes.ParseAuthority(a.String(), 1)
		if err != nil || again != a {
			t.Fatalf("ParseAuthority(%q) = %v, and that again = %v, %v", s, a, again, err)
		}
		// idna.Lookup is the judge wherever it has an opinion.
		if host, err := idna.Lookup.ToASCII(s); err == nil && !strings.ContainsAny(s, ":[") {
			if host = strings.TrimSuffix(host, "."); host != a.Host {
				t.Fatalf("ParseAuthority(%q) = %q, idna says %q", s, a.Host, host)
			}
		}
	})
}
