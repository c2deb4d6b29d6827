package gate_test

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-13b04e61/gateway/gate"
)

func newSealer(t testing.TB, keys ...[]byte) *gate.Sealer {
	t.Helper()
	s, err := gate.NewSealer(keys...)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func sealed(t testing.TB, s *gate.Sealer, p gate.Placeholder) string {
	t.Helper()
	text, err := s.Seal(p)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// sample is a placeholder of the next hour.
func sample() gate.Placeholder {
	return gate.Placeholder{
		Caller: "job", Tenant: "contoso.com", Scope: "https://graph.microsoft.com/.default",
		Expires: time.Now().Add(time.Hour).Truncate(time.Second),
	}
}

func ExampleSealer() {
	sealer, err := gate.NewSealer() // a key of its own
	if err != nil {
		fmt.Println(err)
		return
	}
	text, err := sealer.Seal(gate.Placeholder{Caller: "job", Scope: "api://orders/.default", Expires: time.Now().Add(time.Hour)})
	if err != nil {
		fmt.Println(err)
		return
	}
	p, ok := sealer.Open(text)
	fmt.Println(strings.HasPrefix(text, gate.PlaceholderPrefix), ok, p.Caller, p.Scope)
	// Output: true true job api://orders/.default
}

func TestPlaceholderIsReadByWhoeverHasTheKey(t *testing.T) {
	older, newer := bytes.Repeat([]byte{1}, 32), bytes.Repeat([]byte{2}, 32)
	want := sample()
	text := sealed(t, newSealer(t, older), want)
	for name, tt := range map[string]struct {
		sealer *gate.Sealer
		ok     bool
	}{
		"a replica":               {newSealer(t, older), true},
		"the key after a change":  {newSealer(t, newer, older), true},
		"a replica that is ahead": {newSealer(t, newer), false},
		"another gateway":         {newSealer(t), false},
	} {
		got, ok := tt.sealer.Open(text)
		if ok != tt.ok || ok && got != want {
			t.Errorf("%s opens it as %+v, %v; want %v", name, got, ok, tt.ok)
		}
	}
	if _, ok := newSealer(t, older).Open(sealed(t, newSealer(t, newer, older), want)); ok {
		t.Error("the second key sealed, want the first")
	}
}

func TestPlaceholderTellsNothingAndIsNoJWT(t *testing.T) {
	s := newSealer(t)
	one, two := sealed(t, s, sample()), sealed(t, s, sample())
	if one == two {
		t.Error("two placeholders of one caller are the same text")
	}
	if !regexp.MustCompile(`^gwp_[A-Za-z0-9_-]+$`).MatchString(one) {
		t.Errorf("placeholder = %q, want gwp_ and base64url without padding", one)
	}
	plain, err := base64.RawURLEncoding.DecodeString(strings.TrimPrefix(one, "gwp_"))
	if err != nil {
		t.Fatal(err)
	}
	for _, inside := range []string{"job", "contoso", "graph"} {
		if bytes.Contains(plain, []byte(inside)) {
			t.Errorf("the placeholder shows %q", inside)
		}
	}
}

func TestPlaceholderEndsInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSealer(t)
		text := sealed(t, s, sample())
		time.Sleep(time.Hour - time.Second)
		if _, ok := s.Open(text); !ok {
			t.Error("it does not open in its last second")
		}
		time.Sleep(time.Second)
		if p, ok := s.Open(text); ok || p != (gate.Placeholder{}) {
			t.Errorf("it opens after its end, as %+v", p)
		}
	})
}

// Each bit counts, the version's among them.
func TestAlteredPlaceholderDoesNotOpen(t *testing.T) {
	s := newSealer(t)
	text := sealed(t, s, sample())
	raw, err := base64.RawURLEncoding.DecodeString(strings.TrimPrefix(text, "gwp_"))
	if err != nil {
		t.Fatal(err)
	}
	altered := map[string]string{
		"no prefix": strings.TrimPrefix(text, "gwp_"), "another prefix": "GWP_" + text[4:], "nothing": "", "the prefix alone": "gwp_",
		"a line break": text[:20] + "\n" + text[20:], "padding": text + "=", "more": text + "AAAA", "less": text[:len(text)-4],
		"far too much": text + strings.Repeat("A", 1<<20),
	}
	for i := range raw {
		changed := bytes.Clone(raw)
		changed[i] ^= 1 << (i % 8)
		altered[fmt.Sprintf("byte %d", i)] = "gwp_" + base64.RawURLEncoding.EncodeToString(changed)
	}
	for name, text := range altered {
		if p, ok := s.Open(text); ok || p != (gate.Placeholder{}) {
			t.Errorf("%s: it opens as %+v", name, p)
		}
	}
}

func TestSealerRefusesBadKeysAndWhatIsTooLong(t *testing.T) {
	for _, size := range []int{0, 16, 31, 33} {
		if _, err := gate.NewSealer(make([]byte, size)); err == nil {
			t.Errorf("a key of %d bytes is taken", size)
		}
	}
	s := newSealer(t)
	for _, p := range []gate.Placeholder{
		{Caller: strings.Repeat("x", 65)}, {Tenant: strings.Repeat("x", 254)}, {Scope: strings.Repeat("x", 2049)},
	} {
		if text, err := s.Seal(p); err == nil {
			t.Errorf("Seal makes %d bytes of what is too long", len(text))
		}
	}
	widest := gate.Placeholder{Caller: strings.Repeat("c", 64), Tenant: strings.Repeat("t", 253), Scope: strings.Repeat("s", 2048), Expires: sample().Expires}
	if got, ok := s.Open(sealed(t, s, widest)); !ok || got != widest {
		t.Errorf("the largest placeholder opens as %+v, %v", got, ok)
	}
	if _, err := (&gate.Sealer{}).Seal(sample()); err == nil {
		t.Error("a sealer without keys seals")
	}
}

// FuzzPlaceholder: what opens was sealed with the key, and no text does harm.
// Each process of the fuzzer seals anew, so that texts of another open too.
func FuzzPlaceholder(f *testing.F) {
	s := newSealer(f, bytes.Repeat([]byte{7}, 32))
	p := gate.Placeholder{Caller: "job", Tenant: "contoso.com", Scope: "s", Expires: time.Unix(4e9, 0)}
	ours := sealed(f, s, p)
	for _, seed := range []string{ours, ours[:len(ours)-1], "gwp_", "gwp_AQ", "gwp_" + strings.Repeat("A", 60), "eyJ.eyJ.x", ours + "\r\n"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, ok := s.Open(text)
		switch {
		case ok && (got != p || len(text) != len(ours) || strings.Trim(text[4:], alphabet) != ""):
			t.Errorf("Open(%q) = %+v", text, got)
		case !ok && (text == ours || got != gate.Placeholder{}):
			t.Errorf("Open(%q) = %+v, false", text, got)
		}
	})
}

const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
