package routes_test

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/seed-13b04e61/gateway/routes"
)

// Any file is understood or refused with places, and a secret planted between
// its two halves is in no message. Where the halves make a comment or another
// key's text of the plant, it is still masked, by its look.
func FuzzParse(f *testing.F) {
	archives, _ := filepath.Glob("testdata/*.txtar")
	for i, name := range archives {
		archive, err := txtar.ParseFile(name)
		if err != nil {
			f.Fatal(err)
		}
		for _, part := range archive.Files {
			if part.Name == "routes.yaml" {
				f.Add(strings.ReplaceAll(string(part.Data), marker, "hidden"), "    client_id: x\n", uint8(i))
			}
		}
	}
	f.Fuzz(func(t *testing.T, before, after string, form uint8) {
		// The input must not hold the plant itself; no key of the file has a q.
		before, after = strings.ReplaceAll(before, "q", "p"), strings.ReplaceAll(after, "q", "p")
		forms, places := secretForms(), secretPlaces()
		planted := forms[int(form)%len(forms)]
		elsewhere := strings.Replace(places[int(form)%len(places)], "%s", planted, 1)
		for _, src := range []string{before + after, before + "\ncredentials:\n  a:\n    client_secret: " + planted + "\n" + after, elsewhere + after} {
			table, err := routes.Parse("routes.yaml", []byte(src), func(name string) (string, bool) { return "v" + name, len(name)%2 == 0 })
			if (table == nil) == (err == nil) {
				t.Fatalf("Parse(%q) = %v, %v", src, table, err)
			}
			if table != nil {
				for _, w := range table.Warnings {
					check(t, src, w)
				}
				continue
			}
			var ms routes.Mistakes
			if !errors.As(err, &ms) || len(ms) == 0 {
				t.Fatalf("Parse(%q) error = %v, want Mistakes", src, err)
			}
			for _, m := range ms {
				check(t, src, m)
			}
		}
	})
}

func check(t *testing.T, src string, m routes.Mistake) {
	t.Helper()
	if m.Line <= 0 || m.Column <= 0 || m.Message == "" || m.Remedy == "" {
		t.Fatalf("Parse(%q): incomplete mistake %+v", src, m)
	}
	if text := m.Error(); strings.Contains(text, marker) {
		t.Fatalf("Parse(%q) repeats the secret:\n%s", src, text)
	}
	if strings.ContainsFunc(m.Error(), func(r rune) bool { return r < ' ' && r != '\n' || r == 0x7f }) {
		t.Fatalf("Parse(%q): control character in %q", src, m.Error())
	}
}
