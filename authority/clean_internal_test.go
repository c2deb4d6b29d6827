package authority

import (
	"strings"
	"testing"
)

const (
	docsLink  = "https://docs.microsoft.com/azure/active-directory/develop/active-directory-certificate-credentials"
	learnLink = "https://learn.microsoft.com/en-us/entra/identity-platform/v2-oauth2-client-creds-grant-flow"
)

func TestMicrosoftsHelpLinksStayWhole(t *testing.T) {
	for _, text := range []string{
		"Review the documentation at " + docsLink + " .",
		"Review the documentation at " + docsLink + ".",
		"see " + learnLink + ", or (" + docsLink + "/) and '" + learnLink + "'",
		"Visit the portal: https://aka.ms/NewClientSecret, or https://aka.ms/certCreds.",
		"https://aka.ms/identity-platform/what-to-do-about-expired-secrets",
	} {
		if got := clean(text, nil, detailLimit); got != text {
			t.Errorf("clean(%q) = %q", text, got)
		}
	}
}

func TestSecretsInAndBesideHelpLinksAreMasked(t *testing.T) {
	const (
		jwt    = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJqb2IifQ.c2lnbmF0dXJl"
		opaque = "Qm9va3NBcmVNYWRlT2ZQYXBlckFuZEluazEyMzQ1Ng"
		entras = "abc8Q~defghijklmnopqrstuvwxyzABCDEFGHIJ"
	)
	for name, text := range map[string]string{
		"in the path":       docsLink + "/SECRET",
		"a segment's end":   docsLink + "-SECRET",
		"glued":             docsLink + "SECRET",
		"query":             docsLink + "?code=SECRET",
		"fragment":          docsLink + "#SECRET",
		"after a full stop": docsLink + ".SECRET",
		"before":            "SECRET" + docsLink,
		"beside":            docsLink + " SECRET",
		"short":             "https://aka.ms/SECRET",
		"another host":      "https://learn.microsoft.com.evil.example/SECRET",
		"user":              "https://SECRET@learn.microsoft.com/azure",
		"plain http":        "http://docs.microsoft.com/SECRET",
	} {
		for _, secret := range []string{jwt, opaque, entras} {
			got := clean(strings.ReplaceAll(text, "SECRET", secret), nil, detailLimit)
			for at := 0; at+8 <= len(secret); at++ {
				if strings.Contains(got, secret[at:at+8]) {
					t.Errorf("%s: %q shows %q", name, got, secret[at:at+8])
					break
				}
			}
		}
	}
	// One that is made like a link's words is masked where it is known, or too long.
	lower := strings.Repeat("a", 40)
	for _, got := range []string{clean("https://aka.ms/"+lower, nil, detailLimit), clean("https://aka.ms/"+lower[:12], []string{lower[:12]}, detailLimit)} {
		if strings.Contains(got, "aaaa") {
			t.Errorf("shown: %q", got)
		}
	}
	if got := clean("http://docs.microsoft.com/azure/active-directory/develop/credentials", nil, detailLimit); !strings.Contains(got, mask) {
		t.Errorf("a link without TLS stays: %q", got)
	}
}
