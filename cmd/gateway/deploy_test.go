package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/seed-13b04e61/gateway/routes"
	"go.yaml.in/yaml/v4"
)

// composeFile is what matters here of compose.yaml.
type composeFile struct {
	Services map[string]struct {
		Command     []string
		User        string
		NetworkMode string `yaml:"network_mode"`
		Grace       string `yaml:"stop_grace_period"`
		Secrets     []string
		Configs     []struct{ Source, Target string }
		Environment map[string]string
	}
	Configs map[string]struct{ Content string }
	Secrets map[string]struct{ File string }
}

// podSpec is what matters here of a pod.
type podSpec struct {
	Grace          int `json:"terminationGracePeriodSeconds"`
	InitContainers []container
	Containers     []container
	Volumes        []struct {
		Name      string
		ConfigMap struct{ Name string }
		Projected struct {
			Sources []struct {
				ServiceAccountToken struct{ Path, Audience string }
			}
		}
	}
}

type container struct {
	Name                                        string
	RestartPolicy                               string
	Args                                        []string
	StartupProbe, ReadinessProbe, LivenessProbe httpProbe
	SecurityContext                             struct {
		RunAsUser                int
		AllowPrivilegeEscalation *bool
		ReadOnlyRootFilesystem   bool
	}
	VolumeMounts []struct {
		Name, MountPath, SubPath string
		ReadOnly                 bool
	}
	Env []struct{ Name, Value string }
}

type httpProbe struct {
	HTTPGet struct {
		Path string
		Port int
	}
}

// taken is the table of a routes.yaml within a file of deploy/. It is taken
// without a warning.
func taken(t *testing.T, text string) *routes.Table {
	t.Helper()
	table, err := routes.Parse("routes.yaml", []byte(text), documented)
	if err != nil {
		t.Fatalf("%s\n%v", text, err)
	}
	for _, w := range table.Warnings {
		t.Errorf("it is warned of: %s", w.Message)
	}
	d := doors{Listen: table.Listen}
	if err := d.mayServe(table); err != nil {
		t.Errorf("serve would refuse it: %v", err)
	}
	return table
}

// serves tells whether serve takes these arguments, and reads that config.
func serves(t *testing.T, args []string, config string) {
	t.Helper()
	cmd := newServe(std{io.Discard, io.Discard})
	cmd.Flags().String("config", "", "")
	if len(args) == 0 || args[0] != "serve" {
		t.Fatalf("arguments = %v, want serve first", args)
	}
	if err := cmd.ParseFlags(args[1:]); err != nil {
		t.Fatal(err)
	}
	if got := cmd.Flag("config").Value.String(); got != config {
		t.Errorf("--config %s, want %s, where it is mounted", got, config)
	}
}

func TestComposeFileFitsTheGateway(t *testing.T) {
	var f composeFile
	if err := yaml.Unmarshal(deployed(t, "compose.yaml"), &f); err != nil {
		t.Fatal(err)
	}
	gw, app := f.Services["gateway"], f.Services["app"]
	table := taken(t, f.Configs["routes"].Content)
	if len(gw.Configs) != 1 || gw.Configs[0].Source != "routes" {
		t.Fatalf("configs = %v, want routes", gw.Configs)
	}
	serves(t, gw.Command, gw.Configs[0].Target)
	if got := gw.Environment["GATEWAY_CONFIG"]; got != gw.Configs[0].Target {
		t.Errorf("the health check reads %s, want %s", got, gw.Configs[0].Target)
	}
	secret := path.Base(table.Credential("default").ClientSecret.File)
	if !slices.Contains(gw.Secrets, secret) || f.Secrets[secret].File == "" {
		t.Errorf("secrets = %v, want %s", gw.Secrets, secret)
	}
	if len(app.Secrets) > 0 || app.NetworkMode != "service:gateway" || app.User == gw.User || app.User == "" {
		t.Errorf("app = %+v, want the gateway's loopback, another user and no secret", app)
	}
	if want := "http://" + table.Listen.Proxy + table.Routes[0].Mount; app.Environment["GRAPH_URL"] != want {
		t.Errorf("GRAPH_URL = %s, want %s", app.Environment["GRAPH_URL"], want)
	}
	if grace, err := time.ParseDuration(gw.Grace); err != nil || grace <= drainDelay+drainTimeout {
		t.Errorf("stop_grace_period = %s %v, want more than a drain of %s", gw.Grace, err, drainDelay+drainTimeout)
	}
}

func TestSidecarFitsTheGateway(t *testing.T) {
	text, pod := sidecar(t)
	table := taken(t, text)
	gw, app := pod.InitContainers[0], pod.Containers[0]
	mounts := map[string]string{}
	for _, m := range gw.VolumeMounts {
		mounts[m.Name] = m.MountPath
		if m.SubPath != "" || !m.ReadOnly {
			t.Errorf("mount %+v, want it whole, so that changes arrive, and read-only", m)
		}
	}
	serves(t, gw.Args, mounts["routes"]+"/routes.yaml")
	token := pod.Volumes[1].Projected.Sources[0].ServiceAccountToken
	if got, want := table.Credential("default").FederatedToken.File, mounts["identity"]+"/"+token.Path; got != want {
		t.Errorf("federated_token = %s, want %s, where it is mounted", got, want)
	}
	if token.Audience != "api://AzureADTokenExchange" {
		t.Errorf("audience = %s", token.Audience)
	}
	if gw.RestartPolicy != "Always" {
		t.Error("the gateway is no sidecar: the app would wait for its end")
	}
	for _, p := range []struct {
		httpProbe
		path string
	}{{gw.StartupProbe, "/readyz"}, {gw.ReadinessProbe, "/readyz"}, {gw.LivenessProbe, "/healthz"}} {
		if p.HTTPGet.Path != p.path || !strings.HasSuffix(table.Listen.Health, ":"+strconv.Itoa(p.HTTPGet.Port)) {
			t.Errorf("probe %+v, want %s of %s", p.HTTPGet, p.path, table.Listen.Health)
		}
	}
	if len(app.VolumeMounts) > 0 || app.SecurityContext.RunAsUser == gw.SecurityContext.RunAsUser || app.SecurityContext.RunAsUser == 0 {
		t.Errorf("app = %+v, want another user than the gateway's, and nothing of it mounted", app)
	}
	if want := "http://" + table.Listen.Proxy + table.Routes[0].Mount; app.Env[0].Value != want {
		t.Errorf("%s = %s, want %s", app.Env[0].Name, app.Env[0].Value, want)
	}
	if s := gw.SecurityContext; s.AllowPrivilegeEscalation == nil || *s.AllowPrivilegeEscalation || !s.ReadOnlyRootFilesystem {
		t.Errorf("securityContext = %+v", s)
	}
	if drain := int((drainDelay + drainTimeout).Seconds()); pod.Grace <= drain {
		t.Errorf("terminationGracePeriodSeconds = %d, want more than a drain of %d", pod.Grace, drain)
	}
}

// sidecar is the routes.yaml and the pod of sidecar.yaml.
func sidecar(t *testing.T) (file string, pod podSpec) {
	t.Helper()
	d := yaml.NewDecoder(bytes.NewReader(deployed(t, "kubernetes", "sidecar.yaml")))
	for {
		var object struct {
			Kind string
			Data map[string]string
			Spec struct{ Template struct{ Spec podSpec } }
		}
		var parsed any
		err := d.Decode(&parsed)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		text, err := json.Marshal(parsed) // as Kubernetes reads it: names by those of JSON
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(text, &object); err != nil {
			t.Fatal(err)
		}
		switch object.Kind {
		case "ConfigMap":
			file = object.Data["routes.yaml"]
		case "Deployment":
			pod = object.Spec.Template.Spec
		}
	}
	if file == "" || len(pod.InitContainers) != 1 || len(pod.Containers) != 1 || len(pod.Volumes) != 2 {
		t.Fatalf("routes.yaml %q, pod %+v", file, pod)
	}
	return file, pod
}

func TestUnitFitsTheGateway(t *testing.T) {
	unit := map[string]string{}
	for _, m := range regexp.MustCompile(`(?m)^([A-Za-z]+)=(.*)$`).FindAllStringSubmatch(string(deployed(t, "systemd", "gateway.service")), -1) {
		unit[m[1]] = m[2]
	}
	serves(t, strings.Fields(unit["ExecStart"])[1:], "/etc/gateway/routes.yaml")
	for key, want := range map[string]string{
		"Type": "notify-reload", "NotifyAccess": "main", "User": "gateway", "NoNewPrivileges": "yes",
		"ProtectSystem": "strict", "CapabilityBoundingSet": "", "LimitCORE": "0",
	} {
		if got, ok := unit[key]; !ok || got != want {
			t.Errorf("%s=%s, want %s", key, got, want)
		}
	}
	for key, least := range map[string]time.Duration{"TimeoutStopSec": drainDelay + drainTimeout, "TimeoutStartSec": firstCertificate} {
		if sec, err := strconv.Atoi(unit[key]); err != nil || time.Duration(sec)*time.Second <= least {
			t.Errorf("%s=%s, want more than %s", key, unit[key], least)
		}
	}
	if got := unit["RestrictAddressFamilies"]; !strings.Contains(got, "AF_UNIX") || !strings.Contains(got, "AF_NETLINK") {
		t.Errorf("RestrictAddressFamilies=%s: without AF_UNIX nothing is notified, without AF_NETLINK no uid is known", got)
	}
}
