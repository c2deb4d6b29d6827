package authority

import (
	"context"
	"net/http"
	"slices"
	"time"
)

// rereadInterval is how long a credential that was refused is not read again
// for that reason (entra.md §5.4).
const rereadInterval = 30 * time.Second

// reread returns what to try instead of id, whose proof of the time proved was
// refused, or which could not be proven then. It is another identity when the
// source holds something else by now, id itself when its prover reads the
// source for every proof, and nil when there is nothing new to show. However
// many are refused at once, the source is read once in [rereadInterval].
func (d *Directory) reread(ctx context.Context, id *identity, proved time.Time) *identity {
	h := id.history
	select {
	case h.turn <- struct{}{}:
		defer func() { <-h.turn }()
	case <-ctx.Done():
		return nil
	}
	base := d.current.Load().holding(&id.credential)
	if base == nil {
		return nil // a reload took it away
	}
	if base.usable() && base.fingerprint != id.fingerprint {
		return base // someone else who was refused has read it
	}
	now := time.Now()
	readSince := !h.read.IsZero() && !h.read.Before(proved)
	if !readSince {
		if !h.read.IsZero() && now.Sub(h.read) < rereadInterval {
			return nil
		}
		h.read = now
	}
	if id.kind == kindFederated && id.usable() {
		return id
	}
	if readSince {
		return nil
	}
	fresh, _, err := load(&base.credential, d.dialer, now)
	if err != nil || !fresh.usable() || fresh.fingerprint == base.fingerprint {
		return nil
	}
	return d.swap(base, fresh)
}

// swap puts fresh in base's place. Keys that were made for base are found to
// be fresh's: whoever holds one gets tokens by the new proof from now on,
// while those obtained by the old one stay where they are filed.
func (d *Directory) swap(base, fresh *identity) *identity {
	d.swapping.Lock()
	defer d.swapping.Unlock()
	prev := d.current.Load()
	next := *prev
	next.identities = make([]*identity, len(prev.identities))
	found := false
	for i, id := range prev.identities {
		next.identities[i] = id
		if id == base {
			fresh.succeed(base, base)
			fresh.origin, fresh.login = base.origin, base.login
			fresh.aliases = append(slices.Clone(base.aliases), base.fingerprint)
			if n := len(fresh.aliases); n > aliasLimit {
				fresh.aliases = slices.Delete(fresh.aliases, n/2, n/2+1)
			}
			next.identities[i] = fresh
			found = true
		}
	}
	if !found { // a reload came in between, and has read the source itself
		id := prev.holding(&base.credential)
		if id == nil || !id.usable() || id.fingerprint == base.fingerprint {
			return nil
		}
		return id
	}
	next.transports = make(map[trust]*http.Transport, len(prev.transports))
	for t, transport := range prev.transports {
		next.transports[t] = transport
	}
	d.connect(fresh, prev, &next)
	d.current.Store(&next)
	return fresh
}

// aliasLimit bounds the fingerprints that a credential is still known by when
// it is rotated again and again without a reload. The oldest are those of
// routes, which keep their keys until a reload, the latest those of calls under
// way: what is in between goes first.
const aliasLimit = 64
