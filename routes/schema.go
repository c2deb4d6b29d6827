package routes

import (
	"slices"
	"sync"
)

// Field is one key of routes.yaml: what the parser takes and the reference
// lists. Later marks a key of the contract that this release refuses.
type Field struct {
	Section, Key string
	Type         string
	Default      string
	Doc          string
	Later        bool
	Values       []string // all that it may be, where Type does not list them
	Of           string   // section of each value, for a list or a mapping with free keys
	As           string   // section of the value, where the key does not name it
}

// later makes the fields of a section that are refused for now.
func later(section string, keys ...string) []Field {
	var fs []Field
	for _, k := range keys {
		fs = append(fs, Field{Section: section, Key: k, Later: true})
	}
	return fs
}

// Reference lists every key of the file, section by section.
func Reference() []Field {
	var fs []Field
	for _, part := range [][]Field{topFields(), credentialFields(), routeFields(), callerFields(), ruleFields(), sqlFields(), egressFields(), otherFields(),
		later("cache", "shared")} {
		fs = append(fs, part...)
	}
	return fs
}

func topFields() []Field {
	return []Field{
		{Section: "", Key: "version", Type: "number", Default: "required", Doc: "Always 1.", Values: []string{"1"}},
		{Section: "", Key: "listen", Type: "mapping", Doc: "Where the gateway listens. Changing it needs a restart."},
		{Section: "", Key: "credentials", Type: "mapping", Default: "one named `environment`, from `AZURE_*`", Doc: "Who the gateway is, by name.", Of: "credential"},
		{Section: "", Key: "callers", Type: "mapping", Default: "whoever reaches a loopback or unix listener", Doc: "Who may call, by name: then nobody is anonymous.", Of: "caller"},
		{Section: "", Key: "routes", Type: "list", Default: "required, unless there is sql", Doc: "Which calls get which token; the first that matches and admits the caller decides.", Of: "route"},
		{Section: "", Key: "sql", Type: "list", Doc: "Doors for the drivers of databases: Azure SQL without a credential in the app.", Of: "sql"},
		{Section: "", Key: "egress", Type: "mapping", Doc: "What happens beyond the routes."},
		{Section: "", Key: "intercept", Type: "mapping", Default: "TLS to routed hosts is not ended, and tunnels to them are refused", Doc: "The CA by which programs that set HTTPS_PROXY get tokens. Changing it needs a restart."},
		{Section: "", Key: "cache", Type: "mapping", Doc: "Bounds of the token cache."},
		{Section: "", Key: "audit", Type: "mapping", Default: "where the log goes", Doc: "The file of audit lines."},
		{Section: "", Key: "log", Type: "mapping", Doc: "How the gateway logs."},

		{Section: "listen", Key: "proxy", Type: "address", Default: "127.0.0.1:8080", Doc: "The proxy port: host:port or unix:/path."},
		{Section: "listen", Key: "admin", Type: "address", Default: "127.0.0.1:8081", Doc: "The admin port; empty turns it off."},
		{Section: "listen", Key: "admin_key", Type: "secret", Doc: "Key of the admin port; needed off loopback."},
		{Section: "listen", Key: "health", Type: "address", Doc: "A further listener with /healthz, /readyz and /metrics only."},
		{Section: "listen", Key: "hosts", Type: "list of hosts", Doc: "Further names that the reverse door answers to; one without a port matches any."},
		{Section: "listen", Key: "plain", Type: "bool", Default: "false", Doc: "An address off loopback without TLS is meant."},
		{Section: "listen", Key: "tls", Type: "mapping", Doc: "TLS of the proxy port. Exactly one of acme and certificate_file.", As: "listen.tls"},

		{Section: "listen.tls", Key: "certificate_file", Type: "path", Doc: "PEM: the certificate and its chain, with the key unless key_file names it. Watched."},
		{Section: "listen.tls", Key: "key_file", Type: "path", Default: "certificate_file", Doc: "PEM: its key. Watched."},
		{Section: "listen.tls", Key: "acme", Type: "mapping", Doc: "The certificate is ordered and renewed by ACME (RFC 8555)."},
		{Section: "listen.tls", Key: "client_ca_file", Type: "path", Default: "callers are asked for no certificate", Doc: "PEM: the CAs of callers' certificates. Callers may show one."},
		{Section: "listen.tls", Key: "client_crl_file", Type: "path", Doc: "PEM or DER: lists of those of them that were revoked."},
		{Section: "acme", Key: "domains", Type: "list of names", Default: "required", Doc: "The names that callers reach the gateway by; no wildcards."},
		{Section: "acme", Key: "email", Type: "text", Doc: "Whom the CA writes to."},
		{Section: "acme", Key: "directory", Type: "URL", Default: "Let's Encrypt's", Doc: "The CA's directory: https, or http for loopback."},
		{Section: "acme", Key: "ca_file", Type: "path", Default: "the system's roots", Doc: "PEM bundle that alone is trusted for the directory."},
		{Section: "acme", Key: "storage", Type: "path", Default: "required", Doc: "A folder for account, keys and certificates that outlives restarts."},
		{Section: "acme", Key: "http", Type: "address", Default: "TLS-ALPN-01 alone, at the proxy port", Doc: "Where challenges of HTTP-01 are answered; the CA asks at port 80."},
	}
}

func credentialFields() []Field {
	return []Field{
		{Section: "credential", Key: "tenant_id", Type: "text", Doc: "Entra: the tenant's GUID or domain."},
		{Section: "credential", Key: "client_id", Type: "text", Default: "required", Doc: "The application's or client's ID; absent beside managed_identity."},
		{Section: "credential", Key: "client_secret", Type: "secret", Doc: "The secret's value: {env: NAME}, {file: PATH}, or {exec: [COMMAND, ARGUMENT]} under serve --allow-exec."},
		{Section: "credential", Key: "client_certificate", Type: "mapping", Doc: "Entra: a certificate whose key signs assertions."},
		{Section: "credential", Key: "client_key", Type: "mapping", Doc: "Other servers: the key that signs assertions of private_key_jwt."},
		{Section: "credential", Key: "federated_token", Type: "mapping", Doc: "Entra: a token of another issuer, got anew for each request. Exactly one source."},
		{Section: "credential", Key: "managed_identity", Type: "mapping", Doc: "An identity of the Azure machine itself; {} is the system-assigned one. Neither tenant_id nor client_id stand beside it."},
		{Section: "credential", Key: "cloud", Type: "public, usgov, usgov-dod, china", Default: "public", Doc: "Entra: picks the login host and the presets' hosts and scopes."},
		{Section: "credential", Key: "authority_host", Type: "URL", Default: "the cloud's", Doc: "Entra: https, or http for loopback."},
		{Section: "credential", Key: "ca_file", Type: "path", Default: "the system's roots", Doc: "PEM bundle that alone is trusted for the token endpoint."},
		{Section: "credential", Key: "token_endpoint", Type: "URL", Doc: "Any other OAuth2 server: its token endpoint, https, or http for loopback."},
		{Section: "credential", Key: "issuer", Type: "URL", Doc: "Any other OAuth2 server, in token_endpoint's place: its issuer, whose metadata (RFC 8414) names the rest."},
		{Section: "credential", Key: "token_endpoint_auth_method", Type: "client_secret_post, client_secret_basic, private_key_jwt", Default: "client_secret_basic (RFC 7591 §2); with issuer: what its metadata says; with client_key: private_key_jwt; Entra: client_secret_post", Doc: "How the client authenticates."},
		{Section: "credential", Key: "token_params", Type: "mapping", Doc: "Other servers: further form fields, such as audience or resource."},
		{Section: "credential", Key: "cae", Type: "bool", Default: "false", Doc: "Entra: declare cp1, for tokens that live long and can be revoked. A claims challenge is answered either way."},
		{Section: "credential", Key: "assertion_claims", Type: "mapping", Doc: "Further claims, signed into the assertion of client_certificate or client_key; at most 4 KiB as JSON."},
		{Section: "credential", Key: "fallback", Type: "name", Doc: "The credential of the same tenant or server to go on with when this one is refused as invalid_client."},

		{Section: "client_certificate", Key: "file", Type: "path", Default: "required", Doc: "PEM or PKCS#12: the certificate, with its key unless key_file names it."},
		{Section: "client_certificate", Key: "key_file", Type: "path", Doc: "PEM: the private key."},
		{Section: "client_certificate", Key: "password", Type: "secret", Doc: "Of a PKCS#12 file or of an encrypted key."},
		{Section: "client_certificate", Key: "send_chain", Type: "bool", Default: "false", Doc: "Send the certificate and its chain along (x5c)."},
		{Section: "client_key", Key: "file", Type: "path", Default: "required", Doc: "PEM: the private key."},
		{Section: "client_key", Key: "kid", Type: "text", Doc: "The key's ID at the server, sent as kid."},
		{Section: "client_key", Key: "alg", Type: "RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, ES512, EdDSA", Default: "what fits the key and the server's metadata", Doc: "The signature's algorithm."},
		{Section: "managed_identity", Key: "client_id", Type: "text", Doc: "Client ID of a user-assigned identity; at most one of the three."},
		{Section: "managed_identity", Key: "object_id", Type: "text", Doc: "Object (principal) ID of a user-assigned identity."},
		{Section: "managed_identity", Key: "resource_id", Type: "text", Doc: "Resource ID of a user-assigned identity: /subscriptions/…/userAssignedIdentities/NAME."},
		{Section: "federated_token", Key: "file", Type: "path", Doc: "Source: a file with the token."},
		{Section: "federated_token", Key: "managed_identity", Type: "mapping", Doc: "Source: a user-assigned managed identity of the machine, which proves the application."},
		{Section: "federated_token", Key: "url", Type: "mapping", Doc: "Source: a URL that is asked by GET with the audience added to its query, as in GitHub Actions."},
		{Section: "federated_token", Key: "gcp", Type: "mapping", Doc: "Source: the metadata server of Google Cloud."},
		{Section: "federated_token", Key: "exec", Type: "command", Doc: "Source: a command that prints the token, run under serve --allow-exec alone: [/absolute/path, ARGUMENT]."},
		{Section: "federated_token", Key: "audience", Type: "text", Default: "api://AzureADTokenExchange, in other clouds with USGov or China behind it", Doc: "What managed_identity, url and gcp are asked for."},
		{Section: "federated_token", Key: "identity_binding", Type: "bool", Default: "false", Doc: "Identity bindings of AKS: the request goes to the token proxy that AZURE_KUBERNETES_TOKEN_PROXY names. With file alone."},
		{Section: "url", Key: "address", Type: "URL", Default: "required", Doc: "https, or http for loopback; without the audience."},
		{Section: "url", Key: "secret", Type: "secret", Doc: "What the source wants to see."},
		{Section: "url", Key: "header", Type: "field name", Default: "Authorization", Doc: "The field that gets the secret."},
		{Section: "url", Key: "format", Type: "text", Default: "Bearer {secret}", Doc: "Its value."},
		{Section: "url", Key: "member", Type: "text", Default: "value", Doc: "The member of the JSON answer that holds the token."},
		{Section: "gcp", Key: "service_account", Type: "text", Default: "default", Doc: "Which service account of the machine: default, or an e-mail address."},
	}
}

func routeFields() []Field {
	return []Field{
		{Section: "route", Key: "preset", Type: "name of a preset", Doc: "A well-known API: fills name, hosts, scope and what its calls need besides. One whose hosts many customers share needs hosts.", Values: presetNames()},
		{Section: "route", Key: "name", Type: "[a-z0-9-]", Default: "the preset", Doc: "The label in logs and metrics."},
		{Section: "route", Key: "hosts", Type: "list of hosts", Default: "the preset's", Doc: "Exact, or *.suffix; with a port if it is not 443. Beside a preset, exact alone."},
		{Section: "route", Key: "scope", Type: "text", Default: "the preset's", Doc: "Sent as it stands. Entra: exactly one <audience>/.default."},
		{Section: "route", Key: "credential", Type: "name", Default: "default, else the only one", Doc: "Whose token."},
		{Section: "route", Key: "upstream", Type: "URL", Default: "the host itself", Doc: "Where to dial instead: https, or http for loopback. Host and SNI stay the host's."},
		{Section: "route", Key: "mount", Type: "path", Default: "/<name>", Doc: "Prefix of the reverse door."},
		{Section: "route", Key: "callers", Type: "list of names", Default: "any named caller", Doc: "Who may use the route; part of the match, so that two routes for one host can serve two callers."},
		{Section: "route", Key: "paths", Type: "list of patterns", Default: "every path", Doc: "Part of the match: segments of decoded text, * or {name} for any one, ** at the end for all the rest."},
		{Section: "route", Key: "allow", Type: "list", Default: "everything that matches", Doc: "What is allowed on the route: a call needs one rule for both its method and its path.", Of: "rule"},
		{Section: "route", Key: "tenant", Type: "mapping", Default: "the credential's tenant", Doc: "Entra: the call says which tenant's token it gets. Exactly one of header, path and by_caller; what is not allowed is refused."},
		{Section: "route", Key: "limits", Type: "mapping", Doc: "Bounds of the route's calls."},
		{Section: "route", Key: "tls", Type: "mapping", Doc: "TLS towards the upstream."},
		{Section: "route", Key: "inject", Type: "mapping", Doc: "Where the token goes."},
		{Section: "route", Key: "set_headers", Type: "mapping", Doc: "Fields that every request gets."},
		{Section: "route", Key: "retry", Type: "mapping", Doc: "The second try after a 401."},
		{Section: "route", Key: "timeouts", Type: "mapping", Doc: "Patience with the upstream."},
		{Section: "route", Key: "cookies", Type: "affinity, pass", Default: "affinity", Doc: "Which cookies pass: those of load balancers, or all."},
		{Section: "route", Key: "mode", Type: "enforce, report", Default: "enforce", Doc: "report logs what allow would refuse, and lets it pass; callers and tenants are enforced all the same."},
		{Section: "route", Key: "upgrade", Type: "list of protocols", Default: "none", Doc: "Protocols that calls may switch to (RFC 9110 §7.8): websocket.", Values: protocols()},
		{Section: "route", Key: "hand_out", Type: "none, placeholder", Default: "none", Doc: "placeholder: apps that insist on a credential of their own get a placeholder for this route's tenant and scope, from the login host inside the tunnel or from the managed identity endpoint. It is worth nothing elsewhere."},
		{Section: "route", Key: "rewrite_links", Type: "bool", Default: "false", Doc: "Reverse door: absolute links in JSON lead back to the gateway, in answers, and to the host, in requests. The route needs a mount."},

		{Section: "tls", Key: "ca_file", Type: "path", Default: "the system's roots", Doc: "PEM bundle that alone is trusted."},
		{Section: "tls", Key: "client_certificate_file", Type: "path", Doc: "PEM certificate shown to the upstream."},
		{Section: "tls", Key: "client_key_file", Type: "path", Default: "client_certificate_file", Doc: "Its key."},
		{Section: "tls", Key: "server_name", Type: "host", Default: "the host", Doc: "Name that the upstream's certificate must have."},
		{Section: "inject", Key: "header", Type: "field name", Default: "Authorization", Doc: "The field that gets the token."},
		{Section: "inject", Key: "format", Type: "text", Default: "Bearer {token}", Doc: "Its value."},
		{Section: "retry", Key: "replay", Type: "size or off", Default: "1MiB", Doc: "Bytes of the body kept for the second try; off turns it off."},
		{Section: "timeouts", Key: "response_header", Type: "duration", Default: "120s", Doc: "How long the upstream may take to begin its answer."},
	}
}

func otherFields() []Field {
	return []Field{
		{Section: "cache", Key: "entries", Type: "number", Default: "100000", Doc: "How many tokens are kept."},
		{Section: "cache", Key: "memory", Type: "size", Default: "512MiB", Doc: "How much memory they may take."},
		{Section: "log", Key: "level", Type: "trace, debug, info, warn, error", Default: "info", Doc: "What is logged."},
		{Section: "log", Key: "format", Type: "json, console", Default: "json", Doc: "How it looks."},
		{Section: "log", Key: "access", Type: "bool", Default: "true", Doc: "A line for each call."},
		{Section: "log", Key: "debug_headers", Type: "bool", Default: "false", Doc: "Gateway-Route, Gateway-Token-Source and Gateway-Retry on answers."},
	}
}

// sections are the fields of each section, made once and never changed.
var sections = sync.OnceValue(func() map[string][]Field {
	out := map[string][]Field{}
	for _, f := range Reference() {
		out[f.Section] = append(out[f.Section], f)
	}
	return out
})

// section returns the fields of one section.
func section(name string) []Field { return sections()[name] }

// vocabulary tells whether word is a key of the file.
func vocabulary(word string) bool {
	for _, fs := range sections() {
		if slices.ContainsFunc(fs, func(f Field) bool { return f.Key == word }) {
			return true
		}
	}
	return false
}

// nearest is the field closest to a key that is none, or "".
func nearest(key string, fs []Field) string {
	best, name := 3, ""
	for _, f := range fs {
		if d := distance(key, f.Key); d < best && 2*d <= max(len(key), len(f.Key)) {
			best, name = d, f.Key
		}
	}
	return name
}

// distance is how many letters have to change to make b of a (Levenshtein).
// Only the beginning of long words is compared, since only near misses matter.
func distance(a, b string) int {
	a, b = a[:min(len(a), maxLabel)], b[:min(len(b), maxLabel)]
	prev := make([]int, len(b)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := range len(a) {
		diagonal := prev[0]
		prev[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = prev[j+1]
			prev[j+1] = min(cost, prev[j]+1, prev[j+1]+1)
		}
	}
	return prev[len(b)]
}
