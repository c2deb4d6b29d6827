package admin

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/seed-13b04e61/gateway/audit"
)

const (
	// defaultLimit and maxLimit are how many records an answer holds, or a
	// stream begins with.
	defaultLimit = 100
	maxLimit     = 1000
)

// records are the calls or the sessions that are remembered.
type records[R any] struct {
	event  string // that a stream names them by
	latest func(limit int, keep func(*R) bool) (newestFirst []R, newest uint64)
	after  func(number uint64, limit int) (oldestFirst []R, lost uint64)
	known  func(number uint64) bool
	follow func() (wake <-chan struct{}, stop func())
	number func(*R) uint64
	show   func(*R) any
	keep   func(url.Values) (func(*R) bool, error)
}

func requests(c *audit.Calls) records[audit.Call] {
	return records[audit.Call]{
		event: "request", latest: c.Latest, after: c.After, known: c.Known, follow: c.Follow,
		number: func(c *audit.Call) uint64 { return c.Number },
		show:   func(c *audit.Call) any { return requestOf(c) },
		keep:   keptCalls,
	}
}

func sessions(s *audit.Sessions) records[audit.Login] {
	return records[audit.Login]{
		event: "session", latest: s.Latest, after: s.After, known: s.Known, follow: s.Follow,
		number: func(l *audit.Login) uint64 { return l.Number },
		show:   func(l *audit.Login) any { return sessionOf(l) },
		keep:   keptLogins,
	}
}

// keptCalls tells which calls a query asks for.
func keptCalls(q url.Values) (func(*audit.Call) bool, error) {
	if err := onlyKeys(q, "route", "caller", "status", "code", "limit"); err != nil {
		return nil, err
	}
	low, high, err := statuses(q.Get("status"))
	if err != nil {
		return nil, err
	}
	route, caller, code := q.Get("route"), q.Get("caller"), q.Get("code")
	return func(c *audit.Call) bool {
		return among(c.Route, route) && among(c.Caller, caller) && among(c.Code, code) && low <= c.Status && c.Status <= high
	}, nil
}

// keptLogins tells which records of sessions a query asks for: route is the
// door, and code the result.
func keptLogins(q url.Values) (func(*audit.Login) bool, error) {
	if err := onlyKeys(q, "route", "caller", "code", "limit"); err != nil {
		return nil, err
	}
	route, caller, code := q.Get("route"), q.Get("caller"), q.Get("code")
	return func(l *audit.Login) bool {
		return among(l.Name, route) && among(l.Caller, caller) && among(string(l.Result), code)
	}, nil
}

// among tells whether a filter, "" for none, takes value.
func among(value, filter string) bool { return filter == "" || value == filter }

// onlyKeys refuses what is no filter, which would be taken for one.
func onlyKeys(q url.Values, known ...string) error {
	for key, values := range q {
		if !slices.Contains(known, key) {
			return fmt.Errorf("there is no filter of that name; there are %s", strings.Join(known, ", "))
		}
		if len(values) > 1 {
			return fmt.Errorf("the filter %s may stand once", key)
		}
	}
	return nil
}

// statuses are those of a filter: 404, 4xx, or "" for all.
func statuses(filter string) (low, high int, err error) {
	if filter == "" {
		return 0, 999, nil
	}
	if digit, ok := strings.CutSuffix(strings.ToLower(filter), "xx"); ok && len(digit) == 1 && '1' <= digit[0] && digit[0] <= '5' {
		low = int(digit[0]-'0') * 100
		return low, low + 99, nil
	}
	n, err := strconv.Atoi(filter)
	if err != nil || n < 100 || n > 599 {
		return 0, 0, fmt.Errorf("status wants a number such as 403, or a class such as 4xx")
	}
	return n, n, nil
}

func limitOf(q url.Values) (int, error) {
	text := q.Get("limit")
	if text == "" {
		return defaultLimit, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 {
		return 0, fmt.Errorf("limit wants a number from 0 to %d", maxLimit)
	}
	return min(n, maxLimit), nil
}

// recent answers with what from remembers, newest first, or with a stream that
// begins with it, oldest first, and goes on.
func recent[R any](a *Admin, from records[R]) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		keep, err := from.keep(q)
		if err != nil {
			deny(w, http.StatusBadRequest, err.Error())
			return
		}
		limit, err := limitOf(q)
		if err != nil {
			deny(w, http.StatusBadRequest, err.Error())
			return
		}
		if r.Method == http.MethodGet && strings.Contains(r.Header.Get("Accept"), "text/event-stream") {
			stream(a, w, r, selected[R]{from, keep, limit})
			return
		}
		found, _ := from.latest(limit, keep)
		list := make([]any, 0, len(found))
		for i := range found {
			list = append(list, from.show(&found[i]))
		}
		reply(w, http.StatusOK, list)
	}
}
