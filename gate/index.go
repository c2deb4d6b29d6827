package gate

import (
	"iter"
	"strings"
	"unicode/utf8"

	"github.com/seed-13b04e61/gateway/routes"
)

// ruleIndex finds the patterns of a route's rules that may hold a path, by what
// its first segments are. Those alone are asked; one that it did not find would
// refuse a call, and allow none. nil finds nothing.
type ruleIndex struct {
	always        []candidate // those that begin with a wildcard, or all of a few
	first, second map[uint64][]candidate
}

// candidate is a pattern of a rule, by their positions; pattern is negative for
// a rule without patterns.
type candidate struct{ rule, pattern int }

// before tells the order of the file.
func (c candidate) before(other candidate) bool {
	return c.rule < other.rule || c.rule == other.rule && c.pattern < other.pattern
}

// fewPatterns are asked one by one as fast as they are looked up.
const fewPatterns = 16

func newRuleIndex(rules []routes.Rule) *ruleIndex {
	n := 0
	for i := range rules {
		n += len(rules[i].Paths)
	}
	x := &ruleIndex{first: map[uint64][]candidate{}, second: map[uint64][]candidate{}}
	for i := range rules {
		if rules[i].Paths == nil {
			x.always = append(x.always, candidate{i, -1})
		}
		for j, p := range rules[i].Paths {
			one, two, literals := begins(p)
			switch {
			case n <= fewPatterns || literals == 0:
				x.always = append(x.always, candidate{i, j})
			case literals == 1:
				x.first[one] = append(x.first[one], candidate{i, j})
			default:
				x.second[two] = append(x.second[two], candidate{i, j})
			}
		}
	}
	return x
}

// of yields the candidates for a path, in the order of the file.
func (x *ruleIndex) of(path routes.Path) iter.Seq[candidate] {
	return func(yield func(candidate) bool) {
		if x == nil {
			return
		}
		lists := [3][]candidate{x.always}
		if len(x.first)+len(x.second) > 0 {
			one, two := keys(path)
			lists[1], lists[2] = x.first[one], x.second[two]
		}
		for {
			next := -1
			for i, list := range lists {
				if len(list) > 0 && (next < 0 || list[0].before(lists[next][0])) {
					next = i
				}
			}
			if next < 0 || !yield(lists[next][0]) {
				return
			}
			lists[next] = lists[next][1:]
		}
	}
}

// begins is the key of the pattern's first segment and of its first two, as far
// as these stand for themselves: so many, two at most. Other letters than those
// of ASCII are left to the pattern to compare.
func begins(p routes.Pattern) (one, two uint64, literals int) {
	rest := strings.Trim(p.String(), "/")
	for literals < 2 && rest != "" {
		var segment string
		segment, rest, _ = strings.Cut(rest, "/")
		if strings.ContainsAny(segment, "*{") || strings.ContainsFunc(segment, func(r rune) bool { return r >= utf8.RuneSelf }) {
			break
		}
		if literals == 0 {
			one = keyOf(0, segment)
		} else {
			two = keyOf(one, segment)
		}
		literals++
	}
	return one, two, literals
}

// keys are those of a path.
func keys(path routes.Path) (one, two uint64) {
	n := 0
	for segment := range path.Segments() {
		if n++; n == 1 {
			one = keyOf(0, segment)
			continue
		}
		return one, keyOf(one, segment)
	}
	return one, 0
}

// keyOf adds a segment, whatever its case, to the key of those before (FNV-1a).
// Two that have one key by chance cost a comparison.
func keyOf(before uint64, segment string) uint64 {
	h := before ^ 0xcbf29ce484222325
	for i := range len(segment) {
		c := segment[i]
		if 'A' <= c && c <= 'Z' {
			c |= 0x20
		}
		h = (h ^ uint64(c)) * 0x100000001b3
	}
	return h
}
