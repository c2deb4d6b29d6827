package authority

import (
	"crypto/sha1"
	"crypto/subtle"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/seed-13b04e61/gateway/secrets"
)

// The endpoints that platforms have where their environment names none.
const (
	imdsHost  = "169.254.169.254"
	imdsPath  = "/metadata/identity/oauth2/token"
	arcHost   = "127.0.0.1:40342"
	arcKeyDir = "/var/opt/azcmagent/tokens"
)

// platform is one kind of host that gives out tokens, and how it is asked.
// Sources: Microsoft's pages on the token endpoints of virtual machines, App
// Service, Service Fabric, Azure ML and Azure Arc, and MSAL for Go and .NET.
type platform struct {
	name    string // as Status.Host has it
	title   string
	looked  string // what tells it from others
	version string // api-version

	metadata     bool   // it wants the header Metadata: true
	secretHeader string // the header that holds host.secret; "" for none

	params  [3]string // of the query, for an identity's client, object and resource ID; "" is refused
	refusal string    // why
	instead string    // what to write instead
	restart string    // what to do when it does not answer
}

const adoptDefault = "write managed_identity: {} and let the platform pick the identity"

var (
	serviceFabric = platform{
		name: "service_fabric", title: "Service Fabric", version: "2019-07-01-preview", secretHeader: "Secret",
		looked:  "Service Fabric (IDENTITY_ENDPOINT, IDENTITY_HEADER and IDENTITY_SERVER_THUMBPRINT)",
		refusal: "its identity is set by the cluster's resource configuration and cannot be picked by a request", instead: adoptDefault,
		restart: "see in Service Fabric Explorer that fabric:/System/ManagedIdentityTokenService is healthy",
	}
	appService = platform{
		name: "app_service", title: "App Service", version: "2019-08-01", secretHeader: "X-IDENTITY-HEADER",
		looked:  "App Service, Functions and Container Apps (IDENTITY_ENDPOINT and IDENTITY_HEADER)",
		params:  [3]string{"client_id", "object_id", "mi_res_id"},
		restart: "restart the app; if it lasts, remove the identity and assign it again",
	}
	azureML = platform{
		name: "azure_ml", title: "Azure ML", version: "2017-09-01", secretHeader: "secret",
		looked:  "Azure ML (MSI_ENDPOINT and MSI_SECRET)",
		params:  [3]string{"clientid", "", ""},
		refusal: "its user-assigned identities are picked by client ID only", instead: "name the identity's client_id",
		restart: "restart the compute or the job",
	}
	cloudShell = platform{name: "cloud_shell", title: "Cloud Shell", looked: "Cloud Shell (MSI_ENDPOINT alone)"}
	azureArc   = platform{
		name: "azure_arc", title: "Azure Arc", version: "2020-06-01", metadata: true,
		looked:  "Azure Arc (IDENTITY_ENDPOINT and IMDS_ENDPOINT, or the agent's himds)",
		refusal: "its machines have a system-assigned identity only, and agents answer for that one whichever is asked for", instead: adoptDefault,
		restart: "see that the agent runs and is connected: azcmagent show",
	}
	virtualMachine = platform{
		name: "imds", title: "a virtual machine", version: "2018-02-01", metadata: true,
		looked:  "a virtual machine (http://" + imdsHost + ", or AZURE_POD_IDENTITY_AUTHORITY_HOST)",
		params:  [3]string{"client_id", "object_id", "msi_res_id"},
		restart: "see that this machine may reach " + imdsHost + " directly",
	}
)

// lookedFor tells of every platform what it would be known by.
func lookedFor() string {
	var all []string
	for _, p := range []platform{serviceFabric, appService, azureML, cloudShell, azureArc, virtualMachine} {
		all = append(all, p.looked)
	}
	return strings.Join(all, "; ")
}

// host is the platform that this process runs on.
type host struct {
	platform
	endpoint *url.URL
	secret   secrets.Secret // for secretHeader
	pin      []byte         // SHA-1 of the only certificate that is trusted; nil: those of the system's roots
	keyDir   string         // where Azure Arc puts its keys; "" elsewhere
	fallback string         // the first parameter's value when nothing is picked; "" sends none
}

func (h *host) imds() bool { return h.name == virtualMachine.name }

// surroundings is what tells one platform from another.
type surroundings struct {
	lookup    func(string) (string, bool) // environment variables
	exists    func(path string) bool
	agents    []string // paths of Azure Arc's agent
	arcKeyDir string
}

// here is where this process runs.
func here() surroundings {
	s := surroundings{
		lookup: os.LookupEnv,
		exists: func(path string) bool {
			info, err := os.Stat(path)
			return err == nil && info.Mode().IsRegular()
		},
		agents:    []string{"/opt/azcmagent/bin/himds"},
		arcKeyDir: arcKeyDir,
	}
	if runtime.GOOS == "windows" {
		const agent = "AzureConnectedMachineAgent"
		s.agents = []string{
			filepath.Join(os.Getenv("ProgramData"), agent, "himds.exe"),
			filepath.Join(os.Getenv("ProgramFiles"), agent, "himds.exe"),
		}
		s.arcKeyDir = filepath.Join(os.Getenv("ProgramData"), agent, "Tokens")
	}
	return s
}

// get returns a variable's value; an empty one is as good as none.
func (s surroundings) get(name string) string {
	value, _ := s.lookup(name)
	return value
}

// detect finds the platform, in MSAL's order; the first that matches wins. A
// virtual machine is what is left, so it may turn out not to be one.
func (s surroundings) detect() (*host, error) {
	identity, header := s.get("IDENTITY_ENDPOINT"), s.get("IDENTITY_HEADER")
	msi := s.get("MSI_ENDPOINT")
	switch {
	case identity != "" && header != "" && s.get("IDENTITY_SERVER_THUMBPRINT") != "":
		return s.serviceFabric(identity, header)
	case identity != "" && header != "":
		return newHost(appService, "IDENTITY_ENDPOINT", identity, header)
	case msi != "" && s.get("MSI_SECRET") != "":
		h, err := newHost(azureML, "MSI_ENDPOINT", msi, s.get("MSI_SECRET"))
		if err == nil {
			h.fallback = s.get("DEFAULT_IDENTITY_CLIENT_ID")
		}
		return h, err
	case msi != "":
		return nil, &trouble{
			what:   "this is Cloud Shell (MSI_ENDPOINT is set, MSI_SECRET is not), whose tokens are those of the user who signed in, not of an application",
			remedy: "run the gateway on a host with a managed identity, or give the credential a client_secret, client_certificate or federated_token",
		}
	case identity != "" && s.get("IMDS_ENDPOINT") != "", s.hasAgent():
		h, err := newHost(azureArc, "IDENTITY_ENDPOINT", first(identity, "http://"+arcHost+imdsPath), "")
		if err == nil {
			h.keyDir = s.arcKeyDir
		}
		return h, err
	}
	base := first(s.get("AZURE_POD_IDENTITY_AUTHORITY_HOST"), "http://"+imdsHost)
	return newHost(virtualMachine, "AZURE_POD_IDENTITY_AUTHORITY_HOST", strings.TrimRight(base, "/")+imdsPath, "")
}

func (s surroundings) hasAgent() bool {
	for _, path := range s.agents {
		if s.exists(path) {
			return true
		}
	}
	return false
}

// odd is a remark on an environment that looks like another platform's, but
// incomplete; "" when nothing is odd.
func (s surroundings) odd(h *host) string {
	if h.imds() && s.get("IDENTITY_ENDPOINT") != "" {
		return "IDENTITY_ENDPOINT is set without IDENTITY_HEADER or IMDS_ENDPOINT, so this is taken for a virtual machine"
	}
	return ""
}

func (s surroundings) serviceFabric(endpoint, header string) (*host, error) {
	h, err := newHost(serviceFabric, "IDENTITY_ENDPOINT", endpoint, header)
	if err != nil {
		return nil, err
	}
	if h.endpoint.Scheme != "https" {
		return nil, &trouble{
			what:   "IDENTITY_ENDPOINT is not https, as Service Fabric's is, so its certificate cannot be compared with IDENTITY_SERVER_THUMBPRINT",
			remedy: "find out who sets IDENTITY_ENDPOINT; off Service Fabric, unset IDENTITY_SERVER_THUMBPRINT",
		}
	}
	digits := strings.NewReplacer(":", "", " ", "").Replace(s.get("IDENTITY_SERVER_THUMBPRINT"))
	h.pin, err = hex.DecodeString(digits)
	if err != nil || len(h.pin) != sha1.Size {
		return nil, &trouble{
			what:   "IDENTITY_SERVER_THUMBPRINT is not a SHA-1 thumbprint of 40 hexadecimal digits",
			remedy: "Service Fabric sets it for each code package; find out who overrides it",
		}
	}
	return h, nil
}

// newHost checks the endpoint: what is sent there must not leave this machine
// unencrypted.
func newHost(p platform, variable, endpoint, secret string) (*host, error) {
	u, err := url.Parse(endpoint)
	switch {
	case err != nil || u.Host == "" || u.User != nil || u.Fragment != "":
		return nil, &trouble{what: variable + " is not a plain absolute URL", remedy: "let the platform set it, or unset it"}
	case strings.ContainsFunc(secret, func(r rune) bool { return r <= ' ' || r > '~' }):
		return nil, &trouble{
			what:   "the secret that belongs to " + variable + " in the environment has characters that no header can carry",
			remedy: "let the platform set it; a copy may have got a line end",
		}
	case u.Scheme == "https", u.Scheme == "http" && nearby(u.Hostname()):
		return &host{platform: p, endpoint: u, secret: secrets.New(secret)}, nil
	}
	return nil, &trouble{
		what: fmt.Sprintf("%s names %q, which is refused: it must be https, or http on a loopback, link-local or private address",
			variable, cut(u.Scheme+"://"+u.Host, 256)),
		remedy: "find out who sets " + variable + "; " + p.title + " names an address of this machine",
	}
}

// nearby tells whether host is this machine, or right beside it. Some stamps of
// App Service name an address of their private network.
func nearby(host string) bool {
	addr, err := netip.ParseAddr(host)
	return loopback(strings.ToLower(host)) || err == nil && (addr.Unmap().IsLinkLocalUnicast() || addr.Unmap().IsPrivate())
}

var (
	errNotNearby = errors.New("the address is none of loopback, link-local and private")
	errPin       = errors.New("the certificate does not have the thumbprint of IDENTITY_SERVER_THUMBPRINT")
)

// transport dials the endpoint itself, whatever proxies the environment names.
// It keeps no connection: hours lie between two requests.
func (h *host) transport() *http.Transport {
	dialer := &net.Dialer{Timeout: connectTimeout}
	if h.endpoint.Scheme == "http" {
		// Whatever localhost resolves to.
		dialer.Control = func(_, address string, _ syscall.RawConn) error {
			if ap, err := netip.ParseAddrPort(address); err != nil || !nearby(ap.Addr().WithZone("").String()) {
				return errNotNearby
			}
			return nil
		}
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if h.pin != nil {
		// The certificate is self-signed; its thumbprint is all there is to trust.
		config.InsecureSkipVerify = true
		config.VerifyConnection = func(state tls.ConnectionState) error {
			sum := sha1.Sum(state.PeerCertificates[0].Raw)
			if subtle.ConstantTimeCompare(sum[:], h.pin) != 1 {
				return errPin
			}
			return nil
		}
	}
	return &http.Transport{
		Proxy:                  nil,
		DialContext:            dialer.DialContext,
		TLSClientConfig:        config,
		TLSHandshakeTimeout:    10 * time.Second,
		MaxResponseHeaderBytes: headerLimit,
		DisableCompression:     true,
		DisableKeepAlives:      true,
	}
}

// IdentityEndpoints returns host:port of every endpoint that hands out
// identities to this machine's processes: those that lookup, which is
// [os.LookupEnv] or the like, knows from the environment, and those that
// platforms have by default. A call through the gateway must reach none of
// them, as it would get the gateway's own identity. A name of this machine is
// followed by its addresses; other names are left to the caller to resolve.
func IdentityEndpoints(lookup func(string) (string, bool)) []string {
	all := []string{imdsHost + ":80", arcHost}
	for _, name := range [...]string{
		"IDENTITY_ENDPOINT", "IMDS_ENDPOINT", "MSI_ENDPOINT", "AZURE_POD_IDENTITY_AUTHORITY_HOST",
		"GCE_METADATA_HOST", "AZURE_KUBERNETES_TOKEN_PROXY",
	} {
		value, _ := lookup(name)
		all = append(all, hostPorts(value)...)
	}
	var unique []string
	seen := map[string]bool{}
	for _, hp := range all {
		if !seen[hp] {
			seen[hp] = true
			unique = append(unique, hp)
		}
	}
	return unique
}

// hostPorts reads a URL, or a host with or without port as GCE_METADATA_HOST
// has it. What is neither names no endpoint.
func hostPorts(value string) []string {
	value = strings.TrimSpace(value)
	if value == "" {
		return nil
	}
	if !strings.Contains(value, "://") {
		value = "http://" + value
	}
	u, err := url.Parse(value)
	if err != nil || u.Hostname() == "" {
		return nil
	}
	name, port := strings.ToLower(u.Hostname()), u.Port()
	if port == "" {
		port = map[bool]string{true: "443", false: "80"}[strings.EqualFold(u.Scheme, "https")]
	}
	list := []string{net.JoinHostPort(name, port)}
	if name == "localhost" {
		list = append(list, net.JoinHostPort("127.0.0.1", port), net.JoinHostPort("::1", port))
	}
	return list
}
