package authority

import (
	"context"
	"net/http"
	"time"

	"github.com/seed-13b04e61/gateway/routes"
	"github.com/seed-13b04e61/gateway/tokens"
)

// Machine is made up by a test: its environment, the files that exist, and
// where Azure Arc's agent puts its keys.
type Machine struct {
	Env    map[string]string
	Files  []string
	KeyDir string
}

func (s Machine) surroundings() surroundings {
	real := here()
	return surroundings{
		lookup: func(name string) (string, bool) { v, ok := s.Env[name]; return v, ok },
		exists: func(path string) bool {
			for _, f := range s.Files {
				if f == path {
					return true
				}
			}
			return false
		},
		agents:    real.agents,
		arcKeyDir: s.KeyDir,
	}
}

// Managed is a managed identity of a Machine.
type Managed struct{ m *managedIdentity }

// NewManaged is what a federated credential does to have one.
func NewManaged(s Machine, want routes.ManagedIdentity) (*Managed, error) {
	m, err := newManagedIdentity("mi", &want, s.surroundings())
	return &Managed{m}, err
}

// Host is the platform's name and where it is asked.
func (h *Managed) Host() (name, endpoint string) { return h.m.host.name, h.m.host.endpoint.String() }

// Token is what a federated credential asks for.
func (h *Managed) Token(ctx context.Context, resource string) (tokens.Token, *Error) {
	return h.m.token(ctx, resource)
}

// DialAsHost dials address in the manner of an identity whose host is at
// endpoint.
func DialAsHost(ctx context.Context, endpoint, address string) error {
	m, err := newManagedIdentity("mi", &routes.ManagedIdentity{}, Machine{Env: map[string]string{"AZURE_POD_IDENTITY_AUTHORITY_HOST": endpoint}}.surroundings())
	if err != nil {
		return err
	}
	conn, err := m.host.transport().DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	return conn.Close()
}

// RemedyOf is what to do about an error found before anything was sent.
func RemedyOf(err error) string { return remedyOf(err) }

// ArcKeyTrouble is what an operator is told of err, met with Arc's key file.
func ArcKeyTrouble(err error) error { return (&host{keyDir: arcKeyDir}).keyTrouble(err) }

// ArcKeyName reads a challenge of Azure Arc's agent.
func ArcKeyName(dir, challenge string) (string, error) {
	return (&host{keyDir: dir}).keyName(http.Header{"Www-Authenticate": {challenge}})
}

// ReadHostAnswer reads what a virtual machine's IMDS answered.
func ReadHostAnswer(status int, body []byte) (tokens.Token, *Error) {
	m, err := newManagedIdentity("mi", &routes.ManagedIdentity{}, Machine{}.surroundings())
	if err != nil {
		return tokens.Token{}, &Error{cause: err}
	}
	return m.read(answer{status: status, sent: time.Now(), body: body}, proof{}, "https://graph.microsoft.com")
}
