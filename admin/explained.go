package admin

// Explanation answers GET /api/explain, and is what gateway explain --json
// prints: which line of routes.yaml decides a call, and what becomes of it.
type Explanation struct {
	Allowed bool   `json:"allowed"`
	Door    string `json:"door"`
	Caller  string `json:"caller,omitempty"` // "" for anyone who can reach the listener
	Code    string `json:"code,omitempty"`   // of the refusal
	Detail  string `json:"detail,omitempty"` // what the caller is told
	Cause   string `json:"cause,omitempty"`  // what the log says: Detail, and what is not for the caller to know
	Remedy  string `json:"remedy,omitempty"` // the next step
	Hint    string `json:"hint,omitempty"`   // about the question
	Route   string `json:"route,omitempty"`  // that takes the call, or that refused it or came nearest
	At      string `json:"at,omitempty"`     // file and line of the route

	Decided        Ground         `json:"decided"`                    // the line that decided, also for a refusal
	PassedOver     []ExplainedWay `json:"passed_over"`                // routes before that one, in the order of the file; at most 20
	MorePassedOver int            `json:"more_passed_over,omitempty"` // that were left out
	Also           []ExplainedWay `json:"also"`                       // later routes that would have taken this call; at most 20
	MoreAlso       int            `json:"more_also,omitempty"`
	Tried          []Ground       `json:"tried,omitempty"` // rules of the route that do not hold; at most 20
	MoreTried      int            `json:"more_tried,omitempty"`
	Nearest        *Ground        `json:"nearest,omitempty"` // of all rules tried

	Rule       string   `json:"rule,omitempty"`       // file and line of the allow rule that decided
	WouldDeny  string   `json:"would_deny,omitempty"` // mode report: what enforcing would refuse
	Batch      bool     `json:"batch,omitempty"`      // each call inside is judged by itself
	Credential string   `json:"credential,omitempty"`
	Tenant     string   `json:"tenant,omitempty"`
	Chosen     bool     `json:"tenant_chosen,omitempty"` // the call chose the tenant
	Endpoint   string   `json:"token_endpoint,omitempty"`
	Fallback   []string `json:"fallback,omitempty"` // in line behind the credential
	Scope      string   `json:"scope,omitempty"`
	Second     string   `json:"second_scope,omitempty"` // of the token in a field of its own
	Upstream   string   `json:"upstream,omitempty"`
	Servers    []string `json:"servers,omitempty"`      // of a SQL door
	Database   string   `json:"database,omitempty"`     // of a SQL door, where its clients name none
	URL        string   `json:"url,omitempty"`          // as the upstream sees it, without its query
	Replay     int64    `json:"replay_bytes,omitempty"` // kept of a body for the second try
	Way        string   `json:"way,omitempty"`          // intercepted or through, where there is no more to say of a tunnel or call
	Reaches    string   `json:"reaches,omitempty"`      // public or any: addresses, of what is passed through
}

// Ground is a line of routes.yaml, and what it has to do with the call.
type Ground struct {
	At   string `json:"at,omitempty"`   // file and line; absent where no line of the file decides
	Line string `json:"line,omitempty"` // its text, secrets masked
	Why  string `json:"why"`
}

// ExplainedWay is a route that did not decide.
type ExplainedWay struct {
	Route string `json:"route"`
	At    string `json:"at"` // file and line
	Why   string `json:"why"`
}
