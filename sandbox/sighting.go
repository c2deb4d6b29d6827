package sandbox

import (
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"slices"
	"strings"
	"time"
)

// maxSeen bounds the log of sightings; the older half goes when it is full.
const maxSeen = 10_000

// A Sighting is one call as Graph saw it. It never holds a token: two
// sightings with one hash used one token.
type Sighting struct {
	Time          time.Time
	Method        string
	Path          string // escaped, as on the wire
	Query         string // raw
	Host          string
	Proto         string
	Authorization string // SHA-256 of the bearer token in hex; "" if the call came bare
	ClientID      string // of a token that was accepted
	Status        int
}

// Counts sums up all sightings since the start.
type Counts struct {
	Calls        int
	Bare         int // no Authorization at all
	OK           int // 2xx
	Unauthorized int // 401
	Forbidden    int // 403
	Throttled    int // 429
}

// Seen returns the latest calls that have been answered, oldest first.
func (g *Graph) Seen() []Sighting {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.seen)
}

// Counts returns the sums over all calls that have been answered.
func (g *Graph) Counts() Counts {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.counts
}

// sight begins the record of r. What comes from outside is cut to a bound.
func (g *Graph) sight(r *http.Request) Sighting {
	path, query, _ := strings.Cut(r.RequestURI, "?")
	s := Sighting{
		Time: g.clock.now(), Method: clip(r.Method, 16), Path: clip(path, 1024), Query: clip(query, 1024),
		Host: clip(r.Host, 255), Proto: r.Proto,
	}
	if v := r.Header.Get("Authorization"); v != "" {
		_, token, _ := strings.Cut(v, " ")
		sum := sha256.Sum256([]byte(token))
		s.Authorization = hex.EncodeToString(sum[:])
	}
	return s
}

// record ends the record of a call.
func (g *Graph) record(s Sighting) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.counts.Calls++
	if s.Authorization == "" {
		g.counts.Bare++
	}
	switch {
	case s.Status >= 200 && s.Status < 300:
		g.counts.OK++
	case s.Status == http.StatusUnauthorized:
		g.counts.Unauthorized++
	case s.Status == http.StatusForbidden:
		g.counts.Forbidden++
	case s.Status == http.StatusTooManyRequests:
		g.counts.Throttled++
	}
	if len(g.seen) >= maxSeen {
		g.seen = slices.Clone(g.seen[maxSeen/2:])
	}
	g.seen = append(g.seen, s)
}
