package authority_test

import (
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/seed-13b04e61/gateway/authority"
	"github.com/seed-13b04e61/gateway/routes"
	"github.com/seed-13b04e61/gateway/tokens"
)

// onArc is the identity of a machine whose agent is p and has its keys in dir.
func onArc(t testing.TB, p *platform, dir string) *authority.Managed {
	t.Helper()
	endpoint := p.URL + "/metadata/identity/oauth2/token"
	return managed(t, authority.Machine{
		Env:    map[string]string{"IDENTITY_ENDPOINT": endpoint, "IMDS_ENDPOINT": p.URL},
		KeyDir: dir,
	}, routes.ManagedIdentity{})
}

func TestArcsKeyIsReadAndShown(t *testing.T) {
	for _, tt := range []struct {
		name, content string
		quoted        bool
	}{{"bare", arcSecret, false}, {"quoted", arcSecret, true}, {"line end", arcSecret + "\r\n", false}} {
		t.Run(tt.name, func(t *testing.T) {
			dir, path := keyFile(t, tt.content)
			if tt.quoted {
				path = `"` + path + `"`
			}
			p := newArc(graph, path).start(t)
			token, e := onArc(t, p, dir).Token(t.Context(), graph)
			requests, wrong := p.seen()
			if e != nil || token.Access.Reveal() != "abc.def.ghi" {
				t.Fatalf("Token = %v; the agent found wrong: %q", e, wrong)
			}
			if len(requests) != 2 || requests[0].Header.Get("Authorization") != "" {
				t.Errorf("requests = %d, want a question without key and one with", len(requests))
			}
		})
	}
}

func TestArcsKeyIsReadFromItsOwnFolderAlone(t *testing.T) {
	const folder = "its own folder"
	for _, tt := range []struct {
		name  string
		realm func(t *testing.T, dir, key string) string // may change what is there
		says  string
	}{
		{"elsewhere", func(t *testing.T, _, _ string) string { _, other := keyFile(t, arcSecret); return other }, folder},
		{"up", func(t *testing.T, dir, _ string) string { return filepath.Dir(dir) + "/../etc/x.key" }, folder},
		{"up and down", func(t *testing.T, dir, key string) string {
			return dir + "/../" + filepath.Base(dir) + "/" + filepath.Base(key)
		}, folder},
		{"dots at the end", func(_ *testing.T, dir, _ string) string { return dir + "/..key/../x.key" }, folder},
		{"below", func(t *testing.T, dir, key string) string {
			must(t, os.Mkdir(dir+"/sub", 0o700))
			must(t, os.Rename(key, dir+"/sub/x.key"))
			return dir + "/sub/x.key"
		}, folder},
		{"doubled slash", func(_ *testing.T, dir, key string) string { return dir + "//" + filepath.Base(key) }, folder},
		{"relative", func(_ *testing.T, _, key string) string { return filepath.Base(key) }, folder},
		{"other suffix", func(t *testing.T, dir, key string) string {
			must(t, os.Rename(key, dir+"/x.pem"))
			return dir + "/x.pem"
		}, folder},
		{"suffix inside", func(t *testing.T, dir, key string) string {
			must(t, os.Rename(key, dir+"/x.key.txt"))
			return dir + "/x.key.txt"
		}, folder},
		{"nothing but a suffix", func(t *testing.T, dir, key string) string {
			must(t, os.Rename(key, dir+"/.key"))
			return dir + "/.key"
		}, folder},
		{"the folder", func(_ *testing.T, dir, _ string) string { return dir }, folder},
		{"nothing", func(*testing.T, string, string) string { return "" }, folder},
		{"missing", func(_ *testing.T, dir, _ string) string { return dir + "/none.key" }, "no such file"},
		{"link out", func(t *testing.T, dir, _ string) string {
			_, other := keyFile(t, arcSecret)
			must(t, os.Symlink(other, dir+"/link.key"))
			return dir + "/link.key"
		}, "not a regular file"},
		{"link within", func(t *testing.T, dir, key string) string {
			must(t, os.Symlink(filepath.Base(key), dir+"/link.key"))
			return dir + "/link.key"
		}, "not a regular file"},
		{"a folder", func(t *testing.T, dir, _ string) string {
			must(t, os.Mkdir(dir+"/folder.key", 0o700))
			return dir + "/folder.key"
		}, "not a regular file"},
		{"too large", func(t *testing.T, _, key string) string {
			overwrite(t, key, strings.Repeat("k", 4097))
			return key
		}, "larger than 4096"},
		{"empty", func(t *testing.T, _, key string) string { overwrite(t, key, "\n"); return key }, "empty"},
		{"two lines", func(t *testing.T, _, key string) string { overwrite(t, key, "a\r\nX-Other: b"); return key }, "no header can carry"},
		{"no folder", func(t *testing.T, dir, key string) string { must(t, os.RemoveAll(dir)); return key }, "no such file"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir, key := keyFile(t, arcSecret)
			p := newArc(graph, tt.realm(t, dir, key)).start(t)
			_, e := onArc(t, p, dir).Token(t.Context(), graph)
			if e == nil || !strings.Contains(e.Hint, tt.says) {
				t.Fatalf("Token = %v, want %q", e, tt.says)
			}
			quiet(t, e)
			if e.Nature != tokens.Propagating || e.Reach != tokens.ReachCredential {
				t.Errorf("failure = %+v", e.Failure())
			}
			if requests, _ := p.seen(); len(requests) != 1 {
				t.Errorf("requests = %d, want 1: nothing that was read is shown", len(requests))
			}
		})
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestAKeyOfExactlyTheLimitIsTaken(t *testing.T) {
	long := strings.Repeat("k", 4096)
	dir, path := keyFile(t, long)
	p := newArc(graph, path)
	challenge := p.answer
	p.answer = func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") == "Basic "+long {
			r.Header.Set("Authorization", "Basic "+arcSecret)
		}
		challenge(w, r)
	}
	if _, e := onArc(t, p.start(t), dir).Token(t.Context(), graph); e != nil {
		t.Error(e)
	}
}

func TestArcsChallengesThatAreNoneAreNamed(t *testing.T) {
	for _, challenge := range []string{"", "Basic", "Basic charset=UTF-8", "Bearer realm=/x.key", "realm=/x.key", "Basic realm"} {
		p := newArc(graph, "")
		p.answer = func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("WWW-Authenticate", challenge)
			says(401, "")(w, r)
		}
		_, e := onArc(t, p.start(t), t.TempDir()).Token(t.Context(), graph)
		if e == nil || !strings.Contains(e.Hint, "Basic realm=") {
			t.Errorf("challenge %q: Token = %v", challenge, e)
			continue
		}
		quiet(t, e)
	}
}

func TestAnArcThatGivesTokensToAnyoneIsNotBelieved(t *testing.T) {
	p := newArc(graph, "")
	p.answer = nil
	_, e := onArc(t, p.start(t), t.TempDir()).Token(t.Context(), graph)
	if e == nil || !strings.Contains(e.Hint, "without asking for the key") {
		t.Fatalf("Token = %v", e)
	}
	quiet(t, e)
}

func TestARefusedKeyOfArcIsNamed(t *testing.T) {
	dir, path := keyFile(t, "another-m4rker-key")
	p := newArc(graph, path).start(t)
	_, e := onArc(t, p, dir).Token(t.Context(), graph)
	if e == nil || e.Status != 401 || !strings.Contains(e.Hint, "refused the key") || e.Nature != tokens.Refused {
		t.Fatalf("Token = %v", e)
	}
	quiet(t, e)
	if requests, _ := p.seen(); len(requests) != 2 {
		t.Errorf("requests = %d, want 2", len(requests))
	}
}

func TestAnUnreadableKeyOfArcPointsToTheGroup(t *testing.T) {
	err := authority.ArcKeyTrouble(&fs.PathError{Op: "openat", Path: "/var/opt/azcmagent/tokens/x.key", Err: fs.ErrPermission})
	if text := err.Error(); !strings.Contains(text, "permission") || !strings.Contains(text, "/var/opt/azcmagent/tokens") {
		t.Errorf("error = %q, want the folder and that permission is missing", text)
	}
	if remedy := authority.RemedyOf(err); !strings.Contains(remedy, "himds") {
		t.Errorf("remedy = %q, want the group himds", remedy)
	}
}

func FuzzArcChallenge(f *testing.F) {
	const dir = "/var/opt/azcmagent/tokens"
	for _, seed := range []string{
		"Basic realm=" + dir + "/a.key", `basic realm="` + dir + `/a.key"`, "Basic realm=" + dir + "/../a.key", "Basic realm=" + dir + "/a.key/..",
		"Basic realm=/etc/shadow", "Basic realm=" + dir + "/b/a.key", "Basic realm=" + dir + "\x00.key", "Basic", "",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, challenge string) {
		name, err := authority.ArcKeyName(dir, challenge)
		if err != nil {
			if name != "" {
				t.Errorf("name %q beside %v", name, err)
			}
			return
		}
		if !strings.HasSuffix(name, ".key") || strings.ContainsAny(name, "/") || name == ".key" || !strings.Contains(challenge, dir+"/"+name) {
			t.Errorf("ArcKeyName(%q) = %q", challenge, name)
		}
	})
}
