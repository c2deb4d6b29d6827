package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strconv"
	"testing"
	"time"
)

type fakeObject = map[string]any

// fakeAdmin is the live page of a real gateway before answers in which nearly
// everything is wrong.
type fakeAdmin struct {
	key   string // "": none is needed
	left  int    // tokens that its answer leaves out
	calls []fakeObject
	more  chan fakeObject // to be streamed
}

// newFakeAdmin serves one until the test ends, with the page of the admin port
// at real, and returns its address.
func newFakeAdmin(t *testing.T, real, key string) string {
	t.Helper()
	return serveFake(t, real, &fakeAdmin{key: key, calls: fakeCalls()}, fakeAnswers())
}

// newCrowdedAdmin serves one with a thousand calls and five thousand tokens.
func newCrowdedAdmin(t *testing.T, real string) string {
	t.Helper()
	const tokens, shown = 5000, 1000
	f, answers := &fakeAdmin{left: tokens - shown}, fakeAnswers()
	for id := range 1000 {
		f.calls = append(f.calls, fakeCall(id+1))
	}
	var list []fakeObject
	for i := range shown {
		list = append(list, fakeObject{
			"credential": "default", "tenant": fmt.Sprintf("tenant-%d.example", i), "scope": "https://graph.microsoft.com/.default", "sha256": fmt.Sprintf("%016x", i),
			"source": "cache", "obtained": time.Now(), "refresh_at": time.Now().Add(time.Hour), "expires": time.Now().Add(2 * time.Hour), "usable": i != 700, "failing": i == 700,
		})
	}
	answers["tokens"] = list
	return serveFake(t, real, f, answers)
}

func serveFake(t *testing.T, real string, f *fakeAdmin, answers map[string]any) string {
	t.Helper()
	f.more = make(chan fakeObject, 10)
	mux := http.NewServeMux()
	mux.Handle("/", httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: real}))
	for path, answer := range answers {
		mux.HandleFunc("GET /api/"+path, f.guarded(func(w http.ResponseWriter, _ *http.Request) {
			if path == "tokens" {
				w.Header().Set("Gateway-Left-Out", strconv.Itoa(f.left))
			}
			fakeReply(w, http.StatusOK, answer)
		}))
	}
	mux.HandleFunc("GET /api/requests", f.guarded(f.stream))
	mux.HandleFunc("POST /fake/emit", func(w http.ResponseWriter, r *http.Request) {
		call := fakeCall(4)
		if err := json.NewDecoder(r.Body).Decode(&call); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		times, _ := strconv.Atoi(r.URL.Query().Get("times")) // 0: once
		for i := range max(times, 1) {
			one := maps.Clone(call)
			one["id"] = time.Now().UnixMicro() + int64(i)
			f.more <- one
		}
	})
	srv := httptest.NewServer(mux)
	t.Cleanup(func() {
		srv.CloseClientConnections()
		srv.Close()
	})
	return srv.URL
}

func (f *fakeAdmin) guarded(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		switch shown := r.Header.Get("Authorization"); {
		case f.key == "" || shown == "Bearer "+f.key:
			next(w, r)
		case shown == "":
			fakeReply(w, http.StatusUnauthorized, fakeObject{"error": "send the admin key as a Bearer credential"})
		default:
			fakeReply(w, http.StatusUnauthorized, fakeObject{"error": "the admin key is wrong"})
		}
	}
}

// stream begins with the calls there are, and goes on with those that come.
func (f *fakeAdmin) stream(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	control := http.NewResponseController(w)
	write := func(call fakeObject) {
		text, _ := json.Marshal(call) // made of plain values
		fmt.Fprintf(w, "event: request\nid: %v\ndata: %s\n\n", call["id"], text)
		_ = control.Flush() // the reader has left if this fails
	}
	for _, call := range f.calls {
		write(call)
	}
	for {
		select {
		case call := <-f.more:
			write(call)
		case <-r.Context().Done():
			return
		}
	}
}

func fakeReply(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // the browser has left if this fails
}

func fakeCall(id int) fakeObject {
	return fakeObject{
		"id": id, "request_id": fmt.Sprintf("r%d", id), "time": time.Now(), "door": "reverse", "caller": "reports-job", "route": "graph",
		"rule": 12, "template": "/v1.0/users/**", "method": "GET", "host": "graph.microsoft.com", "path": "/v1.0/users", "status": 200,
		"token_source": "cache", "token_id": "q3ZJ", "token_wait_ms": 0, "upstream_ms": 41.2, "duration_ms": 43.9, "bytes_in": 0, "bytes_out": 5120,
	}
}

func fakeCalls() []fakeObject {
	calls := []fakeObject{fakeCall(1), fakeCall(2), fakeCall(3)}
	for field, v := range (fakeObject{
		"status": 403, "code": "rule_denied", "rule": 0, "template": "", "token_source": "", "token_id": "", "method": "DELETE",
		"cause": "no allow rule of route graph lets DELETE pass", "remedy": "Add DELETE under routes[0].allow, if reports-job is to have it.",
	}) {
		calls[1][field] = v
	}
	for field, v := range (fakeObject{
		"status": 403, "retry": "refused_again", "token_source": "identity_provider", "token_wait_ms": 212,
		"remark": "the token has the roles User.Read.All and lacks Mail.Send", "remedy": "Grant Mail.Send to the application and have an administrator consent.",
	}) {
		calls[2][field] = v
	}
	return calls
}

func fakePermissions(now time.Time) fakeObject {
	return fakeObject{
		"credential": "default", "scope": "https://graph.microsoft.com/.default", "routes": []string{"graph"}, "token": "read", "graph": true, "unknown_calls": 0,
		"roles": []fakeObject{
			{"name": "Group.Read.All", "use": "unused", "calls": 0}, {"name": "Sites.Selected", "use": "unclear", "calls": 0},
			{"name": "User.Read.All", "use": "used", "calls": 212, "last": now},
		},
		"denied": []fakeObject{
			{"route": "graph", "method": "GET", "template": "/v1.0/reports/{id}", "denied": 1, "last": now, "remark": "which permission it wants is not known here", "remedy": "see its documentation"},
			{"route": "graph", "method": "POST", "template": "/v1.0/users/{id}/sendMail", "denied": 3, "last": now, "missing": "Mail.Send", "remark": "it wants Mail.Send",
				"remedy": "az ad app permission add --id 0000 --api 1111 --api-permissions 2222=Role, then gateway purge --credential default"},
		},
		"calls": []fakeObject{},
	}
}

// fakeAnswers are those of the API, by path.
func fakeAnswers() map[string]any {
	now := time.Now()
	return map[string]any{
		"status": fakeObject{
			"version": "v0.7.0", "started": now.Add(-3 * time.Hour), "config": "/etc/gateway/routes.yaml", "ready": true, "requests": 1234, "hit_rate": 0.987,
			"degraded": []string{"route orders has no usable token"},
			"reload": fakeObject{"ok": false, "at": now.Add(-time.Minute), "warnings": []string{"routes.yaml:3:3: listen needs a restart"},
				"error": "routes.yaml:14:5: routes[1].scpoe: unknown key\n   | 14 |     scpoe: api://orders/.default\n   |          ^\n   write scope"},
		},
		"routes": fakeObject{
			"routes": []fakeObject{
				{"name": "graph", "line": 9, "preset": "graph", "hosts": []string{"graph.microsoft.com"}, "mount": "/graph", "scope": "https://graph.microsoft.com/.default",
					"credential": "default", "callers": []string{"reports-job"}, "requests": 1200, "refusals": 7, "errors": 3, "p50_ms": 41.5, "p99_ms": 530.0, "rate_1m": 0.5, "last": now},
				{"name": "orders", "line": 14, "hosts": []string{"api.contoso.com"}, "mount": "/orders", "scope": "api://orders/.default", "credential": "older",
					"callers": nil, "requests": 34, "refusals": 34, "errors": 0, "p50_ms": 0, "p99_ms": 0, "rate_1m": 0},
			},
			"sql": []fakeObject{{"name": "orders-db", "line": 30, "listen": "127.0.0.1:1433", "server": "orders.database.windows.net:1433", "sessions": 1, "logins": 2, "failures": 1}},
		},
		"credentials": []fakeObject{
			{"name": "default", "kind": "certificate", "ready": true, "expires": now.Add(6*24*time.Hour + time.Hour), "days_left": 6, "clock_skew": 0},
			{"name": "older", "kind": "secret", "ready": false, "clock_skew": 184.0, "reason": `credential "older": AADSTS7000222: the client secret has expired`,
				"remedy": "Make a new client secret and put its value in place of the old one."},
		},
		"tokens": []fakeObject{
			{"credential": "default", "scope": "https://graph.microsoft.com/.default", "sha256": "9f86d081884c7d65", "source": "cache", "obtained": now.Add(-10 * time.Minute),
				"refresh_at": now.Add(34 * time.Minute), "expires": now.Add(50 * time.Minute), "usable": true, "failing": false},
			{"credential": "older", "scope": "api://orders/.default", "usable": false, "failing": true, "error": "AADSTS7000222"},
		},
		"sessions": []fakeObject{
			{"id": 2, "session": "s2", "event": "login", "time": now, "name": "orders-db", "caller": "reports-job", "user": "reports-job", "app": "sqlcmd", "token_source": "cache",
				"server": "orders.database.windows.net:1433", "database": "ordersdb", "result": "success"},
			{"id": 1, "session": "s1", "event": "login", "time": now, "name": "orders-db", "result": "upstream_refused", "number": 18456,
				"cause": "Login failed for user '<token-identified principal>'", "remedy": "CREATE USER [app] FROM EXTERNAL PROVIDER in that database."},
		},
		"permissions": fakeObject{"since": now.Add(-3 * time.Hour), "apis": []fakeObject{fakePermissions(now)}},
		"explain": fakeObject{"allowed": false, "door": "tunnel", "code": "rule_denied", "detail": "no allow rule lets GET /v1.0/me pass", "route": "graph", "at": "routes.yaml:9",
			"remedy":  "add the path to allow of route graph",
			"decided": fakeObject{"at": "routes.yaml:12", "line": "      - {methods: [GET], paths: [\"/v1.0/users/**\"]}", "why": "the last allow rule of route graph"},
			"passed_over": []fakeObject{
				{"route": "orders", "at": "routes.yaml:3", "why": "its host differs: api.contoso.com"}, {"route": "web", "at": "routes.yaml:6", "why": "does not admit caller reports-job"}},
			"more_passed_over": 7,
			"also":             []fakeObject{{"route": "graph-all", "at": "routes.yaml:20", "why": "graph comes first"}},
		},
	}
}
