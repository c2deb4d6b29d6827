package admin

// Endpoint is one thing that the admin port can be asked for, as the reference
// lists it.
type Endpoint struct {
	Method, Path string
	Open         bool   // needs no key, and is at the health listener too
	Query        string // what may stand in it
	Answer       string // type of the JSON, "" for what is none
	Doc          string
}

// Endpoints lists what the admin port can be asked for.
func Endpoints() []Endpoint {
	return []Endpoint{
		{"GET", "/healthz", true, "", "", "The process is up."},
		{"GET", "/readyz", true, "route, strict", "Readiness", "503 until every static credential has once got a token; afterwards only when no route has a usable one."},
		{"GET", "/metrics", true, "", "", "Prometheus, see [metrics](metrics.md)."},
		{"GET", "/api/status", false, "", "Status", "What runs, since when, and what came of the last reading of routes.yaml."},
		{"GET", "/api/routes", false, "", "Routes", "Routes and SQL doors of the table in force, with what was counted since the start."},
		{"GET", "/api/credentials", false, "", "[]Credential", "Whether each can be used, what is wrong with it and what to do, and when its proof ends."},
		{"GET", "/api/tokens", false, "", "[]Token", "What is cached, and what could not be had; never a token. At most 1000; `Gateway-Left-Out` says how many more there are."},
		{"GET", "/api/requests", false, "route, caller, status (403, 4xx), code, limit (100; at most 1000)", "[]Request", "The latest calls, newest first. With `Accept: text/event-stream` the same as events `request`, oldest first, and those that follow."},
		{"GET", "/api/sessions", false, "route (the door), caller, code (the result), limit", "[]Session", "The latest logins of database drivers and ends of their sessions, newest first; as events `session` too."},
		{"GET", "/api/permissions", false, "", "Permissions", "What the tokens of each credential may do, which of it calls used, and what the API refused."},
		{"GET", "/api/explain", false, "method, url, caller", "Explanation", "What `gateway explain --json` prints, for the table in force. A call that would be refused is answered with 200 too."},
		{"POST", "/api/reload", false, "", "Reloaded", "Reads routes.yaml again; 422 when it was not taken."},
		{"POST", "/api/purge", false, "credential, tenant, scope", "Purged", "Forgets tokens, all of them without a query."},
	}
}
