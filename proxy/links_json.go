package proxy

import (
	"bytes"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"

	"github.com/seed-13b04e61/gateway/audit"
)

// APIs of OData and ARM answer with absolute links to the next page, which would
// lead a caller of the reverse door past the gateway. With rewrite_links, a string
// in a JSON answer that begins with the upstream's own address begins with the
// gateway's instead, and the other way round in a JSON request. It is so in any
// member, since each API has names of its own. Links to other hosts stay as they
// are, so those that are authorized by themselves do, as OneDrive's uploadUrl and
// @microsoft.graph.downloadUrl; and so does what is encoded, or a part of a whole.

// relinks tells whether links in JSON are to be changed.
func (p *passage) relinks() bool {
	return p.event.Door == audit.Reverse && p.pass.Route != nil && p.pass.Route.RewriteLinks
}

// isJSON tells whether a body of these fields is JSON as it is.
func isJSON(h http.Header) bool {
	kind, _, err := mime.ParseMediaType(h.Get("Content-Type"))
	return err == nil && (kind == "application/json" || strings.HasPrefix(kind, "application/") && strings.HasSuffix(kind, "+json")) && !encoded(h)
}

// relink changes the links of an answer that [Handler.watch] was at.
func (p *passage) relink(resp *http.Response) {
	if !isJSON(resp.Header) || resp.Request.Method == http.MethodHead || bodiless(resp.StatusCode) ||
		resp.StatusCode == http.StatusPartialContent || resp.StatusCode == http.StatusSwitchingProtocols {
		return
	}
	for _, name := range []string{"Content-Md5", "Digest", "Content-Digest", "Repr-Digest", "Accept-Ranges", "Content-Length"} {
		delete(resp.Header, name)
	}
	if tag := resp.Header.Get("Etag"); strings.HasPrefix(tag, `"`) {
		resp.Header["Etag"] = []string{"W/" + tag} // the bytes are no longer those (RFC 9110 §8.8.1)
	}
	own := "https://" + hostOf(p.pass.Authority)
	from := []string{own}
	if p.pass.Authority.Port == 443 {
		from = []string{own + ":443", own}
	}
	l := newRelinker(&p.out, from, p.sentTo+p.pass.Route.Mount)
	if o := &p.out; o.lent != nil && o.err == nil { // the whole is here
		l.in, l.err = o.whole, io.EOF
		l.change()
		o.whole = l.out
		resp.ContentLength = int64(len(l.out))
		resp.Header["Content-Length"] = []string{strconv.Itoa(len(l.out))}
		return
	}
	resp.ContentLength = -1
	resp.Body = struct {
		io.Reader
		io.Closer
	}{l, &p.out}
}

// relinkRequest puts the upstream's own links in the place of the gateway's in a
// request's body. Everything after it sees the body as if it had come so: the
// judge of batches, the second try, limits. A small body is read before it is
// sent, so that its length can be told.
func (h *Handler) relinkRequest(p *passage, r *http.Request) *refusal {
	if !p.relinks() || p.in.src == nil || !isJSON(r.Header) {
		return nil
	}
	length := r.ContentLength
	p.in.src = newRelinker(p.in.src, []string{p.sentTo + p.pass.Route.Mount}, "https://"+hostOf(p.pass.Authority))
	r.ContentLength = -1
	for _, name := range []string{"Content-Md5", "Digest", "Content-Digest", "Repr-Digest", "Content-Length"} {
		delete(r.Header, name)
	}
	if p.pass.Batch || length < 0 || length > wholeBody || r.Header["Expect"] != nil || !h.budget.take(2*int(length)) {
		return nil
	}
	p.kept += 2 * int(length)
	whole, err := io.ReadAll(&p.in)
	if err != nil {
		if cut := p.in.verdict(); cut != nil {
			return cut
		}
		return &refusal{code: BadRequest, detail: "the request's body broke off", cause: err.Error(), remedy: "see whether the client or a proxy before the gateway gave up, and send it again"}
	}
	p.whole = bytes.NewReader(whole)
	r.ContentLength = int64(len(whole))
	return nil
}

// relinker reads JSON and lets the strings in it that begin with one of the
// addresses begin with another.
type relinker struct {
	src   io.Reader
	from  []string
	to    string // in which "/" is written as in what it replaces
	start []byte // of every string in question

	buffer []byte
	in     []byte // read, not decided
	out    []byte // decided, not handed out
	spare  []byte // what out is in
	odd    bool   // a backslash that escapes what follows stands before in
	err    error  // how src ended
}

const relinkBuffer = 8 << 10

// newRelinker takes addresses of the same scheme, the longer of two before the
// one that it begins with.
func newRelinker(src io.Reader, from []string, to string) *relinker {
	scheme, _, _ := strings.Cut(from[0], "/")
	return &relinker{src: src, from: from, to: to, start: []byte(`"` + scheme)}
}

// Read implements io.Reader.
func (l *relinker) Read(b []byte) (int, error) {
	for len(l.out) == 0 {
		if l.err != nil {
			return 0, l.err
		}
		if l.buffer == nil {
			l.buffer = make([]byte, relinkBuffer+4*len(l.from[0]))
		}
		kept := copy(l.buffer, l.in)
		n, err := l.src.Read(l.buffer[kept:])
		l.in, l.err, l.out = l.buffer[:kept+n], err, l.spare[:0]
		l.change()
		l.spare = l.out
	}
	n := copy(b, l.out)
	l.out = l.out[n:]
	return n, nil
}

// change decides all of in but what may yet become a link. At the end of src
// nothing may.
func (l *relinker) change() {
	for {
		i := bytes.Index(l.in, l.start)
		if i < 0 {
			n := len(l.in)
			if l.err == nil {
				n -= begun(l.in, l.start)
			}
			l.pass(n)
			return
		}
		if l.escaped(i) { // a quotation mark within a string
			l.pass(i + 1)
			continue
		}
		n, slash, more := l.match(l.in[i+1:])
		switch {
		case more && l.err == nil:
			l.pass(i)
			return
		case n == 0:
			l.pass(i + 1)
		default:
			l.pass(i + 1)
			l.out = append(l.out, strings.ReplaceAll(l.to, "/", slash)...)
			l.in, l.odd = l.in[n:], false
		}
	}
}

// pass hands out n bytes of in as they are.
func (l *relinker) pass(n int) {
	if n > 0 {
		l.odd = l.escaped(n)
		l.out, l.in = append(l.out, l.in[:n]...), l.in[n:]
	}
}

// escaped tells whether an odd number of backslashes stands before in[i].
func (l *relinker) escaped(i int) bool {
	n := 0
	for n < i && l.in[i-1-n] == '\\' {
		n++
	}
	odd := n%2 == 1
	if n == i {
		return odd != l.odd
	}
	return odd
}

// match tells how long the address is that b begins with, and how a slash is
// written in it; 0 if there is none; more if that cannot be told yet.
func (l *relinker) match(b []byte) (n int, slash string, more bool) {
	for _, from := range l.from {
		length, slash, open := begins(b, from)
		switch {
		case open:
			more = true
		case length > 0:
			return length, slash, false
		}
	}
	return 0, "", more
}

// begins tells whether b, the inside of a string, begins with address and goes
// on where an address may end. Slashes may be escaped, as some writers of JSON
// do. The case of letters counts in what is a path.
func begins(b []byte, address string) (n int, slash string, more bool) {
	slash = "/"
	path := len(address)
	if _, rest, ok := strings.Cut(address, "://"); ok {
		if i := strings.IndexByte(rest, '/'); i >= 0 {
			path -= len(rest) - i
		}
	}
	for i := range len(address) {
		if n < len(b) && address[i] == '/' && b[n] == '\\' {
			slash = `\/`
			n++
		}
		if n == len(b) {
			return 0, "", true
		}
		if b[n] != address[i] && (i >= path || lower(b[n]) != lower(address[i])) {
			return 0, "", false
		}
		n++
	}
	if n == len(b) {
		return 0, "", true
	}
	switch b[n] {
	case '/', '"', '?', '#':
		return n, slash, false
	case '\\':
		if n+1 == len(b) {
			return 0, "", true
		}
		if b[n+1] == '/' {
			return n, slash, false
		}
	}
	return 0, "", false
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		c += 'a' - 'A'
	}
	return c
}
