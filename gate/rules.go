package gate

import (
	"cmp"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/seed-13b04e61/gateway/routes"
)

// judge applies the route's rules to the call.
func (d *decision) judge() *Refusal {
	r := d.pass.Route
	if r.Allow == nil && !d.pass.bound {
		return nil
	}
	path, err := d.read.of(d.pass.Path)
	if err != nil {
		return d.pass.deny(ambiguous(err).by(r, cmp.Or(r.Lines.Allow, r.Lines.Paths)))
	}
	c := innerCall{method: d.target.Method, query: d.target.Query, path: path}
	batch, refusal := c.batch()
	batch = batch || batchField(d.target.Header)
	switch {
	case refusal != nil:
	case batch && c.graph(r):
		d.pass.Batch = true
		d.template = routes.Pattern{}
		refusal = plainJSON(d.target.Header)
	case batch && !d.namesLast(path):
		refusal = &Refusal{
			Code:   RuleDenied,
			Detail: fmt.Sprintf("a batch would bring calls past the rules of route %s, which cannot look into it", r.Name),
			Remedy: "make the calls one by one; or give the batch endpoint a route of its own, without allow, whose paths name it whole",
		}
	default:
		d.pass.Rule, d.template, refusal = c.allowedBy(r, d.plan.rules, d.template)
		if refusal == nil {
			refusal = d.sources()
		}
	}
	if refusal != nil {
		return d.pass.deny(refusal.by(r, cmp.Or(r.Lines.Allow, r.Lines.Paths)))
	}
	return nil
}

// deny returns the refusal, or notes it where the rules are only reported.
func (p *Pass) deny(refusal *Refusal) *Refusal {
	if !p.lenient() {
		return refusal
	}
	if p.Denied == "" {
		p.Denied, p.denied = refusal.Error(), refusal
	}
	return nil
}

// lenient tells whether what the rules would refuse passes. Paths decide about
// the credential, so that where they do nothing is only reported.
func (p *Pass) lenient() bool { return p.Route.Report && p.Route.Allow != nil && !p.bound }

// namesLast tells whether the route has no rules, and that of its paths which
// matched names the last segment itself: then the file means that endpoint. No
// path means what only a query or a field makes a batch.
func (d *decision) namesLast(path routes.Path) bool {
	if !batchSegment(path.Last(), d.target.Method) {
		return false
	}
	pattern := strings.TrimSuffix(d.template.String(), "/")
	last := pattern[strings.LastIndexByte(pattern, '/')+1:]
	return d.pass.Route.Allow == nil && !strings.ContainsAny(last, "*{") && strings.EqualFold(last, path.Last())
}

// innerCall is a call as rules see it: the whole one, or one within a batch.
type innerCall struct {
	method string
	query  string // raw
	path   routes.Path
}

// allowedBy returns the line of the rule that allows the call and the pattern
// that matched; matched when no rule had to.
func (c innerCall) allowedBy(r *routes.Route, rules *ruleIndex, matched routes.Pattern) (line int, template routes.Pattern, refusal *Refusal) {
	if r.Allow == nil {
		return 0, matched, nil
	}
	if refusal := c.overridden(); refusal != nil {
		return 0, matched, refusal
	}
	for at := range rules.of(c.path) {
		rule := &r.Allow[at.rule]
		switch {
		case rule.Methods != nil && !slices.Contains(rule.Methods, c.method):
		case at.pattern < 0:
			return rule.Line, routes.Pattern{}, nil
		case rule.Paths[at.pattern].Match(c.path, r.FoldPaths):
			return rule.Line, rule.Paths[at.pattern], nil
		}
	}
	otherwise, end := c.otherwise(r), r.Lines.Allow
	if n := len(r.Allow); n > 0 {
		end = r.Allow[n-1].Line
	}
	refusal = &Refusal{
		Code:   RuleDenied,
		Detail: fmt.Sprintf("no rule of route %s allows %s on this path", r.Name, inQuotes(c.method)),
		Remedy: fmt.Sprintf("if it should, add method and path to allow of the route, line %d of routes.yaml", r.Line),
		Cause:  otherwise,
	}
	refusal.ground = Ground{end, "allow ends here: " + refusal.Told()}
	return 0, matched, refusal
}

// otherwise tells the operator by which methods the path is allowed.
func (c innerCall) otherwise(r *routes.Route) string {
	var methods []string
	for i := range r.Allow {
		if r.Allow[i].Paths == nil || slices.ContainsFunc(r.Allow[i].Paths, func(p routes.Pattern) bool { return p.Match(c.path, r.FoldPaths) }) {
			methods = append(methods, r.Allow[i].Methods...)
		}
	}
	if methods == nil {
		return "no rule has the path"
	}
	slices.Sort(methods)
	return "rules have the path for " + among("method", slices.Compact(methods))
}

// inQuotes is a word of the caller's in a message: bounded, and in quotes if it
// could be mistaken.
func inQuotes(word string) string {
	if len(word) > 32 {
		word = word[:32] + "…"
	}
	if word == "" || strings.ContainsFunc(word, func(r rune) bool { return r < 'A' || r > 'Z' }) {
		return fmt.Sprintf("%q", word)
	}
	return word
}

// graph tells whether the call is the batch of Microsoft Graph, whose format is
// known: POST /v1.0/$batch or /beta/$batch, and no other spelling that servers
// might take for it.
func (c innerCall) graph(r *routes.Route) bool {
	return r.Preset == "graph" && c.method == "POST" && graphVersion(c.path) != ""
}

// graphVersion is the version whose batch endpoint a path is, or "".
func graphVersion(path routes.Path) string {
	var segments [3]string
	n := 0
	for s := range path.Segments() {
		if n == len(segments) {
			return ""
		}
		segments[n] = s
		n++
	}
	if n != 2 || !strings.EqualFold(segments[1], "$batch") {
		return ""
	}
	return versionOf(segments[0])
}

// versionOf is the version of Graph that a segment names, or "".
func versionOf(segment string) string {
	for _, version := range [...]string{"v1.0", "beta"} {
		if strings.EqualFold(segment, version) {
			return version
		}
	}
	return ""
}

// batch tells whether the call may hold others: Graph's, OData's and Azure
// DevOps' $batch, Resource Manager's batch, SharePoint's ProcessQuery, Blob
// Storage's comp=batch. A query that says two things about it is refused.
func (c innerCall) batch() (bool, *Refusal) {
	if batchSegment(c.path.Last(), c.method) {
		return true, nil
	}
	if !mayName(c.query) {
		return false, nil
	}
	comp, n, whole := parameter(c.query, "comp")
	switch {
	case n == 0:
		return false, nil
	case n > 1 || !whole:
		return false, twoReadings("comp")
	}
	return strings.EqualFold(strings.Trim(comp, blank), "batch"), nil
}

// batchField tells whether a field makes the call a batch: Cosmos DB takes a POST
// of documents for any operations then.
func batchField(header http.Header) bool {
	return slices.ContainsFunc(header["X-Ms-Cosmos-Is-Batch-Request"], func(line string) bool {
		return !strings.EqualFold(strings.Trim(line, blank), "false")
	})
}

// batchSegment looks at a last segment as lenient servers do: some cut
// parameters off, some dots and spaces at the end, some take an operation's
// parentheses.
func batchSegment(last, method string) bool {
	if i := strings.IndexAny(last, ";("); i >= 0 {
		last = last[:i]
	}
	last = strings.Trim(last, ". \t")
	switch {
	case strings.EqualFold(last, "$batch"), strings.EqualFold(last, "processquery"):
		return true
	case strings.EqualFold(last, "batch"):
		return method != "GET" && method != "HEAD"
	}
	return false
}

// overrides are parameters by which some servers take another method than that
// of the call. The header fields of that kind go no further in any case.
var overrides = [...]string{"_method", "$method", "_httpmethod", "x-http-method", "x-http-method-override", "x-method-override"}

// overridden refuses a query that names another method.
func (c innerCall) overridden() *Refusal {
	if !mayName(c.query) {
		return nil
	}
	for _, name := range overrides {
		value, n, whole := parameter(c.query, name)
		switch {
		case n == 0:
		case n > 1 || !whole:
			return twoReadings(name)
		case !strings.EqualFold(value, c.method):
			return &Refusal{
				Code:   BadRequest,
				Detail: fmt.Sprintf("the query's %s asks for another method than the call's own", name),
				Remedy: "make the call with the method that is meant",
			}
		}
	}
	return nil
}

func twoReadings(name string) *Refusal {
	return &Refusal{
		Code:   BadRequest,
		Detail: fmt.Sprintf("the query holds %s more than once, or in a spelling that servers read in two ways", name),
		Remedy: "write it once and plainly",
	}
}

// mayName tells whether a query could hold one of the parameters that matter:
// all have an "m" in their name.
func mayName(query string) bool { return strings.ContainsAny(query, "mM%") }

// blank is what some servers trim.
const blank = " \t\r\n\x00"

// parameter finds a parameter whatever the case of its name, and however often
// it is escaped. whole is false when not every server would read name and value
// like this.
func parameter(query, name string) (value string, n int, whole bool) {
	whole = true
	for piece := range strings.FieldsFuncSeq(query, func(r rune) bool { return r == '&' || r == ';' }) {
		key, v, _ := strings.Cut(piece, "=")
		plain, once := decoded(key)
		if !strings.EqualFold(strings.Trim(plain, blank), name) {
			continue
		}
		value, whole = decoded(v)
		whole = whole && once
		n++
	}
	return value, n, whole
}

// decoded is s without escapes, and whether one round made it so.
func decoded(s string) (text string, once bool) {
	if !strings.ContainsAny(s, "%+") {
		return s, true
	}
	text = unescape(s)
	for range 3 {
		if !strings.Contains(text, "%") {
			break
		}
		again := unescape(text)
		if again == text {
			return text, false // a stray percent sign
		}
		text, s = again, ""
	}
	return text, s != ""
}

// unescape decodes what escapes there are, and leaves the rest.
func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '+':
			b.WriteByte(' ')
		case s[i] == '%' && i+2 < len(s) && isHex(s[i+1]) && isHex(s[i+2]):
			b.WriteByte(unhex(s[i+1])<<4 | unhex(s[i+2]))
			i += 2
		default:
			b.WriteByte(s[i])
		}
	}
	return b.String()
}

func isHex(c byte) bool { return '0' <= c && c <= '9' || 'a' <= c|0x20 && c|0x20 <= 'f' }

func unhex(c byte) byte {
	if c <= '9' {
		return c - '0'
	}
	return c | 0x20 - 'a' + 10
}
