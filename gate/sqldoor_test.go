package gate_test

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/seed-13b04e61/gateway/audit"
	"github.com/seed-13b04e61/gateway/gate"
	"github.com/seed-13b04e61/gateway/routes"
)

// viaSQL is a login from a machine elsewhere.
func viaSQL(user, password string) gate.Evidence {
	return gate.Evidence{Door: audit.SQL, Source: netip.MustParseAddr("192.0.2.7"), User: user, Password: password}
}

// local moves a login to this machine, to a process of uid.
func local(uid uint32, e gate.Evidence) gate.Evidence {
	e.Source = netip.MustParseAddr("127.0.0.1")
	e.UID = func() (uint32, error) { return uid, nil }
	return e
}

func uidCaller(name string, uid uint32) *routes.Caller { return &routes.Caller{Name: name, UID: &uid} }

func TestLoginsOfDriversAreKnownByPasswordOrByOwner(t *testing.T) {
	both := keyCaller("both", "key-3")
	uid := uint32(1003)
	both.UID = &uid
	callers := []*routes.Caller{keyCaller("reports", "key-1", "key-2"), uidCaller("backup", 1001), both}
	kernelSilent := viaSQL("sa", "any")
	kernelSilent.UID = func() (uint32, error) { return 0, gate.ErrNoPeer }
	headers := local(0, viaSQL("", ""))
	headers.Header = viaForward(basic("reports", "key-1")).Header
	for _, test := range []struct {
		name        string
		e           gate.Evidence
		caller, how string
		cause       string
		asked       bool
	}{
		{"its key", viaSQL("reports", "key-1"), "reports", "api_key", "", false},
		{"its other key", viaSQL("reports", "key-2"), "reports", "api_key", "", false},
		{"another's key", viaSQL("reports", "key-3"), "", "", `no API key of caller "reports"`, false},
		{"no password", viaSQL("reports", ""), "", "", `no API key of caller "reports"`, false},
		{"the name in another case", viaSQL("Reports", "key-1"), "", "", "no caller with an API key", false},
		{"nothing", viaSQL("", ""), "", "", "no caller with an API key", true},
		{"a key without a name", viaSQL("", "key-1"), "", "", "no caller with an API key", false},
		{"the owner, whatever the driver insists on", local(1001, viaSQL("sa", "any")), "backup", "uid", "", false},
		{"the owner, without a user", local(1001, viaSQL("", "")), "backup", "uid", "", false},
		{"the owner, by a name without keys", local(1001, viaSQL("backup", "x")), "backup", "uid", "", false},
		{"a name with keys is not the owner's to take", local(1001, viaSQL("reports", "x")), "", "", `no API key of caller "reports"`, false},
		{"a key from another's process", local(1001, viaSQL("both", "key-3")), "both", "api_key", "", false},
		{"a caller's own process with a wrong key", local(1003, viaSQL("both", "x")), "", "", `no API key of caller "both"`, false},
		{"a name without keys from elsewhere", viaSQL("backup", ""), "", "", "no caller with an API key", false},
		{"a process of nobody's", local(1002, viaSQL("sa", "any")), "", "", "uid 1002 is no caller's", false},
		{"a kernel that does not say", kernelSilent, "", "", "owner is not known", false},
		{"header fields count for nothing", headers, "", "", "no caller with an API key", true},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := identify(t, inForce(t, nil, callers...), test.e)
			if got.caller != test.caller || got.how != test.how || got.asked != test.asked {
				t.Errorf("caller %q by %q, asked %t, want %q by %q, %t", got.caller, got.how, got.asked, test.caller, test.how, test.asked)
			}
			if !strings.Contains(got.cause, test.cause) {
				t.Errorf("cause %q, want %q in it", got.cause, test.cause)
			}
			if test.caller == "" && got.code != gate.CallerUnknown {
				t.Errorf("code %q, want caller_unknown", got.code)
			}
		})
	}
}

func TestLoginsInVainAllLookAlikeToWhoeverTries(t *testing.T) {
	callers := []*routes.Caller{keyCaller("reports", "key-1")}
	var answers []string
	for _, e := range []gate.Evidence{viaSQL("reports", "secret-1"), viaSQL("nobody-knows", "secret-1"), local(7, viaSQL("", ""))} {
		got := identify(t, inForce(t, nil, callers...), e)
		answers = append(answers, got.refusal.Detail+got.refusal.Remedy)
		if all := fmt.Sprintf("%+v", *got.refusal); strings.Contains(all, "secret-1") || strings.Contains(all, "nobody-knows") {
			t.Errorf("the refusal holds what was shown: %s", all)
		}
	}
	if answers[0] != answers[1] || answers[1] != answers[2] || strings.Contains(answers[0], "reports") {
		t.Errorf("answers differ, or name a caller: %q", answers)
	}
}

func TestGuessersOfPasswordsAreHeldOffAndNobodyElseIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := inForce(t, nil, keyCaller("reports", "key-1"))
		for n := range 10 {
			user := []string{"reports", "somebody"}[n%2]
			if got := identify(t, i, viaSQL(user, "x")); got.code != gate.CallerUnknown {
				t.Fatalf("guess %d: %s, want caller_unknown", n, got.code)
			}
		}
		got := identify(t, i, viaSQL("reports", "x"))
		if got.code != gate.RateLimited || got.refusal.RetryAfter <= 0 || strings.Contains(got.refusal.Remedy, "Retry-After") {
			t.Errorf("refusal %+v, want rate_limited in words that a driver's user understands", got.refusal)
		}
		if got := identify(t, i, viaSQL("reports", "key-1")); got.caller != "reports" {
			t.Errorf("the right key of a source that guessed: %q, want it believed", got.cause)
		}
		if got := identify(t, i, from(1, viaSQL("reports", "x"))); got.code != gate.CallerUnknown {
			t.Errorf("another source: %s, want caller_unknown", got.code)
		}
	})
}

func TestCountingGuessesDoesNotTellWhoIsACaller(t *testing.T) {
	for _, password := range []string{"", "x"} {
		first := map[string]int{} // the first try that is held off, by user
		for _, user := range []string{"reports", "backup", "nobody-knows"} {
			synctest.Test(t, func(t *testing.T) {
				i := inForce(t, nil, keyCaller("reports", "key-1"), uidCaller("backup", 1001))
				for n := range 40 {
					if got := identify(t, i, viaSQL(user, password)); got.code == gate.RateLimited {
						first[user] = n
						return
					}
				}
			})
		}
		if first["reports"] != first["nobody-knows"] || first["backup"] != first["nobody-knows"] {
			t.Errorf("with password %q held off after %v tries; want the same for whoever is named", password, first)
		}
	}
}

func TestAnybodyMayLogInWhereTheTableHasNoCallers(t *testing.T) {
	i := gate.NewIdentifier(gate.IdentifierOptions{})
	if got := identify(t, i, viaSQL("sa", "x")); got.code != gate.CallerUnknown || strings.Contains(got.refusal.Remedy, "Basic") {
		t.Errorf("before any table: %+v", got.refusal)
	}
	if errs := i.Use(&routes.Table{}); errs != nil {
		t.Fatal(errs)
	}
	if got := identify(t, i, viaSQL("sa", "x")); got.refusal != nil || got.caller != "" {
		t.Errorf("with a table without callers: %+v", got)
	}
}

func TestDoorsOfDatabasesAreForTheirCallers(t *testing.T) {
	reports, billing := keyCaller("reports", "k1"), keyCaller("billing", "k2")
	c := &routes.Credential{Name: "default"}
	ours := &routes.SQL{Name: "orders", Credential: c, Scope: "https://database.windows.net//.default", Callers: []*routes.Caller{reports}}
	all := &routes.SQL{Name: "all", Credential: c, Scope: ours.Scope}
	gone := &routes.SQL{Name: "gone", Credential: c}
	table := &routes.Table{Callers: []*routes.Caller{reports, billing}, SQL: []*routes.SQL{ours, all}}
	g := gate.New(table, oneTenant{})
	open := gate.New(&routes.Table{SQL: []*routes.SQL{all}}, oneTenant{})
	for _, test := range []struct {
		name     string
		g        *gate.Gate
		d        *routes.SQL
		caller   *routes.Caller
		refusal  string // in its detail; "" for none
		operator string // in its cause
	}{
		{"its caller", g, ours, reports, "", ""},
		{"its caller, as an older table had it", g, ours, keyCaller("reports"), "", ""},
		{"its door, as an older table had it", g, &routes.SQL{Name: "orders", Credential: c}, reports, "", ""},
		{"another", g, ours, billing, "orders may not be used by caller billing", "for caller reports"},
		{"nobody", g, ours, nil, "an anonymous caller", "for caller reports"},
		{"any of the table", g, all, billing, "", ""},
		{"nobody, where any of the table may", g, all, nil, "an anonymous caller", "for named callers"},
		{"one that the table has not", g, all, keyCaller("dismissed"), "caller dismissed", ""},
		{"nobody, where there are no callers", open, all, nil, "", ""},
		{"a door that is gone", g, gone, reports, "gone is not open any more", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			ctx, event := stampable(t)
			key, err := test.g.SQL(ctx, test.d, test.caller)
			if event.Route != test.d.Name || event.Credential != "default" {
				t.Errorf("event of route %q with credential %q", event.Route, event.Credential)
			}
			if test.refusal == "" {
				if want := (oneTenant{}).Key(c, ours.Scope); err != nil || key != want || key.Credential != "default" {
					t.Errorf("SQL = %+v, %v, want %+v", key, err, want)
				}
				return
			}
			var refusal *gate.Refusal
			if !errors.As(err, &refusal) || refusal.Code != gate.CallerForbidden || !strings.Contains(refusal.Detail, test.refusal) {
				t.Fatalf("SQL = %v, want caller_forbidden with %q", err, test.refusal)
			}
			if !strings.Contains(refusal.Cause, test.operator) || strings.Contains(refusal.Detail, "reports") {
				t.Errorf("cause %q, detail %q: whom the door is for is for the operator alone", refusal.Cause, refusal.Detail)
			}
			if key.Credential != "" {
				t.Errorf("a refusal with the key %+v", key)
			}
		})
	}
}
