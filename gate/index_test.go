package gate_test

import (
	"math/rand/v2"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/seed-13b04e61/gateway/gate"
	"github.com/seed-13b04e61/gateway/routes"
)

// A thousand rules are looked up, and a few are asked one by one: both find the
// first that holds the call, as whoever reads the file would.
func TestOfManyRulesTheFirstThatHoldsDecides(t *testing.T) {
	words := []string{"a", "A", "b", "users", "Users", "ü", "Ü", "x y", "{id}", "*"}
	r := rand.New(rand.NewPCG(1, 2))
	random := func(words []string, end bool) string {
		var b strings.Builder
		for range r.IntN(4) {
			b.WriteString("/" + words[r.IntN(len(words))])
		}
		switch {
		case end && r.IntN(4) == 0:
			b.WriteString("/**")
		case b.Len() == 0 || r.IntN(8) == 0:
			b.WriteString("/")
		}
		return b.String()
	}
	for _, n := range []int{3, 16, 17, 40, 1000} {
		for _, fold := range []bool{false, true} {
			w := ruled(t)
			api := w.route("api")
			api.Allow, api.FoldPaths = nil, fold
			for i := range n {
				rule := routes.Rule{Line: i + 1, Paths: patterns(t, random(words, true), random(words, true))}
				if r.IntN(2) == 0 {
					rule.Methods = []string{"PUT"}
				}
				if r.IntN(200) == 0 {
					rule.Methods, rule.Paths = []string{"DELETE"}, nil
				}
				api.Allow = append(api.Allow, rule)
			}
			g := gate.New(w.Table, keyed{})
			found := 0
			for range 300 {
				method := []string{"GET", "PUT", "DELETE"}[r.IntN(3)]
				escaped := (&url.URL{Path: random(words[:8], false)}).EscapedPath()
				path, err := routes.ParsePath(escaped)
				if err != nil {
					t.Fatal(err)
				}
				want := 0
				for _, rule := range api.Allow {
					of := rule.Methods == nil || slices.Contains(rule.Methods, method)
					if of && (rule.Paths == nil || slices.ContainsFunc(rule.Paths, func(p routes.Pattern) bool { return p.Match(path, fold) })) {
						want = rule.Line
						found++
						break
					}
				}
				pass, _, code := noted(t, g, onForward(t, method+" api.test"+escaped))
				if pass.Rule != want || (code == "") != (want != 0) {
					t.Errorf("of %d rules: Admit(%s %s) = %q by rule %d, want %d", n, method, escaped, code, pass.Rule, want)
				}
			}
			if found < 10 {
				t.Errorf("of %d rules only %d calls were held", n, found)
			}
		}
	}
}
