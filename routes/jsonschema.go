package routes

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Schema returns the JSON Schema (draft 2020-12) of routes.yaml, made from
// [Reference], for editors that read the line
//
//	# yaml-language-server: $schema=docs/reference/routes.schema.json
//
// It takes all that [Parse] takes, and refuses unknown keys, words that are
// none of a list, and secrets that are written out. What needs more than one
// look at the file, such as names and hosts, is left to Parse.
func Schema() []byte {
	defs := object{"variable": object{"type": "string", "pattern": variablePattern}, "secret": secretSchema()}
	for _, f := range Reference() {
		if _, done := defs[f.Section]; !done && f.Section != "" && !f.Later {
			defs[f.Section] = sectionSchema(f.Section)
		}
	}
	either(defs["route"].(object), []string{"preset"}, []string{"name", "hosts"})
	either(defs["credential"].(object), []string{"client_id"}, []string{"managed_identity"})
	door := defs["sql"].(object)
	door["oneOf"] = []any{object{"required": []string{"server"}}, object{"required": []string{"servers"}}}
	top := sectionSchema("")
	top["anyOf"] = []any{object{"required": []string{"routes"}}, object{"required": []string{"sql"}}}
	top["patternProperties"] = object{"^x-": true}
	top["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	top["title"] = "routes.yaml"
	top["$defs"] = defs
	out, err := json.MarshalIndent(top, "", "  ")
	if err != nil {
		panic(fmt.Sprintf("routes: the schema holds what JSON cannot: %v", err)) // only strings, numbers, lists and maps are put in
	}
	return append(out, '\n')
}

// either makes a mapping need one of two sets of keys, and no other.
func either(o object, one, other []string) {
	delete(o, "required")
	o["anyOf"] = []any{object{"required": one}, object{"required": other}}
}

// object is one of JSON.
type object = map[string]any

// variablePattern finds a ${VAR}, which may stand in any plain value.
const variablePattern = `\$\{[A-Za-z_]`

func secretSchema() object {
	name := func(pattern string) object { return object{"type": "string", "pattern": pattern} }
	return object{
		"type": "object", "additionalProperties": false, "minProperties": 1, "maxProperties": 1,
		"description": "Where a secret is: never the secret itself.",
		"properties": object{
			"env":  described(name(variableName.String()), "The environment variable that holds it."),
			"file": described(name("."), "The file that holds it."),
			"exec": described(commandSchema(), "The command that prints it; only with serve --allow-exec."),
		},
	}
}

func commandSchema() object {
	word := object{"type": []string{"string", "number", "boolean"}}
	return object{"anyOf": []any{object{"type": "string", "pattern": "."}, object{"type": "array", "minItems": 1, "items": word}}}
}

func described(o object, text string) object {
	o["description"] = text
	return o
}

// sectionSchema is the mapping with the keys of one section.
func sectionSchema(name string) object {
	properties, required := object{}, []string{}
	for _, f := range section(name) {
		if f.Later {
			continue
		}
		properties[f.Key] = fieldSchema(f)
		if f.Default == "required" {
			required = append(required, f.Key)
		}
	}
	o := object{"type": "object", "additionalProperties": false, "properties": properties}
	if len(required) > 0 {
		o["required"] = required
	}
	return o
}

func fieldSchema(f Field) object {
	o := valueSchema(f)
	text := f.Doc
	if f.Default != "" && f.Default != "required" {
		text += " Default: " + f.Default + "."
		if v, ok := literal(f); ok {
			o["default"] = v
		}
	}
	return described(o, text)
}

// words are types such as "json, console".
var words = regexp.MustCompile(`^[A-Za-z0-9_-]+(, [A-Za-z0-9_-]+)+$`)

func (f Field) values() []string {
	if f.Values == nil && words.MatchString(f.Type) {
		return strings.Split(f.Type, ", ")
	}
	return f.Values
}

// valueSchema is what the type of a field allows. Text may be written as
// anything that YAML reads as a scalar.
func valueSchema(f Field) object {
	ref := func(name string) object { return object{"$ref": "#/$defs/" + name} }
	text := object{"type": []string{"string", "number", "boolean"}}
	or := func(o object) object { return object{"anyOf": []any{o, ref("variable")}} }
	switch values := f.values(); {
	case values != nil && strings.HasPrefix(f.Type, "list"):
		return object{"type": "array", "minItems": 1, "items": or(object{"enum": scalars(values)})}
	case values != nil:
		return or(object{"enum": scalars(values)})
	case f.Type == "secret":
		return ref("secret")
	case f.Type == "command":
		return commandSchema()
	case f.Type == "mapping or list":
		return object{"anyOf": []any{ref(f.As), object{"type": "array", "minItems": 1, "items": ref(f.As)}}}
	case f.As != "":
		return ref(f.As)
	case f.Type == "rate":
		return or(object{"type": "string", "pattern": `^[1-9][0-9]*/[smh]$`})
	case f.Section == "jwt" && f.Key == "claims":
		return object{"type": "object", "minProperties": 1, "additionalProperties": object{"anyOf": []any{text, object{"type": "array", "minItems": 1, "items": text}}}}
	case f.Section == "api_key":
		return object{"type": []string{"string", "number"}, "pattern": "^[0-9a-fA-F]{64}$"} // YAML takes some digests for numbers
	case f.Type == "empty mapping":
		return object{"type": "object", "maxProperties": 0}
	case strings.HasPrefix(f.Type, "mapping") && f.Of != "":
		return object{"type": "object", "additionalProperties": ref(f.Of)}
	case strings.HasPrefix(f.Type, "mapping") && slices.ContainsFunc(section(f.Key), func(g Field) bool { return !g.Later }):
		return ref(f.Key)
	case strings.HasPrefix(f.Type, "mapping") && f.Key == "assertion_claims":
		return object{"type": "object"} // values of any kind
	case strings.HasPrefix(f.Type, "mapping"):
		return object{"type": "object", "additionalProperties": text}
	case strings.HasPrefix(f.Type, "list") && f.Of != "":
		return object{"type": "array", "minItems": 1, "items": ref(f.Of)}
	case strings.HasPrefix(f.Type, "list") && f.Section == "sql":
		return object{"type": "array", "minItems": 1, "items": text}
	case strings.HasPrefix(f.Type, "list"):
		return object{"type": "array", "items": text}
	case f.Type == "bool":
		return or(object{"enum": []any{true, false, "true", "false"}})
	case f.Type == "number":
		return object{"anyOf": []any{object{"type": "integer"}, object{"type": "string", "pattern": `^[0-9]+$`}, ref("variable")}}
	case f.Type == "duration":
		return or(object{"type": "string", "pattern": `^([0-9.]+(h|m|s|ms|us|µs|ns))+$`})
	case f.Type == "duration or off":
		return object{"anyOf": []any{object{"type": "string", "pattern": `^(([0-9.]+(h|m|s|ms|us|µs|ns))+|0|off|false)$`}, object{"enum": []any{0, false}}, ref("variable")}}
	case f.Type == "size":
		return or(object{"type": []string{"string", "integer"}, "pattern": `^[0-9]+ *([KMG]iB|[kMG]B|B)?$`})
	}
	return text
}

// scalars lists values as YAML may hold them: a word that YAML reads as a
// number or a truth value in both forms.
func scalars(values []string) []any {
	var out []any
	for _, v := range values {
		if n, err := strconv.Atoi(v); err == nil {
			out = append(out, n)
		} else if v == "true" || v == "false" {
			out = append(out, v == "true")
		}
		out = append(out, v)
	}
	return out
}

// literal is the default of a field as a value, where its text is one.
func literal(f Field) (any, bool) {
	switch {
	case f.Type == "bool":
		return f.Default == "true", f.Default == "true" || f.Default == "false"
	case f.Type == "number":
		n, err := strconv.Atoi(f.Default)
		return n, err == nil
	case f.Type == "size" || f.Type == "duration" || f.Type == "address" || slices.Contains(f.values(), f.Default):
		return f.Default, !strings.Contains(f.Default, " ")
	}
	return nil, false
}
