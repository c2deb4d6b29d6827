package gate_test

import (
	"encoding/base64"
	"math"
	"net/http"
	"strings"
	"testing"

	"github.com/seed-13b04e61/gateway/audit"
	"github.com/seed-13b04e61/gateway/gate"
)

const (
	jobKey   = "Zm9vYmFyYmF6cXV4Zm9vYmFyYmF6cXV4Zm9vYmFyMTI"
	jobNext  = "bmV4dC1rZXktb2YtdGhlLWpvYi13aGlsZS1yb3RhdGVk"
	otherKey = "b3RoZXIta2V5LW9mLXNvbWVib2R5LWVsc2UtMTIzNDU2"
)

func TestKeysAreKnownHoweverTheyMayBeShown(t *testing.T) {
	i := inForce(t, nil, keyCaller("job", jobKey, jobNext), keyCaller("Other.app-1_x", otherKey), keyCaller("colons", "a:b:c"))
	for name, tt := range map[string]struct {
		e    gate.Evidence
		want string
	}{
		"basic":                            {viaForward(basic("job", jobKey)), "job"},
		"basic, the key to come":           {viaForward(basic("job", jobNext)), "job"},
		"basic, another caller":            {viaForward(basic("Other.app-1_x", otherKey)), "Other.app-1_x"},
		"key with colons":                  {viaForward(basic("colons", "a:b:c")), "colons"},
		"bearer":                           {viaForward("Bearer " + jobKey), "job"},
		"bearer, the key to come":          {viaForward("Bearer " + jobNext), "job"},
		"scheme in lower case":             {viaForward("basic" + strings.TrimPrefix(basic("job", jobKey), "Basic")), "job"},
		"scheme in upper case":             {viaForward("BEARER " + jobKey), "job"},
		"several spaces":                   {viaForward("Bearer    " + jobKey), "job"},
		"tunnel":                           {gate.Evidence{Door: audit.Tunnel, Header: http.Header{"Proxy-Authorization": {basic("job", jobKey)}}}, "job"},
		"reverse, own field, basic":        {viaReverse("X-Gateway-Authorization", basic("job", jobKey)), "job"},
		"reverse, own field, bearer":       {viaReverse("X-Gateway-Authorization", "Bearer "+jobKey), "job"},
		"reverse, basic in authorization":  {viaReverse("Authorization", basic("job", jobKey)), "job"},
		"reverse, own field and app's":     {viaReverse("X-Gateway-Authorization", basic("job", jobKey), "Authorization", "Bearer placeholder"), "job"},
		"reverse, own field, app's basic":  {viaReverse("X-Gateway-Authorization", basic("job", jobKey), "Authorization", basic("app", "x")), "job"},
		"forward ignores the others":       {gate.Evidence{Door: audit.Forward, Header: http.Header{"Proxy-Authorization": {basic("job", jobKey)}, "X-Gateway-Authorization": {"junk"}, "Authorization": {basic("app", "x")}}}, "job"},
		"reverse ignores what is the next": {viaReverse("X-Gateway-Authorization", "Bearer "+jobKey, "Proxy-Authorization", "junk"), "job"},
	} {
		t.Run(name, func(t *testing.T) {
			got := identify(t, i, tt.e)
			if got.caller != tt.want || got.how != "api_key" {
				t.Errorf("Identify = %q by %q (%s), want %q by api_key", got.caller, got.how, got.cause, tt.want)
			}
		})
	}
}

// hostileCredentials are none that may be taken for job's, whose key most hold.
func hostileCredentials() map[string]gate.Evidence {
	good := basic("job", jobKey)
	encoded := strings.TrimPrefix(good, "Basic ")
	enc := func(pair string) string { return "Basic " + base64.StdEncoding.EncodeToString([]byte(pair)) }
	cases := map[string]gate.Evidence{
		"two lines, the same":              viaForward(good, good),
		"two lines, the good one first":    viaForward(good, basic("job", "x")),
		"two lines, the good one last":     viaForward("", good),
		"two lines of own field":           viaReverse("X-Gateway-Authorization", good, "X-Gateway-Authorization", good),
		"two lines of authorization":       viaReverse("Authorization", good, "Authorization", "Bearer x"),
		"two lines, neither basic":         viaReverse("Authorization", "Bearer y", "Authorization", "Bearer x"),
		"bad own field, good basic beside": viaReverse("X-Gateway-Authorization", basic("job", "x"), "Authorization", good),
		"empty own field beside good":      viaReverse("X-Gateway-Authorization", "", "Authorization", good),
		"own field on the forward door":    {Door: audit.Forward, Header: http.Header{"X-Gateway-Authorization": {good}}},
		"authorization on forward":         {Door: audit.Forward, Header: http.Header{"Authorization": {good}}},
		"proxy's field on reverse":         viaReverse("Proxy-Authorization", good),
		"bearer in authorization":          viaReverse("Authorization", "Bearer "+jobKey),
		"alias with underscores":           {Door: audit.Reverse, Header: http.Header{"X_gateway_authorization": {good}}},
		"alias in lower case":              {Door: audit.Reverse, Header: http.Header{"x-gateway-authorization": {good}}},
		"two aliases in one map":           {Door: audit.Forward, Header: http.Header{"Proxy-Authorization": {basic("job", "x")}, "proxy-authorization": {good}}},
	}
	for name, value := range map[string]string{
		"empty":                       "",
		"space":                       " ",
		"scheme alone":                "Basic",
		"scheme and space":            "Basic ",
		"bearer alone":                "Bearer",
		"bearer and space":            "Bearer  ",
		"no scheme":                   encoded,
		"bare key":                    jobKey,
		"leading space":               " " + good,
		"leading tab":                 "\t" + good,
		"trailing space":              good + " ",
		"trailing tab":                good + "\t",
		"tab for space":               "Basic\t" + encoded,
		"space and tab":               "Basic \t" + encoded,
		"no-break space":              "Basic\u00a0" + encoded,
		"vertical tab":                "Basic\v" + encoded,
		"line feed after":             good + "\n",
		"folded":                      "Basic\r\n " + encoded,
		"line feed within":            "Basic " + encoded[:8] + "\n" + encoded[8:],
		"carriage return within":      "Basic " + encoded[:8] + "\r" + encoded[8:],
		"nul within":                  "Basic " + encoded[:8] + "\x00" + encoded[8:],
		"nul behind":                  good + "\x00",
		"delete behind":               good + "\x7f",
		"scheme with colon":           "Basic: " + encoded,
		"scheme with comma":           "Basic, " + encoded,
		"scheme twice":                "Basic Basic " + encoded,
		"two credentials in one":      good + ", Bearer " + jobKey,
		"two bearers in one":          "Bearer " + jobKey + ",Bearer " + otherKey,
		"parameters":                  `Bearer token="` + jobKey + `"`,
		"quoted":                      `Bearer "` + jobKey + `"`,
		"bearer with a word behind":   "Bearer " + jobKey + " x",
		"digest":                      `Digest username="job", response="x"`,
		"negotiate":                   "Negotiate " + encoded,
		"ntlm":                        "NTLM " + encoded,
		"scheme nearly":               "Basi " + encoded,
		"scheme with more":            "Basics " + encoded,
		"scheme of wide letters":      "Ｂasic " + encoded,
		"scheme with long s":          "Baſic " + encoded, // folds to s in Unicode
		"unpadded":                    "Basic " + strings.TrimRight(encoded, "="),
		"padded too much":             "Basic " + encoded + "=",
		"padding within":              "Basic " + encoded[:4] + "=" + encoded[4:],
		"padding alone":               "Basic ====",
		"stray bits":                  "Basic am9iOng5", // not the key; see below for bits
		"url alphabet":                "Basic " + base64.URLEncoding.EncodeToString([]byte("job:\xfb\xff\xfe")),
		"no base64":                   "Basic job:" + jobKey,
		"percent":                     "Basic " + strings.ReplaceAll(encoded, "=", "%3D"),
		"no colon":                    enc("job" + jobKey),
		"no name":                     enc(":" + jobKey),
		"no key":                      enc("job:"),
		"colon alone":                 enc(":"),
		"nothing in it":               "Basic =",
		"nul in the name":             enc("job\x00:" + jobKey),
		"nul in the key":              enc("job:" + jobKey + "\x00"),
		"line feed in the key":        enc("job:" + jobKey + "\n"),
		"tab in the name":             enc("job\t:" + jobKey),
		"delete in the name":          enc("job\x7f:" + jobKey),
		"space before the name":       enc(" job:" + jobKey),
		"space behind the name":       enc("job :" + jobKey),
		"space before the key":        enc("job: " + jobKey),
		"space behind the key":        enc("job:" + jobKey + " "),
		"name in upper case":          enc("JOB:" + jobKey),
		"name of wide letters":        enc("ｊｏｂ:" + jobKey),
		"cyrillic o":                  enc("jоb:" + jobKey),
		"joiner in the name":          enc("jo\u200db:" + jobKey),
		"byte order mark":             enc("\ufeffjob:" + jobKey),
		"bad utf-8 in the name":       enc("job\xff:" + jobKey),
		"domain and name":             enc(`corp\job:` + jobKey),
		"name with realm":             enc("job@gateway:" + jobKey),
		"another's key":               enc("job:" + otherKey),
		"another's name":              enc("other:" + jobKey),
		"unknown name":                enc("nobody:" + jobKey),
		"caller without a key":        enc("keyless:" + jobKey),
		"caller without a key, empty": enc("keyless:x"),
		"the digest for the key":      enc("job:3f0d5e0f8f0a"),
		"key cut short":               enc("job:" + jobKey[:len(jobKey)-1]),
		"key with more":               enc("job:" + jobKey + "A"),
		"key in lower case":           enc("job:" + strings.ToLower(jobKey)),
		"key twice":                   enc("job:" + jobKey + ":" + jobKey),
		"printf in the name":          enc("%s%n:" + jobKey),
		"bearer, wrong key":           "Bearer " + jobKey[1:],
		"bearer, padded key":          "Bearer " + jobKey + "=",
		"bearer, name and key":        "Bearer job:" + jobKey,
		"bearer of the pair":          "Bearer " + encoded,
		"bearer with two dots":        "Bearer ..",
		"bearer with three dots":      "Bearer a.b.c.d",
		"bearer, all dots":            "Bearer " + strings.Repeat(".", 16000),
		"bearer, non-ascii":           "Bearer " + jobKey + "é",
		"too long by one":             "Bearer " + strings.Repeat("a", 16<<10-6),
		"much too long":               "Basic " + strings.Repeat("QUFB", 1<<20),
		"a good one, much padded":     "Basic" + strings.Repeat(" ", 16<<10) + encoded,
	} {
		cases["forward: "+name] = viaForward(value)
		cases["reverse: "+name] = viaReverse("X-Gateway-Authorization", value)
	}
	return cases
}

func TestHostileCredentialsProveNobody(t *testing.T) {
	keyless := keyCaller("keyless")
	uid := uint32(1001)
	keyless.UID = &uid
	cases := hostileCredentials()
	if len(cases) < 160 {
		t.Fatalf("the table has %d cases", len(cases))
	}
	n := 0
	for name, e := range cases {
		t.Run(name, func(t *testing.T) {
			// A source of its own, so that each is judged.
			i := inForce(t, nil, keyCaller("job", jobKey), keyCaller("other.app", otherKey), keyless)
			n++
			got := identify(t, i, from(n, e))
			if got.caller != "" || got.code != gate.CallerUnknown {
				t.Fatalf("Identify = %q, %q; want nobody, caller_unknown", got.caller, got.code)
			}
			if got.refusal.Detail != "no caller could be recognised from this call" {
				t.Errorf("Detail = %q tells the reason", got.refusal.Detail)
			}
			for _, text := range []string{got.cause, got.refusal.Remedy, got.refusal.Error()} {
				if strings.Contains(text, jobKey[:12]) || strings.Contains(text, otherKey[:12]) {
					t.Errorf("the refusal says %q, which holds a secret", text)
				}
			}
			if got.cause == "" {
				t.Error("the log would not say why")
			}
		})
	}
}

// Base64 with stray bits in its last symbol is a second spelling of one value.
func TestCredentialHasOneSpelling(t *testing.T) {
	const key = "0123456789abcdef0123456789abcdef01234567"
	i := inForce(t, nil, keyCaller("jo", key))
	good := basic("jo", key)
	if !strings.HasSuffix(good, "==") {
		t.Fatalf("%q has no stray bits to set", good)
	}
	if got := identify(t, i, viaForward(good)); got.caller != "jo" {
		t.Fatalf("Identify = %q (%s), want jo", got.caller, got.cause)
	}
	last := good[len(good)-3]
	bent := good[:len(good)-3] + string(last+1) + "=="
	if decoded, err := base64.StdEncoding.DecodeString(bent[6:]); err != nil || string(decoded) != "jo:"+key {
		t.Fatalf("%q decodes to %q, %v", bent, decoded, err)
	}
	if got := identify(t, i, viaForward(bent)); got.caller != "" {
		t.Errorf("Identify with stray bits = %q, want nobody", got.caller)
	}
}

func TestAnswerDoesNotTellUnknownNamesFromWrongKeys(t *testing.T) {
	keyless := keyCaller("keyless")
	uid := uint32(7)
	keyless.UID = &uid
	i := inForce(t, nil, keyCaller("job", jobKey), keyless)
	first := identify(t, i, from(1, viaForward(basic("nobody", otherKey)))).refusal
	for n, value := range []string{basic("job", otherKey), basic("keyless", otherKey), "Bearer " + otherKey, "Bearer a.b.c", "junk"} {
		got := identify(t, i, from(n+2, viaForward(value))).refusal
		if got.Code != first.Code || got.Detail != first.Detail || got.Remedy != first.Remedy || got.RetryAfter != first.RetryAfter {
			t.Errorf("credential %d is answered by %+v, want as for an unknown name: %+v", n, got, first)
		}
	}
}

// The work is what time is made of: an unknown name allocates as much as a
// known one, and by construction compares as often.
func TestUnknownNameCostsWhatAWrongKeyCosts(t *testing.T) {
	i := inForce(t, nil, keyCaller("job", jobKey, jobNext), keyCaller("nob", otherKey))
	n := 0
	// The runtime's own allocations are counted too, and are never fewer than none.
	cost := func(value string) float64 {
		least := math.Inf(1)
		for range 10 {
			least = min(least, testing.AllocsPerRun(20, func() {
				n++
				if _, err := i.Identify(t.Context(), from(n, viaForward(value))); err == nil {
					t.Error("Identify believed a wrong key")
				}
			}))
		}
		return least
	}
	known, unknown := cost(basic("job", "wrong-key-wrong-key")), cost(basic("who", "wrong-key-wrong-key"))
	if known != unknown {
		t.Errorf("allocations = %v for a known name, %v for an unknown one", known, unknown)
	}
}
