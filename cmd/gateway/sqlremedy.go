package main

import (
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/seed-13b04e61/gateway/authority"
	"github.com/seed-13b04e61/gateway/sql/tds"
	"github.com/seed-13b04e61/gateway/tokens"
)

// numberFirewall is the error of a server whose firewall refuses the client's
// address.
const numberFirewall = 40615

// isUnknownPrincipal tells whether the server believed the token and knows no
// user for it.
func isUnknownPrincipal(why *tds.LoginError) bool {
	for _, e := range why.Refused {
		if e.Number == tds.NumberLoginFailed && strings.Contains(e.Message, "token-identified principal") && !strings.Contains(e.Message, "expired") {
			return true
		}
	}
	return false
}

// unknownPrincipal says which user is missing, by the claims of the token t, and
// how to make it.
func (row *loginJSON) unknownPrincipal(l login, t tokens.Token) {
	where := l.door.Database
	if where == "" {
		where = "the database that the app uses"
	}
	row.App = appOf(t)
	row.Remedy = fmt.Sprintf("the app of credential %s is no user there. As the server's Microsoft Entra admin run one of the first two statements in %s, and then grant what the app needs", l.door.Credential.Name, where)
	name := l.door.Credential.Name
	if row.App != nil && row.App.Name != "" {
		name = row.App.Name
	} else {
		row.Remedy += ". The first wants the app's display name in Entra in place of " + quoteName(name) + "; the second takes any name and looks nothing up"
	}
	row.Statements = []string{"CREATE USER " + quoteName(name) + " FROM EXTERNAL PROVIDER;"}
	if row.App != nil {
		if sid, ok := sidOf(row.App.AppID); ok {
			row.Statements = append(row.Statements, "CREATE USER "+quoteName(name)+" WITH SID = "+sid+", TYPE = E;")
		}
	}
	row.Statements = append(row.Statements, "ALTER ROLE db_datareader ADD MEMBER "+quoteName(name)+";")
}

// appOf is who a token says that it is for, nil for one that does not tell.
func appOf(t tokens.Token) *appJSON {
	claims, err := authority.Claims(t.Access)
	if err != nil {
		return nil
	}
	text := func(name string) string {
		s, _ := claims.Raw[name].(string) // another kind of value is none
		return visible(s)
	}
	return &appJSON{AppID: visible(claims.AppID), ObjectID: text("oid"), TenantID: visible(claims.TenantID), Name: text("app_displayname")}
}

// quoteName is a name as T-SQL has it in brackets.
func quoteName(name string) string { return "[" + strings.ReplaceAll(name, "]", "]]") + "]" }

// sidOf is the SID that a database has for the app of that ID: its bytes as a
// uniqueidentifier, the first three groups with their low bytes first (MS-DTYP
// 2.3.4.2). False for what is no GUID.
func sidOf(appID string) (sid string, ok bool) {
	if len(appID) != 36 || appID[8] != '-' || appID[13] != '-' || appID[18] != '-' || appID[23] != '-' {
		return "", false
	}
	b, err := hex.DecodeString(strings.ReplaceAll(appID, "-", ""))
	if err != nil || len(b) != 16 {
		return "", false
	}
	b[0], b[1], b[2], b[3] = b[3], b[2], b[1], b[0]
	b[4], b[5] = b[5], b[4]
	b[6], b[7] = b[7], b[6]
	return "0x" + strings.ToUpper(hex.EncodeToString(b)), true
}

// sqlRemedy is what to do about a login that ended otherwise than for want of a
// user.
func sqlRemedy(l login, why *tds.LoginError) string {
	if why.Number() == numberFirewall {
		return firewallRemedy(l.server.Host, why)
	}
	if remedy := why.Remedy(); remedy != "" || why.Number() != tds.NumberLoginFailed {
		return remedy
	}
	return fmt.Sprintf("the server does not take the token: see whether %s has a Microsoft Entra admin, and whether the credential's tenant %s is the server's own",
		l.server.Host, l.door.Credential.TenantID)
}

// firewallRemedy names the address that the server's firewall refused.
func firewallRemedy(server string, why *tds.LoginError) string {
	address, rule, ip := "ADDRESS", "firewall-rule", "ip"
	for _, e := range why.Refused {
		if a, ok := e.Address(); ok {
			address = a.String()
			if a.Is6() && !a.Is4In6() { // a list of its own
				rule, ip = "ipv6-firewall-rule", "ipv6"
			}
			break
		}
	}
	name, _, _ := strings.Cut(server, ".")
	return fmt.Sprintf("the firewall of %s refuses this machine, which it sees as %s: allow that (az sql server %s create --resource-group GROUP --server %s --name gateway --start-%s-address %s --end-%s-address %s), or reach the server by a private endpoint",
		server, address, rule, name, ip, address, ip, address)
}
