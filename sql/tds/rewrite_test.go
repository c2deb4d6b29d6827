package tds_test

import (
	"bytes"
	"testing"

	"github.com/seed-13b04e61/gateway/sql/tds"
)

// upstreamOf is an upstream that was answered with payload.
func upstreamOf(t testing.TB, version uint32, payload []byte) *tds.Upstream {
	t.Helper()
	tokens, err := tds.SplitTokens(payload)
	if err != nil {
		t.Fatal(err)
	}
	return &tds.Upstream{Answer: tokens, Version: version, PacketSize: 4096}
}

func TestClientSeesAnAnswerToWhatItAsked(t *testing.T) {
	token, plain := clientLogin(), &tds.Login{Version: tds.TDS74}
	utf8 := farFeature{0x0a, []byte{1}}
	mirror := farEnv(13, "partner", "")
	for _, c := range []struct {
		name        string
		login       *tds.Login
		sent        uint32
		answer, out []byte
	}{
		{"nothing to change", plain, tds.TDS74, farJoin(farEnv(4, "8000", "4096"), farAck(0x74000004), farFeatures(utf8), farDone()),
			farJoin(farEnv(4, "8000", "4096"), farAck(0x74000004), farFeatures(utf8), farDone())},
		{"FEDAUTH goes", plain, tds.TDS74, farJoin(farAck(0x74000004), farFeatures(utf8, farFeature{2, make([]byte, 64)}), farDone()),
			farJoin(farAck(0x74000004), farFeatures(utf8), farDone())},
		{"and with it an empty token", plain, tds.TDS74, farJoin(farAck(0x74000004), farFeatures(farFeature{2, nil}), farDone()),
			farJoin(farAck(0x74000004), farDone())},
		{"a client with a token keeps it, empty", token, tds.TDS74, farJoin(farFeatures(farFeature{2, make([]byte, 64)}, utf8), farDone()),
			farJoin(farFeatures(farFeature{2, nil}, utf8), farDone())},
		{"DNS caching was not asked for", token, tds.TDS74, farJoin(farFeatures(farFeature{0x0b, []byte{1}}, utf8), farDone()),
			farJoin(farFeatures(utf8), farDone())},
		{"a partner and redirects go", plain, tds.TDS74,
			farJoin(farEnv(1, "d", ""), mirror, farRouting("n", 1), farEnhanced("n", 1, "d"), farInfo("x"), farDone()),
			farJoin(farEnv(1, "d", ""), farInfo("x"), farDone())},
		{"strict client, mandatory server", &tds.Login{Version: tds.TDS80}, tds.TDS74, farJoin(farDone(), farAck(0x74000004), farDone()),
			farJoin(farDone(), farAck(0x08000000), farDone())},
		{"mandatory client, strict server", plain, tds.TDS80, farAck(0x08000000), farAck(0x74000004)},
		{"older client", &tds.Login{Version: tds.TDS73B}, tds.TDS74, farAck(0x74000004), farAck(0x730b0003)},
		{"what the server made of an equal version stays", &tds.Login{Version: tds.TDS74}, tds.TDS74, farAck(0x730b0003), farAck(0x730b0003)},
	} {
		t.Run(c.name, func(t *testing.T) {
			u := upstreamOf(t, c.sent, c.answer)
			before := tds.Join(u.Answer)
			if got := tds.Join(u.Rewrite(c.login)); !bytes.Equal(got, c.out) {
				t.Errorf("Rewrite() = %x, want %x", got, c.out)
			}
			if !bytes.Equal(tds.Join(u.Answer), before) {
				t.Error("Rewrite changed the answer")
			}
		})
	}
}

func TestSessionGoesOnWhereItsTermsAreTheSame(t *testing.T) {
	answer := func(collation byte, version uint32, features ...farFeature) []byte {
		return farJoin(farCollation(9, 4, 0, 0, collation), farAck(version), farFeatures(features...), farDone())
	}
	utf8, recovery := farFeature{0x0a, []byte{1}}, farFeature{1, []byte("state")}
	began := answer(1, 0x74000004, recovery, utf8, farFeature{2, []byte("nonce")})
	for _, c := range []struct {
		name   string
		answer []byte
		change func(*tds.Upstream)
		want   bool
	}{
		{"the same", began, nil, true},
		{"in another order", farJoin(farInfo("hi"), farFeatures(farFeature{2, []byte("other")}, utf8, farFeature{1, nil}),
			farAck(0x74000004), farCollation(9, 4, 0, 0, 1), farDone()), nil, true},
		{"another collation", answer(2, 0x74000004, recovery, utf8), nil, false},
		{"no collation", farJoin(farAck(0x74000004), farFeatures(recovery, utf8), farDone()), nil, false},
		{"another TDS", answer(1, 0x730b0003, recovery, utf8), nil, false},
		{"a feature less", answer(1, 0x74000004, recovery), nil, false},
		{"no session recovery", answer(1, 0x74000004, utf8), nil, false},
		{"a feature more", answer(1, 0x74000004, recovery, utf8, farFeature{4, []byte{1}}), nil, false},
		{"another feature", answer(1, 0x74000004, recovery, farFeature{4, []byte{1}}), nil, false},
		{"a feature of another version", answer(1, 0x74000004, recovery, farFeature{0x0a, []byte{0}}), nil, false},
		{"another packet size", began, func(u *tds.Upstream) { u.PacketSize = 8000 }, false},
		{"MARS", began, func(u *tds.Upstream) { u.MARS = true }, false},
		{"another version sent", began, func(u *tds.Upstream) { u.Version = tds.TDS80 }, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			u, v := upstreamOf(t, tds.TDS74, began), upstreamOf(t, tds.TDS74, c.answer)
			if c.change != nil {
				c.change(v)
			}
			if got, back := u.Fits(v), v.Fits(u); got != c.want || back != c.want {
				t.Errorf("Fits() = %v, and %v the other way, want %v", got, back, c.want)
			}
		})
	}
}
