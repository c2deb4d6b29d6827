package gate

import (
	"math"
	"net/netip"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/time/rate"
)

const (
	// failureBurst bad credentials of one source are answered at once, and then
	// one each failurePace.
	failureBurst = 10
	failurePace  = time.Second
	// failureSources bounds the memory: the source that failed longest ago is
	// forgotten first.
	failureSources = 65536
)

// source is whose failures are counted together: an IPv4 address, an IPv6 /64,
// which is what one subscriber has, or a local user.
type source struct {
	prefix   netip.Addr
	uid      uint32
	attested bool
}

// sourceOf asks the kernel for local peers only, whose address they all share.
func sourceOf(e *Evidence) source {
	addr := e.Source.Unmap().WithZone("")
	if !addr.IsValid() || addr.IsLoopback() {
		if e.UID != nil {
			if uid, err := e.UID(); err == nil {
				return source{uid: uid, attested: true}
			}
		}
		return source{prefix: addr}
	}
	if addr.Is6() {
		if p, err := addr.Prefix(64); err == nil {
			addr = p.Addr()
		}
	}
	return source{prefix: addr}
}

// failures holds off those who guess. Successes are not counted.
type failures struct {
	sources *lru.Cache[source, *rate.Limiter]
}

func newFailures() *failures {
	sources, err := lru.New[source, *rate.Limiter](failureSources)
	if err != nil {
		panic(err) // of a size below one alone
	}
	return &failures{sources: sources}
}

// wait is how long s is held off, in whole seconds; 0 when it is not.
func (f *failures) wait(s source) time.Duration {
	l, ok := f.sources.Peek(s)
	if !ok {
		return 0
	}
	return pause(l, time.Now())
}

// count notes a failure, and returns how long s is held off for it; 0 when the
// failure was within bounds.
func (f *failures) count(s source) time.Duration {
	fresh := rate.NewLimiter(rate.Every(failurePace), failureBurst)
	l, ok, _ := f.sources.PeekOrAdd(s, fresh)
	if ok {
		f.sources.Get(s) // it failed last
	} else {
		l = fresh
	}
	now := time.Now()
	if l.AllowN(now, 1) {
		return 0
	}
	return max(pause(l, now), time.Second)
}

func pause(l *rate.Limiter, now time.Time) time.Duration {
	missing := 1 - l.TokensAt(now)
	if missing <= 0 {
		return 0
	}
	return time.Duration(math.Ceil(missing*failurePace.Seconds())) * time.Second
}
