package authority

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/seed-13b04e61/gateway/tokens"
)

// retestInterval is how long a credential that was refused is left alone while
// a fallback works in its place (entra.md §1.10: a few minutes).
const retestInterval = 5 * time.Minute

// history is what is remembered of a credential over all its generations.
type history struct {
	turn chan struct{} // full while the source is read anew
	read time.Time     // when that was last begun; for whoever has the turn

	mu       sync.Mutex // guards what follows
	fallback string     // the credential in use instead; "" for none
	since    time.Time  // when it took over
	retest   time.Time  // when the credential itself is tried again
	alarmed  string     // the fallback that the alarm told of last; "" once all was well
	changed  bool       // the credential is another one than the alarm was about
}

// newHistory is empty. read is when the source was last read in vain, or zero.
func newHistory(read time.Time) *history {
	return &history{turn: make(chan struct{}, 1), read: read}
}

// forgive begins anew, as the credential is another one now: it may still have
// a token, so that nobody would ask with it for long.
func (h *history) forgive() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.fallback, h.since, h.retest, h.changed = "", time.Time{}, time.Time{}, true
}

// inUse returns the member of chain that is used in place of its first, and
// since when, or "".
func (h *history) inUse(chain []*identity) (string, time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if position(chain, h.fallback) <= 0 {
		return "", time.Time{}
	}
	return h.fallback, h.since
}

// order returns chain in the order in which to try its members: the one that
// worked last comes first, unless the credential itself is due for a test.
// Only one of many acquisitions at a time gets that order.
func (h *history) order(chain []*identity, now time.Time) []*identity {
	h.mu.Lock()
	defer h.mu.Unlock()
	at := position(chain, h.fallback)
	if at <= 0 {
		return chain
	}
	if !now.Before(h.retest) {
		h.retest = now.Add(retestInterval)
		return chain
	}
	return slices.Concat(chain[at:], chain[:at])
}

// works notes that the first of a chain works itself, and tells which fallback
// the alarm was about; "" if there was none.
func (h *history) works() (instead string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	instead = h.alarmed
	h.fallback, h.alarmed, h.since, h.retest, h.changed = "", "", time.Time{}, time.Time{}, false
	return instead
}

// replaced notes that a fallback works, and tells whether that is news. tested
// says that the first was tried just before; if it was not, and works by now,
// nothing has changed.
func (h *history) replaced(fallback string, tested bool, now time.Time) (news bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !tested && h.fallback == "" {
		return false
	}
	if h.fallback != fallback {
		h.fallback, h.since = fallback, now
	}
	if tested {
		h.retest = now.Add(retestInterval)
	}
	news = h.alarmed != fallback || h.changed
	h.alarmed, h.changed = fallback, false
	return news
}

// exhausted notes that none works, so that the next acquisition begins anew.
func (h *history) exhausted() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.fallback, h.since = "", time.Time{}
}

func position(chain []*identity, name string) int {
	return slices.IndexFunc(chain, func(id *identity) bool { return id.credential.Name == name })
}

// chain returns id and the credentials that it falls back on, in order. The
// parser lets no ring through; one would end here all the same.
func (s *snapshot) chain(id *identity) []*identity {
	chain := []*identity{id}
	for next := id.credential.Fallback; next != ""; {
		member := s.named(next)
		if member == nil || position(chain, next) >= 0 {
			break
		}
		chain = append(chain, member)
		next = member.credential.Fallback
	}
	return chain
}

// acquireFrom asks as each member of chain until one is not refused. What is
// no refusal of the credential itself, as an outage, ends the search: the next
// one would fare no better.
func (d *Directory) acquireFrom(ctx context.Context, chain []*identity, q question) (tokens.Token, *Error) {
	if len(chain) == 1 {
		return d.attempt(ctx, chain[0], q)
	}
	head := chain[0]
	var failed []*Error
	var own *Error // the first's
	for _, member := range head.order(chain, time.Now()) {
		token, e := d.attempt(ctx, member, q)
		if e == nil {
			if head.home == nil { // another tenant says nothing about this one
				d.settle(head, member, own)
			}
			return token, nil
		}
		if !e.passesOn() {
			return tokens.Token{}, e.beside(failed)
		}
		failed = append(failed, e)
		if member == head {
			own = e
		}
	}
	if head.home == nil {
		head.history.exhausted()
	}
	return tokens.Token{}, own.beside(failed)
}

// settle notes which member of head's chain works, and raises the alarm when
// that is news. refused is the error of head, nil if it was not tried.
func (d *Directory) settle(head, used *identity, refused *Error) {
	name := used.credential.Name
	finding := Finding{Credential: head.credential.Name}
	if used == head {
		instead := head.history.works()
		if instead == "" {
			return
		}
		finding.Message = fmt.Sprintf("it works again; the fallback %q is no longer used", instead)
	} else {
		if !head.history.replaced(name, refused != nil, time.Now()) {
			return
		}
		finding.Alarm = true
		finding.Message = fmt.Sprintf("the fallback %q is used in its place", name)
		finding.Remedy = "mend this credential before the fallback fails too"
		if refused != nil {
			finding.Message += ": " + refused.event()
			finding.Remedy = first(refused.Remedy, finding.Remedy)
		}
	}
	if d.alarm != nil {
		d.alarm(finding)
	}
}

// passesOn tells whether another credential may do better: this one was
// refused itself, or could not even be shown.
func (e *Error) passesOn() bool {
	if !e.Refused() || e.policy {
		return false
	}
	return e.ofCredential() || e.Status == 0
}

// beside returns e with the errors of the other members of a chain in its
// detail.
func (e *Error) beside(others []*Error) *Error {
	all := *e
	for _, other := range others {
		if other == e {
			continue
		}
		if all.Detail != "" {
			all.Detail += "\n"
		}
		all.Detail += other.Error()
	}
	return &all
}
