package sandbox

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
)

// aadsts is every refusal that an app-only flow may meet: number, error, text.
// The texts are the real service's as its users quoted them, without what
// differs from call to call; {app} and {tenant} are filled in.
const aadsts = `
7000215 invalid_client Invalid client secret provided. Ensure the secret being sent in the request is the client secret value, not the client secret ID, for a secret added to app '{app}'.
7000222 invalid_client The provided client secret keys for app '{app}' are expired. Visit the Azure portal to create new keys for your app: https://aka.ms/NewClientSecret, or consider using certificate credentials for added security: https://aka.ms/certCreds.
7000216 invalid_client 'client_assertion', 'client_secret' or 'request' is required for the 'client_credentials' grant type.
7000218 invalid_client The request body must contain the following parameter: 'client_assertion' or 'client_secret'.
70002 invalid_client Error validating credentials.
50012 invalid_client Authentication failed. Client assertion contains an invalid signature.
700025 invalid_client Client is public so neither 'client_assertion' nor 'client_secret' should be presented.
700016 unauthorized_client Application with identifier '{app}' was not found in the directory '{tenant}'. This can happen if the application has not been installed by the administrator of the tenant or consented to by any user in the tenant. You may have sent your authentication request to the wrong tenant.
7000229 unauthorized_client The client application {app} is missing service principal in the tenant {tenant}. See instructions here: https://go.microsoft.com/fwlink/?linkid=2225119
700011 unauthorized_client Application with identifier {app} was not found in the directory {tenant}.
7000112 unauthorized_client Application '{app}' is disabled.
70001 unauthorized_client Application with identifier '{app}' was not found in the directory {tenant}, or is disabled.
1000031 unauthorized_client Application {app} cannot be accessed at this time. Contact your administrator.
700027 invalid_client The certificate with identifier used to sign the client assertion is not registered on application. [Reason - The key was not found., Thumbprint of key used by client: '3C5CDC4F3CE2B4BD04AE9AC5E3B3DDC8F1E2A2B1', Please visit the Azure Portal, Graph Explorer or directly use MS Graph to see configured keys for app Id '{app}'.]
7000274 invalid_client Client assertion contains an invalid signature.
7000214 invalid_client The certificate used to sign the client assertion has been revoked.
7000277 invalid_client The certificate used to sign the client assertion does not chain to a trusted issuer.
1000502 invalid_client The provided certificate is not within its specified validity period.
700030 invalid_client Invalid certificate - subject name in certificate is not authorized. SubjectNames/SubjectAlternativeNames (up to 10) in token certificate are: app.
700024 invalid_client Client assertion is not within its valid time range. Current time: {now}, assertion valid from 2020-01-01T00:00:00.0000000Z, expiry time of assertion 2020-01-01T00:10:00.0000000Z. Review the documentation at https://docs.microsoft.com/azure/active-directory/develop/active-directory-certificate-credentials .
500133 invalid_client Assertion is not within its valid time range. Ensure that the access token is not expired before using it for user assertion, or request a new token.
50013 invalid_client Assertion failed signature validation. [Reason - The provided signature value did not match the expected signature value.]
50027 invalid_client JWT token is invalid or malformed.
50048 invalid_client Subject mismatches Issuer claim in the client assertion.
50059 invalid_request No tenant-identifying information found in either the request or implied by any provided credentials.
900023 invalid_request Specified tenant identifier '{tenant}' is neither a valid DNS name, nor a valid external domain.
90013 invalid_request Invalid input received from the user.
900144 invalid_request The request body must contain the following parameter: 'scope'.
9002313 invalid_request Invalid request. Request is malformed or invalid.
90002 invalid_request Tenant '{tenant}' not found. Check to make sure you have the correct tenant ID and are signing into the correct cloud. Check with your subscription administrator, this may happen if there are no active subscriptions for the tenant.
900382 invalid_request Confidential Client is not supported in Cross Cloud request.
900432 invalid_request Confidential Client is not supported in Cross Cloud request.
90038 invalid_request The specified tenant '{tenant}' belongs to the National Cloud 'partner.microsoftonline.cn'. Current cloud instance 'microsoftonline.com' does not federate with partner.microsoftonline.cn. A cloud redirect error is returned.
900439 invalid_request Confidential Client requests are not supported on the public endpoint (login.microsoftonline.com) for tenants in the Azure Government cloud. Send your login requests to https://login.microsoftonline.us instead. Please see https://devblogs.microsoft.com/azuregov/azure-government-aad-authority-endpoint-update/ for more details.
50194 invalid_request Application '{app}' is not configured as a multi-tenant application. Usage of the /common endpoint is not supported for such apps created after '10/15/2018'. Use a tenant-specific endpoint or configure the application to be multi-tenant.
9001023 invalid_request The grant type is not supported over the /common or /consumers endpoints. Please use the /organizations or tenant-specific endpoint.
90019 invalid_request No tenant-identifying information found in either the request or implied by any provided credentials.
50049 invalid_instance Unknown or invalid instance.
70011 invalid_scope The provided request must include a 'scope' input parameter. The provided value for the input parameter 'scope' is not valid. The scope is not valid.
1002012 invalid_scope The provided value for scope is not valid. Client credential flows must have a scope value with /.default suffixed to the resource identifier (application ID URI).
28000 invalid_scope Provided value for the input parameter scope is not valid because it contains more than one resource.
700022 invalid_scope The provided value for the input parameter 'scope' is not valid because it contains more than one resource.
28002 invalid_scope Provided value for the input parameter scope is not valid when requesting an access token. Please specify a valid scope.
28003 invalid_scope Provided value for the input parameter scope cannot be empty when requesting an access token using the provided authorization code. Please specify a valid scope.
700023 invalid_scope The provided value for the input parameter 'scope' is not valid because it does not specify a resource.
901002 invalid_request The 'resource' request parameter is not supported.
500011 invalid_resource The resource principal named https://api.example was not found in the tenant named {tenant}. This can happen if the application has not been installed by the administrator of the tenant or consented to by any user in the tenant. You might have sent your authentication request to the wrong tenant.
50001 invalid_resource The resource is disabled, or the resource named https://api.example was not found.
500014 invalid_resource The service principal for resource 'https://api.example' is disabled. This indicate that a subscription within the tenant has lapsed, or that the administrator for this tenant has disabled the application, preventing tokens from being issued for it.
90009 invalid_resource Application '{app}' is requesting a token for itself. This scenario is supported only if resource is specified using the GUID based App Identifier.
501051 invalid_grant Application '{app}' is not assigned to a role for the application 'https://api.example'.
50105 invalid_grant Your administrator has configured the application '{app}' to block users unless they are specifically granted ('assigned') access to the application.
65001 invalid_grant The user or administrator has not consented to use the application with ID '{app}'. Send an interactive authorization request for this user and resource.
650056 invalid_client Misconfigured application. This could be due to one of the following: the client has not listed any permissions for 'AAD Graph' in the requested permissions in the client's application registration. Or, the admin has not consented in the tenant. Please contact your admin to fix the configuration or consent on behalf of the tenant.
650057 invalid_resource Invalid resource. The client has requested access to a resource which is not listed in the requested permissions in the client's application registration. Client app ID: {app}.
650052 invalid_client The app is trying to access a service that your organization '{tenant}' lacks a service principal for. Contact your IT Admin to review the configuration of your service subscriptions or consent to the application in order to create the required service principal.
650054 invalid_client The application '{app}' asked for permissions to access a resource that has been removed or is no longer available. Contact the app vendor.
90094 invalid_grant An administrator of {tenant} has set a policy that prevents you from granting the permissions that '{app}' needs.
53003 interaction_required Access has been blocked by Conditional Access policies. The access policy does not allow token issuance.
530032 interaction_required Tenant security policy does not meet requirements for access. The access has been blocked by security policy.
50131 interaction_required Device is not in required device state, or the request was blocked because of suspicious activity, access policy, or security policy decisions.
500021 invalid_request Access to '{tenant}' tenant is denied.
500212 invalid_request The user's administrator has set an outbound access policy that does not allow access to the resource tenant '{tenant}'.
70021 invalid_client No matching federated identity record found for presented assertion. Assertion Issuer: 'https://issuer.example'. Assertion Subject: 'job'. Assertion Audience: 'api://AzureADTokenExchange'. https://learn.microsoft.com/entra/workload-id/workload-identity-federation
700211 invalid_client No matching federated identity record found for presented assertion issuer 'https://issuer.example/'. Check your federated identity credential Subject, Audience and Issuer against the presented assertion. https://learn.microsoft.com/entra/workload-id/workload-identity-federation
700212 invalid_client No matching federated identity record found for presented assertion audience 'api://other'. Check your federated identity credential Subject, Audience and Issuer against the presented assertion. https://learn.microsoft.com/entra/workload-id/workload-identity-federation
700213 invalid_client No matching federated identity record found for presented assertion subject 'job'. Check your federated identity credential Subject, Audience and Issuer against the presented assertion. https://learn.microsoft.com/entra/workload-id/workload-identity-federation
7002137 invalid_client No matching federated identity record found for presented assertion issuer 'https://Issuer.example'. The issuer matches with case-insensitive comparison, but not with case-sensitive comparison.
7002138 invalid_client No matching federated identity record found for presented assertion subject 'Job'. The subject matches with case-insensitive comparison, but not with case-sensitive comparison.
700223 invalid_client Application {app} is not authorized to make federated identity credential requests with this token type.
700236 invalid_client Entra ID tokens issued by issuer 'https://login.microsoftonline.com/{tenant}/v2.0' may not be used for federated identity credential flows for applications or managed identities registered in this tenant.
700238 invalid_client Tokens issued by issuer 'https://issuer.example' may not be used for federated identity credential flows for applications or managed identities registered in this tenant.
700229 invalid_client Only app-only tokens can be used as Federated Identity Credentials for AAD issuer.
90061 invalid_request Request to External OIDC endpoint failed.
50166 invalid_request Request to External OIDC endpoint failed.
501661 invalid_request Request to External OIDC endpoint for keys failed.
900612 invalid_request The response of the External OIDC endpoint is not valid.
7002381 invalid_client The 'enterprise' claim of the GitHub token is missing or not allowed by the policy of tenant {tenant}.
50196 invalid_grant The server terminated an operation because it encountered a client request loop. Please contact your app vendor.
90055 temporarily_unavailable/429 There are too many incoming requests for the tenant {tenant}.
50033 temporarily_unavailable A transient error has occurred. Please try again.
90006 temporarily_unavailable The service is temporarily unavailable. Please retry later.
90012 temporarily_unavailable The request has timed out. Please retry.
90024 temporarily_unavailable The service is temporarily unavailable. Please retry later.
90033 temporarily_unavailable A transient error has occurred. Please try again.
90090 temporarily_unavailable The service is temporarily unavailable. Please retry later.
50000 server_error There was an error issuing a token.
100007 unauthorized_client Only managed identities and Microsoft internal service identities are allowed to use the regional endpoint. Application '{app}' is not.
500181 invalid_client The TLS certificate provided does not match the certificate in the assertion.
51000 invalid_request The feature mTLS proof-of-possession is disabled for the tenant.
5000225 invalid_request This tenant has been blocked due to inactivity. To learn more about tenant lifecycle policies, see https://aka.ms/TenantLifecycle
50034 invalid_grant The user account does not exist in the {tenant} directory. To sign into this application, the account must be added to the directory.
50126 invalid_grant Error validating credentials due to invalid username or password.
50076 interaction_required Due to a configuration change made by your administrator, or because you moved to a new location, you must use multi-factor authentication to access '{app}'.
700003 invalid_grant Device object was not found in the tenant '{tenant}' directory.
`

// findCode returns the refusal of that number, its text not yet filled in.
func findCode(code int) (*refusal, bool) {
	_, rest, ok := strings.Cut(aadsts, "\n"+strconv.Itoa(code)+" ")
	if !ok {
		return nil, false
	}
	line, _, _ := strings.Cut(rest, "\n")
	oauth, words, _ := strings.Cut(line, " ")
	oauth, status, _ := strings.Cut(oauth, "/")
	f := refuse(oauth, code, "%s", words)
	switch {
	case status != "":
		f.status, _ = strconv.Atoi(status)
	case oauth == "temporarily_unavailable":
		f.status = http.StatusServiceUnavailable
	case oauth == "server_error":
		f.status = http.StatusInternalServerError
	}
	return f, true
}

// Codes returns the AADSTS numbers that [Entra.Refuse] knows.
func Codes() []int {
	var out []int
	for line := range strings.Lines(aadsts) {
		number, _, _ := strings.Cut(line, " ")
		if code, err := strconv.Atoi(number); err == nil {
			out = append(out, code)
		}
	}
	return out
}

// Refuse makes every token request that names this client ID end in the AADSTS
// error of that number, whatever else is right or wrong with it; 0 ends that.
// A fault of [Entra.FailWith] that answers for itself goes first.
// A number that [Codes] does not have is an error. The client need not exist.
func (e *Entra) Refuse(clientID string, code int) error {
	if _, ok := findCode(code); !ok && code != 0 {
		return fmt.Errorf("%w: AADSTS%d is not in the table", ErrName, code)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if code == 0 {
		delete(e.ordered, strings.ToLower(clientID))
		return nil
	}
	e.ordered[strings.ToLower(clientID)] = code
	return nil
}

// orderedRefusal returns what [Entra.Refuse] wants for this client, or nil.
func (e *Entra) orderedRefusal(x *exchange, clientID string) *refusal {
	e.mu.RLock()
	code := e.ordered[strings.ToLower(clientID)]
	e.mu.RUnlock()
	f, ok := findCode(code)
	if !ok {
		return nil
	}
	f.text = strings.NewReplacer("{app}", clip(clientID, 64), "{tenant}", clip(x.tenant, 255),
		"{now}", x.now.UTC().Format("2006-01-02T15:04:05.0000000Z")).Replace(f.text)
	if code == 53003 {
		f.suberror = "message_only"
		f.claims = `{"access_token":{"capolids":{"essential":true,"values":["9c2dd4a5-6d0b-4c35-a2bb-5f4b8e0d8f3e"]}}}`
	}
	return f
}
