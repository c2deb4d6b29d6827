package sandbox

import (
	"errors"
	"fmt"
	"time"
)

// errTrouble is the refusal of a name that [World.Trouble] does not know.
var errTrouble = errors.New("unknown trouble")

// clockTrouble is how far the trouble "clock" sets the World ahead.
const clockTrouble = 10 * time.Minute

// Troubles returns the names that [World.Trouble] takes.
func Troubles() []string {
	return []string{
		"expired-secret", "wrong-secret", "throttle", "outage", "revoked",
		"no-consent", "clock", "claims", "sign-in",
	}
}

// Trouble starts the trouble of that name, as the command line offers it:
//
//   - expired-secret: every secret of every app has expired (AADSTS7000222);
//   - wrong-secret: no secret is right any more (AADSTS7000215);
//   - throttle: the token endpoint answers 429 with Retry-After;
//   - outage: the token endpoint answers 503 with a page of HTML;
//   - revoked: Graph refuses every token issued so far; with none issued yet,
//     it refuses the first;
//   - no-consent: tokens carry no roles, and Graph answers them with 403
//     Authorization_RequestDenied; those issued before are revoked;
//   - clock: the World's clock, and so the Date that Entra sends, is ten
//     minutes ahead of this machine's;
//   - claims: Graph answers with a claims challenge until it has seen a token
//     that meets it;
//   - sign-in: Graph answers 302 to a sign-in page, as Azure DevOps does.
//
// They last until [World.Recover]; revoked and claims end by themselves once
// the client has done the right thing. Of those that last, one of Entra's
// takes the place of another, the rest add up.
func (w *World) Trouble(name string) error {
	switch name {
	case "expired-secret":
		w.Entra.Fail(ExpiredSecret)
	case "wrong-secret":
		w.Entra.Fail(WrongSecret)
	case "throttle":
		w.Entra.Fail(Throttle)
	case "outage":
		w.Entra.Fail(Outage)
	case "revoked":
		w.Graph.revokeUpTo(max(w.Entra.serial.Load(), 1))
	case "no-consent":
		w.Entra.Fail(NoConsent)
		w.Graph.RevokeTokens()
	case "clock":
		w.Skew(clockTrouble)
	case "claims":
		return w.Graph.RequireClaims(Challenge{Once: true})
	case "sign-in":
		w.Graph.SignIn(true)
	default:
		return fmt.Errorf("%w %q; known are %q", errTrouble, name, Troubles())
	}
	return nil
}

// Recover ends every trouble: Entra is well, Graph asks for no claims and no
// sign-in, and the clock is this machine's. Tokens without roles that are out
// there lose their worth, so that the next one has them again.
func (w *World) Recover() {
	if w.Entra.failing.end() == NoConsent {
		w.Graph.RevokeTokens()
	}
	w.Entra.Recover()
	w.Graph.RequireNothing()
	w.Graph.SignIn(false)
	w.Skew(0)
}
