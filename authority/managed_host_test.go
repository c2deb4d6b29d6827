package authority_test

import (
	"fmt"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed-13b04e61/gateway/authority"
	"github.com/seed-13b04e61/gateway/routes"
	"github.com/seed-13b04e61/gateway/tokens"
)

const (
	defaultIMDS = "http://169.254.169.254/metadata/identity/oauth2/token"
	defaultArc  = "http://127.0.0.1:40342/metadata/identity/oauth2/token"
	himds       = "/opt/azcmagent/bin/himds"
)

func TestTheFirstPlatformThatTheEnvironmentTellsWins(t *testing.T) {
	all := map[string]string{
		"IDENTITY_ENDPOINT": "https://127.0.0.1:2377/x", "IDENTITY_HEADER": "h", "IDENTITY_SERVER_THUMBPRINT": strings.Repeat("ab", 20),
		"MSI_ENDPOINT": "http://127.0.0.1:41/ml", "MSI_SECRET": "s", "IMDS_ENDPOINT": "http://127.0.0.1:40342",
		"AZURE_POD_IDENTITY_AUTHORITY_HOST": "http://127.0.0.1:42",
	}
	without := func(names ...string) map[string]string {
		env := maps.Clone(all)
		for _, name := range names {
			env[name] = "" // an empty one is as good as none
		}
		return env
	}
	for _, tt := range []struct {
		name     string
		env      map[string]string
		files    []string
		host     string
		endpoint string
	}{
		{"everything", all, []string{himds}, "service_fabric", "https://127.0.0.1:2377/x"},
		{"no thumbprint", without("IDENTITY_SERVER_THUMBPRINT"), []string{himds}, "app_service", "https://127.0.0.1:2377/x"},
		{"no header", without("IDENTITY_HEADER"), []string{himds}, "azure_ml", "http://127.0.0.1:41/ml"},
		{"no endpoint", without("IDENTITY_ENDPOINT"), nil, "azure_ml", "http://127.0.0.1:41/ml"},
		{"Arc by its variables", without("IDENTITY_HEADER", "MSI_ENDPOINT"), nil, "azure_arc", "https://127.0.0.1:2377/x"},
		{"Arc by its agent", without("IDENTITY_ENDPOINT", "MSI_ENDPOINT"), []string{himds}, "azure_arc", defaultArc},
		{"Arc by its agent, endpoint named", without("IDENTITY_HEADER", "MSI_ENDPOINT", "IMDS_ENDPOINT"), []string{himds}, "azure_arc", "https://127.0.0.1:2377/x"},
		{"Container Instances", without("IDENTITY_ENDPOINT", "MSI_ENDPOINT"), nil, "imds", "http://127.0.0.1:42/metadata/identity/oauth2/token"},
		{"nothing", nil, nil, "imds", defaultIMDS},
		{"IPv6", map[string]string{"AZURE_POD_IDENTITY_AUTHORITY_HOST": "http://[fe80::1]:80/"}, nil, "imds", "http://[fe80::1]:80/metadata/identity/oauth2/token"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := managed(t, authority.Machine{Env: tt.env, Files: tt.files}, routes.ManagedIdentity{})
			if host, endpoint := m.Host(); host != tt.host || endpoint != tt.endpoint {
				t.Errorf("host = %s at %s, want %s at %s", host, endpoint, tt.host, tt.endpoint)
			}
		})
	}
}

func TestWhatAPlatformCannotGiveIsRefusedWithTheReason(t *testing.T) {
	var (
		fabric = map[string]string{"IDENTITY_ENDPOINT": "https://127.0.0.1:2377/x", "IDENTITY_HEADER": "h", "IDENTITY_SERVER_THUMBPRINT": strings.Repeat("ab", 20)}
		arc    = map[string]string{"IDENTITY_ENDPOINT": defaultArc, "IMDS_ENDPOINT": "http://127.0.0.1:40342"}
		ml     = map[string]string{"MSI_ENDPOINT": "http://127.0.0.1:41/ml", "MSI_SECRET": "s"}
		shell  = map[string]string{"MSI_ENDPOINT": "http://localhost:50342/oauth2/token"}
		with   = func(env map[string]string, name, value string) map[string]string {
			env = maps.Clone(env)
			env[name] = value
			return env
		}
		client   = routes.ManagedIdentity{ClientID: userID}
		object   = routes.ManagedIdentity{ObjectID: userID}
		resource = routes.ManagedIdentity{ResourceID: resourceID}
	)
	for _, tt := range []struct {
		name string
		env  map[string]string
		want routes.ManagedIdentity
		says []string
	}{
		{"Cloud Shell", shell, routes.ManagedIdentity{}, []string{"Cloud Shell", "user", "MSI_SECRET"}},
		{"Cloud Shell, client", shell, client, []string{"Cloud Shell", "user"}},
		{"Service Fabric, client", fabric, client, []string{"Service Fabric", "client_id", "cluster"}},
		{"Service Fabric, object", fabric, object, []string{"Service Fabric", "object_id"}},
		{"Service Fabric, resource", fabric, resource, []string{"Service Fabric", "resource_id"}},
		{"Arc, client", arc, client, []string{"Azure Arc", "client_id", "system-assigned"}},
		{"Arc, object", arc, object, []string{"Azure Arc", "object_id"}},
		{"Arc, resource", arc, resource, []string{"Azure Arc", "resource_id"}},
		{"Azure ML, object", ml, object, []string{"Azure ML", "object_id", "client ID only"}},
		{"Azure ML, resource", ml, resource, []string{"Azure ML", "resource_id"}},
		{"foreign host", map[string]string{"IDENTITY_ENDPOINT": "http://tokens.example/msi", "IDENTITY_HEADER": "m4rker"}, client, []string{"IDENTITY_ENDPOINT", "http://tokens.example", "https"}},
		{"public address", map[string]string{"IDENTITY_ENDPOINT": "http://192.0.2.7/msi", "IDENTITY_HEADER": "m4rker"}, client, []string{"IDENTITY_ENDPOINT", "192.0.2.7"}},
		{"foreign ML", with(ml, "MSI_ENDPOINT", "http://8.8.8.8/x"), routes.ManagedIdentity{}, []string{"MSI_ENDPOINT", "8.8.8.8"}},
		{"foreign IMDS", map[string]string{"AZURE_POD_IDENTITY_AUTHORITY_HOST": "http://imds.example"}, client, []string{"AZURE_POD_IDENTITY_AUTHORITY_HOST", "imds.example"}},
		{"foreign Arc", with(arc, "IDENTITY_ENDPOINT", "http://127.0.0.1.example/"), routes.ManagedIdentity{}, []string{"IDENTITY_ENDPOINT", "127.0.0.1.example"}},
		{"other scheme", map[string]string{"IDENTITY_ENDPOINT": "file:///etc/passwd", "IDENTITY_HEADER": "m4rker"}, client, []string{"IDENTITY_ENDPOINT"}},
		{"FTP", map[string]string{"IDENTITY_ENDPOINT": "ftp://127.0.0.1/", "IDENTITY_HEADER": "m4rker"}, client, []string{"IDENTITY_ENDPOINT", "ftp"}},
		{"secret with a line end", map[string]string{"IDENTITY_ENDPOINT": "http://127.0.0.1/", "IDENTITY_HEADER": "m4rker\n"}, client, []string{"IDENTITY_ENDPOINT", "secret", "line end"}},
		{"no URL", map[string]string{"AZURE_POD_IDENTITY_AUTHORITY_HOST": "169.254.169.254"}, client, []string{"AZURE_POD_IDENTITY_AUTHORITY_HOST"}},
		{"user in URL", map[string]string{"IDENTITY_ENDPOINT": "http://u:m4rker@127.0.0.1/", "IDENTITY_HEADER": "h"}, client, []string{"IDENTITY_ENDPOINT"}},
		{"Service Fabric by http", with(fabric, "IDENTITY_ENDPOINT", "http://127.0.0.1:2377/x"), routes.ManagedIdentity{}, []string{"IDENTITY_ENDPOINT", "not https"}},
		{"bad thumbprint", with(fabric, "IDENTITY_SERVER_THUMBPRINT", "abcd"), routes.ManagedIdentity{}, []string{"IDENTITY_SERVER_THUMBPRINT", "40"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := authority.NewManaged(authority.Machine{Env: tt.env}, tt.want)
			if err == nil {
				t.Fatal("no error")
			}
			text := err.Error() + "\n" + authority.RemedyOf(err)
			for _, want := range tt.says {
				if !strings.Contains(text, want) {
					t.Errorf("error = %q, want %q in it", text, want)
				}
			}
			if authority.RemedyOf(err) == "" || strings.Contains(text, "m4rker") {
				t.Errorf("error = %q, want a remedy and no secret", text)
			}
		})
	}
}

func TestARefusedHostIsAnAlarmAndNotReady(t *testing.T) {
	elsewhere(t)
	t.Setenv("MSI_ENDPOINT", "http://localhost:50342/oauth2/token")
	c := onHost(routes.ManagedIdentity{})
	d := authority.NewDirectory(authority.Options{})
	f := d.Replace([]*routes.Credential{c})
	if len(f) != 1 || !f[0].Alarm || f[0].Remedy == "" {
		t.Errorf("findings = %+v, want one alarm", f)
	}
	if st := condition(t, d); st.Ready || !strings.Contains(st.Reason, "Cloud Shell") {
		t.Errorf("status = %+v", st)
	}
	if e := fails(t, d, c); !e.Refused() || !strings.Contains(e.Error(), "Cloud Shell") {
		t.Errorf("Acquire = %v", e)
	}
}

func TestHalfAnEnvironmentIsRemarkedOn(t *testing.T) {
	elsewhere(t)
	t.Setenv("IDENTITY_ENDPOINT", "http://localhost:42356/msi/token")
	d := authority.NewDirectory(authority.Options{})
	f := d.Replace([]*routes.Credential{onHost(routes.ManagedIdentity{})})
	if len(f) != 1 || f[0].Alarm || !strings.Contains(f[0].Message, "IDENTITY_HEADER") || f[0].Remedy == "" {
		t.Errorf("findings = %+v, want a warning", f)
	}
}

func TestAnAbsentIMDSIsNamedAndAskedForAgain(t *testing.T) {
	docker := says(403, `connecting to 169.254.169.254:80: connecting to 169.254.169.254:80: dial tcp 169.254.169.254:80: connectex: A socket operation was attempted to an unreachable network.`)
	other := func(name, value string, status int) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set(name, value)
			says(status, "")(w, r)
		}
	}
	for _, tt := range []struct {
		name   string
		answer http.HandlerFunc
		says   string
	}{
		{"Docker Desktop", docker, "container's proxy"},
		{"Google", other("Metadata-Flavor", "Google", 403), "Google"},
		{"Amazon", other("Server", "EC2ws", 401), "Amazon"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			elsewhere(t)
			p := newIMDS(graph)
			p.reject = func(w http.ResponseWriter, _ string) { tt.answer(w, nil) }
			p.start(t)
			t.Setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", p.URL)
			c := onHost(routes.ManagedIdentity{})
			d := loaded(t, c)
			e := fails(t, d, c)
			quiet(t, e)
			for _, want := range []string{
				"no managed identity here", tt.says, "IDENTITY_SERVER_THUMBPRINT", "App Service", "Container Apps",
				"Azure ML", "Cloud Shell", "Azure Arc", "169.254.169.254", "client_secret",
			} {
				if !strings.Contains(e.Explain(), want) {
					t.Errorf("error = %q, want %q in it", e.Explain(), want)
				}
			}
			if e.Nature != tokens.Propagating || e.Reach != tokens.ReachCredential {
				t.Errorf("failure = %+v", e.Failure())
			}
			if st := condition(t, d); st.Ready || !strings.Contains(st.Reason, "no managed identity") {
				t.Errorf("status = %+v, want not ready", st)
			}
			p.rejecting(newIMDS(graph).reject) // as the network came up
			succeeds(t, d, c)
			if st := condition(t, d); !st.Ready {
				t.Errorf("status = %+v, want ready", st)
			}
		})
	}
}

func TestAnIMDSThatSwallowsPacketsIsGivenASecond(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	began := time.Now()
	_, e := onIMDS(t, "http://"+l.Addr().String()).Token(t.Context(), graph)
	if e == nil || !strings.Contains(e.Hint, "no managed identity here") {
		t.Fatalf("Token = %v, want that there is none here", e)
	}
	quiet(t, e)
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("took %s, want a second", took)
	}
}

func TestIMDSIsProbedAgainOnlyAfterItWasSilent(t *testing.T) {
	p := newIMDS(graph).start(t)
	m := onIMDS(t, p.URL)
	for range 3 {
		if _, e := m.Token(t.Context(), graph); e != nil {
			t.Fatal(e)
		}
	}
	requests, wrong := p.seen()
	if len(requests) != 4 || len(wrong) != 1 {
		t.Errorf("requests = %d, probes = %d; want 4 and 1", len(requests), len(wrong))
	}
	if requests[0].Header.Get("Metadata") != "" || requests[0].URL.RawQuery != "" {
		t.Errorf("probe = %v %s, want neither header nor query", requests[0].Header, requests[0].URL)
	}
	p.Close()
	_, e := m.Token(t.Context(), graph)
	if e == nil || e.Nature != tokens.Transient || !strings.Contains(e.Hint, "does not answer") {
		t.Fatalf("Token = %v, want that it does not answer", e)
	}
	quiet(t, e)
	_, e = m.Token(t.Context(), graph)
	if e == nil || !strings.Contains(e.Hint, "no managed identity here") {
		t.Fatalf("Token = %v, want that it was probed again", e)
	}
}

func TestIMDSHasFiveRequestsUnderWayAtMost(t *testing.T) {
	p := newIMDS(graph)
	var underWay, most atomic.Int64
	arrived, release := make(chan struct{}, 100), make(chan struct{})
	p.answer = func(w http.ResponseWriter, r *http.Request) {
		n := underWay.Add(1)
		defer underWay.Add(-1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		arrived <- struct{}{}
		select {
		case <-release:
		case <-r.Context().Done(): // the test has failed
		}
		says(200, hostToken(time.Hour))(w, r)
	}
	held := p.answer
	p.answer = nil
	p.start(t)
	both := []*authority.Managed{onIMDS(t, p.URL), onIMDS(t, p.URL)} // which share the limit
	for _, m := range both {
		if _, e := m.Token(t.Context(), graph); e != nil { // so that neither probes below
			t.Fatal(e)
		}
	}
	p.answering(held)
	done := make(chan *authority.Error, 12)
	for n := range cap(done) {
		m := both[n%2]
		go func() {
			_, e := m.Token(t.Context(), graph)
			done <- e
		}()
	}
	arrives := func() {
		t.Helper()
		select {
		case <-arrived:
		case e := <-done:
			t.Fatalf("Token = %v before its answer", e)
		}
	}
	for range 5 {
		arrives()
	}
	for n := range cap(done) - 5 { // each that ends lets one in
		release <- struct{}{}
		if e := <-done; e != nil {
			t.Fatal(n, e)
		}
		arrives()
	}
	close(release)
	for range 5 {
		if e := <-done; e != nil {
			t.Error(e)
		}
	}
	if got := most.Load(); got != 5 {
		t.Errorf("%d requests were under way at once, want 5", got)
	}
}

func TestWithoutTLSOnlyNearbyAddressesAreDialled(t *testing.T) {
	p := newIMDS(graph).start(t)
	for address, nearby := range map[string]bool{
		p.Listener.Addr().String(): true, "192.0.2.1:80": false, "[2001:db8::1]:80": false, "[::ffff:192.0.2.1]:80": false,
	} {
		err := authority.DialAsHost(t.Context(), p.URL, address)
		if got := err == nil; got != nearby || !nearby && !strings.Contains(err.Error(), "none of loopback, link-local and private") {
			t.Errorf("dialling %s: %v, want %t", address, err, nearby)
		}
	}
}

func TestIdentityEndpointsAreThoseOfEnvironmentAndPlatforms(t *testing.T) {
	lookup := func(env map[string]string) func(string) (string, bool) {
		return func(name string) (string, bool) { v, ok := env[name]; return v, ok }
	}
	defaults := []string{"169.254.169.254:80", "127.0.0.1:40342"}
	for _, tt := range []struct {
		name string
		env  map[string]string
		want []string
	}{
		{"none", nil, nil},
		{"Container Apps", map[string]string{"IDENTITY_ENDPOINT": "http://localhost:42356/msi/token", "MSI_ENDPOINT": "http://localhost:42356/msi/token"},
			[]string{"localhost:42356", "127.0.0.1:42356", "[::1]:42356"}},
		{"App Service", map[string]string{"IDENTITY_ENDPOINT": "http://169.254.129.2:8081/msi/token"}, []string{"169.254.129.2:8081"}},
		{"Arc", map[string]string{"IDENTITY_ENDPOINT": defaultArc, "IMDS_ENDPOINT": "http://127.0.0.1:40342"}, nil},
		{"no port", map[string]string{"IDENTITY_ENDPOINT": "https://Fabric.example/x", "IMDS_ENDPOINT": "http://imds.example"}, []string{"fabric.example:443", "imds.example:80"}},
		{"pods", map[string]string{"AZURE_POD_IDENTITY_AUTHORITY_HOST": "http://127.0.0.1:2579"}, []string{"127.0.0.1:2579"}},
		{"Google, bare", map[string]string{"GCE_METADATA_HOST": "metadata.google.internal"}, []string{"metadata.google.internal:80"}},
		{"Google, port", map[string]string{"GCE_METADATA_HOST": "169.254.169.253:8080"}, []string{"169.254.169.253:8080"}},
		{"AKS", map[string]string{"AZURE_KUBERNETES_TOKEN_PROXY": "https://proxy.cluster.local"}, []string{"proxy.cluster.local:443"}},
		{"IPv6", map[string]string{"MSI_ENDPOINT": "http://[FE80::1]:41/"}, []string{"[fe80::1]:41"}},
		{"garbage", map[string]string{"MSI_ENDPOINT": "http://%zz", "IDENTITY_ENDPOINT": " ", "IMDS_ENDPOINT": "http://"}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			want := append(append([]string(nil), defaults...), tt.want...)
			if got := authority.IdentityEndpoints(lookup(tt.env)); !slices.Equal(got, want) {
				t.Errorf("IdentityEndpoints = %q, want %q", got, want)
			}
		})
	}
}

// What a proxy must never let its callers reach.
func ExampleIdentityEndpoints() {
	environment := map[string]string{"IDENTITY_ENDPOINT": "http://169.254.129.2:8081/msi/token"}
	for _, hostPort := range authority.IdentityEndpoints(func(name string) (string, bool) {
		value, ok := environment[name]
		return value, ok
	}) {
		fmt.Println(hostPort)
	}
	// Output:
	// 169.254.169.254:80
	// 127.0.0.1:40342
	// 169.254.129.2:8081
}
