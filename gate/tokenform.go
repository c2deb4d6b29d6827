package gate

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"unicode/utf8"
)

// What can be wrong with a JWT before any key is asked for.
var (
	errTokenForm = errors.New("the bearer credential has three parts and is no JWT")
	errTwice     = errors.New("the JWT names a member twice, so that readers may differ (RFC 7519 §4)")
	errCritical  = errors.New("the JWT's header has crit or b64: it wants something understood that is not")
	errType      = errors.New("the JWT's header says by typ that it was made for something else (RFC 8725 §3.11)")
	errNoIssuer  = errors.New("the JWT has no iss")
)

// tokenDepth is how deep a JWT's JSON may nest. Kubernetes has three levels.
const tokenDepth = 16

// strictBase64URL is how JWS writes bytes (RFC 7515 §2), with no stray bits.
var strictBase64URL = base64.RawURLEncoding.Strict()

// tokenHead is what counts of a JOSE header. Keys, and addresses of keys, that
// the token brings along (jwk, jku, x5c, x5u) are never looked at.
type tokenHead struct{ alg, kid string }

// readToken reads a JWT's header and its issuer, of which nothing is verified
// yet. It refuses what two readers might read in two ways.
func readToken(token string) (head tokenHead, issuer string, err error) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 || parts[2] == "" {
		return tokenHead{}, "", errTokenForm
	}
	header, err := members(parts[0])
	if err != nil {
		return tokenHead{}, "", err
	}
	claims, err := members(parts[1])
	if err != nil {
		return tokenHead{}, "", err
	}
	_, critical := header["crit"]
	_, unencoded := header["b64"]
	if critical || unencoded {
		return tokenHead{}, "", errCritical
	}
	if typ, present := header["typ"]; present && !isTokenType(typ) {
		return tokenHead{}, "", errType
	}
	alg, ok := header["alg"].(string)
	if !ok || alg == "" {
		return tokenHead{}, "", errTokenForm
	}
	kid, ok := header["kid"].(string)
	if _, present := header["kid"]; present && (!ok || kid == "") {
		return tokenHead{}, "", errTokenForm
	}
	issuer, _ = claims["iss"].(string)
	if issuer == "" {
		return tokenHead{}, "", errNoIssuer
	}
	return tokenHead{alg: alg, kid: kid}, issuer, nil
}

// isTokenType knows the types of JWTs that prove who calls: JWT itself, access
// tokens (RFC 9068 §2.1), and what SPIFFE allows (JWT-SVID §2.3).
func isTokenType(v any) bool {
	typ, _ := v.(string)
	typ = strings.TrimPrefix(lowerASCII(typ), "application/")
	return typ == "jwt" || typ == "at+jwt" || typ == "jose"
}

// members decodes one part of a JWT: a JSON object in which no name stands
// twice at any level.
func members(part string) (map[string]any, error) {
	raw, err := strictBase64URL.DecodeString(part)
	if err != nil || !utf8.Valid(raw) {
		return nil, errTokenForm
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	v, err := readValue(d, tokenDepth)
	if err != nil {
		return nil, err
	}
	object, ok := v.(map[string]any)
	if _, err := d.Token(); !ok || err != io.EOF {
		return nil, errTokenForm
	}
	return object, nil
}

// readValue reads one JSON value; encoding/json itself takes the last of two
// members of one name.
func readValue(d *json.Decoder, depth int) (any, error) {
	t, err := d.Token()
	if err != nil || depth == 0 {
		return nil, errTokenForm
	}
	switch t {
	case json.Delim('{'):
		return readObject(d, depth)
	case json.Delim('['):
		list := []any{}
		for d.More() {
			v, err := readValue(d, depth-1)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		return list, closed(d)
	}
	return t, nil
}

func readObject(d *json.Decoder, depth int) (any, error) {
	object := map[string]any{}
	for d.More() {
		t, err := d.Token()
		name, ok := t.(string)
		if err != nil || !ok {
			return nil, errTokenForm
		}
		if _, twice := object[name]; twice {
			return nil, errTwice
		}
		if object[name], err = readValue(d, depth-1); err != nil {
			return nil, err
		}
	}
	return object, closed(d)
}

// closed reads the end of an object or a list.
func closed(d *json.Decoder) error {
	if _, err := d.Token(); err != nil {
		return errTokenForm
	}
	return nil
}
