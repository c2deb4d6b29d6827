package main

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/seed-13b04e61/gateway/sandbox"
)

func TestMain(m *testing.M) {
	// What nohup, or a shell that runs tests behind it, has ignored, every
	// program that is started would ignore too. What is caught here is theirs.
	for _, sig := range []os.Signal{syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT} {
		if signal.Ignored(sig) {
			signal.Notify(make(chan os.Signal, 1), sig)
		}
	}
	testscript.Main(m, map[string]func(){
		"gateway": func() { os.Exit(run(context.Background(), os.Args[1:], std{os.Stdout, os.Stderr})) },
		"witness": witness,
	})
}

// TestCommands runs the scripts of testdata against the program, with a
// sandbox each: $ENTRA, $GRAPH, $TENANT and $CLIENT name it, secret.txt holds
// its secret.
func TestCommands(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:           "testdata",
		UpdateScripts: *update,
		Setup: func(env *testscript.Env) error {
			world, err := sandbox.Start(sandbox.Options{})
			if err != nil {
				return err
			}
			env.Defer(world.Close)
			env.Setenv("ENTRA", world.Entra.URL())
			env.Setenv("GRAPH", world.Graph.URL())
			env.Setenv("TENANT", sandbox.TenantDomain)
			env.Setenv("CLIENT", sandbox.ClientID)
			env.Values["world"] = world
			cluster := httptest.NewServer(http.HandlerFunc(kusto))
			env.Defer(cluster.Close)
			env.Setenv("KUSTO", cluster.URL)
			if err := database(env, world); err != nil {
				return err
			}
			return os.WriteFile(env.WorkDir+"/secret.txt", []byte(world.Secret()+"\n"), 0o600)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"waitfile": waitFile, "call": call, "trouble": trouble, "sed": replaceIn, "exits": exits, "mode": mode,
			"terminate": terminate, "callas": callAs, "metric": metric, "login": logInAs,
		},
	})
}

// kusto is the part of a cluster that tells which tokens it takes. It is asked
// by its own name, and never with a token.
func kusto(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/v1/rest/auth/metadata" || r.Header.Get("Authorization") != "" || !strings.HasSuffix(r.Host, ".kusto.windows.net") {
		http.NotFound(w, r)
		return
	}
	fmt.Fprint(w, `{"AzureAD":{"LoginEndpoint":"https://login.microsoftonline.com","KustoServiceResourceId":"https://kusto.fabric.microsoft.com"}}`)
}

// exits is exits CODE ARGS: it runs the gateway and compares its exit code,
// which ! alone cannot.
func exits(ts *testscript.TestScript, _ bool, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec("gateway", args[1:]...)
	got := 0
	if failed, ok := errors.AsType[*exec.ExitError](err); ok {
		got = failed.ExitCode()
	} else {
		ts.Check(err)
	}
	if got != want {
		ts.Fatalf("gateway %s: exit code %d, want %d", strings.Join(args[1:], " "), got, want)
	}
}

// metric is metric ADMIN LINE: it waits until the metrics of the admin socket
// hold the line, as a call is counted after its answer.
func metric(ts *testscript.TestScript, _ bool, args []string) {
	path, _ := strings.CutPrefix(args[0], "unix:")
	tr := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", ts.MkAbs(path))
	}}
	var body []byte
	for range 100 {
		resp, err := (&http.Client{Transport: tr}).Get("http://localhost/metrics")
		ts.Check(err)
		body, err = io.ReadAll(resp.Body)
		resp.Body.Close()
		ts.Check(err)
		if slices.Contains(strings.Split(string(body), "\n"), args[1]) {
			return
		}
		pause()
	}
	ts.Fatalf("metrics lack %s", args[1])
}

// terminate is terminate ADMIN: it sends SIGTERM to what runs behind, and waits
// until that says that it is not ready.
func terminate(ts *testscript.TestScript, _ bool, args []string) {
	for _, cmd := range ts.BackgroundCmds() {
		ts.Check(cmd.Process.Signal(syscall.SIGTERM))
	}
	for range 600 {
		if ts.Exec("gateway", "health", "--admin", args[0]) != nil {
			return
		}
		pause()
	}
	ts.Fatalf("the gateway is ready although it was told to stop")
}

// mode is mode OCTAL FILE.
func mode(ts *testscript.TestScript, _ bool, args []string) {
	info, err := os.Stat(ts.MkAbs(args[1]))
	ts.Check(err)
	if got := fmt.Sprintf("%04o", info.Mode().Perm()); got != args[0] {
		ts.Fatalf("%s has mode %s, want %s", args[1], got, args[0])
	}
}

// waitfile waits until a file exists and is not empty.
func waitFile(ts *testscript.TestScript, _ bool, args []string) {
	for range 600 {
		if b, err := os.ReadFile(ts.MkAbs(args[0])); err == nil && len(b) > 0 {
			return
		}
		pause()
	}
	ts.Fatalf("%s did not appear", args[0])
}

// call makes one call: call STATUS CODE READYFILE TARGET. TARGET is a path of
// the reverse door, or a URL that goes through the gateway as a proxy. It tries
// for a while, since a reload takes a moment.
func call(ts *testscript.TestScript, _ bool, args []string) { callBy(ts, args, "") }

// callAs is call with the credential of $CALLER, NAME:KEY.
func callAs(ts *testscript.TestScript, _ bool, args []string) { callBy(ts, args, ts.Getenv("CALLER")) }

func callBy(ts *testscript.TestScript, args []string, credential string) {
	ready := ts.ReadFile(args[2])
	_, rest, _ := strings.Cut(ready, `"proxy":"`)
	addr, _, _ := strings.Cut(rest, `"`)
	want := args[0] + " " + args[1]
	got := ""
	for range 100 {
		got = callOnce(addr, args[3], credential)
		if got == want {
			return
		}
		pause()
	}
	ts.Fatalf("%s: got %s, want %s", args[3], got, want)
}

func callOnce(addr, target, credential string) string {
	through := &url.URL{Scheme: "http", Host: addr}
	basic := "Basic " + base64.StdEncoding.EncodeToString([]byte(credential))
	tr := &http.Transport{DisableKeepAlives: true, Proxy: http.ProxyURL(through)}
	header := "Proxy-Authorization"
	if strings.HasPrefix(target, "/") {
		target, tr.Proxy, header = "http://"+addr+target, nil, "X-Gateway-Authorization"
	}
	if path, ok := strings.CutPrefix(addr, "unix:"); ok {
		tr.Proxy = nil
		tr.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", path)
		}
		target = strings.Replace(target, addr, "localhost", 1)
	}
	req, err := http.NewRequest(http.MethodGet, target, nil)
	if err != nil {
		return err.Error()
	}
	if credential != "" {
		req.Header.Set(header, basic)
	}
	resp, err := tr.RoundTrip(req)
	if err != nil {
		return err.Error()
	}
	resp.Body.Close()
	code := resp.Header.Get("Gateway-Error")
	if code == "" {
		code = "-"
	}
	return fmt.Sprintf("%d %s", resp.StatusCode, code)
}

func trouble(ts *testscript.TestScript, _ bool, args []string) {
	world, db := ts.Value("world").(*sandbox.World), ts.Value("sql").(*sandbox.SQL)
	if args[0] == "recover" {
		world.Recover()
		db.CreateUser(sandbox.ClientID)
		db.Set(func(m *sandbox.SQLManners) { m.Refuse = nil })
		return
	}
	if troubleSQL(db, args[0]) {
		return
	}
	ts.Check(world.Trouble(args[0]))
}

// replaceIn is sed FILE OLD NEW.
func replaceIn(ts *testscript.TestScript, _ bool, args []string) {
	b := strings.ReplaceAll(ts.ReadFile(args[0]), args[1], args[2])
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(b), 0o600))
}
