package main

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"unicode"

	"github.com/seed-13b04e61/gateway/routes"
)

// api is one downstream API of Microsoft.Identity.Web.
type api struct {
	name, base string
	scopes     []string
}

// downstream makes a route of each downstream API.
func downstream(all settings, cloud string) []item {
	var out []item
	used := map[string]bool{}
	for _, a := range apis(all) {
		r := a.route(cloud)
		r.rename(unused(r.label(), used))
		out = append(out, r)
	}
	return out
}

// rename gives the route a label: its name, unless the preset says as much.
func (it *item) rename(label string) {
	if label == it.label() {
		return
	}
	name := pair{key: "name", value: scalar(label)}
	if i := slices.IndexFunc(it.pairs, func(p pair) bool { return p.key == "name" }); i >= 0 {
		it.pairs[i] = name
		return
	}
	it.pairs = slices.Insert(it.pairs, 1, name)
}

// apis finds the sections with a BaseUrl, under the names that the library's
// templates and documents use.
func apis(all settings) []api {
	var out []api
	for _, key := range all.keys() {
		s := all.section(key)
		lower := strings.ToLower(key)
		switch {
		case strings.HasPrefix(lower, "downstream"), strings.HasSuffix(lower, "api"), strings.HasSuffix(lower, "apis"):
		case lower == "microsoftgraph", lower == "graph", lower == "graphbeta":
			if s.get("BaseUrl") == "" {
				s = append(s, setting{[]string{"BaseUrl"}, "https://graph.microsoft.com/v1.0"})
			}
		default:
			continue
		}
		if base := s.get("BaseUrl"); base != "" {
			out = append(out, api{key, base, s.values("Scopes")})
			continue
		}
		for _, name := range s.keys() {
			if one := s.section(name); one.get("BaseUrl") != "" {
				out = append(out, api{name, one.get("BaseUrl"), one.values("Scopes")})
			}
		}
	}
	return out
}

// route describes the API; it is commented out where something is missing.
func (a api) route(cloud string) item {
	u, err := url.Parse(a.base)
	if err != nil || u.Host == "" {
		return item{off: true, comments: []string{"The settings have the API " + a.name + " with a BaseUrl that is no URL."}, pairs: []pair{{key: "name", value: scalar(slug(a.name))}}}
	}
	it := item{comments: []string{fmt.Sprintf("The API %s, whose BaseUrl was %s://%s%s.", a.name, u.Scheme, u.Host, u.EscapedPath())}}
	host := strings.TrimSuffix(strings.ToLower(u.Host), ":443")
	if name, needsHost := presetOf(host, cloud); name != "" {
		it.pairs = []pair{{key: "preset", value: name}}
		if needsHost {
			it.pairs = append(it.pairs, pair{key: "hosts", value: list([]string{host})})
		}
		return it
	}
	scope, remark := appScope(a.scopes)
	it.pairs = []pair{{key: "name", value: scalar(slug(a.name))}, {key: "hosts", value: list([]string{host})}, {key: "scope", value: scalar(scope), comment: remark}}
	if scope == "" {
		it.off = true
		it.pairs[2].value = "api://CLIENT-ID-OF-THE-API/.default"
		it.comments = append(it.comments, "Its scopes name no API: write the audience of its tokens, and uncomment.")
	}
	if authority, err := routes.ParseAuthority(u.Host, 443); u.Scheme == "http" {
		it.off = true
		it.comments = append(it.comments, "It is plain http, over which a token never travels: write an https host, and uncomment.")
		if err == nil && authority.Loopback() {
			it.pairs = append(it.pairs, pair{key: "upstream", value: scalar("http://" + host)})
			it.comments[len(it.comments)-1] = "It is plain http on this machine: name the host as its callers know it, and uncomment."
		}
	}
	return it
}

// appScope is the scope of an app-only token for the API whose scopes these
// are, or "". Permissions of users are not asked for by name in this flow.
func appScope(scopes []string) (scope, remark string) {
	for _, s := range scopes {
		if strings.HasSuffix(s, "/.default") {
			return s, ""
		}
	}
	for _, s := range scopes {
		i := strings.LastIndex(s, "/")
		switch scheme := strings.Index(s, "://"); {
		case i < 0:
			continue
		case scheme >= 0 && i < scheme+3: // an audience without a permission
			return s + "/.default", ""
		default:
			return s[:i] + "/.default", "was " + s + ": grant the app its application permissions"
		}
	}
	return "", ""
}

// slug makes a route's name of a section's: OrdersApi becomes orders-api.
func slug(name string) string {
	var b strings.Builder
	runes := []rune(name)
	for i, r := range runes {
		ordinary := r < unicode.MaxASCII && (unicode.IsLetter(r) || unicode.IsDigit(r))
		word := i > 0 && unicode.IsUpper(r) && (unicode.IsLower(runes[i-1]) || i+1 < len(runes) && unicode.IsLower(runes[i+1]))
		if (word || !ordinary) && b.Len() > 0 && !strings.HasSuffix(b.String(), "-") {
			b.WriteByte('-')
		}
		if ordinary {
			b.WriteRune(unicode.ToLower(r))
		}
		if b.Len() >= 60 {
			break
		}
	}
	if s := strings.Trim(b.String(), "-"); s != "" {
		return s
	}
	return "api"
}
