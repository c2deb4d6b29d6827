package authority

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/seed-13b04e61/gateway/secrets"
	"github.com/seed-13b04e61/gateway/tokens"
)

const (
	// tokenLimit bounds an access token, in bytes: beyond it no server would
	// take it in a header anyway.
	tokenLimit = 64 << 10
	// defaultLifetime is that of a token whose answer states none, which
	// RFC 6749 §5.1 allows.
	defaultLifetime = 5 * time.Minute
	// longestLifetime is beyond what can be meant.
	longestLifetime = 10 * 365 * 24 * time.Hour
)

// answer is what came back, whatever it is.
type answer struct {
	status    int
	header    http.Header
	body      []byte // one byte longer than answerLimit when it was cut off
	sent      time.Time
	received  time.Time
	date      time.Time // by the server's clock; zero when it did not say
	requestID string    // as sent; "" for servers other than Entra
}

// read turns an answer into a token, or into what the endpoint meant instead.
func (id *identity) read(a answer, p proof) (tokens.Token, *Error) {
	var m members
	var err error
	if len(a.body) > answerLimit {
		err = fmt.Errorf("the answer is larger than %d bytes", answerLimit)
	} else {
		m, err = parseObject(a.body)
	}
	if a.status/100 != 2 || m.has("error") {
		return tokens.Token{}, id.refusal(a, m, p)
	}
	if err != nil {
		return tokens.Token{}, id.malformed(a, err)
	}
	token, err := m.token(a.sent)
	if err != nil {
		return tokens.Token{}, id.malformed(a, err)
	}
	return token, nil
}

// members is a JSON object's content, still encoded.
type members map[string]json.RawMessage

// parseObject reads exactly one JSON object, with no name twice: a second
// access_token would be a riddle. Errors never repeat what body holds.
func parseObject(body []byte) (members, error) {
	body = bytes.TrimSpace(bytes.TrimPrefix(body, []byte("\xef\xbb\xbf")))
	switch {
	case len(body) == 0:
		return nil, errors.New("the answer is empty")
	case body[0] == '<':
		return nil, errors.New("the answer looks like HTML")
	case body[0] != '{':
		return nil, errors.New("the answer is not a JSON object")
	case !json.Valid(body):
		return nil, errors.New("the answer is not valid JSON")
	}
	m := members{}
	dec := json.NewDecoder(bytes.NewReader(body))
	if _, err := dec.Token(); err != nil {
		return nil, errors.New("the answer is not valid JSON")
	}
	for dec.More() {
		name, err := dec.Token()
		if err != nil {
			return nil, errors.New("the answer is not valid JSON")
		}
		key, _ := name.(string) // the grammar allows nothing else here
		if _, twice := m[key]; twice {
			return nil, errors.New("the answer holds a member twice")
		}
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return nil, errors.New("the answer is not valid JSON")
		}
		m[key] = value
	}
	if _, err := dec.Token(); err != nil {
		return nil, errors.New("the answer is not valid JSON")
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("the answer goes on after its object")
	}
	return m, nil
}

// has tells whether name has a value other than null and "".
func (m members) has(name string) bool {
	v := string(m[name])
	return v != "" && v != "null" && v != `""`
}

// text returns name's value if that is a string, else "".
func (m members) text(name string) string {
	var s string
	if json.Unmarshal(m[name], &s) != nil {
		return ""
	}
	return s
}

// seconds returns a whole number of seconds, rounded towards zero, that is
// written as a number or as a string of one. ok is false when name is absent.
func (m members) seconds(name string) (n int64, ok bool, err error) {
	if v := string(m[name]); v == "" || v == "null" {
		return 0, false, nil
	}
	number := string(m[name])
	if s := m.text(name); s != "" {
		number = strings.TrimSpace(s)
	}
	// The grammar of JSON keeps out NaN, Inf and hexadecimal, which strconv takes.
	if !json.Valid([]byte(number)) {
		return 0, true, fmt.Errorf("%s is not a number", name)
	}
	f, err := strconv.ParseFloat(number, 64)
	if err != nil || f > 1<<53 || f < -(1<<53) {
		return 0, true, fmt.Errorf("%s is not a usable number", name)
	}
	return int64(f), true, nil
}

// token believes the members of a successful answer (RFC 6749 §5.1), or says
// why not. Times count from the moment of asking, so that no token is thought
// to live longer than it does.
func (m members) token(asked time.Time) (tokens.Token, error) {
	access := m.text("access_token")
	if err := checkToken(access); err != nil {
		return tokens.Token{}, err
	}
	if m.has("token_type") && !strings.EqualFold(m.text("token_type"), "bearer") {
		return tokens.Token{}, errors.New("token_type is not Bearer")
	}
	expires, err := m.expiry(asked)
	if err != nil {
		return tokens.Token{}, err
	}
	if left := expires.Sub(asked); left <= 0 || left > longestLifetime {
		return tokens.Token{}, errors.New("the token's lifetime is not positive, or beyond ten years")
	}
	t := tokens.Token{Access: secrets.New(access), Expires: expires}
	// refresh_in is advice: a senseless one is no reason to refuse a token.
	if n, ok, err := m.seconds("refresh_in"); ok && err == nil && n > 0 {
		if at := asked.Add(time.Duration(n) * time.Second); n < int64(longestLifetime/time.Second) && at.Before(expires) {
			t.RefreshAt = at
		}
	}
	return t, nil
}

// checkToken accepts a b64token of RFC 6750 §2.1, which is all that can follow
// "Bearer " in a header: no white space, no control characters.
func checkToken(access string) error {
	if access == "" {
		return errors.New("the answer holds no access_token")
	}
	if len(access) > tokenLimit {
		return fmt.Errorf("the access_token is larger than %d bytes", tokenLimit)
	}
	body := strings.TrimRight(access, "=")
	for _, c := range []byte(body) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		case strings.IndexByte("-._~+/", c) >= 0:
		default:
			return errors.New("the access_token holds a character that no bearer token may have")
		}
	}
	if body == "" {
		return errors.New("the access_token is nothing but padding")
	}
	return nil
}

// onFormats are how expires_on is met apart from Unix seconds: managed
// identities of App Service wrote the latter two.
var onFormats = [...]string{time.RFC3339, "1/2/2006 15:04:05 -07:00", "1/2/2006 3:04:05 PM -07:00"}

func (m members) expiry(asked time.Time) (time.Time, error) {
	n, ok, err := m.seconds("expires_in")
	if err != nil {
		return time.Time{}, err
	}
	if ok {
		// Bounded before it is multiplied, which could wrap around.
		if n <= 0 || n > int64(longestLifetime/time.Second) {
			return time.Time{}, errors.New("expires_in is not positive, or beyond ten years")
		}
		return asked.Add(time.Duration(n) * time.Second), nil
	}
	on := m.text("expires_on")
	for _, layout := range onFormats {
		if t, err := time.Parse(layout, on); err == nil {
			return t, nil
		}
	}
	n, ok, err = m.seconds("expires_on")
	if err != nil {
		return time.Time{}, err
	}
	if ok {
		return time.Unix(n, 0), nil
	}
	return asked.Add(defaultLifetime), nil
}
