package routes_test

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/seed-13b04e61/gateway/routes"
)

func mustPattern(tb testing.TB, text string) routes.Pattern {
	tb.Helper()
	p, err := routes.ParsePattern(text)
	if err != nil {
		tb.Fatalf("ParsePattern(%q): %v", text, err)
	}
	return p
}

func mustPath(tb testing.TB, escaped string) routes.Path {
	tb.Helper()
	p, err := routes.ParsePath(escaped)
	if err != nil {
		tb.Fatalf("ParsePath(%q): %v", escaped, err)
	}
	return p
}

func TestPathsOfOneReadingAreDecodedOnce(t *testing.T) {
	for escaped, want := range map[string][]string{
		"/":                             nil,
		"/a":                            {"a"},
		"/a/":                           {"a"},
		"/v1.0/%24batch":                {"v1.0", "$batch"},
		"/V1.0/Users":                   {"V1.0", "Users"},
		"/a/%41%5a%7e":                  {"a", "AZ~"},
		"/a%20b/c":                      {"a b", "c"},
		"/münchen/m%C3%BCnchen":         {"münchen", "münchen"},
		"/100%25/of":                    {"100%", "of"},
		"/100%25of":                     {"100%of"}, // "%of" is no escape
		"/users('x@y')/m;v=1":           {"users('x@y')", "m;v=1"},
		"/a/...":                        {"a", "..."},
		"/a/.hidden/x..y":               {"a", ".hidden", "x..y"},
		"/a/{id}|^`\"":                  {"a", "{id}|^`\""},
		"/drive/root:/docs/a:/x":        {"drive", "root:", "docs", "a:", "x"},
		"/a/%25/2f":                     {"a", "%", "2f"}, // the sign and the digits are in two segments
		"/%F0%9F%98%80":                 {"😀"},
		"/" + strings.Repeat("a/", 500): slices.Repeat([]string{"a"}, 500),
	} {
		p, err := routes.ParsePath(escaped)
		if err != nil {
			t.Errorf("ParsePath(%q) = %v, want its segments", escaped, err)
			continue
		}
		got := slices.Collect(p.Segments())
		last := ""
		if len(want) > 0 {
			last = want[len(want)-1]
		}
		if !slices.Equal(got, want) || p.Last() != last {
			t.Errorf("ParsePath(%q) = %q, last %q, want %q", escaped, got, p.Last(), want)
		}
	}
}

func TestAmbiguousPathsAreRefusedAndNotRepeated(t *testing.T) {
	for why, paths := range map[string][]string{
		"does not begin with a slash": {"", "a", "%2fa", "*", "http://a/b", "../a"},
		"backslash":                   {`/a\b`, "/a%5cb", "/a%5Cb", `/..\x`, "/..%5c..%5cx", `/\x`},
		"control character":           {"/a\x00", "/a%00", "/a%0d%0ab", "/a%1f", "/a%7f", "/a\x7f", "/a\tb", "/a%09", "/a\r\nb", "/a b"},
		"number sign":                 {"/a#b", "/a%23b", "/%23"},
		"question mark":               {"/a?b", "/a%3fb", "/a%3F"},
		"not UTF-8":                   {"/%ff", "/\xff", "/a%c0%af", "/%c0%ae%c0%ae/x", "/%ed%a0%80", "/%e0%80%af", "/%f8%88%80%80%af", "/a%c3/%bc"},
		"escaped slash":               {"/a%2fb", "/a%2Fb", "/%2f", "/..%2fx", "/%2e%2e%2fx"},
		"escaped twice":               {"/a%252fb", "/%252e%252e/x", "/a%255cb", "/%2500", "/%25%32%66", "/%252f", "/%25%33f", "/a%25252f"},
		"escape that is none":         {"/%", "/%2", "/%zz", "/a%g0", "/a%u002f", "/%2/", "/a%", "/%%32f", "/%2%35c"},
		"empty segment":               {"//", "//a", "/a//b", "/a//", "/a/b//", "/;x=1/a", "/a/;x/b", "/a/;", "/;"},
		"dot segment":                 {"/.", "/..", "/a/./b", "/a/../b", "/a/..", "/a/.", "/../", "/%2e%2e/x", "/.%2e/x", "/%2E./x", "/a/..;/b", "/a/..;x=1/b", "/a/.;/b", "/a/..%3b/b", "/a/%2e%2e%3bx/b", "/..;a;b", "/a/%2e"},
	} {
		for _, escaped := range paths {
			_, err := routes.ParsePath(escaped)
			if err == nil || !errors.Is(err, routes.ErrPath) || !strings.Contains(err.Error(), why) {
				t.Errorf("ParsePath(%q) error = %v, want one of ErrPath that says %q", escaped, err, why)
			}
			if err != nil && strings.ContainsAny(err.Error(), "%\\#?\x00\r\n") {
				t.Errorf("ParsePath(%q) repeats the path: %v", escaped, err)
			}
		}
	}
}

func TestPatternsCoverSegmentsAndNothingBetween(t *testing.T) {
	for pattern, want := range map[string]struct{ yes, no []string }{
		"/":            {[]string{"/"}, []string{"/a"}},
		"/**":          {[]string{"/", "/a", "/a/b/c/"}, nil},
		"/users":       {[]string{"/users", "/users/"}, []string{"/", "/Users", "/usersx", "/users/a", "/a/users"}},
		"/users/":      {[]string{"/users", "/users/"}, []string{"/users/a"}},
		"/users/**":    {[]string{"/users", "/users/", "/users/a", "/users/a/b"}, []string{"/usersx", "/user", "/x/users"}},
		"/g/{id}/m":    {[]string{"/g/1/m", "/g/a%20b/m", "/g/a;b/m/"}, []string{"/g/m", "/g/1/2/m", "/g/1", "/g/1/m/x", "/g/1/M"}},
		"/g/*":         {[]string{"/g/1"}, []string{"/g", "/g/", "/g/1/2"}},
		"/*/{a}/**":    {[]string{"/1/2", "/1/2/3/4"}, []string{"/1", "/"}},
		"/v1.0/$batch": {[]string{"/v1.0/$batch", "/v1.0/%24batch", "/v1.0/%24%62atch"}, []string{"/v1.0/batch"}},
		"/a b/ü":       {[]string{"/a%20b/ü", "/a%20b/%c3%bc"}, []string{"/a+b/ü", "/a%20b/Ü"}},
	} {
		p := mustPattern(t, pattern)
		if p.String() != pattern {
			t.Errorf("ParsePattern(%q).String() = %q", pattern, p.String())
		}
		for _, path := range want.yes {
			if !p.Match(mustPath(t, path), false) {
				t.Errorf("pattern %s does not cover %s", pattern, path)
			}
		}
		for _, path := range want.no {
			if p.Match(mustPath(t, path), false) {
				t.Errorf("pattern %s covers %s", pattern, path)
			}
		}
	}
}

func TestCaseIsIgnoredAsServersIgnoreIt(t *testing.T) {
	p := mustPattern(t, "/V1.0/Users/{id}/Straße/kelvin/ÄÖ")
	for path, want := range map[string]bool{
		"/v1.0/users/X/straße/Kelvin/äö":      true,
		"/V1.0/USERS/x/STRAßE/KELVIN/Äö":      true,
		"/v1.0/users/X/strasse/kelvin/äö":     false,
		"/v1.0/users/X/straße/\u212Aelvin/äö": false, // the Kelvin sign
		"/v1.0/users/X/straße/kelvin/äöü":     false,
		"/v1.0/users/X/straße/kelvin/ä":       false,
		"/v1.0/user/X/straße/kelvin/äö":       false,
		"/v1.0/users[/X/straße/kelvin/äö":     false,
	} {
		if got := p.Match(mustPath(t, path), true); got != want {
			t.Errorf("Match(%s), case ignored = %t, want %t", path, got, want)
		}
		if p.Match(mustPath(t, path), false) {
			t.Errorf("Match(%s), case respected = true", path)
		}
	}
	for letter, other := range map[string]string{"k": "\u212A", "å": "\u212B", "ω": "\u2126", "i": "\u0130", "s": "\u017F"} {
		if mustPattern(t, "/"+letter).Match(mustPath(t, "/"+other), true) || mustPattern(t, "/"+other).Match(mustPath(t, "/"+letter), true) {
			t.Errorf("%s is taken for %s, which no server does", other, letter)
		}
	}
	// '[' is '{' but for the bit that tells the case of letters.
	if mustPattern(t, "/a[b]").Match(mustPath(t, "/a{b}"), true) || mustPattern(t, "/@").Match(mustPath(t, "/`"), true) {
		t.Error("signs are folded like letters")
	}
}

func TestPatternsThatNoPathCouldMeetAreRefused(t *testing.T) {
	for _, text := range []string{
		"", "users", "*", "**", "/a/**/b", "/**/**", "/a*", "/*a", "/a/***", "/{id", "/id}", "/{id}x", "/x{id}", "/{}", "/{a b}", "/{1}", "/a?b=c", "/a#b",
		`/a\b`, "//", "/a//b", "/a/../b", "/./a", "/a/..;x", "/a%2fb", "/%24batch", "/a\tb", "/a\x00", "/\xff", "/" + strings.Repeat("a", 2100),
	} {
		if p, err := routes.ParsePattern(text); err == nil || !errors.Is(err, routes.ErrPattern) {
			t.Errorf("ParsePattern(%q) = %v, %v, want ErrPattern", text, p, err)
		}
	}
}

// variants are spellings of one path which an upstream might take for it.
func variants(path string) []string {
	var out []string
	for i := 1; i < len(path); i++ {
		c := path[i]
		out = append(out, fmt.Sprintf("%s%%%02x%s", path[:i], c, path[i+1:]), fmt.Sprintf("%s%%%02X%s", path[:i], c, path[i+1:]),
			fmt.Sprintf("%s%%25%02x%s", path[:i], c, path[i+1:]))
		if c == '/' {
			for _, s := range []string{"//", "/./", "/x/../", `\`, "%2f", "%5c", "%252f", "/;/", ";/", "/%2e/", "/x/..;/", "/%c0%af"} {
				out = append(out, path[:i]+s+path[i+1:])
			}
		}
	}
	return append(out, path+"/", path+"/.", path+"/x/..", path+"%00", path+"%20", path+";x=1", path+"?x", path+"%3fx", path+"#x", path+"//", strings.ToUpper(path))
}

// Whatever spelling of a path is accepted is judged as what it decodes to: no
// spelling gets past a rule for one branch into another.
func TestNoSpellingOfADeniedPathIsAllowed(t *testing.T) {
	allowed := []routes.Pattern{mustPattern(t, "/public/**"), mustPattern(t, "/v1.0/users/{id}"), mustPattern(t, "/v1.0/me")}
	for _, denied := range []string{"/admin/keys", "/v1.0/users/7/messages", "/v1.0/$batch", "/public2/x"} {
		for _, spelling := range variants(denied) {
			path, err := routes.ParsePath(spelling)
			if err != nil {
				continue
			}
			for _, p := range allowed {
				if p.Match(path, false) || p.Match(path, true) {
					t.Errorf("%s passes as %s, by pattern %s", denied, spelling, p)
				}
			}
		}
	}
	for _, spelling := range []string{"/public/../admin/keys", "/public/%2e%2e/admin", "/public/..%2fadmin", "/public/..;/admin", `/public/..\admin`, "/public/%252e%252e/admin"} {
		if _, err := routes.ParsePath(spelling); err == nil {
			t.Errorf("ParsePath(%q) is accepted below an allowed branch", spelling)
		}
	}
}

func TestMatchingPathsAllocatesLittle(t *testing.T) {
	patterns := []routes.Pattern{mustPattern(t, "/v1.0/users/{id}/messages/**"), mustPattern(t, "/V1.0/groups/{id}/Members/{x}/y")}
	if n := testing.AllocsPerRun(100, func() {
		path, err := routes.ParsePath("/v1.0/Groups/7/members/8/Ü")
		if err != nil || patterns[0].Match(path, true) || patterns[1].Match(path, true) {
			t.Error("the path is misread")
		}
	}); n != 0 {
		t.Errorf("a path without escapes allocates %v times, want 0", n)
	}
}

// FuzzParsePath: what is accepted re-encodes to the same reading, in every way
// of encoding it, and holds nothing that another server could read anew.
func FuzzParsePath(f *testing.F) {
	for _, s := range append(variants("/v1.0/users/$batch"), "/", "/a%20b/ü", "/100%25", "/a;b=c/d", "/%25/2f") {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, escaped string) {
		path, err := routes.ParsePath(escaped)
		if err != nil {
			if !errors.Is(err, routes.ErrPath) {
				t.Fatalf("ParsePath(%q) error = %v", escaped, err)
			}
			return
		}
		segments := slices.Collect(path.Segments())
		var least, most strings.Builder
		for _, s := range segments {
			least.WriteString("/" + url.PathEscape(s))
			most.WriteByte('/')
			for i := range len(s) {
				fmt.Fprintf(&most, "%%%02X", s[i])
			}
			bare, _, _ := strings.Cut(s, ";")
			if bare == "" || bare == "." || bare == ".." || strings.ContainsAny(s, "/\\#?\x00\r\n\x7f") {
				t.Fatalf("ParsePath(%q) has the segment %q", escaped, s)
			}
			if again, err := url.PathUnescape(s); err == nil && again != s {
				t.Fatalf("ParsePath(%q) has the segment %q, which decodes again to %q", escaped, s, again)
			}
		}
		for _, again := range []string{least.String(), most.String(), least.String() + "/"} {
			if again == "" {
				continue
			}
			p, err := routes.ParsePath(again)
			if err != nil || !slices.Equal(slices.Collect(p.Segments()), segments) {
				t.Fatalf("ParsePath(%q) = %q, but %q, which says the same, is %v, %v", escaped, segments, again, p, err)
			}
		}
	})
}

// FuzzPattern: a pattern without placeholders covers a path exactly if that
// decodes to the pattern's own text.
func FuzzPattern(f *testing.F) {
	f.Add("/v1.0/$batch", "/v1.0/%24batch")
	f.Add("/a/**", "/a/b/../c")
	f.Add("/A b/Ü", "/a%20b/%c3%bc")
	f.Add("/x/{id}/y", "/x/%2e%2e/y")
	f.Fuzz(func(t *testing.T, text, escaped string) {
		pattern, err := routes.ParsePattern(text)
		if err != nil {
			if !errors.Is(err, routes.ErrPattern) {
				t.Fatalf("ParsePattern(%q) error = %v", text, err)
			}
			return
		}
		path, err := routes.ParsePath(escaped)
		if err != nil {
			return
		}
		exact, folded := pattern.Match(path, false), pattern.Match(path, true)
		if exact && !folded {
			t.Fatalf("%q covers %q only where case counts", text, escaped)
		}
		if strings.ContainsAny(text, "*{") {
			return
		}
		plain := "/" + strings.Join(slices.Collect(path.Segments()), "/")
		want := strings.TrimSuffix(text, "/") == strings.TrimSuffix(plain, "/")
		if exact != want || folded && !strings.EqualFold(strings.TrimSuffix(text, "/"), strings.TrimSuffix(plain, "/")) {
			t.Fatalf("%q covers %q (%q): %t, %t with case ignored", text, escaped, plain, exact, folded)
		}
	})
}

func BenchmarkParsePath(b *testing.B) {
	for name, path := range map[string]string{
		"plain":   "/v1.0/users/5f1c0f6e/messages/AAMkAD/attachments",
		"escaped": "/v1.0/users/a%40b.example/messages/%24value/attachments",
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := routes.ParsePath(path); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("match", func(b *testing.B) {
		b.ReportAllocs()
		path, pattern := mustPath(b, "/v1.0/Users/5f1c0f6e/messages/AAMkAD/attachments"), mustPattern(b, "/v1.0/users/{id}/messages/**")
		for b.Loop() {
			if !pattern.Match(path, true) {
				b.Fatal("no match")
			}
		}
	})
}

func ExampleParsePath() {
	pattern, err := routes.ParsePattern("/v1.0/users/{id}/**")
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, escaped := range []string{"/v1.0/users/a%40b.example/photo", "/v1.0/groups/7", "/v1.0/users/../groups/7"} {
		path, err := routes.ParsePath(escaped)
		fmt.Println(err == nil && pattern.Match(path, false), err)
	}
	// Output:
	// true <nil>
	// false <nil>
	// false ambiguous path: it holds a dot segment
}

func ExampleParsePattern() {
	_, err := routes.ParsePattern("/users/**/photo")
	fmt.Println(err)
	// Output: no pattern of a path: ** has its place at the end alone
}
