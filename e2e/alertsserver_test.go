package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

const (
	// alertScale is how much faster time goes for the alerts of these tests than
	// for those of operators: a minute of the shipped file is a second here. It
	// is the one thing that differs, see scaled. What the rules compare with
	// stays as it is, in seconds and in calls.
	alertScale = 60
	// alertPatience is for the slowest alert, which waits for an hour, and a
	// machine that is busy.
	alertPatience = 3 * time.Minute

	alertRules = "../deploy/prometheus/alerts.yml"
)

// scaled is the shipped file with each duration of it, which are the waits of
// alerts, the windows and the offsets of queries, alertScale times shorter.
func scaled(rules string) string {
	durations := regexp.MustCompile(`(\bfor: |\bkeep_firing_for: |\[|\boffset )(\d+)(s|m|h|d|w)\b`)
	units := map[string]time.Duration{"s": time.Second, "m": time.Minute, "h": time.Hour, "d": 24 * time.Hour, "w": 7 * 24 * time.Hour}
	return durations.ReplaceAllStringFunc(rules, func(found string) string {
		m := durations.FindStringSubmatch(found)
		n, _ := strconv.Atoi(m[2]) // digits
		return fmt.Sprintf("%s%dms", m[1], (time.Duration(n) * units[m[3]] / alertScale).Milliseconds())
	})
}

// shippedAlerts are the names of the alerts in the file.
func shippedAlerts(rules string) (names []string) {
	for _, m := range regexp.MustCompile(`(?m)^ *- alert: (\w+)$`).FindAllStringSubmatch(rules, -1) {
		names = append(names, m[1])
	}
	return names
}

// prometheus is a running server of that name, with the shipped rules.
type prometheus struct {
	dir, url string
	targets  map[string]string // addresses of admin listeners, by the name that they have as an instance
	client   *http.Client
	deadline time.Time         // of what is waited for now
	seen     map[string]firing // whatever has fired, by instance and name
}

// startPrometheus scrapes each second what watch says, as job gateway.
func startPrometheus(t testing.TB) *prometheus {
	t.Helper()
	rules, err := os.ReadFile(alertRules)
	if err != nil {
		t.Fatal(err)
	}
	p := &prometheus{dir: t.TempDir(), targets: map[string]string{}, seen: map[string]firing{}, client: newClient(nil), deadline: time.Now().Add(alertPatience)}
	write(t, filepath.Join(p.dir, "alerts.yml"), scaled(string(rules)))
	write(t, filepath.Join(p.dir, "prometheus.yml"), `global: {scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}
rule_files: [alerts.yml]
scrape_configs:
  - {job_name: gateway, file_sd_configs: [{files: [targets.json], refresh_interval: 1s}]}
`)
	p.point(t)
	var said transcript
	cmd := exec.Command("prometheus", "--config.file="+filepath.Join(p.dir, "prometheus.yml"), "--storage.tsdb.path="+filepath.Join(p.dir, "data"),
		"--web.listen-address=127.0.0.1:0")
	cmd.Env = bareEnvironment()
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		if err := <-exited; err != nil || t.Failed() {
			t.Logf("Prometheus ended with %v:\n%s", err, tail(said.String(), 3000))
		}
	})
	address := regexp.MustCompile(`msg="Listening on" address=(127\.0\.0\.1:\d+)`)
	eventually(t, "Prometheus is ready", func() bool {
		m := address.FindStringSubmatch(said.String())
		if m == nil {
			return false
		}
		p.url = "http://" + m[1]
		a, err := call(t.Context(), p.client, request{url: p.url + "/-/ready"})
		return err == nil && a.status == http.StatusOK
	})
	return p
}

// watch has the gateway g scraped as the instance of that name.
func (p *prometheus) watch(t testing.TB, name string, g *gateway) {
	t.Helper()
	p.targets[name] = g.admin
	p.point(t)
}

// point writes the targets for Prometheus to find.
func (p *prometheus) point(t testing.TB) {
	t.Helper()
	type group struct {
		Targets []string          `json:"targets"`
		Labels  map[string]string `json:"labels"`
	}
	groups := []group{}
	for name, address := range p.targets {
		groups = append(groups, group{[]string{address}, map[string]string{"instance": name}})
	}
	text, err := json.Marshal(groups)
	if err != nil {
		t.Fatal(err)
	}
	replaceFile(t, filepath.Join(p.dir, "targets.json"), string(text))
}

// get asks the API and decodes the data of its answer.
func (p *prometheus) get(t testing.TB, path string, query url.Values, data any) {
	t.Helper()
	a := must(t, p.client, request{url: p.url + "/api/v1/" + path + "?" + query.Encode()})
	answer := struct {
		Status, Error string
		Data          any
	}{Data: data}
	if err := json.Unmarshal([]byte(a.body), &answer); err != nil || answer.Status != "success" {
		t.Fatalf("Prometheus answers %s with %d: %s %v", path, a.status, answer.Error, err)
	}
}

// sample is one series of an instant query's answer.
type sample struct {
	Metric map[string]string
	Value  [2]any // time, value
}

func (p *prometheus) query(t testing.TB, expr string) []sample {
	t.Helper()
	var data struct{ Result []sample }
	p.get(t, "query", url.Values{"query": {expr}}, &data)
	return data.Result
}

// firing is an alert that fires.
type firing struct {
	Labels, Annotations map[string]string
	State               string
}

func (p *prometheus) firing(t testing.TB) []firing {
	t.Helper()
	var data struct{ Alerts []firing }
	p.get(t, "alerts", nil, &data)
	now := slices.DeleteFunc(data.Alerts, func(f firing) bool { return f.State != "firing" })
	for _, f := range now {
		p.seen[f.Labels["instance"]+" "+f.name()] = f
	}
	return now
}

// name tells f from other alerts of its instance.
func (f firing) name() string { return f.Labels["alertname"] + " " + subject(f.Labels) }

// everFired are the alerts that have fired at an instance, with the label that
// tells them from others of their name, sorted.
func (p *prometheus) everFired(t testing.TB, instance string) (fired []string) {
	t.Helper()
	for _, s := range p.query(t, fmt.Sprintf(`max_over_time(ALERTS{alertstate="firing", instance=%q}[1h])`, instance)) {
		fired = append(fired, s.Metric["alertname"]+" "+subject(s.Metric))
	}
	slices.Sort(fired)
	return slices.Compact(fired)
}

// subject is the label that says what an alert is about.
func subject(labels map[string]string) string {
	for _, name := range []string{"code", "number", "phase", "route", "credential", "result"} {
		if v := labels[name]; v != "" {
			return v
		}
	}
	return ""
}

// patiently is eventually for what takes as long as alerts do: until the
// deadline, which many share.
func (p *prometheus) patiently(t testing.TB, what func() string, done func() bool) {
	t.Helper()
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for ; !done(); <-tick.C {
		if time.Now().After(p.deadline) {
			t.Fatalf("waited in vain until %s", what())
		}
	}
}

// wellSaid checks what an alert tells those who are woken by it.
func (f firing) wellSaid(t testing.TB) {
	t.Helper()
	for _, name := range []string{"summary", "description", "runbook_url"} {
		text := f.Annotations[name]
		if text == "" || strings.Contains(text, "{{") || strings.Contains(text, "<no value>") || strings.Contains(text, "<error") ||
			strings.Contains(text, "%!") || strings.Contains(text, "  ") || strings.Contains(text, "NaN") {
			t.Errorf("%s of %s is %q", name, f.Labels["alertname"], text)
		}
	}
	if instance := f.Labels["instance"]; !strings.Contains(f.Annotations["summary"], instance) {
		t.Errorf("the summary of %s does not name %s: %s", f.Labels["alertname"], instance, f.Annotations["summary"])
	}
	if f.Labels["severity"] != "critical" && f.Labels["severity"] != "warning" {
		t.Errorf("severity of %s is %q", f.Labels["alertname"], f.Labels["severity"])
	}
}
