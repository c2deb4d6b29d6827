package authority

import (
	"context"

	"github.com/seed-13b04e61/gateway/tokens"
)

// managedIdentity asks the host that this process runs on for its tokens.
type managedIdentity struct{}

func (id *identity) loadManaged() ([]Finding, error) {
	id.kind = kindManaged
	return nil, &trouble{what: "managed identity is not supported yet"}
}

// acquire gets a token for q from the host. id is for the error's sake.
func (m *managedIdentity) acquire(_ context.Context, id *identity, _ question) (tokens.Token, *Error) {
	return tokens.Token{}, id.local(&trouble{what: "managed identity is not supported yet"})
}
