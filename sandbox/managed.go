package sandbox

import (
	"fmt"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"
)

// DefaultManagedLifetime is how long a managed identity's token lives.
const DefaultManagedLifetime = 24 * time.Hour

// A ManagedIdentity is a service principal without credentials of its own,
// whose tokens a [Host] hands out. What is empty is filled in by
// [Entra.AddManagedIdentity].
type ManagedIdentity struct {
	ClientID   string
	ObjectID   string // of the service principal
	ResourceID string // of ARM
	Name       string
	Tenant     string // GUID or domain; "" is [TenantID]
	// SystemAssigned belongs to its host and is what a host uses when a
	// request names no identity; otherwise it is user-assigned.
	SystemAssigned bool
}

// AddManagedIdentity registers an identity and returns it with what was filled
// in. Permissions come by [Entra.Grant] to its ClientID. A user-assigned one
// may have federated credentials, as in a Kubernetes cluster.
func (e *Entra) AddManagedIdentity(m ManagedIdentity) (ManagedIdentity, error) {
	for _, id := range []*string{&m.ClientID, &m.ObjectID} {
		if *id == "" {
			*id = uuid.NewString()
		}
		if uuid.Validate(*id) != nil || len(*id) != 36 {
			return m, fmt.Errorf("%w: %q is no GUID", ErrName, *id)
		}
	}
	if m.Tenant == "" {
		m.Tenant = TenantID
	}
	if m.Name == "" {
		m.Name = "id-" + m.ClientID[:8]
	}
	if m.ResourceID == "" {
		kind := "Microsoft.ManagedIdentity/userAssignedIdentities"
		if m.SystemAssigned {
			kind = "Microsoft.Compute/virtualMachines"
		}
		m.ResourceID = "/subscriptions/11112222-bbbb-3333-cccc-4444dddd5555/resourcegroups/sandbox/providers/" + kind + "/" + m.Name
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	t, ok := e.dir.tenants[strings.ToLower(m.Tenant)]
	if !ok {
		return m, fmt.Errorf("%w: %q", ErrNoTenant, m.Tenant)
	}
	m.Tenant = t.id
	e.dir.apps[strings.ToLower(m.ClientID)] = &app{
		id: m.ClientID, name: m.Name, home: t.id, managed: &m,
		principals: map[string]string{t.id: m.ObjectID}, grants: map[string][]string{},
	}
	return m, nil
}

// managedToken is a token that a platform holds for one of its identities.
type managedToken struct {
	raw             string
	issued, expires time.Time
}

// issueManaged mints a token for resource, which is an audience, not a scope.
// The platform has proven the identity already.
func (e *Entra) issueManaged(clientID, resource string, life time.Duration) (managedToken, *refusal) {
	e.mu.RLock()
	found, ok := e.dir.apps[strings.ToLower(clientID)]
	name := e.dir.resource(resource, "")
	var a *app
	var t *tenant
	if ok && found.managed != nil {
		a = found.clone()
		t = e.dir.tenants[a.home]
	}
	e.mu.RUnlock()
	switch {
	case a == nil || t == nil:
		return managedToken{}, refuse("unauthorized_client", 700016, "Application with identifier '%s' was not found in the directory.", clip(clientID, 64))
	case name == "":
		return managedToken{}, noResource(resource, t)
	}
	m := mintage{tenant: t, app: a, who: client{assertion: "the platform's"}, aud: resource, resource: name}
	out := managedToken{issued: e.clock.now()}
	out.expires = out.issued.Add(life)
	claims := e.claims(m, out.issued, life)
	claims["xms_mirid"] = a.managed.ResourceID
	if name == TokenExchangeAudience {
		e.exchangeClaims(claims, t)
	}
	raw, err := e.keys.sign(claims)
	if err != nil {
		return managedToken{}, unsigned()
	}
	out.raw = raw
	return out, nil
}

// exchangeClaims turns claims into those of a v2.0 token, which is what the
// audience of federation gets: its issuer is the one that a federated
// credential names.
func (e *Entra) exchangeClaims(claims jwt.MapClaims, t *tenant) {
	claims["iss"], claims["ver"], claims["azp"] = e.URL()+"/"+t.id+"/v2.0", "2.0", claims["appid"]
	delete(claims, "idp")
	delete(claims, "appid")
}

// cloudShellAppID is the application in whose name Cloud Shell's tokens are.
const cloudShellAppID = "b677c290-cf4b-4a8e-a60e-91ba650a4abe"

// issueUser mints the kind of token that Cloud Shell gives: a person's.
func (e *Entra) issueUser(resource string, life time.Duration) (managedToken, *refusal) {
	e.mu.RLock()
	t, name := e.dir.tenants[TenantID], e.dir.resource(resource, "")
	e.mu.RUnlock()
	if name == "" {
		return managedToken{}, noResource(resource, t)
	}
	person := &app{id: cloudShellAppID, name: "Azure Cloud Shell", principals: map[string]string{t.id: "87d349ed-44d7-43e1-9a83-5f2406dee5bd"}}
	out := managedToken{issued: e.clock.now()}
	out.expires = out.issued.Add(life)
	claims := e.claims(mintage{tenant: t, app: person, aud: resource, resource: name}, out.issued, life)
	delete(claims, "idtyp")
	claims["upn"], claims["scp"], claims["appidacr"] = "AdeleV@"+TenantDomain, "user_impersonation", "2"
	if name == TokenExchangeAudience {
		e.exchangeClaims(claims, t)
	}
	raw, err := e.keys.sign(claims)
	if err != nil {
		return managedToken{}, unsigned()
	}
	out.raw = raw
	return out, nil
}
