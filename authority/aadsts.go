package authority

// retry says what the table of numbers adds to a refusal's status.
type retry int

const (
	never      retry = iota // until someone mends it
	reloads                 // after the credential was mended
	propagates              // may heal by itself within minutes
	transient               // a passing failure at Entra
	holdOff                 // too many requests, whatever the status
)

// advice is one row: what a refusal means and what to do about it.
type advice struct {
	meaning, remedy string
	retry           retry
}

// advise looks an AADSTS number up.
func advise(number int) (advice, bool) {
	row, ok := aadstsTable[number]
	return row, ok
}

// adviseOAuth looks an error of RFC 6749 §5.2 up.
func adviseOAuth(code string) (advice, bool) {
	row, ok := oauthTable[code]
	return row, ok
}

const (
	checkSecret    = "copy the secret's Value, not its Secret ID, from Certificates & secrets into the source of client_secret, and see that client_id and tenant_id belong to it"
	checkApp       = "check client_id, tenant_id and cloud; if the application is at home elsewhere, have an administrator of this tenant consent to it"
	checkGrant     = "have an administrator add the application permission and grant admin consent, then run gateway purge"
	checkTime      = "turn on time synchronisation on this machine; for a federated credential, see that its token file is renewed"
	checkScope     = "set scope to exactly one <audience>/.default"
	checkResource  = "check the scope's audience, its slashes above all, and the cloud; if the API is not installed in the tenant: az ad sp create --id <API's application ID>"
	checkPolicy    = "look into Sign-in logs > Service principal sign-ins > Conditional Access; add the gateway's addresses to the named location, or dismiss the risk"
	checkCert      = "upload the certificate (not the key) under Certificates & secrets; if that was done minutes ago, wait"
	checkFederated = "compare issuer, subject and audience, case included, with the federated credential in the portal; a new one needs minutes to spread"
	checkCloud     = "set cloud to that of the application's tenant, public, usgov, usgov-dod or china; gateway check --live finds it"
	checkTenant    = "set tenant_id to the tenant's GUID or one of its domains"
	checkClient    = "check client_id, its secret or key, and token_endpoint_auth_method"
	waitServer     = "nothing: the gateway tries again by itself; if it lasts, look at the server's own log"
	waitRetry      = "nothing: the gateway tries again by itself; if it lasts, look at Azure's status page"
)

// aadstsTable is what Entra's numbers mean for an application's own tokens.
// Source: Microsoft's list of authentication error codes and its libraries.
var aadstsTable = map[int]advice{
	7000215: {"the client secret is wrong", checkSecret, reloads},
	7000222: {"the client secret has expired", "create a new secret under Certificates & secrets and write its Value to the source of client_secret; a file is read again at once", reloads},
	7000216: {"no client secret or assertion arrived", "see that the source of the credential is not empty", reloads},
	7000218: {"no client secret or assertion arrived", "see that the source of the credential is not empty", reloads},
	70002:   {"the credential is wrong", checkSecret, reloads},
	50012:   {"the credential is wrong", checkSecret, reloads},
	700025:  {"the application is registered as a public client", "turn off Allow public client flows in the app registration", never},
	700016:  {"the tenant knows no such application", checkApp, propagates},
	7000229: {"the application has no service principal in the tenant", "az ad sp create --id <client_id>, or grant admin consent", propagates},
	700011:  {"the tenant knows no such application", checkApp, propagates},
	7000112: {"the application is disabled in the tenant", "Enterprise applications > Properties > Enabled for users to sign-in: Yes; ask security first who disabled it", never},
	70001:   {"the application is unknown or disabled", checkApp, never},
	1000031: {"the application is disabled for this API", "enable it again, or accept the API's terms", never},
	700027:  {"the certificate is not registered for the application, or its signature does not verify", checkCert, reloads},
	7000274: {"the assertion's signature is invalid", "see that the private key belongs to the certificate", reloads},
	7000214: {"the certificate has been revoked", "register a new certificate", reloads},
	7000277: {"the certificate is not trusted", "register a certificate that the tenant's policy allows", reloads},
	1000502: {"the certificate is outside of its dates", "renew the certificate and register the new one", reloads},
	700030:  {"the certificate's subject and issuer are not authorized", "register the certificate itself; subject and issuer alone are for Microsoft's own applications", never},
	700024:  {"the assertion is outside of its time", checkTime, reloads},
	500133:  {"the assertion has expired", checkTime, reloads},
	50013:   {"the assertion is invalid", checkTime, reloads},
	50027:   {"the assertion is no JWT", "see that the federated token file holds a JWT and nothing else", reloads},
	50048:   {"subject and issuer of the assertion differ", "report this: it is a defect of the gateway", never},
	50059:   {"the request names no tenant", checkTenant, never},
	900023:  {"the tenant's name is malformed", checkTenant, never},
	90013:   {"the request is malformed", "check tenant_id, client_id and scope", never},
	900144:  {"a parameter is missing", "check client_id and scope", never},
	9002313: {"the request is malformed", "check tenant_id, client_id and scope", never},
	90002:   {"there is no such tenant", "check tenant_id and cloud; the tenant may have been removed", never},
	900382:  {"the application belongs to another cloud", checkCloud, never},
	900432:  {"the application belongs to another cloud", checkCloud, never},
	90038:   {"the tenant belongs to another cloud", checkCloud, never},
	900439:  {"a US Government tenant was asked for at the public endpoint", "set cloud: usgov", never},
	50194:   {"the application is not multi-tenant", checkTenant, never},
	9001023: {"common and organizations cannot be used with client credentials", checkTenant, never},
	90019:   {"the request names no tenant", checkTenant, never},
	50049:   {"the login host is unknown", "check authority_host and cloud", never},
	70011:   {"the scope is invalid", checkScope, never},
	1002012: {"the scope does not end in /.default", checkScope, never},
	28000:   {"the scope names more than one resource", "make a route for each", never},
	700022:  {"the scope names more than one resource", "make a route for each", never},
	28002:   {"the scope is invalid", checkScope, never},
	28003:   {"the scope is empty", checkScope, never},
	700023:  {"the scope or the assertion's audience is invalid", checkScope, never},
	901002:  {"the parameter resource is not supported", checkScope, never},
	500011:  {"the tenant knows no such resource", checkResource, propagates},
	50001:   {"the resource is unknown or disabled", checkResource, propagates},
	500014:  {"the resource is disabled in the tenant", "enable the API under Enterprise applications", never},
	90009:   {"the application asks for a token for itself", "write the scope as <client_id>/.default", never},
	501051:  {"the application is not assigned to a role of the API", "assign an app role of the API to the application's service principal", propagates},
	50105:   {"the application is not assigned to a role of the API", "assign an app role of the API to the application's service principal", propagates},
	65001:   {"consent is missing", checkGrant, propagates},
	650056:  {"a permission is missing", checkGrant, propagates},
	650057:  {"the API is not among the application's permissions", checkGrant, propagates},
	650052:  {"the tenant has no service principal of the API", checkResource, propagates},
	650054:  {"the API's permission has been removed", checkGrant, propagates},
	90094:   {"an administrator's consent is missing", checkGrant, propagates},
	53003:   {"Conditional Access blocks the application", checkPolicy, never},
	530032:  {"a security policy blocks the application", checkPolicy, never},
	50131:   {"a Conditional Access policy blocks the application", checkPolicy, never},
	500021:  {"tenant restrictions of a proxy on the way forbid this tenant", "have the tenant added to Restrict-Access-To-Tenants of that proxy", never},
	500212:  {"an outbound policy forbids this tenant", "have the tenant allowed", never},
	70021:   {"no federated credential matches the token", checkFederated, propagates},
	700211:  {"no federated credential matches the token's issuer", checkFederated, propagates},
	700212:  {"no federated credential matches the token's audience", checkFederated, propagates},
	700213:  {"no federated credential matches the token's subject", checkFederated, propagates},
	7002137: {"a federated credential differs from the token in case alone", checkFederated, never},
	7002138: {"a federated credential differs from the token in case alone", checkFederated, never},
	700223:  {"this kind of token or issuer may not be federated here", checkFederated, never},
	700236:  {"this issuer may not be federated here", checkFederated, never},
	700238:  {"a policy forbids this federation", checkFederated, never},
	700229:  {"only application tokens may be federated", "use the token of a managed identity or an application", never},
	90061:   {"Entra cannot fetch the issuer's documents", "make the issuer's /.well-known/openid-configuration and keys reachable over public HTTPS", propagates},
	50166:   {"Entra cannot fetch the issuer's documents", "make the issuer's /.well-known/openid-configuration and keys reachable over public HTTPS", propagates},
	501661:  {"Entra cannot fetch the issuer's documents", "make the issuer's /.well-known/openid-configuration and keys reachable over public HTTPS", propagates},
	900612:  {"Entra cannot read the issuer's documents", "publish a valid /.well-known/openid-configuration and keys", propagates},
	7002381: {"the GitHub token lacks an enterprise that the tenant allows", "use a repository of an allowed enterprise", never},
	50196:   {"Entra sees the same request too often", "find out who else asks for tokens of this application; the gateway holds off", holdOff},
	90055:   {"the tenant makes too many requests", "find out who asks for so many tokens; the gateway holds off", holdOff},
	50033:   {"a passing failure at Entra", waitRetry, transient},
	90006:   {"a passing failure at Entra", waitRetry, transient},
	90012:   {"a passing failure at Entra", waitRetry, transient},
	90024:   {"a passing failure at Entra", waitRetry, transient},
	90033:   {"a passing failure at Entra", waitRetry, transient},
	90090:   {"a passing failure at Entra", waitRetry, transient},
	50000:   {"a passing failure at Entra", waitRetry, transient},
	100007:  {"the regional endpoint does not serve this application", "use the login host of the cloud as authority_host", never},
	500181:  {"the certificate of a proof-of-possession request is stale", "use a plain certificate credential", never},
	51000:   {"the tenant has not enabled this feature", "use a plain certificate credential", never},
	5000225: {"the tenant is blocked for inactivity", "have its owner reactivate it", never},
	50034:   {"this is a refusal of a user's login, not of the gateway's", "see that no user flow uses this credential", never},
	50126:   {"this is a refusal of a user's login, not of the gateway's", "see that no user flow uses this credential", never},
	50076:   {"this is a refusal of a user's login, not of the gateway's", "see that no user flow uses this credential", never},
	700003:  {"this is a refusal of a device's login, not of the gateway's", "see that no device flow uses this credential", never},
}

// oauthTable is the advice for servers that have no numbers (RFC 6749 §5.2).
var oauthTable = map[string]advice{
	"invalid_request":         {"the request is malformed", "check token_params and scope against what the server wants", never},
	"invalid_client":          {"the client is unknown or its credential is wrong", checkClient, reloads},
	"invalid_grant":           {"the grant is refused", "look into the server's log", never},
	"unauthorized_client":     {"the client may not use client credentials", "allow the grant type client_credentials for this client at the server", never},
	"unsupported_grant_type":  {"the server has no client credentials grant", "check that token_endpoint is the right one", never},
	"invalid_scope":           {"the scope is unknown or not allowed for the client", "check scope, and what the server allows this client", never},
	"invalid_target":          {"the resource or audience is unknown or not allowed (RFC 8707)", "check audience or resource in token_params", never},
	"invalid_resource":        {"the resource is unknown or not allowed for the client", checkResource, never},
	"interaction_required":    {"a policy asks for what only a person could give", checkPolicy, never},
	"consent_required":        {"consent is missing", checkGrant, propagates},
	"access_denied":           {"the server denies access", "allow this client the scope and audience at the server, whose log tells what it lacks", never},
	"temporarily_unavailable": {"the server is busy", waitServer, transient},
	"server_error":            {"the server failed", waitServer, transient},
}
