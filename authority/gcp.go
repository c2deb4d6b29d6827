package authority

import (
	"bytes"
	"context"
	"net"
	"net/http"
	"net/url"

	"github.com/seed-13b04e61/gateway/secrets"
)

const (
	// gcpHost is where every instance of Google Cloud finds its metadata. It
	// is link-local and speaks plain HTTP.
	gcpHost = "metadata.google.internal"
	// gcpHostVariable overrides it, as in Google's own libraries.
	gcpHostVariable = "GCE_METADATA_HOST"
	gcpFlavor       = "Metadata-Flavor"
)

// gcpSource is the metadata server of Google Cloud, which signs an identity
// token for the service account of the machine. Its address is no secret.
// Source: Google's documentation, "Verify the identity of instances".
type gcpSource struct {
	address   *url.URL
	transport *http.Transport
}

func newGCPSource(account, audience string, env environment) (source, error) {
	host := first(env.get(gcpHostVariable), gcpHost)
	if u, err := url.Parse("http://" + host); err != nil || u.Host != host || u.Hostname() == "" {
		return nil, &trouble{what: gcpHostVariable + " is not a host", remedy: "write it as host or host:port, without http://, or take it away"}
	}
	path := "/computeMetadata/v1/instance/service-accounts/" + url.PathEscape(first(account, "default")) + "/identity"
	address, err := url.Parse("http://" + host + path + "?audience=" + url.QueryEscape(audience) + "&format=full")
	if err != nil {
		return nil, &trouble{what: "federated_token.gcp.service_account is no account", remedy: "write default, or the account's e-mail address"}
	}
	// No proxy is on the way to a link-local address.
	return &gcpSource{address, sourceTransport(&net.Dialer{Timeout: connectTimeout})}, nil
}

func (s *gcpSource) String() string {
	return s.address.Scheme + "://" + s.address.Host + s.address.EscapedPath()
}

func (s *gcpSource) assertion(ctx context.Context) (secrets.Secret, error) {
	r, err := fetch(ctx, s.transport, sourceRequest{address: s.address, header: http.Header{gcpFlavor: {"Google"}}})
	if err != nil {
		return secrets.Secret{}, err
	}
	// Whoever else answers for the name is not to be believed.
	if r.header.Get(gcpFlavor) != "Google" {
		return secrets.Secret{}, &trouble{
			what:   "what answers at " + s.address.Host + " is not the metadata server of Google Cloud: " + gcpFlavor + " is missing",
			remedy: "run the gateway on Google Cloud, and see that " + gcpHostVariable + " is not set or right",
		}
	}
	if r.status != http.StatusOK {
		return secrets.Secret{}, r.refusal(s, "see that this machine has the service account that federated_token.gcp names: gcloud compute instances describe")
	}
	return secrets.New(string(bytes.TrimSpace(r.body))), nil
}
