package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
)

// shellFormat is for eval in a shell as POSIX has it: within single quotes
// everything stands for itself but the single quote.
func shellFormat(vs []variable) ([]byte, error) {
	var b bytes.Buffer
	for _, v := range vs {
		if v.unset {
			fmt.Fprintf(&b, "unset %s\n", v.name)
			continue
		}
		fmt.Fprintf(&b, "export %s='%s'\n", v.name, strings.ReplaceAll(v.value, "'", `'\''`))
	}
	return b.Bytes(), nil
}

// dockerFormat is for --env-file: to the end of the line everything stands for
// itself. What is not there is not set.
func dockerFormat(vs []variable) ([]byte, error) {
	var b bytes.Buffer
	for _, v := range vs {
		if !v.unset {
			fmt.Fprintf(&b, "%s=%s\n", v.name, v.value)
		}
	}
	return b.Bytes(), nil
}

// systemdFormat is for EnvironmentFile (systemd.exec(5)): within double quotes
// a backslash takes the meaning from what the shell would expand.
func systemdFormat(vs []variable) ([]byte, error) {
	escape := strings.NewReplacer(`\`, `\\`, `"`, `\"`, "$", `\$`, "`", "\\`")
	var b bytes.Buffer
	for _, v := range vs {
		if !v.unset {
			fmt.Fprintf(&b, "%s=\"%s\"\n", v.name, escape.Replace(v.value))
		}
	}
	return b.Bytes(), nil
}

// kubernetesFormat is the env of a container: JSON strings are YAML, and $(NAME)
// would be expanded but for a second $.
func kubernetesFormat(vs []variable) ([]byte, error) {
	var b bytes.Buffer
	b.WriteString("env:\n")
	for _, v := range vs {
		if v.unset {
			continue
		}
		quoted, err := plainJSON(strings.ReplaceAll(v.value, "$(", "$$("))
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(&b, "  - name: %s\n    value: %s\n", v.name, quoted)
	}
	return b.Bytes(), nil
}

// jsonFormat is one object; null is for what must not be set.
func jsonFormat(vs []variable) ([]byte, error) {
	var b bytes.Buffer
	b.WriteString("{")
	for i, v := range vs {
		value := []byte("null")
		if !v.unset {
			var err error
			if value, err = plainJSON(v.value); err != nil {
				return nil, err
			}
		}
		if i > 0 {
			b.WriteString(",")
		}
		fmt.Fprintf(&b, "\n  %q: %s", v.name, value)
	}
	b.WriteString("\n}\n")
	return b.Bytes(), nil
}

// plainJSON keeps < > and & readable.
func plainJSON(s string) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(s)
	return bytes.TrimSpace(b.Bytes()), err
}
