package authority_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-13b04e61/gateway/authority"
	"github.com/seed-13b04e61/gateway/tokens"
)

func TestExplainTellsWhatHasToBeMendedFromWhatPasses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const look = "see whether the token endpoint answers: gateway check --live"
		refused := &authority.Error{Credential: "default", Entra: true, Status: 401, Code: "invalid_client", AADSTS: 7000222,
			CorrelationID: "c-1", Hint: "the secret has expired", Remedy: "rotate it", Detail: "for tenant contoso", Nature: tokens.Refused}
		throttled := &authority.Error{Credential: "default", Host: "login.test", Nature: tokens.Throttled, RetryAfter: 7 * time.Second}
		for _, test := range []struct {
			name string
			err  error
			want authority.Trouble
		}{
			{"refused", &tokens.Unavailable{Err: refused}, authority.Trouble{Refused: true, AADSTS: 7000222, CorrelationID: "c-1", Remedy: "rotate it",
				Detail: `credential "default": Entra refused: the secret has expired (AADSTS7000222, invalid_client)`,
				Cause:  `credential "default": Entra refused: the secret has expired (AADSTS7000222, invalid_client); for tenant contoso`}},
			{"throttled", &tokens.Unavailable{Err: throttled, Until: time.Now().Add(7 * time.Second)}, authority.Trouble{Wait: 7 * time.Second, Remedy: look,
				Detail: `credential "default": login.test asks for 7s of quiet`, Cause: `credential "default": login.test asks for 7s of quiet`}},
			{"an outage", &tokens.Unavailable{Err: context.DeadlineExceeded}, authority.Trouble{Wait: time.Second, Remedy: look,
				Detail: "the token endpoint cannot be reached or does not answer", Cause: `no token for scope "" with credential "": context deadline exceeded`}},
			{"the call's own deadline", fmt.Errorf("token: %w", context.DeadlineExceeded), authority.Trouble{Late: true, Remedy: look,
				Detail: "the token did not arrive in time", Cause: "token: context deadline exceeded"}},
			{"anything else", errors.New("odd"), authority.Trouble{Wait: time.Second, Remedy: look,
				Detail: "the token endpoint cannot be reached or does not answer", Cause: "odd"}},
		} {
			if got := authority.Explain(test.err); got != test.want {
				t.Errorf("%s: Explain = %+v\nwant %+v", test.name, got, test.want)
			}
		}
	})
}
