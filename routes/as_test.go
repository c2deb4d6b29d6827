package routes_test

import (
	"crypto/sha256"
	"fmt"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/seed-13b04e61/gateway/routes"
)

// twoCallers are a and b; a route is for each.
const twoCallers = idp + `callers:
  a: {uid: 1001, tenants: [contoso.onmicrosoft.com], limits: {concurrency: 3}}
  b: {uid: 1002}
`

func TestOfATableForOneCallerNobodyElseIsProven(t *testing.T) {
	table, err := routes.Parse("routes.yaml", []byte(twoCallers+"routes: [{name: r, hosts: [r.example], callers: [b]}]\n"), nil)
	if err != nil {
		t.Fatal(err)
	}
	proof := routes.Caller{APIKeys: [][sha256.Size]byte{{1}}}
	as, known := table.As("a", proof)
	if !known || len(as.Callers) != 1 {
		t.Fatalf("As(a) = %d callers, known %t; want 1, true", len(as.Callers), known)
	}
	a := as.Callers[0]
	if a.Name != "a" || a.UID != nil || len(a.APIKeys) != 1 || a.Limits.Concurrency != 3 || len(a.Tenants) != 1 || a.Line == 0 {
		t.Errorf("As(a) made %+v; want the key alone as proof, tenants and limits of the file", a)
	}
	if r := as.Routes[0]; len(r.Callers) != 1 || r.Callers[0].Name != "b" {
		t.Errorf("As(a) opened the route of b: %+v", r.Callers)
	}
	if len(table.Callers) != 2 || table.Callers[0].UID == nil {
		t.Errorf("As(a) changed the table it came from")
	}
}

func TestACallerThatTheFileDoesNotNameMayCallNowhere(t *testing.T) {
	table, err := routes.Parse("routes.yaml", []byte(twoCallers+"routes: [{name: r, hosts: [r.example]}]\n"), nil)
	if err != nil {
		t.Fatal(err)
	}
	as, known := table.As("c", routes.Caller{APIKeys: [][sha256.Size]byte{{1}}})
	if known || as.Callers == nil || len(as.Callers) != 0 {
		t.Errorf("As(c) = callers %v, known %t; want none, and not nil, which would be anyone", as.Callers, known)
	}
}

func TestADerivedFileStaysDerivedThroughReloads(t *testing.T) {
	path := filepath.Join(t.TempDir(), "routes.yaml")
	write(t, path, idp+"routes: [{name: r, hosts: [r.example]}]\n")
	f, err := routes.Open(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	mine := f.Derive(func(t *routes.Table) *routes.Table {
		as, _ := t.As("a", routes.Caller{APIKeys: [][sha256.Size]byte{{1}}})
		return as
	})
	if got := mine.Table().Callers; len(got) != 1 || f.Table().Callers != nil {
		t.Errorf("Derive() = callers %v, and the other file's are %v; want one, and nil", got, f.Table().Callers)
	}
	write(t, path, twoCallers+"routes: [{name: s, hosts: [s.example]}]\n")
	next, err := mine.Reload()
	if err != nil || next != mine.Table() || next.Routes[0].Name != "s" {
		t.Fatalf("Reload() = %v, %v", next, err)
	}
	if len(next.Callers) != 1 || next.Callers[0].UID != nil || next.Callers[0].Limits.Concurrency != 3 {
		t.Errorf("Reload() = callers %+v, want a alone, by its key", next.Callers)
	}
}

func TestEveryVariableOfASecretIsKnown(t *testing.T) {
	const text = `version: 1
listen: {admin_key: {env: ADMIN_KEY}}
credentials:
  default:
    token_endpoint: https://idp.example.com/token
    client_id: gateway
    client_secret: {env: IDP_SECRET}
  other:
    token_endpoint: https://idp.example.com/token
    client_id: other
    client_secret: {env: IDP_SECRET}
  cert:
    tenant_id: contoso.onmicrosoft.com
    client_id: 00001111-aaaa-2222-bbbb-3333cccc4444
    client_certificate: {file: app.pem, password: {env: PFX_PASSWORD}}
routes: [{name: r, hosts: [r.example], scope: api://r/.default, credential: default}]
egress: {proxy: {url: "http://next.example:3128", username: gw, password: {env: HOP_PASSWORD}}}
`
	table, err := routes.Parse("routes.yaml", []byte(text), nil)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"ADMIN_KEY", "IDP_SECRET", "PFX_PASSWORD", "HOP_PASSWORD"}
	if got := table.SecretVariables(); !reflect.DeepEqual(got, want) {
		t.Errorf("SecretVariables() = %v, want %v", got, want)
	}
}

func ExampleTable_As() {
	table, err := routes.Parse("routes.yaml", []byte("version: 1\nroutes: [{preset: graph}]\n"), nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	as, known := table.As("job", routes.Caller{APIKeys: [][sha256.Size]byte{sha256.Sum256([]byte("a key"))}})
	fmt.Println(as.Callers[0].Name, known)
	// Output: job true
}
