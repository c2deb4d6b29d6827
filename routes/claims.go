package routes

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"
)

const (
	// maxClaims bounds assertion_claims as JSON, in bytes: an assertion
	// travels in a form, and servers bound that.
	maxClaims = 4 << 10
	// maxClaimDepth bounds how deep its lists and mappings nest.
	maxClaimDepth = 8
	// exactInteger is the number below which every whole one is a float64,
	// which is all that JSON promises (RFC 8259 §6).
	exactInteger = 1 << 53
)

// registeredClaims are those that the gateway signs itself (RFC 7519 §4.1).
func registeredClaims() []string {
	return []string{"iss", "sub", "aud", "exp", "nbf", "iat", "jti"}
}

// assertionClaims reads what is signed beside the gateway's own claims; nil
// for none.
func (p *parser) assertionClaims(m *mapping) map[string]any {
	e, ok := m.items["assertion_claims"]
	if !ok {
		return nil
	}
	order, items := p.pairs(e.value, e.at)
	if len(order) == 0 {
		return nil
	}
	if !m.has("client_certificate") && !m.has("client_key") {
		p.refuse(e.at, finding{"the gateway signs no assertion here that could hold these claims", "write client_certificate, or client_key at another server than Entra, or leave the claims out"})
	}
	out, left, bad := map[string]any{}, maxClaims, false
	for _, name := range order {
		if slices.Contains(registeredClaims(), name) {
			p.refuse(items[name].at, finding{"the gateway sets this claim itself", "leave it out; free are all but iss, sub, aud, exp, nbf, iat and jti"})
			continue
		}
		v, ok := p.claim(items[name], 1, &left)
		out[name], bad = v, bad || !ok && left >= 0
	}
	if bad {
		return nil
	}
	if b, err := json.Marshal(out); left < 0 || err != nil || len(b) > maxClaims {
		p.refuse(e.at, finding{fmt.Sprintf("the claims have more than %d bytes as JSON", maxClaims), "keep what the server needs"})
		return nil
	}
	return out
}

// claim is one value as encoding/json would decode it. It is not ok beside a
// mistake, and when no value is left, since aliases can stand for billions.
func (p *parser) claim(e entry, depth int, left *int) (v any, ok bool) {
	if *left--; *left < 0 {
		return nil, false
	}
	if depth > maxClaimDepth {
		p.breaks(e.at, finding{fmt.Sprintf("the claims nest deeper than %d levels", maxClaimDepth), "write them flatter"})
		return nil, false
	}
	switch e.value.Kind {
	case yaml.MappingNode:
		*left -= len(e.value.Content) / 2 // before they are looked at, as keys that stand twice bring no value
		out := map[string]any{}
		order, items := p.pairs(e.value, e.at)
		for _, k := range order {
			if out[k], ok = p.claim(items[k], depth+1, left); !ok {
				return nil, false
			}
		}
		return out, true
	case yaml.SequenceNode:
		out := []any{}
		for i, n := range e.value.Content {
			v, ok := p.claim(entry{at(n, fmt.Sprintf("%s[%d]", e.at.field, i)), resolve(n)}, depth+1, left)
			if !ok {
				return nil, false
			}
			out = append(out, v)
		}
		return out, true
	}
	return p.plainClaim(e, left)
}

// plainClaim is a text, a number or a boolean.
func (p *parser) plainClaim(e entry, left *int) (any, bool) {
	text := p.scalar(e)
	*left -= len(text)
	if p.broken[e.at] {
		return nil, false
	}
	switch e.value.Tag {
	case "!!bool":
		return strings.EqualFold(text, "true"), true
	case "!!int", "!!float":
		var f float64
		if err := e.value.Decode(&f); err != nil || math.IsNaN(f) || math.IsInf(f, 0) || e.value.Tag == "!!int" && math.Abs(f) >= exactInteger {
			p.breaks(e.at, finding{"this is no number that JSON can hold exactly", "write it in quotes"})
			return nil, false
		}
		return f, true
	}
	return text, true
}
