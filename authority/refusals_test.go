package authority_test

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/seed-13b04e61/gateway/authority"
	"github.com/seed-13b04e61/gateway/routes"
	"github.com/seed-13b04e61/gateway/tokens"
)

var update = flag.Bool("update", false, "rewrite testdata/refusals to what is said now")

// stage is one server that stands for every login host.
type stage struct {
	*httptest.Server
	ca string // PEM

	mu     sync.Mutex // guards what follows
	answer http.HandlerFunc
	sent   string // the latest client-request-id
}

func newWorld(t testing.TB, hosts ...string) *stage {
	t.Helper()
	w := &stage{}
	key := newEC(t)
	w.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.sent = r.Header.Get("client-request-id")
		w.answer(rw, r)
	}))
	der := named(t, key, hosts)
	w.Config.ErrorLog = log.New(io.Discard, "", 0)
	w.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}} //nolint:gosec // the client decides
	w.StartTLS()
	t.Cleanup(w.Close)
	w.ca = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	return w
}

// named signs a server's certificate for hosts.
func named(t testing.TB, key *ecdsa.PrivateKey, hosts []string) []byte {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: hosts[0]}, DNSNames: hosts,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func (w *stage) directory() *authority.Directory {
	return authority.NewDirectory(authority.Options{Dialer: detour{to: w.Listener.Addr().String()}})
}

// loginHosts are those of the clouds in routes.yaml.
func loginHosts() map[string]string {
	return map[string]string{
		"public": "login.microsoftonline.com", "usgov": "login.microsoftonline.us", "china": "login.partner.microsoftonline.cn",
	}
}

// described is the credential of a golden file, whose lines are "key value".
func described(t testing.TB, w *stage, text string) (c *routes.Credential, ahead time.Duration) {
	t.Helper()
	props := map[string]string{"kind": "secret", "cloud": "public", "secret": marker}
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		props[key] = value
	}
	host := "https://" + loginHosts()[props["cloud"]]
	switch props["kind"] {
	case "certificate":
		c = certified(t, host, routes.Certificate{File: file(t, certify(t, newRSA(t, 2048), -time.Hour, year).both(t))})
	case "federated":
		c = federated(t, host, file(t, kubernetes(t, time.Hour, "1")))
	case "other":
		c = &routes.Credential{TokenEndpoint: "https://idp.example.com/token", ClientID: "gateway", ClientSecret: secretFile(t, props["secret"]), AuthMethod: "client_secret_post"}
	default:
		c = entra(t, host)
		overwrite(t, c.ClientSecret.File, props["secret"])
	}
	c.Name, c.CAFile = "orders", file(t, w.ca)
	if c.Entra() {
		c.TenantID, c.ClientID, c.Cloud = "contoso.example", "00001111-aaaa-2222-bbbb-3333cccc4444", props["cloud"]
	}
	n, _ := strconv.Atoi(props["ahead"])
	return c, time.Duration(n) * time.Second
}

// written answers as a golden file has it: a status, the fields, the body.
func written(t testing.TB, text string, ahead time.Duration) http.HandlerFunc {
	t.Helper()
	status, rest, _ := strings.Cut(text, "\n")
	code, err := strconv.Atoi(status)
	if err != nil {
		t.Fatal(err)
	}
	head, body, _ := strings.Cut("\n"+rest, "\n\n")
	return func(w http.ResponseWriter, r *http.Request) {
		for line := range strings.Lines(strings.TrimSpace(head)) {
			name, value, _ := strings.Cut(line, ":")
			w.Header().Set(name, strings.TrimSpace(value))
		}
		w.Header().Set("Date", time.Now().Add(-ahead).UTC().Format(http.TimeFormat))
		w.WriteHeader(code)
		_, _ = io.WriteString(w, strings.ReplaceAll(strings.TrimSpace(body), "SECRET", r.FormValue("client_secret")))
	}
}

// TestEveryRefusalNamesItsCodeCauseAndNextStep goes through golden files, each
// an answer as endpoints give it and what an operator is told.
func TestEveryRefusalNamesItsCodeCauseAndNextStep(t *testing.T) {
	names, err := filepath.Glob("testdata/refusals/*.txtar")
	if err != nil || len(names) < 40 {
		t.Fatalf("%d golden files, %v; want at least 40", len(names), err)
	}
	w := newWorld(t, "login.microsoftonline.com", "login.microsoftonline.us", "login.partner.microsoftonline.cn", "idp.example.com")
	for _, name := range names {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(name)
			if err != nil {
				t.Fatal(err)
			}
			part := map[string]string{}
			for _, f := range archive.Files {
				part[f.Name] = string(f.Data)
			}
			c, ahead := described(t, w, part["credential"])
			w.answer = written(t, part["answer"], ahead)
			d := w.directory()
			d.Replace([]*routes.Credential{c})
			e := fails(t, d, c)
			complete(t, e)
			got := told(t, w, d, e)
			if *update {
				rewriteGolden(t, name, archive, got)
				return
			}
			if part["told"] != got {
				t.Errorf("told:\n%s\nwant:\n%s", got, part["told"])
			}
		})
	}
}

// complete sees that e has all that an operator needs.
func complete(t testing.TB, e *authority.Error) {
	t.Helper()
	code := e.Code
	switch {
	case e.AADSTS != 0:
		code = fmt.Sprintf("AADSTS%d", e.AADSTS)
	case code == "":
		code = fmt.Sprintf("status %d", e.Status)
	}
	if e.Nature == tokens.Throttled && e.Code == "" {
		code = "quiet"
	}
	if !strings.Contains(e.Error(), code) || e.Hint == "" || e.Remedy == "" || !strings.Contains(e.Explain(), "Do: "+e.Remedy) || !strings.Contains(e.Error(), `credential "orders"`) {
		t.Errorf("lacks the credential, the code %s, a cause or a next step: %s", code, e.Explain())
	}
	if strings.Contains(e.Error(), "\n") || strings.Contains(e.Remedy, "\n") {
		t.Errorf("more than a line: %s", e.Explain())
	}
}

// sentProof is the line that describes what was shown.
var sentProof = regexp.MustCompile(`(certificate|federated token) sent: .*`)

// told is e at length and as the token store sees it, with what differs from
// run to run taken out.
func told(t testing.TB, w *stage, d *authority.Directory, e *authority.Error) string {
	t.Helper()
	natures := map[tokens.Nature]string{tokens.Transient: "transient", tokens.Throttled: "throttled", tokens.Refused: "refused", tokens.Propagating: "propagating"}
	f := e.Failure()
	out := fmt.Sprintf("%s\n  Store: %s, whole credential: %v, wait %s\n", e.Explain(), natures[f.Nature], f.Reach == tokens.ReachCredential, f.Wait)
	pairs := []string{"421 s ahead", "420 s ahead", "419 s ahead", "420 s ahead"}
	if leaf := condition(t, d).Certificate; leaf != nil {
		if facts := sentProof.FindString(out); !strings.Contains(facts, leaf.SHA1) || !strings.Contains(facts, leaf.SHA256) {
			t.Errorf("the thumbprints are not told in both forms: %s", out)
		}
		pairs = append(pairs, leaf.SHA1, "(SHA-1)", leaf.SHA256, "(SHA-256)")
	}
	if facts := sentProof.FindString(out); strings.HasPrefix(facts, "federated") {
		for _, want := range []string{"https://oidc.example/7c1f/", "system:serviceaccount:shop:orders", "api://AzureADTokenExchange"} {
			if !strings.Contains(facts, want) {
				t.Errorf("%s is not told: %s", want, out)
			}
		}
	}
	if w.sent != "" {
		pairs = append(pairs, w.sent, "(request ID)")
	}
	return sentProof.ReplaceAllString(strings.NewReplacer(pairs...).Replace(out), "$1 sent: (…)")
}

func rewriteGolden(t testing.TB, name string, archive *txtar.Archive, got string) {
	t.Helper()
	var kept []txtar.File
	for _, f := range archive.Files {
		if f.Name != "told" {
			kept = append(kept, f)
		}
	}
	archive.Files = append(kept, txtar.File{Name: "told", Data: []byte(got)})
	if err := os.WriteFile(name, txtar.Format(archive), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestTheGoldenAnswersAreWellFormed(t *testing.T) {
	names, _ := filepath.Glob("testdata/refusals/*.txtar")
	for _, name := range names {
		archive, err := txtar.ParseFile(name)
		if err != nil || len(archive.Comment) == 0 {
			t.Errorf("%s: %v; want a line that says what it is", name, err)
			continue
		}
		for _, f := range archive.Files {
			if f.Name != "answer" {
				continue
			}
			rec := httptest.NewRecorder()
			written(t, string(f.Data), 0)(rec, httptest.NewRequest(http.MethodPost, "/", nil))
			var raw strings.Builder
			if err := rec.Result().Write(&raw); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if _, err := http.ReadResponse(bufio.NewReader(strings.NewReader(raw.String())), nil); err != nil && !errors.Is(err, io.EOF) {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}
