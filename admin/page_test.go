package admin_test

import (
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/seed-13b04e61/gateway/admin"
)

// pageFiles reads the files of the live page from their folder, by name.
func pageFiles(t *testing.T) map[string]string {
	t.Helper()
	entries, err := os.ReadDir("page")
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for _, e := range entries {
		content, err := os.ReadFile(filepath.Join("page", e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		files[e.Name()] = string(content)
	}
	if len(files) < 5 {
		t.Fatalf("the page has %d files, want its markup, style, icon and scripts", len(files))
	}
	return files
}

// pageGet asks the page for one path.
func pageGet(t *testing.T, path string, header http.Header) *http.Response {
	t.Helper()
	w := httptest.NewRecorder()
	r := httptest.NewRequest("GET", path, nil)
	r.Header = header
	admin.Page().ServeHTTP(w, r)
	return w.Result()
}

func TestEveryFileOfThePageIsServedUnderAStrictPolicy(t *testing.T) {
	kinds := map[string]string{".html": "text/html; charset=utf-8", ".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}
	for name, want := range pageFiles(t) {
		path := "/page/" + name
		if name == "index.html" {
			path = "/"
		}
		resp := pageGet(t, path, http.Header{})
		body, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != 200 || string(body) != want {
			t.Errorf("GET %s = %d with %d bytes (%v), want 200 and the %d of the file", path, resp.StatusCode, len(body), err, len(want))
		}
		for field, value := range map[string]string{
			"Content-Type":                 kinds[filepath.Ext(name)],
			"Content-Security-Policy":      "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
			"X-Content-Type-Options":       "nosniff",
			"X-Frame-Options":              "DENY",
			"Referrer-Policy":              "no-referrer",
			"Cross-Origin-Opener-Policy":   "same-origin",
			"Cross-Origin-Resource-Policy": "same-origin",
			"Cache-Control":                "no-cache",
		} {
			if got := resp.Header.Get(field); got != value {
				t.Errorf("GET %s: %s = %q, want %q", path, field, got, value)
			}
		}
		again := pageGet(t, path, http.Header{"If-None-Match": {resp.Header.Get("ETag")}})
		if again.StatusCode != http.StatusNotModified {
			t.Errorf("GET %s a second time = %d, want 304", path, again.StatusCode)
		}
	}
}

func TestPageServesNothingElse(t *testing.T) {
	for path, want := range map[string]int{"/page/": 404, "/page/none.js": 404, "/page/index.html": 404, "/page/..%2fadmin.go": 404, "/other": 404} {
		if got := pageGet(t, path, http.Header{}).StatusCode; got != want {
			t.Errorf("GET %s = %d, want %d", path, got, want)
		}
	}
	w := httptest.NewRecorder()
	admin.Page().ServeHTTP(w, httptest.NewRequest("POST", "/", nil))
	if w.Code != http.StatusMethodNotAllowed {
		t.Errorf("POST / = %d, want 405", w.Code)
	}
}

// The page holds nothing that is to be guarded; what it asks for is.
func TestPageIsOpenAndItsDataIsNot(t *testing.T) {
	l := serve(t, &steered{key: "k"}, "tcp", "127.0.0.1:0")
	for _, path := range []string{"/", "/page/main.js"} {
		if got, _, _ := ask(t, l, "GET", path, fields("Authorization", "Bearer wrong", "Sec-Fetch-Site", "none")); got != 200 {
			t.Errorf("GET %s = %d, want 200", path, got)
		}
	}
	asked := regexp.MustCompile(`"(api/[a-z]+)`)
	paths := map[string]bool{}
	for _, content := range pageFiles(t) {
		for _, m := range asked.FindAllStringSubmatch(content, -1) {
			paths["/"+m[1]] = true
		}
	}
	if len(paths) < 7 {
		t.Fatalf("the page asks for %v; the pattern of this test no longer finds all", paths)
	}
	for path := range paths {
		if got, _, _ := ask(t, l, "GET", path, fields("Authorization", "Bearer wrong")); got != 401 {
			t.Errorf("GET %s with a wrong key = %d, want 401", path, got)
		}
		if got, _, _ := ask(t, l, "GET", path, fields("Authorization", "Bearer k", "Sec-Fetch-Site", "cross-site")); got != 403 {
			t.Errorf("GET %s by another page = %d, want 403", path, got)
		}
	}
	w := httptest.NewRecorder()
	admin.New(&steered{}, http.NotFoundHandler(), func(string) {}).HealthServer().Handler.ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
	if w.Code != 404 {
		t.Errorf("the health listener answers GET / with %d, want 404", w.Code)
	}
}

// What the files name must be there, and what is there must be named.
func TestFilesOfThePageNameEachOther(t *testing.T) {
	files := pageFiles(t)
	references := regexp.MustCompile(`(?:href|src)="page/([^"]+)"|from "\./([^"]+)"|import "\./([^"]+)"|url\(([^)]+)\)`)
	named := map[string]bool{"index.html": true}
	for name, content := range files {
		for _, m := range references.FindAllStringSubmatch(content, -1) {
			to := strings.Join(m[1:], "")
			named[to] = true
			if _, ok := files[to]; !ok {
				t.Errorf("%s names %s, which the page does not have", name, to)
			}
		}
	}
	for name := range files {
		if !named[name] {
			t.Errorf("nothing names %s", name)
		}
	}
}

// The policy would block these, or they would undo it.
func TestPageHasNothingInlineAndNothingFromOutside(t *testing.T) {
	markup := map[string]string{
		"an inline handler":      `(?i)<[^>]*\son[a-z]+\s*=`,
		"an inline style":        `(?i)<[^>]*\sstyle\s*=|<style`,
		"an inline script":       `(?i)<script[^>]*>[^<]`,
		"a link that runs":       `(?i)javascript:`,
		"a form that is sent":    `(?i)<[^>]*\s(form)?action\s*=`,
		"an address elsewhere":   `(?i)(href|src)="(https?:)?//`,
		"a frame or an embedded": `(?i)<(iframe|object|embed|base)\b`,
	}
	scripts := map[string]string{
		"markup from text":      `innerHTML|outerHTML|insertAdjacentHTML|document\.write|createContextualFragment|DOMParser|setHTML|srcdoc`,
		"code from text":        `\beval\(|new Function|set(Timeout|Interval)\(\s*["'` + "`" + `]`,
		"an address elsewhere":  `https?://|["'` + "`" + `]//`,
		"a handler attribute":   `setAttribute\(\s*["']on|\.on[a-z]+ = `,
		"storage that outlives": `localStorage|indexedDB|document\.cookie`,
		"a style from a script": `\.style\b|cssText`,
	}
	style := map[string]string{"an address elsewhere": `https?://|url\(|@import`}
	for name, content := range pageFiles(t) {
		for what, pattern := range map[string]map[string]string{".html": markup, ".js": scripts, ".css": style}[filepath.Ext(name)] {
			if found := regexp.MustCompile(pattern).FindString(content); found != "" {
				t.Errorf("%s has %s: %s", name, what, found)
			}
		}
	}
}

// A script that asks for an element that is not there stops the whole page.
func TestScriptsFindTheElementsTheyAskFor(t *testing.T) {
	files := pageFiles(t)
	var ids []string
	for _, m := range regexp.MustCompile(`\sid="([^"]+)"`).FindAllStringSubmatch(files["index.html"], -1) {
		if slices.Contains(ids, m[1]) {
			t.Errorf("index.html has two elements %q", m[1])
		}
		ids = append(ids, m[1])
	}
	asked := 0
	for name, content := range files {
		for _, m := range regexp.MustCompile(`byId\("([^"]+)"\)`).FindAllStringSubmatch(content, -1) {
			asked++
			if !slices.Contains(ids, m[1]) {
				t.Errorf("%s asks for #%s, which index.html does not have", name, m[1])
			}
		}
	}
	for _, m := range regexp.MustCompile(`(?:for|list|aria-labelledby|aria-describedby)="([^"]+)"|href="#([^"]+)"`).FindAllStringSubmatch(files["index.html"], -1) {
		if id := m[1] + m[2]; !slices.Contains(ids, id) {
			t.Errorf("index.html refers to #%s, which it does not have", id)
		}
	}
	if asked < 20 {
		t.Errorf("the scripts ask for %d elements; the pattern of this test no longer finds them", asked)
	}
}

func TestPageCanBeUsedWithoutAMouseOrSight(t *testing.T) {
	files := pageFiles(t)
	page, style := files["index.html"], files["page.css"]
	for what, want := range map[string]string{
		"its language":              `<html lang="en">`,
		"a skip link":               `class="skip" href="#main"`,
		"a polite list":             `id="news" class="fine" aria-live="polite"`,
		"a word without JavaScript": `<noscript>`,
	} {
		if !strings.Contains(page, want) {
			t.Errorf("index.html lacks %s: %s", what, want)
		}
	}
	for _, want := range []string{"prefers-color-scheme: dark", "prefers-reduced-motion", ":focus-visible { outline: 3px"} {
		if !strings.Contains(style, want) {
			t.Errorf("page.css lacks %s", want)
		}
	}
	if tables, captions := strings.Count(page, "<table"), strings.Count(page, "<caption>"); tables == 0 || tables != captions {
		t.Errorf("%d tables have %d captions", tables, captions)
	}
	for _, m := range regexp.MustCompile(`<(input|select)[^>]*\sid="([^"]+)"`).FindAllStringSubmatch(page, -1) {
		if !strings.Contains(page, `<label for="`+m[2]+`"`) {
			t.Errorf("#%s has no label", m[2])
		}
	}
	for _, m := range regexp.MustCompile(`<th[ >][^>]*>`).FindAllString(page, -1) {
		if !strings.HasPrefix(m, "<thead") && !strings.Contains(m, `scope="col"`) {
			t.Errorf("a head without scope: %s", m)
		}
	}
}

// WCAG 2.2, 1.4.3 and 1.4.11, level AA, in both schemes.
func TestColoursHaveContrast(t *testing.T) {
	light, dark, ok := strings.Cut(pageFiles(t)["page.css"], "@media (prefers-color-scheme: dark)")
	if !ok {
		t.Fatal("page.css has no dark scheme")
	}
	for scheme, css := range map[string]string{"light": light, "dark": dark} {
		colours := map[string]float64{}
		for _, m := range regexp.MustCompile(`--([a-z]+): #([0-9a-f]{6});`).FindAllStringSubmatch(css, -1) {
			colours[m[1]] = luminance(t, m[2])
		}
		for _, ground := range []string{"ground", "panel"} {
			for ink, least := range map[string]float64{"text": 7, "quiet": 4.5, "link": 4.5, "bad": 4.5, "warn": 4.5, "good": 4.5, "edge": 3} {
				a, okA := colours[ink]
				b, okB := colours[ground]
				if got := (max(a, b) + 0.05) / (min(a, b) + 0.05); !okA || !okB || got < least {
					t.Errorf("%s: %s on %s has contrast %.2f, want %.1f", scheme, ink, ground, got, least)
				}
			}
		}
	}
}

// luminance is the relative luminance of an sRGB colour.
func luminance(t *testing.T, hex string) float64 {
	t.Helper()
	sum := 0.0
	for i, weight := range []float64{0.2126, 0.7152, 0.0722} {
		n, err := strconv.ParseUint(hex[2*i:2*i+2], 16, 8)
		if err != nil {
			t.Fatal(err)
		}
		c := float64(n) / 255
		if c <= 0.04045 {
			c /= 12.92
		} else {
			c = math.Pow((c+0.055)/1.055, 2.4)
		}
		sum += weight * c
	}
	return sum
}

// A page that is part of the binary has to stay small, and so do its pictures.
func TestPageAndItsPicturesAreSmall(t *testing.T) {
	total := 0
	for _, content := range pageFiles(t) {
		total += len(content)
	}
	if most := 96 << 10; total > most {
		t.Errorf("the page has %d bytes, want %d at most", total, most)
	}
	pictures, err := filepath.Glob("../docs/page*.png")
	if err != nil || len(pictures) == 0 {
		t.Fatalf("there are %d pictures (%v)", len(pictures), err)
	}
	text, err := os.ReadFile("../docs/page.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range pictures {
		if info, err := os.Stat(name); err != nil || info.Size() > 300_000 {
			t.Errorf("%s: %v, want 300 kB at most", name, err)
		}
		if !strings.Contains(string(text), "]("+filepath.Base(name)+")") {
			t.Errorf("docs/page.md does not show %s", name)
		}
	}
}

func ExamplePage() {
	w := httptest.NewRecorder()
	admin.Page().ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
	fmt.Println(w.Code, w.Header().Get("Content-Type"))
	// Output: 200 text/html; charset=utf-8
}
