package authority

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"unicode"

	"github.com/seed-13b04e61/gateway/routes"
	"github.com/seed-13b04e61/gateway/secrets"
	"github.com/seed-13b04e61/gateway/tokens"
)

// A source is where a federated token comes from.
type source interface {
	// assertion gets the token as it is now. An error is a [trouble], or the
	// [*Error] of whoever was asked.
	assertion(ctx context.Context) (secrets.Secret, error)
	// String names the source for messages. It holds nothing secret.
	String() string
}

// environment looks an environment variable up, as [os.LookupEnv] does.
type environment func(name string) (value string, ok bool)

// get returns a variable's value, "" when it is not set.
func (e environment) get(name string) string {
	v, _ := e(name)
	return v
}

// exchangeAudiences are what Entra recommends as a federated token's audience
// in each cloud.
var exchangeAudiences = map[string]string{
	"usgov":     "api://AzureADTokenExchangeUSGov",
	"usgov-dod": "api://AzureADTokenExchangeUSGov",
	"china":     "api://AzureADTokenExchangeChina",
}

// exchangeAudience is what sources are asked for that can be asked.
func exchangeAudience(c *routes.Credential) string {
	return first(c.FederatedToken.Audience, exchangeAudiences[c.Cloud], "api://AzureADTokenExchange")
}

// newSource makes what the credential names, and asks nobody yet.
func (id *identity) newSource(env environment) (source, error) {
	f := id.credential.FederatedToken
	audience := exchangeAudience(&id.credential)
	switch {
	case f.File != "":
		return fileSource{f.File}, nil
	case !f.Exec.IsZero():
		return execSource{f.Exec}, nil
	case f.URL != nil:
		return newURLSource(f.URL, audience, id.dialer)
	case f.GCP != nil:
		return newGCPSource(f.GCP.ServiceAccount, audience, env)
	case f.ManagedIdentity != nil:
		return id.newManagedSource(audience)
	}
	return nil, &trouble{what: "federated_token names no source", remedy: "give it file, url, gcp, exec or managed_identity"}
}

// fileSource is a file that somebody else renews, as the kubelet does.
type fileSource struct{ path string }

func (s fileSource) String() string { return "file " + s.path }

func (s fileSource) assertion(context.Context) (secrets.Secret, error) {
	token, err := secrets.Ref{File: s.path}.Read()
	if err != nil {
		return secrets.Secret{}, &trouble{
			what:   "federated_token",
			remedy: "check that the token is projected into this container, and the path",
			cause:  err,
		}
	}
	return token, nil
}

// execSource is a command that prints the token.
type execSource struct{ command secrets.Ref }

func (s execSource) String() string { return s.command.String() }

func (s execSource) assertion(ctx context.Context) (secrets.Secret, error) {
	token, err := s.command.ReadContext(ctx)
	if err != nil {
		return secrets.Secret{}, &trouble{
			what:   "the federated token's command gave none",
			remedy: "run it by hand as the gateway's user; it must print the token alone, within 10 s, and serve needs --allow-exec",
			cause:  err,
		}
	}
	return token, nil
}

// resourceTokens is the part of a managed identity that a federated
// credential needs.
type resourceTokens interface {
	token(ctx context.Context, resource string) (tokens.Token, *Error)
}

// managedSource proves an application by the token of a user-assigned managed
// identity. Its audience is asked for without /.default, as resources are.
type managedSource struct {
	host     resourceTokens
	audience string
}

func (id *identity) newManagedSource(audience string) (source, error) {
	c := id.credential
	c.ManagedIdentity, c.FederatedToken = c.FederatedToken.ManagedIdentity, nil
	inner := &identity{credential: c, dialer: id.dialer, state: &state{}}
	if _, err := inner.loadManaged(); err != nil {
		return nil, err
	}
	host, ok := any(inner.managed).(resourceTokens)
	if !ok {
		return nil, &trouble{what: "a managed identity cannot prove an application here", remedy: "use another source of federated_token"}
	}
	return managedSource{host, audience}, nil
}

func (s managedSource) String() string { return "the managed identity" }

func (s managedSource) assertion(ctx context.Context) (secrets.Secret, error) {
	token, e := s.host.token(ctx, s.audience)
	if e != nil {
		return secrets.Secret{}, e
	}
	return token.Access, nil
}

// urlSource is asked by GET, as the token service of GitHub Actions is.
type urlSource struct {
	address   *url.URL // with the audience in its query
	header    string
	format    string
	secret    secrets.Ref
	member    string
	transport *http.Transport
}

func newURLSource(u *routes.TokenURL, audience string, dialer Dialer) (source, error) {
	address, err := url.Parse(u.Address)
	if err != nil || address.Host == "" || address.User != nil {
		return nil, &trouble{what: "the address under federated_token.url is not a usable URL", remedy: "write it as https://host/path, without a user name in it"}
	}
	near := loopback(address.Hostname())
	if address.Scheme != "https" && (address.Scheme != "http" || !near) {
		return nil, &trouble{what: "the address under federated_token.url is not https", remedy: "use https; http is for loopback addresses alone"}
	}
	if near { // which no egress proxy reaches
		dialer = &net.Dialer{Timeout: connectTimeout}
	}
	if !address.Query().Has("audience") {
		query := "audience=" + url.QueryEscape(audience)
		if address.RawQuery != "" {
			query = address.RawQuery + "&" + query
		}
		address.RawQuery = query
	}
	address.Fragment, address.RawFragment = "", ""
	return &urlSource{
		address:   address,
		header:    first(u.Header, "Authorization"),
		format:    first(u.Format, "{secret}"),
		secret:    u.Secret,
		member:    first(u.Member, "value"),
		transport: sourceTransport(dialer),
	}, nil
}

// String leaves the query out, which may hold anything.
func (s *urlSource) String() string {
	return s.address.Scheme + "://" + s.address.Host + s.address.EscapedPath()
}

func (s *urlSource) assertion(ctx context.Context) (secrets.Secret, error) {
	header := http.Header{"Accept": {"application/json"}}
	var hidden []string
	if !s.secret.IsZero() {
		secret, err := s.secret.Read()
		if err != nil {
			return secrets.Secret{}, &trouble{
				what:   "federated_token.url.secret",
				remedy: "put it into " + s.secret.String() + "; in GitHub Actions the job needs \"permissions: id-token: write\" for that",
				cause:  err,
			}
		}
		value := secret.Reveal()
		if strings.ContainsFunc(value, unicode.IsControl) {
			return secrets.Secret{}, &trouble{
				what:   "the secret from " + s.secret.String() + " holds a control character, which no header may have",
				remedy: "take line breaks and the like out of federated_token.url.secret",
			}
		}
		hidden = append(hidden, value)
		header.Set(s.header, strings.Replace(s.format, "{secret}", value, 1))
	}
	r, err := fetch(ctx, s.transport, sourceRequest{address: s.address, header: header, hidden: hidden})
	if err != nil {
		return secrets.Secret{}, err
	}
	if r.status != http.StatusOK {
		return secrets.Secret{}, r.refusal(s, urlRemedy(r.status))
	}
	m, err := parseObject(r.body)
	if err != nil {
		return secrets.Secret{}, &trouble{what: s.String() + " gave no federated token", remedy: "check the address: the answer must be a JSON object", cause: err}
	}
	token := m.text(s.member)
	if token == "" {
		return secrets.Secret{}, &trouble{
			what:   fmt.Sprintf("the answer of %s has no text under %q", s, s.member),
			remedy: "name the member that holds the token under federated_token.url.member",
		}
	}
	return secrets.New(token), nil
}

func urlRemedy(status int) string {
	switch {
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		return "check header, format and secret of federated_token.url; in GitHub Actions the job needs \"permissions: id-token: write\", and its token ends with the job"
	case status == http.StatusNotFound, status == http.StatusMethodNotAllowed:
		return "check the address of federated_token.url; in GitHub Actions it is that of ACTIONS_ID_TOKEN_REQUEST_URL"
	case status/100 == 3:
		return "name the final address under federated_token.url: redirects are not followed"
	}
	return "check address and audience of federated_token"
}
