package e2e

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// jwtIssuer signs tokens as any OpenID provider does, and as none should. It
// is made by hand: no library would sign most of what is tried.
type jwtIssuer struct {
	url       string
	srv       *httptest.Server // nil for one that only signs
	stranger  *rsa.PrivateKey
	elsewhere string // the address of one who must not be asked

	mu      sync.Mutex // guards all below
	keys    []*rsa.PrivateKey
	fetched int // of the key set
}

func newJWTIssuer(t testing.TB, elsewhere string) *jwtIssuer {
	t.Helper()
	i := signer()
	i.elsewhere = elsewhere
	i.srv = serveHTTP(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if r.URL.Path == "/.well-known/openid-configuration" {
			_ = json.NewEncoder(w).Encode(map[string]any{"issuer": i.url, "jwks_uri": i.url + "/keys", "id_token_signing_alg_values_supported": []string{"RS256"}})
			return
		}
		i.mu.Lock()
		defer i.mu.Unlock()
		i.fetched++
		var keys []any
		for _, k := range i.keys {
			keys = append(keys, jwkOf(&k.PublicKey))
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"keys": keys})
	})
	i.url = i.srv.URL
	return i
}

// signer is an issuer that nobody can ask.
func signer() *jwtIssuer {
	return &jwtIssuer{url: "http://127.0.0.1:9", elsewhere: "127.0.0.1:9", stranger: newRSA(), keys: []*rsa.PrivateKey{newRSA()}}
}

func newRSA() *rsa.PrivateKey {
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err) // there is randomness
	}
	return k
}

func kidOf(k *rsa.PublicKey) string {
	sum := sha256.Sum256(k.N.Bytes())
	return base64.RawURLEncoding.EncodeToString(sum[:9])
}

func jwkOf(k *rsa.PublicKey) map[string]any {
	return map[string]any{"kty": "RSA", "use": "sig", "alg": "RS256", "kid": kidOf(k), "n": segment(k.N.Bytes()), "e": segment(big.NewInt(int64(k.E)).Bytes())}
}

func segment(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// key is the one that is in force.
func (i *jwtIssuer) key() *rsa.PrivateKey {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.keys[len(i.keys)-1]
}

type object = map[string]any

// claims are those of the caller "ci", changed by change; a nil value removes.
func (i *jwtIssuer) claims(change object) object {
	now := time.Now()
	return merged(object{"iss": i.url, "aud": "gateway", "sub": "repo:contoso/app", "repository": "contoso/app", "iat": now.Unix(), "nbf": now.Unix() - 5, "exp": now.Add(10 * time.Minute).Unix()}, change)
}

func (i *jwtIssuer) head(change object) object {
	return merged(object{"alg": "RS256", "typ": "JWT", "kid": kidOf(&i.key().PublicKey)}, change)
}

func merged(base, change object) object {
	for name, v := range change {
		if base[name] = v; v == nil {
			delete(base, name)
		}
	}
	return base
}

func inJSON(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // values of this file alone
	}
	return b
}

// sign makes a token of head and payload, as they are, by RS256.
func signRS256(k *rsa.PrivateKey, head, payload []byte) string {
	text := segment(head) + "." + segment(payload)
	sum := sha256.Sum256([]byte(text))
	sig, err := rsa.SignPKCS1v15(rand.Reader, k, crypto.SHA256, sum[:])
	if err != nil {
		panic(err) // the key is whole
	}
	return text + "." + segment(sig)
}

// token is one of ci's, changed.
func (i *jwtIssuer) token(head, claims object) string {
	return signRS256(i.key(), inJSON(i.head(head)), inJSON(i.claims(claims)))
}

func (i *jwtIssuer) hs256(secret []byte) string {
	text := segment(inJSON(i.head(object{"alg": "HS256"}))) + "." + segment(inJSON(i.claims(nil)))
	mac := hmac.New(sha256.New, secret)
	_, _ = mac.Write([]byte(text)) // never fails
	return text + "." + segment(mac.Sum(nil))
}

func (i *jwtIssuer) publicPEM() []byte {
	der, err := x509.MarshalPKIXPublicKey(&i.key().PublicKey)
	if err != nil {
		panic(err) // an RSA key
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

// hostileJWT is a token and whether it proves the caller ci.
type hostileJWT struct {
	name  string
	token string
	good  bool
}

// tokens are made by i; the same names come in the same order from every
// issuer.
func (i *jwtIssuer) tokens() []hostileJWT {
	var all []hostileJWT
	bad := func(name, token string) { all = append(all, hostileJWT{name: name, token: token}) }
	good := func(name, token string) { all = append(all, hostileJWT{name, token, true}) }
	whole := i.token(nil, nil)
	parts := strings.Split(whole, ".")
	good("whole", whole)
	good("audience in a list", i.token(nil, object{"aud": []string{"other", "gateway"}}))
	good("jku to a stranger", i.token(object{"jku": "http://" + i.elsewhere + "/keys"}, nil))
	good("x5u to a stranger", i.token(object{"x5u": "http://" + i.elsewhere + "/cert"}, nil))
	good("type at+jwt", i.token(object{"typ": "at+jwt"}, nil))
	good("expired within the leeway", i.token(nil, object{"exp": time.Now().Unix() - 20}))
	for _, alg := range []string{"none", "None", "NONE", "nOnE", ""} {
		bad("alg "+alg, segment(inJSON(i.head(object{"alg": alg})))+"."+parts[1]+".")
		bad("alg "+alg+" with a signature", segment(inJSON(i.head(object{"alg": alg})))+"."+parts[1]+"."+parts[2])
	}
	bad("alg none without a point", segment(inJSON(i.head(object{"alg": "none"})))+"."+parts[1])
	bad("alg missing", i.token(object{"alg": nil}, nil))
	bad("alg a number", i.token(object{"alg": 256}, nil))
	bad("alg a list", i.token(object{"alg": []string{"RS256"}}, nil))
	bad("alg in small letters", i.token(object{"alg": "rs256"}, nil))
	for _, alg := range []string{"RS1", "RS384", "PS256", "ES256", "EdDSA", "HS256", "dir"} {
		bad("alg "+alg+" over RS256", i.token(object{"alg": alg}, nil))
	}
	bad("HS256 by the public key", i.hs256(i.publicPEM()))
	bad("HS256 by the public key trimmed", i.hs256([]byte(strings.TrimSpace(string(i.publicPEM())))))
	bad("HS256 by the modulus", i.hs256(i.key().N.Bytes()))
	bad("HS256 by the modulus as text", i.hs256([]byte(segment(i.key().N.Bytes()))))
	bad("HS256 by nothing", i.hs256(nil))
	bad("HS256 by the kid", i.hs256([]byte(kidOf(&i.key().PublicKey))))
	bad("ES256 of zeros", segment(inJSON(i.head(object{"alg": "ES256"})))+"."+parts[1]+"."+segment(make([]byte, 64)))
	bad("key of a stranger", signRS256(i.stranger, inJSON(i.head(nil)), inJSON(i.claims(nil))))
	bad("key of a stranger with its kid", signRS256(i.stranger, inJSON(i.head(object{"kid": kidOf(&i.stranger.PublicKey)})), inJSON(i.claims(nil))))
	bad("key in the head", signRS256(i.stranger, inJSON(i.head(object{"kid": nil, "jwk": jwkOf(&i.stranger.PublicKey)})), inJSON(i.claims(nil))))
	bad("key by jku", signRS256(i.stranger, inJSON(i.head(object{"kid": kidOf(&i.stranger.PublicKey), "jku": "http://" + i.elsewhere + "/keys"})), inJSON(i.claims(nil))))
	bad("key by x5u", signRS256(i.stranger, inJSON(i.head(object{"x5u": "http://" + i.elsewhere + "/cert"})), inJSON(i.claims(nil))))
	bad("key by x5c", signRS256(i.stranger, inJSON(i.head(object{"x5c": []string{"MIIB"}})), inJSON(i.claims(nil))))
	for name, kid := range map[string]any{"path": "../../../../dev/null", "SQL": "x' UNION SELECT 'k", "URL": "http://" + i.elsewhere + "/k", "list": []string{"a"}, "number": 1, "empty": "", "NUL": "a\x00", "long": strings.Repeat("k", 9000)} {
		bad("kid "+name, signRS256(i.stranger, inJSON(i.head(object{"kid": kid})), inJSON(i.claims(nil))))
	}
	bad("critical extension", i.token(object{"crit": []string{"exp"}}, nil))
	bad("critical b64", i.token(object{"crit": []string{"b64"}, "b64": false}, nil))
	for name, change := range map[string]object{
		"expired": {"exp": time.Now().Unix() - 300}, "without exp": {"exp": nil}, "exp a string": {"exp": "9999999999"}, "exp negative": {"exp": -1}, "exp zero": {"exp": 0}, "exp a list": {"exp": []int64{9999999999}}, "exp null": {"exp": json.RawMessage("null")}, "exp beyond all": {"exp": json.RawMessage("1e999")}, "exp an object": {"exp": object{"a": 1}},
		"not yet valid": {"nbf": time.Now().Unix() + 3600}, "nbf a string": {"nbf": "tomorrow"},
		"another audience": {"aud": "gateway2"}, "audience in capitals": {"aud": "GATEWAY"}, "audience with a slash": {"aud": "gateway/"}, "audience with a space": {"aud": "gateway "}, "audience missing": {"aud": nil}, "audience empty": {"aud": ""}, "audience an empty list": {"aud": []string{}}, "audiences of others": {"aud": []string{"a", "b"}}, "audience nested": {"aud": []any{[]string{"gateway"}}}, "audience an object": {"aud": object{"gateway": true}}, "audiences in one string": {"aud": "a,gateway"},
		"issuer with a slash": {"iss": i.url + "/"}, "issuer of a stranger": {"iss": "http://" + i.elsewhere}, "issuer missing": {"iss": nil}, "issuer in capitals": {"iss": strings.ToUpper(i.url)}, "issuer a list": {"iss": []string{i.url}}, "issuer with user information": {"iss": strings.Replace(i.url, "://", "://x@", 1)}, "issuer by localhost": {"iss": strings.Replace(i.url, "127.0.0.1", "localhost", 1)}, "issuer with a path": {"iss": i.url + "/../"}, "issuer with a query": {"iss": i.url + "?x"},
		"another repository": {"repository": "contoso/other"}, "repository missing": {"repository": nil}, "repository longer": {"repository": "contoso/app-evil"}, "repository in capitals": {"repository": "Contoso/App"}, "repository with LF": {"repository": "contoso/app\n"}, "repository nested": {"repository": []any{[]string{"contoso/app"}}}, "repository an object": {"repository": object{"contoso/app": 1}}, "repository true": {"repository": true}, "Repository": {"repository": nil, "Repository": "contoso/app"},
	} {
		bad(name, i.token(nil, change))
	}
	twice := strings.Replace(string(inJSON(i.claims(object{"repository": "evil/evil"}))), "{", `{"repository":"contoso/app",`, 1)
	bad("repository twice, ours first", signRS256(i.key(), inJSON(i.head(nil)), []byte(twice)))
	return append(all, i.malformed(parts)...)
}

// malformed are tokens of the parts of a whole one.
func (i *jwtIssuer) malformed(parts []string) []hostileJWT {
	var all []hostileJWT
	evil := segment(inJSON(i.claims(object{"repository": "contoso/app", "sub": "evil"})))
	raw := func(payload string) string { return signRS256(i.key(), inJSON(i.head(nil)), []byte(payload)) }
	for name, token := range map[string]string{
		"payload exchanged": parts[0] + "." + evil + "." + parts[2], "no signature": parts[0] + "." + parts[1] + ".", "two parts": parts[0] + "." + parts[1], "four parts": strings.Join(parts, ".") + ".x", "five parts": strings.Join(parts, ".") + ".x.y",
		"signature cut": parts[0] + "." + parts[1] + "." + parts[2][:len(parts[2])-4], "signature longer": strings.Join(parts, ".") + "AAAA", "signature padded": strings.Join(parts, ".") + "==", "head empty": "." + parts[1] + "." + parts[2], "payload empty": parts[0] + ".." + parts[2],
		"payload null": raw("null"), "payload a list": raw("[]"), "payload no JSON": raw("{"), "payload a string": raw(`"x"`), "payload with more": raw(string(inJSON(i.claims(nil))) + "{}"), "payload deep": raw(`{"a":` + strings.Repeat("[", 5000) + strings.Repeat("]", 5000) + "}"),
		"head no JSON": signRS256(i.key(), []byte("{"), inJSON(i.claims(nil))), "head null": signRS256(i.key(), []byte("null"), inJSON(i.claims(nil))), "head a list": signRS256(i.key(), []byte("[]"), inJSON(i.claims(nil))),
		"huge": i.token(nil, object{"pad": strings.Repeat("x", 20_000)}), "many points": strings.Repeat(".", 10_000), "points alone": "..", "of psychic zeros": parts[0] + "." + parts[1] + "." + segment(make([]byte, 256)), "by base64 of the other alphabet": parts[0] + "." + parts[1] + "." + "+/+/" + parts[2][4:],
	} {
		all = append(all, hostileJWT{name: name, token: token})
	}
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err) // there is randomness
	}
	text := segment(inJSON(i.head(object{"alg": "ES256"}))) + "." + parts[1]
	sum := sha256.Sum256([]byte(text))
	r, s, err := ecdsa.Sign(rand.Reader, k, sum[:])
	if err != nil {
		panic(err)
	}
	sig := make([]byte, 64)
	r.FillBytes(sig[:32])
	s.FillBytes(sig[32:])
	return append(all, hostileJWT{name: "ES256 by a stranger's key", token: text + "." + segment(sig)})
}

// words are the markers of the tokens.
func (i *jwtIssuer) words() []string {
	var all []string
	for _, h := range i.tokens() {
		all = append(all, "{jwt "+h.name+"}", h.token)
	}
	return all
}

// hostileJWTs are the entries of the tokens of any issuer.
func hostileJWTs() []hostile {
	var table []hostile
	for _, h := range signer().tokens() {
		want := "caller_unknown"
		if h.good {
			want = sent
		}
		table = append(table, hostile{name: "JWT " + h.name, send: with("{carrier}: Bearer {jwt " + h.name + "}"), want: want, line: getLine, bare: true, without: []string{"x-gateway", "proxy-auth"}})
	}
	return append(table,
		hostile{name: "JWT as Basic", send: with("{carrier}: Basic {jwt whole}"), want: "caller_unknown", bare: true},
		hostile{name: "JWT as another scheme", send: with("{carrier}: JWT {jwt whole}"), want: "caller_unknown", bare: true},
		hostile{name: "JWT and a key", send: with("{carrier}: Bearer {jwt whole}\r\n{carrier}: Bearer {key}"), want: "caller_unknown", bare: true},
		hostile{name: "JWT that is bad, and a key", send: with("{carrier}: Bearer {jwt expired}\r\n{carrier}: Bearer {key}"), want: "caller_unknown", bare: true},
	)
}
