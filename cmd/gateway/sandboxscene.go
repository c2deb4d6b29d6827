package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/seed-13b04e61/gateway/audit"
	"github.com/seed-13b04e61/gateway/certs"
	"github.com/seed-13b04e61/gateway/routes"
	"github.com/seed-13b04e61/gateway/sandbox"
	"github.com/seed-13b04e61/gateway/tracing"
)

// sceneDir makes the folder of the scene's files: at path, where there must be
// none or an empty one, since it is removed in the end, or a temporary one.
func sceneDir(path string) (string, error) {
	if path == "" {
		return os.MkdirTemp("", "gateway-sandbox-")
	}
	if err := os.MkdirAll(path, 0o700); err != nil {
		return "", err
	}
	folder, err := filepath.EvalSymlinks(path) // else the link would go in the end, and the secret stay
	if err != nil {
		return "", err
	}
	info, err := os.Stat(folder)
	if err != nil {
		return "", err
	}
	if runtime.GOOS != "windows" && info.Mode()&0o022 != 0 {
		return "", fmt.Errorf("--dir %s: others may write to the folder, and could put another routes.yaml there; run chmod go-w on it, or name a folder that does not exist", path)
	}
	inside, err := os.ReadDir(folder)
	if err != nil {
		return "", err
	}
	if len(inside) > 0 {
		return "", fmt.Errorf("--dir %s: the folder holds %s; the sandbox wants one that is new or empty, as it removes it in the end", path, inside[0].Name())
	}
	return folder, nil
}

// routesFile is the scene's routes.yaml.
func (sc *scene) routesFile(f sandboxFlags) string {
	return fmt.Sprintf(`# The sandbox's own: change it, and the gateway follows at once.
version: 1

listen: {proxy: %q, admin: %q}

credentials:
  default:
    tenant_id: %s
    client_id: %s
    client_secret: {file: client-secret}
    authority_host: %s   # the small Entra

routes:
  - preset: graph
    upstream: %s         # the small Graph
    allow:
      - {methods: [GET, HEAD, POST, PUT, PATCH]}

intercept: {ca_dir: ca}
log: {debug_headers: true}

%s`, f.listen, f.admin, sandbox.TenantDomain, sandbox.ClientID, sc.world.Entra.URL(), sc.world.Graph.URL(),
		sc.sqlSection(cmp.Or(f.sql, "127.0.0.1:0")))
}

// start writes the scene's files and runs the gateway by them, as serve would.
func (sc *scene) start(f sandboxFlags, s std) error {
	text := sc.routesFile(f)
	path := filepath.Join(sc.dir, "routes.yaml")
	err := errors.Join(
		os.WriteFile(path, []byte(text), 0o600),
		os.WriteFile(filepath.Join(sc.dir, "client-secret"), []byte(sc.world.Secret()), 0o600),
		os.WriteFile(filepath.Join(sc.dir, "sql-ca.pem"), slices.Concat(sc.front.CAPEM(), sc.node.CAPEM()), 0o600))
	if err != nil {
		return err
	}
	file, err := routes.Open(path, os.LookupEnv)
	if err != nil {
		return err
	}
	// Made beforehand: serve's warning of a new root has no reader here.
	if _, err := certs.OpenCA(file.Table().Intercept.CADir, file.Table().InterceptedHosts()); err != nil {
		return err
	}
	logTo := s.out
	if f.once {
		logTo = io.Discard
	}
	log, err := audit.NewLog(logTo, audit.LogConfig{Level: "info", Format: "json", Access: true})
	if err != nil {
		return err
	}
	traces, err := tracing.Read(os.LookupEnv)
	if err != nil {
		return fmt.Errorf("refusing to start: %w", err)
	}
	sc.gateway, err = start(file, doors{Listen: file.Table().Listen, traces: traces}, log)
	return err
}

// greet says what runs and what to try; trouble is the one that it begins with.
func (sc *scene) greet(trouble string, s std) {
	at, file := shown(sc.gateway.proxyL), filepath.Join(sc.dir, "routes.yaml")
	if absolute, err := filepath.Abs(file); err == nil {
		file = absolute
	}
	admin := "" // routes.yaml says where
	if asked := sc.gateway.gate.Load().Table().Listen.Admin; asked != shown(sc.gateway.adminL) {
		admin = " --admin " + shown(sc.gateway.adminL)
	}
	fmt.Fprintf(s.err, `A small Entra, a small Graph, a small SQL server and the gateway are running. Nothing
you type below holds a token; the gateway adds it. Its routes.yaml is %[1]s

The live page shows each call, why it failed and what to do: %[2]s

Paste into another terminal:

  export GATEWAY_CONFIG=%[1]s
  curl -s http://%[3]s/graph/v1.0/users
  http_proxy=http://%[3]s curl -s http://graph.microsoft.com/v1.0/users
  https_proxy=http://%[3]s curl -s --cacert %[4]s https://graph.microsoft.com/v1.0/users
  gateway exec -- curl -s https://graph.microsoft.com/v1.0/users
  %[5]s
  Server=%[6]s;Database=%[7]s;User Id=any;Password=any;Encrypt=False   (.NET and its like)

Calls that fail, and why:

  curl -si -X DELETE http://%[3]s/graph/v1.0/users/AdeleV@contoso.onmicrosoft.com
  curl -si http://%[3]s/graph/v1.0/reports/getOffice365ActiveUserDetail
  http_proxy=http://%[3]s curl -si http://example.com/
  gateway explain DELETE https://graph.microsoft.com/v1.0/users/AdeleV@contoso.onmicrosoft.com
  gateway logs --once%[8]s
  gateway check --live
  curl -s http://%[9]s/readyz

Type a trouble and Enter to see what it looks like from the app's side:
  %[10]s; recover ends it. Ctrl-C ends all.

`, file, pageAt(sc.gateway.adminL), at, filepath.Join(filepath.Dir(file), "ca", "root.pem"), sc.tsql(),
		strings.Replace(sc.sqlAt(), ":", ",", 1), sceneDatabase, admin, shown(sc.gateway.adminL), strings.Join(troubles(), ", "))
	if trouble != "" {
		fmt.Fprintln(s.err, sc.lines(trouble))
	}
}
