package tds

import "bytes"

// Rewrite is the answer as a client may see it: its own TDS version in LOGINACK,
// no FEDAUTH it did not ask for, no routing, no mirroring partner, which it would
// turn to past the gateway.
func (u *Upstream) Rewrite(login *Login) []Token {
	out := make([]Token, 0, len(u.Answer))
	for _, t := range u.Answer {
		switch t.Type() {
		case TokenLoginAck:
			if login.Version != u.Version {
				t = WithVersion(t, login.Version)
			}
		case TokenFeatureExtAck:
			t = withoutOurs(t, login)
		case TokenEnvChange:
			switch envKind(t) {
			case EnvRouting, EnvEnhancedRouting, EnvMirror:
				continue
			}
		}
		if t != nil {
			out = append(out, t)
		}
	}
	return out
}

// withoutOurs takes the acknowledgement of what the gateway added out of a
// FEATUREEXTACK, as one that a client did not ask for is fatal to it; nil if
// nothing is left. To a client that sent a token of its own it stays, with
// nothing in it. DNS caching was never asked for.
func withoutOurs(t Token, login *Login) Token {
	features, err := ParseFeatureExtAck(t)
	if err != nil {
		return nil // judged before; what cannot be read is not passed on
	}
	_, asked := login.Feature(FeatureFedAuth)
	var kept []Feature
	for _, f := range features {
		switch {
		case f.ID == FeatureDNSCaching, f.ID == FeatureFedAuth && !asked:
			continue
		case f.ID == FeatureFedAuth:
			f.Data = nil
		}
		kept = append(kept, f)
	}
	if len(kept) == 0 {
		return nil
	}
	return BuildFeatureExtAck(kept)
}

// Fits tells whether a session that began on u can go on on v: the same packet
// size, protocol, collation and acknowledged features, in each of which a driver
// goes by what it read first. Two features differ from login to login without
// harm: FEDAUTH's data, which no client sees, and the state of session recovery,
// which the client replaces as it goes.
func (u *Upstream) Fits(v *Upstream) bool {
	if u.PacketSize != v.PacketSize || u.Version != v.Version || u.MARS != v.MARS {
		return false
	}
	a, b := termsOf(u.Answer), termsOf(v.Answer)
	if a.version != b.version || !bytes.Equal(a.collation, b.collation) || len(a.features) != len(b.features) {
		return false
	}
	for id, data := range a.features {
		other, ok := b.features[id]
		if !ok || !bytes.Equal(data, other) {
			return false
		}
	}
	return true
}

// terms are what a driver goes by for the whole session.
type terms struct {
	version   uint32
	collation []byte
	features  map[byte][]byte // FEDAUTH left out, session recovery without data
}

func termsOf(answer []Token) terms {
	out := terms{features: map[byte][]byte{}}
	for _, t := range answer {
		switch t.Type() {
		case TokenLoginAck:
			if ack, err := ParseLoginAck(t); err == nil {
				out.version = ack.Version
			}
		case TokenEnvChange:
			if envKind(t) == EnvCollation {
				_, out.collation, _, _ = EnvChange(t)
			}
		case TokenFeatureExtAck:
			features, _ := ParseFeatureExtAck(t)
			for _, f := range features {
				switch f.ID {
				case FeatureFedAuth:
				case FeatureSessionRecovery:
					out.features[f.ID] = nil
				default:
					out.features[f.ID] = f.Data
				}
			}
		}
	}
	return out
}
