package sandbox

import (
	"fmt"
	"slices"
	"strings"

	"github.com/google/uuid"
)

// A Cloud is one of Microsoft's, each with login hosts of its own.
type Cloud string

// The clouds, by the names that routes.yaml has for them. USGov and USGovDoD
// share their login host.
const (
	Public   Cloud = "public"
	USGov    Cloud = "usgov"
	USGovDoD Cloud = "usgov-dod"
	China    Cloud = "china"
)

// cloudFacts is what discovery tells of a cloud.
type cloudFacts struct {
	login     string // host
	instance  string // cloud_instance_name
	graph     string // cloud_graph_host_name
	msgraph   string // msgraph_host
	region    string // tenant_region_scope
	subRegion string // tenant_region_sub_scope
	rbac      string
}

// facts returns them; an unknown cloud has none.
func (c Cloud) facts() (cloudFacts, bool) {
	switch c {
	case Public, "":
		return cloudFacts{"login.microsoftonline.com", "microsoftonline.com", "graph.windows.net", "graph.microsoft.com", "EU", "", "https://pas.windows.net"}, true
	case USGov:
		return cloudFacts{"login.microsoftonline.us", "microsoftonline.us", "graph.windows.net", "graph.microsoft.us", "USGov", "DODCON", "https://pasff.usgovcloudapi.net"}, true
	case USGovDoD:
		return cloudFacts{"login.microsoftonline.us", "microsoftonline.us", "graph.windows.net", "dod-graph.microsoft.us", "USGov", "DOD", "https://pasff.usgovcloudapi.net"}, true
	case China:
		return cloudFacts{"login.partner.microsoftonline.cn", "partner.microsoftonline.cn", "graph.chinacloudapi.cn", "microsoftgraph.chinacloudapi.cn", "CN", "", "https://pas.chinacloudapi.cn"}, true
	}
	return cloudFacts{}, false
}

// SetCloud makes this Entra that of another cloud: its discovery documents say
// so, and tenants of other clouds, see [Entra.AddForeignTenant], are foreign to
// it. It begins as [Public].
func (e *Entra) SetCloud(c Cloud) error {
	if _, ok := c.facts(); !ok {
		return fmt.Errorf("%w: cloud %q", ErrName, c)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.cloud = c
	return nil
}

// A ForeignTenant exists, but in another cloud.
type ForeignTenant struct {
	ID, Domain string
	Cloud      Cloud
	// Code is the refusal: 90002, 90038, 900382, 900432 or 900439. 0 is 900439
	// for a US Government tenant asked for at the public host, else 90038.
	Code int
}

// AddForeignTenant makes a tenant of another cloud known. Its discovery
// document sends the reader to that cloud's hosts, as the real service's does;
// token requests are refused. With Code 90002 nothing here knows it.
func (e *Entra) AddForeignTenant(f ForeignTenant) error {
	if _, ok := f.Cloud.facts(); !ok || f.Cloud == "" {
		return fmt.Errorf("%w: cloud %q", ErrName, f.Cloud)
	}
	if uuid.Validate(f.ID) != nil || len(f.ID) != 36 || !tenantSyntax(f.Domain+".x") {
		return fmt.Errorf("%w: tenant %q, domain %q", ErrName, f.ID, f.Domain)
	}
	if !slices.Contains([]int{0, 90002, 90038, 900382, 900432, 900439}, f.Code) {
		return fmt.Errorf("%w: AADSTS%d is no refusal of a wrong cloud", ErrName, f.Code)
	}
	if f.Code == 90002 {
		return nil // which is how it would be refused anyway
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	t := &tenant{id: strings.ToLower(f.ID), domain: f.Domain, foreign: &f}
	e.dir.tenants[t.id] = t
	if f.Domain != "" {
		e.dir.tenants[strings.ToLower(f.Domain)] = t
	}
	return nil
}

// wrongCloud refuses a token for a tenant of another cloud.
func (e *Entra) wrongCloud(t *tenant) *refusal {
	if t.foreign == nil {
		return nil
	}
	e.mu.RLock()
	own, _ := e.cloud.facts()
	e.mu.RUnlock()
	theirs, _ := t.foreign.Cloud.facts()
	code := t.foreign.Code
	if code == 0 {
		code = 90038
		if own.instance == "microsoftonline.com" && theirs.instance == "microsoftonline.us" {
			code = 900439
		}
	}
	switch code {
	case 900439:
		return refuse("invalid_request", code, "Confidential Client requests are not supported on the public endpoint (%s) for tenants in the "+
			"Azure Government cloud. Send your login requests to https://%s instead. Please see "+
			"https://devblogs.microsoft.com/azuregov/azure-government-aad-authority-endpoint-update/ for more details.", own.login, theirs.login)
	case 90038:
		return refuse("invalid_request", code, "The specified tenant '%s' belongs to the National Cloud '%s'. Current cloud instance '%s' "+
			"does not federate with %s. A cloud redirect error is returned.", t.name(), theirs.instance, own.instance, theirs.instance)
	}
	return refuse("invalid_request", code, "Confidential Client is not supported in Cross Cloud request.")
}
