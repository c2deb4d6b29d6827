package sandbox

import (
	"fmt"
	"net/http"
	"strconv"
)

// A refusal is one AADSTS error. The texts are those of the real service as
// far as its users have quoted them.
type refusal struct {
	status int
	oauth  string // the member error, RFC 6749 §5.2
	code   int    // the number after AADSTS
	text   string

	suberror, claims string // "": not there
}

// refuse returns a refusal with the HTTP status that Entra gives its kind: 401
// for invalid_client, 400 for everything else.
func refuse(oauth string, code int, format string, args ...any) *refusal {
	status := http.StatusBadRequest
	if oauth == "invalid_client" {
		status = http.StatusUnauthorized
	}
	return &refusal{status: status, oauth: oauth, code: code, text: fmt.Sprintf(format, args...)}
}

func missing(parameter string) *refusal {
	return refuse("invalid_request", 900144, "The request body must contain the following parameter: '%s'.", parameter)
}

func malformed() *refusal {
	return refuse("invalid_request", 9002313, "Invalid request. Request is malformed or invalid.")
}

// errorBody is the error answer of the token endpoint and of discovery.
type errorBody struct {
	Error       string `json:"error"`
	Description string `json:"error_description"`
	Codes       []int  `json:"error_codes"`
	Timestamp   string `json:"timestamp"`
	Trace       string `json:"trace_id"`
	Correlation string `json:"correlation_id"`
	URI         string `json:"error_uri"`
	Suberror    string `json:"suberror,omitempty"`
	Claims      string `json:"claims,omitempty"`
}

// body dresses the refusal as the answer to x.
func (f *refusal) body(x *exchange) errorBody {
	stamp := x.now.UTC().Format("2006-01-02 15:04:05Z")
	return errorBody{
		Error: f.oauth,
		Description: fmt.Sprintf("AADSTS%d: %s Trace ID: %s Correlation ID: %s Timestamp: %s",
			f.code, f.text, x.trace, x.correlation, stamp),
		Codes: []int{f.code}, Timestamp: stamp, Trace: x.trace, Correlation: x.correlation,
		URI:      x.origin + "/error?code=" + strconv.Itoa(f.code),
		Suberror: f.suberror, Claims: f.claims,
	}
}

// write answers x with the refusal.
func (f *refusal) write(w http.ResponseWriter, x *exchange) {
	x.dress(w)
	writeJSON(w, f.status, f.body(x))
}
