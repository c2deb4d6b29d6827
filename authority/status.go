package authority

import "time"

// Status is the condition of one credential, for the operator.
type Status struct {
	Name string
	Kind string // as in routes.yaml: client_secret, client_certificate, …; "" when it could not be told
	// Ready: it, or a credential that it falls back on, can be shown to the
	// token endpoint; not that it would be accepted.
	Ready  bool
	Reason string // why it is not ready by itself, or why the last good one is in use
	Remedy string

	Host        string // of the token endpoint; of the issuer, until its metadata told
	Fingerprint string
	Certificate *Leaf // nil but for client_certificate
	// Expires is when the proof does: the certificate, or the token in the
	// federated token file as it was last read. Zero when it does not, when
	// nobody can tell, as with a secret, and when each request gets its own.
	Expires time.Time

	// Fallback is the credential that is used in place of this one, since
	// Since; "" while this one is used. LastError then says why.
	Fallback string
	Since    time.Time

	LastError *Error        // of the latest acquisition by this very credential; nil after a success
	Skew      time.Duration // this clock minus the endpoint's; 0 within a minute
}

// Usable tells whether, by all that is known, a token can be had: by the
// credential itself or by the fallback in its place. That it was refused a
// token for one scope says nothing of the others.
func (s Status) Usable() bool {
	return s.Fallback != "" || s.Ready && (s.LastError == nil || !s.LastError.Refused() || s.LastError.ofScope())
}

// Status returns the condition of every credential, in the table's order. It
// reads neither files nor network.
func (d *Directory) Status() []Status {
	s := d.current.Load()
	all := make([]Status, 0, len(s.identities))
	for _, id := range s.identities {
		st := id.status()
		chain := s.chain(id)
		for _, member := range chain[1:] {
			st.Ready = st.Ready || member.status().Ready
		}
		st.Fallback, st.Since = id.history.inUse(chain)
		all = append(all, st)
	}
	return all
}

// status is that of id alone.
func (id *identity) status() Status {
	id.state.mu.Lock()
	defer id.state.mu.Unlock()
	st := Status{
		Name:        id.credential.Name,
		Kind:        id.kind,
		Ready:       id.usable(),
		Reason:      id.reason,
		Remedy:      id.remedy,
		Host:        id.host,
		Fingerprint: id.fingerprint,
		Certificate: id.leaf,
		Expires:     id.state.expires,
		LastError:   id.state.lastError,
		Skew:        id.state.skew,
	}
	if id.discovery != nil {
		st.Host = first(id.discovery.host(), st.Host)
	}
	if id.leaf != nil {
		st.Expires = id.leaf.NotAfter
	}
	if u := id.state.unproven; st.Ready && u != nil {
		st.Ready, st.Reason, st.Remedy = false, u.Hint, u.Remedy
	}
	return st
}
