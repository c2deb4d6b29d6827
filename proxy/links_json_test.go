package proxy_test

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/seed-13b04e61/gateway/proxy"
	"github.com/seed-13b04e61/gateway/routes"
)

func rewriting(table *routes.Table) { table.Routes[0].RewriteLinks = true }

func TestLinksInJSONLeadBack(t *testing.T) {
	for name, tt := range map[string]struct{ sent, want string }{
		"next page":              {`{"@odata.nextLink":"https://example.com/v1.0/users?$skiptoken=x"}`, `{"@odata.nextLink":"{base}/v1.0/users?$skiptoken=x"}`},
		"escaped slashes":        {`{"nextLink":"https:\/\/example.com\/v1.0\/users"}`, `{"nextLink":"{escaped}\/v1.0\/users"}`},
		"the host alone":         {`["https://example.com","https://EXAMPLE.com:443/","https://example.com?x","https://example.com#y"]`, `["{base}","{base}/","{base}?x","{base}#y"]`},
		"another host":           {`["https://example.com.evil.test/","https://example.comet/","https://other.test/https://example.com/"]`, ""},
		"authorized by itself":   {`{"uploadUrl":"https://up.example.net/a?tempauth=x","@microsoft.graph.downloadUrl":"https://dl.example.net/b"}`, ""},
		"another port or scheme": {`["https://example.com:8443/","http://example.com/","https://user@example.com/"]`, ""},
		"a quotation":            {`{"html":"<a href=\"https://example.com/x\">","next":"https://example.com/y"}`, `{"html":"<a href=\"https://example.com/x\">","next":"{base}/y"}`},
		"after backslashes":      {`["\\","https://example.com/y","\\\\\"https://example.com/z"]`, `["\\","{base}/y","\\\\\"https://example.com/z"]`},
		"cut short":              {`{"next":"https://example.co`, ""},
		"within text":            {`{"text":"see https://example.com/x"}`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			for _, announced := range []bool{true, false} {
				g := rigging{alter: rewriting}.newRig(t, plain, newUpstream(t, false, func(w http.ResponseWriter, r *http.Request) {
					if e := r.Header.Get("Accept-Encoding"); e != "identity" && !strings.HasPrefix(r.Host, "forward") && r.Header.Get("X-Door") == "" {
						t.Errorf("Accept-Encoding = %q, want identity", e)
					}
					w.Header().Set("Content-Type", "application/json; odata.metadata=minimal")
					w.Header().Set("Etag", `"1"`)
					w.Header().Set("Content-MD5", "x")
					if announced {
						w.Header().Set("Content-Length", strconv.Itoa(len(tt.sent)))
						_, _ = io.WriteString(w, tt.sent)
						return
					}
					for _, c := range tt.sent {
						_, _ = io.WriteString(w, string(c))
						w.(http.Flusher).Flush()
					}
				}))
				base := g.front.URL + "/api"
				want := strings.NewReplacer("{base}", base, "{escaped}", strings.ReplaceAll(base, "/", `\/`)).Replace(tt.want)
				if tt.want == "" {
					want = tt.sent
				}
				resp, got := g.get(t, "/api/v1.0/users", "Accept-Encoding", "gzip")
				if got != want || resp.Header.Get("Etag") != `W/"1"` || resp.Header.Get("Content-MD5") != "" || announced != (resp.ContentLength == int64(len(want))) {
					t.Errorf("announced %v: got %s of %d with %v, want %s", announced, got, resp.ContentLength, resp.Header, want)
				}
				req, err := http.NewRequest("GET", "http://example.com/v1.0/users", nil)
				if err != nil {
					t.Fatal(err)
				}
				req.Header.Set("X-Door", "forward")
				resp, err = g.client(t, true).Do(req)
				if err != nil {
					t.Fatal(err)
				}
				b, err := io.ReadAll(resp.Body)
				resp.Body.Close()
				if err != nil || string(b) != tt.sent || resp.Header.Get("Etag") != `"1"` {
					t.Errorf("the forward door changed %s to %s (%v)", tt.sent, b, err)
				}
			}
		})
	}
}

func TestWhatIsNoWholeJSONKeepsItsLinks(t *testing.T) {
	const link = `"https://example.com/x"`
	for name, change := range map[string]func(w http.ResponseWriter) int{
		"text":         func(w http.ResponseWriter) int { w.Header().Set("Content-Type", "text/plain"); return 200 },
		"encoded":      func(w http.ResponseWriter) int { w.Header().Set("Content-Encoding", "br"); return 200 },
		"a part":       func(w http.ResponseWriter) int { w.Header().Set("Content-Range", "bytes 0-22/100"); return 206 },
		"not modified": func(w http.ResponseWriter) int { return 304 },
	} {
		g := rigging{alter: rewriting}.newRig(t, plain, newUpstream(t, false, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("Etag", `"1"`)
			status := change(w)
			w.Header().Set("Content-Length", strconv.Itoa(len(link)))
			w.WriteHeader(status)
			if status != 304 {
				_, _ = io.WriteString(w, link)
			}
		}))
		resp, got := g.get(t, "/api/x")
		if resp.Header.Get("Etag") != `"1"` || resp.StatusCode != 304 && got != link {
			t.Errorf("%s: got %s with %v", name, got, resp.Header)
		}
	}
	g := rigging{alter: rewriting}.newRig(t, plain, newUpstream(t, false, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/problem+json")
		w.Header().Set("Content-Length", "1000")
	}))
	resp, err := g.client(t, false).Head(g.front.URL + "/api/x")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.ContentLength != 1000 {
		t.Errorf("HEAD tells %d bytes, want 1000", resp.ContentLength)
	}
}

func TestLinksThatComeBackAreTheUpstreamsAgain(t *testing.T) {
	const text = `{"@odata.id":"{base}/v1.0/users/1","text":"see {base}/x","other":"{host}/other/x","escaped":"{escaped}\/v1.0"}`
	for _, tt := range []struct {
		name  string
		wrap  func(io.Reader) io.Reader
		kind  string
		sent  int64 // length that the upstream is told; 0: that of the body
		plain bool
	}{
		{"known length", func(r io.Reader) io.Reader { return r }, "application/json", 0, false},
		{"unknown length", func(r io.Reader) io.Reader { return io.MultiReader(r) }, "application/vnd.api+json", -1, false},
		{"slowly", func(r io.Reader) io.Reader { return slowly{r} }, "application/json", -1, false},
		{"no JSON", func(r io.Reader) io.Reader { return r }, "text/plain", 0, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var refused atomic.Int64
			g := rigging{alter: rewriting}.newRig(t, plain, newUpstream(t, false, func(w http.ResponseWriter, r *http.Request) {
				if number(r.Header.Get("Authorization")) == 1 {
					refused.Add(1)
					_, _ = io.ReadAll(r.Body)
					w.WriteHeader(http.StatusUnauthorized)
					return
				}
				b, _ := io.ReadAll(r.Body)
				fmt.Fprintf(w, "%d %s", r.ContentLength, b)
			}))
			fill := func(base, escaped string) string {
				return strings.NewReplacer("{base}", base, "{escaped}", escaped, "{host}", g.front.URL).Replace(text)
			}
			base := g.front.URL + "/api"
			body := fill(base, strings.ReplaceAll(base, "/", `\/`))
			want := strings.Replace(fill("https://example.com", `https:\/\/example.com`), "see https://example.com", "see "+base, 1)
			if tt.plain {
				want = body
			}
			length := tt.sent
			if length == 0 {
				length = int64(len(want))
			}
			resp, err := g.client(t, false).Post(base+"/v1.0/groups/1/members/$ref", tt.kind, tt.wrap(strings.NewReader(body)))
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if want = fmt.Sprintf("%d %s", length, want); err != nil || string(got) != want || refused.Load() != 1 {
				t.Errorf("after %d refusals the upstream got %s (%v), want %s", refused.Load(), got, err, want)
			}
			if n := g.handler.Kept(); n != 0 {
				g.events.the(1)
				if n = g.handler.Kept(); n != 0 {
					t.Errorf("%d bytes are kept", n)
				}
			}
		})
	}
}

func TestLocationFromTheRootGetsTheMount(t *testing.T) {
	g := newRig(t, plain, newUpstream(t, false, func(w http.ResponseWriter, r *http.Request) {
		w.Header()["Location"] = []string{r.URL.Query().Get("to")}
		w.WriteHeader(http.StatusAccepted)
	}))
	for to, want := range map[string]string{
		"/v1.0/x":              "/api/v1.0/x",
		"//example.com/v1.0/x": g.front.URL + "/api/v1.0/x",
		"//example.org/v1.0/x": "//example.org/v1.0/x",
		"x/y":                  "x/y",
	} {
		resp, _ := g.get(t, "/api/x?to="+to)
		if got := resp.Header.Get("Location"); got != want {
			t.Errorf("Location %s became %s, want %s", to, got, want)
		}
		resp, err := g.client(t, true).Get("http://example.com/x?to=" + to)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if got := resp.Header.Get("Location"); got != to {
			t.Errorf("forward: Location %s became %s", to, got)
		}
	}
}

// The pieces that a body comes in make no difference, and changing links back
// gives what was there, but for how the host was written.
func FuzzRelinkingKnowsNoPieces(f *testing.F) {
	f.Add(`["https://a.test/x","https:\/\/a.test\/y","\\\"https://a.test/z"]`, uint8(3))
	f.Add(`"https://a.test`, uint8(0))
	f.Add(`"https:\/"https://A.test:443"`, uint8(1))
	f.Fuzz(func(t *testing.T, body string, chunk uint8) {
		const from, to = "https://a.test", "http://127.0.0.1:8080/graph"
		whole, err := proxy.Relinked(body, from, to, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		pieces, err := proxy.Relinked(body, from, to, int(chunk)+1)
		if err != nil || pieces != whole {
			t.Errorf("%q became %q, in pieces %q (%v)", body, whole, pieces, err)
		}
		if !strings.Contains(strings.ToLower(body), "a.test") && whole != body {
			t.Errorf("%q became %q", body, whole)
		}
	})
}
