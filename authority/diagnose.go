package authority

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/seed-13b04e61/gateway/secrets"
)

// diagnoseTimeout bounds each document that a diagnosis asks for.
const diagnoseTimeout = 10 * time.Second

// Diagnose says in sentences what an operator would compare when the
// credential called name is refused: what it shows, the clock, and where its
// tenant is at home. For that it reads public documents at the credential's
// own login host and, when the tenant is unknown there and the host is one of
// Microsoft's, at those of the other clouds; no credential is sent anywhere,
// and what it would show is made but not kept. It holds no secret, but tenants,
// applications and thumbprints: it is for the operator alone. A name that the
// directory does not hold has nothing to be said about.
func (d *Directory) Diagnose(ctx context.Context, name string) []string {
	id := d.current.Load().named(name)
	if id == nil {
		return nil
	}
	if id.managed != nil {
		return []string{"it is a managed identity: the host that the gateway runs on gives its tokens, and keeps them for up to a day"}
	}
	if id.prover == nil {
		return []string{inWords("it cannot be shown: "+id.reason, id.remedy)}
	}
	told := id.status().LastError
	var said []string
	if !told.tells() {
		said = id.shown(ctx)
	}
	switch {
	case id.discovery != nil:
		return append(said, d.diagnoseIssuer(ctx, id, told)...)
	case !id.credential.Entra():
		return said
	}
	h, more := d.diagnoseTenant(ctx, id)
	said = append(said, more...)
	// Permissions are a matter of a credential that was taken, in a tenant.
	if link := consentLink(&id.credential); link != "" && !h.unknown && (told == nil || !told.ofCredential() && !strings.Contains(told.Detail, link)) {
		said = append(said, "an administrator grants the application's permissions at "+link)
	}
	return said
}

// tells tells whether the latest error says already what was shown.
func (e *Error) tells() bool {
	return e != nil && (e.shown || e.AADSTS == 7000215)
}

func inWords(what, remedy string) string {
	if remedy == "" {
		return what
	}
	return what + "; " + remedy
}

// shown says what the credential shows of itself.
func (id *identity) shown(ctx context.Context) []string {
	switch {
	case id.leaf != nil:
		return []string{fmt.Sprintf("certificate: thumbprint %s as SHA-1, %s as SHA-256, valid from %s until %s; the portal lists it under Certificates & secrets",
			id.leaf.SHA1, id.leaf.SHA256, day(id.leaf.NotBefore), day(id.leaf.NotAfter))}
	case id.kind == kindFederated:
		return id.shownFederated(ctx)
	case id.guid:
		return []string{"the client secret has the shape of a GUID, so it is likely the secret's ID: copy the column Value"}
	}
	return nil
}

func (id *identity) shownFederated(ctx context.Context) []string {
	ctx, cancel := context.WithTimeout(ctx, diagnoseTimeout)
	defer cancel()
	p, err := id.prove(ctx)
	if err != nil {
		e := id.local(err)
		return []string{inWords("there is no federated token to show: "+e.Hint, e.Remedy)}
	}
	said := []string{p.facts}
	if claims, err := Claims(secrets.New(p.form.Get("client_assertion"))); err == nil && !claims.Expires.IsZero() {
		said = append(said, fmt.Sprintf("the federated token expires in %s", brief(time.Until(claims.Expires))))
	}
	return said
}

// diagnoseIssuer says what the issuer's metadata names, unless told has said it.
func (d *Directory) diagnoseIssuer(ctx context.Context, id *identity, told *Error) []string {
	m, e := id.discovery.get(ctx, d, id)
	if e != nil && told != nil && e.Hint == told.Hint {
		return nil
	}
	if e != nil {
		return []string{inWords(e.Hint, e.Remedy)}
	}
	said := []string{fmt.Sprintf("the issuer's metadata names the token endpoint %s, which takes %s", m.endpoint, among(m.methods))}
	if _, e := id.at(m); e != nil && (told == nil || e.Hint != told.Hint) {
		said = append(said, inWords(e.Hint, e.Remedy))
	}
	return said
}

// home is what a login host says of a tenant.
type home struct {
	unknown bool   // that it knows no such tenant
	guid    string // "" when it did not say
	cloud   *cloud // nil when it did not say, or names none that is known here
	dod     bool   // of the Department of Defense
}

// diagnoseTenant says where the tenant is at home, and how far the clocks are
// apart.
func (d *Directory) diagnoseTenant(ctx context.Context, id *identity) (home, []string) {
	c := &id.credential
	h, said := d.lookUp(ctx, id, c.AuthorityHost)
	own := cloudOfCredential(c)
	switch {
	case h.unknown:
		return h, append(said, d.lookElsewhere(ctx, id)...)
	case h.guid != "" && h.guid != c.TenantID:
		said = append(said, fmt.Sprintf("the tenant %s has the ID %s", c.TenantID, h.guid))
	}
	switch {
	case h.cloud == nil || own == nil:
	case h.cloud != own:
		said = append(said, fmt.Sprintf("the tenant %s belongs to %s: %s", c.TenantID, h.cloud.title, h.cloud.change(c)))
	case h.dod && c.Cloud == "usgov":
		said = append(said, fmt.Sprintf("the tenant %s belongs to the Department of Defense: set cloud: usgov-dod; %s", c.TenantID, present(c)))
	default:
		said = append(said, fmt.Sprintf("the tenant %s belongs to %s, as configured", c.TenantID, h.cloud.title))
	}
	return h, said
}

// lookUp asks the login host at base for the tenant, and says what came of it
// but for where the tenant is at home.
func (d *Directory) lookUp(ctx context.Context, id *identity, base string) (h home, said []string) {
	ctx, cancel := context.WithTimeout(ctx, diagnoseTimeout)
	defer cancel()
	at, tenant := urlHost(base), id.credential.TenantID
	doc, resp, err := d.fetch(ctx, id.transport, base+"/"+url.PathEscape(tenant)+"/v2.0/.well-known/openid-configuration")
	if resp == nil {
		e := id.unreachable(err, proof{})
		return h, []string{fmt.Sprintf("%s cannot be asked for the tenant: %s", at, e.Hint)}
	}
	if date, err := http.ParseTime(resp.Header.Get("Date")); err == nil {
		clock := "this machine's clock agrees with " + at
		if off := skew(time.Since(date)); off != 0 {
			clock = fmt.Sprintf("this machine's clock is %s %s: turn on time synchronisation", skewText(off), at)
		}
		said = append(said, clock)
	}
	switch {
	case err == nil:
	case resp.StatusCode/100 == 4 && doc.has("error"): // AADSTS90002, as a 400
		h.unknown = true
		return h, append(said, fmt.Sprintf("%s knows no tenant %s", at, tenant))
	default:
		return h, append(said, fmt.Sprintf("%s has no discovery document for the tenant %s: status %d", at, tenant, resp.StatusCode))
	}
	if u, err := url.Parse(first(doc.text("issuer"), doc.text("token_endpoint"))); err == nil {
		guid, _, _ := strings.Cut(strings.TrimPrefix(u.Path, "/"), "/")
		if len(guid) == 36 && uuid.Validate(guid) == nil {
			h.guid = strings.ToLower(guid)
		}
	}
	h.cloud = cloudOf(strings.ToLower(doc.text("cloud_instance_name")))
	h.dod = doc.text("tenant_region_sub_scope") == "DOD"
	return h, said
}

// lookElsewhere asks the clouds other than the credential's own. A tenant of
// a host that is none of Microsoft's is no business of theirs.
func (d *Directory) lookElsewhere(ctx context.Context, id *identity) []string {
	c := &id.credential
	if cloudOf(strings.ToLower(nameOf(c.AuthorityHost))) == nil {
		return nil
	}
	own, silent := cloudOfCredential(c), []string(nil)
	for i := range clouds {
		at := &clouds[i]
		if at == own || at.name == "" {
			continue
		}
		h, _ := d.lookUp(ctx, id, "https://"+at.login)
		switch {
		case h.cloud != nil && h.cloud != own:
			return []string{fmt.Sprintf("the tenant %s belongs to %s: %s", c.TenantID, h.cloud.title, h.cloud.change(c))}
		case !h.unknown:
			silent = append(silent, at.login)
		}
	}
	if len(silent) > 0 {
		return []string{"not heard from: " + strings.Join(silent, ", ")}
	}
	return []string{fmt.Sprintf("no other cloud knows the tenant %s either: check tenant_id", c.TenantID)}
}

func urlHost(base string) string {
	u, err := url.Parse(base)
	if err != nil {
		return base
	}
	return u.Host
}

func nameOf(base string) string {
	u, err := url.Parse(base)
	if err != nil {
		return ""
	}
	return u.Hostname()
}
