package tds_test

import (
	"bytes"
	"reflect"
	"testing"

	"github.com/seed-13b04e61/gateway/sql/tds"
)

// FuzzPrelogin holds that what is read can be written and read again alike.
func FuzzPrelogin(f *testing.F) {
	f.Add(payload(f, "4.1-prelogin.hex", tds.PreLogin))
	for _, seed := range []string{"", "ff", "0000000000ff", "000010000101001000010200ff0000ff09", "0000060001ff"} {
		f.Add(unhex(f, seed))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		options, err := tds.ParsePrelogin(b)
		if err != nil {
			return
		}
		total := len(options)*5 + 1
		for _, option := range options {
			total += len(option.Data)
		}
		if total > 1<<16-1 {
			return // options that overlap need not fit apart
		}
		again, err := tds.ParsePrelogin(options.Bytes())
		if err != nil || !reflect.DeepEqual(again, options) {
			t.Errorf("%v is read again as %v, %v", options, again, err)
		}
		options.Encryption()
		options.MARS()
	})
}

// FuzzLogin holds that a login is the same after it was written and read again.
func FuzzLogin(f *testing.F) {
	f.Add(payload(f, "4.2-login.hex", tds.Login7))
	f.Add(unhex(f, goldenLogin))
	f.Add(oldLogin())
	f.Add(change(f, 58, 3))
	f.Add(change(f, 78, 0, 0, 0xff, 0xff, 0xa0, 0, 0, 0, 0xa0, 0, 0, 0, 0, 0, 1, 0))
	f.Fuzz(func(t *testing.T, b []byte) {
		l, err := tds.ParseLogin(b)
		if err != nil {
			return
		}
		if clone := l.Clone(); !reflect.DeepEqual(clone.Features, l.Features) || !bytes.Equal(clone.HostName, l.HostName) {
			t.Error("the clone differs")
		}
		written, err := l.Bytes()
		if err != nil {
			return // an old version, or a field that is too long to be passed on
		}
		again, err := tds.ParseLogin(written)
		if err != nil || !reflect.DeepEqual(again, l) {
			t.Errorf("a login is read again as another, %v", err)
		}
	})
}

// FuzzTokens holds that tokens that were cut make the same bytes again, and
// that no reader of a token fails on what was cut.
func FuzzTokens(f *testing.F) {
	f.Add(payload(f, "4.5-login-answer.hex", tds.Reply))
	f.Add(tds.TooMany("full").Reply(tds.TDS74))
	f.Add([]byte(routing(f, 20, 0, 11000, `a.b\i`)))
	f.Add([]byte(routing(f, 21, 0, 11000, "a.b", "db")))
	f.Add(unhex(f, "7901000000"+"aeff"+"e4010000002a"+done))
	f.Fuzz(func(t *testing.T, b []byte) {
		tokens, err := tds.SplitTokens(b)
		if err != nil {
			return
		}
		if joined := tds.Join(tokens); !bytes.Equal(joined, b) {
			t.Errorf("%x becomes %x", b, joined)
		}
		for _, token := range tokens {
			readToken(t, token)
		}
	})
}

func readToken(t *testing.T, token tds.Token) {
	_, _ = tds.ParseServerError(token)
	_, _, _, _ = tds.EnvChange(token)
	if r, err := tds.ParseRouting(token); err == nil && (r.Host == "" || r.Port == 0) {
		t.Errorf("%x leads to %+v", token, r)
	}
	if ack, err := tds.ParseLoginAck(token); err == nil {
		again, err := tds.ParseLoginAck(tds.WithVersion(token, ack.Version))
		if err != nil || again != ack {
			t.Errorf("%x is %+v and then %+v, %v", token, ack, again, err)
		}
	}
	if token.Type() != tds.TokenFeatureExtAck {
		return
	}
	features, err := tds.ParseFeatureExtAck(token)
	if err != nil || !bytes.Equal(tds.BuildFeatureExtAck(features), token) {
		t.Errorf("%x is read as %v, %v", token, features, err)
	}
}

// FuzzQuery holds that no reply to a query, whatever it is, is more than rows
// or an error.
func FuzzQuery(f *testing.F) {
	f.Add(payload(f, "4.7-batch-answer.hex", tds.Reply))
	f.Add(unhex(f, metadata("2608", "2604", nvarchar)+"d1"+"00"+"0407000000"+"02004100"+"d2"+"07"+done))
	f.Add(tds.LoginFailed("no").Reply(tds.TDS74))
	f.Fuzz(func(t *testing.T, b []byte) {
		rows, err := ask(t, b)
		if err != nil && rows != nil {
			t.Errorf("rows %v and %v", rows, err)
		}
	})
}
