package sandbox

import (
	"encoding/base64"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// Page sizes of /users: without $top, and the most that $top may ask for.
const (
	usualPage = 100
	maxPage   = 999
)

// listing is a collection as one request wants to see it.
type listing struct {
	name    string // for @odata.context
	all     []entity
	columns []string // what $select may name, and the default order of things
}

// list answers with one page: $filter, then $skiptoken and $top, then $select.
// Options that are not known here are refused, as the real service does;
// parameters without a dollar sign are ignored.
func (c *call) list(l listing) {
	q, err := url.ParseQuery(c.r.URL.RawQuery)
	if err != nil {
		c.badQuery("Invalid query.")
		return
	}
	for name := range q {
		if strings.HasPrefix(name, "$") && !slices.Contains([]string{"$top", "$skiptoken", "$select", "$filter", "$count"}, name) {
			c.badQuery("The query option '" + clip(name, 40) + "' is not supported.")
			return
		}
	}
	kept, ok := filter(l.all, q.Get("$filter"))
	if !ok {
		c.badQuery("Invalid filter clause: only eq and startswith() on one string property are supported here.")
		return
	}
	top, skip, ok := window(q, len(kept))
	if !ok {
		c.badQuery("Invalid value specified for $top or $skiptoken.")
		return
	}
	page, unknown := selected(kept[skip:min(skip+top, len(kept))], q.Get("$select"), l.columns)
	if unknown != "" {
		c.badQuery("Could not find a property named '" + clip(unknown, 60) + "'.")
		return
	}
	answer := map[string]any{"@odata.context": c.base + "/v1.0/$metadata#" + l.name, "value": page}
	if q.Get("$count") == "true" {
		answer["@odata.count"] = len(kept)
	}
	if skip+top < len(kept) {
		answer["@odata.nextLink"] = c.base + c.r.URL.EscapedPath() + "?" + nextQuery(c.r.URL.RawQuery, skip+top)
	}
	c.reply(http.StatusOK, answer)
}

func (c *call) badQuery(message string) {
	c.fail(http.StatusBadRequest, "Request_UnsupportedQuery", message)
}

// window returns the size and the beginning of the page, within n entities.
func window(q url.Values, n int) (top, skip int, ok bool) {
	top = usualPage
	if s := q.Get("$top"); s != "" {
		v, err := strconv.Atoi(s)
		if err != nil || v < 1 || v > maxPage {
			return 0, 0, false
		}
		top = v
	}
	if s := q.Get("$skiptoken"); s != "" {
		raw, err := base64.RawURLEncoding.DecodeString(s)
		v, errInt := strconv.Atoi(strings.TrimPrefix(string(raw), "skip:"))
		if err != nil || errInt != nil || v < 0 {
			return 0, 0, false
		}
		skip = min(v, n)
	}
	return top, skip, true
}

// nextQuery is raw with another $skiptoken; its other bytes stay as they were.
func nextQuery(raw string, skip int) string {
	kept := slices.DeleteFunc(strings.Split(raw, "&"), func(p string) bool {
		name, _, _ := strings.Cut(p, "=")
		name, err := url.QueryUnescape(name)
		return p == "" || (err == nil && name == "$skiptoken")
	})
	token := base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, "skip:%d", skip))
	return strings.Join(append(kept, "$skiptoken="+token), "&")
}

// filter keeps what the expression admits: startswith(name,'x') or name eq
// 'x', without regard to case, as Graph compares. An empty one admits all.
func filter(all []entity, expression string) (kept []entity, ok bool) {
	expression = strings.TrimSpace(expression)
	if expression == "" {
		return all, true
	}
	var name, literal string
	matches := strings.EqualFold
	if rest, found := strings.CutPrefix(expression, "startswith("); found && strings.HasSuffix(rest, ")") {
		name, literal, ok = strings.Cut(strings.TrimSuffix(rest, ")"), ",")
		matches = func(value, prefix string) bool {
			return strings.HasPrefix(strings.ToLower(value), strings.ToLower(prefix))
		}
	} else {
		name, literal, ok = strings.Cut(expression, " eq ")
	}
	name, literal = strings.TrimSpace(name), strings.TrimSpace(literal)
	if !ok || len(literal) < 2 || literal[0] != '\'' || literal[len(literal)-1] != '\'' || !isName(name) {
		return nil, false
	}
	// A quote within a literal is written twice (OData 4.01 ABNF, SQUOTE-in-string).
	inside := literal[1 : len(literal)-1]
	if strings.Contains(strings.ReplaceAll(inside, "''", ""), "'") {
		return nil, false
	}
	inside = strings.ReplaceAll(inside, "''", "'")
	for _, e := range all {
		if matches(e.str(name), inside) {
			kept = append(kept, e)
		}
	}
	return kept, true
}

func isName(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
	})
}

// selected returns the entities with the columns that $select names, or with
// all; unknown is the first name that is none of them.
func selected(page []entity, option string, columns []string) (out []entity, unknown string) {
	names := columns
	if option != "" {
		names = nil
		for n := range strings.SplitSeq(option, ",") {
			n = strings.TrimSpace(n)
			i := slices.IndexFunc(columns, func(c string) bool { return strings.EqualFold(c, n) })
			if i < 0 {
				return nil, n
			}
			names = append(names, columns[i])
		}
	}
	out = []entity{} // never null in JSON
	for _, e := range page {
		shown := entity{}
		for _, n := range names {
			shown[n] = e[n]
		}
		out = append(out, shown)
	}
	return out, ""
}

// one answers with a single entity under $select.
func (c *call) one(status int, e entity, l listing) {
	page, unknown := selected([]entity{e}, c.r.URL.Query().Get("$select"), l.columns)
	if unknown != "" {
		c.badQuery("Could not find a property named '" + clip(unknown, 60) + "'.")
		return
	}
	shown := entity{"@odata.context": c.base + "/v1.0/$metadata#" + l.name + "/$entity"}
	maps.Copy(shown, page[0])
	c.reply(status, shown)
}
