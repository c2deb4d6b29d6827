package main

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

const (
	keyBytes      = 32 // of an API key: 256 bits, so that its digest needs no salt
	maxCallerName = 64
)

// keyJSON is what keygen --json prints.
type keyJSON struct {
	Name   string `json:"name"`
	Key    string `json:"key"`
	SHA256 string `json:"sha256"` // in hex, for routes.yaml
}

func newKeygen(s std) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "keygen NAME",
		Short: "Make an API key for a caller, and its line for routes.yaml",
		Long: `Makes an API key of 256 random bits and shows it once, with the line that goes
under callers: in routes.yaml. That line holds the key's SHA-256 alone: who reads
routes.yaml cannot call. Nothing is written to disk.`,
		Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			k, err := newKey(args[0])
			if err != nil {
				return err
			}
			if asJSON {
				return no(printJSON(s.out, k))
			}
			_, err = fmt.Fprintf(s.out, "%s\n\ncallers:\n  %s: {api_key: {sha256: %s}}\n", k.Key, yamlKey(k.Name), k.SHA256)
			fmt.Fprintf(s.err, "The key is shown this once. Give it to the caller, and the lines below it to routes.yaml.\n")
			return no(err)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON: name, key, sha256")
	return cmd
}

func newKey(name string) (keyJSON, error) {
	if !callerName(name) {
		return keyJSON{}, fmt.Errorf("%q is no name for a caller; use letters, digits, '.', '_' and '-', at most %d of them", name, maxCallerName)
	}
	var b [keyBytes]byte
	_, _ = rand.Read(b[:]) // it never fails (crypto/rand)
	key := base64.RawURLEncoding.EncodeToString(b[:])
	sum := sha256.Sum256([]byte(key))
	return keyJSON{Name: name, Key: key, SHA256: hex.EncodeToString(sum[:])}, nil
}

func callerName(s string) bool {
	const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-"
	return s != "" && len(s) <= maxCallerName && strings.Trim(s, letters) == ""
}

// yamlKey quotes a name that YAML would read as something else, such as a
// number or a truth.
func yamlKey(name string) string {
	words := []string{"true", "false", "null", "yes", "no", "on", "off", "y", "n"}
	plain := strings.Trim(name[:1], "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ") == ""
	if plain && !slices.Contains(words, strings.ToLower(name)) {
		return name
	}
	return `"` + name + `"`
}
