package proxy_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"
)

func TestLinksToTheOwnUpstreamLeadBack(t *testing.T) {
	tests := map[string]struct{ sent, want string }{
		"next page":         {`<https://example.com/v1/things?page=2>; rel="next"`, `<{base}/v1/things?page=2>; rel="next"`},
		"several":           {`<https://example.com/a>; rel="prev", <https://example.com:443/b?x=1#y>; rel="next"; title="<https://example.com/t>"`, `<{base}/a>; rel="prev", <{base}/b?x=1#y>; rel="next"; title="<https://example.com/t>"`},
		"another host":      {`<https://example.org/a>; rel="next", <https://example.com/b>; rel=last`, `<https://example.org/a>; rel="next", <{base}/b>; rel=last`},
		"relative":          {`<a/b>; rel="next"`, `<a/b>; rel="next"`},
		"from the root":     {`</a/b>; rel="next"`, `<{mount}/a/b>; rel="next"`},
		"of any scheme":     {`<//example.org/a>; rel="next"`, `<//example.org/a>; rel="next"`},
		"plain http":        {`<http://example.com/a>; rel="next"`, `<http://example.com/a>; rel="next"`},
		"user information":  {`<https://u@example.com/a>`, `<https://u@example.com/a>`},
		"escaped quotes":    {`<https://example.com/a>; title="\"<https://example.com/t>\"", <https://example.com/b>`, `<{base}/a>; title="\"<https://example.com/t>\"", <{base}/b>`},
		"never closed":      {`<https://example.com/a>; rel="next", <https://example.com/b`, `<{base}/a>; rel="next", <https://example.com/b`},
		"quote not closed":  {`<https://example.com/a>; title="x, <https://example.com/b>`, `<{base}/a>; title="x, <https://example.com/b>`},
		"nothing to change": {`rel="next"`, `rel="next"`},
		"empty target":      {`<>; rel="self"`, `<>; rel="self"`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			g := newRig(t, plain, newUpstream(t, false, func(w http.ResponseWriter, r *http.Request) {
				w.Header()["Link"] = []string{tt.sent, tt.sent}
			}))
			for _, door := range []struct{ url, base, mount string }{{g.front.URL + "/api/x", g.front.URL + "/api", "/api"}, {"http://example.com/x", "http://example.com", ""}} {
				resp, err := g.client(t, strings.HasPrefix(door.url, "http://example")).Get(door.url)
				if err != nil {
					t.Fatal(err)
				}
				resp.Body.Close()
				want := strings.NewReplacer("{base}", door.base, "{mount}", door.mount).Replace(tt.want)
				// net/url writes no port that was not there; the forward door keeps what the link had.
				got := resp.Header["Link"]
				for i := range got {
					got[i] = strings.ReplaceAll(got[i], "http://example.com:443", "http://example.com")
				}
				if !slices.Equal(got, []string{want, want}) {
					t.Errorf("%s: Link = %q, want %q twice", door.url, got, want)
				}
			}
		})
	}
}

func FuzzLinksElsewhereStayAsTheyAre(f *testing.F) {
	f.Add(`<https://example.com/a>; rel="prev", <https://example.org/b>; title="<https://example.com/t>"`)
	f.Add(`<<>>"\"<https://EXAMPLE.com:443/x?y#z>`)
	var sent string
	g := newRig(f, plain, newUpstream(f, false, func(w http.ResponseWriter, r *http.Request) { w.Header()["Link"] = []string{sent} }))
	client := g.client(f, false)
	f.Fuzz(func(t *testing.T, line string) {
		sent = strings.TrimSpace(strings.Map(func(r rune) rune {
			if r < ' ' || r > '~' {
				return -1 // net/http would not send it
			}
			return r
		}, line))
		resp, err := client.Get(g.front.URL + "/api/x")
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		got := resp.Header.Get("Link")
		if !strings.Contains(strings.ToLower(sent), "example.com") && strings.ReplaceAll(got, "</api/", "</") != strings.ReplaceAll(sent, "</api/", "</") {
			t.Errorf("Link %q became %q", sent, got)
		}
		for _, mark := range []string{"<", ">", `"`} { // one within a target may be escaped, and none comes in
			if strings.Count(got, mark) > strings.Count(sent, mark) {
				t.Errorf("Link %q became %q, with more of %s", sent, got, mark)
			}
		}
	})
}
