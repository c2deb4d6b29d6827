package routes

// callerFields are those of who may call.
func callerFields() []Field {
	return []Field{
		{Section: "caller", Key: "api_key", Type: "mapping or list", Doc: "The digest of its key, or several while one is rotated; gateway keygen makes both.", As: "api_key"},
		{Section: "caller", Key: "client_certificate", Type: "mapping", Doc: "A name in its certificate, which is of a CA of listen.tls.client_ca_file. Exactly one of uri_san and dns_san.", As: "caller.client_certificate"},
		{Section: "caller", Key: "jwt", Type: "mapping", Doc: "What its token says: of GitHub Actions, Kubernetes, Entra, SPIFFE or any other issuer with metadata."},
		{Section: "caller", Key: "uid", Type: "number", Doc: "Linux: the owner of the peer's loopback or unix socket, as the kernel says."},
		{Section: "caller", Key: "tenants", Type: "list of tenants", Default: "none", Doc: "GUIDs or domains that it may choose where a route lets it."},
		{Section: "caller", Key: "limits", Type: "mapping", Doc: "Bounds of its calls, over all routes.", As: "caller.limits"},

		{Section: "api_key", Key: "sha256", Type: "text", Default: "required", Doc: "SHA-256 of the key, as 64 hexadecimal digits; never the key itself."},
		{Section: "caller.client_certificate", Key: "uri_san", Type: "text", Doc: "A URI that is compared as it stands, such as spiffe://contoso/billing."},
		{Section: "caller.client_certificate", Key: "dns_san", Type: "text", Doc: "The name of a host; no wildcard."},
		{Section: "jwt", Key: "issuer", Type: "URL", Default: "required", Doc: "Compared with iss as it stands; its metadata names the keys. https, or http for loopback."},
		{Section: "jwt", Key: "audience", Type: "text", Default: "required", Doc: "What aud has to be, or hold."},
		{Section: "jwt", Key: "claims", Type: "mapping", Doc: "Further claims, each with the value, or a list of the values, that it may have. All have to hold."},
		{Section: "jwt", Key: "ca_file", Type: "path", Default: "the system's roots", Doc: "PEM bundle that alone is trusted for the issuer."},
		{Section: "jwt", Key: "algorithms", Type: "list", Default: "RS256, PS256, ES256", Doc: "How the token may be signed: RS, PS and ES with 256, 384 and 512, and EdDSA; never by a shared secret."},
		{Section: "caller.limits", Key: "concurrency", Type: "number", Default: "none", Doc: "Calls under way at once."},
		{Section: "caller.limits", Key: "rate", Type: "rate", Default: "none", Doc: "Calls in a second, minute or hour, such as 100/s, 100/m, 100/h."},
	}
}

// ruleFields are those of what callers may do on a route.
func ruleFields() []Field {
	return []Field{
		{Section: "rule", Key: "methods", Type: "list of methods", Default: "any", Doc: "Methods; GET does not stand for HEAD."},
		{Section: "rule", Key: "paths", Type: "list of patterns", Default: "any", Doc: "Patterns as under paths of the route, judged on the decoded path. Ambiguous paths are refused."},
		{Section: "tenant", Key: "header", Type: "field name", Doc: "The field that names the tenant; it goes no further."},
		{Section: "tenant", Key: "path", Type: "path", Doc: "The path's first segments, with {tenant} as one of them, such as /t/{tenant}; they go no further."},
		{Section: "tenant", Key: "by_caller", Type: "bool", Default: "false", Doc: "The caller's tenant; each caller of the route has exactly one."},
		{Section: "tenant", Key: "allowed", Type: "list of tenants", Default: "those of the caller", Doc: "GUIDs or domains; the caller's own list holds beside it."},
		{Section: "tenant", Key: "allowed_file", Type: "path", Doc: "A file with one tenant a line, added to allowed; # begins a comment. Watched."},
		{Section: "limits", Key: "concurrency", Type: "number", Default: "none", Doc: "Calls under way at once."},
		{Section: "limits", Key: "rate", Type: "rate", Default: "none", Doc: "Calls in a second, minute or hour, such as 100/s, 100/m, 100/h."},
		{Section: "limits", Key: "max_body", Type: "size or none", Default: "none", Doc: "Bytes of a request's body."},
		{Section: "audit", Key: "file", Type: "path", Default: "required", Doc: "Where audit lines go, as JSON, one a line."},
		{Section: "audit", Key: "max_size", Type: "size", Default: "100MiB", Doc: "How large the file grows before a new one is begun."},
		{Section: "audit", Key: "keep", Type: "number", Default: "10", Doc: "How many old files are kept."},
	}
}

// egressFields are those of what happens beyond the routes, and of the CA.
func egressFields() []Field {
	return []Field{
		{Section: "egress", Key: "default", Type: "deny, tunnel", Default: "deny", Doc: "What happens to hosts that no route names: they are refused, or passed through untouched at the ports 443 and 80. Routes win."},
		{Section: "egress", Key: "allow", Type: "list of hosts", Default: "none", Doc: "Hosts that are passed through untouched, never with a token: exact, or *.suffix; with a port if it is not 443. Routes win."},
		{Section: "egress", Key: "deny_private", Type: "bool", Default: "true", Doc: "What is passed through reaches no private address, loopback among them. Routed hosts may be private. Metadata services, link-local addresses and the gateway's own listeners are never dialled."},
		{Section: "egress", Key: "proxy", Type: "mapping", Doc: "Next hop for upstreams, token endpoints and what is passed through. The gateway's own HTTP_PROXY is never obeyed; loopback is dialled directly."},
		{Section: "proxy", Key: "url", Type: "URL", Default: "required", Doc: "http or https, without user information."},
		{Section: "proxy", Key: "username", Type: "text", Doc: "For Basic authentication."},
		{Section: "proxy", Key: "password", Type: "secret", Doc: "For Basic authentication."},
		{Section: "proxy", Key: "bypass", Type: "list", Doc: "Hosts, .suffixes, addresses and CIDR blocks that are dialled directly."},

		{Section: "intercept", Key: "ca_dir", Type: "path", Default: "required", Doc: "The folder of root.pem, issuing.pem and issuing.key, which serve makes where there is none. The CA can sign for the routed hosts, and the login hosts of routes with hand_out: placeholder, alone. Clients trust what gateway ca export prints."},
	}
}
