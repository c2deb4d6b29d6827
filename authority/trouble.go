package authority

import (
	"context"
	"errors"
	"time"

	"github.com/seed-13b04e61/gateway/tokens"
)

// Trouble is why a call got no token, in words that every door can use. Detail
// is fit for callers; Cause and Remedy are for the operator.
type Trouble struct {
	Refused bool // someone has to mend it; else it is for now
	Late    bool // the token did not arrive before the call's own deadline

	Detail, Cause, Remedy string
	AADSTS                int
	CorrelationID         string
	Wait                  time.Duration // before it makes sense to try again; 0 when Refused or Late
}

// Explain puts the error of a [tokens.Store] into words.
func Explain(err error) Trouble {
	var answer *Error
	var held *tokens.Unavailable
	t := Trouble{Cause: err.Error(), Remedy: "see whether the token endpoint answers: gateway check --live"}
	if !errors.As(err, &held) && errors.Is(err, context.DeadlineExceeded) {
		t.Late, t.Detail = true, "the token did not arrive in time"
		return t
	}
	t.Detail = "the token endpoint cannot be reached or does not answer"
	if errors.As(err, &answer) {
		t.Detail, t.Cause = answer.Error(), answer.Error()
		t.AADSTS, t.CorrelationID = answer.AADSTS, answer.CorrelationID
		if answer.Detail != "" {
			t.Cause += "; " + answer.Detail
		}
		if answer.Remedy != "" {
			t.Remedy = answer.Remedy
		}
		if answer.Refused() {
			t.Refused = true
			return t
		}
	}
	t.Wait = time.Second
	if held != nil {
		t.Wait = max(time.Second, time.Until(held.Until))
	}
	return t
}
