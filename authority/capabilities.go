package authority

import (
	"encoding/json"
)

// capability declares cp1: this client answers claims challenges, so that its
// tokens may live for a day and be revoked by one (entra.md §6.1).
const capability = `{"access_token":{"xms_cc":{"values":["cp1"]}}}`

// claimsOf returns the claims parameter of a token request: what is declared,
// with cae, and what a challenge asks for, the JSON text of an object or "".
// Where the two collide the challenge wins. Without cae the challenge goes as
// it came: nothing is declared by answering one (entra.md §6.4).
func claimsOf(cae bool, challenge string) (string, error) {
	switch {
	case !cae && challenge == "":
		return "", nil
	case challenge == "":
		return capability, nil
	}
	object := members{}
	if json.Unmarshal([]byte(challenge), &object) != nil || object == nil {
		return "", &trouble{
			what:   "the claims of the challenge are no JSON object",
			remedy: "look into the WWW-Authenticate field of the API's answer",
		}
	}
	if !cae {
		return challenge, nil
	}
	merged, err := json.Marshal(merge(json.RawMessage(capability), json.RawMessage(challenge)))
	if err != nil {
		return "", &trouble{what: "the claims of the challenge cannot be written again", cause: err}
	}
	return string(merged), nil
}

// merge lays over on base: objects member by member, anything else whole. It
// goes no deeper than base does.
func merge(base, over json.RawMessage) json.RawMessage {
	var x, y members
	if json.Unmarshal(base, &x) != nil || json.Unmarshal(over, &y) != nil || x == nil || y == nil {
		return over
	}
	for name, value := range y {
		if below, ok := x[name]; ok {
			value = merge(below, value)
		}
		x[name] = value
	}
	merged, err := json.Marshal(x)
	if err != nil { // its parts were valid JSON, so that the whole is
		return over
	}
	return merged
}
