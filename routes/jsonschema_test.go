package routes_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v4"

	"github.com/seed-13b04e61/gateway/routes"
)

// compiled is the schema, which has to be a valid one itself.
func compiled(t *testing.T) *jsonschema.Schema {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(routes.Schema()))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("routes.schema.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("routes.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// asJSON is a YAML text as an editor hands it to a schema: merged, and dates as
// the text that they are.
func asJSON(t *testing.T, text string) any {
	t.Helper()
	var doc yaml.Node
	if err := yaml.Load([]byte(strings.TrimPrefix(text, "\ufeff")), &doc); err != nil {
		t.Fatal(err)
	}
	out, err := json.Marshal(plain(t, doc.Content[0]))
	if err != nil {
		t.Fatal(err)
	}
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(out))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func plain(t *testing.T, n *yaml.Node) any {
	t.Helper()
	switch n.Kind {
	case yaml.AliasNode:
		return plain(t, n.Alias)
	case yaml.SequenceNode:
		list := []any{}
		for _, c := range n.Content {
			list = append(list, plain(t, c))
		}
		return list
	case yaml.MappingNode:
		own, merged := map[string]any{}, []any{}
		for i := 0; i+1 < len(n.Content); i += 2 {
			switch v := plain(t, n.Content[i+1]); {
			case n.Content[i].Tag != "!!merge":
				own[n.Content[i].Value] = v
			default:
				if list, ok := v.([]any); ok {
					merged = append(merged, list...)
				} else {
					merged = append(merged, v)
				}
			}
		}
		for _, m := range merged {
			for k, v := range m.(map[string]any) {
				if _, has := own[k]; !has {
					own[k] = v
				}
			}
		}
		return own
	}
	if n.Tag == "!!timestamp" || n.Tag == "!!str" {
		return n.Value
	}
	var v any
	if err := n.Decode(&v); err != nil {
		t.Fatal(err)
	}
	return v
}

func TestTheSchemaTakesEveryFileThatParseTakes(t *testing.T) {
	schema := compiled(t)
	names, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(names) == 0 {
		t.Fatal(err)
	}
	good := 0
	for _, name := range names {
		if strings.HasPrefix(filepath.Base(name), "bad-") {
			continue
		}
		archive, err := txtar.ParseFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range archive.Files {
			if f.Name != "routes.yaml" {
				continue
			}
			good++
			if err := schema.Validate(asJSON(t, string(f.Data))); err != nil {
				t.Errorf("the schema refuses %s: %v", name, err)
			}
		}
	}
	if good < 10 {
		t.Errorf("only %d good files were looked at", good)
	}
	eachChoice(func(info routes.PresetInfo, cloud, route string) {
		err := schema.Validate(asJSON(t, string(inCloud(cloud, route))))
		if (err == nil) != (info.Kind == "http") {
			t.Errorf("the schema says of preset %s in %s: %v", info.Name, cloud, err)
		}
	})
}

func TestTheSchemaRefusesWhatNoFileMayHold(t *testing.T) {
	schema := compiled(t)
	credential := "version: 1\nroutes: [{preset: graph}]\ncredentials:\n  default: {tenant_id: a.b, client_id: c, "
	for name, text := range map[string]string{
		"no version":               "routes: [{preset: graph}]",
		"another version":          "version: 2\nroutes: [{preset: graph}]",
		"no routes":                "version: 1",
		"an empty list of routes":  "version: 1\nroutes: []",
		"routes as a mapping":      "version: 1\nroutes: {preset: graph}",
		"an unknown key on top":    "version: 1\nroutes: [{preset: graph}]\nrouts: []",
		"an unknown key of routes": "version: 1\nroutes: [{preset: graph, skope: x}]",
		"a preset that is none":    "version: 1\nroutes: [{preset: grahp}]",
		"a preset of no route":     "version: 1\nroutes: [{preset: sql}]",
		"a route without hosts":    "version: 1\nroutes: [{name: a}]",
		"a literal secret":         credential + "client_secret: abc}",
		"two places of a secret":   credential + "client_secret: {env: A, file: b}}",
		"no place of a secret":     credential + "client_secret: {}}",
		"a misspelt place":         credential + "client_secret: {evn: A}}",
		"a cloud that is none":     credential + "client_secret: {env: A}, cloud: germany}",
		"an unknown proof's key":   credential + "client_certificate: {path: a.pem}}",
		"a word for a truth value": "version: 1\nroutes: [{preset: graph}]\nlog: {access: maybe}",
		"a level that is none":     "version: 1\nroutes: [{preset: graph}]\nlog: {level: loud}",
		"a duration without unit":  "version: 1\nroutes: [{preset: graph, timeouts: {response_header: 5}}]",
		"a size without number":    "version: 1\nroutes: [{preset: graph}]\ncache: {memory: much}",
		"hosts as one word":        "version: 1\nroutes: [{preset: graph, hosts: a.b}]",
		"a key as text":            "version: 1\nroutes: [{preset: graph}]\ncallers: {a: {api_key: abc}}",
		"a short digest":           "version: 1\nroutes: [{preset: graph}]\ncallers: {a: {api_key: {sha256: abc}}}",
		"no key in a list":         "version: 1\nroutes: [{preset: graph}]\ncallers: {a: {api_key: []}}",
		"an unknown proof":         "version: 1\nroutes: [{preset: graph}]\ncallers: {a: {basic: x}}",
		"a token of nobody":        "version: 1\nroutes: [{preset: graph}]\ncallers: {a: {jwt: {audience: gw}}}",
		"a claim as a mapping":     "version: 1\nroutes: [{preset: graph}]\ncallers: {a: {jwt: {issuer: https://a.b, audience: gw, claims: {a: {b: c}}}}}",
		"a caller's max_body":      "version: 1\nroutes: [{preset: graph}]\ncallers: {a: {uid: 1, limits: {max_body: 1}}}",
		"a rate in days":           "version: 1\nroutes: [{preset: graph, limits: {rate: 1/d}}]",
		"an unknown mode":          "version: 1\nroutes: [{preset: graph, mode: log}]",
		"a rule as a word":         "version: 1\nroutes: [{preset: graph, allow: [GET]}]",
		"an unknown rule":          "version: 1\nroutes: [{preset: graph, allow: [{deny: [/a]}]}]",
		"an upstream's tls":        "version: 1\nroutes: [{preset: graph}]\nlisten: {tls: {ca_file: a}}",
		"acme without storage":     "version: 1\nroutes: [{preset: graph}]\nlisten: {tls: {acme: {domains: [a.b]}}}",
		"audit without file":       "version: 1\nroutes: [{preset: graph}]\naudit: {keep: 1}",
		"a list where text stands": "version: 1\nroutes: [{preset: graph, scope: [a]}]",
		"an unknown protocol":      "version: 1\nroutes: [{preset: graph, upgrade: [h2c]}]",
		"a protocol as one word":   "version: 1\nroutes: [{preset: graph, upgrade: websocket}]",
		"no protocol in a list":    "version: 1\nroutes: [{preset: graph, upgrade: []}]",
		"a real token":             "version: 1\nroutes: [{preset: graph, hand_out: token}]",
		"an egress that is none":   "version: 1\nroutes: [{preset: graph}]\negress: {default: allow}",
		"an egress as one word":    "version: 1\nroutes: [{preset: graph}]\negress: {allow: a.b}",
		"interception of nowhere":  "version: 1\nroutes: [{preset: graph}]\nintercept: {}",
		"a database of no server":  "version: 1\nsql: [{name: a, listen: '127.0.0.1:1'}]",
		"two ways to a server":     "version: 1\nsql: [{name: a, listen: '127.0.0.1:1', server: a.b, servers: [c.d]}]",
		"an empty list of servers": "version: 1\nsql: [{name: a, listen: '127.0.0.1:1', servers: []}]",
		"a door without address":   "version: 1\nsql: [{name: a, server: a.b}]",
		"a door without name":      "version: 1\nsql: [{listen: '127.0.0.1:1', server: a.b}]",
		"another kind of database": "version: 1\nsql: [{name: a, kind: postgres, listen: '127.0.0.1:1', server: a.b}]",
		"no doors":                 "version: 1\nsql: []",
		"a door's unknown key":     "version: 1\nsql: [{name: a, listen: '127.0.0.1:1', server: a.b, identity: default}]",
		"TLS of no known mode":     "version: 1\nsql: [{name: a, listen: '127.0.0.1:1', server: a.b, client_tls: maybe}]",
		"an age without unit":      "version: 1\nsql: [{name: a, listen: '127.0.0.1:1', server: a.b, max_session_age: 5}]",
		"relogin as a word":        "version: 1\nsql: [{name: a, listen: '127.0.0.1:1', server: a.b, relogin: 'off'}]",
	} {
		if schema.Validate(asJSON(t, text)) == nil {
			t.Errorf("the schema takes %s", name)
		}
		if _, err := routes.Parse("routes.yaml", []byte(text), nil); err == nil {
			t.Errorf("Parse() takes %s, and the schema does not", name)
		}
	}
}

// Every key of the reference is in the schema with its words, and nothing else is.
func TestTheSchemaHasTheKeysOfTheReference(t *testing.T) {
	var schema struct {
		Properties map[string]any
		Defs       map[string]struct{ Properties map[string]any } `json:"$defs"`
	}
	if err := json.Unmarshal(routes.Schema(), &schema); err != nil {
		t.Fatal(err)
	}
	keys := map[string]bool{}
	for k := range schema.Properties {
		keys["."+k] = true
	}
	for section, d := range schema.Defs {
		for k := range d.Properties {
			if section != "secret" {
				keys[section+"."+k] = true
			}
		}
	}
	for _, f := range routes.Reference() {
		id := f.Section + "." + f.Key
		if keys[id] == f.Later {
			t.Errorf("%s is in the schema: %t, and refused by this release: %t", id, keys[id], f.Later)
		}
		delete(keys, id)
	}
	if len(keys) > 0 {
		t.Errorf("the schema has keys that the reference lacks: %v", keys)
	}
	if !bytes.Equal(routes.Schema(), routes.Schema()) {
		t.Error("Schema() differs from one call to the next")
	}
}

func ExampleSchema() {
	var schema struct {
		Properties map[string]any `json:"properties"`
	}
	if err := json.Unmarshal(routes.Schema(), &schema); err != nil {
		fmt.Println(err)
		return
	}
	var keys []string
	for k := range schema.Properties {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	fmt.Println(keys)
	// Output: [audit cache callers credentials egress intercept listen log routes sql version]
}
