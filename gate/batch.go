package gate

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/textproto"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/seed-13b04e61/gateway/audit"
	"github.com/seed-13b04e61/gateway/routes"
)

// Bounds of a batch: Graph's own for the calls, the gateway's for the rest.
const (
	maxBatch      = 4 << 20 // bytes
	maxBatchCalls = 20
	maxBatchID    = 256 // bytes
	maxBatchURL   = 32 << 10
	maxMethod     = 32
)

// AdmitBatch judges the body of a call that p has passed with Batch set: a
// batch of Microsoft Graph in JSON, whose calls must each be what p's route
// would pass to the same caller. It returns what to send instead: the calls as
// they were understood, written anew, so that the server reads what was judged.
//
// The batch is read strictly: its members have one spelling and stand once,
// others are refused, as are absolute URLs, batches in batches, and fields that
// would change what a call is or whose. Bodies of the calls are kept as they
// are. One bad call refuses the batch; the error, a [*Refusal], names its id.
//
// With mode report, what the rules would refuse is noted in the event of ctx
// alone, and a body that cannot be read is returned as it is.
func (g *Gate) AdmitBatch(ctx context.Context, p Pass, caller *routes.Caller, body []byte) ([]byte, error) {
	b := batch{gate: g, pass: &p, who: g.recognise(caller), event: audit.From(ctx)}
	refusal := b.judge(body)
	b.event.WouldDeny = p.Denied
	if refusal != nil {
		return nil, refusal
	}
	if b.calls == nil {
		return body, nil
	}
	b.event.Rule = b.line
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	if err := e.Encode(batchBody{b.calls}); err != nil {
		return nil, &Refusal{Code: BadRequest, Detail: "the batch cannot be written anew", Cause: err.Error(),
			Remedy: "make the calls one by one"}
	}
	return bytes.TrimSuffix(out.Bytes(), []byte("\n")), nil
}

// batch is one on its way through the gate.
type batch struct {
	gate  *Gate
	pass  *Pass
	who   ordinal
	event *audit.Event
	calls []batchCall // nil: the body was not understood
	line  int         // of the rule that allowed all of them; 0 when there were several
}

func (b *batch) judge(body []byte) *Refusal {
	calls, err := readBatch(body)
	if err != nil {
		return b.pass.deny(&Refusal{
			Code:   BadRequest,
			Detail: "the batch cannot be judged: " + err.Error(),
			Remedy: "write it as the documentation of Microsoft Graph has it, or make the calls one by one",
		})
	}
	version := ""
	if path, err := routes.ParsePath(b.pass.Path); err == nil {
		version = graphVersion(path)
	}
	if version == "" {
		return &Refusal{Code: BadRequest, Detail: "this path is no batch endpoint of Microsoft Graph",
			Remedy: "send batches to /v1.0/$batch or /beta/$batch"}
	}
	b.calls = calls
	for i := range calls {
		line, refusal := b.call(version, &calls[i])
		if refusal != nil {
			refusal.Detail = fmt.Sprintf("request %q of the batch: %s", cut(calls[i].ID), refusal.Detail)
			if refusal = b.pass.deny(refusal); refusal != nil {
				return refusal
			}
		}
		if i == 0 {
			b.line = line
		} else if line != b.line {
			b.line = 0
		}
	}
	return nil
}

// call judges one call as if it had come alone.
func (b *batch) call(version string, in *batchCall) (line int, refusal *Refusal) {
	bad := func(detail string) (int, *Refusal) {
		return 0, &Refusal{Code: BadRequest, Detail: detail, Remedy: "make this call by itself, outside of the batch"}
	}
	if why := b.badField(in.Headers); why != "" {
		return bad(why)
	}
	relative, query, _ := strings.Cut(in.URL, "?")
	switch {
	case scheme(relative):
		return bad("its url is absolute")
	case strings.Contains(query, "#"):
		return bad("its url has a fragment")
	}
	escaped := "/" + version + "/" + strings.TrimPrefix(relative, "/")
	path, err := routes.ParsePath(escaped)
	if err != nil {
		return 0, ambiguous(err)
	}
	c := innerCall{method: in.Method, query: query, path: path}
	nested, refusal := c.batch()
	switch {
	case versioned(path):
		return bad("its url names a version, which is the batch's")
	case refusal != nil:
		return 0, refusal
	case nested:
		return bad("it is a batch itself")
	}
	if refusal := b.sameRoute(escaped); refusal != nil {
		return 0, refusal
	}
	line, _, refusal = c.allowedBy(b.pass.Route, b.gate.plan(b.pass.Route).rules, routes.Pattern{})
	return line, refusal
}

// versioned tells whether what follows the batch's version names one again: no
// resource of Graph has such a name, and a lenient server might take it.
func versioned(path routes.Path) bool {
	n := 0
	for s := range path.Segments() {
		if n++; n == 2 {
			return versionOf(s) != ""
		}
	}
	return false
}

// sameRoute sees that the call, had it come alone, would have taken the route
// whose token the batch gets: rules of another one are not passed by.
func (b *batch) sameRoute(escaped string) *Refusal {
	own, path := b.pass.Route, b.pass.stripped+escaped
	alone := decision{gate: b.gate, who: b.who, target: Target{Door: audit.Forward, Authority: b.pass.Authority, Path: path}}
	if b.pass.mounted {
		if _, fits, _ := alone.fits(own, path); fits {
			return nil
		}
	} else if refusal := alone.match(); refusal != nil {
		alone.pass.Route = nil
	}
	if alone.pass.Route == own {
		return nil
	}
	other := ""
	if alone.pass.Route != nil {
		other = "it would take route " + alone.pass.Route.Name
	}
	return &Refusal{
		Code:   RuleDenied,
		Detail: fmt.Sprintf("route %s does not hold its path", own.Name),
		Remedy: "make this call by itself, outside of the batch",
		Cause:  other,
	}
}

// scheme tells whether a URL begins with one, or with what a lenient server
// might take for it.
func scheme(url string) bool {
	colon := strings.IndexByte(url, ':')
	return colon >= 0 && !strings.Contains(url[:colon], "/")
}

// badField says which field of an inner call is refused: it would tell another
// host, path, method or identity than what was judged, or is the gateway's.
func (b *batch) badField(fields map[string]string) string {
	r := b.pass.Route
	for name, value := range fields {
		canonical := textproto.CanonicalMIMEHeaderKey(strings.ReplaceAll(name, "_", "-"))
		switch {
		case !token(name):
			return "one of its headers has a name that is none"
		case strings.ContainsFunc(value, func(c rune) bool { return c < ' ' && c != '\t' || c == 0x7f }):
			return "its header " + canonical + " holds a control character"
		case foreign(canonical), canonical == r.Inject.Header, r.Second != nil && canonical == r.Second.Header, r.Tenant != nil && canonical == r.Tenant.Header:
			return "its header " + canonical + " is not for a caller to set"
		}
	}
	return ""
}

// foreign are the fields that no call of a batch may have. Names are canonical.
func foreign(name string) bool {
	switch name {
	case "Authorization", "Host", "X-Host", "Forwarded", "X-Method-Override", "X-Rewrite-Url",
		"Connection", "Transfer-Encoding", "Upgrade", "Te", "Trailer":
		return true
	}
	return slices.ContainsFunc([]string{"Proxy-", "Gateway-", "X-Gateway-", "X-Forwarded-", "X-Original-", "X-Http-Method", "X-Ms-Client-Principal", "X-Ms-Token-"},
		func(prefix string) bool { return strings.HasPrefix(name, prefix) })
}

// token tells whether s is one of RFC 9110 §5.6.2.
func token(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(c rune) bool {
		return c <= ' ' || c >= 0x7f || strings.ContainsRune(`"(),/:;<=>?@[\]{}`, c)
	})
}

// plainJSON refuses the header of a batch that a server would read otherwise
// than as JSON in UTF-8. nil is that of a call that nobody makes.
func plainJSON(header http.Header) *Refusal {
	if header == nil {
		return nil
	}
	lines := header["Content-Type"]
	kind, params, err := "", map[string]string(nil), error(nil)
	if len(lines) == 1 {
		kind, params, err = mime.ParseMediaType(lines[0])
	}
	charset, named := params["charset"]
	if err != nil || kind != "application/json" || named && !strings.EqualFold(charset, "utf-8") {
		return &Refusal{
			Code:   BadRequest,
			Detail: "the rules of this route judge batches in JSON and UTF-8 alone",
			Remedy: "send the batch with the field Content-Type: application/json, once",
		}
	}
	return nil
}

// cut bounds an id in a message.
func cut(id string) string {
	if len(id) > 64 {
		return strings.ToValidUTF8(id[:64], "") + "…"
	}
	return id
}

// batchBody and batchCall are what is sent on.
type batchBody struct {
	Requests []batchCall `json:"requests"`
}

type batchCall struct {
	ID        string            `json:"id"`
	DependsOn []string          `json:"dependsOn,omitempty"`
	Method    string            `json:"method"`
	URL       string            `json:"url"`
	Headers   map[string]string `json:"headers,omitempty"`
	Body      json.RawMessage   `json:"body,omitempty"`
}

// readBatch understands a batch, or says what is wrong with it.
func readBatch(body []byte) ([]batchCall, error) {
	switch {
	case len(body) > maxBatch:
		return nil, fmt.Errorf("it is larger than %d bytes", maxBatch)
	case !utf8.Valid(body): // what a lenient decoder makes of it might end a string
		return nil, errors.New("it is not UTF-8")
	case !json.Valid(body): // Decoder.Token alone lets some of it pass
		return nil, errors.New("it is not JSON")
	}
	w := walker{json.NewDecoder(bytes.NewReader(body))}
	var calls []batchCall
	err := w.object(func(name string) error {
		if name != "requests" {
			return unknownMember(name)
		}
		return w.array(func() error {
			if len(calls) == maxBatchCalls {
				return fmt.Errorf("it holds more than %d requests", maxBatchCalls)
			}
			c, err := w.call()
			if err != nil {
				return fmt.Errorf("request %d: %w", len(calls)+1, err)
			}
			calls = append(calls, c)
			return nil
		})
	})
	if err != nil {
		return nil, err
	}
	if len(calls) == 0 {
		return nil, errors.New("it holds no requests")
	}
	return calls, checkIDs(calls)
}

// checkIDs sees that each id stands once, and that nothing depends on others.
func checkIDs(calls []batchCall) error {
	known := map[string]bool{}
	for _, c := range calls {
		if known[c.ID] {
			return fmt.Errorf("the id %q stands twice", cut(c.ID))
		}
		known[c.ID] = true
	}
	for _, c := range calls {
		for _, id := range c.DependsOn {
			if !known[id] || id == c.ID {
				return fmt.Errorf("request %q depends on %q, which is no other request", cut(c.ID), cut(id))
			}
		}
	}
	return nil
}

func unknownMember(name string) error {
	return fmt.Errorf("the member %q is not known here; upper and lower case matter", cut(name))
}

// walker reads JSON by token, so that nothing is taken twice or by another name.
type walker struct{ dec *json.Decoder }

// call reads one call of a batch.
func (w walker) call() (c batchCall, err error) {
	err = w.object(func(name string) (err error) {
		switch name {
		case "id":
			c.ID, err = w.text(maxBatchID)
		case "method":
			c.Method, err = w.text(maxMethod)
		case "url":
			c.URL, err = w.text(maxBatchURL)
		case "headers":
			c.Headers, err = w.headers()
		case "dependsOn":
			err = w.array(func() error {
				id, err := w.text(maxBatchID)
				c.DependsOn = append(c.DependsOn, id)
				return err
			})
		case "body":
			return w.dec.Decode(&c.Body)
		default:
			return unknownMember(name)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		return nil
	})
	switch {
	case err != nil:
	case c.ID == "", c.URL == "":
		err = errors.New("id and url are needed")
	case !token(c.Method):
		err = errors.New("method is none")
	case strings.ContainsFunc(c.URL, func(r rune) bool { return r < ' ' || r == 0x7f || r == '\\' || r == utf8.RuneError }):
		err = errors.New("url holds what no URL may")
	case len(c.DependsOn) > maxBatchCalls:
		err = errors.New("dependsOn is longer than a batch")
	}
	return c, err
}

// headers reads the fields of a call. Their names differ by more than case.
func (w walker) headers() (map[string]string, error) {
	fields, seen := map[string]string{}, map[string]bool{}
	err := w.object(func(name string) error {
		lower := strings.ToLower(name)
		if seen[lower] {
			return fmt.Errorf("%q stands twice", cut(name))
		}
		seen[lower] = true
		value, err := w.text(maxBatchURL)
		fields[name] = value
		return err
	})
	return fields, err
}

// object calls each for every member, with its name, to read the value.
func (w walker) object(each func(name string) error) error {
	if t, err := w.dec.Token(); err != nil || t != json.Delim('{') {
		return errors.New("an object is needed here")
	}
	seen := map[string]bool{}
	for w.dec.More() {
		t, err := w.dec.Token()
		if err != nil {
			return err
		}
		name, _ := t.(string)
		if seen[name] {
			return fmt.Errorf("the member %q stands twice", cut(name))
		}
		seen[name] = true
		if err := each(name); err != nil {
			return err
		}
	}
	return w.end()
}

// array calls each for every element, to read it.
func (w walker) array(each func() error) error {
	if t, err := w.dec.Token(); err != nil || t != json.Delim('[') {
		return errors.New("a list is needed here")
	}
	for w.dec.More() {
		if err := each(); err != nil {
			return err
		}
	}
	return w.end()
}

// end reads the end of an object or a list, which is there: the JSON is valid.
func (w walker) end() error {
	_, err := w.dec.Token()
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}

func (w walker) text(limit int) (string, error) {
	t, err := w.dec.Token()
	s, ok := t.(string)
	switch {
	case err != nil || !ok:
		return "", errors.New("text is needed here")
	case len(s) > limit:
		return "", fmt.Errorf("it is longer than %d bytes", limit)
	}
	return s, nil
}
