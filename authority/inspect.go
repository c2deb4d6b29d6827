package authority

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"
	"github.com/seed-13b04e61/gateway/routes"
	"github.com/seed-13b04e61/gateway/secrets"
)

// ErrOpaque is the error of [Claims] for a token that is no JWT, which any
// server but Entra may issue.
var ErrOpaque = errors.New("token is opaque")

// Inspected is what a token claims of itself. Nothing of it is verified: it is
// for an operator's eyes, and no decision may rest on it.
type Inspected struct {
	Audience []string
	AppID    string // appid or azp
	TenantID string
	Issuer   string
	Roles    []string
	Expires  time.Time
	Raw      map[string]any
}

// Claims decodes a JWT without verifying it.
func Claims(access secrets.Secret) (Inspected, error) {
	claims := jwt.MapClaims{}
	parser := jwt.NewParser(jwt.WithJSONNumber())
	if _, _, err := parser.ParseUnverified(access.Reveal(), claims); err != nil {
		return Inspected{}, ErrOpaque // the parser's words may quote the token
	}
	text := func(names ...string) string {
		for _, n := range names {
			if s, ok := claims[n].(string); ok && s != "" {
				return s
			}
		}
		return ""
	}
	i := Inspected{AppID: text("appid", "azp"), TenantID: text("tid"), Issuer: text("iss"), Raw: claims}
	i.Audience, _ = claims.GetAudience()
	if list, ok := claims["roles"].([]any); ok {
		for _, r := range list {
			if s, ok := r.(string); ok {
				i.Roles = append(i.Roles, s)
			}
		}
	}
	if n, ok := claims["exp"].(json.Number); ok {
		if sec, err := n.Int64(); err == nil {
			i.Expires = time.Unix(sec, 0)
		}
	}
	return i, nil
}

// Principal is the object ID (oid) of the service principal that holds the
// token, or "".
func (i Inspected) Principal() string {
	oid, _ := i.Raw["oid"].(string)
	if uuid.Validate(oid) != nil {
		return ""
	}
	return oid
}

// NoRoles is a remark on an Entra token that grants no application permission,
// or "" when it grants some. Entra issues such tokens for any API that exists
// in the tenant; the API then answers 403.
func (i Inspected) NoRoles() string {
	if len(i.Roles) > 0 {
		return ""
	}
	remark := fmt.Sprintf("the token for %s carries no application permissions (roles), so expect 403 unless this API goes by role assignments", strings.Join(i.Audience, " "))
	if i.TenantID == "" {
		return remark + "; an administrator adds them and consents in the portal, then run gateway purge"
	}
	host := "login.microsoftonline.com"
	if u, err := url.Parse(i.Issuer); err == nil && u.Host != "" && u.Host != "sts.windows.net" {
		host = u.Host
	}
	return fmt.Sprintf("%s; an administrator adds them and consents at https://%s/%s/adminconsent?client_id=%s, then run gateway purge",
		remark, host, i.TenantID, i.AppID)
}

// consentLink is where an administrator grants an application's permissions.
func consentLink(c *routes.Credential) string {
	if !c.Entra() || c.TenantID == "" || c.ClientID == "" {
		return ""
	}
	return c.AuthorityHost + "/" + c.TenantID + "/adminconsent?client_id=" + url.QueryEscape(c.ClientID)
}
