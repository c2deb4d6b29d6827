package authority

import (
	_ "embed"
	"slices"
	"strings"
	"sync"

	"github.com/seed-13b04e61/gateway/routes"
)

// GraphApp is the application ID of Microsoft Graph, in every tenant and cloud.
const GraphApp = "00000003-0000-0000-c000-000000000000"

// GraphCall is which application permissions (roles) Microsoft documents for a
// call to Graph v1.0. It is for an operator's eyes: no decision rests on it.
type GraphCall struct {
	Method string
	Path   string   // "/v1.0/users/{id}"
	Roles  []string // any one does; the least comes first
}

// Held is the first of the call's roles that is among roles, or "".
func (c *GraphCall) Held(roles []string) string {
	for _, r := range c.Roles {
		if slices.Contains(roles, r) {
			return r
		}
	}
	return ""
}

// FindGraphCall knows a few dozen common calls. path is escaped and without a
// query. Nothing is known of beta. It is safe for concurrent use, and a call
// that is found costs no allocation.
func FindGraphCall(method, path string) (*GraphCall, bool) {
	if !strings.HasPrefix(path, "/v1.0/") {
		return nil, false
	}
	call := graph().paths.find(method, strings.TrimSuffix(path[1:], "/"))
	return call, call != nil
}

// GraphRoleID is the app role ID of a permission of Graph that occurs in a
// [GraphCall], or "". The zero GUID stands for none.
func GraphRoleID(role string) string { return graph().ids[role] }

// GraphWord tells whether segment is a literal one of the paths of a
// [GraphCall], in any case, so that it names nobody. The answer is how Graph
// spells it.
func GraphWord(segment string) (word string, ok bool) {
	var lower [longestWord]byte
	word, ok = graph().words[string(lowered(lower[:0], segment))]
	return word, ok
}

// Graph tells whether the token is for Microsoft Graph, in whatever cloud.
func (i Inspected) Graph() bool {
	return slices.ContainsFunc(i.Audience, func(aud string) bool {
		switch strings.TrimSuffix(aud, "/") {
		case GraphApp, "https://graph.microsoft.com", "https://graph.microsoft.us", "https://dod-graph.microsoft.us",
			"https://microsoftgraph.chinacloudapi.cn":
			return true
		}
		return false
	})
}

// GrantGraph says how an administrator gives c's application a permission of
// Graph that [GraphRoleID] knows. principal is the oid of its tokens, or "".
func GrantGraph(c *routes.Credential, principal, role string) string {
	id := GraphRoleID(role)
	if c.ClientID == "" || c.ManagedIdentity != nil {
		if principal == "" {
			principal = "of the managed identity"
		}
		return "give the principal " + principal + " the app role " + role + " (" + id + ") of Microsoft Graph, by an appRoleAssignment; the platform keeps its tokens for up to a day"
	}
	return "az ad app permission add --id " + c.ClientID + " --api " + GraphApp + " --api-permissions " + id +
		"=Role, then an administrator consents: az ad app permission admin-consent --id " + c.ClientID + ", then gateway purge --credential " + c.Name
}

//go:embed graph_roles.txt
var graphRoles string

// longestWord bounds the literal segments of the table's paths.
const longestWord = 40

// graphTable is graph_roles.txt.
type graphTable struct {
	paths *graphNode
	ids   map[string]string // app role IDs by permission
	words map[string]string // literal segments by their lower case
}

// graphNode is what follows a path's beginning.
type graphNode struct {
	words map[string]*graphNode // by segment, in lower case
	id    *graphNode            // for any other segment; nil: there is none
	calls map[string]*GraphCall // that end here, by method
}

// graph reads the table once.
var graph = sync.OnceValue(func() *graphTable {
	t := &graphTable{paths: &graphNode{}, ids: map[string]string{}, words: map[string]string{}}
	for line := range strings.Lines(graphRoles) {
		fields := strings.Fields(line)
		switch {
		case len(fields) == 0 || fields[0] == "#":
		case len(fields) == 2:
			t.ids[fields[0]] = fields[1]
		default:
			t.add(&GraphCall{Method: fields[0], Path: fields[1], Roles: fields[2:]})
		}
	}
	return t
})

func (t *graphTable) add(c *GraphCall) {
	n := t.paths
	for segment := range strings.SplitSeq(c.Path[1:], "/") {
		if segment == "{id}" {
			if n.id == nil {
				n.id = &graphNode{}
			}
			n = n.id
			continue
		}
		lower := strings.ToLower(segment)
		t.words[lower] = segment
		if n.words == nil {
			n.words = map[string]*graphNode{}
		}
		if n.words[lower] == nil {
			n.words[lower] = &graphNode{}
		}
		n = n.words[lower]
	}
	if n.calls == nil {
		n.calls = map[string]*GraphCall{}
	}
	n.calls[c.Method] = c
}

// find prefers literal segments, and takes them in any case, as Graph does.
func (n *graphNode) find(method, rest string) *GraphCall {
	segment, after, more := strings.Cut(rest, "/")
	var lower [longestWord]byte
	for _, next := range [...]*graphNode{n.words[string(lowered(lower[:0], segment))], n.id} {
		switch {
		case next == nil || segment == "" || next == n.id && !plainID(segment):
		case !more:
			if call := next.calls[method]; call != nil {
				return call
			}
		default:
			if call := next.find(method, after); call != nil {
				return call
			}
		}
	}
	return nil
}

// plainID tells whether a segment is one entity's ID: $count and the like,
// functions, and paths of files after a colon are other calls.
func plainID(segment string) bool {
	return segment[0] != '$' && segment[0] != '%' && !strings.ContainsAny(segment, "(:")
}

// lowered appends segment in lower case, or nothing if it is too long for a
// word.
func lowered(dst []byte, segment string) []byte {
	if len(segment) > longestWord {
		return dst
	}
	for i := range len(segment) {
		b := segment[i]
		if 'A' <= b && b <= 'Z' {
			b += 'a' - 'A'
		}
		dst = append(dst, b)
	}
	return dst
}
