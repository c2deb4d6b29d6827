package routes

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// maxConcurrency and maxCalls bound limits: more than any machine does.
const (
	maxConcurrency = 1_000_000
	maxCalls       = 1_000_000_000
)

// limits reads the limits of a route or of a caller, which name is the section of.
func (p *parser) limits(e entry, name string) Limits {
	if !e.present() {
		return Limits{}
	}
	m := p.open(e, name)
	if len(m.items) == 0 && len(m.later) == 0 {
		p.refuse(e.at, finding{"names no limit", "add concurrency or rate, or leave it out"})
	}
	l := Limits{Concurrency: m.whole("concurrency", 0, maxConcurrency), Rate: m.rate("rate")}
	if x, ok := m.items["max_body"]; ok && !strings.EqualFold(p.scalar(x), "none") {
		l.MaxBody = m.size("max_body", 0, 1<<50)
	}
	return l
}

// whole reads a number from 1 to most; def when the key is absent.
func (m *mapping) whole(key string, def, most int) int {
	e, ok := m.items[key]
	if !ok {
		return def
	}
	n, err := strconv.Atoi(m.p.scalar(e))
	if err != nil || n < 1 || n > most {
		m.p.refuse(e.at, finding{"want a whole number", fmt.Sprintf("at least 1 and at most %d", most)})
		return def
	}
	return n
}

// rate reads calls in a second, a minute or an hour; zero when the key is absent.
func (m *mapping) rate(key string) Rate {
	e, ok := m.items[key]
	if !ok {
		return Rate{}
	}
	calls, unit, _ := strings.Cut(m.p.scalar(e), "/")
	per := map[string]time.Duration{"s": time.Second, "m": time.Minute, "h": time.Hour}[unit]
	n, err := strconv.Atoi(calls)
	if err != nil || per == 0 || n < 1 || n > maxCalls {
		m.p.refuse(e.at, finding{"want calls in a time", "write 100/s, 100/m or 100/h: per second, minute or hour"})
		return Rate{}
	}
	return Rate{Calls: n, Per: per}
}
