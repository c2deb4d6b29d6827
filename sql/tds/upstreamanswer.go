package tds

import (
	"errors"
	"fmt"
	"strconv"
)

// answer is a server's answer to LOGIN7 that is no refusal.
type answer struct {
	tokens     []Token
	packetSize int
	routing    *Routing // nil: the session is here
}

// minPacket is the least size of a packet that may be agreed on (MS-TDS 2.2.3.1.3).
const minPacket = 512

// Why an answer that is no refusal is no login either.
var (
	errNoAck     = errors.New("the server's answer has no LOGINACK")
	errNoFedAuth = errors.New("the server did not acknowledge the access token (FEDAUTH): it may not be set up for Entra logins")
	errOldServer = errors.New("the server speaks a TDS older than 7.3B")
)

// refusal is what a server said in ERROR tokens.
type refusal struct {
	errs   []*ServerError
	tokens []Token
}

func (r *refusal) Error() string { return r.errs[0].Error() }

// judge reads an answer to LOGIN7. An ERROR in it is a refusal, whatever else is
// there. Routing counts without LOGINACK too, as Azure sends it; everything
// beside it is of no meaning (MS-TDS 2.2.7.9). Success needs LOGINACK and, as
// the login was one by token, FEDAUTH acknowledged (MS-TDS 3.2.5.3).
func judge(payload []byte) (answer, error) {
	tokens, err := SplitTokens(payload)
	if err != nil {
		return answer{}, err
	}
	if refused, err := refusalOf(tokens); err != nil {
		return answer{}, err
	} else if refused != nil {
		return answer{}, refused
	}
	a := answer{tokens: tokens, packetSize: LoginPacket}
	var acked, fedAuth bool
	for _, t := range tokens {
		switch t.Type() {
		case TokenEnvChange:
			err = a.take(t)
		case TokenLoginAck:
			var ack LoginAck
			if ack, err = ParseLoginAck(t); err == nil && !AtLeast73B(ack.Version) {
				err = errOldServer
			}
			acked = true
		case TokenFeatureExtAck:
			var features []Feature
			features, err = ParseFeatureExtAck(t)
			for _, f := range features {
				fedAuth = fedAuth || f.ID == FeatureFedAuth
			}
		}
		if err != nil {
			return answer{}, err
		}
	}
	switch {
	case a.routing != nil:
		return a, nil
	case !acked:
		return answer{}, errNoAck
	case !fedAuth:
		return answer{}, errNoFedAuth
	}
	return a, nil
}

// take notes what an ENVCHANGE means for the gateway itself.
func (a *answer) take(t Token) error {
	switch envKind(t) {
	case EnvRouting, EnvEnhancedRouting:
		r, err := ParseRouting(t)
		if err != nil {
			return err
		}
		a.routing = &r
	case EnvPacketSize:
		_, value, _, err := EnvChange(t)
		if err != nil {
			return err
		}
		n, err := strconv.Atoi(UTF16(value).String())
		if err != nil || n < minPacket || n > MaxPacket {
			return errors.New("the server's packet size is none")
		}
		a.packetSize = n
	}
	return nil
}

// envKind is the type of an ENVCHANGE, 0 for any other token.
func envKind(t Token) byte {
	if t.Type() != TokenEnvChange || len(t) < 4 {
		return 0
	}
	return t[3]
}

// refusalOf returns the refusal that tokens hold, nil for none. Its tokens are
// fit to be passed on: nothing that a driver could take for a login or that
// would lead it past the gateway, and a DONE at the end.
func refusalOf(tokens []Token) (*refusal, error) {
	r := &refusal{}
	done := false
	for _, t := range tokens {
		switch t.Type() {
		case TokenError:
			e, err := ParseServerError(t)
			if err != nil {
				return nil, fmt.Errorf("ERROR: %w", err)
			}
			r.errs = append(r.errs, e)
		case TokenInfo:
		case TokenDone:
			done = true
		default:
			continue
		}
		r.tokens = append(r.tokens, t)
	}
	if len(r.errs) == 0 {
		return nil, nil
	}
	if !done {
		r.tokens = append(r.tokens, doneWithError())
	}
	return r, nil
}
