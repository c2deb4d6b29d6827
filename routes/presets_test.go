package routes_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/seed-13b04e61/gateway/routes"
)

// inCloud is a routes.yaml with one credential of a cloud and these routes.
func inCloud(cloud, list string) []byte {
	return []byte("version: 1\ncredentials:\n  default:\n    tenant_id: 8a8a8a8a-1111-2222-3333-444444444444\n    client_id: 00001111-aaaa-2222-bbbb-3333cccc4444\n" +
		"    client_certificate: {file: app.pem}\n    cloud: " + cloud + "\nroutes:\n" + list)
}

// someHost is a host that a choice of a preset stands for.
func someHost(choice string) string {
	return strings.NewReplacer("*", "contoso", "[N]", "4", "[region]", "eu").Replace(choice)
}

// eachChoice calls f for each way to write each preset: without hosts where it
// fills them in, and with each kind of host that it takes.
func eachChoice(f func(info routes.PresetInfo, cloud, route string)) {
	for _, info := range routes.Presets() {
		for _, c := range info.Clouds {
			if len(c.Hosts) > 0 {
				f(info, c.Cloud, "  - {preset: "+info.Name+"}\n")
			}
			for _, choice := range c.Choices {
				f(info, c.Cloud, "  - {preset: "+info.Name+", hosts: ["+someHost(choice)+"]}\n")
			}
		}
	}
}

// testdata/presets.txt lists what each preset stands for, everywhere.
func TestEveryPresetInEveryCloudStandsForWhatTheTableSays(t *testing.T) {
	var b strings.Builder
	eachChoice(func(info routes.PresetInfo, cloud, route string) {
		fmt.Fprintf(&b, "%s %s:", info.Name, cloud)
		table, err := routes.Parse("routes.yaml", inCloud(cloud, route), nil)
		if (err != nil) != (info.Kind != "http") {
			t.Errorf("Parse() of %s in %s = %v", info.Name, cloud, err)
		}
		if err != nil {
			b.WriteString(" refused as " + info.Kind + "\n")
			return
		}
		r := table.Routes[0]
		fmt.Fprintf(&b, " %v %s", r.Hosts, r.Scope)
		if r.Inject.Format != "Bearer {token}" {
			b.WriteString(" inject " + r.Inject.Format)
		}
		if r.SetHeaders != nil {
			fmt.Fprintf(&b, " set %v", r.SetHeaders)
		}
		if r.DefaultHeaders != nil {
			fmt.Fprintf(&b, " default %v", r.DefaultHeaders)
		}
		if r.DateHeader != "" {
			b.WriteString(" date " + r.DateHeader)
		}
		if r.SignIn {
			b.WriteString(" sign-in")
		}
		for _, w := range table.Warnings {
			b.WriteString(" warning: " + w.Message)
		}
		b.WriteString("\n")
	})
	const golden = "testdata/presets.txt"
	if *update {
		if err := os.WriteFile(golden, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	got, want := strings.Split(b.String(), "\n"), strings.Split(string(text), "\n")
	for i := range max(len(got), len(want)) {
		if i >= len(got) || i >= len(want) || got[i] != want[i] {
			t.Fatalf("%s differs from line %d on; refresh it with -update and read the diff. Got\n%s\nwant\n%s",
				golden, i+1, strings.Join(got[min(i, len(got)):], "\n"), strings.Join(want[min(i, len(want)):], "\n"))
		}
	}
}

func TestNoPresetIsMissing(t *testing.T) {
	want := strings.Fields("graph arm keyvault managedhsm sql synapse-sql postgres mysql redis storage servicebus eventhubs eventgrid cosmos" +
		" loganalytics appinsights monitor-ingest powerbi fabric onelake dataverse businesscentral finops sharepoint exchange o365mgmt defender" +
		" databricks azuredevops cognitive openai foundry azureml search appconfig acr kusto synapse batch communication purview digitaltwins" +
		" iothub dps signalr webpubsub maps attestation powerplatform powerapps flow fhir bot aks-aad")
	var got []string
	for _, info := range routes.Presets() {
		got = append(got, info.Name)
		if info.Doc == "" || len(info.Clouds) == 0 {
			t.Errorf("preset %s has no sentence or no cloud: %+v", info.Name, info)
		}
		for _, c := range info.Clouds {
			if c.Audience == "" || len(c.Hosts)+len(c.Choices) == 0 {
				t.Errorf("preset %s has no audience or no host in %s", info.Name, c.Cloud)
			}
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("Presets() = %v, want %v", got, want)
	}
}

// What the reference names, with its scopes to the letter.
func TestScopesOfPresetsAreThoseOfTheReference(t *testing.T) {
	for _, x := range []struct{ cloud, route, want string }{
		{"public", "preset: graph", "https://graph.microsoft.com/.default"},
		{"usgov-dod", "preset: graph", "https://dod-graph.microsoft.us/.default"},
		{"china", "preset: arm", "https://management.chinacloudapi.cn/.default"},
		{"usgov-dod", "preset: arm", "https://management.usgovcloudapi.net/.default"},
		{"public", "preset: servicebus, hosts: [a.servicebus.windows.net]", "https://servicebus.azure.net//.default"},
		{"public", "preset: batch, hosts: [a.westeurope.batch.azure.com]", "https://batch.core.windows.net//.default"},
		{"public", "preset: cosmos, hosts: [acct.documents.azure.com]", "https://acct.documents.azure.com/.default"},
		{"china", "preset: cosmos, hosts: [acct.documents.azure.cn]", "https://acct.documents.azure.cn/.default"},
		{"public", "preset: powerbi", "https://analysis.windows.net/powerbi/api/.default"},
		{"public", "preset: powerbi, hosts: [api.powerbigov.us]", "https://analysis.usgovcloudapi.net/powerbi/api/.default"},
		{"usgov", "preset: powerbi", "https://high.analysis.usgovcloudapi.net/powerbi/api/.default"},
		{"usgov-dod", "preset: powerbi", "https://mil.analysis.usgovcloudapi.net/powerbi/api/.default"},
		{"public", "preset: o365mgmt, hosts: [manage-gcc.office.com]", "https://manage-gcc.office.com/.default"},
		{"public", "preset: dataverse, hosts: [org.crm4.dynamics.com]", "https://org.crm4.dynamics.com/.default"},
		{"public", "preset: dataverse, hosts: [org.crm.dynamics.com]", "https://org.crm.dynamics.com/.default"},
		{"usgov", "preset: dataverse, hosts: [org.crm.microsoftdynamics.us]", "https://org.crm.microsoftdynamics.us/.default"},
		{"public", "preset: sharepoint, hosts: [contoso-admin.sharepoint.com]", "https://contoso-admin.sharepoint.com/.default"},
		{"usgov-dod", "preset: sharepoint, hosts: [contoso.sharepoint-mil.us]", "https://contoso.sharepoint-mil.us/.default"},
		{"public", "preset: databricks, hosts: [adb-1.2.azuredatabricks.net]", "2ff814a6-3304-4ab8-85cb-cd0e6f879c1d/.default"},
		{"public", "preset: kusto, hosts: [help.westeurope.kusto.windows.net]", "https://kusto.kusto.windows.net/.default"},
		{"public", "preset: fhir, hosts: [ws-svc.fhir.azurehealthcareapis.com]", "https://ws-svc.fhir.azurehealthcareapis.com/.default"},
		{"public", "preset: keyvault, hosts: [a.vault.azure.net, b.vault.azure.net]", "https://vault.azure.net/.default"},
		{"public", "preset: appconfig, hosts: [a.azconfig.io], scope: https://a.azconfig.io/.default", "https://a.azconfig.io/.default"},
	} {
		table, err := routes.Parse("routes.yaml", inCloud(x.cloud, "  - {"+x.route+"}\n"), nil)
		if err != nil {
			t.Errorf("Parse(%s) in %s: %v", x.route, x.cloud, err)
		} else if got := table.Routes[0].Scope; got != x.want || len(table.Warnings) > 0 {
			t.Errorf("scope of %s in %s = %s with %v, want %s", x.route, x.cloud, got, table.Warnings, x.want)
		}
	}
}

func TestTheYAMLOfAPresetStandsForThePreset(t *testing.T) {
	for _, info := range routes.Presets() {
		for _, cloud := range []string{"public", "usgov", "usgov-dod", "china"} {
			text := info.YAML(cloud)
			offered := info.Kind == "http" && slices.ContainsFunc(info.Clouds, func(c routes.PresetCloud) bool { return c.Cloud == cloud })
			if (text != "") != offered {
				t.Errorf("YAML(%s) of %s = %q", cloud, info.Name, text)
			}
			if text == "" {
				continue
			}
			pasted, err := routes.Parse("routes.yaml", inCloud(cloud, text), nil)
			if err != nil {
				t.Errorf("Parse() of what %s stands for in %s: %v\n%s", info.Name, cloud, err, text)
				continue
			}
			if len(pasted.Warnings) > 0 && info.Name != "acr" { // which no plain route can stand for
				t.Errorf("what %s stands for in %s earns %v", info.Name, cloud, pasted.Warnings)
			}
			got := pasted.Routes[0]
			var hosts []string
			for _, h := range got.Hosts {
				hosts = append(hosts, h.Host)
			}
			table, err := routes.Parse("routes.yaml", inCloud(cloud, "  - {preset: "+info.Name+", hosts: ["+strings.Join(hosts, ", ")+"]}\n"), nil)
			if err != nil {
				t.Fatal(err)
			}
			want := table.Routes[0]
			if got.Scope != want.Scope || got.Inject != want.Inject {
				t.Errorf("what %s stands for in %s has scope %s and %v, want %s and %v", info.Name, cloud, got.Scope, got.Inject, want.Scope, want.Inject)
			}
			for _, h := range slices.Concat(want.SetHeaders, want.DefaultHeaders) {
				if !slices.Contains(got.SetHeaders, h) {
					t.Errorf("what %s stands for in %s lacks %v", info.Name, cloud, h)
				}
			}
		}
	}
}

func TestWhatTheRouteSaysWinsOverThePreset(t *testing.T) {
	src := inCloud("public", `  - preset: cosmos
    hosts: [a.documents.azure.com]
    scope: https://cosmos.azure.com/.default
    inject: {header: X-Token, format: "{token}"}
    set_headers: {x-ms-version: "2020-07-15", X-MS-Date: now}
  - preset: azuredevops
    set_headers: {X-TFS-FedAuthRedirect: Allow}
`)
	table, err := routes.Parse("routes.yaml", src, nil)
	if err != nil {
		t.Fatal(err)
	}
	r := table.Routes[0]
	if r.Scope != "https://cosmos.azure.com/.default" || r.Inject != (routes.Inject{Header: "X-Token", Format: "{token}"}) || r.DefaultHeaders != nil || r.DateHeader != "" {
		t.Errorf("route = %+v", r)
	}
	if got := table.Routes[1]; len(got.SetHeaders) != 1 || got.SetHeaders[0].Value != "Allow" || !got.SignIn {
		t.Errorf("route = %+v", got)
	}
}

func TestDatabricksGetsASecondTokenWhereTheWorkspaceIsNamed(t *testing.T) {
	for cloud, x := range map[string][2]string{
		"public":    {"adb-1.2.azuredatabricks.net", "https://management.core.windows.net//.default"},
		"usgov":     {"adb-1.2.databricks.azure.us", "https://management.usgovcloudapi.net/.default"},
		"usgov-dod": {"adb-1.2.databricks.azure.us", "https://management.usgovcloudapi.net/.default"},
		"china":     {"adb-1.2.databricks.azure.cn", "https://management.chinacloudapi.cn/.default"},
	} {
		route := "  - {preset: databricks, hosts: [" + x[0] + "]"
		table, err := routes.Parse("routes.yaml", inCloud(cloud, route+", set_headers: {X-Databricks-Azure-Workspace-Resource-Id: /subscriptions/1}}\n"), nil)
		if err != nil {
			t.Fatal(err)
		}
		want := routes.SecondToken{Header: "X-Databricks-Azure-Sp-Management-Token", Scope: x[1]}
		if got := table.Routes[0].Second; got == nil || *got != want {
			t.Errorf("second token in %s = %+v, want %+v", cloud, got, want)
		}
		plain, err := routes.Parse("routes.yaml", inCloud(cloud, route+"}\n"), nil)
		if err != nil {
			t.Fatal(err)
		}
		if plain.Routes[0].Second != nil {
			t.Errorf("second token in %s without the field = %+v, want none", cloud, plain.Routes[0].Second)
		}
	}
}

func ExamplePresets() {
	for _, info := range routes.Presets() {
		if info.Name == "keyvault" {
			fmt.Println(info.Clouds[3].Cloud, info.Clouds[3].Choices, info.Clouds[3].Audience)
		}
	}
	// Output: china [*.vault.azure.cn] https://vault.azure.cn
}

func ExamplePresetInfo_YAML() {
	for _, info := range routes.Presets() {
		if info.Name == "storage" {
			fmt.Print(info.YAML("usgov"))
		}
	}
	// Output:
	//   - name: storage
	//     hosts: [contoso.blob.core.usgovcloudapi.net] # your own: *.blob.core.usgovcloudapi.net, *.queue.core.usgovcloudapi.net, *.table.core.usgovcloudapi.net, *.file.core.usgovcloudapi.net, *.dfs.core.usgovcloudapi.net
	//     scope: https://storage.azure.com/.default
	//     # the route's credential has cloud: usgov
	//     set_headers: {x-ms-version: "2021-12-02"}
	//     # only preset: storage lets a caller's own x-ms-version stand
	//     # only preset: storage sets x-ms-file-request-intent for hosts of Azure Files
}
