package gate

import (
	"fmt"
	"net/url"
	"strings"

	"github.com/seed-13b04e61/gateway/routes"
)

// sourceFields are those of Azure Storage by which a call to one path reads
// another of the same account, or takes it away (Copy Blob, Put Blob From URL,
// Path - Create), with the method that does so by itself.
var sourceFields = [...]struct{ name, method string }{
	{"X-Ms-Copy-Source", "GET"},
	{"X-Ms-Rename-Source", "DELETE"},
}

// sources judges the paths that fields name beside the call's own, as if they
// had been called: rules of paths would be passed by otherwise.
func (d *decision) sources() *Refusal {
	for _, field := range sourceFields {
		lines := d.target.Header[field.name]
		if len(lines) == 0 {
			continue
		}
		if len(lines) > 1 {
			return &Refusal{Code: BadRequest, Detail: "the field " + field.name + " stands there more than once", Remedy: "send it once"}
		}
		if refusal := d.source(lines[0], field.method); refusal != nil {
			refusal.Detail = fmt.Sprintf("the field %s: %s", field.name, refusal.Detail)
			return refusal
		}
	}
	return nil
}

// source judges one of them: a URL, or a path of this account. What lies in
// another account is not reached with this route's token.
func (d *decision) source(value, method string) *Refusal {
	unreadable := &Refusal{Code: BadRequest, Detail: "what it names cannot be judged", Remedy: "name a plain URL, or a plain path"}
	if strings.ContainsAny(value, "#\\") {
		return unreadable
	}
	if !strings.HasPrefix(value, "/") {
		u, err := url.Parse(value)
		if err != nil || u.User != nil {
			return unreadable
		}
		a, err := routes.ParseAuthority(u.Host, 443)
		if err != nil {
			return unreadable
		}
		if account(a.Host) != account(d.pass.Authority.Host) {
			return nil
		}
		_, value, _ = strings.Cut(value, "://")
		slash := strings.IndexByte(value, '/')
		if slash < 0 {
			return unreadable
		}
		value = value[slash:]
	}
	escaped, query, _ := strings.Cut(value, "?")
	path, err := routes.ParsePath(escaped)
	if err != nil {
		return ambiguous(err)
	}
	if refusal := (&batch{gate: d.gate, pass: &d.pass, who: d.who}).sameRoute(escaped); refusal != nil {
		refusal.Remedy = "name what the route's paths hold"
		return refusal
	}
	c := innerCall{method: method, query: query, path: path}
	_, _, refusal := c.allowedBy(d.pass.Route, d.plan.rules, routes.Pattern{})
	return refusal
}

// account is the first label of a host: Azure Storage has one account's blobs,
// files and tables under several suffixes.
func account(host string) string {
	label, _, _ := strings.Cut(host, ".")
	return strings.TrimSuffix(label, "-secondary")
}
