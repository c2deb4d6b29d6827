package admin

import (
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed-13b04e61/gateway/audit"
	"github.com/seed-13b04e61/gateway/authority"
	"github.com/seed-13b04e61/gateway/tokens"
)

const (
	// maxTallies bounds the kinds of calls that are told apart; calls of others
	// are counted together, by route. Kinds that the table of Graph knows have
	// twice the room, so that no caller's odd paths keep them out.
	maxTallies = 1024
	// maxHeld bounds the tokens whose permissions are remembered: one for each
	// credential, scope and tenant. The one got longest ago goes first.
	maxHeld = 1024
	// maxFolded bounds a folded path, in segments; maxMethod a method, in bytes.
	maxFolded, maxMethod = 8, 16
	// maxRoles and maxRole bound what is kept of a token's roles: how many, and
	// the bytes of each.
	maxRoles, maxRole = 256, 128
)

// Usage remembers which permissions credentials hold and which calls were made
// with their tokens, for [Usage.Report]. It holds no token, no path as it came
// and no query. It is safe for concurrent use, and an [audit.Recorder].
type Usage struct {
	since time.Time

	mu    sync.RWMutex      // guards what follows, but not what a tally counts
	calls map[string]*tally // by the bytes of kindOf
	held  map[heldKey]heldRoles
}

// tally counts calls of one kind.
type tally struct {
	credential, route, method, template string
	known                               *authority.GraphCall // nil: none of the table
	other                               bool                 // calls of many kinds

	served, denied, failed atomic.Int64 // below 400; 403; other
	last, lastDenied       atomic.Int64 // Unix time in ns; 0: never
}

type heldKey struct{ credential, scope, tenant string }

// heldRoles is what the newest token of a key claims.
type heldRoles struct {
	roles     []string
	principal string
	graph     bool
	opaque    bool
	at        time.Time
}

// NewUsage begins to count.
func NewUsage() *Usage {
	return &Usage{since: time.Now(), calls: map[string]*tally{}, held: map[heldKey]heldRoles{}}
}

// Held notes what t, a token got for k, claims to be permitted.
func (u *Usage) Held(k tokens.Key, t tokens.Token) {
	h := heldRoles{at: time.Now()}
	if claims, err := authority.Claims(t.Access); err != nil {
		h.opaque = true
	} else {
		h.roles, h.principal, h.graph = fit(claims.Roles), claims.Principal(), claims.Graph()
	}
	key := heldKey{k.Credential, k.Scope, strings.Clone(k.Tenant)} // it may be a part of a request line
	u.mu.Lock()
	defer u.mu.Unlock()
	if _, ok := u.held[key]; !ok && len(u.held) >= maxHeld {
		var oldest heldKey
		for k, h := range u.held {
			if first := u.held[oldest]; first.at.IsZero() || h.at.Before(first.at) {
				oldest = k
			}
		}
		delete(u.held, oldest)
	}
	u.held[key] = h
}

// fit leaves out roles that no terminal should show: a server other than Entra
// may claim anything.
func fit(roles []string) []string {
	kept := make([]string, 0, min(len(roles), maxRoles))
	for _, r := range roles {
		odd := strings.ContainsFunc(r, func(c rune) bool { return c <= ' ' || c > '~' })
		if !odd && r != "" && len(r) <= maxRole && len(kept) < maxRoles {
			kept = append(kept, r)
		}
	}
	return kept
}

// Record implements [audit.Recorder]. Calls count that the API itself answered.
func (u *Usage) Record(e *audit.Event) {
	if e.Credential == "" || e.TokenSource == "" || e.Code != "" || e.Status == 0 {
		return
	}
	var room [256]byte
	kind, known := kindOf(room[:0], e)
	u.mu.RLock()
	t := u.calls[string(kind)]
	u.mu.RUnlock()
	if t == nil {
		t = u.add(kind, known, e)
	}
	at := e.Start.UnixNano()
	t.last.Store(at)
	switch {
	case e.Status == 403:
		t.denied.Add(1)
		t.lastDenied.Store(at)
	case e.Status < 400:
		t.served.Add(1)
	default:
		t.failed.Add(1)
	}
}

// add makes a tally for the kind of e, or finds the one for all others.
func (u *Usage) add(kind []byte, known *authority.GraphCall, e *audit.Event) *tally {
	u.mu.Lock()
	defer u.mu.Unlock()
	other := len(u.calls) >= maxTallies && (known == nil || len(u.calls) >= 2*maxTallies)
	template := ""
	if other {
		kind, known = append(append(append(kind[:0], e.Credential...), 0), e.Route...), nil
	} else {
		template = string(templateOf(nil, known, e))
	}
	if t := u.calls[string(kind)]; t != nil {
		return t
	}
	t := &tally{credential: e.Credential, route: e.Route, template: template, known: known, other: other}
	if !other {
		t.method = strings.Clone(methodOf(e)) // a part of the request line would keep all of it
	}
	u.calls[string(kind)] = t
	return t
}

// kindOf appends what tells the kind of a call from others.
func kindOf(dst []byte, e *audit.Event) ([]byte, *authority.GraphCall) {
	dst = append(append(dst, e.Credential...), 0)
	dst = append(append(dst, e.Route...), 0)
	dst = append(append(dst, methodOf(e)...), 0)
	known, _ := authority.FindGraphCall(e.Method, e.APIPath)
	return templateOf(dst, known, e), known
}

func methodOf(e *audit.Event) string {
	if len(e.Method) > maxMethod {
		return "…"
	}
	return e.Method
}

// templateOf appends the path of a call without what may name a person: the
// pattern of the table or of the rule, else its words.
func templateOf(dst []byte, known *authority.GraphCall, e *audit.Event) []byte {
	switch {
	case known != nil:
		return append(dst, known.Path...)
	case e.Template != "":
		return append(dst, e.Template...)
	}
	return fold(dst, e.APIPath)
}

// fold appends path with {id} for whatever may be one: kept are the words of
// Graph's paths, what looks like a version, and the first segment beside those.
func fold(dst []byte, path string) []byte {
	first := true
	for n := 0; path != "" && path != "/"; n++ {
		if n == maxFolded {
			return append(dst, "/…"...)
		}
		segment := path[1:]
		path = ""
		for i := range len(segment) {
			if segment[i] == '/' {
				segment, path = segment[:i], segment[i:]
				break
			}
		}
		dst = append(dst, '/')
		word, graph := authority.GraphWord(segment)
		switch {
		case isVersion(segment):
			dst = append(dst, segment...)
		case graph:
			dst, first = append(dst, word...), false
		case first && isWord(segment):
			dst, first = append(dst, segment...), false
		default:
			dst, first = append(dst, "{id}"...), false
		}
	}
	return dst
}

// isVersion knows v1, v1.0 and v12, and what stands before an API's own paths.
func isVersion(s string) bool {
	if s == "api" || s == "beta" {
		return true
	}
	if len(s) < 2 || len(s) > 6 || s[0] != 'v' {
		return false
	}
	for i := 1; i < len(s); i++ {
		if (s[i] < '0' || s[i] > '9') && s[i] != '.' {
			return false
		}
	}
	return true
}

// isWord tells whether s consists of letters, with hyphens or a $ before them.
func isWord(s string) bool {
	if s == "" || len(s) > 32 {
		return false
	}
	for i := range len(s) {
		c := s[i] | 0x20
		if (c < 'a' || c > 'z') && s[i] != '-' && (s[i] != '$' || i > 0) {
			return false
		}
	}
	return true
}
